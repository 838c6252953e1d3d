//! `isocenter model run`: one question to a model, with its answer drawn into the pictures.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use clap::Args;
use domain::{AnswerMask, ChatMessage, InferRequest, InferResponse, Priority, Role, Sampling};
use imaging::{FlatMask, Picture, annotation};
use inference::{Compute, LaunchConfig, ModelClient};

use super::{PixelArgs, store, unusable};
use crate::commands::Execute;
use crate::installation::InstallationArgs;
use crate::output::{Failure, json, line};

/// Asks a model about pictures: prints its answer, and draws boxes and masks.
#[derive(Args)]
pub(super) struct Run {
    /// The name of the model.
    name: String,
    /// The question.
    #[arg(long)]
    prompt: String,
    /// Pictures, PNG or JPEG.
    #[arg(long = "image")]
    images: Vec<PathBuf>,
    /// The pictures, counted from 0, into which the first `[SEG]`, the second and so on are drawn;
    /// the last number holds for all further ones. Default: the first picture for all.
    #[arg(long, value_delimiter = ',')]
    mask_pictures: Vec<usize>,
    /// Where to write the first picture with boxes and masks drawn in, as PNG. Other pictures with
    /// masks are written beside it, with their number after the name.
    #[arg(long)]
    out: Option<PathBuf>,
    /// The greatest number of tokens of the answer.
    #[arg(long, default_value_t = 1024)]
    max_tokens: usize,
    /// The temperature of sampling; at 0 the likeliest token is taken.
    #[arg(long, default_value_t = 0.0)]
    temperature: f32,
    /// The seed of sampling: the same seed gives the same answer.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    pixels: PixelArgs,
    /// The device: `cuda` for a GPU or not at all, `cpu`, or `auto` for a GPU if there is one.
    #[arg(long, default_value = "auto")]
    device: Compute,
    /// Show the answer as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    installation: InstallationArgs,
}

impl Execute for Run {
    async fn execute(self) -> Result<ExitCode, Failure> {
        let store = store(&self.installation)?;
        let card = store.language_card(&self.name).map_err(|it| unusable(&it))?;
        let pictures = self.images.iter().map(|it| read(it)).collect::<Result<Vec<_>, _>>()?;
        let program = std::env::current_exe().map_err(|it| unusable(&it))?;
        let checkpoint = store.checkpoint(&self.name);
        let launch = LaunchConfig { program, checkpoint, card, compute: self.device };
        let model = ModelClient::start(launch);
        let answer = model.infer(self.question(&pictures)).await.map_err(|it| unusable(&it))?;
        for (index, picture) in pictures.iter().enumerate() {
            let has_masks = answer.masks.iter().any(|it| it.picture == index);
            if let Some(out) = self.out.as_ref().filter(|_| index == 0 || has_masks) {
                draw(index, picture, &answer, &numbered(out, index))?;
            }
        }
        if self.json {
            json(&answer)?;
        } else {
            show(&answer)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Run {
    fn question(&self, pictures: &[Vec<u8>]) -> InferRequest {
        InferRequest {
            priority: Priority::Stat,
            deadline_ms: None,
            messages: vec![ChatMessage {
                role: Role::User,
                text: self.prompt.clone(),
                pictures: pictures.len(),
            }],
            pictures: pictures.iter().map(|it| BASE64_STANDARD.encode(it)).collect(),
            mask_pictures: self.mask_pictures.clone(),
            pixels: Some(self.pixels.bounds()),
            sampling: Sampling {
                tokens_max: self.max_tokens,
                temperature: self.temperature,
                seed: self.seed,
                ..Sampling::default()
            },
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path)
        .map_err(|error| Failure::from_error(&format!("cannot read `{}`", path.display()), &error))
}

fn show(answer: &InferResponse) -> Result<(), Failure> {
    if let Some(warning) = &answer.warning {
        line(format_args!("{}: {warning}", answer.model));
    }
    if let Some(think) = &answer.think {
        line(format_args!("thoughts: {think}"));
    }
    line(&answer.answer);
    for found in &answer.boxes {
        line(format_args!("box {}: {:?}", found.label, found.on_picture));
    }
    for drawn in &answer.masks {
        let pixels = mask(drawn)?.pixels.iter().filter(|it| **it).count();
        let picture = match drawn.picture {
            0 => String::new(),
            index => format!(" of picture {}", index + 1),
        };
        let estimate = drawn.iou.map(|iou| format!(", its own guess of IoU {iou:.2}"));
        line(format_args!("mask: {pixels} pixels{picture}{}", estimate.unwrap_or_default()));
    }
    Ok(())
}

fn mask(encoded: &AnswerMask) -> Result<FlatMask, Failure> {
    let [height, width] = encoded.size;
    FlatMask::parse(height, width, &encoded.counts).map_err(|it| unusable(&it))
}

/// The file for the picture with this number, counted from 0: `drawn.png`, `drawn-2.png`.
fn numbered(out: &Path, index: usize) -> PathBuf {
    if index == 0 {
        return out.to_owned();
    }
    let stem = out.file_stem().unwrap_or_default().to_string_lossy();
    out.with_file_name(format!("{stem}-{}.png", index + 1))
}

/// Draws masks into the picture with this number, and boxes into the first.
fn draw(index: usize, picture: &[u8], answer: &InferResponse, out: &Path) -> Result<(), Failure> {
    let mut picture = Picture::decode(picture).map_err(|it| unusable(&it))?;
    for (colour, it) in answer.masks.iter().enumerate().filter(|it| it.1.picture == index) {
        annotation::tint_mask(&mut picture, &mask(it)?, annotation::colour(colour));
    }
    for (index, it) in answer.boxes.iter().enumerate().filter(|_| index == 0) {
        if let Some(corners) = it.on_picture {
            let colour = annotation::colour(answer.masks.len() + index);
            annotation::draw_box(&mut picture, corners, colour);
        }
    }
    let png = picture.to_png().map_err(|it| unwritable(out, &it))?;
    std::fs::write(out, png).map_err(|it| unwritable(out, &it))
}

fn unwritable(path: &Path, error: &dyn std::error::Error) -> Failure {
    Failure::from_error(&format!("cannot write `{}`", path.display()), error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_picture_keeps_its_name_and_others_get_their_number() {
        let out = Path::new("/tmp/drawn.png");
        assert_eq!(numbered(out, 0), out);
        assert_eq!(numbered(out, 1), Path::new("/tmp/drawn-2.png"));
        assert_eq!(numbered(Path::new("drawn"), 2), Path::new("drawn-3.png"));
    }
}
