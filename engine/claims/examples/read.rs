//! Reads text from standard input and prints what it claims, a line for each sentence of the input:
//! `cargo run -p claims --example read < report.txt`.
#![expect(clippy::print_stdout, reason = "it is a program that prints")]

use std::io::{self, BufRead as _};

use claims::{Claim, Vocabulary};

fn main() -> io::Result<()> {
    for line in io::stdin().lock().lines() {
        let line = line?;
        let claims: Vec<String> =
            Vocabulary::standard().claims(&line).iter().map(described).collect();
        println!("{line}\t{}", claims.join("; "));
    }
    Ok(())
}

/// A claim with its sides.
fn described(claim: &Claim) -> String {
    let side = claim.sides.laterality().map(|it| format!(" ({})", it.name())).unwrap_or_default();
    format!("{claim}{side}")
}
