//! Has the shared model look at images and drafts a report, or an answer to a question.
//!
//! ```yaml
//! draft: { plugin: cot-reporting, with: { task: report } }
//! tube: { plugin: cot-reporting, with: { task: vqa, question: 'Is there a tube?', answer: true-false } }
//! ```
//!
//! `task: report` (PAP-02) asks for a report with its steps of thought. The thoughts stay out of it (OUT-41);
//! the answer becomes findings and impression. `task: vqa` (PAP-08) asks one `question`; `answer` says of
//! which kind the answer has to be: `short`, `open`, `true-false`, or `choice` among `options`. One that is
//! none of these is asked for once more, and then rejected.
//!
//! Both look at the first `pictures` images (1, if not said) of `modalities` (CR and DX, if not said), in the
//! order of their UIDs, as the file says they are to be shown. `prompt` is what is asked instead of the usual;
//! `{findings}` in it stands for what the nodes before found. `tokens_max` is how long an answer may be.
//!
//! An answer that cannot be taken apart, or was cut off, is rejected: a person has to look, and nothing of
//! it is sent. Regions that the answer cites are listed under "Comment", with the model that said so.

mod answer;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use domain::{
    Code, InferAnswer, InferRequest, NodeInput, NodeOutput, Priority, Role, Sampling, Section,
    SopInstanceUid, StudyInput, Utterance,
};
use encoding::report_text::ReportText;
use imaging::display::shown;
use plugin_api::{Context, HostError, Level, NodeError, Plugin, export_plugin};
use serde::Deserialize;

use crate::answer::{Kind, answered, cleaned};

/// How the release is asked for a report.
const REPORT: &str =
    "Evaluate the provided chest radiograph and compile a report. Let's think step by step.";

/// What is not as it should be with an answer, and can be lived with: all of it is the answer then.
const HARMLESS: [&str; 2] = ["Unmarked", "NoMasksSaid"];

/// Drafts reports.
pub struct Draft;

/// What a workflow sets under `with:`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// What is to be done.
    pub task: Task,
    /// The question of a `vqa`.
    #[serde(default)]
    pub question: Option<String>,
    /// What kind of answer it has to have.
    #[serde(default)]
    pub answer: Kind,
    /// What a `choice` is among.
    #[serde(default)]
    pub options: Vec<String>,
    /// What is asked instead of the usual.
    #[serde(default)]
    pub prompt: Option<String>,
    /// Of which equipment images are looked at.
    #[serde(default = "radiographs")]
    pub modalities: Vec<String>,
    /// How many of them.
    #[serde(default = "one")]
    pub pictures: usize,
    /// Most tokens of an answer.
    #[serde(default)]
    pub tokens_max: Option<usize>,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// A report.
    Report,
    /// An answer to a question.
    Vqa,
}

fn radiographs() -> Vec<String> {
    ["CR", "DX"].map(str::to_owned).to_vec()
}

const fn one() -> usize {
    1
}

impl Plugin for Draft {
    const NAME: &'static str = "cot-reporting";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    type Settings = Settings;

    fn process(
        context: &Context<'_>,
        settings: &Settings,
        input: NodeInput,
    ) -> Result<NodeOutput, NodeError> {
        let study = input.study.as_ref();
        let study = study.ok_or_else(|| NodeError::rejected("no_study", "there is no study"))?;
        let instances = chosen(settings, study)?;
        let mut pictures = Vec::new();
        for instance in &instances {
            pictures.push(picture(context, instance)?);
        }
        context.progress(0.1);
        let prompt = prompt(settings, &input)?;
        let question = question(&prompt, pictures, settings.tokens_max);
        let (mut sections, said) = match settings.task {
            Task::Report => {
                let said = ask(context, &question)?;
                (report(&said.answer), said)
            }
            Task::Vqa => {
                let (answer, said) = answer_of_its_kind(context, settings, &question)?;
                (vec![findings(format!("{prompt}\n{answer}"))], said)
            }
        };
        sections.push(comment(&said, &instances));
        Ok(NodeOutput { sections, ..NodeOutput::default() })
    }
}

/// The images that are looked at.
fn chosen(settings: &Settings, study: &StudyInput) -> Result<Vec<SopInstanceUid>, NodeError> {
    let wanted = study.series.iter().filter(|it| settings.modalities.contains(&it.modality));
    let mut all: Vec<SopInstanceUid> =
        wanted.flat_map(|it| it.instances.iter().map(|it| it.instance.clone())).collect();
    all.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    all.truncate(settings.pictures);
    if all.is_empty() {
        let reason = format!("the study has no image of {}", settings.modalities.join(", "));
        return Err(NodeError::rejected("no_image", reason));
    }
    Ok(all)
}

/// An image as PNG, in base 64.
fn picture(context: &Context<'_>, instance: &SopInstanceUid) -> Result<String, NodeError> {
    let unusable = |reason: String| {
        NodeError::rejected("image_unusable", format!("instance {instance}: {reason}"))
    };
    let file = context.read_instance(instance).map_err(|it| it.into_node_error("no_image"))?;
    let picture = shown(file).map_err(|it| unusable(it.to_string()))?;
    let png = picture.to_png().map_err(|it| unusable(it.to_string()))?;
    Ok(BASE64_STANDARD.encode(png))
}

