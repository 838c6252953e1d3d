//! Injects each kind of fault once, at a moment that a seed determines (ACC-04). `cargo faults`
//! runs longer.
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a test fails by a panic")]

use std::fs;
use std::path::{Path, PathBuf};

use system_tests::faults::{Flaw, Gated, Kind, Side, Ward, rounds};

/// Two hospitals run in parallel, each with half of the kinds.
#[tokio::test(flavor = "multi_thread")]
async fn acc_04_whatever_breaks_nothing_is_lost_and_nothing_is_done_twice() {
    let mut seeds: Vec<u64> = Kind::seeds_of_all().into_values().collect();
    assert_eq!(seeds.len(), Kind::ALL.len());
    // With this seed, the PACS accepts the first of two objects and refuses the second.
    seeds.push(2000);
    let halves = [0, 1].map(|half| seeds.clone().into_iter().skip(half).step_by(2));
    let [first, second] = halves.map(|it| tokio::spawn(rounds(it, |line| println!("{line}"))));
    for count in [first.await.unwrap(), second.await.unwrap()] {
        assert!(count.is_good(), "{count}");
    }
}

/// Kills the engine before and after every eighth commit in the processing of a study.
#[tokio::test(flavor = "multi_thread")]
async fn acc_04_a_kill_right_before_or_after_a_commit_changes_nothing_in_the_end() {
    let mut gated = Gated::open().await;
    let count = gated.all(8, |it| println!("{it}")).await;
    assert!(count.is_good(), "{count}");
    let verdict = gated.killed_beside(2, Side::After).await.to_string();
    assert!(verdict.ends_with("killed"), "{verdict}");
}

/// Checks the harness itself with a file that the archive has lost, and one that it has twice.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_in_the_archive_or_lies_there_twice_is_found() {
    let mut ward = Ward::open().await;
    let slow = Kind::seeds_of_all()[&Kind::PacsSlow];
    let verdict = ward.round(slow).await;
    assert!(verdict.flaws.is_empty() && ward.end().flaws.is_empty(), "{verdict}");
    let instances = ward.data().join("archive/instances");
    let file = first_file(&instances).unwrap();
    fs::copy(&file, file.with_extension("copy")).unwrap();
    assert!(matches!(ward.end().flaws[..], [Flaw::Duplicated(_)]));
    fs::remove_file(file.with_extension("copy")).unwrap();
    fs::remove_file(&file).unwrap();
    // The doctor command finds the missing file, too.
    assert!(matches!(ward.end().flaws[..], [Flaw::Lost(_), Flaw::Unexplained(_)]));
}

fn first_file(folder: &Path) -> Option<PathBuf> {
    let mut folders = fs::read_dir(folder).unwrap().map(|it| it.unwrap().path());
    folders.find_map(|it| Some(fs::read_dir(it).ok()?.next()?.unwrap().path()))
}
