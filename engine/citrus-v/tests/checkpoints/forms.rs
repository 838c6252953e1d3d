//! Names, number types and files of checkpoints, and errors about incomplete ones.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use citrus_v::attention::causal_mask;
use citrus_v::language_model::LanguageModel;
use citrus_v::positions::mrope_positions;
use citrus_v::rope::RotaryEmbedding;
use citrus_v::tensor_shapes::tensor_shapes;
use citrus_v::vision_encoder::VisionEncoder;
use citrus_v::{CheckpointIndex, Config, Precision, Weights, WeightsError};

use crate::{NAMINGS, Scratch, description, numbers, random, read, renamed, write};

/// The logits of the model in `folder` for a prompt with two pictures.
fn logits(folder: &Path, config: &Config) -> Vec<f32> {
    let plan = CheckpointIndex::read(folder).unwrap();
    plan.check(&tensor_shapes(config)).unwrap();
    let weights = Weights::open(plan, DType::F32, &Device::Cpu).unwrap();
    let text = LanguageModel::load(&weights, &config.text).unwrap();
    let vision = VisionEncoder::load(&weights, &config.vision).unwrap();
    let grids = [[1, 4, 6], [1, 6, 4]];
    let patches = numbers(3, 48 * config.vision.patch_len());
    let patches = Tensor::from_vec(patches, (48, config.vision.patch_len()), &Device::Cpu).unwrap();
    let features = vision.forward(&patches, &grids).unwrap();
    let ids = [&[1, 41][..], &[40; 6], &[2, 3, 41], &[40; 6], &[4, 5]].concat();
    let words = text.embed(&ids).unwrap();
    let mut rows = Vec::new();
    let mut next = 0;
    for (index, id) in ids.iter().enumerate() {
        if *id == 40 {
            rows.push(features.narrow(0, next, 1).unwrap());
            next += 1;
        } else {
            rows.push(words.narrow(0, index, 1).unwrap());
        }
    }
    let found = mrope_positions(&ids, 40, &grids, 2).unwrap();
    let [time, row, column] = &found.axes;
    let rotary =
        RotaryEmbedding::multimodal(&config.text, &[[time, row, column]], &Device::Cpu).unwrap();
    let mask = causal_mask(ids.len(), 0, &[], &Device::Cpu, DType::F32).unwrap();
    let embeddings = Tensor::cat(&rows, 0).unwrap().unsqueeze(0).unwrap();
    let hidden = text.forward(&embeddings, &rotary, mask.as_ref(), None).unwrap();
    text.logits(&hidden).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn every_naming_number_of_files_and_head_gives_the_same_answers() {
    for (kv_heads, is_tied) in [(2, false), (1, false), (4, true)] {
        let config = Config::parse(&description(kv_heads, is_tied).to_string()).unwrap();
        let tensors = random(&config);
        let mut all = Vec::new();
        for (index, naming) in NAMINGS.into_iter().enumerate() {
            let scratch = Scratch::new(&format!("naming-{kv_heads}-{index}"));
            let named: HashMap<String, Tensor> =
                tensors.iter().map(|(name, it)| (renamed(name, naming), it.clone())).collect();
            // The first naming has one file, the second two, the third three.
            for shard in 0..=index {
                let is_in_shard = |name: &str| name.len() % (index + 1) == shard;
                let tensors = named.iter().filter(|(name, _)| is_in_shard(name));
                let tensors = tensors.map(|(name, it)| (name.clone(), it.clone())).collect();
                write(&scratch.0, &format!("model-{shard}.safetensors"), &tensors);
            }
            all.push(logits(&scratch.0, &config));
        }
        assert!(all[0].iter().all(|it| it.is_finite()) && all[0].iter().any(|it| it.abs() > 0.01));
        assert!(all[1] == all[0] && all[2] == all[0], "{kv_heads} {is_tied}");
        // If the embedding is also the output layer, some checkpoints contain it twice.
        if is_tied {
            let scratch = Scratch::new("twice");
            let mut named = tensors.clone();
            let table = named["language_model.embed_tokens.weight"].clone();
            named.insert("lm_head.weight".to_owned(), table);
            let named: HashMap<String, Tensor> =
                named.iter().map(|(name, it)| (renamed(name, NAMINGS[0]), it.clone())).collect();
            write(&scratch.0, "model.safetensors", &named);
            assert_eq!(logits(&scratch.0, &config), all[0]);
        }
    }
}

#[test]
fn numbers_of_half_the_length_are_read() {
    let config = Config::parse(&description(2, false).to_string()).unwrap();
    let exact: HashMap<String, Tensor> = random(&config)
        .into_iter()
        // Only numbers that both types can represent.
        .map(|(name, it)| (name, it.to_dtype(DType::BF16).unwrap().to_dtype(DType::F32).unwrap()))
        .collect();
    let mut all = Vec::new();
    for kind in [DType::F32, DType::BF16] {
        let scratch = Scratch::new(&format!("{kind:?}"));
        let named: HashMap<String, Tensor> = exact
            .iter()
            .map(|(name, it)| (renamed(name, NAMINGS[0]), it.to_dtype(kind).unwrap()))
            .collect();
        write(&scratch.0, "model.safetensors", &named);
        all.push(logits(&scratch.0, &config));
    }
    assert_eq!(all[0], all[1]);
}

/// Quantization to eight bits has a small error. Layers that cannot be quantized are listed.
#[test]
fn eight_bits_stay_close_and_what_cannot_be_cut_in_blocks_is_listed() {
    let config = Config::parse(&description(2, false).to_string()).unwrap();
    let scratch = Scratch::new("eight");
    let named =
        random(&config).iter().map(|(name, it)| (renamed(name, NAMINGS[0]), it.clone())).collect();
    write(&scratch.0, "model.safetensors", &named);
    let words: Vec<u32> = (0..12).map(|it| it * 3).collect();
    let load = |precision: Precision| {
        let plan = CheckpointIndex::read(&scratch.0).unwrap();
        let weights = Weights::open(plan, precision, &Device::Cpu).unwrap();
        let text = LanguageModel::load(&weights, &config.text).unwrap();
        read(&text, &config, &words, words.len())
    };
    let exact = load(Precision::Full(DType::F32));
    let eight = load(Precision::Q8_0);
    // The rows of this layer have 48 numbers, not a multiple of the block size 32.
    let expected = [0, 1].map(|it| format!("language_model.layers.{it}.mlp.down_proj.weight"));
    assert_eq!(CheckpointIndex::read(&scratch.0).unwrap().unquantizable(), expected);
    let length = |it: &[f32]| it.iter().map(|it| it * it).sum::<f32>().sqrt();
    let difference: Vec<f32> = exact.iter().zip(&eight).map(|(a, b)| a - b).collect();
    let error = length(&difference) / length(&exact);
    assert!(error > 0.0 && error < 0.02, "{error}");
}

/// Missing, unexpected and misshapen tensors are listed before any weight is read.
#[test]
fn what_does_not_fit_is_refused_with_a_list() {
    let config = Config::parse(&description(2, false).to_string()).unwrap();
    let scratch = Scratch::new("misfit");
    let mut named: HashMap<String, Tensor> =
        random(&config).iter().map(|(name, it)| (renamed(name, NAMINGS[0]), it.clone())).collect();
    let removed = named.remove("model.layers.1.mlp.up_proj.weight").unwrap();
    named.insert("model.layers.1.mlp.upper_proj.weight".to_owned(), removed.clone());
    named.insert("model.norm.weight".to_owned(), removed);
    named.insert("something.else".to_owned(), Tensor::zeros(1, DType::F32, &Device::Cpu).unwrap());
    write(&scratch.0, "model.safetensors", &named);

    let error = CheckpointIndex::read(&scratch.0)
        .unwrap()
        .check(&tensor_shapes(&config))
        .unwrap_err()
        .to_string();

    for expected in [
        "missing:\n    language_model.layers.1.mlp.up_proj.weight",
        "unexpected:\n    something.else\n    model.layers.1.mlp.upper_proj.weight",
        "language_model.norm.weight: [32] is needed, [48, 32] is there",
    ] {
        assert!(error.contains(expected), "{expected} is not in:\n{error}");
    }
}

/// A folder may have both the complete checkpoint and its shards.
#[test]
fn a_tensor_in_two_files_is_refused() {
    let config = Config::parse(&description(2, false).to_string()).unwrap();
    let scratch = Scratch::new("two-files");
    let named: HashMap<String, Tensor> =
        random(&config).iter().map(|(name, it)| (renamed(name, NAMINGS[0]), it.clone())).collect();
    write(&scratch.0, "model.safetensors", &named);
    let norm = "model.norm.weight".to_owned();
    let again = HashMap::from([(norm.clone(), named[&norm].clone())]);
    write(&scratch.0, "consolidated.safetensors", &again);
    let error = CheckpointIndex::read(&scratch.0)
        .unwrap()
        .check(&tensor_shapes(&config))
        .unwrap_err()
        .to_string();
    assert!(error.contains("in two files:\n    model.norm.weight"), "{error}");
}

#[test]
fn files_that_are_not_whole_or_not_safetensors_are_refused() {
    let scratch = Scratch::new("broken");
    let read = || CheckpointIndex::read(&scratch.0).unwrap_err();
    std::fs::write(scratch.0.join("pytorch_model.bin"), "a pickle").unwrap();
    assert!(matches!(read(), WeightsError::NoWeights { .. }), "{}", read());
    let file = scratch.0.join("model.safetensors");
    let tensors = HashMap::from([(
        "lm_head.weight".to_owned(),
        Tensor::zeros((4, 4), DType::F32, &Device::Cpu).unwrap(),
    )]);
    write(&scratch.0, "model.safetensors", &tensors);
    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&file, &whole[..whole.len() - 1]).unwrap();
    assert!(read().to_string().contains("copy it again"), "{}", read());
    let mut huge = whole.clone();
    huge[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    for garbage in [huge.as_slice(), b"short", b"\x02\0\0\0\0\0\0\0{]", &[]] {
        std::fs::write(&file, garbage).unwrap();
        assert!(matches!(read(), WeightsError::NotSafetensors { .. }), "{}", read());
    }
    let whole_numbers = HashMap::from([(
        "lm_head.weight".to_owned(),
        Tensor::zeros((4, 4), DType::I64, &Device::Cpu).unwrap(),
    )]);
    write(&scratch.0, "model.safetensors", &whole_numbers);
    assert!(read().to_string().contains("is of the kind I64"), "{}", read());
}
