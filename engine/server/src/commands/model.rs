//! Models: taken in, shown, and asked.

use std::ops::ControlFlow;
use std::path::Path;

use citrus_v::{CitrusV, Decoding, Device, Ending, Message, PixelBounds, Question, Segmentation};
use encoding::model_answer::{CitedBox, ModelAnswer, cited_boxes};
use imaging::{FlatMask, Picture, overlay};
use inference::{Import, ModelCard, ModelStore};
use serde_json::{Value, json};

use crate::args::{ImportFlags, ModelCommand, Place, RunFlags};
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
        ModelCommand::Run(flags) => run(&flags),
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
    let needed = giga(card.bytes_on_cpu());
    if card.is_eight_bit {
        text = format!("{text}, computed in eight bits where that can be; about {needed:.1} GB");
    } else if card.bytes != card.bytes_on_cpu() {
        text = format!("{text}; a CPU computes in f32 and needs {needed:.1} GB for them");
    }
    let memory = memory_bytes().filter(|it| *it < card.bytes_on_cpu());
    if let Some(memory) = memory {
        let there = giga(memory);
        text = format!("{text}: this machine has {there:.1} GB, which is not enough");
        if !card.is_eight_bit {
            text.push_str("; --eight-bit needs about a quarter");
        }
    }
    text
}

/// Memory of this machine, if it says.
fn memory_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|it| it.strip_prefix("MemTotal:"))?;
    let kilobytes: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kilobytes * 1024)
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

/// What a model said and drew.
struct Said {
    text: String,
    ending: Ending,
    question: Question,
    drawn: Vec<Segmentation>,
}

fn run(flags: &RunFlags) -> Result<(), Failure> {
    let store = store(&flags.place)?;
    let card = store.card(&flags.name).map_err(|it| failed(&it))?;
    let pictures: Vec<Picture> =
        flags.images.iter().map(|it| picture(it)).collect::<Result<_, _>>()?;
    let said = ask(flags, (&card, &store.checkpoint(&flags.name)), &pictures)?;
    let answer = ModelAnswer::parse(&said.text);
    let boxes = cited_boxes(&said.text);
    let seen = said.question.fitted.first().map(|it| [it.width, it.height]);
    let source = pictures.first().map(|it| [it.width, it.height]);
    let masks: Vec<FlatMask> = match source {
        Some([width, height]) => {
            said.drawn.iter().map(|it| it.mask.resized(height, width)).collect()
        }
        None => Vec::new(),
    };
    let placed: Vec<(CitedBox, Option<[u32; 4]>)> = boxes
        .into_iter()
        .map(|it| {
            let on = seen.zip(source).and_then(|(seen, source)| it.on_source(seen, source).ok());
            (it, on.map(|(corners, _)| corners))
        })
        .collect();
    if let (Some(out), Some(first)) = (&flags.out, pictures.first()) {
        draw(first, &masks, &placed, out)?;
    }
    if flags.json {
        return print_json(&as_json(&card, &said, &answer, &masks, &placed));
    }
    if let Some(warning) = card.warning() {
        line(format_args!("{}: {warning}", card.name));
    }
    if let Some(think) = &answer.think {
        line(format_args!("thoughts: {think}"));
    }
    line(&answer.answer);
    for (cited, corners) in &placed {
        line(format_args!("box {}: {corners:?}", cited.label));
    }
    for (mask, drawn) in masks.iter().zip(&said.drawn) {
        let inside = mask.pixels.iter().filter(|it| **it).count();
        line(format_args!("mask: {inside} pixels, its own guess of IoU {:.2}", drawn.iou));
    }
    Ok(())
}

fn picture(path: &Path) -> Result<Picture, Failure> {
    let cannot = |error: &dyn std::error::Error| {
        Failure::from_error(&format!("cannot read `{}`", path.display()), error)
    };
    let bytes = std::fs::read(path).map_err(|it| cannot(&it))?;
    Picture::decode(&bytes).map_err(|it| cannot(&it))
}

fn ask(
    flags: &RunFlags,
    (card, checkpoint): (&ModelCard, &Path),
    pictures: &[Picture],
) -> Result<Said, Failure> {
    let model =
        CitrusV::load(checkpoint, card.precision(), &Device::Cpu).map_err(|it| failed(&it))?;
    let bounds = PixelBounds { min: flags.min_pixels, max: flags.max_pixels };
    let message = Message::question(pictures.len(), &flags.prompt);
    let question = model.question(&[message], pictures, bounds).map_err(|it| failed(&it))?;
    let stop = ["<|im_end|>", "<|endoftext|>"].iter().filter_map(|it| model.tokens().id(it));
    let decoding = Decoding {
        tokens_max: flags.max_tokens,
        stop: stop.collect(),
        temperature: flags.temperature,
        seed: flags.seed,
        ..Decoding::default()
    };
    let mut go_on = |_: u32, _: &[f32]| ControlFlow::Continue(());
    let answer = model.answer(&question, &decoding, &mut go_on).map_err(|it| failed(&it))?;
    let text = model.tokens().decode(&answer.ids).map_err(|it| failed(&it))?;
    let drawn = match (question.fitted.first(), &answer.seg_hidden) {
        (Some(first), Some(hidden)) => model.segment(first, hidden).map_err(|it| failed(&it))?,
        _ => Vec::new(),
    };
    Ok(Said { text, ending: answer.ending, question, drawn })
}

fn draw(
    picture: &Picture,
    masks: &[FlatMask],
    boxes: &[(CitedBox, Option<[u32; 4]>)],
    out: &Path,
) -> Result<(), Failure> {
    let mut picture = picture.clone();
    for (index, mask) in masks.iter().enumerate() {
        overlay::tint(&mut picture, mask, overlay::colour(index));
    }
    for (index, (_, corners)) in boxes.iter().enumerate() {
        if let Some(corners) = corners {
            overlay::outline(&mut picture, *corners, overlay::colour(masks.len() + index));
        }
    }
    let cannot = |error: &dyn std::error::Error| {
        Failure::from_error(&format!("cannot write `{}`", out.display()), error)
    };
    let png = picture.to_png().map_err(|it| cannot(&it))?;
    std::fs::write(out, png).map_err(|it| cannot(&it))
}

fn as_json(
    card: &ModelCard,
    said: &Said,
    answer: &ModelAnswer,
    masks: &[FlatMask],
    boxes: &[(CitedBox, Option<[u32; 4]>)],
) -> Value {
    let mask = |(mask, drawn): (&FlatMask, &Segmentation)| {
        json!({
            "size": [mask.height, mask.width], "counts": mask.to_text(), "iou": drawn.iou,
        })
    };
    let cited = |(cited, corners): &(CitedBox, Option<[u32; 4]>)| json!({"label": cited.label, "cited": cited.corners, "on_picture": corners});
    json!({
        "model": card.name,
        "digest": card.digest,
        "warning": card.warning(),
        "text": said.text,
        "think": answer.think,
        "answer": answer.answer,
        "flaws": answer.flaws.iter().map(|it| format!("{it:?}")).collect::<Vec<_>>(),
        "is_cut": said.ending != Ending::Said,
        "boxes": boxes.iter().map(cited).collect::<Vec<_>>(),
        "masks": masks.iter().zip(&said.drawn).map(mask).collect::<Vec<_>>(),
    })
}
