//! What each statement on the way of studies and messages reads from the database, with and without a history.
//!
//! `cargo bench -p system-tests --bench plans -- STUDIES`. What a statement costs is counted by the database
//! itself (`pg_stat_statements`), in pages of 8 KB, found in memory or read.
#![expect(
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench that cannot go on has nothing to say"
)]

use std::collections::BTreeMap;
use std::time::Duration;

use system_tests::measuring::{REPORTING, acknowledge_all, fill, table};
use system_tests::{Habits, Hospital, eventually, kill_database, study};

/// Studies and messages that are sent each time.
const STUDIES: usize = 30;
const MESSAGES: usize = 100;

/// Who asks less often is no part of the way.
const CALLS_MIN: u64 = 20;

/// Calls, and pages of each.
type Costs = BTreeMap<String, (u64, f64)>;

#[tokio::main]
async fn main() {
    let mut said = std::env::args().skip(1).filter(|it| it != "--bench");
    let size: u64 = said.next().map_or(100_000, |it| it.parse().unwrap());
    let workflows = [("bone", REPORTING)];
    let hospital = Hospital::with(Habits { workflows: &workflows, ..Habits::default() }).await;
    count_pages(&hospital).await;
    // What is asked for the first time fills caches.
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
    rows.sort_by(|one, other| other.0.total_cmp(&one.0));
    let rows: Vec<Vec<String>> = rows.into_iter().map(|it| it.1).collect();
    let head = format!("pages, {size} studies");
    println!("{}", table(&["statement", "calls", "pages, none", &head], &rows));
}

/// Has the database count what its statements read.
async fn count_pages(hospital: &Hospital) {
    let (is_done, said) =
        hospital.sql("admin", "alter system set shared_preload_libraries = 'pg_stat_statements'");
    assert!(is_done, "{said}");
    assert!(kill_database(&hospital.scratch.path("data")));
    eventually("the database to be back", async || {
        let create = "create extension if not exists pg_stat_statements";
        hospital.sql("admin", create).0.then_some(())
    })
    .await;
    let (is_done, said) =
        hospital.sql("admin", "alter system set pg_stat_statements.track = 'all'");
    assert!(is_done, "{said}");
    assert!(hospital.sql("admin", "select pg_reload_conf()").0);
}

/// Sends studies and messages, and gives what the statements cost meanwhile.
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
    let to = hospital.scratch.path(&format!("{name}.csv"));
    let listed = format!(
        "\\copy (select calls, round((shared_blks_hit + shared_blks_read)::numeric / calls, 1),
            regexp_replace(left(query, 90), '\\s+', ' ', 'g') from pg_stat_statements
            join pg_roles on pg_roles.oid = userid where rolname = 'isocenter_app' and calls >= {CALLS_MIN})
         to '{}' with (delimiter E'\\t')",
        to.display()
    );
    let (is_done, said) = hospital.sql("admin", &listed.replace('\n', " "));
    assert!(is_done, "{said}");
    let text = std::fs::read_to_string(to).unwrap();
    let parts = text.lines().map(|it| it.splitn(3, '\t').collect::<Vec<_>>());
    parts.map(|it| (it[2].to_owned(), (it[0].parse().unwrap(), it[1].parse().unwrap()))).collect()
}
