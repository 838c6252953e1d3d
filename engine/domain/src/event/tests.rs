//! The catalogue is complete, its names are stable, and `EVENTS.md` is what it declares.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use serde_json::json;

use super::*;
use crate::QualityFlag;

/// How the documentation opens.
const OPENING: &str = "\
# Events

Every kind of event that the trail can hold, generated from `engine/domain/src/event`. Kinds and
field names are stored for as long as the trail is, and do not change. The action is that of PS3.15,
A.5: C created, R read, U updated, D deleted, E executed. A field without a value is left out.

To write the file anew after a change: `EVENTS_WRITE=1 cargo test -p domain events_md`.
";

fn documentation() -> String {
    let mut text = OPENING.to_owned();
    let mut aggregate = "";
    for kind in EventKind::ALL {
        let event = kind.description();
        if event.aggregate != aggregate {
            aggregate = event.aggregate;
            let heading = format!("\n## {aggregate}\n\n| event | meaning | action | fields |\n");
            text.push_str(&heading);
            text.push_str("|---|---|---|---|\n");
        }
        let fields: Vec<String> = event.fields.iter().map(|name| format!("`{name}`")).collect();
        let (meaning, action) = (event.meaning.trim(), event.action);
        writeln!(text, "| `{}` | {meaning} | {action:?} | {} |", kind.name(), fields.join(", "))
            .unwrap();
    }
    text
}

#[test]
fn events_md_lists_what_the_catalogue_declares() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("EVENTS.md");
    if std::env::var_os("EVENTS_WRITE").is_some() {
        std::fs::write(&file, documentation()).unwrap();
    }

    let written = std::fs::read_to_string(&file).unwrap();

    assert_eq!(written, documentation(), "EVENTS.md differs: write it anew (see its opening)");
}

#[test]
fn every_name_is_a_word_of_its_own_and_parses_back() {
    let names: BTreeSet<&str> = EventKind::ALL.iter().map(|kind| kind.name()).collect();

    assert_eq!(names.len(), EventKind::ALL.len());
    for kind in EventKind::ALL {
        assert_eq!(EventKind::parse(kind.name()), Some(*kind));
        assert!(kind.name().bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'));
    }
    assert_eq!(EventKind::parse("instance_lost"), None);
}

#[test]
fn an_event_is_written_as_the_trail_has_always_held_it() {
    let facts = InstanceFacts {
        sha256: "ab".to_owned(),
        bytes: 10,
        sop_class: "1.2".to_owned(),
        transfer_syntax: "1.2.840.10008.1.2.1".to_owned(),
        called_ae: "ISOCENTER".to_owned(),
        flags: vec![QualityFlag::CharsetUnknown],
    };
    let subject = Subject { study: Some("1.2.3".to_owned()), ..Subject::default() };

    let event = Event::new(subject, InstanceReceived(facts)).by(Actor::peer("CT", "10.0.0.1"));

    assert_eq!(
        serde_json::to_value(event).unwrap(),
        json!({
            "kind": "instance_received", "action": "C", "outcome": 0,
            "actor": {"kind": "peer", "id": "CT", "address": "10.0.0.1"},
            "subject": {
                "patient": null, "study": "1.2.3", "accession": null, "instance": null,
                "message": null, "run": null, "node": null, "destination": null
            },
            "detail": {
                "sha256": "ab", "bytes": 10, "sop_class": "1.2", "called_ae": "ISOCENTER",
                "transfer_syntax": "1.2.840.10008.1.2.1", "flags": ["charset_unknown"]
            }
        })
    );
}

#[test]
fn an_event_without_fields_has_an_empty_detail() {
    assert_eq!(Event::new(Subject::default(), EngineStopped {}).detail, json!({}));
}

#[test]
fn every_event_names_its_fields() {
    for kind in EventKind::ALL {
        let event = kind.description();
        assert!(event.meaning.trim().ends_with('.'), "{} has no meaning", kind.name());
        assert!(event.fields.iter().all(|name| !name.is_empty()));
    }
}
