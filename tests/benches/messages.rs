//! How fast messages are acknowledged, beside python-hl7, which keeps nothing.
//!
//! `cargo bench -p system-tests --bench messages -- ROUNDS`
#![expect(
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench that cannot go on has nothing to say"
)]

use system_tests::measuring::{Acknowledger, acknowledge_all, median, percentile, table};

/// Connections, and messages on each.
const CASES: [(usize, usize); 2] = [(1, 300), (8, 100)];

const HEAD: &[&str] =
    &["connections", "receiver", "messages/s", "p50 ms", "p99 ms", "isocenter : it"];

#[tokio::main]
async fn main() {
    let mut said = std::env::args().skip(1).filter(|it| it != "--bench");
    let rounds: usize = said.next().map_or(5, |it| it.parse().unwrap());
    let mut all = vec![Acknowledger::isocenter().await];
    all.extend(Acknowledger::python_hl7().await);
    let mut rows = Vec::new();
    for (connections, each) in CASES {
        let mut rates = vec![Vec::new(); all.len()];
        let mut times = vec![Vec::new(); all.len()];
        for round in 0..rounds {
            for turn in 0..all.len() {
                let at = (turn + round) % all.len();
                let (time, one) = acknowledge_all(&all[at].address, connections, each).await;
                rates[at].push((connections * each) as f64 / time.as_secs_f64());
                times[at].extend(one);
            }
        }
        for (at, it) in all.iter().enumerate() {
            let ratios = rates[0].iter().zip(&rates[at]).map(|(ours, theirs)| ours / theirs);
            rows.push(vec![
                connections.to_string(),
                it.name.to_owned(),
                format!("{:.0}", median(&rates[at])),
                format!("{:.2}", percentile(&times[at], 50)),
                format!("{:.2}", percentile(&times[at], 99)),
                format!("{:.2}", median(&ratios.collect::<Vec<f64>>())),
            ]);
        }
    }
    println!("{}", table(HEAD, &rows));
}
