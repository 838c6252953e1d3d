//! Checkpoints in all the forms they come in, and those that are not whole. The weights are random and
//! made here.
#![expect(clippy::unwrap_used, reason = "a panic says no")]

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use citrus_v::layout::layout;
use citrus_v::positions::text_positions;
use citrus_v::text::{Cache, Text, Turn, causal_mask};
use citrus_v::vision::Vision;
use citrus_v::{
    CitrusV, Config, Decoding, Need, Plan, Precision, Question, Session, Weights, WeightsError,
};
use proptest::prelude::*;
use serde_json::{Value, json};

/// A folder that is removed with everything in it.
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
        // What cannot be removed is in the temporary folder, which the system empties.
        _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A model of a size that computes in no time.
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

/// Numbers that look random and are the same on every machine.
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

/// Random weights of a model, by our names.
fn random(config: &Config) -> HashMap<String, Tensor> {
    let tensor = |(index, (name, shape)): (usize, (String, Vec<usize>))| {
        let count = shape.iter().product();
        let scale = if name.contains("norm") { 1.0 } else { 0.4 };
        let values: Vec<f32> =
            numbers(index as u64 + 7, count).into_iter().map(|it| it * scale).collect();
        (name, Tensor::from_vec(values, shape, &Device::Cpu).unwrap())
    };
    layout(config).into_iter().enumerate().map(tensor).collect()
}

/// How a program names tensors of the language model and the vision tower.
const NAMINGS: [[&str; 3]; 3] = [
    ["visual.", "model.", "lm_head."],
    ["model.visual.", "model.language_model.", "lm_head."],
    ["mllm.model.visual.", "mllm.model.language_model.", "mllm.lm_head."],
];

fn renamed(name: &str, [visual, text, head]: [&str; 3]) -> String {
    let ours = [("visual.", visual), ("language_model.", text), ("lm_head.", head)];
    let rest = ours.iter().find_map(|(from, to)| Some(format!("{to}{}", name.strip_prefix(from)?)));
    rest.unwrap()
}

fn write(folder: &Path, file: &str, tensors: &HashMap<String, Tensor>) {
    candle_core::safetensors::save(tensors, folder.join(file)).unwrap();
}

/// What a checkpoint in `folder` says of two pictures and some words.
fn logits(folder: &Path, config: &Config) -> Vec<f32> {
    let plan = Plan::read(folder).unwrap();
    plan.check(&layout(config)).unwrap();
    let weights = Weights::open(plan, DType::F32, &Device::Cpu).unwrap();
    let (text, vision) = (
        Text::load(&weights, &config.text).unwrap(),
        Vision::load(&weights, &config.vision).unwrap(),
    );
    let grids = [[1, 4, 6], [1, 6, 4]];
    let patches = numbers(3, 48 * config.vision.patch_len());
    let patches = Tensor::from_vec(patches, (48, config.vision.patch_len()), &Device::Cpu).unwrap();
    let features = vision.forward(&patches, &grids).unwrap();
    let ids = [&[1, 41][..], &[40; 6], &[2, 3, 41], &[40; 6], &[4, 5]].concat();
    let words = text.embed(&ids).unwrap();
    let mut rows = Vec::new();
    let mut next = 0;
    for (at, id) in ids.iter().enumerate() {
        let (from, row) = if *id == 40 { (&features, next) } else { (&words, at) };
        next += usize::from(*id == 40);
        rows.push(from.narrow(0, row, 1).unwrap());
    }
    let found = text_positions(&ids, 40, &grids, 2).unwrap();
    let [time, row, column] = &found.axes;
    let turn = Turn::of(&config.text, &[[time, row, column]], &Device::Cpu).unwrap();
    let mask = causal_mask(ids.len(), 0, &[], &Device::Cpu, DType::F32).unwrap();
    let embeddings = Tensor::cat(&rows, 0).unwrap().unsqueeze(0).unwrap();
    let hidden = text.forward(&embeddings, &turn, mask.as_ref(), None).unwrap();
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
            // One file, two, three.
            for shard in 0..=index {
                let of = |name: &str| name.len() % (index + 1) == shard;
                let some = named.iter().filter(|(name, _)| of(name));
                let some = some.map(|(name, it)| (name.clone(), it.clone())).collect();
                write(&scratch.0, &format!("model-{shard}.safetensors"), &some);
            }
            all.push(logits(&scratch.0, &config));
        }
        assert!(all[0].iter().all(|it| it.is_finite()) && all[0].iter().any(|it| it.abs() > 0.01));
        assert!(all[1] == all[0] && all[2] == all[0], "{kv_heads} {is_tied}");
        // Where the embedding is the output layer, some write it down twice.
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
        // Such as both kinds can say.
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

