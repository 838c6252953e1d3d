//! Drafts reports and answers by the shared model, of images or of texts.
//!
//! ```yaml
//! draft: { plugin: cot-reporting, with: { task: report } }
//! tube: { plugin: cot-reporting, with: { task: vqa, question: 'Is there a tube?', answer: true-false } }
//! heart: { plugin: cot-reporting, with: { task: detect, target: heart } }
//! ```
//!
//! | task | question for the model | output |
//! |---|---|---|
//! | `report` (PAP-02) | a report, step by step | findings and impression |
//! | `detect` (PAP-07) | where `target` is | a box for each place, with its own label |
//! | `vqa` (PAP-08) | `question` about images | an answer of the kind `answer`: `short`, `open`, `true-false`, or `choice` of `options` |
//! | `text-qa` (PAP-09) | `question` about texts: a message, reports, texts of earlier nodes | the same, with the number of texts it is from |
//! | `compare` (PAP-15) | none | the differences between the draft of earlier nodes and the signed report: `possible` for each, `absent` if there is none, `unknown` if nothing could be compared |
//!
//! Images are the first `pictures` (default 1) of `modalities` (default CR and DX): PA before AP
//! before lateral views, series by their number, slices along their normal, then by the numbers of
//! acquisition and image; localizers last. With `middle: true` they are those about the middle of
//! the largest stack, for key images of it. The comment of the result names the pictures, and why
//! they were chosen.
//!
//! They are rendered as their file states, in its first window or table. `windows: all` makes a
//! picture of each; `windows: [lung, soft-tissue, { center: 40, width: 80 }]` makes one of a CT in
//! each of these (also `bone`, `brain`), and leaves other images as they are. Boxes refer to the
//! first picture.
//!
//! There is a prompt for each task in English and in Chinese (`language: zh`); that of a report
//! names what is shown. The comment of a result and each region name the version of the prompt,
//! which changes with its text.
//!
//! `prompt` is a Tera template that replaces the template of the task, with the variables
//! `order.procedure`, `order.reason`, `findings` of earlier nodes, `earlier` reports with `date` and
//! `text`, `question`, `options`, `target`, `texts`, `examination`, `patient.age` and `patient.sex`,
//! and for each picture `pictures` with `modality`, `view`, `laterality`, `body_part` and `window`.
//! `tokens_max` is the upper bound of an answer.
//!
//! The thoughts of the model are never part of the text: they are stored beside it, step by step,
//! each with the boxes that it cites, as `reasoning` of the output (OUT-41). Review shows them; a
//! delivery with `reasoning: true` has them as an annex. Of a step, 4000 characters are stored, and
//! 500 steps; what is left out is counted.
//!
//! An answer that cannot be parsed, was truncated, or is twice of another kind than asked for, is
//! rejected: a person has to look, and nothing of it is sent. Contradictions are flagged under
//! "Comment": of the text with findings and measurements of earlier nodes, and of a label with the
//! side of its box. The rules know findings of chest, abdomen and head in English and Chinese (the
//! crate `claims`), and make no claim about others. A site adds its own, or words for known ones:
//!
//! ```yaml
//! concepts:
//!   - { name: situs inversus, en: [situs inversus], zh: [内脏反位], code: { value: '1', scheme: 99SITE, meaning: Situs inversus } }
//!   - { name: pneumothorax, en: [pneumo] }
//! ```
//!
//! With `coded_findings: true`, `report` also gives each finding that its text claims of the patient
//! now as a finding with code, presence and side.

mod coded;
mod draft;
mod images;
mod prompt;
mod reasoning;
mod rejection;

use claims::{ConceptEntry, Vocabulary};
use domain::{Code, Finding, InferResponse, NodeInput, NodeOutput, Presence, Section};
use imaging::rendering::Views;
use imaging::window::{NamedWindow, Window};
use plugin_api::{Context, NodeError, Plugin, export_plugin};
use plugin_toolkit::answer::check_boxes;
use plugin_toolkit::kind::{AnswerKind, ask_of_kind};
use plugin_toolkit::question::Question;
use plugin_toolkit::text::QUOTE_CHARS_MAX;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::coded::coded_findings;
use crate::draft::{
    agreement, algorithm, comment, discrepancies, findings_section, flags, regions, report_sections,
};
use crate::images::ShownImages;
pub use crate::prompt::Language;
use crate::prompt::{CutText, PromptVariables, template, written_text};
use crate::reasoning::reasoning;
use crate::rejection::Reason;

