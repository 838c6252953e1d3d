//! The tests: each for every set.

use std::collections::BTreeMap;

use candle_core::backprop::GradStore;
use candle_core::{DType, Tensor};
use citrus_v::CitrusV;
use citrus_v::tensor_names::{CanonicalName, canonical_name};
use citrus_v::tokenizer::MessageRole;
use serde_json::Value;
use training::forward::{RowInput, hidden_states, row_losses};
use training::gradients::Gradients;
use training::labels::{IMAGE_TAG, Pictures, Turn, encode};
use training::losses::IGNORED;
use training::optimizer::{AdamW, AdamWSettings};
use training::parts::{Parameter, Part, decays};
use training::schedule::cosine_schedule;

use crate::set::{Set, Tensors, assert_close, device, every_fourth};
use crate::setup::{
    Tokens, TrainingSetup, all_pictures, canonical, packed, rows, sample, scale, settings,
};

fn number(x: &Tensor) -> f64 {
    f64::from(x.to_scalar::<f32>().unwrap())
}

#[track_caller]
fn assert_near(what: &str, found: f64, expected: f64, rel: f64) {
    assert!(
        (found - expected).abs() <= rel * expected.abs() + 1e-7,
        "{what}: {found}, not {expected}"
    );
}

/// The L2 norm of a tensor, in f64.
fn length(gradient: &Tensor) -> f64 {
    let values = gradient.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    values.into_iter().map(|it| f64::from(it).powi(2)).sum::<f64>().sqrt()
}

#[test]
fn pap_54_tokens_labels_and_positions_of_a_batch_are_those_of_the_reference() {
    for set in Set::with("citrus/train.json") {
        let setup = TrainingSetup::open(&set, |_| true);
        let about = set.json("citrus/train.json");
        let batch = set.tensors("citrus/train_batch.safetensors");
        let merge = setup.model.config().vision.merge;
        for (index, expected) in setup.samples.iter().enumerate() {
            let text = |key: &str| about["samples"][index][key].as_str().unwrap();
            let turns = [
                Turn { role: MessageRole::User, text: format!("{IMAGE_TAG}{}", text("user")) },
                Turn { role: MessageRole::Assistant, text: text("assistant").to_owned() },
            ];
            let pictures = Pictures { grids: vec![setup.grids[index]], of_masks: vec![0] };
            let found = encode(setup.model.tokenizer(), merge, &turns, &pictures).unwrap();
            assert_eq!(found, *expected);
        }
        let length = batch.get("input_ids").dim(1).unwrap();
        let axes = rows(&batch.numbers("position_ids"), length);
        let masks = rows(&batch.numbers("attention_mask"), length);
        for (axis, found) in setup.input.row.axes.iter().enumerate() {
            let mut expected = Vec::new();
            for (row, mask) in masks.iter().enumerate() {
                let positions = axes[axis * masks.len() + row].iter().zip(mask);
                expected.extend(positions.filter(|it| *it.1 == 1).map(|it| *it.0));
            }
            assert_eq!(*found, expected);
        }
    }
}

#[test]
fn pap_52_losses_and_the_gradient_of_every_parameter_are_those_of_the_reference() {
    for set in Set::with("citrus/train.json") {
        let setup = TrainingSetup::open(&set, |_| true);
        let about = set.json("citrus/train.json");
        let batch = set.tensors("citrus/train_batch.safetensors");
        for (variant, expected) in about["variants"].as_object().unwrap() {
            let hook = &expected["hook_0.001_on_projector_output"];
            let weights = &expected["weights"];
            let losses = setup.forward(&setup.input, weights, hook);
            let predicted = losses.predicted.as_ref().unwrap();
            assert_eq!(predicted.which, batch.ids("best_idx"));
            assert_close(
                "pred_best_low_res",
                &predicted.logits,
                batch.get("pred_best_low_res"),
                1e-3,
                1e-4,
            );
            for (name, loss) in
                [("token", &losses.token), ("dice", &losses.dice), ("bce", &losses.mask)]
            {
                let loss = number(loss.as_ref().unwrap());
                assert_near(name, loss, expected[name].as_f64().unwrap(), 1e-5);
            }
            let total = losses.total(&settings(weights), scale(hook)).unwrap().unwrap();
            let gradients = total.backward().unwrap();
            check_lengths(variant, &setup, &gradients, &expected["grad_l2"]);
            let file = format!("citrus/grads_{variant}.safetensors");
            if set.path(&file).exists() {
                check_gradients(variant, &setup, &gradients, &set.tensors(&file));
            }
        }
    }
}

