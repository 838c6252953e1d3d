//! Forms of checkpoints, incomplete checkpoints, and generation for several sequences. The weights
//! are random numbers that the tests make.
#![expect(clippy::unwrap_used, reason = "a panic fails the test")]

mod forms;
mod sequences;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use citrus_v::attention::causal_mask;
use citrus_v::kv_cache::KvCache;
use citrus_v::language_model::LanguageModel;
use citrus_v::rope::RotaryEmbedding;
use citrus_v::tensor_shapes::tensor_shapes;
use citrus_v::{CheckpointIndex, Config, Weights};
use serde_json::{Value, json};

/// A temporary folder that is removed with its content when the value is dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("citrus-v-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // The system empties its temporary folder, so files that cannot be removed may stay.
        _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The description of a model that is small enough to compute at once.
fn description(kv_heads: usize, is_tied: bool) -> Value {
    json!({
        "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": kv_heads, "vocab_size": 50,
        "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": is_tied,
        "rope_scaling": { "type": "mrope", "mrope_section": [1, 2, 1] },
        "image_token_id": 40, "vision_start_token_id": 41,
        "vision_config": {
            "depth": 3, "hidden_size": 16, "intermediate_size": 20, "num_heads": 2,
            "patch_size": 2, "temporal_patch_size": 2, "spatial_merge_size": 2, "window_size": 8,
            "fullatt_block_indexes": [1], "out_hidden_size": 32
        },
    })
}

/// Pseudorandom numbers, the same on every machine.
fn numbers(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
    };
    (0..count).map(next).collect()
}

/// Random weights of a model, by canonical names.
fn random(config: &Config) -> HashMap<String, Tensor> {
    let mut tensors = HashMap::new();
    for (seed, (name, shape)) in (7..).zip(tensor_shapes(config)) {
        let count = shape.iter().product();
        let scale = if name.contains("norm") { 1.0 } else { 0.4 };
        let values: Vec<f32> = numbers(seed, count).into_iter().map(|it| it * scale).collect();
        tensors.insert(name, Tensor::from_vec(values, shape, &Device::Cpu).unwrap());
    }
    tensors
}

/// Prefixes of the vision encoder, the language model and the output layer in different releases.
const NAMINGS: [[&str; 3]; 3] = [
    ["visual.", "model.", "lm_head."],
    ["model.visual.", "model.language_model.", "lm_head."],
    ["mllm.model.visual.", "mllm.model.language_model.", "mllm.lm_head."],
];

/// A canonical name with the prefixes of a release.
fn renamed(name: &str, naming: [&str; 3]) -> String {
    let mut prefixes = ["visual.", "language_model.", "lm_head."].into_iter().zip(naming);
    let renamed = |(own, other): (&str, &str)| Some(format!("{other}{}", name.strip_prefix(own)?));
    prefixes.find_map(renamed).unwrap()
}

fn write(folder: &Path, file: &str, tensors: &HashMap<String, Tensor>) {
    candle_core::safetensors::save(tensors, folder.join(file)).unwrap();
}

/// The language model with random weights.
fn text_of(config: &Config) -> LanguageModel {
    let scratch = Scratch::new(&format!("property-{:?}", std::thread::current().id()));
    let named =
        random(config).iter().map(|(name, it)| (renamed(name, NAMINGS[0]), it.clone())).collect();
    write(&scratch.0, "model.safetensors", &named);
    let plan = CheckpointIndex::read(&scratch.0).unwrap();
    LanguageModel::load(&Weights::open(plan, DType::F32, &Device::Cpu).unwrap(), &config.text)
        .unwrap()
}

/// Logits of tokens, prefilled in chunks of `split`.
fn read(text: &LanguageModel, config: &Config, words: &[u32], split: usize) -> Vec<f32> {
    let mut cache = KvCache::default();
    let mut all = Vec::new();
    for piece in words.chunks(split) {
        let before = cache.len();
        let positions: Vec<i64> =
            (before..before + piece.len()).map(|it| i64::try_from(it).unwrap()).collect();
        let rotary = RotaryEmbedding::multimodal(
            &config.text,
            &[[&positions; 3].map(Vec::as_slice)],
            &Device::Cpu,
        )
        .unwrap();
        let mask = causal_mask(piece.len(), before, &[], &Device::Cpu, DType::F32).unwrap();
        let embeddings = text.embed(piece).unwrap().unsqueeze(0).unwrap();
        let hidden = text.forward(&embeddings, &rotary, mask.as_ref(), Some(&mut cache)).unwrap();
        let logits = text.logits(&hidden).unwrap();
        all.extend(logits.flatten_all().unwrap().to_vec1::<f32>().unwrap());
    }
    all
}
