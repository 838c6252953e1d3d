//! `cargo faults -- --rounds N --seed S`: many faults, in several hospitals side by side. `cargo faults --
//! --commits 1`: the engine killed beside every commit of a study's way.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command talks to its terminal")]

use std::process::ExitCode;

use system_tests::faults::{Count, Gated, rounds};
use system_tests::given;

const USAGE: &str =
    "cargo faults -- [--rounds 100] [--seed 1] [--hospitals 2], or cargo faults -- --commits EVERY";

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|it| it != "--").collect();
    let number = |name, otherwise| given(&arguments, name, otherwise);
    let (Some(count), Some(seed), Some(hospitals)) =
        (number("--rounds", 100), number("--seed", 1), number("--hospitals", 2))
    else {
        eprintln!("{USAGE}");
        return ExitCode::FAILURE;
    };
    if arguments.iter().any(|it| it == "--commits") {
        let Some(step) = number("--commits", 1) else {
            eprintln!("{USAGE}");
            return ExitCode::FAILURE;
        };
        let step = usize::try_from(step).unwrap_or(1);
        return said(Gated::open().await.all(step, |it| println!("{it}")).await);
    }
    let hospitals = hospitals.max(1);
    let wards = (0..hospitals).map(|ward| {
        let seeds = (seed + ward..seed + count).step_by(usize::try_from(hospitals).unwrap_or(1));
        tokio::spawn(rounds(seeds, |it| println!("{it}")))
    });
    let mut all = Count::default();
    for ward in wards.collect::<Vec<_>>() {
        match ward.await {
            Ok(count) => all.join(count),
            Err(error) => {
                eprintln!("a hospital came to no end: {error}");
                return ExitCode::FAILURE;
            }
        }
    }
    said(all)
}

fn said(all: Count) -> ExitCode {
    println!("{all}");
    if all.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
