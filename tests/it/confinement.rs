//! What a plugin sees of the engine's data, and systems that cannot confine it.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use simulators::phantom::Phantom;
use system_tests::{Scratch, eventually, files, program, root, study, target};

use crate::isolation::attempts;
use crate::plugins::Started;

/// The number of the system call `landlock_create_ruleset`, on every architecture.
const LANDLOCK_CREATE_RULESET: i64 = 444;

/// The error "no such system call".
const ENOSYS: u32 = 38;

/// A plugin in Python that tries the same as `peek` of the faulty plugin.
const PEEKING: &str = r#"
import os
import isocenter

EARLIER = []


def could(attempt):
    try:
        attempt()
        return "could"
    except OSError:
        return "could not"


def read(path):
    if os.path.isdir(path):
        return os.listdir(path)
    with open(path, "rb") as file:
        return file.read()


def process(context, settings, request):
    paths = list(context.files.values())
    folder = os.path.dirname(paths[0])
    visible = sorted(os.path.join(folder, name) for name in os.listdir(folder))
    own = [read(path) for path in paths]
    assert all(content[128:132] == b"DICM" for content in own)
    again = any(could(lambda: read(path)) == "could" for path in EARLIER)
    before = len(EARLIER)
    EARLIER[:] = visible
    changes = [
        lambda path: open(path, "ab"),
        lambda path: os.truncate(path, 0),
        lambda path: os.chmod(path, 0o666),
        lambda path: os.utime(path),
        lambda path: os.rename(path, path + ".changed"),
        lambda path: os.remove(path),
    ]
    changed = any(could(lambda: change(paths[0])) == "could" for change in changes)
    lines = [
        f"own {len(own)}, visible {len(visible)}, foreign {len(set(visible) - set(paths))}",
        f"of {before} before: {'could' if again else 'could not'}",
        f"change: {'could' if changed else 'could not'}",
        f"siblings: {could(lambda: read(os.path.dirname(folder)))}",
        f"processes: {could(lambda: read('/proc'))}",
        f"engine: {could(lambda: read(f'/proc/{os.getppid()}/environ'))}",
    ]
    lines += [f"path: {could(lambda: read(path))}" for path in settings["paths"]]
    title = {"value": "x", "scheme": "99X", "meaning": "x"}
    return {"sections": [{"title": title, "text": "\n".join(lines)}]}


isocenter.run("peeking", "1.0.0", process)
"#;

/// Runs `act` in a thread for which the kernel has no Landlock; what it starts inherits that.
fn without_landlock<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> T {
    let rules = BTreeMap::from([(LANDLOCK_CREATE_RULESET, Vec::new())]);
    let arch = std::env::consts::ARCH.try_into().unwrap();
    let absent = SeccompAction::Errno(ENOSYS);
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, absent, arch).unwrap();
    let filter: BpfProgram = filter.try_into().unwrap();
    let thread = std::thread::spawn(move || {
        seccompiler::apply_filter(&filter).unwrap();
        act()
    });
    thread.join().unwrap()
}

/// A folder with a site whose workflow `peeking` has both plugins try these paths, the library with
/// this fault.
fn peeking_site(scratch: &Scratch, fault: &str, paths: &[PathBuf], more: &str) {
    let paths: Vec<String> = paths.iter().map(|it| format!("\"{}\"", it.display())).collect();
    let paths = paths.join(", ");
    scratch.write(
        "workflows/peeking.yaml",
        &format!(
            "workflow: peeking\non: {{ study: {{ complete: {{ quiet: 200ms }} }} }}\nnodes:\n  \
             it:\n    plugin: faulty\n    with: {{ fault: {fault}, paths: [{paths}] }}\n  \
             program:\n    plugin: peeking\n    with: {{ paths: [{paths}] }}\n"
        ),
    );
    let library = scratch.write("plugins/libfaulty.so", "");
    std::fs::copy(target().join("libfaulty_plugin.so"), &library).unwrap();
    let example = root().join("plugins/examples/python-count.plugin");
    let program = scratch.path("plugins/peeking.plugin");
    scratch.write("plugins/peeking.plugin/main.py", PEEKING);
    for name in ["plugin.json", "isocenter.py"] {
        std::fs::copy(example.join(name), program.join(name)).unwrap();
    }
    let path = |name: &str| scratch.path(name).display().to_string();
    let [data, workflows, plugins] = ["data", "workflows", "plugins"].map(path);
    let site = format!("data: {data}\nworkflows: {workflows}\nplugins: {plugins}\n{more}");
    scratch.write("site.yaml", &site);
}

/// A command of the engine on the site of this folder.
fn isocenter(scratch: &Scratch, arguments: &[&str]) -> Command {
    let mut command = Command::new(program());
    command.args(arguments).arg("--config").arg(scratch.path("site.yaml"));
    command
}

fn serve(scratch: &Scratch) -> Command {
    let flags = ["serve", "--allow-unsigned", "--trust-loopback", "--dicom", "127.0.0.1:0"];
    let mut command = isocenter(scratch, &flags);
    command.arg("--log-file").arg(scratch.path("log"));
    command
}

/// The paths of a study's images in the archive, by the content that arrives.
fn archived(archive: &Path, study: &Phantom) -> Vec<PathBuf> {
    let path = |file: &Vec<u8>| {
        let (at, _) = encoding::dicom::file_meta::split(file).unwrap();
        let sha256 = hex::encode(Sha256::digest(&file[at..]));
        archive.join("instances").join(sha256.get(..2).unwrap()).join(format!("{sha256}.dcm"))
    };
    study.files().iter().map(path).collect()
}

