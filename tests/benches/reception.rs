//! Rate of reception of instances, compared with other receivers in the same rounds.
//!
//! `cargo bench -p system-tests --bench reception -- ROUNDS [CASE [RECEIVER...]]` prints a table
//! and writes a plot of the rates to `target/reception.svg`.
#![expect(
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench stops with a panic when it cannot continue"
)]

use std::fs;
use std::io::Write as _;
use std::time::Instant;

use sha2::{Digest as _, Sha256};
use system_tests::Scratch;
use system_tests::measuring::{Load, Receiver, Series, median, plot, store_all, table};

const CASES: [Load; 4] = [
    Load { name: "0.5 MB", instances: 500, size: 512, associations: 1 },
    Load { name: "0.5 MB", instances: 500, size: 512, associations: 4 },
    Load { name: "0.5 MB", instances: 500, size: 512, associations: 16 },
    Load { name: "2 KB", instances: 2000, size: 16, associations: 4 },
];

const HEAD: &[&str] = &[
    "instances",
    "associations",
    "receiver",
    "instances/s",
    "MB/s",
    "isocenter : it",
    "CPU ms each",
];

/// The measurements of one receiver, one of each per round.
#[derive(Default, Clone)]
struct Measured {
    /// Instances per second.
    rates: Vec<f64>,
    /// Milliseconds of processor time per instance.
    cpu: Vec<f64>,
}

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1).filter(|it| it != "--bench");
    let rounds: usize = arguments.next().map_or(5, |it| it.parse().unwrap());
    let only: Option<usize> = arguments.next().map(|it| it.parse().unwrap());
    let receivers = receivers(&arguments.collect::<Vec<_>>()).await;
    print_memory("idle", &receivers);
    let mut rows = Vec::new();
    let mut series: Vec<Series> = receivers.iter().map(|it| Series::new(it.name)).collect();
    let mut places = Vec::new();
    for (index, load) in CASES.iter().enumerate() {
        if only.is_some_and(|it| it != index) {
            continue;
        }
        let (all, loops, hashes) = compare(&receivers, load, rounds).await;
        rows.extend(receivers.iter().zip(&all).map(|(it, own)| row(it, load, own, &all[0])));
        rows.push(row_of_loop(load, "write and flush, no network", &loops, &all[0]));
        rows.push(row_of_loop(load, "SHA-256 on one core, no network", &hashes, &all[0]));
        println!("{}", table(HEAD, &rows));
        places.push(format!("{}, {}", load.name, load.associations));
        for (line, own) in series.iter_mut().zip(&all) {
            line.points.push(median(&own.rates));
        }
    }
    print_memory("in the end", &receivers);
    let title = "Instances taken, by size and associations";
    let svg = plot(title, "instances/s", &places, &series);
    fs::write(system_tests::root().join("target/reception.svg"), svg).unwrap();
}

/// Prints the current memory of each receiver with its child processes, and with the database of
/// the engine.
fn print_memory(when: &str, receivers: &[Receiver]) {
    let each = receivers.iter().map(|it| format!("{} {:.0} MB", it.name, it.memory_mb()));
    println!("memory, {when}: {}", each.collect::<Vec<_>>().join(", "));
}

/// The engine, then those of the other receivers that are named on the command line, or all.
async fn receivers(named: &[String]) -> Vec<Receiver> {
    let mut others = Vec::new();
    others.extend(Receiver::storescp().await);
    others.extend(Receiver::orthanc().await);
    others.extend(Receiver::pynetdicom().await);
    others.retain(|it| named.is_empty() || named.iter().any(|name| name == it.name));
    let mut all = vec![Receiver::isocenter().await];
    all.append(&mut others);
    all
}

/// Measures each receiver in every round, in rotating order, and in the same rounds the loops that
/// only write files or only hash.
async fn compare(
    receivers: &[Receiver],
    load: &Load,
    rounds: usize,
) -> (Vec<Measured>, Vec<f64>, Vec<f64>) {
    let mut all = vec![Measured::default(); receivers.len()];
    let mut loops = Vec::new();
    let mut hashes = Vec::new();
    for round in 0..rounds {
        for turn in 0..receivers.len() {
            let index = (turn + round) % receivers.len();
            measure(&receivers[index], load, &mut all[index]).await;
        }
        loops.push(write_and_flush(load));
        hashes.push(hash(load));
    }
    (all, loops, hashes)
}

async fn measure(receiver: &Receiver, load: &Load, measured: &mut Measured) {
    let shares = load.shares();
    let count: usize = shares.iter().map(Vec::len).sum();
    receiver.tidy();
    let before = receiver.cpu();
    let time = store_all(&receiver.remote, shares).await;
    // Some receivers respond a moment before they have written the file.
    let start = Instant::now();
    while receiver.kept() < count {
        assert!(start.elapsed().as_secs() < 10, "{} has only {}", receiver.name, receiver.kept());
    }
    measured.rates.push(count as f64 / time.as_secs_f64());
    measured.cpu.push((receiver.cpu() - before) * 1000.0 / count as f64);
}

/// Instances per second of a loop that only writes and flushes a file for each instance.
fn write_and_flush(load: &Load) -> f64 {
    let scratch = Scratch::default();
    let files = load.shares().concat();
    rustix::fs::sync();
    let start = Instant::now();
    for (number, file) in files.iter().enumerate() {
        let mut out = fs::File::create(scratch.path(&number.to_string())).unwrap();
        out.write_all(file).unwrap();
        out.sync_all().unwrap();
    }
    files.len() as f64 / start.elapsed().as_secs_f64()
}

/// Instances per second of a loop that only hashes each instance, on one core.
fn hash(load: &Load) -> f64 {
    let files = load.shares().concat();
    let start = Instant::now();
    for file in &files {
        std::hint::black_box(Sha256::digest(file));
    }
    files.len() as f64 / start.elapsed().as_secs_f64()
}

fn row(receiver: &Receiver, load: &Load, own: &Measured, ours: &Measured) -> Vec<String> {
    let rate = median(&own.rates);
    let bytes = f64::from(load.size).powi(2) * 2.0;
    vec![
        load.name.to_owned(),
        load.associations.to_string(),
        receiver.name.to_owned(),
        format!("{rate:.0}"),
        format!("{:.0}", rate * bytes / 1e6),
        ratio(&ours.rates, &own.rates),
        format!("{:.2}", median(&own.cpu)),
    ]
}

fn row_of_loop(load: &Load, name: &str, loops: &[f64], ours: &Measured) -> Vec<String> {
    vec![
        load.name.to_owned(),
        "-".to_owned(),
        name.to_owned(),
        format!("{:.0}", median(loops)),
        "-".to_owned(),
        ratio(&ours.rates, loops),
        "-".to_owned(),
    ]
}

/// The median of the ratios between measurements of the same round.
fn ratio(ours: &[f64], theirs: &[f64]) -> String {
    let ratios: Vec<f64> = ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect();
    format!("{:.2}", median(&ratios))
}
