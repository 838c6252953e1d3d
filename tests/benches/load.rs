//! What a full house costs: memory while many send large objects, one very large object beside other
//! receivers, and how fast C-ECHO is answered beside silent and slow guests and everything that breaks.
//!
//! `cargo bench -p system-tests --bench load -- [memory|large|echo]`
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench that cannot go on has nothing to say"
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

/// Senders at once, and the bytes of the object of each.
const SENDERS: usize = 50;
const LARGE_BYTES: u32 = 200_000_000;

const HUGE_BYTES: u32 = 1_000_000_000;

/// Guests that say nothing, half of them to each door; and those that send at a trickle.
const SILENT: usize = 200;
const SLOW: usize = 40;

/// Rounds of faults beside which C-ECHO is timed.
const ROUNDS: usize = 20;

#[tokio::main]
async fn main() {
    let said: Vec<String> = std::env::args().skip(1).filter(|it| it != "--bench").collect();
    let is_asked = |what: &str| said.is_empty() || said.iter().any(|it| it == what);
    if is_asked("echo") {
        echo().await;
    }
    if is_asked("large") {
        large().await;
    }
    if is_asked("memory") {
        memory().await;
    }
}

/// The engine's memory with its database's while 50 associations send 200 MB each.
async fn memory() {
    let ours = Receiver::isocenter().await;
    let idle = ours.memory_mb();
    let is_over = Arc::new(AtomicBool::new(false));
    let (address, over) = (ours.remote.address.clone(), Arc::clone(&is_over));
    let sending = thread::spawn(move || {
        let time = store_large_at_once(&address, "ISOCENTER", SENDERS, LARGE_BYTES);
        over.store(true, Ordering::Relaxed);
        time
    });
    let mut highest = idle;
    while !is_over.load(Ordering::Relaxed) {
        highest = highest.max(ours.memory_mb());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let seconds = sending.join().unwrap().as_secs_f64();
    let rate = SENDERS as f64 * f64::from(LARGE_BYTES) / 1e6 / seconds;
    println!(
        "memory with its database: idle {idle:.0} MB, at most {highest:.0} MB while {SENDERS} associations send 200 MB \
         each ({seconds:.0} s, {rate:.0} MB/s)"
    );
}

/// One multi-frame object of 1 GB.
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

/// C-ECHO beside guests that say nothing, guests that are slow, and faults that leave the engine alive.
async fn echo() {
    let mut ward = Ward::open().await;
    let (dicom, mllp) = ward.doors();
    let silent: Vec<TcpStream> = (0..SILENT)
        .map(|it| TcpStream::connect(if it % 2 == 0 { &dicom } else { &mllp }).unwrap())
        .collect();
    let slow: Vec<Slow> = (0..SLOW).map(|_| Slow::begin(&dicom, "ISOCENTER")).collect();
    let is_over = Arc::new(AtomicBool::new(false));
    let over = Arc::clone(&is_over);
    let address: SocketAddr = dicom.parse().unwrap();
    let echoing = tokio::spawn(async move {
        let peer = remote(&address.to_string(), "CT1");
        let mut times = Vec::new();
        while !over.load(Ordering::Relaxed) {
            let begin = Instant::now();
            peer.echo().await.unwrap();
            times.push(begin.elapsed().as_secs_f64() * 1000.0);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        times
    });
    let mut struck = Vec::new();
    let spares = |it: &Kind| !matches!(it, Kind::EngineKilled | Kind::EngineFrozen);
    let seeds: Vec<u64> = (1..).filter(|it| spares(&Kind::of(*it).0)).take(ROUNDS).collect();
    for seed in seeds {
        let verdict = ward.round(seed).await;
        assert!(verdict.flaws.is_empty(), "{verdict}");
        struck.push(format!("{:?}", Kind::of(seed).0));
    }
    is_over.store(true, Ordering::Relaxed);
    let times = echoing.await.unwrap();
    let still: usize = slow.into_iter().map(|it| usize::from(it.end())).sum();
    println!(
        "C-ECHO, association and all, {} times beside {} silent connections, {SLOW} slow senders ({still} at it to the \
         end) and {ROUNDS} rounds of faults: p50 {:.1} ms, p99 {:.1} ms, longest {:.1} ms\n({})",
        times.len(),
        silent.len(),
        percentile(&times, 50),
        percentile(&times, 99),
        percentile(&times, 100),
        struck.join(", ")
    );
}
