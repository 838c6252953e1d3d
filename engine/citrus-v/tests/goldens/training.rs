//! Training compared with the reference: losses, gradients, optimizer steps, learning rates.

use std::collections::BTreeMap;

use candle_core::backprop::GradStore;
use candle_core::{DType, Tensor, Var};
use candle_nn::{AdamW, Optimizer as _, ParamsAdamW};
use citrus_v::attention::{causal_mask, packed_mask};
use citrus_v::losses::{
    IGNORED, clip_gradient_norm, cosine_schedule, dice_loss, mask_loss, scale_gradient, token_loss,
};
use citrus_v::rope::RotaryEmbedding;
use citrus_v::sam::prompt_encoder::Prompt;
use citrus_v::tensor_names::{CanonicalName, canonical_name};
use citrus_v::tokenizer::Tokenizer;
use citrus_v::{CheckpointIndex, CitrusV, Config, ModelInput, Weights};
use serde_json::Value;

use crate::sam::every_fourth;
use crate::{Set, Tensors, assert_close, device};

/// A trainable model and a batch.
struct TrainingSetup {
    model: CitrusV,
    variables: BTreeMap<String, Var>,
    ids: Vec<Vec<u32>>,
    labels: Vec<Vec<i64>>,
    padding: Vec<Vec<bool>>,
    axes: Vec<[Vec<i64>; 3]>,
    patches: Vec<Tensor>,
    grids: Vec<[usize; 3]>,
    squares: Tensor,
    truth: Tensor,
}

/// The losses and masks of a batch.
struct Losses {
    token: Tensor,
    dice: Tensor,
    mask: Tensor,
    best: Tensor,
    which: Vec<u32>,
}

fn canonical(name: &str) -> String {
    match canonical_name(name) {
        CanonicalName::Tensor(canonical) => canonical,
        other => panic!("{name}: {other:?}"),
    }
}

fn rows<T: Clone>(all: &[T], length: usize) -> Vec<Vec<T>> {
    all.chunks(length).map(<[T]>::to_vec).collect()
}

impl TrainingSetup {
    fn open(set: &Set) -> Self {
        let folder = set.path("ckpt/citrus_tiny");
        let text = std::fs::read_to_string(folder.join("config.json")).unwrap();
        let config = Config::parse(&text).unwrap();
        let tokens = Tokenizer::open(&folder, config.seg.as_ref().map(|it| it.token)).unwrap();
        let weights =
            Weights::open_for_training(CheckpointIndex::read(&folder).unwrap(), &device()).unwrap();
        let model = CitrusV::new(config, tokens, &weights).unwrap();
        let batch = set.tensors("citrus/train_batch.safetensors");
        let length = batch.get("input_ids").dim(1).unwrap();
        let attention_mask = rows(&batch.numbers("attention_mask"), length);
        let count = attention_mask.len();
        let positions = rows(&batch.numbers("position_ids"), length);
        let axes =
            (0..count).map(|row| [0, 1, 2].map(|axis| positions[axis * count + row].clone()));
        let samples = set.json("citrus/train.json")["samples"].clone();
        let (patches, grids) = pictures(set, &samples);
        Self {
            variables: weights.variables(),
            ids: rows(&batch.ids("input_ids"), length),
            labels: rows(&batch.numbers("labels"), length),
            padding: attention_mask
                .iter()
                .map(|it| it.iter().map(|it| *it == 0).collect())
                .collect(),
            axes: axes.collect(),
            patches,
            grids,
            squares: squares(&batch),
            truth: batch.get("gt_masks").to_dtype(DType::F32).unwrap(),
            model,
        }
    }

