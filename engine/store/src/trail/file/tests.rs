//! Tests of the exported trail: what verifies, and which tampering is found.

use ed25519_dalek::{Signer as _, SigningKey};

use super::*;
use crate::trail::signed::signed_bytes;

fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn sign(value: &impl Serialize) -> String {
    hex::encode(key().sign(&signed_bytes(value).unwrap()).to_bytes())
}

/// An export of `batches` batches of three events.
fn export(batches: u64) -> String {
    let numbers: Vec<u64> = (1..=batches).collect();
    export_of(&numbers, &json!({"kind": "engine_started"}))
}

/// An export of these batches, of three events each with this body.
fn export_of(batches: &[u64], body: &Value) -> String {
    let mut out = Vec::new();
    let mut previous = GENESIS;
    write_head(&mut out).unwrap();
    for batch in batches.iter().copied() {
        let mut events = Vec::new();
        let mut hashes = Vec::new();
        for seq in batch * 3 - 2..=batch * 3 {
            let at = "2026-01-01T00:00:00.000000Z".to_owned();
            let body = body.clone();
            let mut event =
                SealedEvent { seq, id: format!("id-{seq}"), at, body, hash: String::new() };
            previous = chain_hash(&previous, &event.hashed()).unwrap();
            event.hash = hex::encode(previous);
            hashes.push(previous);
            events.push(event);
        }
        let mut sealed = SealedBatch {
            batch,
            first_seq: batch * 3 - 2,
            last_seq: batch * 3,
            root: hex::encode(merkle_root(&hashes)),
            last_hash: hex::encode(previous),
            sealed_at: "2026-01-01T00:00:01.000000Z".to_owned(),
            signature: String::new(),
        };
        sealed.signature = sign(&sealed);
        write_batch(&mut out, events, sealed).unwrap();
    }
    let last = batches.last().copied().unwrap_or_default();
    let mut end = End {
        end: last * 3,
        batches: last,
        last_hash: hex::encode(previous),
        exported_at: "2026-01-02T00:00:00Z".to_owned(),
        signature: String::new(),
    };
    end.signature = sign(&end);
    write_end(&mut out, end).unwrap();
    String::from_utf8(out).unwrap()
}

/// What was counted when `batch` was the newest, whose last event had this hash.
fn counted(batch: u64, last_hash: &str) -> TrailCount {
    let mut count = TrailCount {
        batches: batch,
        events: batch * 3,
        kept_batch: batch,
        last_hash: last_hash.to_owned(),
        begun: uuid::Uuid::nil(),
        at: "2026-01-01T00:00:01.000000Z".to_owned(),
        signature: String::new(),
    };
    count.signature = sign(&count);
    count
}

/// The hash of the last event of `batch` in an export.
fn last_hash(export: &str, batch: u64) -> String {
    let batches = export.lines().filter_map(|it| serde_json::from_str::<SealedBatch>(it).ok());
    batches.filter(|it| it.batch == batch).map(|it| it.last_hash).next().unwrap()
}

fn check(text: &str) -> Result<Intact, Broken> {
    verify(text.as_bytes(), &key().verifying_key(), None)
}

/// The vectors of `standards.md` §9.3.
#[test]
fn aud_01_chain_and_tree_have_the_golden_values() {
    let first = chain_hash(&GENESIS, &json!({"seq": 1, "type": "engine.start"})).unwrap();
    let event = json!({"seq": 2, "sop": "1.2.3", "type": "dicom.received"});
    let second = chain_hash(&first, &event).unwrap();

    let golden = "3a7964a821c19e86dbca4b3c9b4a769b438bdcde403ff5a28c0da9d937a35819";
    assert_eq!(hex::encode(first), golden);
    let golden = "7df2b71ddcbfa4197511c937a8c24bd24c4172f1697509d4383569172cf53249";
    assert_eq!(hex::encode(second), golden);
    assert!(hex::encode(merkle_root(&[])).starts_with("e3b0c442"));
    assert!(hex::encode(leaf_hash(b"")).starts_with("6e340b9c"));
    let node = node_hash(&leaf_hash(b"a"), &leaf_hash(b"b"));
    let golden = "b137985ff484fb600db93107c77b0365c80d78f5b429ded0fd97361d077999eb";
    assert_eq!(hex::encode(node), golden);
}