/// Eight bits change a little, and it is known how much: what is off by more is a mistake.
#[test]
fn eight_bits_stay_close_and_what_cannot_be_cut_in_blocks_is_listed() {
    let config = Config::parse(&description(2, false).to_string()).unwrap();
    let scratch = Scratch::new("eight");
    let named =
        random(&config).iter().map(|(name, it)| (renamed(name, NAMINGS[0]), it.clone())).collect();
    write(&scratch.0, "model.safetensors", &named);
    let words: Vec<u32> = (0..12).map(|it| it * 3).collect();
    let load = |precision: Precision| {
        let plan = Plan::read(&scratch.0).unwrap();
        let weights = Weights::open(plan, precision, &Device::Cpu).unwrap();
        let text = Text::load(&weights, &config.text).unwrap();
        (read(&text, &config, &words, words.len()), weights.too_odd())
    };
    let (exact, none) = load(Precision::Full(DType::F32));
    let (eight, odd) = load(Precision::Eight);
    assert_eq!(none, Vec::<String>::new());
    // 48 numbers in a row are not a multiple of 32.
    let expected = [0, 1].map(|it| format!("language_model.layers.{it}.mlp.down_proj.weight"));
    assert_eq!(odd, expected);
    let length = |it: &[f32]| it.iter().map(|it| it * it).sum::<f32>().sqrt();
    let apart: Vec<f32> = exact.iter().zip(&eight).map(|(a, b)| a - b).collect();
    let share = length(&apart) / length(&exact);
    assert!(share > 0.0 && share < 0.02, "{share}");
}

/// What is wrong is listed, and said before anything is read.
#[test]
fn what_does_not_fit_is_refused_with_a_list() {
    let config = Config::parse(&description(2, false).to_string()).unwrap();
    let scratch = Scratch::new("misfit");
    let mut named: HashMap<String, Tensor> =
        random(&config).iter().map(|(name, it)| (renamed(name, NAMINGS[0]), it.clone())).collect();
    let gone = named.remove("model.layers.1.mlp.up_proj.weight").unwrap();
    named.insert("model.layers.1.mlp.upper_proj.weight".to_owned(), gone.clone());
    named.insert("model.norm.weight".to_owned(), gone);
    named.insert("something.else".to_owned(), Tensor::zeros(1, DType::F32, &Device::Cpu).unwrap());
    write(&scratch.0, "model.safetensors", &named);

    let told = Plan::read(&scratch.0).unwrap().check(&layout(&config)).unwrap_err().to_string();

    for expected in [
        "missing:\n    language_model.layers.1.mlp.up_proj.weight",
        "unexpected:\n    something.else\n    model.layers.1.mlp.upper_proj.weight",
        "language_model.norm.weight: [32] is needed, [48, 32] is there",
    ] {
        assert!(told.contains(expected), "{expected} is not in:\n{told}");
    }
}

