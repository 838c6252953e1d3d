//! What a bad plugin can do: fail its node, and nothing else.

use neighbours::phantom::Phantom;
use serde_json::Value;
use system_tests::{Habits, Hospital, eventually, program, target};

fn workflow(fault: &str, rest: &str) -> String {
    format!(
        "workflow: {fault}\non: {{ study: {{ complete: {{ quiet: 200ms }} }} }}\nnodes:\n  \
         bad:\n    plugin: faulty\n    with: {{ fault: {fault} }}\n    \
         retry: {{ attempts: 2, backoff: 100ms }}\n    {rest}\n"
    )
}

async fn send(hospital: &Hospital) {
    let files = Phantom { slices: 4, ..Phantom::default() }.files();
    let files: Vec<&[u8]> = files.iter().map(Vec::as_slice).collect();
    hospital.modality().store(&files).await.unwrap();
}

/// All faults at once, beside a workflow that is none of their business.
#[tokio::test(flavor = "multi_thread")]
async fn acc_21_faulty_plugins_fail_their_nodes_and_the_rest_goes_on() {
    let faults = [
        ("panic", "timeout: 20s", "panicked: as I was told"),
        ("segfault", "timeout: 20s", "signal 11"),
        ("hang", "timeout: 1s", "took longer than 1 s"),
        ("leak", "timeout: 60s", "signal 6"),
        ("garbage", "timeout: 20s", "not an output"),
    ];
    let mut files: Vec<(&str, String)> =
        faults.iter().map(|(fault, rest, _)| (*fault, workflow(fault, rest))).collect();
    let healthy = std::fs::read_to_string(system_tests::root().join("workflows/ct-bone.yaml"));
    files.push(("ct-bone", healthy.unwrap()));
    let files: Vec<(&str, &str)> = files.iter().map(|(name, it)| (*name, it.as_str())).collect();
    let hospital = Hospital::with(Habits { workflows: &files, ..Habits::default() }).await;

    send(&hospital).await;
    let runs = hospital.ended_runs(6).await;

    for (fault, _, expected) in faults {
        let run = runs.iter().find(|it| it["workflow"] == fault).unwrap();
        assert_eq!(run["status"], "failed");
        let detail = hospital.ask(&["run", "show", run["id"].as_str().unwrap()]);
        let (reason, tries) = (&detail["nodes"][0]["reason"], &detail["nodes"][0]["attempt"]);
        assert!(reason.as_str().unwrap().contains(expected), "{fault}: {reason}");
        assert_eq!(tries, 2);
    }
    let good = runs.iter().find(|it| it["workflow"] == "ct-bone").unwrap();
    assert_eq!(good["status"], "completed");
    hospital.modality().echo().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_node_can_be_cancelled_and_a_failed_run_retried() {
    let (slow, broken) = (workflow("slow", "timeout: 60s"), workflow("panic", "timeout: 20s"));
    let files = [("slow", slow.as_str()), ("panic", broken.as_str())];
    let hospital = Hospital::with(Habits { workflows: &files, ..Habits::default() }).await;

    send(&hospital).await;
    let id = eventually("the slow node to be at work", async || {
        let runs = hospital.ask(&["runs"]);
        let run = runs.as_array()?.iter().find(|it| it["workflow"] == "slow")?.clone();
        let id = run["id"].as_str()?.to_owned();
        let detail = hospital.ask(&["run", "show", &id]);
        (detail["nodes"][0]["state"] == "running").then_some(id)
    })
    .await;
    assert!(hospital.command(&["run", "cancel", &id]).status.success());
    let runs = hospital.ended_runs(2).await;
    let of = |name: &str| runs.iter().find(|it| it["workflow"] == name).unwrap().clone();
    assert_eq!(
        (&of("slow")["status"], &of("panic")["status"]),
        (&Value::from("cancelled"), &Value::from("failed"))
    );

    let failed = of("panic")["id"].as_str().unwrap().to_owned();
    assert!(hospital.command(&["run", "retry", &failed]).status.success());
    eventually("the second failure", async || {
        let detail = hospital.ask(&["run", "show", &failed]);
        (detail["nodes"][0]["attempt"] == 4 && detail["run"]["status"] == "failed").then_some(())
    })
    .await;
}

/// What an integrator sees who mistypes: every problem, each with its place.
#[test]
fn a_broken_workflow_shows_all_of_its_problems_at_once() {
    let scratch = system_tests::Scratch::default();
    scratch.write(
        "workflows/wrong.yaml",
        "workflow: wrong\n\
         on: { study: { when: study.modality == \"CT\", complete: { quiet: 2s } } }\n\
         nodes:\n  a: { plugin: segmentatoin }\n  \
         b: { plugin: segmentation, with: { method: magic }, after: [c] }\n  \
         d: { plugin: lab-report-parsing, after: [d] }\n\
         deliver: [{ to: pacs, what: [pdf], after: [b] }]\n",
    );
    let mut check = std::process::Command::new(program());
    check.args(["check", "--workflows"]).arg(scratch.path("workflows"));
    check.arg("--plugins").arg(target());

    let output = check.output().unwrap();

    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr);
    for expected in [
        "workflow::condition",
        "workflow::unknown_plugin",
        "workflow::settings",
        "workflow::unknown_node",
        "workflow::cycle",
        "workflow::unknown_kind",
        "no plugin provides `segmentatoin`",
        "loaded: faulty, lab-report-parsing, segmentation",
        "wrong.yaml:4:",
    ] {
        assert!(text.contains(expected), "{expected} is not in:\n{text}");
    }
}

#[test]
fn the_workflows_of_the_project_pass_their_own_tests() {
    let mut test = std::process::Command::new(program());
    test.arg("test").arg("--workflows").arg(system_tests::root().join("workflows"));
    test.arg("--plugins").arg(target());

    let output = test.output().unwrap();

    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("7 passed, 0 failed"), "{text}");
}
