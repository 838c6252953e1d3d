//! Many questions at once.

use std::collections::HashMap;
use std::ops::ControlFlow;

use candle_core::{DType, Device, Tensor};
use citrus_v::text::{Turn, causal_mask};
use citrus_v::{CitrusV, Config, Decoding, Need, Question, Session};
use imaging::Picture;
use proptest::prelude::*;
use serde_json::json;

use crate::{NAMINGS, Scratch, description, numbers, random, read, renamed, text_of, write};

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
    // What the picture looks like does not matter beside its patches, but that it is another one.
    let rgb = seed.to_le_bytes()[..3].repeat(rows);
    let fitted = vec![Picture { width: 1, height: u32::try_from(rows).unwrap(), rgb }];
    Question { ids, patches: Some(patches.unwrap()), grids: vec![[1, rows * 2, 4]], fitted }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Sessions that take turns, read in pieces, begin at different times and are put aside say what
    /// they say alone, unless two words were as likely as each other. The same, if some ask what others
    /// have asked, and the model remembers.
    #[test]
    fn sessions_that_take_turns_say_what_they_say_alone(
        asked in proptest::collection::vec((1_usize..6, 0_usize..3, 0_usize..5), 1..5),
        piece in 1_usize..6,
        put_aside in 0_usize..12,
        remembered in prop_oneof![Just(0), Just(70_000), Just(1 << 24)],
        seeds in 1_u32..4,
    ) {
        let scratch = Scratch::new(&format!("turns-{:?}", std::thread::current().id()));
        let forgetful = model(&scratch);
        let model = model(&scratch).remembering(remembered);
        let patch = model.config().vision.patch_len();
        let decoding = Decoding { tokens_max: 10, ..Decoding::default() };
        let all: Vec<Question> = (0..).zip(&asked)
            .map(|(at, (words, rows, _))| question(at % seeds, *words, *rows, patch))
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
            forgetful.answer(question, &decoding, &mut seen).unwrap();
            let together = session.into_answer().unwrap().ids;
            let differ = together.iter().zip(&alone).position(|(a, b)| a != b);
            prop_assert!(differ.is_none_or(|at| margins[at] < 1e-3), "{together:?} {alone:?}");
            prop_assert_eq!(together.len(), alone.len());
        }
    }
}

/// Answers, and gives the words with what was likely at each.
fn answered(model: &CitrusV, session: &mut Session) -> (Vec<u32>, Vec<Vec<f32>>) {
    let (mut words, mut likely) = (Vec::new(), Vec::new());
    while session.need() != Need::Nothing {
        match session.need() {
            Need::See => model.see(session).unwrap(),
            Need::Read => model.read(session, 4).unwrap(),
            _ => model
                .say(&mut [&mut *session], &mut |_, word, logits| {
                    words.push(word);
                    likely.push(logits.to_vec());
                })
                .unwrap(),
        }
    }
    (words, likely)
}

#[test]
fn what_was_asked_before_is_not_read_again_and_answered_alike() {
    let scratch = Scratch::new("remembered");
    let model = model(&scratch).remembering(1 << 24);
    let decoding = Decoding { tokens_max: 6, ..Decoding::default() };
    let patch = model.config().vision.patch_len();
    let asked = question(2, 5, 2, patch);
    let ask = |question: &Question| {
        let mut session = model.begin(question.clone(), &decoding).unwrap();
        let found = answered(&model, &mut session);
        (session.recalled(), found)
    };
    let (recalled, first) = ask(&asked);
    assert_eq!(recalled, 0);
    let (recalled, again) = ask(&asked);
    assert_eq!((recalled, &again.0), (asked.ids.len() - 1, &first.0));
    let apart = first.1.iter().flatten().zip(again.1.iter().flatten());
    assert!(apart.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) < 1e-4);
    // The conversation goes on: the last word of the answer has not been read yet.
    let more = [asked.ids.as_slice(), &first.0, &[7, 8]].concat();
    let (recalled, _) = ask(&Question { ids: more, ..asked.clone() });
    assert_eq!(recalled, asked.ids.len() + first.0.len() - 1);
    // Another picture in the same place: only what stands before it is the same.
    let other = question(3, 5, 2, patch);
    let (recalled, found) = ask(&Question { ids: asked.ids.clone(), ..other });
    assert_eq!(recalled, 6);
    assert_ne!(found.1, first.1);
}
