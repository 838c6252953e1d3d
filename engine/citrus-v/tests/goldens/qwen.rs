//! Qwen2.5-VL compared with the reference: tokenizer, vision encoder, prompts, padded batches.

use std::ops::ControlFlow;

use candle_core::{DType, Tensor};
use citrus_v::attention::causal_mask;
use citrus_v::positions::{WindowPartition, mrope_positions, patch_angles};
use citrus_v::rope::RotaryEmbedding;
use citrus_v::tokenizer::{Tokenizer, apply_chat_template};
use citrus_v::{CitrusV, GenerationConfig, Message, MessageRole, ModelInput};
use serde_json::Value;

use crate::{Set, Tensors, assert_close, device};

fn model(set: &Set) -> CitrusV {
    CitrusV::load(&set.path("ckpt/qwen_tiny"), DType::F32, &device()).unwrap()
}

fn grids(tensors: &Tensors) -> Vec<[usize; 3]> {
    let numbers = tensors.numbers("image_grid_thw");
    numbers.chunks(3).map(|it| [0, 1, 2].map(|at| usize::try_from(it[at]).unwrap())).collect()
}

#[test]
fn tokens_are_those_of_the_reference() {
    for set in Set::with("qwen/tokenizer.json") {
        let tokens = Tokenizer::open(&set.path("ckpt/qwen_tiny"), None).unwrap();
        let about = set.json("qwen/tokenizer.json");
        for case in about["cases"].as_array().unwrap() {
            let ids = tokens.encode(case["text"].as_str().unwrap()).unwrap();
            let expected: Vec<u64> =
                case["ids"].as_array().unwrap().iter().map(|it| it.as_u64().unwrap()).collect();
            assert_eq!(ids.iter().copied().map(u64::from).collect::<Vec<_>>(), expected, "{case}");
            assert_eq!(tokens.decode(&ids).unwrap(), case["decoded"].as_str().unwrap());
        }
        for (token, id) in about["special_ids"].as_object().unwrap() {
            assert_eq!(tokens.token_id(token).map(u64::from), id.as_u64(), "{token}");
        }
    }
}

#[test]
fn the_vision_encoder_is_that_of_the_reference() {
    for set in Set::with("qwen/vision.safetensors") {
        let model = model(&set);
        let input = set.tensors("qwen/preprocess.safetensors");
        let expected = set.tensors("qwen/vision.safetensors");
        let grids = grids(&input);
        let vision = &model.config().vision;
        let windows = WindowPartition::of(vision, &grids);
        assert_eq!(windows.order, expected.ids("window_index"));
        let ends: Vec<i64> =
            windows.window_boundaries.iter().map(|it| i64::try_from(*it).unwrap()).collect();
        assert_eq!(ends, expected.numbers("cu_window_seqlens"));
        let angles = Tensor::new(patch_angles(vision, &grids), &device()).unwrap();
        assert_close("rot_pos_emb", &angles, expected.get("rot_pos_emb"), 1e-5, 1e-5);
        let mut checked = 0;
        let mut check = |name: &str, found: &Tensor| {
            assert_close(name, found, expected.get(name), 1e-4, 1e-4);
            checked += 1;
        };
        let merged = model
            .vision_encoder()
            .forward_traced(input.get("pixel_values"), &grids, &mut check)
            .unwrap();
        assert_close("merged", &merged, expected.get("merged"), 1e-4, 1e-4);
        assert_eq!(checked, vision.depth + 1);
    }
}

fn messages(prompt: &Value) -> Vec<Message> {
    prompt["messages"].as_array().unwrap().iter().map(message).collect()
}

/// A message whose content is a text, or a list of pictures and texts.
fn message(message: &Value) -> Message {
    let content = &message["content"];
    let parts = content.as_array().cloned().unwrap_or_default();
    let text = content.as_str().map(str::to_owned);
    let text_of = |part: &Value| part["text"].as_str().unwrap_or_default().to_owned();
    Message {
        role: match message["role"].as_str().unwrap() {
            "system" => MessageRole::System,
            "user" => MessageRole::User,
            _ => MessageRole::Assistant,
        },
        pictures: parts.iter().filter(|it| it["type"] == "image").count(),
        text: text.unwrap_or_else(|| parts.iter().map(text_of).collect()),
    }
}