/// What both plugins report of a run of `peeking`, a line for each attempt.
fn reports(run: &Value) -> [Vec<String>; 2] {
    let program = run["outputs"]["program"]["sections"][0]["text"].as_str().unwrap_or_default();
    [attempts(run), program.lines().map(str::to_owned).collect()]
}

/// Two patients after each other, in the same processes, as the site wants it. Each sees its own
/// images and no others: not by the path in the archive, not by the path of the call before, not
/// beside its own.
#[tokio::test(flavor = "multi_thread")]
async fn sec_31_a_plugin_sees_the_images_of_its_own_run_only_and_cannot_change_them() {
    let scratch = Scratch::default();
    let archive = scratch.path("data/archive");
    let first = study("is peeked at");
    let second = study("peeks");
    let foreign = archived(&archive, &first)[0].clone();
    let data = scratch.path("data");
    let folders = [archive.join("instances"), archive.join("lent"), data.join("keys")];
    let paths = [[foreign.clone(), archive.clone()].as_slice(), folders.as_slice()].concat();
    peeking_site(&scratch, "peek", &paths, "reused_plugins: [faulty, peeking]\n");
    let data = data.display().to_string();
    let mut engine = Started::new(serve(&scratch));

    for (study, before) in [(&first, 0), (&second, 3)] {
        engine.send(study).await;
        let run = engine.runs_of(&data, study, 1).await.remove(0);
        for report in reports(&run) {
            assert_eq!(report[0], "own 3, visible 3, foreign 0", "{run}");
            assert_eq!(report[1], format!("of {before} before: could not"), "{run}");
            let others =
                ["change", "siblings", "processes", "engine"].map(|it| format!("{it}: could not"));
            assert_eq!(report[2..6], others, "{run}");
            assert_eq!(report[6..], ["path: could not"; 5], "{run}");
        }
    }
    assert!(foreign.exists(), "it was there to be read");
    for path in [archived(&archive, &first), archived(&archive, &second)].concat() {
        let content = std::fs::read(&path).unwrap();
        let (at, _) = encoding::dicom::file_meta::split(&content).unwrap();
        let sha256 = hex::encode(Sha256::digest(&content[at..]));
        assert_eq!(path.file_stem().unwrap().to_str(), Some(sha256.as_str()), "it was changed");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
    eventually("the input to be taken back", async || {
        files(&archive.join("lent")).is_empty().then_some(())
    })
    .await;
    engine.stop();
    let left = std::fs::read_dir(archive.join("lent")).unwrap().count();
    assert_eq!(left, 0, "processes that ended leave no folder");
}

/// Without `reused_plugins`, a process that has read the images of one patient gets none of
/// another.
#[tokio::test(flavor = "multi_thread")]
async fn sec_31_a_process_that_has_seen_one_patient_sees_no_other() {
    let scratch = Scratch::default();
    peeking_site(&scratch, "peek", &[], "");
    let data = scratch.path("data").display().to_string();
    let mut engine = Started::new(serve(&scratch));

    for study in [study("comes first"), study("comes next")] {
        engine.send(&study).await;
        let run = engine.runs_of(&data, &study, 1).await.remove(0);
        for report in reports(&run) {
            assert_eq!(report[0], "own 3, visible 3, foreign 0", "{run}");
            assert_eq!(report[1], "of 0 before: could not", "{run}");
        }
    }
    engine.stop();
}

/// The check of `isocenter doctor` about plugins.
fn confinement(doctor: &[u8]) -> Value {
    let checks: Value = serde_json::from_slice(doctor).unwrap();
    let is_it = |it: &&Value| it["name"] == "a plugin can read the images of its own run only";
    checks.as_array().unwrap().iter().find(is_it).unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn sec_31_without_landlock_the_engine_starts_only_if_the_site_accepts_it_and_says_so() {
    let scratch = Scratch::default();
    let secret = scratch.write("secret", "x");
    peeking_site(&scratch, "look", std::slice::from_ref(&secret), "");
    let mut command = serve(&scratch);
    let refused = without_landlock(move || command.output().unwrap());
    let error = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success(), "{error}");
    for expected in ["this kernel has no Landlock", "allow_unconfined_plugins: true", "Linux 5.13"]
    {
        assert!(error.contains(expected), "{expected} is not in: {error}");
    }

    let accepted = "allow_unconfined_plugins: true\n";
    peeking_site(&scratch, "look", std::slice::from_ref(&secret), accepted);
    let command = serve(&scratch);
    let mut engine = without_landlock(move || Started::new(command));
    let study = study("unconfined");
    engine.send(&study).await;
    let data = scratch.path("data").display().to_string();
    let run = engine.runs_of(&data, &study, 1).await.remove(0);
    let [library, program] = reports(&run);
    assert_eq!(program[0], "own 3, visible 3, foreign 0", "{run}");
    assert_eq!(program[6], "path: could", "nothing confines it: {run}");
    assert_eq!(library[3], "named socket: could not", "what can be refused is: {run}");
    assert_eq!(library[7], "read: could", "nothing confines it: {run}");
    let log = std::fs::read_to_string(scratch.path("log")).unwrap();
    assert!(log.contains("PLUGINS ARE NOT CONFINED"), "{log}");
    let trail = isocenter(&scratch, &["audit", "show", "--json"]).output().unwrap();
    let trail = String::from_utf8_lossy(&trail.stdout).into_owned();
    assert!(trail.contains("plugins_unconfined"), "{trail}");
    for _ in 0..2 {
        let mut doctor = isocenter(&scratch, &["doctor", "--json"]);
        let doctor = without_landlock(move || doctor.output().unwrap());
        let check = confinement(&doctor.stdout);
        assert_eq!(check["is_good"], false, "{check}");
        let found = check["found"].as_str().unwrap();
        assert!(found.contains("can read every file of the engine"), "{found}");
    }
    engine.stop();
}
