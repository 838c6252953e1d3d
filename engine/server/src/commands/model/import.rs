//! `isocenter model import`: a checkpoint becomes a model of this site, or the published models that
//! read print on pages do.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use inference::{ModelCard, ModelStore, memory, page_reader};

use super::{store, unusable};
use crate::commands::Execute;
use crate::installation::InstallationArgs;
use crate::output::{Failure, line};

/// Imports a checkpoint into the models of this site, once its weights fit its config.json; or the
/// models that read print on pages, from the published `rapidocr-3.10.0-py3-none-any.whl` (`PyPI`) or
/// what was extracted from it. These have a name, a source and a licence of their own.
#[derive(Args)]
pub(super) struct Import {
    /// The folder with config.json, tokenizer.json and the .safetensors; or the wheel.
    #[arg(value_name = "FOLDER")]
    from: PathBuf,
    /// The name of the model: lower-case letters, digits, dashes and dots.
    #[arg(long, default_value = "", hide_default_value = true)]
    name: String,
    /// Link to the files where they are, instead of copying them: they must not change.
    #[arg(long)]
    link: bool,
    /// Compute the products of the language model in eight bits: less than half the memory, and
    /// answers that may differ.
    #[arg(long)]
    eight_bit: bool,
    /// Where the checkpoint is from.
    #[arg(long, default_value = "", hide_default_value = true)]
    source: String,
    /// The licence of the checkpoint.
    #[arg(long, default_value = "", hide_default_value = true)]
    licence: String,
    /// Who decided that the model may be used for patients. Without it the model may not, and every
    /// answer says so.
    #[arg(long, value_name = "WHO")]
    for_clinical_use: Option<String>,
    #[command(flatten)]
    installation: InstallationArgs,
}

impl Execute for Import {
    async fn execute(self) -> Result<ExitCode, Failure> {
        let store = store(&self.installation)?;
        if page_reader::is_release(&self.from) {
            self.check_nothing_is_stated()?;
            return import_page_reader(&store, &self.from);
        }
        self.check_all_is_stated()?;
        let import = inference::Import {
            from: &self.from,
            name: &self.name,
            is_linked: self.link,
            is_eight_bit: self.eight_bit,
            source: &self.source,
            licence: &self.licence,
            clinical_use_decided_by: self.for_clinical_use.as_deref(),
        };
        let card = store.import(&import).map_err(|it| unusable(&it))?;
        line(format_args!("{}: {}", card.name, card.digest));
        line(format_args!("  {}", weights(&card, memory::total())));
        if !card.unquantized_tensors.is_empty() {
            let names = card.unquantized_tensors.join(", ");
            line(format_args!(
                "  rows that cannot be cut in blocks of 32 stay as they are: {names}"
            ));
        }
        if let Some(warning) = card.warning() {
            line(format_args!("  {warning}: --for-clinical-use WHO, once somebody has decided so"));
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Import {
    /// A checkpoint has what its importer states.
    fn check_all_is_stated(&self) -> Result<(), Failure> {
        let options = [("name", &self.name), ("source", &self.source), ("licence", &self.licence)];
        match options.into_iter().find(|(_, it)| it.is_empty()) {
            Some((option, _)) => Err(Failure::new(format!("a checkpoint needs `--{option}`"))),
            None => Ok(()),
        }
    }

    /// The models that read print are what was published, and nothing of it can be chosen.
    fn check_nothing_is_stated(&self) -> Result<(), Failure> {
        let texts = [&self.name, &self.source, &self.licence];
        let is_stated = texts.iter().any(|it| !it.is_empty())
            || self.link
            || self.eight_bit
            || self.for_clinical_use.is_some();
        if is_stated {
            let text = "the models that read print are imported as published, without options";
            return Err(Failure::new(text));
        }
        Ok(())
    }
}

/// Imports the models that read print on pages.
fn import_page_reader(store: &ModelStore, from: &Path) -> Result<ExitCode, Failure> {
    let card = page_reader::import(store, from).map_err(|it| unusable(&it))?;
    line(format_args!("{}: {}", card.name, card.digest));
    line(format_args!("  {}, {}", card.source, card.licence));
    line(format_args!("  {}", card.attribution));
    line("  `readers: [ocr, letters]` of lab-report-parsing uses them from now on");
    Ok(ExitCode::SUCCESS)
}

/// How large the model is, and what that means for a machine with `memory` bytes.
fn weights(card: &ModelCard, memory: Option<u64>) -> String {
    let kinds = card.number_types.join(", ");
    let mut text = format!("{:.2} billion numbers of {kinds}", billions(card.parameters));
    let needed = billions(card.cpu_memory_bytes);
    if card.is_eight_bit {
        text = format!("{text}, computed in eight bits where that can be; about {needed:.1} GB");
    } else if card.bytes != card.cpu_memory_bytes {
        text = format!("{text}; a CPU computes in f32 and needs {needed:.1} GB for them");
    }
    if let Some(memory) = memory.filter(|it| *it < card.cpu_memory_bytes) {
        let memory = billions(memory);
        text = format!("{text}: this machine has {memory:.1} GB, which is not enough");
        if !card.is_eight_bit {
            text.push_str("; --eight-bit needs less than half");
        }
    }
    text
}

fn billions(number: u64) -> f64 {
    number as f64 / 1e9
}
