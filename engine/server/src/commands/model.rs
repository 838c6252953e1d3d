//! Models: taken in, shown, and asked.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use domain::{AnswerMask, InferAnswer, InferRequest, Priority, Role, Sampling, Utterance};
use imaging::{FlatMask, Picture, overlay};
use inference::bench::{Apart, Bench, Speed, begin_again_with_memory_that_stays};
use inference::{Import, ModelCard, ModelStore, SharedModel, Start, memory};

use serde_json::json;

use crate::args::{BenchFlags, ImportFlags, ModelCommand, Place, RunFlags};
use crate::commands::model_serve;
use crate::config::Config;
use crate::output::{Failure, json as print_json, line, table};

pub(crate) async fn model(command: ModelCommand) -> Result<(), Failure> {
    match command {
        ModelCommand::Import(flags) => import(&flags),
        ModelCommand::List { json, place } => list(json, &place),
        ModelCommand::Show { name, place } => {
            let card = store(&place)?.verify(&name).map_err(|it| failed(&it))?;
            print_json(&card)
        }
        ModelCommand::Run(flags) => run(&flags).await,
        ModelCommand::Bench(flags) => bench(&flags),
        ModelCommand::Serve(flags) => model_serve::serve(&flags).await,
    }
}

fn store(place: &Place) -> Result<ModelStore, Failure> {
    Ok(ModelStore::new(Config::read(place)?.data(place).join("models")))
}

fn failed(error: &dyn std::error::Error) -> Failure {
    Failure::from_error("the model cannot be used", error)
}

fn import(flags: &ImportFlags) -> Result<(), Failure> {
    let import = Import {
        from: &flags.folder,
        name: &flags.name,
        is_linked: flags.link,
        is_eight_bit: flags.eight_bit,
        source: &flags.source,
        licence: &flags.licence,
        clinical_use_decided_by: flags.for_clinical_use.as_deref(),
    };
    let card = store(&flags.place)?.import(&import).map_err(|it| failed(&it))?;
    line(format_args!("{}: {}", card.name, card.digest));
    line(format_args!("  {}", weights(&card)));
    if !card.not_in_eight_bits.is_empty() {
        let names = card.not_in_eight_bits.join(", ");
        line(format_args!("  rows that cannot be cut in blocks of 32 stay as they are: {names}"));
    }
    if let Some(warning) = card.warning() {
        line(format_args!("  {warning}: --for-clinical-use WHO, once somebody has decided so"));
    }
    Ok(())
}

/// How large it is, and what that means for this machine.
fn weights(card: &ModelCard) -> String {
    let giga = |it: u64| it as f64 / 1e9;
    let kinds = card.kinds.join(", ");
    let mut text = format!("{:.2} billion numbers of {kinds}", giga(card.parameters));
    let needed = giga(card.bytes_on_cpu);
    if card.is_eight_bit {
        text = format!("{text}, computed in eight bits where that can be; about {needed:.1} GB");
    } else if card.bytes != card.bytes_on_cpu {
        text = format!("{text}; a CPU computes in f32 and needs {needed:.1} GB for them");
    }
    let memory = memory::total().filter(|it| *it < card.bytes_on_cpu);
    if let Some(memory) = memory {
        let there = giga(memory);
        text = format!("{text}: this machine has {there:.1} GB, which is not enough");
        if !card.is_eight_bit {
            text.push_str("; --eight-bit needs less than half");
        }
    }
    text
}

fn list(as_json: bool, place: &Place) -> Result<(), Failure> {
    let cards = store(place)?.list().map_err(|it| failed(&it))?;
    if as_json {
        return print_json(&cards);
    }
    let row = |it: &ModelCard| {
        let masks = if it.draws_masks { "text, masks" } else { "text" };
        let bits = if it.is_eight_bit { ", eight bits" } else { "" };
        let size = format!("{:.2} billion{bits}", it.parameters as f64 / 1e9);
        let whose = it.clinical_use_decided_by.clone();
        let clinical = whose.unwrap_or_else(|| it.warning().unwrap_or_default().to_owned());
        vec![it.name.clone(), masks.to_owned(), size, it.licence.clone(), clinical]
    };
    let rows: Vec<Vec<String>> = cards.iter().map(row).collect();
    table(&["model", "gives", "numbers", "licence", "clinical use decided by"], &rows);
    Ok(())
}

async fn run(flags: &RunFlags) -> Result<(), Failure> {
    let store = store(&flags.place)?;
    let card = store.card(&flags.name).map_err(|it| failed(&it))?;
    let mut pictures = Vec::new();
    for path in &flags.images {
        pictures.push(std::fs::read(path).map_err(|error| {
            Failure::from_error(&format!("cannot read `{}`", path.display()), &error)
        })?);
    }
    let question = InferRequest {
        priority: Priority::Stat,
        deadline_ms: None,
        messages: vec![Utterance {
            role: Role::User,
            text: flags.prompt.clone(),
            pictures: pictures.len(),
        }],
        pictures: pictures.iter().map(|it| BASE64_STANDARD.encode(it)).collect(),
        mask_pictures: flags.mask_pictures.clone(),
        pixels: Some(flags.pixels.bounds()),
        sampling: Sampling {
            tokens_max: flags.max_tokens,
            temperature: flags.temperature,
            seed: flags.seed,
            ..Sampling::default()
        },
    };
    let engine = std::env::current_exe().map_err(|it| failed(&it))?;
    let checkpoint = store.checkpoint(&flags.name);
    let model = SharedModel::start(Start { engine, checkpoint, card, compute: flags.device });
    let answer = model.infer(question).await.map_err(|it| failed(&it))?;
    for (index, picture) in pictures.iter().enumerate() {
        let has_masks = answer.masks.iter().any(|it| it.picture == index);
        if let Some(out) = flags.out.as_ref().filter(|_| index == 0 || has_masks) {
            draw(index, picture, &answer, &numbered(out, index))?;
        }
    }
    if flags.json { print_json(&answer) } else { show(&answer) }
}

