//! `isocenter model import`: a checkpoint becomes a model of this site.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use inference::{ModelCard, memory};

use super::{store, unusable};
use crate::commands::Execute;
use crate::installation::InstallationArgs;
use crate::output::{Failure, line};

/// Imports a checkpoint into the models of this site, once its weights fit its config.json.
#[derive(Args)]
pub(super) struct Import {
    /// The folder with config.json, tokenizer.json and the .safetensors.
    folder: PathBuf,
    /// The name of the model: lower-case letters, digits, dashes and dots.
    #[arg(long)]
    name: String,
    /// Link to the files where they are, instead of copying them: they must not change.
    #[arg(long)]
    link: bool,
    /// Compute the products of the language model in eight bits: less than half the memory, and
    /// answers that may differ.
    #[arg(long)]
    eight_bit: bool,
    /// Where the checkpoint is from.
    #[arg(long)]
    source: String,
    /// The licence of the checkpoint.
    #[arg(long)]
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
        let import = inference::Import {
            from: &self.folder,
            name: &self.name,
            is_linked: self.link,
            is_eight_bit: self.eight_bit,
            source: &self.source,
            licence: &self.licence,
            clinical_use_decided_by: self.for_clinical_use.as_deref(),
        };
        let store = store(&self.installation)?;
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
