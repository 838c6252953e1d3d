//! Outlines by the shared model, slice by slice in the order of the patient (PAP-05).

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use domain::{
    Algorithm, InferAnswer, InferRequest, Priority, Role, Sampling, Utterance, VolumeGeometry,
};
use imaging::window::Window;
use imaging::{FlatMask, Mask, Picture};
use plugin_api::{Context, NodeError, VolumeRef};

use crate::target::Target;

/// How the release is asked.
pub(crate) const PROMPT: &str = "Please help segment the {target} in this scan.";

/// Most tokens of an answer: it names what it drew.
const TOKENS_MAX: usize = 512;

/// What the model is told and shown.
pub(crate) struct View<'a> {
    pub(crate) prompt: &'a str,
    /// Tokens at most, if not as many as usual.
    pub(crate) tokens_max: Option<usize>,
}

/// What the model was asked about a target, and which it was.
pub(crate) struct Asked {
    target: Target,
    prompt: String,
    window: Option<Window>,
    by: Option<By>,
}

/// Which model answered.
#[derive(Clone, PartialEq, Eq)]
struct By {
    model: String,
    digest: String,
    is_eight_bit: bool,
    warning: Option<String>,
}

impl By {
    fn of(answer: InferAnswer) -> Self {
        let InferAnswer { model, digest, is_eight_bit, warning, .. } = answer;
        Self { model, digest, is_eight_bit, warning }
    }
}

impl Asked {
    /// Takes in who answered: one volume is not outlined by two models.
    fn by(&mut self, by: By) -> Result<(), NodeError> {
        if self.by.as_ref().is_some_and(|it| *it != by) {
            let reason = "the model was exchanged for another in the middle of a volume";
            return Err(NodeError::Unavailable(reason.to_owned()));
        }
        self.by = Some(by);
        Ok(())
    }

    /// Whether both were answered by one model.
    pub(crate) fn is_by_the_same(&self, other: &Self) -> bool {
        self.by == other.by
    }

    /// What has to be said with what was outlined.
    pub(crate) fn whose(&self) -> String {
        let Some(by) = &self.by else { return String::new() };
        let warning = by.warning.as_ref().map(|it| format!(", {it}")).unwrap_or_default();
        format!("Outlined by model {}{warning}.", by.model)
    }
}

/// Whether an answer is whole, and has a mask for every `[SEG]` in it and in the question.
fn check(answer: &InferAnswer, prompt: &str) -> Result<(), NodeError> {
    if answer.is_cut {
        let reason = format!("an answer is cut off after {} tokens", answer.tokens[1]);
        return Err(NodeError::rejected("answer_cut", reason));
    }
    let count = |text: &str| text.matches("[SEG]").count();
    let (said, drawn) = (count(prompt) + count(&answer.text), answer.masks.len());
    if said != drawn || answer.flaws.iter().any(|it| it == "NoMasksSaid") {
        let reason = format!("question and answer have {said} [SEG], and {drawn} masks were drawn");
        return Err(NodeError::rejected("masks_missing", reason));
    }
    Ok(())
}

/// What the model is shown: slice by slice of a volume, or one image.
pub(crate) enum Pages<'a> {
    /// Slices, through a window.
    Slices(&'a VolumeRef<'a>, Window),
    /// A picture as PNG.
    Image(Vec<u8>),
}

impl Pages<'_> {
    const fn window(&self) -> Option<Window> {
        match self {
            Self::Slices(_, window) => Some(*window),
            Self::Image(_) => None,
        }
    }

    fn page(&self, geometry: &VolumeGeometry, index: usize) -> Result<Cow<'_, [u8]>, String> {
        match self {
            Self::Image(png) => Ok(Cow::Borrowed(png)),
            Self::Slices(volume, window) => {
                let values = volume.values.chunks(geometry.pixels().max(1)).nth(index);
                shown(geometry, values.unwrap_or_default(), *window).map(Cow::Owned)
            }
        }
    }
}

