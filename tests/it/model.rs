//! Models: taken in with what is known of them, and asked about pictures.

use std::path::Path;
use std::process::{Command, Output};

use imaging::FlatMask;
use serde_json::Value;
use system_tests::{Scratch, program, reference};

fn model(scratch: &Scratch, arguments: &[&str]) -> Output {
    let mut command = Command::new(program());
    command.arg("model").args(arguments).arg("--data").arg(scratch.path("data"));
    command.output().unwrap()
}

fn said(output: &Output) -> String {
    let both = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8_lossy(&both).into_owned()
}

const WHENCE: [&str; 4] = ["--source", "the test", "--licence", "Apache-2.0"];

#[test]
fn what_cannot_be_a_model_is_told_with_what_to_do() {
    let scratch = Scratch::default();
    let import = |folder: &str, name: &str| {
        let folder = scratch.path(folder).display().to_string();
        let output = model(&scratch, &[&["import", &folder, "--name", name], &WHENCE[..]].concat());
        assert!(!output.status.success());
        said(&output)
    };
    assert!(import("nowhere", "x").contains("nowhere"));
    assert!(import("nowhere", "../x").contains("small letters, digits"));
    scratch.write("half/config.json", "{ \"hidden_size\": 8 }");
    assert!(import("half", "x").contains("no usable"));
    let run = model(&scratch, &["run", "nobody", "--prompt", "x"]);
    assert!(said(&run).contains("there is no model `nobody`; there are: none"), "{}", said(&run));
    assert_eq!(model(&scratch, &["list", "--json"]).stdout, b"[]\n");
}

/// The set of the reference: the same words, and the same masks on the pictures as they were sent.
#[test]
#[expect(clippy::print_stdout, reason = "a test says what it did not do")]
fn a_model_is_taken_in_and_says_and_draws_what_the_reference_does() {
    let Some(set) = reference().map(|it| it.join("model/goldens/public")) else {
        println!("not run: ISOCENTER_REFERENCE is not there");
        return;
    };
    let scratch = Scratch::default();
    let checkpoint = set.join("ckpt/citrus_tiny").display().to_string();
    let import = [&["import", &checkpoint, "--name", "tiny"], &WHENCE[..]].concat();
    let first = model(&scratch, &import);
    assert!(
        first.status.success() && said(&first).contains("not for clinical use"),
        "{}",
        said(&first)
    );
    let again = model(&scratch, &import);
    assert_eq!(again.stdout, first.stdout, "the same again changes nothing");
    let about = read(&set.join("citrus/infer.json"));
    let pixels = read(&set.join("qwen/preprocess.json"));
    for query in about["queries"].as_array().unwrap() {
        check(&scratch, &set, &pixels, query);
    }

    // A byte that changes is found.
    let file = scratch.path("data/models/tiny/checkpoint/config.json");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes.push(b' ');
    std::fs::write(&file, bytes).unwrap();
    let show = model(&scratch, &["show", "tiny"]);
    assert!(said(&show).contains("config.json") && said(&show).contains("import it again"));
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

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
    let found: Value = serde_json::from_slice(&output.stdout).map_err(|_| said(&output)).unwrap();
    assert_eq!(found["text"], query["text"]);
    assert_eq!(found["warning"], "not for clinical use");
    let (masks, expected) =
        (found["masks"].as_array().unwrap(), query["masks"].as_array().unwrap());
    assert_eq!(masks.len(), expected.len());
    for (mask, expected) in masks.iter().zip(expected) {
        let parse = |it: &Value| {
            let side = |at: usize| u32::try_from(it["size"][at].as_u64().unwrap()).unwrap();
            FlatMask::parse(side(0), side(1), it["counts"].as_str().unwrap()).unwrap()
        };
        let (found, reference) = (parse(mask), parse(&expected["rle_original"]));
        let pairs = found.pixels.iter().zip(&reference.pixels);
        let differ = pairs.filter(|(a, b)| a != b).count() as u64;
        // Pixels whose logit is close to nought may fall on either side; each is a few of the picture.
        let close = expected["near_zero_pixels"].as_u64().unwrap();
        assert!(differ <= close * 8, "{differ} pixels differ, {close} were close");
    }
    let drawn = std::fs::read(&out).unwrap();
    assert!(drawn.starts_with(b"\x89PNG"));
}
