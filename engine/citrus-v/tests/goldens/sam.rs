//! SAM2 compared with the reference, from checkpoints in both naming schemes.

use std::collections::HashMap;
use std::path::PathBuf;

use candle_core::{DType, Device, Tensor};
use citrus_v::resampling::bilinear;
use citrus_v::sam::prompt_encoder::{Point, PointLabel, Prompt};
use citrus_v::sam::{ImageEmbedding, Sam};
use citrus_v::tensor_names::{CanonicalName, canonical_name};
use citrus_v::tensor_shapes::sam_tensor_shapes;
use citrus_v::{CheckpointIndex, SamConfig, Weights};
use imaging::FlatMask;
use serde_json::Value;

use crate::set::every_fourth;
use crate::{Set, Tensors, assert_close, device};

/// A folder with a checkpoint. One that a test made is removed with the value.
struct Checkpoint {
    folder: PathBuf,
    is_temporary: bool,
}

impl Drop for Checkpoint {
    fn drop(&mut self) {
        if self.is_temporary {
            // The system empties its temporary folder, so files that cannot be removed may stay.
            _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

/// The checkpoints of a set: with the names of Facebook, and of Hugging Face.
fn checkpoints(set: &Set) -> [Checkpoint; 2] {
    let of_set = |it: &str| Checkpoint { folder: set.path(it), is_temporary: false };
    let other = of_set("ckpt/sam2_tiny_hf");
    let has_weights = other.folder.join("model.safetensors").exists();
    [of_set("ckpt/sam2_tiny_fb"), if has_weights { other } else { renamed(set) }]
}

/// The checkpoint with the names of Hugging Face, made of the other one. The set of the project has
/// no weights twice, only the names.
fn renamed(set: &Set) -> Checkpoint {
    let thread = std::thread::current().id();
    let name = format!("citrus-v-renamed-{}-{thread:?}", std::process::id());
    let folder = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&folder).unwrap();
    let config = set.path("ckpt/sam2_tiny_hf/config.json");
    std::fs::copy(config, folder.join("config.json")).unwrap();
    let weights = set.path("ckpt/sam2_tiny_fb/model.safetensors");
    let tensors = candle_core::safetensors::load(weights, &Device::Cpu).unwrap();
    let about = set.json("sam/fb_to_hf_names.json");
    let mut rows = HashMap::<&str, Vec<&Tensor>>::new();
    for (name, others) in about["map"].as_object().unwrap() {
        for other in others.as_array().unwrap() {
            rows.entry(other.as_str().unwrap()).or_default().push(&tensors[name]);
        }
    }
    // Tensors with the same name there are the rows of a table.
    let tables = rows.iter().map(|(name, rows)| (*name, Tensor::cat(rows, 0).unwrap()));
    let renamed: HashMap<&str, Tensor> = tables.collect();
    candle_core::safetensors::save(&renamed, folder.join("model.safetensors")).unwrap();
    Checkpoint { folder, is_temporary: true }
}

fn sam(checkpoint: &Checkpoint) -> Sam {
    let folder = &checkpoint.folder;
    let text = std::fs::read_to_string(folder.join("config.json")).unwrap();
    let config = SamConfig::parse(&text).unwrap();
    let plan = CheckpointIndex::read(folder).unwrap();
    plan.check(&sam_tensor_shapes(&config)).unwrap();
    let weights = Weights::open(plan, DType::F32, &device()).unwrap();
    Sam::load(&weights, &config).unwrap()
}

/// The first two pictures after the preprocessing of the reference.
fn input(set: &Set) -> Tensor {
    let bytes = set.tensors("sam/preprocess.safetensors");
    let plane = |index: usize| {
        let name = format!("u8_{index}");
        let side = u32::try_from(bytes.get(&name).dim(0).unwrap()).unwrap();
        let picture = imaging::Picture::new(side, side, bytes.bytes(&name)).unwrap();
        citrus_v::preprocess::normalize_for_sam(&picture, &device()).unwrap()
    };
    Tensor::cat(&[plane(0), plane(1)], 0).unwrap()
}

#[test]
fn image_embeddings_are_those_of_the_reference() {
    for set in Set::with("sam/image_encoder.safetensors") {
        let expected = set.tensors("sam/image_encoder.safetensors");
        for checkpoint in checkpoints(&set) {
            let sam = sam(&checkpoint);
            let mut checked = 0;
            let mut check = |name: &str, found: &Tensor| {
                let Some(expected) = expected.0.get(name) else { return };
                let found =
                    if name == "fpn_level2" { channels_first(found) } else { found.clone() };
                // The set has only every fourth row and column of large tensors.
                let first = found.narrow(0, 0, 1).unwrap();
                let found = if first.elem_count() == expected.elem_count() {
                    first
                } else {
                    every_fourth(&every_fourth(&first, 1), 2)
                };
                assert_close(name, &found, expected, 1e-3, 1e-4);
                checked += 1;
            };
            let found = sam.encode_image_traced(&input(&set), &mut check).unwrap();
            assert_eq!(
                checked,
                sam.config().stages.iter().sum::<usize>()
                    + 1
                    + usize::from(expected.0.contains_key("patch_embed"))
            );
            assert_close(
                "image_embeddings",
                &channels_first(&found.embedding),
                expected.get("image_embeddings"),
                1e-3,
                1e-4,
            );
            let [finest, finer] = &found.high_res;
            assert_close(
                "high_res_s0",
                &channels_first(finest),
                expected.get("high_res_s0"),
                1e-3,
                1e-4,
            );
            assert_close(
                "high_res_s1",
                &channels_first(finer),
                expected.get("high_res_s1"),
                1e-3,
                1e-4,
            );
            let dense_pe = expected.get("dense_pe");
            let positions = sam.prompt_encoder().image_positions().unwrap();
            let positions = positions.transpose(1, 2).unwrap().reshape(dense_pe.shape()).unwrap();
            assert_close("dense_pe", &positions, dense_pe, 1e-4, 1e-4);
        }
    }
}

/// The layout of the reference, NCHW.
fn channels_first(map: &Tensor) -> Tensor {
    map.permute((0, 3, 1, 2)).unwrap().contiguous().unwrap()
}

/// The prompt of a case, from its points, labels, boxes and masks.
fn prompt(case: &Tensors) -> Prompt {
    let floats = |it: &Tensor| it.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let mut prompt = Prompt::default();
    if let Some(points) = case.0.get("input_points") {
        let (_, objects, count, _) = points.dims4().unwrap();
        let coordinates = floats(points);
        let labels = case.numbers("input_labels");
        let point = |at: usize| -> Point {
            let label = match labels[at] {
                0 => PointLabel::Background,
                1 => PointLabel::Foreground,
                _ => PointLabel::Padding,
            };
            Point { position: [coordinates[at * 2], coordinates[at * 2 + 1]], label }
        };
        let object = |it: usize| (it * count..(it + 1) * count).map(point).collect();
        prompt.points = (0..objects).map(object).collect();
    }
    if let Some(boxes) = case.0.get("input_boxes") {
        prompt.boxes = floats(boxes).chunks(4).map(|it| [it[0], it[1], it[2], it[3]]).collect();
    }
    prompt.masks = case.0.get("input_masks").cloned();
    prompt
}

#[test]
fn masks_of_prompts_are_those_of_the_reference() {
    for set in Set::with("sam/image_encoder.safetensors") {
        for checkpoint in checkpoints(&set) {
            let sam = sam(&checkpoint);
            let image = sam.encode_image(&input(&set)).unwrap().of(0).unwrap();
            for name in set.files("sam", "prompt_") {
                check_prompt(&sam, &image, &name, &set.tensors(&name));
            }
        }
    }
}

fn check_prompt(sam: &Sam, image: &ImageEmbedding, name: &str, expected: &Tensors) {
    let prompt = prompt(expected);
    if let Some(sparse) = expected.0.get("sparse_embeddings") {
        let found = sam.prompt_encoder().encode(&prompt).unwrap();
        assert_close(name, &found.sparse, sparse, 1e-4, 1e-4);
        let expected = expected.get("dense_embeddings");
        let side = expected.dim(2).unwrap();
        let dense =
            channels_first(&found.dense).narrow(2, 0, side).unwrap().narrow(3, 0, side).unwrap();
        assert_close(name, &dense, expected, 1e-3, 1e-4);
    }
    let prediction = sam.predict_masks(image, &prompt).unwrap();
    let multimask = prediction.multimask().unwrap();
    assert_close(name, &multimask.masks, expected.get("multi_low_res_masks"), 1e-3, 1e-4);
    assert_close(name, &multimask.ious, expected.get("multi_iou"), 1e-4, 0.0);
    assert_close(name, &prediction.object_scores, expected.get("multi_obj_logits"), 1e-4, 1e-4);
    let single = prediction.single().unwrap();
    assert_close(name, &single.masks, expected.get("single_low_res_masks"), 1e-3, 1e-4);
    assert_close(name, &single.ious, expected.get("single_iou"), 1e-4, 0.0);
}

/// Compares a mask with the reference. Pixels with a logit close to zero may differ.
#[track_caller]
pub(crate) fn assert_mask(what: &str, found: &FlatMask, expected: &Value, logits: &Tensor) {
    let number = |at: usize| u32::try_from(expected["size"][at].as_u64().unwrap()).unwrap();
    let text = expected["counts"].as_str().unwrap();
    let expected = FlatMask::parse(number(0), number(1), text).unwrap();
    assert_eq!((found.height, found.width), (expected.height, expected.width), "{what}");
    let logits = logits.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let pairs = found.pixels.iter().zip(&expected.pixels).zip(logits);
    let wrong = pairs.filter(|((a, b), logit)| a != b && logit.abs() >= 2e-3).count();
    assert_eq!(wrong, 0, "{what}");
}

#[test]
fn masks_of_language_embeddings_are_those_of_the_reference() {
    for set in Set::with("sam/language_prompt.json") {
        let expected = set.tensors("sam/language_prompt.safetensors");
        let about = set.json("sam/language_prompt.json");
        for checkpoint in checkpoints(&set) {
            let sam = sam(&checkpoint);
            let image = sam.encode_image(&input(&set)).unwrap();
            let vectors = expected.get("lang").squeeze(1).unwrap();
            let prompt = Prompt { embeddings: Some(vectors), ..Prompt::default() };
            let encoded = sam.prompt_encoder().encode(&prompt).unwrap();
            assert_close("sparse", &encoded.sparse, expected.get("sparse"), 1e-4, 1e-4);
            let prediction = sam.predict_masks(&image, &prompt).unwrap();
            let multimask = prediction.multimask().unwrap();
            assert_close(
                "low_res_multimasks",
                &multimask.masks,
                expected.get("low_res_multimasks"),
                1e-3,
                1e-4,
            );
            assert_close("ious", &multimask.ious, expected.get("ious"), 1e-4, 0.0);
            assert_close(
                "obj_logits",
                &prediction.object_scores,
                expected.get("obj_logits"),
                1e-4,
                1e-4,
            );
            let best = prediction.best().unwrap();
            assert_eq!(best.which, expected.ids("best_idx"));
            let best = best.masks;
            assert_close("best_low_res", &best, expected.get("best_low_res"), 1e-3, 1e-4);
            let large = bilinear(&best.narrow(0, 0, 1).unwrap(), sam.config().image).unwrap();
            assert_close("high_res_image0", &large, expected.get("high_res_image0"), 1e-3, 1e-4);
            for (object, about) in about["masks"].as_array().unwrap().iter().enumerate() {
                let logits = best.get(object).unwrap().squeeze(0).unwrap();
                let side = u32::try_from(logits.dim(0).unwrap()).unwrap();
                let values = logits.flatten_all().unwrap().to_vec1::<f32>().unwrap();
                let pixels = values.into_iter().map(|it| it > 0.0).collect();
                let mask = FlatMask { height: side, width: side, pixels };
                assert_mask("mask", &mask, &about["rle_low_res"], &logits);
                let nearest = expected.get(&format!("mask_orig_nearest_{object}"));
                let (height, width) = nearest.dims2().unwrap();
                let reference = expected.bytes(&format!("mask_{object}"));
                let pixels = reference.iter().map(|it| *it == 1).collect();
                let reference = FlatMask { height: side, width: side, pixels };
                let size = |it: usize| u32::try_from(it).unwrap();
                let found = reference.resized(size(height), size(width));
                let bytes: Vec<u8> = found.pixels.iter().map(|it| u8::from(*it)).collect();
                assert!(bytes == expected.bytes(&format!("mask_orig_nearest_{object}")));
                let text = about["rle_original_size_nearest"]["counts"].as_str().unwrap();
                assert_eq!(found.to_text(), text);
            }
        }
    }
}

#[test]
fn both_namings_are_known() {
    for set in Set::with("sam/fb_to_hf_names.json") {
        let about = set.json("sam/fb_to_hf_names.json");
        for (facebook, others) in about["map"].as_object().unwrap() {
            let CanonicalName::Tensor(name) = canonical_name(facebook) else {
                panic!("{facebook}")
            };
            for other in others.as_array().unwrap() {
                match canonical_name(other.as_str().unwrap()) {
                    CanonicalName::Tensor(it) => assert_eq!(it, name),
                    CanonicalName::Rows(rows) => assert!(rows.contains(&name), "{other}"),
                    it => panic!("{other}: {it:?}"),
                }
            }
        }
        for unused in about["not_used_for_images"].as_array().unwrap() {
            assert_eq!(canonical_name(unused.as_str().unwrap()), CanonicalName::Unused, "{unused}");
        }
    }
}
