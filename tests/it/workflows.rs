//! Workflows from the view of an integrator: tested, activated, changed and rolled back while the
//! engine runs.

use serde_json::Value;
use simulators::phantom::Phantom;
use system_tests::{
    Engine, Hospital, Scratch, SiteOptions, eventually, kill_database, program, remote, study,
    target,
};

const FIRST: &str = "
workflow: counting
on: { study: { complete: { quiet: 300ms } } }
nodes:
  bone: { plugin: segmentation, with: { method: threshold, targets: [bone] } }
deliver: [{ to: pacs, what: [seg, sr], after: [bone] }]
tests:
  - given: { study: { modalities: [CT] } }
    expect: { starts: true, path: [bone], delivered: [pacs], end: completed }
";

/// Standard output and standard error as one text.
fn output_text(output: &std::process::Output) -> String {
    let both = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8_lossy(&both).into_owned()
}

/// The runs of a study, once all have ended.
async fn runs_of(hospital: &Hospital, phantom: &Phantom, count: usize) -> Vec<Value> {
    let uid = phantom.study_uid();
    eventually("the runs of the study", async || {
        let why = hospital.ask(&["why", &uid]);
        let runs = why["studies"][0]["runs"].as_array()?.clone();
        let have_ended = runs.iter().all(|it| it["run"]["status"] != "running");
        (runs.len() >= count && have_ended).then_some(runs)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_version_is_tried_and_put_to_work_and_taken_back_without_a_restart() {
    let files = [("counting", FIRST)];
    let hospital =
        Hospital::with(SiteOptions { workflows: &files, ..SiteOptions::default() }).await;
    hospital.send(&study("one")).await;
    let first = runs_of(&hospital, &study("one"), 1).await;

    // A version whose own tests fail is not activated.
    let wrong = FIRST.replace("path: [bone]", "path: [skull]");
    let path = hospital.scratch.write("next.yaml", &wrong);
    let refused = hospital.command(&["workflow", "activate", path.to_str().unwrap()]);
    let text = output_text(&refused);
    assert!(!refused.status.success() && text.contains("expected [skull], got [bone]"));

    // A version that passes its tests is activated, and the running engine uses it.
    let second = FIRST
        .replace("after: [bone] }]", "after: [bone] }]\nsla: 1h")
        .replace("targets: [bone]", "targets: [lung]");
    let path = hospital.scratch.write("next.yaml", &second);
    let done = hospital.command(&["workflow", "activate", path.to_str().unwrap()]);
    let text = output_text(&done);
    assert!(done.status.success() && text.contains("2 of 3 branches tried"), "{text}");
    assert!(text.contains("never: bone fails"), "{text}");
    recorded(&hospital, "workflows_reloaded", 1).await;
    hospital.send(&study("two")).await;
    let runs = runs_of(&hospital, &study("two"), 1).await;
    assert_eq!(segment(&runs), "right lung");
    assert_eq!(segment(&first), "bone");

    // Rolled back to the first version, then deactivated.
    assert!(hospital.command(&["workflow", "rollback", "counting"]).status.success());
    recorded(&hospital, "workflows_reloaded", 2).await;
    hospital.send(&study("three")).await;
    assert_eq!(segment(&runs_of(&hospital, &study("three"), 1).await), "bone");
    assert!(hospital.command(&["workflow", "deactivate", "counting"]).status.success());
    recorded(&hospital, "workflows_reloaded", 3).await;
    hospital.send(&study("four")).await;
    let history = hospital.ask(&["workflow", "list"]);
    assert_eq!(history.as_array().unwrap().len(), 4, "{history}");
    assert_eq!((&history[0]["digest"], &history[0]["is_current"]), (&Value::Null, &true.into()));
    // A deactivated workflow stays so after a restart.
    let mut hospital = hospital;
    hospital.engine.terminate();
    hospital.restart();
    hospital.send(&study("five")).await;
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    assert_eq!(hospital.ask(&["runs"]).as_array().unwrap().len(), 3);
}

/// Without a site file, workflows that are activated before and after the start are used.
#[tokio::test(flavor = "multi_thread")]
async fn a_trial_takes_up_what_was_activated_and_writes_into_its_folder() {
    let scratch = Scratch::default();
    let data = scratch.path("data");
    let data = data.to_str().unwrap();
    let out = scratch.path("out");
    let out = out.to_str().unwrap();
    let plugins = target();
    let arguments = ["--data", data, "--folder", out, "--plugins", plugins.to_str().unwrap()];
    let activate = |name: &str| {
        let text = FIRST.replace("counting", name).replace("pacs", name);
        let path = scratch.write(&format!("{name}.yaml"), &text);
        let mut command = std::process::Command::new(program());
        command.args(["workflow", "activate", "--allow-unsigned"]).arg(path).args(arguments);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", output_text(&output));
    };
    activate("before");
    let more = ["--trust-loopback", "--dicom", "127.0.0.1:0"];
    let mut engine = Engine::start(&[arguments.as_slice(), &more].concat(), &scratch.path("log"));
    activate("while");

    // The engine loads the second workflow within seconds, so new studies are sent until then.
    let mut seeds = 0..;
    let reports = eventually("reports of both", async || {
        let files = study(&format!("{:?}", seeds.next())).files();
        let files: Vec<&[u8]> = files.iter().map(Vec::as_slice).collect();
        remote(&engine.dicom, "CT1").store(&files).await.ok()?;
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        let mut runs = std::process::Command::new(program());
        let output = runs.args(["delivery", "list", "--json", "--data", data]).output().unwrap();
        let all: Vec<Value> = serde_json::from_slice(&output.stdout).ok()?;
        let is_delivered =
            |to: &str| all.iter().any(|it| it["destination"] == to && it["state"] == "delivered");
        (is_delivered("before") && is_delivered("while")).then_some(all)
    })
    .await;
    engine.kill();
    kill_database(&scratch.path("data"));
    assert!(std::fs::read_dir(out).unwrap().count() > 0, "{reports:?}");
}

/// The label of the first segment of the first run.
fn segment(runs: &[Value]) -> String {
    let outputs = &runs[0]["outputs"]["bone"];
    outputs["segmentations"][0]["segments"][0]["label"].as_str().unwrap_or_default().to_owned()
}

/// Waits until the trail has `count` events of a kind.
async fn recorded(hospital: &Hospital, kind: &str, count: usize) {
    eventually(kind, async || {
        let events = hospital.ask(&["audit", "show", "--limit", "1000"]);
        let found = events.as_array()?.iter().filter(|it| it["kind"] == kind).count();
        (found >= count).then_some(())
    })
    .await;
}

/// A workflow with joins, branches, fan-out and a handled failure.
const SHAPES: &str = "
workflow: shapes
on: { study: { complete: { quiet: 300ms } } }
nodes:
  each: { plugin: segmentation, with: { method: threshold, targets: [bone] }, for_each: series }
  broken: { plugin: faulty, with: { fault: panic }, retry: { attempts: 1 } }
  instead: { plugin: segmentation, with: { method: threshold, targets: [body] }, on_failure_of: [broken] }
  either: { plugin: segmentation, with: { method: threshold, targets: [lung] }, after: [each, broken], join: any, when: 'nodes.each.state == \"done\"' }
  last: { plugin: segmentation, with: { method: threshold, targets: [bone] }, finally: true }
deliver: [{ to: pacs, what: [seg, sr], after: [each, instead, either] }]
tests:
  - given: { series: [{ modality: CT }, { modality: CT }], plugins: { broken: { fail: x } } }
    expect: { path: [each.1, each.2, instead, either, last], delivered: [pacs], end: completed }
  - given: { series: [{ modality: CT }] }
    expect: { path: [each.1, broken, either, last], end: completed }
";

#[tokio::test(flavor = "multi_thread")]
async fn branches_joins_and_fan_out_do_their_work_and_the_failure_was_made_good() {
    let files = [("shapes", SHAPES)];
    let hospital =
        Hospital::with(SiteOptions { workflows: &files, ..SiteOptions::default() }).await;
    hospital.send(&study("one")).await;
    let runs = runs_of(&hospital, &study("one"), 1).await;

    let nodes = runs[0]["nodes"].as_array().unwrap();
    let state = |name: &str| nodes.iter().find(|it| it["node"] == name).unwrap()["state"].clone();
    for (name, expected) in [
        ("each.1", "done"),
        ("broken", "failed"),
        ("instead", "done"),
        ("either", "done"),
        ("last", "done"),
    ] {
        assert_eq!(state(name), expected, "{name}: {nodes:?}");
    }
    assert_eq!(runs[0]["run"]["status"], "completed");
    eventually("the report", async || (!hospital.pacs.received().is_empty()).then_some(())).await;
}

/// DIN-52: late instances start another run, whose report amends or replaces the first one.
#[tokio::test(flavor = "multi_thread")]
async fn din_52_late_instances_amend_or_replace_as_the_workflow_says() {
    let ehr = "deliver: [{ to: ehr, what: [oru], after: [bone] }]";
    let with_late = |name: &str, late: &str| {
        FIRST
            .replace("workflow: counting", &format!("workflow: {name}"))
            .replace("study: { complete", &format!("study: {{ late: {late}, complete"))
            .replace("deliver: [{ to: pacs, what: [seg, sr], after: [bone] }]", ehr)
            .replace("[pacs]", "[ehr]")
    };
    let amend = with_late("amending", "amend");
    let replace = with_late("replacing", "replace");
    let files = [("amending", amend.as_str()), ("replacing", replace.as_str())];
    let hospital =
        Hospital::with(SiteOptions { workflows: &files, ..SiteOptions::default() }).await;
    let whole = Phantom { slices: 4, ..study("late") };
    let files = whole.files();
    let files: Vec<&[u8]> = files.iter().map(Vec::as_slice).collect();
    hospital.modality().store(&files[..3]).await.unwrap();
    runs_of(&hospital, &whole, 2).await;
    hospital.modality().store(&files[3..]).await.unwrap();
    let runs = runs_of(&hospital, &whole, 4).await;
    hospital.ended_runs(4).await;

    let by_run = |run: &Value| {
        let id = run["run"]["id"].as_str().unwrap();
        let events = hospital.ask(&["audit", "show", "--result", id]);
        let sent = events.as_array().unwrap().iter().find(|it| it["kind"] == "report_composed");
        let id = sent.unwrap()["body"]["detail"]["outputs"][0]["id"].as_str().unwrap().to_owned();
        hospital.ehr.received().into_iter().find(|it| it.contains(&id)).unwrap()
    };
    let obr = |message: &str, field: usize| {
        let line = message.split('\r').find(|it| it.starts_with("OBR")).unwrap();
        line.split('|').nth(field).unwrap().to_owned()
    };
    for (name, is_same_report) in [("amending", false), ("replacing", true)] {
        let of_name: Vec<&Value> = runs.iter().filter(|it| it["run"]["workflow"] == name).collect();
        let [first, second] = of_name.as_slice() else { panic!("{name}: {of_name:?}") };
        let first = by_run(first);
        let second = by_run(second);
        assert_eq!(obr(&first, 3) == obr(&second, 3), is_same_report, "{name}");
        assert_eq!((obr(&first, 25), obr(&second, 25)), ("R".into(), "R".into()), "{name}");
    }
}

/// DIN-52: a slice that arrives after the run of a shipped workflow gives another version of its
/// report, and an event says so.
#[tokio::test(flavor = "multi_thread")]
async fn din_52_a_late_slice_replaces_the_draft_of_a_shipped_workflow() {
    let hospital = Hospital::open().await;
    let whole = Phantom { slices: 4, ..study("slice") };
    let files = whole.files();
    let files: Vec<&[u8]> = files.iter().map(Vec::as_slice).collect();
    hospital.modality().store(&files[..3]).await.unwrap();
    runs_of(&hospital, &whole, 1).await;
    hospital.ended_runs(1).await;
    hospital.modality().store(&files[3..]).await.unwrap();
    runs_of(&hospital, &whole, 2).await;
    hospital.ended_runs(2).await;

    let [first, second] = hospital.ehr.received().try_into().unwrap();
    let obr = |message: &str| {
        let line = message.split('\r').find(|it| it.starts_with("OBR")).unwrap();
        [3, 25].map(|number| line.split('|').nth(number).unwrap().to_owned())
    };
    let [number, status] = obr(&first);
    assert_eq!((status.as_str(), obr(&second)), ("R", [number, "R".to_owned()]));
    recorded(&hospital, "result_superseded", 1).await;
}

/// `workflow match` reports for a file which workflows would accept it, and why others would not.
#[tokio::test]
async fn a_dropped_file_tells_which_workflows_would_take_it_and_why_not() {
    let scratch = Scratch::default();
    std::fs::write(scratch.path("ct.dcm"), &study("one").files()[0]).unwrap();
    scratch.write(
        "lab.hl7",
        "MSH|^~\\&|LIS|H|I|H|20260101||ORU^R01|1|P|2.5\rPID|1||7\rOBR|1\rOBX|1|NM|6690-2^x^LN||1",
    );
    let mut command = std::process::Command::new(program());
    command.args(["workflow", "match"]).arg(scratch.path("ct.dcm")).arg(scratch.path("lab.hl7"));
    command.arg("--workflows").arg(system_tests::root().join("workflows"));
    let text = output_text(&command.arg("--plugins").arg(target()).output().unwrap());

    for expected in [
        "yes  ct-bone, Routine",
        "no   lab-table: it takes messages",
        "a message ORU^R01",
        "yes  lab-table, Routine",
        "no   ct-bone: it takes studies",
    ] {
        assert!(text.contains(expected), "{expected} is not in:\n{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_and_documents_start_workflows_of_their_own() {
    let on = |name: &str, trigger: &str| {
        format!(
            "workflow: {name}\non: {trigger}\nnodes: {{ table: {{ plugin: lab-report-parsing, retry: {{ attempts: 1 }} }} }}\n"
        )
    };
    let discharge = on("discharge", "{ message: { type: [ADT^A03, \"SIU^*\"] } }");
    let document =
        on("document", "{ document: { when: '\"application/pdf\" in message.media_types' } }");
    let files = [("discharge", discharge.as_str()), ("document", document.as_str())];
    let hospital =
        Hospital::with(SiteOptions { workflows: &files, ..SiteOptions::default() }).await;
    let message = |kind: &str, id: &str, rest: &str| {
        format!(
            "MSH|^~\\&|HIS|H|I|H|20260101||{kind}|{id}|P|2.5.1\rPID|1||7^^^H^MR||DOE^JANE\r{rest}"
        )
    };
    for (kind, id, rest) in [
        ("ADT^A03", "M1", "PV1|1|I"),
        ("SIU^S12", "M2", "SCH|1"),
        ("ADT^A01", "M3", "PV1|1|I"),
        ("MDM^T02", "M4", "TXA|1|DI\rOBX|1|ED|18748-4^Report^LN||^application^pdf^Base64^JVBERi0="),
        ("MDM^T02", "M5", "TXA|1|DI\rOBX|1|TX|18748-4^Report^LN||Words"),
    ] {
        assert_eq!(hospital.send_message(&message(kind, id, rest)).await, "AA");
    }
    let runs = hospital.ended_runs(3).await;

    let mut started: Vec<&str> = runs.iter().map(|it| it["workflow"].as_str().unwrap()).collect();
    started.sort_unstable();
    assert_eq!(started, ["discharge", "discharge", "document"]);
}

/// A workflow without nodes forwards images byte by byte, even if images and order are of different
/// patients.
#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_without_nodes_passes_images_on_as_they_came() {
    let routing = "workflow: routing
on: { study: { complete: { quiet: 200ms } } }
deliver: [{ to: pacs, what: [images] }]
";
    let options = SiteOptions { workflows: &[("routing", routing)], ..SiteOptions::default() };
    let hospital = Hospital::with(options).await;
    let phantom = study("routed");
    let other = Phantom { patient_id: "SOMEBODY-ELSE".to_owned(), ..phantom.clone() };
    assert_eq!(hospital.send_message(&simulators::order_message(&other, "O1")).await, "AA");
    hospital.send(&phantom).await;
    let runs = hospital.ended_runs(1).await;
    assert_eq!(runs[0]["status"], "completed");
    let received = hospital.pacs.received();
    assert_eq!(received.len(), usize::from(phantom.slices));
    let data_set = |file: &[u8]| {
        let (start, _) = encoding::dicom::file_meta::split(file).unwrap();
        file[start..].to_vec()
    };
    let sent: Vec<Vec<u8>> = phantom.files().iter().map(|it| data_set(it)).collect();
    for instance in &received {
        let forwarded = data_set(&std::fs::read(&instance.path).unwrap());
        assert!(sent.contains(&forwarded), "{}", instance.sop_instance);
    }
}
