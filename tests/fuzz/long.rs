//! The command `cargo fuzzing -- [--minutes 10] [--seed 1] [TARGET...]`, which fuzzes each target
//! for the number of minutes.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command prints to its terminal")]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use system_tests::{fuzzing, number_option};

const USAGE: &str = "cargo fuzzing -- [--minutes 10] [--seed 1] [TARGET...]";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|it| it != "--").collect();
    let minutes = number_option(&arguments, "--minutes", 10);
    let seed = number_option(&arguments, "--seed", 1);
    let (Some(minutes), Some(seed)) = (minutes, seed) else {
        eprintln!("{USAGE}");
        return ExitCode::FAILURE;
    };
    // The error of a target names the input, so the location of the panic is enough here.
    std::panic::set_hook(Box::new(|panic| eprintln!("{panic}")));
    let all = fuzzing::all();
    let is_named = |name: &str| arguments.iter().any(|it| it == name);
    let is_any_named = all.iter().any(|it| is_named(it.name));
    let mut have_passed = true;
    for target in all.iter().filter(|it| !is_any_named || is_named(it.name)) {
        let start = Instant::now();
        let time = Duration::from_mins(minutes);
        match target.attack(seed, |_| start.elapsed() >= time) {
            Ok(tried) => println!(
                "{}: {} inputs, {} bytes, no finding",
                target.name, tried.inputs, tried.bytes
            ),
            Err(found) => {
                println!("{found}");
                have_passed = false;
            }
        }
    }
    if have_passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
