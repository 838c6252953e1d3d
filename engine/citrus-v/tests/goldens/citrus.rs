//! The whole model: prompt, generated text with `[SEG]`, masks.

use std::ops::ControlFlow;

use candle_core::{DType, Tensor};
use citrus_v::{CitrusV, GenerationConfig, Message, ModelInput, Phase};

use crate::sam::assert_mask;
use crate::{Set, assert_close, device, picture};

#[test]
fn texts_and_masks_are_those_of_the_reference() {
    for set in Set::with("citrus/infer.json") {
        check(&set, DType::F32);
    }
}

/// Other number types than f32 use the operations of candle, which a GPU uses, too.
#[test]
fn the_operations_of_other_devices_give_the_same_texts_and_masks() {
    for set in Set::with("citrus/infer.json") {
        check(&set, DType::F64);
    }
}

/// The distance of two tensors, relative to the norm of the second.
fn relative_error(found: &Tensor, expected: &Tensor) -> f32 {
    let found = found.to_dtype(DType::F32).unwrap().reshape(expected.shape()).unwrap();
    let length = |it: &Tensor| it.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap();
    (length(&(found - expected).unwrap()) / length(expected)).sqrt()
}

/// Half precision has a small error, which is greater than zero. bf16 has three bits less in its
/// mantissa than f16, and only a GPU computes with it.
#[test]
fn half_precision_comes_close() {
    let has_bf16 = device().is_cuda();
    let kinds = [(DType::F16, 3e-2)].into_iter().chain(has_bf16.then_some((DType::BF16, 0.24)));
    for (kind, error_max) in kinds {
        for set in Set::with("citrus/infer.json") {
            check_half_precision(&set, kind, error_max);
        }
    }
}

#[expect(clippy::print_stdout, reason = "the errors are useful to see")]
fn check_half_precision(set: &Set, kind: DType, error_max: f32) {
    let folder = set.path("ckpt/citrus_tiny");
    let [whole, half] = [DType::F32, kind].map(|it| CitrusV::load(&folder, it, &device()).unwrap());
    let check = |what: String, error: f32| {
        println!("{kind:?}, {what}: {error}");
        assert!(error > 0.0 && error < error_max, "{kind:?}, {what}: {error}");
    };
    let about = set.json("citrus/infer.json");
    for (index, query) in about["queries"].as_array().unwrap().iter().enumerate() {
        let expected = set.tensors(&format!("citrus/infer{index}.safetensors"));
        let picture = picture(&set.path(query["image"].as_str().unwrap()));
        let message = Message::user(1, query["query"].as_str().unwrap());
        let question = whole.prepare(&[message], &[picture], set.bounds()).unwrap();
        let error =
            relative_error(&first_logits(&half, &question), &first_logits(&whole, &question));
        check(format!("words of {index}"), error);
        let hidden = expected.get("seg_hidden").to_dtype(kind).unwrap();
        let drawn = half.segment(&question.resized[0], &hidden).unwrap();
        for (object, it) in drawn.iter().enumerate() {
            let best = expected.get("low_res_best").get(object).unwrap();
            check(format!("mask {object} of {index}"), relative_error(&it.logits, &best));
        }
    }
}

/// The logits of the first generated token.
fn first_logits(model: &CitrusV, question: &ModelInput) -> Tensor {
    let decoding = GenerationConfig { tokens_max: 1, ..GenerationConfig::default() };
    let mut logits = Vec::new();
    let mut observe = |_, it: &[f32]| {
        logits = it.to_vec();
        ControlFlow::Continue(())
    };
    model.generate(question, &decoding, &mut observe).unwrap();
    Tensor::new(logits, &device()).unwrap()
}

/// Compares prompt, text, `[SEG]` states and masks of each question with the reference.
fn check(set: &Set, kind: DType) {
    let model = CitrusV::load(&set.path("ckpt/citrus_tiny"), kind, &device()).unwrap();
    let about = set.json("citrus/infer.json");
    for (index, query) in about["queries"].as_array().unwrap().iter().enumerate() {
        let expected = set.tensors(&format!("citrus/infer{index}.safetensors"));
        let picture = picture(&set.path(query["image"].as_str().unwrap()));
        let message = Message::user(1, query["query"].as_str().unwrap());
        let question = model.prepare(&[message], &[picture], set.bounds()).unwrap();
        assert_eq!(question.token_ids, expected.ids("input_ids"), "{index}");

        let sequence = expected.ids("sequence");
        let tokens_max = sequence.len() - question.token_ids.len();
        let decoding = GenerationConfig { tokens_max, ..GenerationConfig::default() };
        let mut observe = |_, _: &[f32]| ControlFlow::Continue(());
        let answer = model.generate(&question, &decoding, &mut observe).unwrap();
        assert_eq!(
            [question.token_ids.as_slice(), &answer.token_ids].concat(),
            sequence,
            "{index}"
        );
        assert_eq!(
            model.tokenizer().decode(&answer.token_ids).unwrap(),
            query["text"].as_str().unwrap()
        );
        let positions: Vec<i64> =
            answer.seg_positions.iter().map(|it| i64::try_from(*it).unwrap()).collect();
        assert_eq!(positions, expected.numbers("seg_positions"), "{index}");
        let hidden = answer.seg_hidden.unwrap();
        assert_close("seg_hidden", &hidden, expected.get("seg_hidden"), 1e-4, 1e-4);
        let vectors = model.project_seg(&hidden).unwrap();
        assert_close("seg_embedding", &vectors, expected.get("seg_embedding"), 1e-4, 1e-4);

        // A finished sequence is released before segmentation: its `[SEG]` states remain.
        let mut sequence = model.start(question.clone(), &decoding).unwrap();
        while sequence.phase() != Phase::Finished {
            match sequence.phase() {
                Phase::EncodeImage => model.encode_next_image(&mut sequence).unwrap(),
                Phase::Prefill => model.prefill(&mut sequence, 9).unwrap(),
                _ => model.decode(&mut [&mut sequence], &mut |_| {}).unwrap(),
            }
        }
        sequence.release();
        let released = sequence.seg_hidden().unwrap().unwrap();
        assert_close("released", &released, expected.get("seg_hidden"), 1e-4, 1e-4);

        let drawn = model.segment(&question.resized[0], &hidden).unwrap();
        let which: Vec<u32> = drawn.iter().map(|it| it.which).collect();
        assert_eq!(which, expected.ids("best_idx"), "{index}");
        let logits: Vec<Tensor> = drawn.iter().map(|it| it.logits.clone()).collect();
        let logits = Tensor::stack(&logits, 0).unwrap();
        assert_close("low_res_best", &logits, expected.get("low_res_best"), 1e-3, 1e-4);
        let ious = expected.get("ious").to_vec2::<f32>().unwrap();
        for (object, it) in drawn.iter().enumerate() {
            assert!((it.iou - ious[object][it.which as usize]).abs() < 1e-4);
            let expected = &query["masks"][object]["rle"];
            assert_mask(&format!("{index} {object}"), &it.mask, expected, &it.logits);
        }
    }
}