fn check_lengths(variant: &str, setup: &TrainingSetup, gradients: &GradStore, expected: &Value) {
    let expected = expected.as_object().unwrap();
    let mut checked = 0;
    for (name, norm) in expected {
        let norm = norm.as_f64().unwrap_or_default();
        // Tensors for video only are not used and have no gradient.
        let CanonicalName::Tensor(canonical) = canonical_name(name) else {
            assert!(norm.abs() < 1e-12, "{name}");
            continue;
        };
        let gradient = gradients.get(setup.variables[&canonical].as_tensor());
        let found = gradient.map(length).unwrap_or_default();
        let differs = (found - norm).abs() > 1e-3 * norm + 1e-6;
        assert!(!differs, "{variant} {name}: {found}, not {norm}");
        checked += 1;
    }
    assert!(checked > 50, "{variant}: {checked}");
}

fn check_gradients(
    variant: &str,
    setup: &TrainingSetup,
    gradients: &GradStore,
    expected: &Tensors,
) {
    for (name, gradient) in &expected.0 {
        let found = gradients.get(setup.variables[&canonical(name)].as_tensor());
        let found = found.unwrap_or_else(|| panic!("{variant} {name} has no gradient"));
        let gradient = gradient.reshape(found.shape()).unwrap();
        let error = length(&(found - &gradient).unwrap());
        assert!(error <= 1e-3 * length(&gradient) + 1e-6, "{variant} {name}: {error} apart");
    }
}

#[test]
fn pap_51_two_steps_of_the_optimizer_change_what_they_change_in_the_reference() {
    for set in Set::with("citrus/adamw_stage4_delta.safetensors") {
        let about = set.json("citrus/train.json");
        for (stage, expected) in about["adamw"].as_object().unwrap() {
            let is_whole = expected["lr"]["llm"].is_number();
            // Where only the segmentation is trained, nothing else is a variable.
            let is_trained: fn(&str) -> bool =
                if is_whole { |_| true } else { |it| Part::of(it) == Part::Segmentation };
            let setup = TrainingSetup::open(&set, is_trained);
            let copy = |parameter: &Parameter| {
                (parameter.name.clone(), parameter.variable.as_tensor().copy().unwrap())
            };
            let parameters = parameters(&setup, &about, expected);
            let before: BTreeMap<String, Tensor> = parameters.iter().map(copy).collect();
            let mut optimizer = AdamW::new(AdamWSettings {
                beta1: expected["betas"][0].as_f64().unwrap(),
                beta2: expected["betas"][1].as_f64().unwrap(),
                eps: expected["eps"].as_f64().unwrap(),
            });
            let history = expected["history"].as_array().unwrap();
            for (step, recorded) in history.iter().enumerate() {
                let losses =
                    setup.forward(&setup.input, &expected["loss_weights"], &expected["hook"]);
                let settings = settings(&expected["loss_weights"]);
                let loss = losses.total(&settings, scale(&expected["hook"])).unwrap().unwrap();
                let rel = if step == 0 { 1e-5 } else { 1e-3 };
                let what = format!("{stage} {step}");
                assert_near(&what, number(&loss), recorded["loss"].as_f64().unwrap(), rel);
                let Some(norm) = recorded["grad_norm_before_clip"].as_f64() else { break };
                let mut gradients = Gradients::default();
                gradients.add(&loss.backward().unwrap(), &parameters).unwrap();
                let found = gradients.clip(expected["clip_norm"].as_f64().unwrap()).unwrap();
                // The first steps depend only on the signs of the gradients, which are random where
                // a gradient is zero but for rounding. Later steps therefore differ more (for the
                // changes of the parameters, the set tolerates 2e-2).
                let rel = if step == 0 { 1e-3 } else { 3e-3 };
                assert_near(&format!("{what} norm"), found, norm, rel);
                optimizer.step(&parameters, &gradients, 1.0).unwrap();
            }
            check_changes(&set, stage, &parameters, &before);
        }
    }
}

