//! Plugins: faults that affect only their own node, workflows that use them, and plugins in C and
//! Python.

use serde_json::Value;
use simulators::phantom::Phantom;
use system_tests::{Hospital, SiteOptions, eventually, program, target};

/// Whether a process whose command line begins with `command` is running.
fn is_running(command: &str) -> bool {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let mut lines =
        processes.map(|it| std::fs::read(it.path().join("cmdline")).unwrap_or_default());
    lines.any(|it| String::from_utf8_lossy(&it).starts_with(command))
}

/// A workflow of one node with this fault and these further settings.
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

/// All faults at the same time, with another workflow that must not be affected.
#[tokio::test(flavor = "multi_thread")]
async fn acc_21_faulty_plugins_fail_their_nodes_and_the_rest_goes_on() {
    let faults = [
        ("panic", "timeout: 20s", "panicked: as I was told"),
        ("segfault", "timeout: 20s", "signal 11"),
        ("hang", "timeout: 1s", "took longer than 1 s"),
        ("leak", "timeout: 60s", "signal 6"),
        ("garbage", "timeout: 20s", "not an output"),
        ("fork", "timeout: 1s", "took longer than 1 s"),
        ("huge", "timeout: 60s", "answer is too long"),
    ];
    let mut files: Vec<(&str, String)> =
        faults.iter().map(|(fault, rest, _)| (*fault, workflow(fault, rest))).collect();
    let healthy = std::fs::read_to_string(system_tests::root().join("workflows/ct-bone.yaml"));
    files.push(("ct-bone", simulators::with_short_wait(&healthy.unwrap())));
    let files: Vec<(&str, &str)> = files.iter().map(|(name, it)| (*name, it.as_str())).collect();
    let hospital =
        Hospital::with(SiteOptions { workflows: &files, ..SiteOptions::default() }).await;

    send(&hospital).await;
    let runs = hospital.ended_runs(8).await;

    for (fault, _, expected) in faults {
        let run = runs.iter().find(|it| it["workflow"] == fault).unwrap();
        assert_eq!(run["status"], "failed");
        let detail = hospital.ask(&["run", "show", run["id"].as_str().unwrap()]);
        let reason = &detail["nodes"][0]["reason"];
        assert!(reason.as_str().unwrap().contains(expected), "{fault}: {reason}");
        assert_eq!(detail["nodes"][0]["attempt"], 2);
    }
    let good = runs.iter().find(|it| it["workflow"] == "ct-bone").unwrap();
    assert_eq!(good["status"], "completed");
    assert!(!is_running("sleep\u{0}86399"), "a child of a plugin ends with the plugin");
    hospital.modality().echo().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_node_can_be_cancelled_and_a_failed_run_retried() {
    let slow = workflow("slow", "timeout: 60s");
    let broken = workflow("panic", "timeout: 20s");
    let files = [("slow", slow.as_str()), ("panic", broken.as_str())];
    let hospital =
        Hospital::with(SiteOptions { workflows: &files, ..SiteOptions::default() }).await;

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

/// An integrator sees every problem of a workflow with its position.
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
         deliver: [{ to: pacs, what: [fax], after: [b] }]\n",
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
        "loaded: cot-reporting, faulty, lab-report-parsing, segmentation",
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

    let files = std::fs::read_dir(system_tests::root().join("workflows")).unwrap();
    let files = files
        .map(|it| it.unwrap().path())
        .filter(|it| it.extension().is_some_and(|it| it == "yaml"));
    let files = files.map(|it| std::fs::read_to_string(it).unwrap());
    let count: usize = files.map(|it| it.matches("\n  - given:").count()).sum();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains(&format!("{count} passed, 0 failed")),
        "{text}"
    );
}

/// Runs the program in a folder.
fn run_in(folder: &std::path::Path, arguments: &[&str]) -> std::process::Output {
    let mut command = std::process::Command::new(program());
    command.args(arguments).current_dir(folder).output().unwrap()
}

/// Standard output and standard error as one text.
fn output_text(output: &std::process::Output) -> String {
    let both = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8_lossy(&both).into_owned()
}

/// Makes a plugin in C and one in Python with `isocenter plugin new`, and builds the first.
fn make_skeletons(folder: &std::path::Path) {
    std::fs::create_dir_all(folder).unwrap();
    for language in ["c", "python"] {
        let name = format!("{language}-mine");
        let made = run_in(folder, &["plugin", "new", &name, "--language", language]);
        assert!(made.status.success(), "{}", output_text(&made));
    }
    let mut make = std::process::Command::new("make");
    assert!(make.current_dir(folder.join("c-mine")).status().unwrap().success());
    std::fs::rename(folder.join("c-mine/libc-mine.so"), folder.join("libc-mine.so")).unwrap();
}

/// The text of the first finding of a node.
fn text(run: &Value, node: &str) -> String {
    run["outputs"][node]["findings"][0]["text"].as_str().unwrap_or_default().to_owned()
}

