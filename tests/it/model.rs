//! Models: imported with a model card, and queried about pictures.

use std::path::Path;
use std::process::{Command, Output};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use imaging::FlatMask;
use serde_json::{Value, json};
use simulators::phantom::Phantom;
use system_tests::{Scratch, eventually, model_set, program, reference, study, target};

use crate::plugins::Started;

/// Runs `isocenter model` on the data folder of the test.
pub(crate) fn model(scratch: &Scratch, arguments: &[&str]) -> Output {
    let mut command = Command::new(program());
    command.arg("model").args(arguments).arg("--data").arg(scratch.path("data"));
    command.output().unwrap()
}

/// Standard output and standard error as one text.
pub(crate) fn output_text(output: &Output) -> String {
    let both = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8_lossy(&both).into_owned()
}

/// The arguments of an import for the origin of a model.
pub(crate) const ORIGIN: [&str; 4] = ["--source", "the test", "--licence", "Apache-2.0"];

#[test]
fn an_unusable_checkpoint_is_refused_with_a_way_out() {
    let scratch = Scratch::default();
    let import = |folder: &str, name: &str| {
        let folder = scratch.path(folder).display().to_string();
        let output = model(&scratch, &[&["import", &folder, "--name", name], &ORIGIN[..]].concat());
        assert!(!output.status.success());
        output_text(&output)
    };
    assert!(import("nowhere", "x").contains("nowhere"));
    assert!(import("nowhere", "../x").contains("small letters, digits"));
    scratch.write("half/config.json", "{ \"hidden_size\": 8 }");
    assert!(import("half", "x").contains("no usable"));
    let run = model(&scratch, &["run", "nobody", "--prompt", "x"]);
    assert!(
        output_text(&run).contains("there is no model `nobody`; there are: none"),
        "{}",
        output_text(&run)
    );
    assert_eq!(model(&scratch, &["list", "--json"]).stdout, b"[]\n");
}

/// The answers have the text and the masks of the reference implementation.
#[test]
fn an_imported_model_answers_and_segments_as_the_reference_implementation() {
    check_set(&model_set());
}

/// The same comparison on the reference material.
#[test]
fn an_imported_model_answers_and_segments_as_the_reference_implementation_on_its_material() {
    if let Some(reference) = reference() {
        check_set(&reference.join("model/goldens/public"));
    }
}

fn check_set(set: &Path) {
    let scratch = Scratch::default();
    let checkpoint = set.join("ckpt/citrus_tiny").display().to_string();
    let import = [&["import", &checkpoint, "--name", "tiny"], &ORIGIN[..]].concat();
    let first = model(&scratch, &import);
    assert!(
        first.status.success() && output_text(&first).contains("not for clinical use"),
        "{}",
        output_text(&first)
    );
    let again = model(&scratch, &import);
    assert_eq!(again.stdout, first.stdout, "a repeated import changes nothing");
    let reference = read(&set.join("citrus/infer.json"));
    let pixels = read(&set.join("qwen/preprocess.json"));
    for query in reference["queries"].as_array().unwrap() {
        check(&scratch, set, &pixels, query);
    }

    // The same weights in eight bits are another model.
    let eight = [&["import", &checkpoint, "--name", "eight", "--eight-bit"], &ORIGIN[..]].concat();
    let imported = model(&scratch, &eight);
    let text = output_text(&imported);
    assert!(imported.status.success() && text.contains("eight bits"), "{text}");
    let run = ["run", "eight", "--prompt", "x", "--max-tokens", "3", "--json"];
    let answer: Value = serde_json::from_slice(&model(&scratch, &run).stdout).unwrap();
    assert!(!answer["text"].as_str().unwrap().is_empty());
    let bench = ["bench", "eight", "--beside", "tiny", "--rounds", "1", "--json"];
    let found: Value = serde_json::from_slice(&model(&scratch, &bench).stdout).unwrap();
    let number = |it: &str| found.pointer(it).and_then(Value::as_f64).unwrap();
    for what in [
        "prefill_tokens_per_second",
        "batch_decode_tokens_per_second",
        "image_encode_seconds",
        "segment_seconds",
    ] {
        assert!(number(&format!("/speed/{what}")) > 0.0, "{found}");
    }
    let divergence = number("/divergence/kl_divergence");
    assert!(
        divergence > 0.0 && divergence < 0.1 && number("/divergence/positions") > 50.0,
        "{found}"
    );

    // An additional file of weights is found.
    let more = scratch.path("data/models/tiny/checkpoint/more.safetensors");
    std::fs::write(&more, "weights of somebody").unwrap();
    let error = output_text(&model(&scratch, &["run", "tiny", "--prompt", "x"]));
    assert!(error.contains("more.safetensors"), "{error}");
    std::fs::remove_file(&more).unwrap();
    // Clinical use can be approved later, and the approval can be withdrawn.
    let approved = [&import[..], &["--for-clinical-use", "Dr. Example"]].concat();
    assert!(!output_text(&model(&scratch, &approved)).contains("not for clinical use"));
    assert!(output_text(&model(&scratch, &["list"])).contains("Dr. Example"));
    assert!(output_text(&model(&scratch, &import)).contains("not for clinical use"));

    // A changed file is found.
    let file = scratch.path("data/models/tiny/checkpoint/config.json");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes.push(b' ');
    // The copy is read-only where its source is: only root could write into it.
    std::fs::remove_file(&file).unwrap();
    std::fs::write(&file, bytes).unwrap();
    for command in [&["show", "tiny"][..], &["run", "tiny", "--prompt", "x"]] {
        let error = output_text(&model(&scratch, command));
        assert!(error.contains("config.json") && error.contains("import it again"), "{error}");
    }
}

