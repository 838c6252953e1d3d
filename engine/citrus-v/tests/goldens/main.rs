//! The network compared with inputs and outputs of the reference implementations.
//!
//! There are two sets in the same format: the small one of the project (`own`, made by
//! `make/run.py`), which suffices for every test, and the one in the folder that
//! `ISOCENTER_GOLDENS` names. Shapes, names and cases are read from the set. The tolerances are
//! those of the MANIFEST of the second set.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a panic fails the test"
)]

mod citrus;
mod pictures;
mod qwen;
mod sam;
mod set;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use citrus_v::PixelBounds;
use imaging::Picture;
use sha2::{Digest as _, Sha256};

use crate::set::{Set, Tensors, assert_close, device};

impl Set {
    /// The safetensors files of a folder whose names begin with `prefix`, sorted.
    fn files(&self, folder: &str, prefix: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.path(folder)).unwrap();
        let names = entries.map(|it| it.unwrap().file_name().into_string().unwrap());
        let is_match = |it: &String| it.starts_with(prefix) && it.ends_with(".safetensors");
        let mut names: Vec<String> = names.filter(is_match).collect();
        names.sort();
        assert!(!names.is_empty(), "{folder} holds no {prefix}*");
        names.into_iter().map(|it| format!("{folder}/{it}")).collect()
    }

    /// All pictures of the set.
    fn pictures(&self) -> Vec<Picture> {
        let about = self.json("qwen/preprocess.json");
        let all = about["images"].as_array().unwrap();
        all.iter().map(|it| picture(&self.path(it["file"].as_str().unwrap()))).collect()
    }

    fn bounds(&self) -> PixelBounds {
        let about = self.json("qwen/preprocess.json");
        let number = |it: &str| about[it].as_u64().unwrap();
        PixelBounds { min: number("min_pixels"), max: number("max_pixels") }
    }
}

/// The set of the project suffices for every test: it has what its manifest lists and nothing else,
/// and it has every file that tests read only where a set has it.
#[test]
fn our_own_set_is_complete() {
    let own = Set::own();
    let manifest = own.json("MANIFEST.json");
    let files = manifest["files"].as_object().unwrap();
    for (file, digest) in files {
        let found = Sha256::digest(std::fs::read(own.path(file)).unwrap());
        let hex = found.iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").unwrap();
            text
        });
        assert_eq!(hex, digest.as_str().unwrap(), "{file}");
    }
    let mut found = BTreeSet::new();
    list_files(&own.0, "", &mut found);
    found.remove("MANIFEST.json");
    assert_eq!(found, files.keys().cloned().collect());

    let about = own.json("citrus/train.json");
    let keys = |it: &str| about[it].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let variants = keys("variants").into_iter().map(|it| format!("citrus/grads_{it}.safetensors"));
    let stages = keys("adamw").into_iter().map(|it| format!("citrus/adamw_{it}_delta.safetensors"));
    let needed: Vec<String> = variants.chain(stages).collect();
    assert!(needed.len() >= 4, "{needed:?}");
    for file in needed.iter().map(String::as_str).chain([
        "ckpt/sam2_tiny_hf/config.json",
        "sam/prompt_box.safetensors",
        "sam/prompt_box_point.safetensors",
        "sam/prompt_mask.safetensors",
        "sam/prompt_none.safetensors",
        "sam/prompt_points_pos_neg.safetensors",
        "sam/prompt_two_objects.safetensors",
    ]) {
        assert!(found.contains(file), "{file}");
    }
}

/// Adds the files of a folder to `found`, each with its path after `prefix`.
fn list_files(folder: &Path, prefix: &str, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{prefix}{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            list_files(&entry.path(), &format!("{name}/"), found);
        } else {
            found.insert(name);
        }
    }
}

fn picture(path: &Path) -> Picture {
    Picture::decode(&std::fs::read(path).unwrap()).unwrap()
}
