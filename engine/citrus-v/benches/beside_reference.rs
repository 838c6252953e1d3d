//! Times the network and the reference implementation alternately, on the same random weights:
//!
//! ```text
//! cargo bench -p citrus-v --bench beside_reference -- WEIGHTS PAIRS REFERENCE...
//! ```
//!
//! `WEIGHTS` is a folder with `qwen_mid` and `sam2_tiny_1024_fb`. `REFERENCE...` is a command that
//! prints a line of JSON for each measurement, with `name`, and `median` in seconds. Without the
//! command only this implementation is timed. The output is a table of medians, with the median of
//! the ratios of the pairs.

#![expect(clippy::print_stdout, reason = "the table is the result")]

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use candle_core::{DType, Device, Tensor};
use citrus_v::attention::causal_mask;
use citrus_v::compute::{RETAIN_FREED_MEMORY, restart_with_allocator_tuning};
use citrus_v::kv_cache::KvCache;
use citrus_v::rope::RotaryEmbedding;
use citrus_v::sam::Sam;
use citrus_v::sam::prompt_encoder::Prompt;
use citrus_v::tensor_shapes::sam_tensor_shapes;
use citrus_v::{CheckpointIndex, CitrusV, Precision, SamConfig, Weights};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Number of tokens of the prompt.
const PROMPT_TOKENS: usize = 64;

/// Number of generated tokens.
const COMPLETION_TOKENS: usize = 48;

/// The name of each measurement in the table, and in the output of the reference.
const NAMES: [(&str, &str); 6] = [
    ("prefill of 64 tokens", "qwen_mid prefill 64 tokens (s)"),
    ("prefill of 64, decode of 48 tokens", "qwen_mid generate 64+48 (s)"),
    ("vision encoder at 448", "vision tower 448x448 (s)"),
    ("picture and text, 288 tokens", "image+text prefill 288 tokens incl. vision (s)"),
    ("SAM2 Hiera-tiny encoder at 1024", "HF Sam2 hiera-tiny image encoder 1024 (s)"),
    ("prompt and mask decoder", "HF Sam2 prompt+mask decoder, 1 box (s)"),
];

/// Seconds of each measurement, by name.
type Times = BTreeMap<String, f64>;

fn main() -> Outcome<()> {
    // The engine tunes the allocator of the host process of a model in the same way.
    restart_with_allocator_tuning()?;
    let mut arguments = std::env::args().skip(1).filter(|it| it != "--bench");
    let Some(weights) = arguments.next() else {
        println!(
            "nothing is timed without weights; give WEIGHTS PAIRS REFERENCE..., as the source says"
        );
        return Ok(());
    };
    let pairs: usize = arguments.next().map_or(Ok(1), |it| it.parse())?;
    let reference: Vec<String> = arguments.collect();
    let mut all: Vec<(Times, Times)> = Vec::new();
    for _ in 0..pairs {
        let theirs = reference_times(&reference)?;
        all.push((theirs, own_times(Path::new(&weights))?));
    }
    print_table(&all);
    Ok(())
}

/// Runs the reference and reads the times that it prints.
fn reference_times(command: &[String]) -> Outcome<Times> {
    let Some((program, arguments)) = command.split_first() else { return Ok(Times::new()) };
    let output =
        Command::new(program).args(arguments).env_remove(RETAIN_FREED_MEMORY.0).output()?;
    let mut times = Times::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let Ok(json) = serde_json::from_str::<serde_json::Value>(line) else { continue };
        let name = json.get("name").and_then(serde_json::Value::as_str);
        let median = json.get("median").and_then(serde_json::Value::as_f64);
        if let (Some(name), Some(median)) = (name, median) {
            times.insert(name.to_owned(), median);
        }
    }
    if times.is_empty() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    Ok(times)
}

/// Discards a result, but not an error.
fn finished<T>(result: candle_core::Result<T>) -> Outcome<()> {
    result.map(|_| ()).map_err(Into::into)
}