fn show(answer: &InferAnswer) -> Result<(), Failure> {
    if let Some(warning) = &answer.warning {
        line(format_args!("{}: {warning}", answer.model));
    }
    if let Some(think) = &answer.think {
        line(format_args!("thoughts: {think}"));
    }
    line(&answer.answer);
    for it in &answer.boxes {
        line(format_args!("box {}: {:?}", it.label, it.on_picture));
    }
    for it in &answer.masks {
        let inside = mask(it)?.pixels.iter().filter(|it| **it).count();
        let guess = it.iou.map(|it| format!(", its own guess of IoU {it:.2}"));
        let on = if it.picture == 0 { "" } else { &format!(" of picture {}", it.picture + 1) };
        line(format_args!("mask: {inside} pixels{on}{}", guess.unwrap_or_default()));
    }
    Ok(())
}

fn mask(it: &AnswerMask) -> Result<FlatMask, Failure> {
    let [height, width] = it.size;
    FlatMask::parse(height, width, &it.counts).map_err(|it| failed(&it))
}

/// The file for the picture of this number, counted from 0: `drawn.png`, `drawn-2.png`.
fn numbered(out: &Path, index: usize) -> PathBuf {
    if index == 0 {
        return out.to_owned();
    }
    let stem = out.file_stem().unwrap_or_default().to_string_lossy();
    out.with_file_name(format!("{stem}-{}.png", index + 1))
}

/// Draws masks into the picture of this number, and into the first the boxes, too.
fn draw(index: usize, picture: &[u8], answer: &InferAnswer, out: &Path) -> Result<(), Failure> {
    let mut picture = Picture::decode(picture).map_err(|it| failed(&it))?;
    for (colour, it) in answer.masks.iter().enumerate().filter(|it| it.1.picture == index) {
        overlay::tint(&mut picture, &mask(it)?, overlay::colour(colour));
    }
    for (index, it) in answer.boxes.iter().enumerate().filter(|_| index == 0) {
        if let Some(corners) = it.on_picture {
            let colour = overlay::colour(answer.masks.len() + index);
            overlay::outline(&mut picture, corners, colour);
        }
    }
    let cannot = |error: &dyn std::error::Error| {
        Failure::from_error(&format!("cannot write `{}`", out.display()), error)
    };
    let png = picture.to_png().map_err(|it| cannot(&it))?;
    std::fs::write(out, png).map_err(|it| cannot(&it))
}

fn bench(flags: &BenchFlags) -> Result<(), Failure> {
    begin_again_with_memory_that_stays().map_err(|it| failed(&it))?;
    let store = store(&flags.place)?;
    let open = |name: &str| {
        let card = store.card(name).map_err(|it| failed(&it))?;
        Bench::open(&store.checkpoint(name), card.is_eight_bit, flags.device).map_err(Failure::new)
    };
    let one = open(&flags.name)?;
    let speed = one.speed(flags.rounds).map_err(Failure::new)?;
    let other = flags.beside.as_deref().map(open).transpose()?;
    let apart = other.map(|it| one.apart(&it)).transpose().map_err(Failure::new)?;
    if flags.json {
        return print_json(&json!({"speed": speed, "apart": apart}));
    }
    show_speed(&speed);
    if let (Some(apart), Some(name)) = (apart, &flags.beside) {
        show_apart(&apart, name);
    }
    Ok(())
}

fn show_speed(it: &Speed) {
    let mut rows = vec![
        ("loaded in", format!("{:.1} s", it.load_seconds)),
        ("a question of 64 tokens is read at", format!("{:.1} tokens/s", it.read_per_second)),
        ("an answer is said at", format!("{:.1} words/s", it.said_per_second)),
        ("eight answers side by side", format!("{:.1} words/s", it.said_together_per_second)),
        ("a picture of 448 x 448 is seen in", format!("{:.2} s", it.see_seconds)),
    ];
    if let Some(seconds) = it.draw_seconds {
        rows.push(("a mask is drawn into it in", format!("{seconds:.2} s")));
    }
    if let Some(bytes) = it.resident_bytes {
        rows.push(("in memory", format!("{:.2} GB", bytes as f64 / 1e9)));
    }
    for (what, how) in rows {
        line(format_args!("{what:36}{how}"));
    }
}

fn show_apart(it: &Apart, other: &str) {
    line(format_args!(
        "beside {other}: the same word at {:.1} % of {} places, divergence {:.5} nats",
        it.same_word * 100.0,
        it.places,
        it.divergence
    ));
}
