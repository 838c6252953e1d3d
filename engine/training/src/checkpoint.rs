//! Checkpoints: a folder that loads as a model, with the state of the training in a folder in it.
//!
//! A checkpoint is written beside its place and then renamed: it is whole, or it is not there.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use citrus_v::Weights;
use citrus_v::tensor_names::release_name;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::error::TrainingError;
use crate::optimizer::{AdamW, AdamWSettings, MovingAverage};
use crate::order::Position;
use crate::stages::StagePlan;

/// The size of the weights in one file, as in the release.
const SHARD_BYTES: usize = 5 << 30;

/// The folder with the state of the training, in that of a checkpoint.
const STATE_FOLDER: &str = "training";

/// The files of a model besides its weights that are copied into a checkpoint where they exist.
const COPIED: [&str; 5] = [
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "preprocessor_config.json",
    "generation_config.json",
];

/// What a run needs to go on, besides tensors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct State {
    pub(crate) plan: StagePlan,
    pub(crate) seed: u64,
    pub(crate) position: Position,
}

impl State {
    /// Reads the state of a checkpoint.
    pub(crate) fn read(folder: &Path) -> Result<Self, TrainingError> {
        let path = state_path(folder, "state.json");
        let text = fs::read_to_string(&path)
            .map_err(|source| TrainingError::Io { path: path.clone(), source })?;
        serde_json::from_str(&text).map_err(|source| TrainingError::State { path, source })
    }
}

fn state_path(folder: &Path, name: &str) -> PathBuf {
    folder.join(STATE_FOLDER).join(name)
}

/// Reads the optimizer of a checkpoint.
pub(crate) fn read_optimizer(
    folder: &Path,
    settings: AdamWSettings,
    device: &Device,
) -> Result<AdamW, TrainingError> {
    Ok(AdamW::load(settings, &state_path(folder, "optimizer.safetensors"), device)?)
}

/// Reads the moving average of a checkpoint.
pub(crate) fn read_average(
    folder: &Path,
    decay: f64,
    device: &Device,
) -> Result<MovingAverage, TrainingError> {
    Ok(MovingAverage::load(decay, &state_path(folder, "average.safetensors"), device)?)
}

/// Writes a checkpoint to a folder that does not exist yet. `write_parts` writes its tensors.
pub(crate) fn write(
    folder: &Path,
    source: &Path,
    write_parts: impl FnOnce(&Path) -> Result<(), TrainingError>,
) -> Result<(), TrainingError> {
    let mut name = folder.file_name().unwrap_or_default().to_owned();
    name.push(".partial");
    let partial = folder.with_file_name(name);
    if partial.exists() {
        fs::remove_dir_all(&partial).map_err(|it| io(&partial, it))?;
    }
    let states = partial.join(STATE_FOLDER);
    fs::create_dir_all(&states).map_err(|it| io(&states, it))?;
    for name in COPIED {
        let from = source.join(name);
        if from.exists() {
            fs::copy(&from, partial.join(name)).map_err(|it| io(&from, it))?;
        }
    }
    write_parts(&partial)?;
    sync_all(&partial)?;
    sync_all(&states)?;
    fs::rename(&partial, folder).map_err(|it| io(folder, it))?;
    if let Some(parent) = folder.parent().filter(|it| it.is_dir()) {
        sync(parent)?;
    }
    Ok(())
}

/// Writes all weights, under the names and in files of the size of the release.
pub(crate) fn write_weights(folder: &Path, weights: &Weights) -> Result<(), TrainingError> {
    let mut shards: Vec<HashMap<String, Tensor>> = vec![HashMap::new()];
    let mut shard_bytes = 0;
    let mut total_bytes = 0;
    for name in weights.names() {
        let tensor = weights.get(name)?.detach();
        let bytes = tensor.elem_count() * tensor.dtype().size_in_bytes();
        if shard_bytes > 0 && shard_bytes + bytes > SHARD_BYTES {
            shards.push(HashMap::new());
            shard_bytes = 0;
        }
        shard_bytes += bytes;
        total_bytes += bytes;
        if let Some(shard) = shards.last_mut() {
            shard.insert(release_name(name), tensor);
        }
    }
    let count = shards.len();
    let mut file_of_tensor = BTreeMap::new();
    for (index, shard) in shards.iter().enumerate() {
        let file = format!("model-{:05}-of-{count:05}.safetensors", index + 1);
        candle_core::safetensors::save(shard, folder.join(&file))?;
        file_of_tensor.extend(shard.keys().map(|it| (it.clone(), file.clone())));
    }
    let index = json!({"metadata": {"total_size": total_bytes}, "weight_map": file_of_tensor});
    write_text(&folder.join("model.safetensors.index.json"), &index.to_string())
}

/// Writes the state of the training.
pub(crate) fn write_state(
    folder: &Path,
    state: &State,
    optimizer: &AdamW,
    average: Option<&MovingAverage>,
) -> Result<(), TrainingError> {
    optimizer.save(&state_path(folder, "optimizer.safetensors"))?;
    if let Some(average) = average {
        average.save(&state_path(folder, "average.safetensors"))?;
    }
    let path = state_path(folder, "state.json");
    let text = serde_json::to_string_pretty(state)
        .map_err(|source| TrainingError::State { path: path.clone(), source })?;
    write_text(&path, &text)
}

fn write_text(path: &Path, text: &str) -> Result<(), TrainingError> {
    fs::write(path, text).map_err(|it| io(path, it))
}

/// Waits until the files of a folder are on the disk.
fn sync_all(folder: &Path) -> Result<(), TrainingError> {
    for entry in fs::read_dir(folder).map_err(|it| io(folder, it))? {
        let path = entry.map_err(|it| io(folder, it))?.path();
        if path.is_file() {
            sync(&path)?;
        }
    }
    sync(folder)
}

fn sync(path: &Path) -> Result<(), TrainingError> {
    fs::File::open(path).and_then(|it| it.sync_all()).map_err(|it| io(path, it))
}

fn io(path: &Path, source: std::io::Error) -> TrainingError {
    TrainingError::Io { path: path.to_owned(), source }
}