/// The plugin.
pub struct Draft;

/// The settings of a node, under `with:` of a workflow.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The task.
    pub task: Task,
    /// The question of `vqa` and `text-qa`.
    #[serde(default)]
    pub question: Option<String>,
    /// The structure that `detect` locates.
    #[serde(default)]
    pub target: Option<String>,
    /// The kind of answer to `question`.
    #[serde(default)]
    pub answer: AnswerKind,
    /// The options of an answer of the kind `choice`.
    #[serde(default)]
    pub options: Vec<String>,
    /// The language of the prompt.
    #[serde(default)]
    pub language: Language,
    /// A template that replaces the prompt of the task.
    #[serde(default)]
    pub prompt: Option<String>,
    /// Values of Modality (0008,0060) of the series whose images are shown.
    #[serde(default = "radiographs")]
    pub modalities: Vec<String>,
    /// Upper bound of the number of images.
    #[serde(default = "one")]
    pub pictures: usize,
    /// Whether the images about the middle are shown instead of the first.
    #[serde(default, rename = "middle")]
    pub is_middle: bool,
    /// The pictures that are made of an image of grey values.
    #[serde(default)]
    pub windows: Windows,
    /// Upper bound of an answer, in tokens, if not the default of the model.
    #[serde(default)]
    pub tokens_max: Option<usize>,
    /// The findings that are recognised in texts: under this key, those that the site adds.
    #[serde(default = "standard_vocabulary", deserialize_with = "vocabulary")]
    pub concepts: Vocabulary,
    /// Whether a report also gives the findings that its text claims, with their codes.
    #[serde(default, rename = "coded_findings")]
    pub has_coded_findings: bool,
}

fn standard_vocabulary() -> Vocabulary {
    Vocabulary::standard().clone()
}

/// The standard vocabulary with the findings that a site adds.
fn vocabulary<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vocabulary, D::Error> {
    let own = Vec::<ConceptEntry>::deserialize(deserializer)?;
    Vocabulary::standard().extended(&own).map_err(D::Error::custom)
}

/// The pictures that are made of an image of grey values.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Windows {
    /// By the windows of its file.
    OfFile(FileWindows),
    /// By these windows, if it is a CT.
    Listed(Vec<ListedWindow>),
}

/// Which windows of a file are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileWindows {
    /// The first.
    First,
    /// A picture in each.
    All,
}

/// A window of a workflow.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum ListedWindow {
    /// By its name.
    Named(NamedWindow),
    /// By centre and width.
    Given(Window),
}

impl Default for Windows {
    fn default() -> Self {
        Self::OfFile(FileWindows::First)
    }
}

impl Windows {
    /// As images are rendered.
    fn views(&self) -> Views {
        let window = |it: &ListedWindow| match it {
            ListedWindow::Named(named) => named.window(),
            ListedWindow::Given(window) => *window,
        };
        match self {
            Self::OfFile(FileWindows::First) => Views::First,
            Self::OfFile(FileWindows::All) => Views::All,
            Self::Listed(windows) => Views::Windows(windows.iter().map(window).collect()),
        }
    }
}

/// The task of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Task {
    /// A report of images.
    Report,
    /// Boxes of a structure.
    Detect,
    /// An answer to a question about images.
    Vqa,
    /// An answer to a question about texts.
    TextQa,
    /// The differences between a draft and a signed report.
    Compare,
}

impl Task {
    const fn name(self) -> &'static str {
        match self {
            Self::Report => "report",
            Self::Detect => "detect",
            Self::Vqa => "vqa",
            Self::TextQa => "text-qa",
            Self::Compare => "compare",
        }
    }
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
        match settings.task {
            Task::Report => report(context, settings, &input),
            Task::Detect => detect(context, settings, &input),
            Task::Vqa | Task::TextQa => answer_question(context, settings, &input),
            Task::Compare => compare(settings, &input),
        }
    }
}

