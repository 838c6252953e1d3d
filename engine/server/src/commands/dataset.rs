//! `isocenter dataset`: what models are trained and evaluated on, made, verified and exported.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use phantoms::corpus::{self, Plan};
use training_data::from_masks::{FromMasks, HeldOut, Made, from_masks};
use training_data::{About, Split};

use super::Execute;
use crate::output::{Failure, line};

/// Makes, verifies and exports datasets for training.
#[derive(Args)]
pub(crate) struct Dataset {
    #[command(subcommand)]
    command: DatasetCommand,
}

#[derive(Subcommand)]
enum DatasetCommand {
    FromMasks(FromMasksArgs),
    Phantoms(PhantomArgs),
    /// Reads a whole dataset and compares it with its manifest.
    Verify {
        /// The folder of the dataset.
        folder: PathBuf,
    },
    /// Writes a dataset for ms-swift, with its masks as pictures.
    ToSwift {
        /// The folder of the dataset.
        folder: PathBuf,
        /// The folder to write to: empty, or not there yet.
        #[arg(long)]
        out: PathBuf,
    },
}

/// Makes a dataset of pictures and their masks: two folders of PNG files, paired by name.
#[derive(Args)]
struct FromMasksArgs {
    /// The folder of pictures.
    pictures: PathBuf,
    /// The folder of masks: inside is what is not black.
    masks: PathBuf,
    /// What the user says, for example "Segment the nuclei."
    #[arg(long)]
    prompt: String,
    /// What the model says, with `[SEG]` once.
    #[arg(long, default_value = "Sure, [SEG].")]
    answer: String,
    /// The folder to write to: empty, or not there yet.
    #[arg(long)]
    out: PathBuf,
    /// A file with the names of the pictures to keep for the test, one a line.
    #[arg(long, conflicts_with = "test_percent")]
    held_out: Option<PathBuf>,
    /// How many patients in a hundred to keep for the test.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(0..=90))]
    test_percent: u32,
    /// What decides which patients are kept for the test.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The character behind which file names of one patient differ; without it, every picture is of
    /// a patient of its own.
    #[arg(long)]
    patient_ends_at: Option<char>,
    /// The licence of the pictures.
    #[arg(long, default_value = "unknown")]
    licence: String,
}

/// Makes a dataset of generated radiographs and CT slices with their masks, reports and questions.
#[derive(Args)]
struct PhantomArgs {
    /// Number of patients to learn from.
    #[arg(long, default_value_t = 100)]
    train: u32,
    /// Number of patients for the test.
    #[arg(long, default_value_t = 20)]
    test: u32,
    /// Side of the pictures in pixels.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(64..=1024))]
    size: u32,
    /// The languages of reports and questions.
    #[arg(long, value_enum, default_value_t = Languages::Both)]
    language: Languages,
    /// The same seed gives the same dataset.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The folder to write to: empty, or not there yet.
    #[arg(long)]
    out: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Languages {
    /// English.
    English,
    /// Chinese.
    Chinese,
    /// Each patient in one of both.
    Both,
}

impl Execute for Dataset {
    async fn execute(self) -> Result<ExitCode, Failure> {
        match self.command {
            DatasetCommand::FromMasks(arguments) => arguments.make(),
            DatasetCommand::Phantoms(arguments) => arguments.make(),
            DatasetCommand::Verify { folder } => {
                let dataset = training_data::Dataset::open(&folder).map_err(|it| unusable(&it))?;
                dataset.verify().map_err(|it| unusable(&it))?;
                show(&dataset);
                Ok(ExitCode::SUCCESS)
            }
            DatasetCommand::ToSwift { folder, out } => {
                let dataset = training_data::Dataset::open(&folder).map_err(|it| unusable(&it))?;
                let count = training_data::swift::export(&dataset, &out)
                    .map_err(|error| Failure::from_error("the dataset was not written", &error))?;
                line(format_args!("{count} items"));
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

impl FromMasksArgs {
    fn make(self) -> Result<ExitCode, Failure> {
        let held_out = match &self.held_out {
            None => HeldOut::Percent { share: self.test_percent, seed: self.seed },
            Some(path) => {
                let text = std::fs::read_to_string(path).map_err(|error| {
                    Failure::from_error(&format!("cannot read `{}`", path.display()), &error)
                })?;
                let names = text.lines().map(str::trim).filter(|it| !it.is_empty());
                HeldOut::Named(names.map(str::to_owned).collect::<BTreeSet<_>>())
            }
        };
        let origin = format!("masks of {} on {}", self.masks.display(), self.pictures.display());
        let name = self.out.file_name().map(|it| it.to_string_lossy().into_owned());
        let what = FromMasks {
            pictures: self.pictures,
            masks: self.masks,
            prompt: self.prompt,
            answer: self.answer,
            about: About { name: name.unwrap_or_default(), licence: self.licence, origin },
            held_out,
            patient_ends_at: self.patient_ends_at,
        };
        let made = from_masks(&what, &self.out)
            .map_err(|error| Failure::from_error("no dataset was made", &error))?;
        tell_odd_masks(&made);
        show(&made.dataset);
        Ok(ExitCode::SUCCESS)
    }
}

impl PhantomArgs {
    fn make(self) -> Result<ExitCode, Failure> {
        let plan = Plan {
            seed: self.seed,
            train: self.train,
            test: self.test,
            size: self.size,
            languages: match self.language {
                Languages::English => &[phantoms::Language::English],
                Languages::Chinese => &[phantoms::Language::Chinese],
                Languages::Both => &phantoms::Language::ALL,
            },
        };
        let dataset = corpus::write(&plan, &self.out)
            .map_err(|error| Failure::from_error("no dataset was made", &error))?;
        show(&dataset);
        Ok(ExitCode::SUCCESS)
    }
}

/// Names masks that may be mistakes.
fn tell_odd_masks(made: &Made) {
    for (names, what) in [(&made.empty, "empty"), (&made.full, "everything")] {
        if let Some(first) = names.first() {
            line(format_args!("{} masks are {what}, e.g. `{first}`", names.len()));
        }
    }
}

/// Shows the parts of a dataset and its digest.
fn show(dataset: &training_data::Dataset) {
    for split in Split::ALL {
        if let Some(patients) = dataset.manifest().patients.get(&split) {
            let people: BTreeSet<&String> = patients.iter().collect();
            line(format_args!(
                "{}: {} items of {} patients",
                split.file(),
                patients.len(),
                people.len()
            ));
        }
    }
    line(format_args!("sha256 {}", dataset.digest()));
}

fn unusable(error: &training_data::DatasetError) -> Failure {
    Failure::from_error("the dataset cannot be used", error)
}
