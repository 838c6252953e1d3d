//! `isocenter model bench`: how fast a model is on this machine, and how far from another one.

use std::process::ExitCode;

use clap::Args;
use inference::Compute;
use inference::bench::{Apart, Speed, begin_again_with_memory_that_stays};
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
        begin_again_with_memory_that_stays().map_err(|it| unusable(&it))?;
        let model = self.open(&self.name)?;
        let speed = model.speed(self.rounds).map_err(Failure::new)?;
        let other = self.beside.as_deref().map(|it| self.open(it)).transpose()?;
        let apart = other.map(|it| model.apart(&it)).transpose().map_err(Failure::new)?;
        if self.json {
            print_json(&json!({"speed": speed, "apart": apart}))?;
            return Ok(ExitCode::SUCCESS);
        }
        show_speed(&speed);
        if let Some((apart, name)) = apart.zip(self.beside) {
            show_apart(&apart, &name);
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Bench {
    fn open(&self, name: &str) -> Result<inference::bench::Bench, Failure> {
        let store = store(&self.installation)?;
        let card = store.card(name).map_err(|it| unusable(&it))?;
        inference::bench::Bench::open(&store.checkpoint(name), card.is_eight_bit, self.device)
            .map_err(Failure::new)
    }
}

fn show_speed(it: &Speed) {
    let mut rows = vec![
        ("loaded in", format!("{:.1} s", it.load_seconds)),
        ("prefill of a prompt of 64 tokens", format!("{:.1} tokens/s", it.read_per_second)),
        ("decode of one answer", format!("{:.1} tokens/s", it.said_per_second)),
        ("decode of eight answers at once", format!("{:.1} tokens/s", it.said_together_per_second)),
        ("a picture of 448 x 448 is encoded in", format!("{:.2} s", it.see_seconds)),
    ];
    if let Some(seconds) = it.draw_seconds {
        rows.push(("a mask is drawn into it in", format!("{seconds:.2} s")));
    }
    if let Some(bytes) = it.resident_bytes {
        rows.push(("in memory", format!("{:.2} GB", bytes as f64 / 1e9)));
    }
    for (what, how) in rows {
        line(format_args!("{what:36}{how}"));
    }
}

fn show_apart(it: &Apart, other: &str) {
    line(format_args!(
        "beside {other}: the same token at {:.1} % of {} positions, divergence {:.5} nats",
        it.same_word * 100.0,
        it.places,
        it.divergence
    ));
}