#[test]
fn aud_03_an_untouched_export_is_intact() {
    assert_eq!(check(&export(4)).unwrap().events, 12);
    assert_eq!(check(&export(0)).unwrap().events, 0);
}

#[test]
fn aud_03_a_flipped_byte_is_found_wherever_it_is() {
    let text = export(2);
    for at in (0..text.len()).filter(|at| text.as_bytes()[*at] != b'\n') {
        let mut bytes = text.clone().into_bytes();
        bytes[at] ^= 1;
        let outcome = verify(bytes.as_slice(), &key().verifying_key(), None);
        let is_head = at < text.find('\n').unwrap();
        assert!(outcome.is_err() || is_head, "byte {at}");
    }
}

#[test]
fn aud_03_a_deleted_row_is_found_where_it_was() {
    let text = export(3);
    let lines: Vec<&str> = text.lines().collect();
    for removed in 0..lines.len() {
        let rest = lines.iter().enumerate().filter(|(at, _)| *at != removed);
        let cut: String = rest.flat_map(|(_, line)| [*line, "\n"]).collect();
        assert!(check(&cut).is_err(), "line {removed}");
    }
    let without: String = text
        .lines()
        .filter(|it| !it.contains("\"seq\":5"))
        .fold(String::new(), |all, line| all + line + "\n");
    assert!(matches!(check(&without), Err(Broken::Event { seq: 5, .. })));
}

#[test]
fn aud_03_swapped_rows_are_found() {
    let text = export(2);
    let mut lines: Vec<&str> = text.lines().collect();
    lines.swap(2, 3);
    assert!(matches!(check(&(lines.join("\n") + "\n")), Err(Broken::Event { seq: 2, .. })));
}

#[test]
fn aud_03_a_cut_tail_is_found_at_every_line() {
    let text = export(3);
    let lines: Vec<&str> = text.lines().collect();
    for length in 0..lines.len() {
        let cut: String = lines[..length].iter().flat_map(|line| [*line, "\n"]).collect();
        assert!(check(&cut).is_err(), "{length} lines");
    }
    // The end of the whole file behind a part of it.
    let part: String = [&lines[..5], &lines[lines.len() - 1..]].concat().join("\n");
    assert!(matches!(check(&(part + "\n")), Err(Broken::Cut { .. })));
}

#[test]
fn aud_03_a_chain_made_anew_without_the_key_is_found() {
    let other = SigningKey::from_bytes(&[8; 32]).verifying_key();
    let outcome = verify(export(2).as_bytes(), &other, None);
    assert!(matches!(outcome, Err(Broken::Batch { batch: 1, .. })));
}

#[test]
fn aud_03_batches_that_are_left_out_need_a_person_who_accepted_it() {
    let body = json!({"kind": "engine_started"});
    let outcome = check(&export_of(&[1, 2, 5], &body));
    assert!(matches!(outcome, Err(Broken::Batch { batch: 3, .. })), "{outcome:?}");

    let gap = |kept: u64| {
        json!({"kind": "trail_loss_accepted", "detail": {
            "kept_batch": kept, "kept_events": kept * 3,
            "counted_batches": 4, "counted_events": 12,
        }})
    };
    let intact = check(&export_of(&[1, 2, 5], &gap(2))).unwrap();
    assert_eq!((intact.events, intact.batches, intact.losses), (9, 3, 1));
    // The acceptance of one loss covers no other.
    assert!(check(&export_of(&[1, 2, 5], &gap(1))).is_err());
    assert!(check(&export_of(&[1, 5], &gap(2))).is_err());
}

#[test]
fn aud_03_an_export_goes_on_from_what_was_counted_before() {
    let text = export(3);
    let check = |count: &TrailCount| verify(text.as_bytes(), &key().verifying_key(), Some(count));
    assert!(check(&counted(2, &last_hash(&text, 2))).is_ok());
    let other = check(&counted(2, &last_hash(&text, 1)));
    assert!(matches!(other, Err(Broken::Batch { batch: 2, .. })), "{other:?}");
    let longer = check(&counted(4, &last_hash(&text, 3)));
    assert!(matches!(longer, Err(Broken::Cut { .. })), "{longer:?}");
}
