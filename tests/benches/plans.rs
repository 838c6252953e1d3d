//! Pages that each SQL statement of the processing of studies and messages reads, with and without
//! a history.
//!
//! `cargo bench -p system-tests --bench plans -- STUDIES`. The database counts pages of 8 KB with
//! `pg_stat_statements`, both those found in memory and those read from disk.
#![expect(
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench stops with a panic when it cannot continue"
)]

use std::collections::BTreeMap;
use std::time::Duration;

use system_tests::measuring::{REPORTING, acknowledge_all, fill, table};
use system_tests::{Hospital, SiteOptions, eventually, kill_database, study};

/// Studies and messages that are sent in each measurement.
const STUDIES: usize = 30;
const MESSAGES: usize = 100;

/// Statements with fewer calls are not part of the processing of each study or message.
const CALLS_MIN: u64 = 20;

/// By statement: number of calls, and pages per call.
type Costs = BTreeMap<String, (u64, f64)>;

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1).filter(|it| it != "--bench");
    let size: u64 = arguments.next().map_or(100_000, |it| it.parse().unwrap());
    let workflows = [("bone", REPORTING)];
    let hospital =
        Hospital::with(SiteOptions { workflows: &workflows, ..SiteOptions::default() }).await;
    count_pages(&hospital).await;
    // The first measurement fills caches and does not count.
    costs(&hospital, "first").await;
    let without = costs(&hospital, "without").await;
    fill(&hospital, 0, size).await;
    let with = costs(&hospital, "with").await;
    let mut rows: Vec<(f64, Vec<String>)> = Vec::new();
    for (statement, (calls, pages)) in &with {
        let Some((_, before)) = without.get(statement) else { continue };
        let row = vec![
            statement.clone(),
            calls.to_string(),
            format!("{before:.1}"),
            format!("{pages:.1}"),
        ];
        rows.push((pages - before, row));
    }
    rows.sort_by(|a, b| b.0.total_cmp(&a.0));
    let rows: Vec<Vec<String>> = rows.into_iter().map(|it| it.1).collect();
    let head = format!("pages, {size} studies");
    println!("{}", table(&["statement", "calls", "pages, none", &head], &rows));
}

/// Enables `pg_stat_statements` in the private database.
async fn count_pages(hospital: &Hospital) {
    let (is_done, output) =
        hospital.sql("admin", "alter system set shared_preload_libraries = 'pg_stat_statements'");
    assert!(is_done, "{output}");
    assert!(kill_database(&hospital.scratch.path("data")));
    eventually("the database to be back", async || {
        let create = "create extension if not exists pg_stat_statements";
        hospital.sql("admin", create).0.then_some(())
    })
    .await;
    let (is_done, output) =
        hospital.sql("admin", "alter system set pg_stat_statements.track = 'all'");
    assert!(is_done, "{output}");
    assert!(hospital.sql("admin", "select pg_reload_conf()").0);
}

/// Sends studies and messages, and returns what the statements have read since.
async fn costs(hospital: &Hospital, name: &str) -> Costs {
    let files = study(&format!("{name} begin")).files();
    let files: Vec<&[u8]> = files.iter().map(Vec::as_slice).collect();
    eventually("the engine to take something", async || {
        hospital.modality().store(&files).await.ok()
    })
    .await;
    assert!(hospital.sql("admin", "vacuum").0);
    assert!(hospital.sql("admin", "select pg_stat_statements_reset()").0);
    let before = hospital.ehr.received_raw().len();
    for number in 0..STUDIES {
        hospital.send(&study(&format!("{name} {number}"))).await;
    }
    acknowledge_all(&hospital.engine.mllp, 2, MESSAGES / 2).await;
    eventually("all reports", async || {
        (hospital.ehr.received_raw().len() >= before + STUDIES).then_some(())
    })
    .await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let csv = hospital.scratch.path(&format!("{name}.csv"));
    let copy = format!(
        "\\copy (select calls, round((shared_blks_hit + shared_blks_read)::numeric / calls, 1),
            regexp_replace(left(query, 90), '\\s+', ' ', 'g') from pg_stat_statements
            join pg_roles on pg_roles.oid = userid where rolname = 'isocenter_app' and calls >= {CALLS_MIN})
         to '{}' with (delimiter E'\\t')",
        csv.display()
    );
    let (is_done, output) = hospital.sql("admin", &copy.replace('\n', " "));
    assert!(is_done, "{output}");
    let text = std::fs::read_to_string(csv).unwrap();
    let mut costs = Costs::new();
    for line in text.lines() {
        let columns: Vec<&str> = line.splitn(3, '\t').collect();
        let calls = columns[0].parse().unwrap();
        let pages = columns[1].parse().unwrap();
        costs.insert(columns[2].to_owned(), (calls, pages));
    }
    costs
}