/// The trained parameters of a stage, with the rates of their parts. Part and decay of each are
/// those of the reference.
fn parameters(setup: &TrainingSetup, about: &Value, stage: &Value) -> Vec<Parameter> {
    let mut parameters = Vec::new();
    for (name, group) in about["group"].as_object().unwrap() {
        let CanonicalName::Tensor(canonical) = canonical_name(name) else { continue };
        let key = match Part::of(&canonical) {
            Part::LanguageModel => "llm",
            Part::VisionEncoder => "vit",
            Part::Aligner => "aligner",
            Part::Segmentation => "seg",
        };
        assert_eq!(group.as_str().unwrap(), key, "{name}");
        assert_eq!(decays(&canonical), about["decay"][name].as_bool().unwrap(), "{name}");
        let Some(rate) = stage["lr"][key].as_f64() else { continue };
        let weight_decay =
            if decays(&canonical) { stage["weight_decay"].as_f64().unwrap() } else { 0.0 };
        let variable = setup.variables[&canonical].clone();
        parameters.push(Parameter { name: canonical, variable, rate, weight_decay });
    }
    parameters
}

fn check_changes(
    set: &Set,
    stage: &str,
    parameters: &[Parameter],
    before: &BTreeMap<String, Tensor>,
) {
    let after: BTreeMap<&str, &Tensor> =
        parameters.iter().map(|it| (it.name.as_str(), it.variable.as_tensor())).collect();
    for (name, delta) in &set.tensors(&format!("citrus/adamw_{stage}_delta.safetensors")).0 {
        let name = canonical(name);
        let found = (after[name.as_str()] - &before[&name]).unwrap();
        let delta = delta.reshape(found.shape()).unwrap();
        let a = length(&found);
        let b = length(&delta);
        let error = length(&(&found - &delta).unwrap());
        let flat = |it: &Tensor| it.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let pairs = flat(&found).into_iter().zip(flat(&delta));
        let cosine = pairs.map(|(a, b)| f64::from(a) * f64::from(b)).sum::<f64>() / (a * b);
        assert!(
            cosine > 0.999 && error < 2e-2 * b,
            "{stage} {name}: {cosine}, {error} of {b} apart"
        );
    }
}

