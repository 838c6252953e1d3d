//! `cargo fuzzing -- [--minutes 10] [--seed 1] [TARGET...]`: attacks each target for so long.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command talks to its terminal")]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use system_tests::{fuzzing, given};

const USAGE: &str = "cargo fuzzing -- [--minutes 10] [--seed 1] [TARGET...]";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|it| it != "--").collect();
    let (Some(minutes), Some(seed)) =
        (given(&arguments, "--minutes", 10), given(&arguments, "--seed", 1))
    else {
        eprintln!("{USAGE}");
        return ExitCode::FAILURE;
    };
    // What panics is told with its input.
    std::panic::set_hook(Box::new(|panic| eprintln!("{panic}")));
    let all = fuzzing::all();
    let is_named = |name: &str| arguments.iter().any(|it| it == name);
    let is_any_named = all.iter().any(|it| is_named(it.name));
    let mut is_good = true;
    for target in all.iter().filter(|it| !is_any_named || is_named(it.name)) {
        let begin = Instant::now();
        let time = Duration::from_mins(minutes);
        match target.attack(seed, |_| begin.elapsed() >= time) {
            Ok(tried) => println!(
                "{}: {} inputs, {} bytes, no finding",
                target.name, tried.inputs, tried.bytes
            ),
            Err(found) => {
                println!("{found}");
                is_good = false;
            }
        }
    }
    if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
