//! Many sequences at once: batches, chunks, releases and the prefix cache.

use std::collections::HashMap;
use std::ops::ControlFlow;

use candle_core::{DType, Device, Tensor};
use citrus_v::attention::causal_mask;
use citrus_v::rope::RotaryEmbedding;
use citrus_v::{CitrusV, Config, GenerationConfig, ModelInput, Phase, Sequence};
use imaging::Picture;
use proptest::prelude::*;
use serde_json::json;

use crate::{NAMINGS, Scratch, description, numbers, random, read, renamed, text_of, write};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// The logits of a sequence are the same alone, in chunks through the KV cache, and in a batch
    /// with shorter or longer sequences, padded on either side.
    #[test]
    fn cache_batch_and_padding_change_no_logits(
        lengths in proptest::collection::vec(1_usize..9, 1..4),
        split in 1_usize..8,
        is_left in any::<bool>(),
        seed in 1_u32..1000,
    ) {
        let config = Config::parse(&description(2, false).to_string()).unwrap();
        let text = text_of(&config);
        let word = |row: usize, at: usize| {
            (seed + u32::try_from(row * 17 + at * 5).unwrap()) % 40
        };
        let longest = *lengths.iter().max().unwrap();
        let mut alone = Vec::new();
        let mut ids = Vec::new();
        let mut padding = Vec::new();
        let mut axes = Vec::new();
        for (row, length) in lengths.iter().enumerate() {
            let words: Vec<u32> = (0..*length).map(|at| word(row, at)).collect();
            alone.push(read(&text, &config, &words, split));
            let gap = if is_left { longest - length } else { 0 };
            let is_token = |at: usize| (gap..gap + length).contains(&at);
            let id = |at: usize| if is_token(at) { words[at - gap] } else { 0 };
            ids.extend((0..longest).map(id));
            padding.push((0..longest).map(|at| !is_token(at)).collect::<Vec<_>>());
            let position =
                |at: usize| if is_token(at) { i64::try_from(at - gap).unwrap() } else { 1 };
            axes.push((0..longest).map(position).collect::<Vec<i64>>());
        }
        let rows: Vec<[&[i64]; 3]> = axes.iter().map(|it| [it.as_slice(); 3]).collect();
        let rotary = RotaryEmbedding::multimodal(&config.text, &rows, &Device::Cpu).unwrap();
        let mask = causal_mask(longest, 0, &padding, &Device::Cpu, DType::F32).unwrap();
        let embeddings = text.embed(&ids).unwrap();
        let embeddings = embeddings.reshape((lengths.len(), longest, config.text.hidden)).unwrap();
        let hidden = text.forward(&embeddings, &rotary, mask.as_ref(), None).unwrap();
        let all = text.logits(&hidden).unwrap();
        for (row, length) in lengths.iter().enumerate() {
            let gap = if is_left { longest - length } else { 0 };
            let found = all.get(row).unwrap().narrow(0, gap, *length).unwrap();
            let found: Vec<f32> = found.flatten_all().unwrap().to_vec1().unwrap();
            let worst = found.iter().zip(&alone[row]).map(|(a, b)| (a - b).abs());
            let worst = worst.fold(0.0, f32::max);
            prop_assert!(worst < 1e-4, "row {row} of {lengths:?}: {worst}");
        }
    }
}

/// A model with a vocabulary of fifty words.
fn model(scratch: &Scratch) -> CitrusV {
    let config = Config::parse(&description(2, false).to_string()).unwrap();
    let named =
        random(&config).iter().map(|(name, it)| (renamed(name, NAMINGS[0]), it.clone())).collect();
    write(&scratch.0, "model.safetensors", &named);
    std::fs::write(scratch.0.join("config.json"), description(2, false).to_string()).unwrap();
    let words: HashMap<String, usize> = (0..50).map(|it| (format!("w{it}"), it)).collect();
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
        "normalizer": null, "pre_tokenizer": null, "post_processor": null, "decoder": null,
        "model": { "type": "WordLevel", "vocab": words, "unk_token": "w0" },
    });
    std::fs::write(scratch.0.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    CitrusV::load(&scratch.0, DType::F32, &Device::Cpu).unwrap()
}