/// A C plugin and a Python plugin, built as `plugins/README.md` describes, are checked, signed,
/// loaded, used, and replaced while the engine runs.
#[tokio::test(flavor = "multi_thread")]
async fn plugins_in_c_and_python_are_checked_signed_loaded_and_replaced_while_the_engine_runs() {
    let scratch = system_tests::Scratch::default();
    let folder = scratch.path("plugins");
    let isocenter = |arguments: &[&str]| run_in(&folder, arguments);
    make_skeletons(&folder);
    let data = &scratch.path("data").display().to_string();
    let both = ["libc-mine.so", "python-mine.plugin"];
    for plugin in both {
        let checked = isocenter(&["plugin", "check", plugin, "--data", data]);
        assert!(checked.status.success(), "{}", output_text(&checked));
    }
    // The engine does not load plugins that the site has not signed.
    let workflow = "workflow: counting\non: { study: { complete: { quiet: 300ms } } }\nnodes:\n  \
        c: { plugin: c-mine, with: { threshold: 300 } }\n  \
        python: { plugin: python-mine, with: { modality: CT } }\n";
    scratch.write("workflows/counting.yaml", workflow);
    let workflows = scratch.path("workflows");
    let serve = || {
        let mut command = std::process::Command::new(program());
        command.args(["serve", "--data", data, "--trust-loopback", "--dicom", "127.0.0.1:0"]);
        command.arg("--workflows").arg(&workflows).arg("--plugins").arg(&folder);
        command
    };
    let unsigned = serve().output().unwrap();
    let error = output_text(&unsigned);
    assert!(!unsigned.status.success() && error.contains("it is not signed"), "{error}");
    let sign = |plugins: &[&str]| {
        let signed = isocenter(&[["plugin", "sign", "--data", data].as_slice(), plugins].concat());
        assert!(signed.status.success(), "{}", output_text(&signed));
    };
    sign(&both);
    let signed = isocenter(&["plugin", "check", both[0], "--data", data]);
    assert!(output_text(&signed).contains("this site has signed it"), "{}", output_text(&signed));

    let mut engine = Started::new(serve());
    let study = Phantom { slices: 3, seed: "one".to_owned(), ..Phantom::default() };
    engine.send(&study).await;
    let run = engine.run_of(data, &study).await;
    assert!(text(&run, "c").ends_with("in 1 series are above 300"), "{run}");
    assert!(text(&run, "python").starts_with("3 CT instances"), "{run}");
    // Only bone of the phantom is above 300, and its volume is known.
    let above: f64 = text(&run, "c").split(' ').next().unwrap().parse().unwrap();
    let found = above * study.pixel * study.pixel * study.spacing / 1000.0;
    assert!((found / study.bone_millilitres() - 1.0).abs() < 0.02, "{found} mL");

    // A new version replaces the old one, is signed, and is loaded.
    let main = folder.join("python-mine.plugin/main.py");
    let changed = std::fs::read_to_string(&main).unwrap().replace("instances, ", "images, ");
    std::fs::write(&main, changed.replace("1.0.0", "1.1.0")).unwrap();
    sign(&both[1..]);
    let another = Phantom { seed: "two".to_owned(), ..study.clone() };
    eventually("the new version to be loaded", async || {
        let events = isocenter(&["audit", "show", "--json", "--data", data]);
        output_text(&events).contains("\"1.1.0\"").then_some(())
    })
    .await;
    engine.send(&another).await;
    let run = engine.run_of(data, &another).await;
    assert!(text(&run, "python").starts_with("3 CT images"), "{run}");
    engine.stop();
}

/// `isocenter serve`, started by a command of the test.
pub(crate) struct Started {
    child: std::process::Child,
    dicom: String,
}

impl Started {
    pub(crate) fn new(mut command: std::process::Command) -> Self {
        use std::io::BufRead as _;
        let piped =
            command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::null());
        let mut child = piped.spawn().unwrap();
        let mut line = String::new();
        std::io::BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let dicom = line.split_whitespace().find_map(|it| it.strip_prefix("dicom="));
        let dicom = dicom.expect("the engine did not start").to_owned();
        Self { child, dicom }
    }

    pub(crate) async fn send(&self, study: &Phantom) {
        let files = study.files();
        let files: Vec<&[u8]> = files.iter().map(Vec::as_slice).collect();
        system_tests::remote(&self.dicom, "CT1").store(&files).await.unwrap();
    }

    /// The run of a study, once it has ended.
    async fn run_of(&self, data: &str, study: &Phantom) -> Value {
        self.runs_of(data, study, 1).await.remove(0)
    }

    /// The runs of a study, once there are `count` and all have ended.
    pub(crate) async fn runs_of(&self, data: &str, study: &Phantom, count: usize) -> Vec<Value> {
        let uid = study.study_uid();
        eventually("the runs", async || {
            let mut why = std::process::Command::new(program());
            let output = why.args(["why", &uid, "--json", "--data", data]).output().unwrap();
            let why: Value = serde_json::from_slice(&output.stdout).ok()?;
            let runs = why["studies"][0]["runs"].as_array()?.clone();
            let have_ended = runs.iter().all(|it| it["run"]["status"] != "running");
            (runs.len() == count && have_ended).then_some(runs)
        })
        .await
    }

    /// The process id of the engine.
    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn stop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // The process may have ended already.
        _ = self.child.kill();
    }
}
