//! What integrators get wrong first: each is told what to do about it, before anything runs.

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

/// What `isocenter check` says of a site and its workflow.
#[track_caller]
fn check(site: &str, workflow: &str, told: &[&str]) {
    let scratch = Scratch::default();
    let config = scratch.write("isocenter.yaml", site);
    scratch.write("workflows/bone.yaml", workflow);
    let mut command = Command::new(program());
    command.args(["check", "--allow-unsigned", "--config"]).arg(config);
    command.arg("--data").arg(scratch.path("data"));
    command.arg("--workflows").arg(scratch.path("workflows")).arg("--plugins").arg(target());
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.success(), told.is_empty(), "{said}");
    assert!(told.iter().all(|it| said.contains(it)), "{told:?}: {said}");
}

#[test]
fn the_likeliest_mistakes_are_told_with_what_to_do() {
    check(SITE, WORKFLOW, &[]);
    let site = |from: &str, to: &str, told: &[&str]| {
        let wrong = SITE.replace(from, to);
        assert_ne!(wrong, SITE);
        check(&wrong, WORKFLOW, told);
    };
    let workflow = |from: &str, to: &str, told: &[&str]| {
        let wrong = WORKFLOW.replace(from, to);
        assert_ne!(wrong, WORKFLOW);
        check(SITE, &wrong, told);
    };
    // 1. A key that does not exist.
    site("destinations:", "destination:", &["unknown field `destination`", "destinations"]);
    // 2. Every interface, and 3. nobody named who may come.
    let listen = "dicom: { listen: \"0.0.0.0:104\", peers: [] }\ndestinations:";
    site("destinations:", listen, &["dicom.listen", "name the one that is meant"]);
    let listen = "hl7: { listen: \"10.0.0.1:2575\", networks: [] }\ndestinations:";
    site("destinations:", listen, &["hl7", "needs the networks that may connect"]);
    // 4. No port.
    site("127.0.0.1:104", "pacs.example", &["`pacs`", "HOST:PORT"]);
    // 5. A PACS that is to commit and may not call back.
    site("ae_title: PACS", "ae_title: PACS, commitment: true", &["name it under `dicom.peers`"]);
    // 6. A destination, 7. a plugin, 8. a node that does not exist.
    workflow("to: pacs", "to: pasc", &["`pasc`", "destinations of this site: ehr, pacs"]);
    workflow("plugin: seg", "plugin: zeg", &["`zegmentation`", "loaded:", "segmentation"]);
    workflow("after: [bone]", "after: [bones]", &["`bones`", "check the spelling under `after`"]);
    // 9. What a destination does not take, 10. a setting that a plugin does not know.
    workflow(
        "what: [sr]",
        "what: [oru]",
        &["does not take `oru`", "can take images, seg, sr, narrative"],
    );
    workflow("[bone] } }", "[spleen] } }", &["`spleen`", "use `method: network`"]);
    // 11. A time without a unit, 12. a field that conditions do not have.
    workflow("quiet: 2s", "quiet: 2", &["`2` is not a duration such as `20s`"]);
    workflow("study.modalities", "study.modality", &["modality", "workflows/README.md"]);
}

#[test]
fn two_files_with_one_name_and_a_plugin_that_nobody_signed_are_told() {
    let scratch = Scratch::default();
    let (data, folder) = (scratch.path("data"), scratch.path("workflows"));
    for file in ["a", "b"] {
        scratch.write(&format!("workflows/{file}.yaml"), &WORKFLOW.replace("pacs", "out"));
    }
    let said = |more: &[&str]| {
        let mut command = Command::new(program());
        command.arg("check").arg("--data").arg(&data).arg("--workflows").arg(&folder);
        let output = command.arg("--plugins").arg(target()).args(more).output().unwrap();
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let twice = said(&["--allow-unsigned"]);
    assert!(twice.contains("give one another name"), "{twice}");
    std::fs::remove_file(folder.join("b.yaml")).unwrap();
    std::fs::create_dir_all(data.join("keys")).unwrap();
    let unsigned = said(&[]);
    assert!(unsigned.contains("isocenter plugin sign"), "{unsigned}");
}

/// DIN-02, DIN-13: the likeliest of all is a name: what the modality is called, or calls us.
#[tokio::test(flavor = "multi_thread")]
async fn a_study_that_was_never_let_in_can_be_asked_for() {
    let hospital = Hospital::open().await;
    let mut wrong = remote(&hospital.engine.dicom, "CT1");
    wrong.called = "ISOCENTRE".parse().unwrap();
    let files = Phantom { slices: 1, ..Phantom::default() }.files();
    let files: Vec<&[u8]> = files.iter().map(Vec::as_slice).collect();
    assert!(wrong.store(&files).await.is_err());
    let event = eventually("the refusal on record", async || {
        let events = hospital.ask(&["audit", "show", "--user", "CT1"]);
        events.as_array().unwrap().iter().find(|it| it["kind"] == "association_refused").cloned()
    })
    .await;
    let text = event.to_string();
    assert!(text.contains("ISOCENTRE") && text.contains("called"), "{text}");
}
