//! Rate and latency of HL7 acknowledgements, compared with python-hl7, which stores nothing.
//!
//! `cargo bench -p system-tests --bench messages -- ROUNDS`
#![expect(
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench stops with a panic when it cannot continue"
)]

use system_tests::measuring::{Acknowledger, acknowledge_all, median, percentile, table};

/// Number of connections, and of messages on each connection.
const CASES: [(usize, usize); 2] = [(1, 300), (8, 100)];

const HEAD: &[&str] =
    &["connections", "receiver", "messages/s", "p50 ms", "p99 ms", "isocenter : it"];

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1).filter(|it| it != "--bench");
    let rounds: usize = arguments.next().map_or(5, |it| it.parse().unwrap());
    let mut all = vec![Acknowledger::isocenter().await];
    all.extend(Acknowledger::python_hl7().await);
    let mut rows = Vec::new();
    for (connections, each) in CASES {
        let mut rates = vec![Vec::new(); all.len()];
        let mut times = vec![Vec::new(); all.len()];
        for round in 0..rounds {
            for turn in 0..all.len() {
                let index = (turn + round) % all.len();
                let (time, latencies) =
                    acknowledge_all(&all[index].address, connections, each).await;
                rates[index].push((connections * each) as f64 / time.as_secs_f64());
                times[index].extend(latencies);
            }
        }
        for (index, receiver) in all.iter().enumerate() {
            let ratios = rates[0].iter().zip(&rates[index]).map(|(ours, theirs)| ours / theirs);
            rows.push(vec![
                connections.to_string(),
                receiver.name.to_owned(),
                format!("{:.0}", median(&rates[index])),
                format!("{:.2}", percentile(&times[index], 50)),
                format!("{:.2}", percentile(&times[index], 99)),
                format!("{:.2}", median(&ratios.collect::<Vec<f64>>())),
            ]);
        }
    }
    println!("{}", table(HEAD, &rows));
}
