//! Asking the model, and taking only whole answers.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use domain::{
    InferAnswer, InferRequest, Priority, Role, Sampling, SeriesInstanceUid, SopClassUid,
    SopInstanceUid, StudyInput, Utterance,
};
use imaging::display::shown;
use plugin_api::{Context, Level, NodeError};

use crate::Settings;
use crate::answer::answered;

/// An image that is looked at.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) series: SeriesInstanceUid,
    pub(crate) instance: SopInstanceUid,
    pub(crate) sop_class: SopClassUid,
    /// Columns and rows.
    pub(crate) size: [u32; 2],
    /// As PNG in base 64.
    pub(crate) png: String,
}

/// The images that are looked at.
pub(crate) fn seen(
    context: &Context<'_>,
    settings: &Settings,
    study: &StudyInput,
) -> Result<Vec<Seen>, NodeError> {
    let wanted = study.series.iter().filter(|it| settings.modalities.contains(&it.modality));
    let mut all: Vec<_> =
        wanted.flat_map(|series| series.instances.iter().map(move |it| (series, it))).collect();
    all.sort_by(|a, b| a.1.instance.as_str().cmp(b.1.instance.as_str()));
    if settings.is_middle {
        // Of a stack, the slices about its middle.
        let before = all.len().saturating_sub(settings.pictures) / 2;
        all.drain(..before);
    }
    all.truncate(settings.pictures);
    if all.is_empty() {
        let reason = format!("the study has no image of {}", settings.modalities.join(", "));
        return Err(NodeError::rejected("no_image", reason));
    }
    let mut pictures = Vec::new();
    for (series, it) in all {
        let instance = &it.instance;
        let unusable = |reason: String| {
            NodeError::rejected("image_unusable", format!("instance {instance}: {reason}"))
        };
        let file = context.read_instance(instance).map_err(|it| it.into_node_error("no_image"))?;
        let picture = shown(file).map_err(|it| unusable(it.to_string()))?;
        let png = picture.to_png().map_err(|it| unusable(it.to_string()))?;
        pictures.push(Seen {
            series: series.series.clone(),
            instance: instance.clone(),
            sop_class: it.sop_class.clone(),
            size: [picture.width, picture.height],
            png: BASE64_STANDARD.encode(png),
        });
    }
    Ok(pictures)
}

pub(crate) fn question(prompt: &str, seen: &[Seen], tokens_max: Option<usize>) -> InferRequest {
    let usual = Sampling::default();
    InferRequest {
        priority: Priority::Routine,
        deadline_ms: None,
        messages: vec![Utterance {
            role: Role::User,
            text: prompt.to_owned(),
            pictures: seen.len(),
        }],
        pictures: seen.iter().map(|it| it.png.clone()).collect(),
        mask_pictures: Vec::new(),
        pixels: None,
        sampling: Sampling { tokens_max: tokens_max.unwrap_or(usual.tokens_max), ..usual },
    }
}

/// An answer of the kind that is wanted, with all that was said with it. One of another kind is asked for once
/// more, by chance another way.
pub(crate) fn answer_of_its_kind(
    context: &Context<'_>,
    settings: &Settings,
    question: &InferRequest,
) -> Result<(String, InferAnswer), NodeError> {
    let sampling = Sampling { temperature: 0.7, seed: 1, ..question.sampling.clone() };
    for question in [question.clone(), InferRequest { sampling, ..question.clone() }] {
        let said = context.ask_whole(&question)?;
        if let Some(answer) = answered(settings.answer, &settings.options, &said.answer) {
            return Ok((answer, said));
        }
        context.log(Level::Warning, "the answer is of another kind than asked for");
    }
    let reason = "twice the answer was of another kind than asked for";
    Err(NodeError::rejected("answer_invalid", reason))
}
