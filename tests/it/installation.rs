//! A staged installation, which the container file copies unchanged. It must start without any file
//! of the folder in which it was built.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use system_tests::{Scratch, kill_database, root, target};

/// The absolute folders of an installation, which the test moves below a temporary folder.
const FOLDERS: [&str; 3] = ["/usr/lib/isocenter", "/etc/isocenter", "/var/lib/isocenter"];

/// The arguments that the container file starts the program with.
fn container_command() -> Vec<String> {
    let file = root().join("engine/server/packaging/Containerfile");
    let text = fs::read_to_string(file).unwrap();
    assert!(text.contains("RUN cargo stage /image --release"), "{text}");
    assert!(text.contains("COPY --from=build /image/ /"), "{text}");
    let array = |instruction: &str| -> Vec<String> {
        let line = text.lines().find_map(|it| it.strip_prefix(instruction)).unwrap();
        serde_json::from_str(line).unwrap()
    };
    assert_eq!(array("ENTRYPOINT "), ["tini", "--", "isocenter"]);
    array("CMD ")
}

/// The text with every path of the installation moved below `folder`.
fn below(folder: &Path, text: &str) -> String {
    let mut text = text.to_owned();
    for path in FOLDERS {
        text = text.replace(path, &format!("{}{path}", folder.display()));
    }
    text
}

fn stage(folder: &Path) {
    let mut stage = Command::new(target().join("xtask"));
    let output = stage.arg("stage").arg(folder).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The value of `key` in each element of a JSON list.
fn names(list: &Output, key: &str) -> BTreeSet<String> {
    let list: Value = serde_json::from_slice(&list.stdout).unwrap();
    let name = |it: &Value| it[key].as_str().unwrap().to_owned();
    list.as_array().unwrap().iter().map(name).collect()
}

#[test]
fn a_container_starts_with_every_shipped_workflow_and_signed_plugin() {
    let scratch = Scratch::default();
    let image = scratch.path("image");
    stage(&image);
    let site = image.join("etc/isocenter/isocenter.yaml");
    let text = below(&image, &fs::read_to_string(&site).unwrap());
    let mut text: String = text.lines().fold(String::new(), |text, line| {
        let is_listener = line.trim_start().starts_with("listen: ");
        text + if is_listener { "  listen: 127.0.0.1:0" } else { line } + "\n"
    });
    text.push_str("log: text\n");
    fs::write(&site, text).unwrap();
    fs::create_dir_all(image.join("var/lib/isocenter")).unwrap();

    let program = image.join("usr/bin/isocenter");
    let arguments: Vec<String> = container_command().iter().map(|it| below(&image, it)).collect();
    let mut engine = Command::new(&program);
    let log = File::create(scratch.path("log")).unwrap();
    let mut engine = engine.args(arguments).stdout(Stdio::piped()).stderr(log).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(engine.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let log = fs::read_to_string(scratch.path("log")).unwrap();
    assert!(line.starts_with("ready "), "the engine did not start: {line}{log}");

    let ask = |arguments: &[&str]| {
        Command::new(&program).args(arguments).arg("--config").arg(&site).output().unwrap()
    };
    let workflows = names(&ask(&["workflow", "list", "--json"]), "name");
    let shipped: BTreeSet<String> = fs::read_dir(root().join("workflows"))
        .unwrap()
        .map(|it| it.unwrap().path())
        .filter(|it| it.extension().is_some_and(|it| it == "yaml"))
        .map(|it| it.file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    assert_eq!(workflows, shipped);
    let plugins: Vec<_> = fs::read_dir(image.join("usr/lib/isocenter/plugins"))
        .unwrap()
        .map(|it| it.unwrap().path())
        .filter(|it| it.extension().is_some_and(|it| it == "so"))
        .collect();
    assert!(plugins.len() >= 3, "{plugins:?}");
    for plugin in plugins {
        let signature = format!("{}.signed.json", plugin.display());
        assert!(Path::new(&signature).exists(), "{signature} is missing");
    }

    kill_process(Pid::from_child(&engine), Signal::TERM).unwrap();
    assert!(engine.wait().unwrap().success());
    kill_database(&image.join("var/lib/isocenter"));
}
