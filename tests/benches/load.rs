//! The engine under heavy load.
//!
//! Three measurements: memory during many large objects, the rate of one very large object compared
//! with other receivers, and the time of C-ECHO during idle connections, slow senders and faults.
//!
//! `cargo bench -p system-tests --bench load -- [memory|large|echo]`
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench stops with a panic when it cannot continue"
)]

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use system_tests::faults::{Kind, Ward};
use system_tests::measuring::{
    Receiver, Slow, median, percentile, store_large, store_large_at_once, table,
};
use system_tests::remote;

/// Parallel senders in the measurement of memory, and the size of the object of each.
const SENDERS: usize = 50;
const LARGE_BYTES: u32 = 200_000_000;

/// Size of the one very large object.
const HUGE_BYTES: u32 = 1_000_000_000;

/// Connections that send nothing, half to the DICOM listener and half to the HL7 listener.
const SILENT: usize = 200;

/// Associations that send slowly.
const SLOW: usize = 40;

/// Rounds of faults during which C-ECHO is timed.
const ROUNDS: usize = 20;

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|it| it != "--bench").collect();
    let is_chosen = |name: &str| arguments.is_empty() || arguments.iter().any(|it| it == name);
    if is_chosen("echo") {
        echo().await;
    }
    if is_chosen("large") {
        large().await;
    }
    if is_chosen("memory") {
        memory().await;
    }
}

/// Memory of the engine and its database while 50 associations send 200 MB each.
async fn memory() {
    let engine = Receiver::isocenter().await;
    let idle = engine.memory_mb();
    let address = engine.remote.address.clone();
    let sending =
        thread::spawn(move || store_large_at_once(&address, "ISOCENTER", SENDERS, LARGE_BYTES));
    let mut highest = idle;
    while !sending.is_finished() {
        highest = highest.max(engine.memory_mb());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let seconds = sending.join().unwrap().as_secs_f64();
    let rate = SENDERS as f64 * f64::from(LARGE_BYTES) / 1e6 / seconds;
    println!(
        "memory with its database: idle {idle:.0} MB, at most {highest:.0} MB while {SENDERS} \
         associations send 200 MB each ({seconds:.0} s, {rate:.0} MB/s)"
    );
}

/// Rate and memory for one multi-frame object of 1 GB, compared with other receivers.
async fn large() {
    let mut all = vec![Receiver::isocenter().await];
    all.extend(Receiver::storescp().await);
    all.extend(Receiver::orthanc().await);
    let mut rows = Vec::new();
    let mut rates = vec![Vec::new(); all.len()];
    let mut highest = vec![0.0_f64; all.len()];
    for _ in 0..3 {
        for ((receiver, rates), highest) in all.iter().zip(&mut rates).zip(&mut highest) {
            receiver.tidy();
            let address = receiver.remote.address.clone();
            let sending = thread::spawn(move || store_large(&address, "ISOCENTER", HUGE_BYTES));
            while !sending.is_finished() {
                *highest = highest.max(receiver.memory_mb());
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            rates.push(f64::from(HUGE_BYTES) / 1e6 / sending.join().unwrap().as_secs_f64());
        }
    }
    let ours = rates.first().unwrap();
    for ((receiver, rates), highest) in all.iter().zip(&rates).zip(&highest) {
        let ratios: Vec<f64> = ours.iter().zip(rates).map(|(ours, own)| ours / own).collect();
        rows.push(vec![
            receiver.name.to_owned(),
            format!("{:.0}", median(rates)),
            format!("{:.2}", median(&ratios)),
            format!("{highest:.0}"),
        ]);
    }
    println!("{}", table(&["one object of 1 GB", "MB/s", "isocenter : it", "memory, MB"], &rows));
}

/// Time of C-ECHO during idle connections, slow senders, and faults that leave the engine running.
async fn echo() {
    let mut ward = Ward::open().await;
    let (dicom, mllp) = ward.addresses();
    let silent: Vec<TcpStream> = (0..SILENT)
        .map(|it| TcpStream::connect(if it % 2 == 0 { &dicom } else { &mllp }).unwrap())
        .collect();
    let slow: Vec<Slow> = (0..SLOW).map(|_| Slow::begin(&dicom, "ISOCENTER")).collect();
    let must_stop = Arc::new(AtomicBool::new(false));
    let stop = Arc::clone(&must_stop);
    let address: SocketAddr = dicom.parse().unwrap();
    let echoing = tokio::spawn(async move {
        let peer = remote(&address.to_string(), "CT1");
        let mut times = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let start = Instant::now();
            peer.echo().await.unwrap();
            times.push(start.elapsed().as_secs_f64() * 1000.0);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        times
    });
    let mut faults = Vec::new();
    let seeds =
        (1..).filter(|seed| !matches!(Kind::of(*seed).0, Kind::EngineKilled | Kind::EngineFrozen));
    for seed in seeds.take(ROUNDS) {
        let verdict = ward.round(seed).await;
        assert!(verdict.flaws.is_empty(), "{verdict}");
        faults.push(format!("{:?}", Kind::of(seed).0));
    }
    must_stop.store(true, Ordering::Relaxed);
    let times = echoing.await.unwrap();
    let still: usize = slow.into_iter().map(|it| usize::from(it.end())).sum();
    println!(
        "C-ECHO, association and all, {} times beside {} silent connections, {SLOW} slow senders \
         ({still} at it to the end) and {ROUNDS} rounds of faults: p50 {:.1} ms, p99 {:.1} ms, \
         longest {:.1} ms\n({})",
        times.len(),
        silent.len(),
        percentile(&times, 50),
        percentile(&times, 99),
        percentile(&times, 100),
        faults.join(", ")
    );
}
