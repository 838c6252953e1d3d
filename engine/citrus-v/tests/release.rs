//! The published model at its full size, as sparse files without weights.
//!
//! These tests are a binary of their own, because one of them measures the memory of the process.
#![expect(clippy::unwrap_used, reason = "a panic fails the test")]

mod not_run;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use citrus_v::checkpoint_index::NumberType;
use citrus_v::tensor_names::{CanonicalName, canonical_name, release_name};
use citrus_v::tensor_shapes::tensor_shapes;
use citrus_v::{CheckpointIndex, Config};
use serde_json::{Map, json};

use crate::not_run::not_run;

/// Size of the weights in one file of the release.
const SHARD_BYTES: usize = 5 << 30;

/// The shape of every tensor of the release by canonical names, without those for video.
fn tensors() -> BTreeMap<String, Vec<usize>> {
    tensor_shapes(&Config::parse(include_str!("configs/flat.json")).unwrap())
}

#[test]
fn our_layout_is_what_the_classes_of_the_release_declare() {
    let Some(reference) = std::env::var_os("ISOCENTER_REFERENCE").map(PathBuf::from) else {
        return not_run("ISOCENTER_REFERENCE names no folder of reference material");
    };
    let table = std::fs::read_to_string(reference.join("model/release_tensors.tsv")).unwrap();
    let mut found = BTreeMap::new();
    for line in table.lines().skip(1) {
        let (name, shape) = line.split_once('\t').unwrap();
        match canonical_name(name) {
            CanonicalName::Tensor(canonical) => {
                let sides = shape.split('x').map(|it| it.parse().unwrap()).collect();
                assert_eq!(release_name(&canonical), name);
                found.insert(canonical, sides);
            }
            other => assert_eq!(other, CanonicalName::Unused, "{name}"),
        }
    }
    assert_eq!(found, tensors());
}

/// Writes a sparse file of the right length whose header describes these tensors in bf16.
fn write(path: &Path, names: &[(&String, &Vec<usize>)]) {
    let mut header = Map::new();
    let mut start = 0;
    for (name, shape) in names {
        let end = start + shape.iter().product::<usize>() * 2;
        let tensor = json!({"dtype": "BF16", "shape": shape, "data_offsets": [start, end]});
        header.insert(release_name(name), tensor);
        start = end;
    }
    let header = serde_json::to_vec(&header).unwrap();
    let mut file = File::create(path).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    file.write_all(&header).unwrap();
    file.set_len((8 + header.len() + start) as u64).unwrap();
}

/// Peak memory of this process.
fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|it| it.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() * 1024
}

#[test]
fn the_plan_of_the_release_is_made_before_a_weight_is_read() {
    let tensors = tensors();
    let folder = std::env::temp_dir().join(format!("citrus-v-release-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let mut shards = vec![Vec::new()];
    let mut bytes = 0;
    for tensor in &tensors {
        let size = tensor.1.iter().product::<usize>() * 2;
        if bytes + size > SHARD_BYTES {
            shards.push(Vec::new());
            bytes = 0;
        }
        bytes += size;
        shards.last_mut().unwrap().push(tensor);
    }
    for (index, shard) in shards.iter().enumerate() {
        write(&folder.join(format!("model-{:05}.safetensors", index + 1)), shard);
    }

    let plan = CheckpointIndex::read(&folder).unwrap();
    let config = Config::parse(include_str!("configs/flat.json")).unwrap();
    let checked = plan.check(&tensor_shapes(&config));
    let cut = folder.join("model-00002.safetensors");
    let whole = std::fs::metadata(&cut).unwrap().len();
    File::options().write(true).open(&cut).unwrap().set_len(whole - 1).unwrap();
    let error = CheckpointIndex::read(&folder).unwrap_err().to_string();
    std::fs::remove_dir_all(&folder).unwrap();

    checked.unwrap();
    assert!(error.contains("copy it again"), "{error}");
    assert!(shards.len() > 2 && plan.files.len() == shards.len());
    let bytes: u64 = tensors.values().map(|it| it.iter().product::<usize>() as u64 * 2).sum();
    assert_eq!(plan.disk_bytes(), bytes);
    let mut expected = BTreeMap::new();
    for (file, shard) in shards.iter().enumerate() {
        for (name, shape) in shard {
            expected.insert((*name).clone(), (file, (*shape).clone()));
        }
    }
    let found: BTreeMap<_, _> = plan
        .tensors
        .iter()
        .map(|(name, it)| {
            assert_eq!((it.number_type, it.row), (NumberType::Bf16, None));
            (name.clone(), (it.file, it.shape.clone()))
        })
        .collect();
    assert_eq!(found, expected);
    let peak = peak_bytes();
    assert!(peak < 500_000_000, "{peak} bytes");
}
