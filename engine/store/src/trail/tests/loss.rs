//! Tests of what the files beside the database prove: a trail that is shorter, and files that are
//! missing.

use domain::TrailFault;

use super::*;
use crate::trail::count::TrailCount;
use crate::trail::refusal::Refusals;

/// A trail with a batch for each of `events`. Other tests may split batches, and never join them.
async fn sealed_trail(events: usize) -> TestStore {
    let test = TestStore::new().await;
    let sealer = sealer(&test);
    for number in 1..=events {
        test.store.append_events(vec![event(number)]).await.unwrap();
        assert!(sealer.seal_all(SEAL_TIME_MAX).await.unwrap());
    }
    test
}

async fn newest_batch(test: &TestStore) -> u64 {
    test.value("select coalesce(max(number), 0) from audit.batch").await.parse().unwrap()
}

/// Removes the newest batch: its seals, and its events too unless they stay.
async fn remove_newest(test: &TestStore, is_with_events: bool) {
    let events = if is_with_events {
        "delete from audit.event where id in (select event from audit.seal
            where seq >= (select seq from gone))
            or (xid, position) > (select xid, position from edge);"
    } else {
        ""
    };
    test.execute_as_owner(&format!(
        "begin; set local session_replication_role = replica;
         create temporary table gone on commit drop as
            select max(first_seq) as seq from audit.batch;
         create temporary table edge on commit drop as
            select e.xid, e.position from audit.seal s join audit.event e on e.id = s.event
            order by s.seq desc limit 1;
         {events}
         delete from audit.seal where seq >= (select seq from gone);
         delete from audit.batch where first_seq >= (select seq from gone);
         commit"
    ))
    .await;
}

fn count(test: &TestStore) -> TrailCount {
    serde_json::from_slice(&fs::read(test.folder.join("count")).unwrap()).unwrap()
}

#[tokio::test]
async fn aud_03_the_newest_batch_cannot_be_removed_and_signed_anew() {
    let test = sealed_trail(3).await;
    let sealer = sealer(&test);
    let newest = newest_batch(&test).await;
    remove_newest(&test, true).await;
    test.store.append_events(vec![event(9)]).await.unwrap();

    let error = sealer.seal().await.unwrap_err();
    assert!(matches!(error, StoreError::Inconsistent(_)), "{error}");
    assert_eq!(sealer.fault().await.unwrap(), Some(TrailFault::BatchesMissing));
    assert!(sealer.write_all(&mut Vec::new()).await.is_err());
    assert_eq!(count(&test).batches, newest);
}

#[tokio::test]
async fn aud_03_a_batch_that_was_signed_before_a_crash_is_sealed_as_it_was_signed() {
    let test = sealed_trail(2).await;
    let sealer = sealer(&test);
    let newest = newest_batch(&test).await;
    let signature =
        format!("select encode(signature, 'hex') from audit.batch where number = {newest}");
    let signed = test.value(&signature).await;
    // As if the engine had ended between export and commit.
    remove_newest(&test, false).await;
    test.store.append_events(vec![event(3)]).await.unwrap();

    assert_eq!(sealer.fault().await.unwrap(), None);
    assert!(sealer.seal_all(SEAL_TIME_MAX).await.unwrap());

    assert_eq!(test.value(&signature).await, signed);
    assert_eq!(sealed(&test).await, [1, 2, 3]);
    let lines = fs::read_to_string(test.folder.join("checkpoints")).unwrap();
    assert_eq!(lines.matches(&format!("{{\"batch\":{newest},")).count(), 1, "{lines}");
}

#[tokio::test]
async fn aud_03_files_that_are_missing_or_of_another_time_are_findings() {
    let test = sealed_trail(3).await;
    let sealer = sealer(&test);
    let checkpoints = test.folder.join("checkpoints");
    let counted = test.folder.join("count");
    let lines = fs::read_to_string(&checkpoints).unwrap();
    let whole = fs::read_to_string(&counted).unwrap();
    let cut: Vec<&str> = lines.lines().collect();
    let cut = cut[..cut.len() - 1].join("\n") + "\n";
    let cases: [(Option<&str>, Option<&str>, Option<TrailFault>); 6] = [
        (Some(&lines), Some(&whole), None),
        (None, Some(&whole), Some(TrailFault::CheckpointsMissing)),
        (None, None, Some(TrailFault::CheckpointsMissing)),
        (Some(&lines), None, Some(TrailFault::CountMissing)),
        (Some(&cut), Some(&whole), Some(TrailFault::FilesDisagree)),
        (Some(&lines), Some("{}"), Some(TrailFault::CountAltered)),
    ];
    for (lines, count, fault) in cases {
        for (path, text) in [(&checkpoints, lines), (&counted, count)] {
            _ = fs::remove_file(path);
            if let Some(text) = text {
                fs::write(path, text).unwrap();
            }
        }
        assert_eq!(sealer.fault().await.unwrap(), fault);
    }
}

