//! What is said to models.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use inference::Compute;

use super::Place;

#[derive(Subcommand)]
pub(crate) enum ModelCommand {
    /// Takes a checkpoint into the store of this site, once its weights fit its config.json.
    Import(ImportFlags),
    /// Shows the models of this site.
    List {
        /// As JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Shows what is known of a model, and whether its files are as they were taken in.
    Show {
        /// Which.
        name: String,
        #[command(flatten)]
        place: Place,
    },
    /// Asks a model about pictures: prints its answer, and draws boxes and masks.
    Run(RunFlags),
    /// Times a model on this machine, and says how far it is apart from another one.
    Bench(BenchFlags),
    /// Serves a model on this machine with the interface that other servers have
    /// (`POST /v1/chat/completions`).
    Serve(ServeModelFlags),
}

/// How large the model sees pictures.
#[derive(Args)]
pub(crate) struct PixelFlags {
    /// Least pixels the model sees of a picture.
    #[arg(long, default_value_t = 200_704)]
    pub(crate) min_pixels: u64,
    /// Most pixels.
    #[arg(long, default_value_t = 1_003_520)]
    pub(crate) max_pixels: u64,
}

impl PixelFlags {
    /// Least and most.
    pub(crate) const fn bounds(&self) -> [u64; 2] {
        [self.min_pixels, self.max_pixels]
    }
}

#[derive(Args)]
pub(crate) struct ServeModelFlags {
    /// Which.
    pub(crate) name: String,
    /// Where to listen, on this machine.
    #[arg(long, default_value = "127.0.0.1:8000")]
    pub(crate) listen: SocketAddr,
    /// Where to compute: `cuda` for a GPU or not at all, `cpu`, or `auto` for a GPU if there is one.
    #[arg(long, default_value = "auto")]
    pub(crate) device: Compute,
    #[command(flatten)]
    pub(crate) pixels: PixelFlags,
    #[command(flatten)]
    pub(crate) place: Place,
}

#[derive(Args)]
pub(crate) struct ImportFlags {
    /// The folder with config.json, tokenizer.json and the .safetensors.
    pub(crate) folder: PathBuf,
    /// What to call it: small letters, digits, dashes and dots.
    #[arg(long)]
    pub(crate) name: String,
    /// Links to its files where they lie, instead of copying them: they must not change.
    #[arg(long)]
    pub(crate) link: bool,
    /// Computes the products of the language model in eight bits: less than half the memory, and
    /// answers that may differ.
    #[arg(long)]
    pub(crate) eight_bit: bool,
    /// Where it is from.
    #[arg(long)]
    pub(crate) source: String,
    /// Its licence.
    #[arg(long)]
    pub(crate) licence: String,
    /// Who has decided that it may be used for patients. Left out: it may not, and says so.
    #[arg(long, value_name = "WHO")]
    pub(crate) for_clinical_use: Option<String>,
    #[command(flatten)]
    pub(crate) place: Place,
}

#[derive(Args)]
pub(crate) struct RunFlags {
    /// Which.
    pub(crate) name: String,
    /// The question.
    #[arg(long)]
    pub(crate) prompt: String,
    /// Pictures, PNG or JPEG.
    #[arg(long = "image")]
    pub(crate) images: Vec<PathBuf>,
    /// Which picture, counted from 0, the first `[SEG]` is drawn into, which the second, and so on; the last
    /// holds for all further ones. Left out: the first picture for all.
    #[arg(long, value_delimiter = ',')]
    pub(crate) mask_pictures: Vec<usize>,
    /// Where to write the first picture with boxes and masks drawn in, as PNG. Others with masks go beside
    /// it, with their number behind the name.
    #[arg(long)]
    pub(crate) out: Option<PathBuf>,
    /// Most tokens of the answer.
    #[arg(long, default_value_t = 1024)]
    pub(crate) max_tokens: usize,
    /// Temperature of the sampling; at 0 the likeliest token is taken.
    #[arg(long, default_value_t = 0.0)]
    pub(crate) temperature: f32,
    /// With chance: the same seed says the same.
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    #[command(flatten)]
    pub(crate) pixels: PixelFlags,
    /// Where to compute: `cuda` for a GPU or not at all, `cpu`, or `auto` for a GPU if there is one.
    #[arg(long, default_value = "auto")]
    pub(crate) device: Compute,
    /// As JSON.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) place: Place,
}

#[derive(Args)]
pub(crate) struct BenchFlags {
    /// Which.
    pub(crate) name: String,
    /// Compares what it expects with what this one does, as with itself before eight bits.
    #[arg(long, value_name = "MODEL")]
    pub(crate) beside: Option<String>,
    /// How often everything is timed; medians are told.
    #[arg(long, default_value_t = 3)]
    pub(crate) rounds: usize,
    /// Where to compute: `cuda` for a GPU or not at all, `cpu`, or `auto` for a GPU if there is one.
    #[arg(long, default_value = "auto")]
    pub(crate) device: Compute,
    /// As JSON.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) place: Place,
}
