//! Frequent mistakes of integrators, each reported before anything runs, with what to do.

use std::process::Command;

use simulators::phantom::Phantom;
use system_tests::{Hospital, Scratch, eventually, program, remote, target};

const SITE: &str = "destinations:
  pacs: { dicom: { address: \"127.0.0.1:104\", ae_title: PACS } }
  ehr: { mllp: { address: \"127.0.0.1:2575\" } }
";

const WORKFLOW: &str = "workflow: bone
on: { study: { when: '\"CT\" in study.modalities', complete: { quiet: 2s } } }
nodes: { bone: { plugin: segmentation, with: { method: threshold, targets: [bone] } } }
deliver: [{ to: pacs, what: [sr], after: [bone] }]
";

/// Asserts that `isocenter check` reports these texts about a site and its workflow, or succeeds if
/// there are none.
#[track_caller]
fn check(site: &str, workflow: &str, expected: &[&str]) {
    let scratch = Scratch::default();
    let config = scratch.write("isocenter.yaml", site);
    scratch.write("workflows/bone.yaml", workflow);
    let mut command = Command::new(program());
    command.args(["check", "--allow-unsigned", "--config"]).arg(config);
    command.arg("--data").arg(scratch.path("data"));
    command.arg("--workflows").arg(scratch.path("workflows")).arg("--plugins").arg(target());
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.success(), expected.is_empty(), "{text}");
    assert!(expected.iter().all(|it| text.contains(it)), "{expected:?}: {text}");
}

#[test]
fn frequent_mistakes_are_reported_with_what_to_do() {
    check(SITE, WORKFLOW, &[]);
    let site = |from: &str, to: &str, expected: &[&str]| {
        let wrong = SITE.replace(from, to);
        assert_ne!(wrong, SITE);
        check(&wrong, WORKFLOW, expected);
    };
    let workflow = |from: &str, to: &str, expected: &[&str]| {
        let wrong = WORKFLOW.replace(from, to);
        assert_ne!(wrong, WORKFLOW);
        check(SITE, &wrong, expected);
    };
    // 1. A key that does not exist.
    site("destinations:", "destination:", &["unknown field `destination`", "destinations"]);
    // 2. A listener on every interface, and 3. one without networks that may connect.
    let listen = "dicom: { listen: \"0.0.0.0:104\", peers: [] }\ndestinations:";
    site("destinations:", listen, &["dicom.listen", "name the one that is meant"]);
    let listen = "hl7: { listen: \"10.0.0.1:2575\", networks: [] }\ndestinations:";
    site("destinations:", listen, &["hl7", "needs the networks that may connect"]);
    // 4. An address without a port.
    site("127.0.0.1:104", "pacs.example", &["`pacs`", "HOST:PORT"]);
    // 5. Commitment from a PACS that may not open associations to the engine.
    site("ae_title: PACS", "ae_title: PACS, commitment: true", &["name it under `dicom.peers`"]);
    // 6. An unknown destination, 7. an unknown plugin, 8. an unknown node.
    workflow("to: pacs", "to: pasc", &["`pasc`", "destinations of this site: ehr, pacs"]);
    workflow("plugin: seg", "plugin: zeg", &["`zegmentation`", "loaded:", "segmentation"]);
    workflow("after: [bone]", "after: [bones]", &["`bones`", "check the spelling under `after`"]);
    // 9. An output that a destination cannot receive, 10. an invalid setting of a plugin.
    workflow(
        "what: [sr]",
        "what: [oru]",
        &["does not take `oru`", "can take images, seg, sr, narrative"],
    );
    workflow("[bone] } }", "[spleen] } }", &["`spleen`", "use `method: network`"]);
    // 11. A duration without a unit, 12. an unknown field in a condition.
    workflow("quiet: 2s", "quiet: 2", &["`2` is not a duration such as `20s`"]);
    workflow("study.modalities", "study.modality", &["modality", "workflows/README.md"]);
}

#[test]
fn two_files_with_one_name_and_an_unsigned_plugin_are_reported() {
    let scratch = Scratch::default();
    let data = scratch.path("data");
    let folder = scratch.path("workflows");
    for file in ["a", "b"] {
        scratch.write(&format!("workflows/{file}.yaml"), &WORKFLOW.replace("pacs", "out"));
    }
    let error = |more: &[&str]| {
        let mut command = Command::new(program());
        command.arg("check").arg("--data").arg(&data).arg("--workflows").arg(&folder);
        let output = command.arg("--plugins").arg(target()).args(more).output().unwrap();
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let twice = error(&["--allow-unsigned"]);
    assert!(twice.contains("give one another name"), "{twice}");
    std::fs::remove_file(folder.join("b.yaml")).unwrap();
    std::fs::create_dir_all(data.join("keys")).unwrap();
    let unsigned = error(&[]);
    assert!(unsigned.contains("isocenter plugin sign"), "{unsigned}");
}

/// DIN-02, DIN-13: the most frequent mistake is a wrong AE title, called or calling. The trail
/// names the refused association.
#[tokio::test(flavor = "multi_thread")]
async fn the_reason_why_a_study_was_refused_can_be_queried() {
    let hospital = Hospital::open().await;
    let mut wrong = remote(&hospital.engine.dicom, "CT1");
    wrong.called = "ISOCENTRE".parse().unwrap();
    let files = Phantom { slices: 1, ..Phantom::default() }.files();
    let files: Vec<&[u8]> = files.iter().map(Vec::as_slice).collect();
    assert!(wrong.store(&files).await.is_err());
    let event = eventually("the refusal to be recorded", async || {
        let events = hospital.ask(&["audit", "show", "--user", "CT1"]);
        events.as_array().unwrap().iter().find(|it| it["kind"] == "association_refused").cloned()
    })
    .await;
    let text = event.to_string();
    assert!(text.contains("ISOCENTRE") && text.contains("called"), "{text}");
}
