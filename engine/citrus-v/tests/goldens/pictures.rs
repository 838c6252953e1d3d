//! Preprocessing of pictures: sizes, resizing, patches; and run-length encoding of masks.

use std::fmt::Write as _;

use citrus_v::{Config, SamConfig};
use imaging::picture::smart_size;
use imaging::resize::{Filter, resized};
use imaging::{FlatMask, Picture};
use sha2::{Digest as _, Sha256};

use crate::{Set, assert_close, device};

fn config(set: &Set) -> Config {
    Config::parse(&std::fs::read_to_string(set.path("ckpt/qwen_tiny/config.json")).unwrap())
        .unwrap()
}

#[test]
fn sizes_are_those_of_the_reference() {
    for set in Set::with("qwen/preprocess.json") {
        for case in set.json("qwen/preprocess.json")["smart_resize_cases"].as_array().unwrap() {
            let number = |it: &serde_json::Value| it.as_u64().unwrap();
            let side = |at: usize| u32::try_from(number(&case["hw"][at])).unwrap();
            let bounds = number(&case["min"])..=number(&case["max"]);
            let (height, width) = smart_size(side(0), side(1), 28, bounds).unwrap();
            let expected = &case["qwen_vl_utils"];
            assert_eq!(
                [height, width].map(u64::from),
                [number(&expected[0]), number(&expected[1])],
                "{case}"
            );
        }
    }
}

#[test]
fn pictures_are_resized_to_the_bit() {
    for set in Set::with("sam/preprocess.json") {
        let expected = set.tensors("qwen/preprocess.safetensors");
        let sam = set.json("sam/preprocess.json");
        let sam_bytes = set.tensors("sam/preprocess.safetensors");
        let config = config(&set);
        let hash = |it: &Picture| {
            Sha256::digest(&it.rgb).iter().fold(String::new(), |mut text, byte| {
                write!(text, "{byte:02x}").unwrap();
                text
            })
        };
        for (index, picture) in set.pictures().iter().enumerate() {
            assert!(picture.rgb == expected.bytes(&format!("rgb_u8_{index}")), "decoded {index}");
            let fitted =
                citrus_v::preprocess::smart_resize(picture, &config.vision, set.bounds()).unwrap();
            assert!(fitted.rgb == expected.bytes(&format!("resized_u8_{index}")), "fitted {index}");
            let Some(about) = sam.get(index) else { continue };
            let side = sam_bytes.get(&format!("u8_{index}")).dim(0).unwrap();
            let square = |side: u32| resized(picture, side, side, Filter::Lanczos);
            let small = square(u32::try_from(side).unwrap());
            assert!(small.rgb == sam_bytes.bytes(&format!("u8_{index}")), "square {index}");
            assert_eq!(hash(&small), about["sha256_u8"].as_str().unwrap());
            assert_eq!(hash(&square(1024)), about["sha256_u8_1024"].as_str().unwrap());
        }
    }
}

#[test]
fn patches_and_planes_are_those_of_the_reference() {
    for set in Set::with("qwen/preprocess.json") {
        let expected = set.tensors("qwen/preprocess.safetensors");
        let config = config(&set);
        let mut rows = Vec::new();
        let mut grids = Vec::new();
        for picture in set.pictures() {
            let fitted =
                citrus_v::preprocess::smart_resize(&picture, &config.vision, set.bounds()).unwrap();
            let (patches, grid) =
                citrus_v::preprocess::to_patches(&fitted, &config.vision, &device()).unwrap();
            rows.push(patches);
            grids.extend(grid.map(|it| i64::try_from(it).unwrap()));
        }
        let all = candle_core::Tensor::cat(&rows, 0).unwrap();
        assert_close("pixel_values", &all, expected.get("pixel_values"), 2e-6, 0.0);
        assert_eq!(grids, expected.numbers("image_grid_thw"));

        let text = std::fs::read_to_string(set.path("ckpt/sam2_tiny_fb/config.json")).unwrap();
        let sam = SamConfig::parse(&text).unwrap();
        let picture = set.pictures().remove(0);
        let plane = citrus_v::preprocess::sam_image(&picture, &sam, &device()).unwrap();
        let side = u32::try_from(sam.image).unwrap();
        let rows: Vec<u32> = (0..side).step_by(4).collect();
        let rows = candle_core::Tensor::new(rows, &device()).unwrap();
        let found = plane.index_select(&rows, 2).unwrap();
        let expected = set.tensors("sam/preprocess.safetensors");
        assert_close("normalized", &found, expected.get("normalized_0_every4th_row"), 2e-6, 0.0);
    }
}

#[test]
fn run_lengths_are_those_of_pycocotools() {
    for set in Set::with("sam/rle.json") {
        for case in set.json("sam/rle.json")["cases"].as_array().unwrap() {
            let number = |it: &str| u32::try_from(case[it].as_u64().unwrap()).unwrap();
            let height = number("h");
            let width = number("w");
            let packed = case["packed_rows_hex"].as_str().unwrap();
            let byte = |at: usize| u8::from_str_radix(packed.get(at..at + 2).unwrap(), 16).unwrap();
            let bytes = (0..packed.len()).step_by(2).map(byte);
            let bits = bytes.flat_map(|it| (0..8).map(move |bit| it >> (7 - bit) & 1 == 1));
            let pixels: Vec<bool> = bits.take((height * width) as usize).collect();
            let mask = FlatMask { height, width, pixels };
            let runs: Vec<u64> = mask.runs().into_iter().map(u64::from).collect();
            let expected = case["uncompressed"].as_array().unwrap();
            assert_eq!(runs, expected.iter().map(|it| it.as_u64().unwrap()).collect::<Vec<_>>());
            let text = case["counts"].as_str().unwrap();
            assert_eq!(mask.to_text(), text, "{height} x {width} {}", case["kind"]);
            assert_eq!(FlatMask::parse(height, width, text), Ok(mask));
        }
    }
}
