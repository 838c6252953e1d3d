//! Whether instances are taken as fast with a long history as without one.
//!
//! `cargo bench -p system-tests --bench growth -- PAIRS STUDIES...`: beside an engine without history, one after
//! the other with so many studies, filled in by SQL, and all that comes with them.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench that cannot go on has nothing to say"
)]

use system_tests::measuring::{Load, Receiver, Series, fill, median, plot, store_all, table};

const LOAD: Load = Load { name: "2 KB", instances: 1000, size: 16, associations: 4 };

const HEAD: &[&str] =
    &["studies in the index", "instances/s", "of an empty one's in the same pair"];

#[tokio::main]
async fn main() {
    let said = std::env::args().skip(1).filter(|it| it != "--bench");
    let numbers: Vec<u64> = said.map(|it| it.parse().unwrap()).collect();
    let (pairs, sizes) = numbers.split_first().expect("a number of pairs, and numbers of studies");
    let (empty, full) = (Receiver::isocenter().await, Receiver::isocenter().await);
    let (mut rows, mut filled) = (Vec::new(), 0);
    let mut line = Series::new("isocenter");
    let mut places = Vec::new();
    for size in sizes {
        fill(full.hospital().unwrap(), filled, *size).await;
        filled = *size;
        let (mut rates, mut ratios) = (Vec::new(), Vec::new());
        for pair in 0..*pairs {
            // Who begins changes.
            let (one, other) = if pair % 2 == 0 { (&empty, &full) } else { (&full, &empty) };
            let (first, second) = (rate(one).await, rate(other).await);
            let (bare, laden) = if pair % 2 == 0 { (first, second) } else { (second, first) };
            rates.push(laden);
            ratios.push(laden / bare);
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

async fn rate(receiver: &Receiver) -> f64 {
    let shares = LOAD.shares();
    let count: usize = shares.iter().map(Vec::len).sum();
    receiver.tidy();
    count as f64 / store_all(&receiver.remote, shares).await.as_secs_f64()
}