/// A report of images.
fn report(
    context: &Context<'_>,
    settings: &Settings,
    input: &NodeInput,
) -> Result<NodeOutput, NodeError> {
    let shown = shown_images(context, settings, input)?;
    let variables = PromptVariables::of(input, &shown.images, settings.language);
    let cut = variables.cut(settings.task, settings.prompt.as_deref());
    let prompt = prompt(settings, variables)?;
    let answer = question(settings, &prompt.text, &shown).ask_parsed(context)?;
    let sections = report_sections(&answer.answer);
    let output = NodeOutput { sections, ..NodeOutput::default() };
    let text = written_text(&output);
    let mut output =
        with_regions_and_comment(output, &answer, &prompt, &shown, settings, input, &cut);
    if settings.has_coded_findings {
        output.findings = coded_findings(&settings.concepts.claims(&text));
    }
    Ok(output)
}

/// The boxes of a structure. If there is none, the model did not find it, which says nothing about
/// what is there (PAP-06). A box that does not lie on the image makes the answer unusable.
fn detect(
    context: &Context<'_>,
    settings: &Settings,
    input: &NodeInput,
) -> Result<NodeOutput, NodeError> {
    let shown = shown_images(context, settings, input)?;
    let variables = PromptVariables::of(input, &shown.images, settings.language);
    let cut = variables.cut(settings.task, settings.prompt.as_deref());
    let prompt = prompt(settings, variables)?;
    let answer = question(settings, &prompt.text, &shown).ask_parsed(context)?;
    let found = regions(&answer, &shown.images, Draft::VERSION, &prompt.version).len();
    check_boxes(&answer, found)?;
    let target = settings.target.clone().unwrap_or_default();
    let finding = Finding {
        code: Code::new("located", "99ISOCENTER", "Located structure"),
        site: None,
        laterality: None,
        presence: if found == 0 { Presence::Unknown } else { Presence::Possible },
        change: None,
        text: if found == 0 {
            format!("{target}: not located by the network. There may be one.")
        } else {
            format!("{target}: located at {found} places.")
        },
    };
    let output = NodeOutput { findings: vec![finding], ..NodeOutput::default() };
    Ok(with_regions_and_comment(output, &answer, &prompt, &shown, settings, input, &cut))
}

/// An answer to a question about images or texts.
fn answer_question(
    context: &Context<'_>,
    settings: &Settings,
    input: &NodeInput,
) -> Result<NodeOutput, NodeError> {
    let shown = shown_images(context, settings, input)?;
    let variables = PromptVariables::of(input, &shown.images, settings.language);
    let text_count = variables.text_count();
    let cut = variables.cut(settings.task, settings.prompt.as_deref());
    let prompt = prompt(settings, variables)?;
    let question = question(settings, &prompt.text, &shown);
    let given = ask_of_kind(context, &question, settings.answer, &settings.options)?;
    let sources = if settings.task == Task::TextQa {
        format!("\n(Texts it is from: {text_count}.)")
    } else {
        String::new()
    };
    let asked = settings.question.clone().unwrap_or_default();
    let section = findings_section(format!("{asked}\n{}{sources}", given.text));
    let output = NodeOutput { sections: vec![section], ..NodeOutput::default() };
    Ok(with_regions_and_comment(output, &given.answer, &prompt, &shown, settings, input, &cut))
}

/// The differences between the draft of earlier nodes and the report that a person has signed for
/// this study.
fn compare(settings: &Settings, input: &NodeInput) -> Result<NodeOutput, NodeError> {
    let drafts: Vec<String> = input.earlier.values().map(written_text).collect();
    let draft = drafts.join("\n");
    let Some(signed) = input.reports.iter().find(|it| it.is_of_study) else {
        // A report may come: the workflow sets how often the node is tried again.
        let reason = "nobody has reported this study yet: there is nothing to compare with";
        return Err(NodeError::Unavailable(reason.to_owned()));
    };
    if draft.trim().is_empty() {
        let reason = "no node before this one has written anything";
        return Err(NodeError::rejected(Reason::NoDraft, reason));
    }
    let title = Code::new("121106", "DCM", "Comment");
    let comparison = agreement(&draft, &signed.text, &settings.concepts);
    let known = settings.concepts.concept_count();
    let text = format!(
        "Compared by rules that know {known} findings; others were not compared. Both speak of: {}.",
        if comparison.compared.is_empty() {
            "none".to_owned()
        } else {
            comparison.compared.join(", ")
        }
    );
    Ok(NodeOutput {
        findings: discrepancies(&comparison),
        sections: vec![Section { title, text }],
        ..NodeOutput::default()
    })
}

