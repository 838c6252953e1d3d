//! Reads text from standard input and prints what it claims, a line for each sentence of the input:
//! `cargo run -p claims --example read < report.txt`.
#![expect(clippy::print_stdout, reason = "it is a program that prints")]

use std::io::{self, BufRead as _};

use claims::{Claim, Experiencer, Temporality, Vocabulary};
use domain::Presence;

fn main() -> io::Result<()> {
    for line in io::stdin().lock().lines() {
        let line = line?;
        let claims: Vec<String> =
            Vocabulary::standard().claims(&line).iter().map(described).collect();
        println!("{line}\t{}", claims.join("; "));
    }
    Ok(())
}

/// A claim in the words of the test sets: `pleural effusion=present unchanged (left)`.
fn described(claim: &Claim) -> String {
    let presence = match claim.presence {
        Presence::Present => "present",
        Presence::Absent => "absent",
        Presence::Possible => "possible",
        Presence::Unknown => "unknown",
    };
    let time = match claim.temporality {
        Temporality::Current => "",
        Temporality::Historical => " historical",
        Temporality::Hypothetical => " hypothetical",
    };
    let person = if claim.experiencer == Experiencer::Family { " family" } else { "" };
    let state = claim.state.map(|it| format!(" {}", it.name())).unwrap_or_default();
    let side = claim.sides.laterality().map(|it| format!(" ({})", it.name())).unwrap_or_default();
    format!("{}={presence}{time}{person}{state}{side}", claim.concept)
}