/// A file of JSON.
pub(crate) fn read(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Asks one question and compares text and masks with those of the reference implementation.
fn check(scratch: &Scratch, set: &Path, pixels: &Value, query: &Value) {
    let image = set.join(query["image"].as_str().unwrap()).display().to_string();
    let out = scratch.path("drawn.png").display().to_string();
    let [min, max] = ["min_pixels", "max_pixels"].map(|it| pixels[it].to_string());
    let tokens = query["generated_ids"].as_array().unwrap().len().to_string();
    let prompt = query["query"].as_str().unwrap();
    let output = model(
        scratch,
        &[
            "run",
            "tiny",
            "--prompt",
            prompt,
            "--image",
            &image,
            "--max-tokens",
            &tokens,
            "--min-pixels",
            &min,
            "--max-pixels",
            &max,
            "--out",
            &out,
            "--json",
        ],
    );
    let found: Value =
        serde_json::from_slice(&output.stdout).map_err(|_| output_text(&output)).unwrap();
    assert_eq!(found["text"], query["text"]);
    assert_eq!(found["warning"], "not for clinical use");
    let masks = found["masks"].as_array().unwrap();
    let expected = query["masks"].as_array().unwrap();
    assert_eq!(masks.len(), expected.len());
    for (mask, expected) in masks.iter().zip(expected) {
        let different = differences(mask, &expected["rle_original"]);
        // Logits close to zero may have either sign. Each such pixel of the mask covers several
        // pixels of the picture.
        let close = expected["near_zero_pixels"].as_u64().unwrap();
        assert!(different <= close * 8, "{different} pixels differ, {close} were close");
    }
    let drawn = std::fs::read(&out).unwrap();
    assert!(drawn.starts_with(b"\x89PNG"));
}

/// Writes a site whose workflow has these nodes. Returns the arguments of the program.
pub(crate) fn site(scratch: &Scratch, nodes: &str) -> Vec<String> {
    scratch.write(
        "workflows/asking.yaml",
        &format!(
            "workflow: asking\non: {{ study: {{ complete: {{ quiet: 200ms }} }} }}\nnodes:\n{nodes}"
        ),
    );
    let library = scratch.write("plugins/libfaulty.so", "");
    std::fs::copy(target().join("libfaulty_plugin.so"), &library).unwrap();
    let path = |name: &str| scratch.path(name).display().to_string();
    let workflows = path("workflows");
    let plugins = path("plugins");
    let model =
        if scratch.path("data/models/tiny").exists() { "model: { name: tiny }\n" } else { "" };
    let site = format!("workflows: {workflows}\nplugins: {plugins}\n{model}");
    let site = scratch.write("site.yaml", &site).display().to_string();
    let arguments = ["serve", "--config", &site, "--data", &path("data"), "--trust-loopback"];
    let more = ["--allow-unsigned", "--dicom", "127.0.0.1:0"];
    arguments.iter().chain(&more).map(|it| (*it).to_owned()).collect()
}

/// A node that asks the model a question and returns its answer.
pub(crate) fn node(name: &str, question: &Value) -> String {
    format!("  {name}: {{ plugin: faulty, with: {{ fault: ask, question: '{question}' }} }}\n")
}

pub(crate) fn serve(arguments: &[String]) -> Started {
    let mut command = Command::new(program());
    command.args(arguments);
    Started::new(command)
}

/// The host processes of the model of an engine.
pub(crate) fn model_processes(engine: u32) -> Vec<i32> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let mut found = Vec::new();
    for process in processes {
        let read = |it: &str| std::fs::read(process.path().join(it)).unwrap_or_default();
        let line = String::from_utf8_lossy(&read("cmdline")).into_owned();
        let status = String::from_utf8_lossy(&read("status")).into_owned();
        let is_child = status.lines().any(|it| it == format!("PPid:\t{engine}"));
        if is_child && line.contains("model-host") {
            found.extend(process.file_name().to_string_lossy().parse::<i32>());
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_asks_without_a_model_gets_an_error_with_a_way_out() {
    let scratch = Scratch::default();
    let question = json!({"messages": [{"role": "user", "text": "?"}]});
    let mut engine = serve(&site(&scratch, &node("one", &question)));
    let study = study("no model");
    engine.send(&study).await;
    let data = scratch.path("data").display().to_string();
    let run = engine.runs_of(&data, &study, 1).await.remove(0);
    let reason = run["nodes"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("`model` in the site file"), "{run}");
    engine.stop();
}

/// A request whose response takes seconds: the model generates no stop token.
pub(crate) fn long_question() -> Value {
    json!({
        "messages": [{"role": "user", "text": "What can be seen?"}],
        "sampling": {"tokens_max": 4000},
    })
}

/// The response on the command line, without other requests.
fn alone(scratch: &Scratch) -> Value {
    let arguments = ["run", "tiny", "--prompt", "What can be seen?", "--max-tokens", "4000"];
    let output = model(scratch, &[&arguments[..], &["--json"]].concat());
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The first run of a study in its current state, if there is one.
pub(crate) fn run_so_far(data: &str, study: &Phantom) -> Option<Value> {
    let mut why = Command::new(program());
    why.args(["why", &study.study_uid(), "--json", "--data", data]);
    let why: Value = serde_json::from_slice(&why.output().unwrap().stdout).ok()?;
    why["studies"][0]["runs"].get(0).cloned()
}

/// Imports the small model of `set` as `tiny`.
pub(crate) fn import_tiny(scratch: &Scratch, set: &Path) {
    let checkpoint = set.join("ckpt/citrus_tiny").display().to_string();
    let import = [&["import", &checkpoint, "--name", "tiny"], &ORIGIN[..]].concat();
    assert!(model(scratch, &import).status.success());
}

/// Plugins share one host process of the model and get the answers of the reference implementation.
/// No request is lost when the host process is killed.
#[tokio::test(flavor = "multi_thread")]
async fn plugins_share_one_model_and_lose_no_request_when_its_process_is_killed() {
    let set = model_set();
    let scratch = Scratch::default();
    import_tiny(&scratch, &set);
    let reference = read(&set.join("citrus/infer.json"));
    let pixels = read(&set.join("qwen/preprocess.json"));
    let query = &reference["queries"][0];
    let picture = std::fs::read(set.join(query["image"].as_str().unwrap())).unwrap();
    let ask = |text: &Value, tokens: usize| {
        json!({
            "messages": [{"role": "user", "text": text, "pictures": 1}],
            "pictures": [BASE64_STANDARD.encode(&picture)],
            "pixels": [pixels["min_pixels"], pixels["max_pixels"]],
            "sampling": {"tokens_max": tokens},
        })
    };
    let short = ask(&query["query"], query["generated_ids"].as_array().unwrap().len());
    let nodes: String = ["a", "b", "c", "d"].map(|it| node(it, &short)).concat();
    let long = node("long", &long_question());
    let mut engine = serve(&site(&scratch, &(nodes + &long)));
    let study = study("with a model");
    engine.send(&study).await;

    // The long request takes seconds, so that the kill happens before its response.
    let killed = eventually("the short ones to be answered", async || {
        let answered = run_so_far(&scratch.path("data").display().to_string(), &study)?;
        let done = answered["outputs"].as_object()?.len();
        (done == 4).then(|| model_processes(engine.process()))
    })
    .await;
    assert_eq!(killed.len(), 1, "one process for all");
    let pid = rustix::process::Pid::from_raw(killed[0]).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();

    let data = scratch.path("data").display().to_string();
    let run = engine.runs_of(&data, &study, 1).await.remove(0);
    assert_eq!(run["run"]["status"], "completed", "{run}");
    let answer = |node: &str| -> Value {
        let text = run["outputs"][node]["sections"][0]["text"].as_str().unwrap();
        serde_json::from_str(text).unwrap()
    };
    for node in ["a", "b", "c", "d"] {
        let answer = answer(node);
        assert_eq!(answer["text"], query["text"], "{node}");
        assert_eq!(answer["warning"], "not for clinical use");
        let count = |it: &Value| it["masks"].as_array().unwrap().len();
        assert_eq!(count(&answer), count(query));
    }
    // The restarted request has the same response.
    assert_eq!(answer("long")["text"], alone(&scratch)["text"]);
    let running = model_processes(engine.process());
    assert!(running.len() == 1 && running != killed, "{killed:?} {running:?}");
    let attempts = run["nodes"].as_array().unwrap().iter().map(|it| it["attempt"].clone());
    assert!(attempts.eq([1; 5]), "no node was repeated: {run}");
    engine.stop();
}

/// Number of pixels in which two masks of the same size differ.
pub(crate) fn differences(found: &Value, expected: &Value) -> u64 {
    let parse = |it: &Value| {
        let side = |at: usize| u32::try_from(it["size"][at].as_u64().unwrap()).unwrap();
        FlatMask::parse(side(0), side(1), it["counts"].as_str().unwrap()).unwrap()
    };
    let found = parse(found);
    let expected = parse(expected);
    assert_eq!((found.height, found.width), (expected.height, expected.width));
    found.pixels.iter().zip(&expected.pixels).filter(|(a, b)| a != b).count() as u64
}