/// What is asked, with what the nodes before found.
fn prompt(settings: &Settings, input: &NodeInput) -> Result<String, NodeError> {
    let usual = match settings.task {
        Task::Report => Some(REPORT),
        Task::Vqa => settings.question.as_deref(),
    };
    let text = settings
        .prompt
        .as_deref()
        .or(usual)
        .ok_or_else(|| NodeError::rejected("no_question", "`task: vqa` needs a `question`"))?;
    let found = input.earlier.values().flat_map(|it| &it.findings).map(|it| it.text.as_str());
    let mut text = text.replace("{findings}", &found.collect::<Vec<_>>().join("\n"));
    if settings.answer == Kind::Choice && settings.options.is_empty() {
        return Err(NodeError::rejected("no_options", "`answer: choice` needs `options`"));
    }
    if settings.answer == Kind::Choice {
        text = format!("{text}\nOptions: {}", settings.options.join("; "));
    }
    Ok(text)
}

fn question(prompt: &str, pictures: Vec<String>, tokens_max: Option<usize>) -> InferRequest {
    let usual = Sampling::default();
    InferRequest {
        priority: Priority::Routine,
        deadline_ms: None,
        messages: vec![Utterance {
            role: Role::User,
            text: prompt.to_owned(),
            pictures: pictures.len(),
        }],
        pictures,
        mask_pictures: Vec::new(),
        pixels: None,
        sampling: Sampling { tokens_max: tokens_max.unwrap_or(usual.tokens_max), ..usual },
    }
}

/// An answer that is whole and can be taken apart.
fn ask(context: &Context<'_>, question: &InferRequest) -> Result<InferAnswer, NodeError> {
    let said = context.ask(question).map_err(|error| match error {
        HostError::Rejected(reason) => NodeError::rejected("model_refused", reason),
        HostError::Unavailable(reason) => NodeError::Unavailable(reason),
    })?;
    if said.is_cut {
        let reason = format!("the answer is cut off after {} tokens", said.tokens[1]);
        return Err(NodeError::rejected("answer_cut", reason));
    }
    let flaws: Vec<&str> =
        said.flaws.iter().map(String::as_str).filter(|it| !HARMLESS.contains(it)).collect();
    if !flaws.is_empty() {
        let reason = format!("the answer cannot be taken apart: {}", flaws.join(", "));
        return Err(NodeError::rejected("answer_unreadable", reason));
    }
    Ok(said)
}

/// An answer of the kind that is wanted, with all that was said with it. One of another kind is asked for once
/// more, by chance another way.
fn answer_of_its_kind(
    context: &Context<'_>,
    settings: &Settings,
    question: &InferRequest,
) -> Result<(String, InferAnswer), NodeError> {
    let sampling = Sampling { temperature: 0.7, seed: 1, ..question.sampling.clone() };
    for question in [question.clone(), InferRequest { sampling, ..question.clone() }] {
        let said = ask(context, &question)?;
        if let Some(answer) = answered(settings.answer, &settings.options, &said.answer) {
            return Ok((answer, said));
        }
        context.log(Level::Warning, "the answer is of another kind than asked for");
    }
    let reason = "twice the answer was of another kind than asked for";
    Err(NodeError::rejected("answer_invalid", reason))
}

fn report(answer: &str) -> Vec<Section> {
    let ReportText { findings: seen, impression } = ReportText::parse(&cleaned(answer));
    let mut sections = vec![findings(seen)];
    if !impression.is_empty() {
        let title = Code::new("19005-8", "LN", "Impression");
        sections.push(Section { title, text: impression });
    }
    sections
}

fn findings(text: String) -> Section {
    Section { title: Code::new("59776-5", "LN", "Procedure Findings"), text }
}

/// Where the model looked, and which model it was.
fn comment(said: &InferAnswer, instances: &[SopInstanceUid]) -> Section {
    let mut lines = Vec::new();
    let first = instances.first().map(ToString::to_string).unwrap_or_default();
    for it in &said.boxes {
        let label = cleaned(if it.label.is_empty() { "region" } else { &it.label });
        lines.push(match it.on_picture {
            Some([left, top, right, bottom]) => format!(
                "{label}: columns {left} to {right}, rows {top} to {bottom} of image {first}"
            ),
            None => format!("{label}: cited at a place that cannot be found on the image"),
        });
    }
    if said.flaws.iter().any(|it| it == "Unmarked") {
        lines.push(
            "The model did not set thoughts and answer apart: both may stand here.".to_owned(),
        );
    }
    let digest = if said.digest.is_empty() { String::new() } else { format!(" {}", said.digest) };
    let warning = said.warning.as_ref().map(|it| format!(" ({it})")).unwrap_or_default();
    lines.push(format!("Drafted by model {}{digest}{warning}.", said.model));
    Section { title: Code::new("121106", "DCM", "Comment"), text: lines.join("\n") }
}

export_plugin!(Draft);