/// Samples packed in one row, one of them without picture, do not attend to each other.
#[test]
fn pap_53_packed_samples_have_the_logits_of_the_reference() {
    for set in Set::with("citrus/packed.json") {
        let setup = TrainingSetup::open(&set, |_| true);
        let about = set.json("citrus/packed.json");
        let expected = set.tensors("citrus/packed.safetensors");
        let ids = expected.ids("input_ids");
        let labels = expected.numbers("labels");
        let image = setup.model.config().tokens.image;
        let ends: Vec<usize> =
            expected.numbers("cu_seqlens").iter().map(|it| usize::try_from(*it).unwrap()).collect();
        let mut grids = setup.grids.iter().copied();
        let samples: Vec<_> = ends
            .windows(2)
            .map(|pair| {
                let range = pair[0]..pair[1];
                let tokens = Tokens { ids: &ids[range.clone()], labels: &labels[range] };
                let has_picture = tokens.ids.contains(&image);
                let grids: Vec<_> = grids.by_ref().take(usize::from(has_picture)).collect();
                sample(&setup.model, &tokens, &grids)
            })
            .collect();
        let mut input = setup.input.clone();
        input.row = packed(&setup.model, &samples);
        let positions = rows(&expected.numbers("position_ids"), ids.len());
        assert_eq!(input.row.axes.to_vec(), positions);
        let hidden = hidden_states(&setup.model, &input).unwrap();
        let logits = setup.model.language_model().logits(&hidden).unwrap().unsqueeze(0).unwrap();
        if let Some(columns) = expected.0.get("logits_every4th_column") {
            assert_close("logits", &every_fourth(&logits, 2), columns, 1e-3, 0.0);
        } else {
            assert_close("logits", &logits, expected.get("logits"), 1e-3, 0.0);
        }
        let weights = serde_json::json!({"token": 1.0, "dice": 1.0, "bce": 1.0});
        let losses = setup.forward(&input, &weights, &Value::Bool(false));
        let masks = &losses.predicted.as_ref().unwrap().logits;
        assert_close("pred_best_low_res", masks, expected.get("pred_best_low_res"), 1e-3, 1e-4);
        for (name, loss) in
            [("token", &losses.token), ("dice", &losses.dice), ("bce", &losses.mask)]
        {
            let loss = number(loss.as_ref().unwrap());
            assert_near(name, loss, about[name].as_f64().unwrap(), 1e-5);
        }
    }
}

/// The loss of a plain language model with pictures.
#[test]
fn pap_52_the_token_loss_is_that_of_the_reference() {
    for set in Set::with("qwen/token_loss.safetensors") {
        let model = CitrusV::load(&set.path("ckpt/qwen_tiny"), DType::F32, &device()).unwrap();
        let expected = set.tensors("qwen/token_loss.safetensors");
        let ids = expected.ids("input_ids");
        let labels = expected.numbers("labels");
        assert!(labels.contains(&IGNORED));
        // The number of image tokens determines the picture.
        let config = model.config();
        let image_tokens = ids.iter().filter(|it| **it == config.tokens.image).count();
        let unit = config.vision.merge_unit();
        let picture = all_pictures(&set).into_iter().find(|candidate| {
            image_tokens > 0 && candidate.grid.iter().product::<usize>() / unit == image_tokens
        });
        let grids: Vec<_> = picture.iter().map(|it| it.grid).collect();
        let sample = sample(&model, &Tokens { ids: &ids, labels: &labels }, &grids);
        let input = RowInput {
            row: packed(&model, &[sample]),
            patches: picture.map(|it| it.patches),
            squares: None,
            square_of_target: Vec::new(),
            truth: None,
        };
        let weights = serde_json::json!({"token": 1.0, "dice": 0.0, "bce": 0.0});
        let counts = input.row.counts();
        let losses = row_losses(&model, &input, counts, &settings(&weights), None).unwrap();
        let expected = expected.get("loss").squeeze(0).unwrap();
        assert_near("token_loss", number(&losses.token.unwrap()), number(&expected), 1e-5);
    }
}

#[test]
fn pap_51_the_learning_rate_schedule_is_that_of_the_reference() {
    for set in Set::with("citrus/cosine.json") {
        for (name, values) in set.json("citrus/cosine.json")["multiplier"].as_object().unwrap() {
            let (warmup, total) =
                name.strip_prefix("warmup").unwrap().split_once("_total").unwrap();
            let warmup: u32 = warmup.parse().unwrap();
            let total: u32 = total.parse().unwrap();
            let values = values.as_array().unwrap();
            // Long tables have only every n-th step.
            let interval = total / u32::try_from(values.len() - 1).unwrap();
            for (step, value) in (0..).step_by(interval as usize).zip(values) {
                let found = cosine_schedule(step, warmup, total);
                assert!((found - value.as_f64().unwrap()).abs() < 1e-9, "{name} {step}: {found}");
            }
        }
    }
}