#[test]
fn files_that_are_not_whole_or_not_safetensors_are_refused() {
    let scratch = Scratch::new("broken");
    let read = || Plan::read(&scratch.0).unwrap_err();
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

/// The release as its classes declare it: every tensor that pictures need, with its shape.
#[test]
#[expect(clippy::print_stdout, reason = "a test says what it did not do")]
fn the_plan_of_the_release_is_that_of_its_classes() {
    let Some(reference) = std::env::var_os("ISOCENTER_REFERENCE").map(PathBuf::from) else {
        println!("not run: ISOCENTER_REFERENCE is not there");
        return;
    };
    let table = std::fs::read_to_string(reference.join("model/release_tensors.tsv")).unwrap();
    let config = Config::parse(include_str!("configs/flat.json")).unwrap();
    let needed = layout(&config);
    let mut found = std::collections::BTreeMap::new();
    let mut unused = 0;
    for line in table.lines().skip(1) {
        let (name, shape) = line.split_once('\t').unwrap();
        match citrus_v::names::meaning(name) {
            citrus_v::names::Meaning::Tensor(ours) => {
                let sides = shape.split('x').map(|it| it.parse::<usize>().unwrap());
                found.insert(ours, sides.collect::<Vec<_>>());
            }
            citrus_v::names::Meaning::Unused => unused += 1,
            other => assert_eq!(other, citrus_v::names::Meaning::Unused, "{name}"),
        }
    }
    assert_eq!(found, needed);
    assert_eq!(found.len() + unused, table.lines().count() - 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// A sequence reads the same alone, in pieces through the cache, and in a batch with others that
    /// are shorter or longer, padded on either side.
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
        let (mut ids, mut padding, mut axes) = (Vec::new(), Vec::new(), Vec::new());
        for (row, length) in lengths.iter().enumerate() {
            let words: Vec<u32> = (0..*length).map(|at| word(row, at)).collect();
            alone.push(read(&text, &config, &words, split));
            let gap = if is_left { longest - length } else { 0 };
            let stands = |at: usize| (gap..gap + length).contains(&at);
            let of = |at: usize| if stands(at) { words[at - gap] } else { 0 };
            ids.extend((0..longest).map(of));
            padding.push((0..longest).map(|at| !stands(at)).collect::<Vec<_>>());
            let place = |at: usize| if stands(at) { i64::try_from(at - gap).unwrap() } else { 1 };
            axes.push((0..longest).map(place).collect::<Vec<i64>>());
        }
        let rows: Vec<[&[i64]; 3]> = axes.iter().map(|it| [it.as_slice(); 3]).collect();
        let turn = Turn::of(&config.text, &rows, &Device::Cpu).unwrap();
        let mask = causal_mask(longest, 0, &padding, &Device::Cpu, DType::F32).unwrap();
        let embeddings = text.embed(&ids).unwrap();
        let embeddings = embeddings.reshape((lengths.len(), longest, config.text.hidden)).unwrap();
        let hidden = text.forward(&embeddings, &turn, mask.as_ref(), None).unwrap();
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

/// A whole model with words of one letter.
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

/// A question with a picture in it, if `rows` is not nought.
fn question(seed: u32, words: usize, rows: usize, patch: usize) -> Question {
    let word = |at: usize| (seed * 7 + u32::try_from(at).unwrap() * 3) % 40;
    let mut ids: Vec<u32> = (0..words).map(word).collect();
    if rows == 0 {
        return Question { ids, patches: None, grids: Vec::new(), fitted: Vec::new() };
    }
    ids.extend([41].into_iter().chain(std::iter::repeat_n(40, rows * 2)).chain([1, 2]));
    let count = rows * 8;
    let patches =
        Tensor::from_vec(numbers(seed.into(), count * patch), (count, patch), &Device::Cpu);
    Question {
        ids,
        patches: Some(patches.unwrap()),
        grids: vec![[1, rows * 2, 4]],
        fitted: Vec::new(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Sessions that take turns, read in pieces, begin at different times and are put aside say what
    /// they say alone, unless two words were as likely as each other.
    #[test]
    fn sessions_that_take_turns_say_what_they_say_alone(
        asked in proptest::collection::vec((1_usize..6, 0_usize..3, 0_usize..5), 1..5),
        piece in 1_usize..6,
        put_aside in 0_usize..12,
    ) {
        let scratch = Scratch::new(&format!("turns-{:?}", std::thread::current().id()));
        let model = model(&scratch);
        let patch = model.config().vision.patch_len();
        let decoding = Decoding { tokens_max: 10, ..Decoding::default() };
        let all: Vec<Question> = (1..).zip(&asked)
            .map(|(seed, (words, rows, _))| question(seed, *words, *rows, patch))
            .collect();
        let mut sessions: Vec<Session> =
            all.iter().map(|it| model.begin(it.clone(), &decoding).unwrap()).collect();
        let mut round = 0;
        while sessions.iter().any(|it| it.need() != Need::Nothing) {
            let begun = |index: usize| asked[index].2 <= round;
            for (index, session) in sessions.iter_mut().enumerate().filter(|(it, _)| begun(*it)) {
                match session.need() {
                    Need::See => model.see(session).unwrap(),
                    Need::Read => model.read(session, piece).unwrap(),
                    Need::Say if round == put_aside + index => session.forget(),
                    _ => {}
                }
            }
            let mut speakers: Vec<&mut Session> = sessions.iter_mut().collect();
            model.say(&mut speakers, &mut |_, _, _| {}).unwrap();
            round += 1;
            prop_assert!(round < 200);
        }
        for (session, question) in sessions.into_iter().zip(&all) {
            let (mut alone, mut margins) = (Vec::new(), Vec::new());
            let mut seen = |token, logits: &[f32]| {
                let mut sorted = logits.to_vec();
                sorted.sort_by(|a, b| b.total_cmp(a));
                alone.push(token);
                margins.push(sorted[0] - sorted[1]);
                ControlFlow::Continue(())
            };
            model.answer(question, &decoding, &mut seen).unwrap();
            let together = session.into_answer().unwrap().ids;
            let differ = together.iter().zip(&alone).position(|(a, b)| a != b);
            prop_assert!(differ.is_none_or(|at| margins[at] < 1e-3), "{together:?} {alone:?}");
            prop_assert_eq!(together.len(), alone.len());
        }
    }
}

fn text_of(config: &Config) -> Text {
    let scratch = Scratch::new(&format!("property-{:?}", std::thread::current().id()));
    let named =
        random(config).iter().map(|(name, it)| (renamed(name, NAMINGS[0]), it.clone())).collect();
    write(&scratch.0, "model.safetensors", &named);
    let plan = Plan::read(&scratch.0).unwrap();
    Text::load(&Weights::open(plan, DType::F32, &Device::Cpu).unwrap(), &config.text).unwrap()
}

/// Logits of words, read in pieces of `split`.
fn read(text: &Text, config: &Config, words: &[u32], split: usize) -> Vec<f32> {
    let (mut cache, mut all) = (Cache::default(), Vec::new());
    for piece in words.chunks(split) {
        let before = cache.len();
        let places: Vec<i64> =
            (before..before + piece.len()).map(|it| i64::try_from(it).unwrap()).collect();
        let turn =
            Turn::of(&config.text, &[[&places; 3].map(Vec::as_slice)], &Device::Cpu).unwrap();
        let mask = causal_mask(piece.len(), before, &[], &Device::Cpu, DType::F32).unwrap();
        let embeddings = text.embed(piece).unwrap().unsqueeze(0).unwrap();
        let hidden = text.forward(&embeddings, &turn, mask.as_ref(), Some(&mut cache)).unwrap();
        let logits = text.logits(&hidden).unwrap();
        all.extend(logits.flatten_all().unwrap().to_vec1::<f32>().unwrap());
    }
    all
}
