//! The command `cargo faults`.
//!
//! `cargo faults -- --rounds N --seed S` injects many faults, in several hospitals in parallel.
//! `cargo faults -- --commits 1` kills the engine before and after every commit that the processing
//! of a study makes.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command prints to its terminal")]

use std::process::ExitCode;

use system_tests::faults::{Count, Gated, rounds};
use system_tests::number_option;

const USAGE: &str =
    "cargo faults -- [--rounds 100] [--seed 1] [--hospitals 2], or cargo faults -- --commits EVERY";

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|it| it != "--").collect();
    let number = |name, default| number_option(&arguments, name, default);
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
        return exit_code(Gated::open().await.all(step, |it| println!("{it}")).await);
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
    exit_code(all)
}

/// Prints the total and returns the exit code that it stands for.
fn exit_code(all: Count) -> ExitCode {
    println!("{all}");
    if all.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