/// The images that the model is shown; none for a question about texts.
fn shown_images(
    context: &Context<'_>,
    settings: &Settings,
    input: &NodeInput,
) -> Result<ShownImages, NodeError> {
    let shown = if settings.task == Task::TextQa {
        ShownImages::default()
    } else {
        let study = input.study.as_ref();
        let study =
            study.ok_or_else(|| NodeError::rejected(Reason::NoStudy, "there is no study"))?;
        ShownImages::of_study(context, settings, study)?
    };
    context.progress(0.1);
    Ok(shown)
}

/// A prompt as the model got it.
struct UsedPrompt {
    text: String,
    /// Version of its template.
    version: String,
}

/// The prompt of a task. Fails if the settings lack what the task needs.
fn prompt(settings: &Settings, mut variables: PromptVariables) -> Result<UsedPrompt, NodeError> {
    let is_question = matches!(settings.task, Task::Vqa | Task::TextQa);
    if is_question && settings.question.is_none() {
        let reason = "`task: vqa` and `task: text-qa` need a `question`";
        return Err(NodeError::rejected(Reason::NoQuestion, reason));
    }
    if settings.task == Task::Detect && settings.target.is_none() {
        let reason = "`task: detect` needs a `target`";
        return Err(NodeError::rejected(Reason::NoTarget, reason));
    }
    if settings.answer == AnswerKind::Choice && settings.options.is_empty() {
        let reason = "`answer: choice` needs `options`";
        return Err(NodeError::rejected(Reason::NoOptions, reason));
    }
    if settings.task == Task::TextQa && variables.text_count() == 0 {
        let reason = "there is no text to answer from";
        return Err(NodeError::rejected(Reason::NoText, reason));
    }
    variables.question = settings.question.clone().unwrap_or_default();
    variables.target = settings.target.clone().unwrap_or_default();
    if settings.answer == AnswerKind::Choice {
        variables.options.clone_from(&settings.options);
    }
    let unusable = |reason: String| NodeError::rejected(Reason::PromptUnusable, reason);
    let template = template(settings.task, settings.language, settings.prompt.as_deref());
    let name = settings.task.name();
    let template = template.ok_or_else(|| unusable(format!("there is no prompt for `{name}`")))?;
    let text = variables.render(&template).map_err(unusable)?;
    Ok(UsedPrompt { text, version: template.version() })
}

fn question<'a>(settings: &Settings, prompt: &'a str, shown: &'a ShownImages) -> Question<'a> {
    let question = Question::new(prompt, &shown.pictures);
    match settings.tokens_max {
        Some(tokens_max) => question.tokens_max(tokens_max),
        None => question,
    }
}

/// Completes an output with the boxes that the answer cites, with the reasoning behind it, and with
/// what a reader has to know of it.
fn with_regions_and_comment(
    mut output: NodeOutput,
    answer: &InferResponse,
    prompt: &UsedPrompt,
    shown: &ShownImages,
    settings: &Settings,
    input: &NodeInput,
    cut: &[CutText],
) -> NodeOutput {
    output.regions = regions(answer, &shown.images, Draft::VERSION, &prompt.version);
    let algorithm = algorithm(answer, Draft::VERSION, &prompt.version);
    output.reasoning = reasoning(answer, &shown.images, algorithm).into_iter().collect();
    let text = written_text(&output);
    let mut flags = flags(&text, input, &output.regions, &settings.concepts);
    flags.extend(cut.iter().map(|it| {
        format!("the model has seen only the first {QUOTE_CHARS_MAX} characters of {it}")
    }));
    output.sections.push(comment(answer, &prompt.version, &flags, shown));
    output
}

export_plugin!(Draft);