    fn forward(&self, is_scaled: bool) -> Losses {
        let config = self.model.config();
        let embedded = (0..self.ids.len()).map(|row| {
            let ids = self.ids[row].clone();
            let grids = vec![self.grids[row]];
            let patches = Some(self.patches[row].clone());
            self.model
                .embed(&ModelInput { token_ids: ids, patches, grids, resized: Vec::new() })
                .unwrap()
        });
        let embedded = Tensor::stack(&embedded.collect::<Vec<_>>(), 0).unwrap();
        let axes: Vec<[&[i64]; 3]> =
            self.axes.iter().map(|it| [&it[0], &it[1], &it[2]].map(Vec::as_slice)).collect();
        let rotary = RotaryEmbedding::multimodal(&config.text, &axes, &device()).unwrap();
        let length = self.ids[0].len();
        let mask = causal_mask(length, 0, &self.padding, &device(), DType::F32).unwrap();
        let hidden =
            self.model.language_model().forward(&embedded, &rotary, mask.as_ref(), None).unwrap();
        let logits = self.model.language_model().logits(&hidden).unwrap();
        let seg = config.seg.as_ref().unwrap().token;
        let mut states = Vec::new();
        for (row, ids) in self.ids.iter().enumerate() {
            for at in ids.iter().enumerate().filter(|(_, id)| **id == seg).map(|it| it.0) {
                states.push(hidden.get(row).unwrap().narrow(0, at, 1).unwrap());
            }
        }
        let vectors = self.model.project_seg(&Tensor::cat(&states, 0).unwrap()).unwrap();
        let vectors = if is_scaled { scale_gradient(&vectors, 0.001).unwrap() } else { vectors };
        let sam = self.model.sam().unwrap();
        let image = sam.encode_image(&self.squares).unwrap();
        let prompt = Prompt { embeddings: Some(vectors), ..Prompt::default() };
        let best = sam.predict_masks(&image, &prompt).unwrap().best().unwrap();
        let masks = best.masks.squeeze(1).unwrap();
        Losses {
            token: token_loss(&logits, &self.labels).unwrap(),
            dice: dice_loss(&masks, &self.truth, 1.0).unwrap(),
            mask: mask_loss(&masks, &self.truth).unwrap(),
            best: best.masks,
            which: best.which,
        }
    }
}

/// Patches and grids of the pictures that the samples use.
fn pictures(set: &Set, samples: &Value) -> (Vec<Tensor>, Vec<[usize; 3]>) {
    let about = set.json("qwen/preprocess.json");
    let all = set.tensors("qwen/preprocess.safetensors");
    let grids: Vec<[usize; 3]> = all
        .numbers("image_grid_thw")
        .chunks(3)
        .map(|it| [0, 1, 2].map(|at| usize::try_from(it[at]).unwrap()))
        .collect();
    let mut patches = Vec::new();
    let mut chosen = Vec::new();
    for sample in samples.as_array().unwrap() {
        let files = about["images"].as_array().unwrap();
        let index = files.iter().position(|it| it["file"] == sample["image"]).unwrap();
        let count = |it: &[usize; 3]| it.iter().product::<usize>();
        let first: usize = grids[..index].iter().map(count).sum();
        patches.push(all.get("pixel_values").narrow(0, first, count(&grids[index])).unwrap());
        chosen.push(grids[index]);
    }
    (patches, chosen)
}

/// The pictures of a batch after the preprocessing for SAM2.
fn squares(batch: &Tensors) -> Tensor {
    let (count, side, _, _) = batch.get("g_u8").dims4().unwrap();
    let side = u32::try_from(side).unwrap();
    let bytes = batch.bytes("g_u8");
    let planes = bytes.chunks(bytes.len() / count).map(|it| {
        let picture = imaging::Picture::new(side, side, it.to_vec()).unwrap();
        citrus_v::preprocess::normalize_for_sam(&picture, &device()).unwrap()
    });
    Tensor::cat(&planes.collect::<Vec<_>>(), 0).unwrap()
}

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

/// The L2 norm of a gradient, in f64.
fn length(gradient: &Tensor) -> f64 {
    let values = gradient.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    values.into_iter().map(|it| f64::from(it).powi(2)).sum::<f64>().sqrt()
}

fn total(losses: &Losses, weights: &Value) -> Tensor {
    let weighted = |it: &Tensor, name: &str| (it * weights[name].as_f64().unwrap()).unwrap();
    let masks = (weighted(&losses.dice, "dice") + weighted(&losses.mask, "bce")).unwrap();
    (weighted(&losses.token, "token") + masks).unwrap()
}

#[test]
fn token_loss_is_that_of_the_reference() {
    for set in Set::with("qwen/token_loss.safetensors") {
        let expected = set.tensors("qwen/token_loss.safetensors");
        let model = CitrusV::load(&set.path("ckpt/qwen_tiny"), DType::F32, &device()).unwrap();
        let config = model.config();
        let ids = expected.ids("input_ids");
        let labels = expected.numbers("labels");
        assert!(labels.contains(&IGNORED));
        // The number of image tokens determines the picture.
        let image_tokens = ids.iter().filter(|it| **it == config.tokens.image).count();
        let all = set.tensors("qwen/preprocess.safetensors");
        let mut first = 0;
        let mut patches = None;
        let mut grids = Vec::new();
        for grid in all.numbers("image_grid_thw").chunks(3) {
            let grid = [0, 1, 2].map(|at| usize::try_from(grid[at]).unwrap());
            let count: usize = grid.iter().product();
            let is_of_picture = count / config.vision.merge_unit() == image_tokens;
            if image_tokens > 0 && patches.is_none() && is_of_picture {
                patches = Some(all.get("pixel_values").narrow(0, first, count).unwrap());
                grids.push(grid);
            }
            first += count;
        }
        let found = citrus_v::positions::mrope_positions(
            &ids,
            config.tokens.image,
            &grids,
            config.vision.merge,
        );
        let found = found.unwrap();
        let axes = [&found.axes[0], &found.axes[1], &found.axes[2]].map(Vec::as_slice);
        let rotary = RotaryEmbedding::multimodal(&config.text, &[axes], &device()).unwrap();
        let mask = causal_mask(ids.len(), 0, &[], &device(), DType::F32).unwrap();
        let question = ModelInput { token_ids: ids, patches, grids, resized: Vec::new() };
        let embedded = model.embed(&question).unwrap().unsqueeze(0).unwrap();
        let hidden =
            model.language_model().forward(&embedded, &rotary, mask.as_ref(), None).unwrap();
        let loss = token_loss(&model.language_model().logits(&hidden).unwrap(), &[labels]).unwrap();
        let expected = expected.get("loss").squeeze(0).unwrap();
        assert_near("token_loss", number(&loss), number(&expected), 1e-5);
    }
}