#[tokio::test]
async fn aud_03_a_site_from_before_the_count_begins_it_with_its_next_batch() {
    let test = sealed_trail(1).await;
    let sealer = sealer(&test);
    // As such a site is: signed batches, and neither a count nor an event that begins it.
    fs::remove_file(test.folder.join("count")).unwrap();
    test.execute_as_owner(
        "begin; set local session_replication_role = replica;
         delete from audit.event where kind = 'trail_count_begun'; commit",
    )
    .await;
    assert_eq!(test.count("audit.event where kind = 'trail_count_begun'").await, 0);

    test.store.append_events(vec![event(2)]).await.unwrap();
    assert!(sealer.seal_all(SEAL_TIME_MAX).await.unwrap());

    assert_eq!(count(&test).batches, newest_batch(&test).await);
    assert_eq!(test.count("audit.event where kind = 'trail_count_begun'").await, 1);
}

#[tokio::test]
async fn aud_03_a_person_accepts_a_loss_on_record_and_no_number_is_used_again() {
    let test = sealed_trail(3).await;
    let sealer = sealer(&test);
    let before = count(&test);
    remove_newest(&test, true).await;
    let holder = test.holder("Doe^Jane", 7).await;

    let loss = sealer.accept_loss(&holder, "the backup of Sunday was restored").await.unwrap();
    assert_eq!(loss.unwrap().fault, TrailFault::BatchesMissing);
    assert!(sealer.seal_all(SEAL_TIME_MAX).await.unwrap());

    let next = format!("audit.batch where number = {}", before.batches + 1);
    assert_eq!(test.count(&next).await, 1);
    assert_eq!(test.count(&format!("audit.batch where number = {}", before.batches)).await, 0);
    let first = format!("select first_seq from audit.batch where number = {}", before.batches + 1);
    assert_eq!(test.value(&first).await, (before.events + 1).to_string());
    let accepted =
        test.rows("select body from audit.event where kind = 'trail_loss_accepted'").await;
    assert_eq!(accepted[0]["body"]["actor"]["id"], "Doe^Jane");
    assert_eq!(accepted[0]["body"]["detail"]["issued_by"], "it");

    let mut export = Vec::new();
    sealer.write_all(&mut export).await.unwrap();
    let verify = |count| file::verify(BufReader::new(&*export), &test.store.trail_key(), count);
    assert_eq!(verify(None).unwrap().losses, 1);
    assert_eq!(verify(Some(&before)).unwrap().losses, 1);
    assert_eq!(sealer.accept_loss(&holder, "again").await.unwrap(), None);
}

#[tokio::test]
async fn aud_03_a_lost_count_is_accepted_and_begun_again() {
    let test = sealed_trail(2).await;
    let sealer = sealer(&test);
    fs::remove_file(test.folder.join("count")).unwrap();
    let holder = test.holder("Doe^Jane", 7).await;
    assert!(sealer.seal().await.is_err());

    sealer.accept_loss(&holder, "a new disk for the keys").await.unwrap().unwrap();
    assert!(sealer.seal_all(SEAL_TIME_MAX).await.unwrap());

    assert_eq!(sealer.fault().await.unwrap(), None);
    let mut export = Vec::new();
    sealer.write_all(&mut export).await.unwrap();
    let key = test.store.trail_key();
    assert_eq!(file::verify(BufReader::new(&*export), &key, None).unwrap().losses, 0);
}

/// Attempts to seal, and tells people what came of it.
async fn attempts(test: &TestStore, refusals: &mut Refusals, count: usize) {
    let sealer = sealer(test);
    for _ in 0..count {
        refusals.tell(&test.store, &sealer.attempt().await).await;
    }
}

#[tokio::test]
async fn aud_03_a_person_is_asked_once_while_nothing_is_sealed_and_no_longer_when_it_goes_on() {
    let test = sealed_trail(2).await;
    let open = "task where decided_at is null and kind = 'sealing_refused'";
    let checkpoints = test.folder.join("checkpoints");
    let signed = fs::read(&checkpoints).unwrap();
    let mut refusals = Refusals::default();
    attempts(&test, &mut refusals, 2).await;
    assert_eq!(test.count("task").await, 0);

    fs::remove_file(&checkpoints).unwrap();
    attempts(&test, &mut refusals, 3).await;
    assert_eq!((test.count("task").await, test.count(open).await), (1, 1));
    // The next start finds the task.
    attempts(&test, &mut Refusals::default(), 2).await;
    assert_eq!(test.count("task").await, 1);
    // Another reason has a task of its own.
    fs::write(&checkpoints, &signed).unwrap();
    fs::write(test.folder.join("count"), "{}").unwrap();
    attempts(&test, &mut refusals, 2).await;
    assert_eq!((test.count("task").await, test.count(open).await), (2, 1));
    let reason = test.value(&format!("select reason from {open}")).await;
    assert!(reason.contains("was not signed by this site"), "{reason}");

    let holder = test.holder("Doe^Jane", 7).await;
    sealer(&test).accept_loss(&holder, "the disk broke").await.unwrap().unwrap();
    // Also after a start, which knows nothing of what was told before.
    attempts(&test, &mut Refusals::default(), 2).await;
    assert_eq!((test.count("task").await, test.count(open).await), (2, 0));
    let decided_by = test.value("select distinct decided_by from task").await;
    assert_eq!(decided_by, "isocenter");
}