/// A prompt with a picture in it, unless `rows` is zero.
fn question(seed: u32, words: usize, rows: usize, patch: usize) -> ModelInput {
    let word = |at: usize| (seed * 7 + u32::try_from(at).unwrap() * 3) % 40;
    let mut ids: Vec<u32> = (0..words).map(word).collect();
    if rows == 0 {
        return ModelInput {
            token_ids: ids,
            patches: None,
            grids: Vec::new(),
            resized: Vec::new(),
        };
    }
    ids.extend([41].into_iter().chain(std::iter::repeat_n(40, rows * 2)).chain([1, 2]));
    let count = rows * 8;
    let patches =
        Tensor::from_vec(numbers(seed.into(), count * patch), (count, patch), &Device::Cpu);
    // Only the patches are encoded; the picture itself only has to have another digest.
    let rgb = seed.to_le_bytes()[..3].repeat(rows);
    let resized = vec![Picture { width: 1, height: u32::try_from(rows).unwrap(), rgb }];
    ModelInput {
        token_ids: ids,
        patches: Some(patches.unwrap()),
        grids: vec![[1, rows * 2, 4]],
        resized,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Sequences in one batch, prefilled in chunks, started at different times and released,
    /// generate what they generate alone, unless two tokens are equally likely. The same holds if
    /// some have the prompt of others and the model caches prefixes.
    #[test]
    fn sequences_in_a_batch_generate_what_they_generate_alone(
        questions in proptest::collection::vec((1_usize..6, 0_usize..3, 0_usize..5), 1..5),
        chunk in 1_usize..6,
        released_at in 0_usize..12,
        cache_bytes in prop_oneof![Just(0), Just(70_000), Just(1 << 24)],
        seeds in 1_u32..4,
    ) {
        let scratch = Scratch::new(&format!("turns-{:?}", std::thread::current().id()));
        let uncached = model(&scratch);
        let model = model(&scratch).with_cache(cache_bytes);
        let patch = model.config().vision.patch_len();
        let decoding = GenerationConfig { tokens_max: 10, ..GenerationConfig::default() };
        let all: Vec<ModelInput> = (0..).zip(&questions)
            .map(|(at, (words, rows, _))| question(at % seeds, *words, *rows, patch))
            .collect();
        let mut sequences: Vec<Sequence> =
            all.iter().map(|it| model.start(it.clone(), &decoding).unwrap()).collect();
        let mut round = 0;
        while sequences.iter().any(|it| it.phase() != Phase::Finished) {
            for (index, sequence) in sequences.iter_mut().enumerate() {
                let start_round = questions[index].2;
                if start_round > round {
                    continue;
                }
                match sequence.phase() {
                    Phase::EncodeImage => model.encode_next_image(sequence).unwrap(),
                    Phase::Prefill => model.prefill(sequence, chunk).unwrap(),
                    Phase::Decode if round == released_at + index => sequence.release(),
                    _ => {}
                }
            }
            let mut batch: Vec<&mut Sequence> = sequences.iter_mut().collect();
            model.decode(&mut batch, &mut |_| {}).unwrap();
            round += 1;
            prop_assert!(round < 200);
        }
        for (sequence, question) in sequences.into_iter().zip(&all) {
            let mut alone = Vec::new();
            let mut margins = Vec::new();
            let mut observe = |token, logits: &[f32]| {
                let mut sorted = logits.to_vec();
                sorted.sort_by(|a, b| b.total_cmp(a));
                alone.push(token);
                margins.push(sorted[0] - sorted[1]);
                ControlFlow::Continue(())
            };
            uncached.generate(question, &decoding, &mut observe).unwrap();
            let together = sequence.into_generation().unwrap().token_ids;
            let difference = together.iter().zip(&alone).position(|(a, b)| a != b);
            prop_assert!(difference.is_none_or(|at| margins[at] < 1e-3), "{together:?} {alone:?}");
            prop_assert_eq!(together.len(), alone.len());
        }
    }
}

/// Generates, and returns the tokens with their logits.
fn generated(model: &CitrusV, sequence: &mut Sequence) -> (Vec<u32>, Vec<Vec<f32>>) {
    let mut tokens = Vec::new();
    let mut all_logits = Vec::new();
    while sequence.phase() != Phase::Finished {
        match sequence.phase() {
            Phase::EncodeImage => model.encode_next_image(sequence).unwrap(),
            Phase::Prefill => model.prefill(sequence, 4).unwrap(),
            _ => model
                .decode(&mut [&mut *sequence], &mut |decoded| {
                    tokens.push(decoded.token);
                    all_logits.push(decoded.logits.to_vec());
                })
                .unwrap(),
        }
    }
    (tokens, all_logits)
}

#[test]
fn a_cached_prefix_is_not_prefilled_again_and_gives_the_same_text() {
    let scratch = Scratch::new("prefix-cache");
    let model = model(&scratch).with_cache(1 << 24);
    let decoding = GenerationConfig { tokens_max: 6, ..GenerationConfig::default() };
    let patch = model.config().vision.patch_len();
    let prompt = question(2, 5, 2, patch);
    let ask = |question: &ModelInput| {
        let mut sequence = model.start(question.clone(), &decoding).unwrap();
        let found = generated(&model, &mut sequence);
        (sequence.cached_tokens(), found)
    };
    let (cached, first) = ask(&prompt);
    assert_eq!(cached, 0);
    let (cached, second) = ask(&prompt);
    assert_eq!((cached, &second.0), (prompt.token_ids.len() - 1, &first.0));
    let pairs = first.1.iter().flatten().zip(second.1.iter().flatten());
    assert!(pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) < 1e-4);
    // The conversation continues: the last token of the answer was not processed yet.
    let more = [prompt.token_ids.as_slice(), &first.0, &[7, 8]].concat();
    let (cached, _) = ask(&ModelInput { token_ids: more, ..prompt.clone() });
    assert_eq!(cached, prompt.token_ids.len() + first.0.len() - 1);
    // Another picture in the same place: only the tokens before the picture are reused.
    let other = question(3, 5, 2, patch);
    let (cached, found) = ask(&ModelInput { token_ids: prompt.token_ids.clone(), ..other });
    assert_eq!(cached, 6);
    assert_ne!(found.1, first.1);
}
