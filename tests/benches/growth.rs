//! Rate of reception with a long history in the database, compared with an empty database.
//!
//! `cargo bench -p system-tests --bench growth -- PAIRS STUDIES...` measures PAIRS times for each
//! number of studies. The history is inserted by SQL. The engine without history is measured right
//! before or after the other one.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench stops with a panic when it cannot continue"
)]

use system_tests::measuring::{Load, Receiver, Series, fill, median, plot, store_all, table};

const LOAD: Load = Load { name: "2 KB", instances: 1000, size: 16, associations: 4 };

const HEAD: &[&str] =
    &["studies in the index", "instances/s", "of an empty one's in the same pair"];

#[tokio::main]
async fn main() {
    let arguments = std::env::args().skip(1).filter(|it| it != "--bench");
    let numbers: Vec<u64> = arguments.map(|it| it.parse().unwrap()).collect();
    let (pairs, sizes) = numbers.split_first().expect("a number of pairs, and numbers of studies");
    let empty = Receiver::isocenter().await;
    let full = Receiver::isocenter().await;
    let mut filled = 0;
    let mut rows = Vec::new();
    let mut line = Series::new("isocenter");
    let mut places = Vec::new();
    for size in sizes {
        fill(full.hospital().unwrap(), filled, *size).await;
        filled = *size;
        let mut rates = Vec::new();
        let mut ratios = Vec::new();
        for pair in 0..*pairs {
            // The order alternates, so that neither engine always runs first.
            let is_empty_first = pair % 2 == 0;
            let first = rate(if is_empty_first { &empty } else { &full }).await;
            let second = rate(if is_empty_first { &full } else { &empty }).await;
            let (rate_empty, rate_full) =
                if is_empty_first { (first, second) } else { (second, first) };
            rates.push(rate_full);
            ratios.push(rate_full / rate_empty);
        }
        rows.push(vec![
            size.to_string(),
            format!("{:.0}", median(&rates)),
            format!("{:.2}", median(&ratios)),
        ]);
        println!("{}", table(HEAD, &rows));
        line.points.push(median(&ratios));
        places.push(size.to_string());
    }
    let svg = plot("Rate with a history, of that without", "ratio", &places, &[line]);
    std::fs::write(system_tests::root().join("target/growth.svg"), svg).unwrap();
}

/// Instances per second.
async fn rate(receiver: &Receiver) -> f64 {
    let shares = LOAD.shares();
    let count: usize = shares.iter().map(Vec::len).sum();
    receiver.tidy();
    count as f64 / store_all(&receiver.remote, shares).await.as_secs_f64()
}
