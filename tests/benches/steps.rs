//! Latency of a step whose plugin does nothing, at a steady rate of steps, and time from the last
//! instance of a study to its report.
//!
//! `cargo bench -p system-tests --bench steps -- ROUNDS [STEPS_PER_SECOND]`
#![expect(
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench stops with a panic when it cannot continue"
)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use serde_json::Value;
use system_tests::measuring::{REPORTING, median, percentile, table};
use system_tests::{Hospital, SiteOptions, eventually, study};

/// Number of steps of a run, which follow each other.
const CHAIN: usize = 10;

/// Time during which runs are started.
const DURATION: Duration = Duration::from_secs(10);

/// Number of studies whose time to the report is measured, one after the other.
const STUDIES: usize = 20;

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1).filter(|it| it != "--bench");
    let rounds: usize = arguments.next().map_or(5, |it| it.parse().unwrap());
    let rate: usize = arguments.next().map_or(200, |it| it.parse().unwrap());
    let mut rows = Vec::new();
    for _ in 0..rounds {
        let hospital = hospital(&chain()).await;
        let (steps_per_second, times) = steps(&hospital, rate).await;
        rows.push(vec![
            format!("{steps_per_second:.0}"),
            times.len().to_string(),
            format!("{:.1}", percentile(&times, 50)),
            format!("{:.1}", percentile(&times, 99)),
        ]);
    }
    println!("{}", table(&["steps/s", "steps", "p50 ms", "p99 ms"], &rows));
    let hospital = hospital(REPORTING).await;
    let times = report_latencies(&hospital).await;
    println!(
        "from the last instance's acknowledgement to the report at the EHR, {STUDIES} studies: \
         median {:.0} ms, longest {:.0} ms",
        median(&times),
        percentile(&times, 100)
    );
}

async fn hospital(workflow: &str) -> Hospital {
    let workflows = [("bench", workflow)];
    Hospital::with(SiteOptions { workflows: &workflows, ..SiteOptions::default() }).await
}

/// A workflow of steps that do nothing, in sequence.
fn chain() -> String {
    let mut text = "workflow: bench\non: { message: { type: ORU^R01 } }\nnodes:\n".to_owned();
    for step in 0..CHAIN {
        let after = step.checked_sub(1).map_or(String::new(), |it| format!("after: [s{it}], "));
        writeln!(text, "  s{step}: {{ {after}plugin: faulty, with: {{ fault: look }} }}").unwrap();
    }
    text
}

fn message(number: usize) -> String {
    format!(
        "MSH|^~\\&|LAB|H|I|A|20260101||ORU^R01|S{number}|P|2.5.1\rPID|1||7^^^H^MR\r\
         OBR|1|P{number}|F{number}|x^x^L\rOBX|1|NM|2345-7^Glucose^LN||5.1|mmol/L|||||F"
    )
}

/// Starts runs at a steady rate. Returns the steps per second of all runs, and the milliseconds
/// from the start of each step to the start of the next one. This time includes the claim of the
/// step, the call of the plugin, and the transaction that records the outcome.
async fn steps(hospital: &Hospital, rate: usize) -> (f64, Vec<f64>) {
    // A first run starts the processes of the plugin.
    hospital.send_message(&message(0)).await;
    hospital.ended_runs(1).await;
    let runs = rate * usize::try_from(DURATION.as_secs()).unwrap() / CHAIN;
    let start = Instant::now();
    for number in 1..=runs {
        let due = DURATION.mul_f64((number - 1) as f64 / runs as f64);
        tokio::time::sleep(due.saturating_sub(start.elapsed())).await;
        assert_eq!(hospital.send_message(&message(number)).await, "AA");
    }
    eventually("all runs to end", async || {
        let listed = hospital.ask(&["runs", "--limit", "100000"]);
        let ended = listed.as_array()?.iter().filter(|it| it["status"] == "completed").count();
        (ended > runs).then_some(())
    })
    .await;
    let events = hospital.ask(&["audit", "show", "--limit", "1000000"]);
    let mut starts_by_run = BTreeMap::<String, Vec<f64>>::new();
    for event in events.as_array().unwrap().iter().filter(|it| it["kind"] == "node_started") {
        let run = event["body"]["subject"]["run"].as_str().unwrap().to_owned();
        starts_by_run.entry(run).or_default().push(seconds_of_day(event));
    }
    let all: Vec<f64> = starts_by_run.values().flatten().copied().collect();
    let first = all.iter().copied().fold(f64::MAX, f64::min);
    let last = all.iter().copied().fold(f64::MIN, f64::max);
    let mut times = Vec::new();
    for mut starts in starts_by_run.into_values() {
        assert_eq!(starts.len(), CHAIN, "each step is started once");
        starts.sort_by(f64::total_cmp);
        times.extend(starts.windows(2).map(|it| (it[1] - it[0]) * 1000.0));
    }
    (all.len() as f64 / (last - first), times)
}

/// The time of an event in seconds since midnight.
fn seconds_of_day(event: &Value) -> f64 {
    let text = event["at"].as_str().unwrap();
    let clock = text.get(11..text.len() - 1).unwrap();
    clock.split(':').fold(0.0, |sum, it| sum * 60.0 + it.parse::<f64>().unwrap())
}

/// Milliseconds from the acknowledgement of the last instance of a study to its report.
async fn report_latencies(hospital: &Hospital) -> Vec<f64> {
    let mut times = Vec::new();
    for number in 0..STUDIES {
        let before = hospital.ehr.received_raw().len();
        hospital.send(&study(&format!("latency {number}"))).await;
        let start = Instant::now();
        while hospital.ehr.received_raw().len() == before {
            assert!(start.elapsed() < Duration::from_mins(1), "no report comes");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        times.push(start.elapsed().as_secs_f64() * 1000.0);
    }
    times
}
