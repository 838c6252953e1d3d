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
mod training;

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use candle_core::{DType, Device, Tensor};
use citrus_v::PixelBounds;
use citrus_v::compute::Compute;
use imaging::Picture;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// The device of all computations: the CPU, or what `ISOCENTER_DEVICE` names (`cuda`). The device
/// is opened once, because tensors of different handles of a GPU cannot be combined.
fn device() -> Device {
    static DEVICE: LazyLock<Device> = LazyLock::new(|| {
        let name = std::env::var("ISOCENTER_DEVICE").unwrap_or_else(|_| "cpu".to_owned());
        name.parse::<Compute>().unwrap().device().unwrap().0
    });
    DEVICE.clone()
}

/// A folder with a set of inputs and outputs.
struct Set(PathBuf);

impl Set {
    /// The set of the project.
    fn own() -> Self {
        Self(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/own"))
    }

    /// The sets that have this file: the project's own, which must have it, and the one that
    /// `ISOCENTER_GOLDENS` names, if it does.
    fn with(file: &str) -> Vec<Self> {
        let own = Self::own();
        assert!(own.path(file).exists(), "the set of the project has no {file}");
        let other = std::env::var_os("ISOCENTER_GOLDENS").map(|it| Self(PathBuf::from(it)));
        let is_usable = |it: &Self| it.path("MANIFEST.json").exists() && it.path(file).exists();
        std::iter::once(own).chain(other.filter(is_usable)).collect()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn json(&self, name: &str) -> Value {
        serde_json::from_str(&std::fs::read_to_string(self.path(name)).unwrap()).unwrap()
    }

    fn tensors(&self, name: &str) -> Tensors {
        Tensors(candle_core::safetensors::load(self.path(name), &device()).unwrap())
    }

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

/// The tensors of a file, by name.
struct Tensors(HashMap<String, Tensor>);

impl Tensors {
    fn get(&self, name: &str) -> &Tensor {
        self.0.get(name).unwrap_or_else(|| panic!("the set has no `{name}`"))
    }

    fn numbers(&self, name: &str) -> Vec<i64> {
        // A GPU does not convert every number type to this one.
        let tensor = self.get(name).to_device(&Device::Cpu).unwrap().to_dtype(DType::I64).unwrap();
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    }

    fn ids(&self, name: &str) -> Vec<u32> {
        self.numbers(name).into_iter().map(|it| u32::try_from(it).unwrap()).collect()
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        self.get(name).flatten_all().unwrap().to_vec1().unwrap()
    }
}

/// Fails unless every number is within `abs` plus `rel` times the expected number.
#[track_caller]
fn assert_close(what: &str, found: &Tensor, expected: &Tensor, abs: f32, rel: f32) {
    let flat = |it: &Tensor| {
        it.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap()
    };
    let found = flat(found);
    let expected = flat(expected);
    assert_eq!(found.len(), expected.len(), "{what}");
    let excess = found.iter().zip(&expected).map(|(a, b)| (a - b).abs() - abs - rel * b.abs());
    let worst = excess.fold(f32::NEG_INFINITY, f32::max);
    assert!(worst <= 0.0, "{what}: {worst} beyond what is tolerated");
}
