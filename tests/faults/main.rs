//! Everything that can break, broken once at a seeded moment (ACC-04). `cargo faults` does the same for long.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "in a test, a panic is the way to say no"
)]

use std::fs;
use std::path::{Path, PathBuf};

use system_tests::faults::{Flaw, Gated, Kind, Side, Ward, rounds};

/// Two hospitals side by side, each with half of the kinds.
#[tokio::test(flavor = "multi_thread")]
async fn acc_04_whatever_breaks_nothing_is_lost_and_nothing_is_done_twice() {
    let mut seeds: Vec<u64> = Kind::seeds_of_all().into_values().collect();
    assert_eq!(seeds.len(), Kind::ALL.len());
    // Once more a PACS that refuses, this time after it has taken the first of two.
    seeds.push(2000);
    let told = |it: &str| println!("{it}");
    let halves = [0, 1].map(|half| seeds.clone().into_iter().skip(half).step_by(2));
    let [one, other] = halves.map(|it| tokio::spawn(rounds(it, told)));
    for count in [one.await.unwrap(), other.await.unwrap()] {
        assert!(count.is_good(), "{count}");
    }
}

/// The engine killed beside every eighth commit of a study's way.
#[tokio::test(flavor = "multi_thread")]
async fn acc_04_a_kill_right_before_or_after_a_commit_changes_nothing_in_the_end() {
    let mut gated = Gated::open().await;
    let count = gated.all(8, |it| println!("{it}")).await;
    assert!(count.is_good(), "{count}");
    let beside = gated.killed_beside(2, Side::After).await.to_string();
    assert!(beside.ends_with("killed"), "{beside}");
}

/// The harness itself: what is taken out of the archive, or lies there twice, it finds.
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
    // Doctor has a word to say about it, too.
    assert!(matches!(ward.end().flaws[..], [Flaw::Lost(_), Flaw::Unexplained(_)]));
}

fn first_file(folder: &Path) -> Option<PathBuf> {
    let mut folders = fs::read_dir(folder).unwrap().map(|it| it.unwrap().path());
    folders.find_map(|it| Some(fs::read_dir(it).ok()?.next()?.unwrap().path()))
}