fn question(set: &Set, model: &CitrusV, prompt: &Value) -> ModelInput {
    let all = set.pictures();
    let which = prompt["images"].as_array().unwrap();
    let pictures: Vec<_> = which
        .iter()
        .map(|it| all[usize::try_from(it.as_u64().unwrap()).unwrap()].clone())
        .collect();
    model.prepare(&messages(prompt), &pictures, set.bounds()).unwrap()
}

fn rotary_of(model: &CitrusV, question: &ModelInput) -> (RotaryEmbedding, [Vec<i64>; 3], i64) {
    let config = model.config();
    let image = config.tokens.image;
    let merge = config.vision.merge;
    let found = mrope_positions(&question.token_ids, image, &question.grids, merge).unwrap();
    let [time, row, column] = &found.axes;
    let rotary =
        RotaryEmbedding::multimodal(&config.text, &[[time, row, column]], &device()).unwrap();
    (rotary, found.axes, found.delta)
}

#[test]
fn hidden_states_and_texts_of_prompts_are_those_of_the_reference() {
    for set in Set::with("qwen/prompts.json") {
        let model = model(&set);
        for prompt in set.json("qwen/prompts.json")["prompts"].as_array().unwrap() {
            let name = format!("qwen/prompt{}.safetensors", prompt["prompt"]);
            let expected = set.tensors(&name);
            assert_eq!(
                apply_chat_template(&messages(prompt)),
                prompt["rendered"].as_str().unwrap()
            );
            let question = question(&set, &model, prompt);
            assert_eq!(question.token_ids, expected.ids("input_ids"), "{name}");
            let (rotary, axes, delta) = rotary_of(&model, &question);
            assert_eq!(axes.concat(), expected.numbers("position_ids"), "{name}");
            assert_eq!([delta].as_slice(), expected.numbers("rope_deltas"), "{name}");

            let embedded = model.embed(&question).unwrap();
            assert_close("inputs_embeds", &embedded, expected.get("inputs_embeds"), 1e-4, 1e-4);
            let layers = model.config().text.layers;
            let mut check = |layer: usize, found: &Tensor| {
                if layer + 1 < layers {
                    let name = format!("hidden_{}", layer + 1);
                    assert_close(&name, found, expected.get(&name), 1e-4, 1e-4);
                }
            };
            let mask =
                causal_mask(question.token_ids.len(), 0, &[], &device(), DType::F32).unwrap();
            let embedded = embedded.unsqueeze(0).unwrap();
            let hidden = model
                .language_model()
                .forward_traced(&embedded, &rotary, mask.as_ref(), None, &mut check)
                .unwrap();
            let last = format!("hidden_{layers}_final_norm");
            assert_close(&last, &hidden, expected.get(&last), 1e-4, 1e-4);
            let logits = model.language_model().logits(&hidden).unwrap();
            assert_close("logits", &logits, expected.get("logits"), 1e-3, 0.0);

            let greedy = expected.ids("greedy_ids");
            let decoding =
                GenerationConfig { tokens_max: greedy.len(), ..GenerationConfig::default() };
            let mut logits = Vec::new();
            let mut observe = |_, it: &[f32]| {
                logits.extend_from_slice(it);
                ControlFlow::Continue(())
            };
            let answer = model.generate(&question, &decoding, &mut observe).unwrap();
            assert_eq!(answer.token_ids, greedy, "{name}");
            assert_eq!(
                model.tokenizer().decode(&answer.token_ids).unwrap(),
                prompt["greedy_text"].as_str().unwrap()
            );
            let logits = Tensor::new(logits, &device()).unwrap();
            assert_close("greedy_logits", &logits, expected.get("greedy_logits"), 1e-3, 0.0);
            let decoding = GenerationConfig { repetition_penalty: 1.3, ..decoding };
            let mut observe = |_, _: &[f32]| ControlFlow::Continue(());
            let answer = model.generate(&question, &decoding, &mut observe).unwrap();
            assert_eq!(answer.token_ids, expected.ids("greedy_rp130_ids"), "{name}");
        }
    }
}