/// Asks about each page. `done` hears which share of them was asked.
pub(crate) fn drawn(
    context: &Context<'_>,
    target: Target,
    view: &View<'_>,
    (geometry, pages): (&VolumeGeometry, &Pages<'_>),
    done: &dyn Fn(f64),
) -> Result<(Mask, Asked), NodeError> {
    let prompt = view.prompt.replace("{target}", target.name());
    let mut asked = Asked { target, prompt, window: pages.window(), by: None };
    let mut slices = Vec::new();
    for index in 0..geometry.slices() {
        if context.is_cancelled() {
            return Err(NodeError::Unavailable("the run was cancelled".to_owned()));
        }
        let picture = pages.page(geometry, index);
        let picture = picture.map_err(|it| NodeError::rejected("slice_unusable", it))?;
        let question = question(&asked.prompt, &picture, view.tokens_max);
        let answer = context.ask(&question).map_err(|it| it.into_node_error("model_refused"))?;
        check(&answer, &asked.prompt)?;
        slices.push(united(&answer, geometry).map_err(NodeError::Unavailable)?);
        asked.by(By::of(answer))?;
        done(slices.len() as f64 / geometry.slices().max(1) as f64);
    }
    let mask = Mask::of_slices(geometry, &slices).ok_or_else(|| {
        NodeError::Unavailable("the volume has not as many slices as it says".to_owned())
    })?;
    Ok((mask, asked))
}

fn question(prompt: &str, picture: &[u8], tokens_max: Option<usize>) -> InferRequest {
    InferRequest {
        priority: Priority::Routine,
        deadline_ms: None,
        messages: vec![Utterance { role: Role::User, text: prompt.to_owned(), pictures: 1 }],
        pictures: vec![BASE64_STANDARD.encode(picture)],
        mask_pictures: Vec::new(),
        pixels: None,
        sampling: Sampling { tokens_max: tokens_max.unwrap_or(TOKENS_MAX), ..Sampling::default() },
    }
}

/// A slice as a picture, from black to white over the window.
fn shown(geometry: &VolumeGeometry, values: &[f32], window: Window) -> Result<Vec<u8>, String> {
    let rgb = values.iter().flat_map(|it| [window.gray(*it); 3]).collect();
    let picture = Picture::new(geometry.columns, geometry.rows, rgb);
    picture.and_then(|it| it.to_png()).map_err(|it| it.to_string())
}

/// All that was drawn into a slice.
fn united(answer: &InferAnswer, geometry: &VolumeGeometry) -> Result<FlatMask, String> {
    let (rows, columns) = (geometry.rows, geometry.columns);
    let mut all =
        FlatMask { height: rows, width: columns, pixels: vec![false; (rows * columns) as usize] };
    for mask in &answer.masks {
        if mask.size != [rows, columns] {
            return Err(format!("a mask of {:?} for a slice of {rows} x {columns}", mask.size));
        }
        let one = FlatMask::parse(rows, columns, &mask.counts).map_err(|it| it.to_string())?;
        for (place, is_in) in all.pixels.iter_mut().zip(one.pixels) {
            *place |= is_in;
        }
    }
    Ok(all)
}

/// What outlined them.
pub(crate) fn algorithm(all: &[Asked], version: &str) -> Algorithm {
    let mut parameters = BTreeMap::new();
    for it in all {
        let name = it.target.name();
        parameters.insert(format!("{name} prompt"), it.prompt.clone());
        if let Some(Window { center, width }) = it.window {
            parameters.insert(format!("{name} window"), format!("{width} wide about {center}"));
        }
        let Some(by) = &it.by else { continue };
        let numbers = if by.is_eight_bit { "eight bits" } else { "as they are" };
        parameters.insert("model".to_owned(), by.model.clone());
        parameters.insert("model_sha256".to_owned(), by.digest.clone());
        parameters.insert("model_weights".to_owned(), numbers.to_owned());
        if let Some(warning) = &by.warning {
            parameters.insert("warning".to_owned(), warning.clone());
        }
    }
    let name = "Isocenter network segmentation".to_owned();
    Algorithm { name, version: version.to_owned(), parameters }
}

#[cfg(test)]
mod tests {
    use domain::{AnswerMask, Runs};

    use super::*;

    #[test]
    fn all_masks_of_a_slice_are_one_and_none_of_another_size_is_taken() {
        let geometry: VolumeGeometry = serde_json::from_value(serde_json::json!({
            "rows": 2, "columns": 3, "instances": ["1.2.3"],
            "sop_class": "1.2.840.10008.5.1.4.1.1.1", "lossy": false,
        }))
        .unwrap();
        let mask = |pixels: [u8; 6], height: u32, width: u32| {
            let pixels = pixels.map(|it| it == 1).to_vec();
            let counts = FlatMask { height, width, pixels }.to_text();
            let drawn = Runs { size: [1, 1], counts: String::new() };
            AnswerMask { picture: 0, size: [height, width], counts, drawn, iou: None }
        };
        let answer = |masks: Vec<AnswerMask>| -> InferAnswer {
            let mut answer: InferAnswer = serde_json::from_value(serde_json::json!({
                "text": "", "think": null, "answer": "", "flaws": [], "is_cut": false, "boxes": [],
                "masks": [], "tokens": [0, 0], "milliseconds": 0,
            }))
            .unwrap();
            answer.masks = masks;
            answer
        };
        let both = answer(vec![mask([1, 0, 0, 0, 0, 1], 2, 3), mask([0, 1, 0, 0, 0, 1], 2, 3)]);
        let found = united(&both, &geometry).unwrap();
        assert_eq!(found.pixels, [true, true, false, false, false, true]);
        assert!(united(&answer(Vec::new()), &geometry).unwrap().pixels.iter().all(|it| !it));
        let turned = answer(vec![mask([1, 0, 0, 0, 0, 1], 3, 2)]);
        assert!(united(&turned, &geometry).unwrap_err().contains("[3, 2]"));
    }
}
