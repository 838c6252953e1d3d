//! `isocenter model bench`: how fast a model is on this machine, and how far from another one.

use std::process::ExitCode;

use clap::Args;
use inference::Compute;
use inference::bench::{Divergence, Speed, restart_with_allocator_tuning};
use serde_json::json;

use super::{store, unusable};
use crate::commands::Execute;
use crate::installation::InstallationArgs;
use crate::output::{Failure, json as print_json, line};

/// Times a model on this machine, and compares its predictions with those of another one.
#[derive(Args)]
pub(super) struct Bench {
    /// The name of the model.
    name: String,
    /// Compare the next tokens it expects with those of this model, as with itself before eight
    /// bits.
    #[arg(long, value_name = "MODEL")]
    beside: Option<String>,
    /// How often everything is timed; medians are reported.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// The device: `cuda` for a GPU or not at all, `cpu`, or `auto` for a GPU if there is one.
    #[arg(long, default_value = "auto")]
    device: Compute,
    /// Show the numbers as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    installation: InstallationArgs,
}

impl Execute for Bench {
    async fn execute(self) -> Result<ExitCode, Failure> {
        restart_with_allocator_tuning().map_err(|it| unusable(&it))?;
        let model = self.open(&self.name)?;
        let speed = model.speed(self.rounds).map_err(Failure::new)?;
        let other = self.beside.as_deref().map(|it| self.open(it)).transpose()?;
        let divergence = other.map(|it| model.compare(&it)).transpose().map_err(Failure::new)?;
        if self.json {
            print_json(&json!({"speed": speed, "divergence": divergence}))?;
            return Ok(ExitCode::SUCCESS);
        }
        show_speed(&speed);
        if let Some((divergence, name)) = divergence.zip(self.beside) {
            show_divergence(&divergence, &name);
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Bench {
    fn open(&self, name: &str) -> Result<inference::bench::Bench, Failure> {
        let store = store(&self.installation)?;
        let card = store.language_card(name).map_err(|it| unusable(&it))?;
        inference::bench::Bench::open(&store.checkpoint(name), card.is_eight_bit, self.device)
            .map_err(Failure::new)
    }
}

fn show_speed(speed: &Speed) {
    let mut rows = vec![
        ("loaded in", format!("{:.1} s", speed.load_seconds)),
        ("prefill of a prompt of 64 tokens", per_second(speed.prefill_tokens_per_second)),
        ("decode of one sequence", per_second(speed.decode_tokens_per_second)),
        ("decode of a batch of eight", per_second(speed.batch_decode_tokens_per_second)),
        ("encoding an image of 448 x 448", format!("{:.2} s", speed.image_encode_seconds)),
    ];
    if let Some(seconds) = speed.segment_seconds {
        rows.push(("segmenting one mask in it", format!("{seconds:.2} s")));
    }
    if let Some(bytes) = speed.resident_bytes {
        rows.push(("in memory", format!("{:.2} GB", bytes as f64 / 1e9)));
    }
    for (what, how) in rows {
        line(format_args!("{what:36}{how}"));
    }
}

fn per_second(tokens: f64) -> String {
    format!("{tokens:.1} tokens/s")
}

fn show_divergence(divergence: &Divergence, other: &str) {
    line(format_args!(
        "compared with {other}: the same token at {:.1} % of {} positions, KL divergence {:.5} nats",
        divergence.same_token * 100.0,
        divergence.positions,
        divergence.kl_divergence
    ));
}