/// The median seconds of several runs after a warm-up.
fn timed(count: usize, mut work: impl FnMut() -> Outcome<()>) -> Outcome<f64> {
    work()?;
    let mut seconds = Vec::new();
    for _ in 0..count {
        let start = Instant::now();
        work()?;
        seconds.push(start.elapsed().as_secs_f64());
    }
    Ok(median(seconds))
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Takes all measurements of this implementation.
fn own_times(weights: &Path) -> Outcome<Times> {
    let mut times = Times::new();
    let model = CitrusV::load(&weights.join("qwen_mid"), DType::F32, &Device::Cpu)?;
    let patches = Tensor::randn(0_f32, 1.0, (1024, 1176), &Device::Cpu)?;
    let encode = || model.vision_encoder().forward(&patches, &[[1, 32, 32]]);
    let mut note = |name: &str, seconds: f64| times.insert(name.to_owned(), seconds);
    note("prefill of 64 tokens", timed(5, || prefill(&model, &prompt()?, None).map(|_| ()))?);
    note("prefill of 64, decode of 48 tokens", timed(3, || generate(&model, 1))?);
    note("decode of a batch of 8", timed(3, || generate(&model, 8))?);
    note("vision encoder at 448", timed(5, || finished(encode()))?);
    let both =
        timed(3, || prefill(&model, &prompt()?.narrow(0, 0, 32)?, Some(encode()?)).map(|_| ()))?;
    note("picture and text, 288 tokens", both);
    drop(model);
    let quantized = CitrusV::load(&weights.join("qwen_mid"), Precision::Q8_0, &Device::Cpu)?;
    let prefill = timed(5, || prefill(&quantized, &prompt()?, None).map(|_| ()))?;
    note("prefill of 64 tokens, 8 bits", prefill);
    note("prefill of 64, decode of 48 tokens, 8 bits", timed(3, || generate(&quantized, 1))?);
    drop(quantized);
    let sam = sam(&weights.join("sam2_tiny_1024_fb"))?;
    let picture = Tensor::randn(0_f32, 1.0, (1, 3, 1024, 1024), &Device::Cpu)?;
    note("SAM2 Hiera-tiny encoder at 1024", timed(3, || finished(sam.encode_image(&picture)))?);
    let image = sam.encode_image(&picture)?;
    let prompt = Prompt { boxes: vec![[100.0, 100.0, 500.0, 500.0]], ..Prompt::default() };
    note("prompt and mask decoder", timed(5, || finished(sam.predict_masks(&image, &prompt)))?);
    Ok(times)
}

fn sam(folder: &Path) -> Outcome<Sam> {
    let config = SamConfig::parse(&std::fs::read_to_string(folder.join("config.json"))?)?;
    let plan = CheckpointIndex::read(folder)?;
    plan.check(&sam_tensor_shapes(&config))?;
    Ok(Sam::load(&Weights::open(plan, DType::F32, &Device::Cpu)?, &config)?)
}

/// The token ids of the prompt.
fn prompt() -> Outcome<Tensor> {
    let ids =
        (0..PROMPT_TOKENS).map(|it| u32::try_from(it * 37 % 256)).collect::<Result<Vec<_>, _>>()?;
    Ok(Tensor::new(ids, &Device::Cpu)?)
}

/// Prefills tokens and image features, and computes the logits after each, as the reference does.
fn prefill(model: &CitrusV, ids: &Tensor, features: Option<Tensor>) -> Outcome<(KvCache, Tensor)> {
    let tokens = model.language_model().embed(&ids.to_vec1::<u32>()?)?;
    let x = match features {
        Some(features) => Tensor::cat(&[&tokens, &features], 0)?,
        None => tokens,
    };
    let length = x.dim(0)?;
    let positions = (0..length).map(i64::try_from).collect::<Result<Vec<_>, _>>()?;
    let rotary = RotaryEmbedding::multimodal(
        model.language_model().config(),
        &[[&positions, &positions, &positions]],
        &Device::Cpu,
    )?;
    let mask = causal_mask(length, 0, &[], &Device::Cpu, DType::F32)?;
    let mut cache = KvCache::default();
    let hidden = model.language_model().forward(
        &x.unsqueeze(0)?,
        &rotary,
        mask.as_ref(),
        Some(&mut cache),
    )?;
    Ok((cache, model.language_model().logits(&hidden.squeeze(0)?)?))
}

/// Prefills and decodes a batch of sequences.
fn generate(model: &CitrusV, batch: usize) -> Outcome<()> {
    let mut caches = Vec::new();
    let mut next = Vec::new();
    for _ in 0..batch {
        let (cache, logits) = prefill(model, &prompt()?, None)?;
        next.push(logits.get(PROMPT_TOKENS - 1)?.argmax(0)?.to_scalar::<u32>()?);
        caches.push(cache);
    }
    for step in 1..COMPLETION_TOKENS {
        let position = [i64::try_from(PROMPT_TOKENS + step - 1)?];
        let axes = vec![[position.as_slice(); 3]; batch];
        let rotary =
            RotaryEmbedding::multimodal(model.language_model().config(), &axes, &Device::Cpu)?;
        let hidden = model.language_model().forward_batch(&next, &rotary, &mut caches)?;
        next = model.language_model().logits(&hidden)?.argmax(1)?.to_vec1()?;
    }
    Ok(())
}

/// Decoded tokens per second of a batch.
fn decode_rate(times: &Times, whole: &str, prefill: &str, batch: f64) -> Option<f64> {
    let decoding = times.get(whole)? - batch * times.get(prefill)?;
    Some(batch * (COMPLETION_TOKENS - 1) as f64 / decoding)
}

/// Prints times and decode rates of the reference and of this implementation.
fn print_table(all: &[(Times, Times)]) {
    println!("| what | reference | ours | ratio |\n|---|---|---|---|");
    let line = |name: &str, pairs: Vec<(Option<f64>, Option<f64>)>, is_rate: bool| {
        let theirs = median(pairs.iter().filter_map(|it| it.0).collect());
        let ours = median(pairs.iter().filter_map(|it| it.1).collect());
        let ratio = |(theirs, ours): &(Option<f64>, Option<f64>)| {
            let theirs = (*theirs)?;
            let ours = (*ours)?;
            Some(if is_rate { ours / theirs } else { theirs / ours })
        };
        let ratio = median(pairs.iter().filter_map(ratio).collect());
        println!("| {name} | {theirs:.4} | {ours:.4} | {ratio:.2} |");
    };
    for (name, theirs) in NAMES {
        let pair = |it: &(Times, Times)| (it.0.get(theirs).copied(), it.1.get(name).copied());
        line(&format!("{name} (s)"), all.iter().map(pair).collect(), false);
    }
    let [(prefill, their_prefill), (whole, their_whole), ..] = NAMES;
    let prefill8 = "prefill of 64 tokens, 8 bits";
    let whole8 = "prefill of 64, decode of 48 tokens, 8 bits";
    let theirs = |it: &Times| decode_rate(it, their_whole, their_prefill, 1.0);
    let rates = |whole: &str, prefill: &str, batch: f64| {
        all.iter().map(|it| (theirs(&it.0), decode_rate(&it.1, whole, prefill, batch))).collect()
    };
    line("decode tokens/s", rates(whole, prefill, 1.0), true);
    line("decode tokens/s, 8 bits (the reference in f32)", rates(whole8, prefill8, 1.0), true);
    line(
        "decode tokens/s, a batch of 8 (the reference: one)",
        rates("decode of a batch of 8", prefill, 8.0),
        true,
    );
}