#[test]
fn losses_and_the_gradient_of_every_parameter_are_those_of_the_reference() {
    for set in Set::with("citrus/train.json") {
        let setup = TrainingSetup::open(&set);
        let about = set.json("citrus/train.json");
        let batch = set.tensors("citrus/train_batch.safetensors");
        for (variant, expected) in about["variants"].as_object().unwrap() {
            let is_scaled = expected["hook_0.001_on_projector_output"].as_bool().unwrap();
            let losses = setup.forward(is_scaled);
            assert_eq!(losses.which, batch.ids("best_idx"));
            assert_close(
                "pred_best_low_res",
                &losses.best,
                batch.get("pred_best_low_res"),
                1e-3,
                1e-4,
            );
            for (name, loss) in
                [("token", &losses.token), ("dice", &losses.dice), ("bce", &losses.mask)]
            {
                assert_near(name, number(loss), expected[name].as_f64().unwrap(), 1e-5);
            }
            let gradients = total(&losses, &expected["weights"]).backward().unwrap();
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
fn two_steps_of_the_optimizer_change_what_they_change_in_the_reference() {
    for set in Set::with("citrus/adamw_stage4_delta.safetensors") {
        let about = set.json("citrus/train.json");
        for (stage, expected) in about["adamw"].as_object().unwrap() {
            let setup = TrainingSetup::open(&set);
            let before: BTreeMap<&String, Tensor> = setup
                .variables
                .iter()
                .map(|(name, it)| (name, it.as_tensor().copy().unwrap()))
                .collect();
            let (mut optimizers, trained) = optimizers(&setup, &about, expected);
            let history = expected["history"].as_array().unwrap();
            for (step, recorded) in history.iter().enumerate() {
                let losses = setup.forward(expected["hook"].as_bool().unwrap());
                let loss = total(&losses, &expected["loss_weights"]);
                let rel = if step == 0 { 1e-5 } else { 1e-3 };
                assert_near(
                    &format!("{stage} {step}"),
                    number(&loss),
                    recorded["loss"].as_f64().unwrap(),
                    rel,
                );
                let Some(norm) = recorded["grad_norm_before_clip"].as_f64() else { break };
                let mut gradients = loss.backward().unwrap();
                let norm_max = expected["clip_norm"].as_f64().unwrap();
                let found = clip_gradient_norm(&mut gradients, &trained, norm_max).unwrap();
                // The first steps depend only on the signs of the gradients, which are random where
                // a gradient is zero but for rounding. Later steps therefore differ more (for the
                // changes of the parameters, the set tolerates 2e-2).
                let rel = if step == 0 { 1e-3 } else { 3e-3 };
                assert_near(&format!("{stage} {step} norm"), found, norm, rel);
                for optimizer in &mut optimizers {
                    optimizer.step(&gradients).unwrap();
                }
            }
            check_changes(&set, stage, &setup, &before);
        }
    }
}

/// An optimizer for each combination of learning rate and weight decay, and all trained parameters.
fn optimizers(setup: &TrainingSetup, about: &Value, stage: &Value) -> (Vec<AdamW>, Vec<Var>) {
    let mut groups = BTreeMap::<String, (ParamsAdamW, Vec<Var>)>::new();
    let mut trained = Vec::new();
    for (name, group) in about["group"].as_object().unwrap() {
        let Some(lr) = stage["lr"][group.as_str().unwrap()].as_f64() else { continue };
        let CanonicalName::Tensor(canonical) = canonical_name(name) else { continue };
        let decays = about["decay"][name].as_bool().unwrap();
        let weight_decay = if decays { stage["weight_decay"].as_f64().unwrap() } else { 0.0 };
        let betas = &stage["betas"];
        let beta1 = betas[0].as_f64().unwrap();
        let beta2 = betas[1].as_f64().unwrap();
        let eps = stage["eps"].as_f64().unwrap();
        let params = ParamsAdamW { lr, beta1, beta2, eps, weight_decay };
        let variable = setup.variables[&canonical].clone();
        trained.push(variable.clone());
        let key = format!("{lr} {weight_decay}");
        groups.entry(key).or_insert((params, Vec::new())).1.push(variable);
    }
    let optimizers =
        groups.into_values().map(|(params, variables)| AdamW::new(variables, params).unwrap());
    (optimizers.collect(), trained)
}

fn check_changes(
    set: &Set,
    stage: &str,
    setup: &TrainingSetup,
    before: &BTreeMap<&String, Tensor>,
) {
    for (name, delta) in &set.tensors(&format!("citrus/adamw_{stage}_delta.safetensors")).0 {
        let name = canonical(name);
        let found = (setup.variables[&name].as_tensor() - &before[&name]).unwrap();
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

/// Three samples packed in one row do not attend to each other, and each has the logits that it has
/// alone.
#[test]
fn packed_samples_have_the_logits_of_the_reference() {
    for set in Set::with("citrus/packed.json") {
        let setup = TrainingSetup::open(&set);
        let about = set.json("citrus/packed.json");
        let expected = set.tensors("citrus/packed.safetensors");
        let ids = expected.ids("input_ids");
        let labels = expected.numbers("labels");
        let positions = rows(&expected.numbers("position_ids"), ids.len());
        let ends: Vec<usize> =
            expected.numbers("cu_seqlens").iter().map(|it| usize::try_from(*it).unwrap()).collect();
        // The positions of each sample begin at zero.
        let text_positions: Vec<i64> = ends
            .windows(2)
            .flat_map(|it| (0..it[1] - it[0]).map(|at| i64::try_from(at).unwrap()))
            .collect();
        assert_eq!(text_positions, expected.numbers("text_position_ids"));
        let model = &setup.model;
        let config = setup.model.config();
        let axes = [&positions[0], &positions[1], &positions[2]].map(Vec::as_slice);
        let rotary = RotaryEmbedding::multimodal(&config.text, &[axes], &device()).unwrap();
        let mask = packed_mask(&ends[1..], &device(), DType::F32).unwrap();
        let patches = Some(Tensor::cat(&setup.patches, 0).unwrap());
        let question = ModelInput {
            token_ids: ids.clone(),
            patches,
            grids: setup.grids.clone(),
            resized: Vec::new(),
        };
        let embedded = model.embed(&question).unwrap().unsqueeze(0).unwrap();
        let hidden = model.language_model().forward(&embedded, &rotary, Some(&mask), None).unwrap();
        let logits = model.language_model().logits(&hidden).unwrap();
        if let Some(columns) = expected.0.get("logits_every4th_column") {
            assert_close("logits", &every_fourth(&logits, 2), columns, 1e-3, 0.0);
        } else {
            assert_close("logits", &logits, expected.get("logits"), 1e-3, 0.0);
        }
        let loss = token_loss(&logits, &[labels]).unwrap();
        assert_near("token", number(&loss), about["token"].as_f64().unwrap(), 1e-5);
        let seg = config.seg.as_ref().unwrap().token;
        let states = ids.iter().enumerate().filter(|(_, id)| **id == seg);
        let states: Vec<Tensor> =
            states.map(|(at, _)| hidden.squeeze(0).unwrap().narrow(0, at, 1).unwrap()).collect();
        let vectors = model.project_seg(&Tensor::cat(&states, 0).unwrap()).unwrap();
        let prompt = Prompt { embeddings: Some(vectors), ..Prompt::default() };
        let sam = model.sam().unwrap();
        let image = sam.encode_image(&setup.squares).unwrap();
        let best = sam.predict_masks(&image, &prompt).unwrap().best().unwrap().masks;
        assert_close("pred_best_low_res", &best, expected.get("pred_best_low_res"), 1e-3, 1e-4);
        let drawn = best.squeeze(1).unwrap();
        let bce = mask_loss(&drawn, &setup.truth).unwrap();
        assert_near("bce", number(&bce), about["bce"].as_f64().unwrap(), 1e-5);
        let dice = dice_loss(&drawn, &setup.truth, 1.0).unwrap();
        assert_near("dice", number(&dice), about["dice"].as_f64().unwrap(), 1e-5);
    }
}

#[test]
fn the_learning_rate_schedule_is_that_of_the_reference() {
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