/// Sequences of different lengths, padded on either side.
#[test]
fn padding_does_not_change_the_logits_of_tokens() {
    for set in Set::with("qwen/batch.safetensors") {
        let model = model(&set);
        for side in ["right", "left"] {
            check_padded(&set, &model, side);
        }
    }
}

fn check_padded(set: &Set, model: &CitrusV, side: &str) {
    let expected = set.tensors("qwen/batch.safetensors");
    let config = model.config();
    let pixels = set.tensors("qwen/preprocess.safetensors");
    let grids = grids(&expected);
    let get = |it: &str| expected.numbers(&format!("{side}_{it}"));
    let ids = get("input_ids");
    let attention_mask = get("attention_mask");
    let positions = get("position_ids");
    let deltas = get("rope_deltas");
    let length = ids.len() / grids.len();
    let mut first = 0;
    let mut embeddings = Vec::new();
    let mut padding = Vec::new();
    let mut all: [Vec<i64>; 3] = Default::default();
    for (row, grid) in grids.iter().enumerate() {
        let range = row * length..(row + 1) * length;
        let hidden: Vec<bool> = attention_mask[range.clone()].iter().map(|it| *it == 0).collect();
        let ids: Vec<u32> = ids[range].iter().map(|it| u32::try_from(*it).unwrap()).collect();
        let unpadded: Vec<u32> =
            ids.iter().zip(&hidden).filter(|(_, it)| !**it).map(|(id, _)| *id).collect();
        let found = mrope_positions(&unpadded, config.tokens.image, &[*grid], config.vision.merge);
        let found = found.unwrap();
        assert_eq!(
            found.delta + i64::try_from(unpadded.len()).unwrap() - i64::try_from(length).unwrap(),
            deltas[row]
        );
        for (axis, positions) in found.axes.iter().zip(&mut all) {
            let mut axis = axis.iter();
            // The reference has position 1 for padding.
            positions.extend(hidden.iter().map(|it| if *it { 1 } else { *axis.next().unwrap() }));
        }
        let count: usize = grid.iter().product();
        let patches = pixels.get("pixel_values").narrow(0, first, count).unwrap();
        first += count;
        let patches = Some(patches);
        let grids = vec![*grid];
        let question = ModelInput { token_ids: ids, patches, grids, resized: Vec::new() };
        embeddings.push(model.embed(&question).unwrap());
        padding.push(hidden);
    }
    assert_eq!(all.concat(), positions, "{side}");
    let rows: Vec<[&[i64]; 3]> = (0..grids.len())
        .map(|row| [0, 1, 2].map(|axis| &all[axis][row * length..(row + 1) * length]))
        .collect();
    let rotary = RotaryEmbedding::multimodal(&config.text, &rows, &device()).unwrap();
    let mask = causal_mask(length, 0, &padding, &device(), DType::F32).unwrap();
    let embeddings = Tensor::stack(&embeddings, 0).unwrap();
    let hidden = model.language_model().forward(&embeddings, &rotary, mask.as_ref(), None).unwrap();
    let logits = model.language_model().logits(&hidden).unwrap();
    assert_padded(side, &logits, expected.get(&format!("{side}_logits")), &padding);
}

/// Compares the logits of all positions that are not padding.
fn assert_padded(side: &str, logits: &Tensor, expected: &Tensor, padding: &[Vec<bool>]) {
    for (row, hidden) in padding.iter().enumerate() {
        for at in hidden.iter().enumerate().filter(|(_, it)| !**it).map(|(at, _)| at) {
            let one = |it: &Tensor| it.get(row).unwrap().get(at).unwrap();
            assert_close(&format!("{side} {row} {at}"), &one(logits), &one(expected), 1e-3, 0.0);
        }
    }
}
