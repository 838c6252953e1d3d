//! Confinement of plugin processes, and plugins that a site runs in the process of the engine.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use serde_json::Value;
use system_tests::{Hospital, Scratch, SiteOptions, not_run, program, study, target};

use crate::plugins::Started;

/// A workflow whose plugin tries the confinement and these paths.
fn looking(paths: &[std::path::PathBuf]) -> String {
    let paths: Vec<String> = paths.iter().map(|it| format!("\"{}\"", it.display())).collect();
    format!(
        "workflow: looking\non: {{ study: {{ complete: {{ quiet: 200ms }} }} }}\nnodes:\n  \
         it:\n    plugin: faulty\n    with: {{ fault: look, paths: [{}] }}\n",
        paths.join(", ")
    )
}

/// The report of the plugin, one line for each attempt.
pub(crate) fn attempts(run: &Value) -> Vec<String> {
    let text = run["outputs"]["it"]["sections"][0]["text"].as_str().unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// A plugin can use the programs of the system, its images and its socket. It has no access to the
/// network, to other files, or to the engine.
#[tokio::test(flavor = "multi_thread")]
async fn sec_31_a_plugin_has_no_network_no_files_of_others_and_no_hold_on_the_engine() {
    let secrets = Scratch::default();
    secrets.write("keys/key", "secret");
    let paths = [secrets.path("keys/key"), secrets.path("keys"), "/usr/share".into()];
    let workflow = looking(&paths);
    let files = [("looking", workflow.as_str())];
    let hospital =
        Hospital::with(SiteOptions { workflows: &files, ..SiteOptions::default() }).await;

    hospital.send(&study("looked at")).await;
    let runs = hospital.ended_runs(1).await;

    let run = hospital.ask(&["run", "show", runs[0]["id"].as_str().unwrap()]);
    let expected = [
        "internet: could not",
        "socket pair: could",
        "named socket: could not",
        "engine: could not",
        "limits: could not",
        "rights: could not",
        "read: could not",
        "write: could not",
        "rights: could not",
        "read: could not",
        "write: could not",
        "rights: could not",
        "read: could",
        "write: could not",
    ];
    assert_eq!(attempts(&run)[1..], expected, "{run}");
    assert!(!secrets.path("keys/written").exists());
}

/// A signed plugin that the site names runs in the process of the engine, with the rights of the
/// engine. The timeout of a node holds there, too.
#[tokio::test(flavor = "multi_thread")]
async fn a_signed_plugin_may_work_in_the_engine_s_own_process() {
    let scratch = Scratch::default();
    let data = scratch.path("data").display().to_string();
    let library = scratch.write("plugins/libfaulty.so", "");
    std::fs::copy(target().join("libfaulty_plugin.so"), &library).unwrap();
    scratch.write("workflows/looking.yaml", &looking(&[]));
    let hanging = looking(&[]).replace("looking", "hanging").replace("fault: look", "fault: hang");
    scratch.write("workflows/hanging.yaml", &format!("{hanging}    timeout: 1s\n"));
    let path = |name: &str| scratch.path(name).display().to_string();
    let site = format!(
        "workflows: {}\nplugins: {}\ninline_plugins: [faulty]\n",
        path("workflows"),
        path("plugins")
    );
    let site = scratch.write("site.yaml", &site).display().to_string();
    let serve = |more: &[&str]| {
        let mut command = Command::new(program());
        command.args(["serve", "--config", &site, "--data", &data, "--trust-loopback"]);
        command.args(["--dicom", "127.0.0.1:0"]).args(more);
        command
    };
    // An unsigned plugin cannot be inline, even with `--allow-unsigned`.
    let unsigned = serve(&["--allow-unsigned"]).output().unwrap();
    let error = String::from_utf8_lossy(&unsigned.stderr).into_owned();
    assert!(!unsigned.status.success() && error.contains("inline_plugins"), "{error}");
    let mut sign = Command::new(program());
    sign.args(["plugin", "sign", "--data", &data]).arg(&library);
    assert!(sign.status().unwrap().success());

    let mut engine = Started::new(serve(&[]));
    let study = study("inline");
    engine.send(&study).await;
    let runs = engine.runs_of(&data, &study, 2).await;

    let run = |name: &str| runs.iter().find(|it| it["run"]["workflow"] == name).unwrap();
    let found = attempts(run("looking"));
    assert_eq!(found[0], format!("process {}", engine.process()), "{found:?}");
    assert_eq!(found[1], "internet: could", "the engine is not confined");
    assert_eq!(found[4..6], ["engine: could", "limits: could"], "the engine is not confined");
    let reason = run("hanging")["nodes"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("took longer than 1 s"), "{reason}");
    engine.stop();
}

/// The plugins of a package belong to root, and the engine runs as another user. Both can sign, and
/// the engine can read the key and finds the signatures.
#[test]
fn a_site_signs_plugins_that_belong_to_root() {
    const NOBODY: u32 = 65_534;
    let scratch = Scratch::default();
    if std::fs::metadata(scratch.path("")).unwrap().uid() != 0 {
        return not_run("only root can act as root and as another user");
    }
    let mut plugins = Vec::new();
    for name in ["faulty_plugin", "segmentation"] {
        let library = scratch.write(&format!("plugins/{name}.so"), "");
        std::fs::copy(target().join(format!("lib{name}.so")), &library).unwrap();
        plugins.push(library);
    }
    let copy = scratch.path("isocenter");
    std::fs::copy(program(), &copy).unwrap();
    std::fs::create_dir(scratch.path("data")).unwrap();
    chown(scratch.path("data"), Some(NOBODY), Some(NOBODY)).unwrap();
    let isocenter = |user: u32, command: &str, plugin: &std::path::Path| {
        let mut isocenter = Command::new(&copy);
        isocenter.args(["plugin", command]).arg(plugin).arg("--data").arg(scratch.path("data"));
        let output = isocenter.uid(user).gid(user).env("TMPDIR", "/tmp").output().unwrap();
        let both = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&both));
        String::from_utf8(both).unwrap()
    };

    // Root signs first, so that root creates the key.
    isocenter(0, "sign", &plugins[0]);
    let key = std::fs::metadata(scratch.path("data/keys/plugins.key")).unwrap();
    assert_eq!((key.uid(), key.permissions().mode() & 0o777), (NOBODY, 0o600));
    let signed = isocenter(NOBODY, "sign", &plugins[1]);
    assert!(signed.contains("data/signatures/"), "{signed}");
    for plugin in &plugins {
        let output = isocenter(NOBODY, "check", plugin);
        assert!(output.contains("this site has signed it as it is"), "{output}");
    }
}
