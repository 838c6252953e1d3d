//! Has the shared model look at images or texts and drafts what it says.
//!
//! ```yaml
//! draft: { plugin: cot-reporting, with: { task: report } }
//! tube: { plugin: cot-reporting, with: { task: vqa, question: 'Is there a tube?', answer: true-false } }
//! heart: { plugin: cot-reporting, with: { task: detect, target: heart } }
//! ```
//!
//! | task | what is asked | what comes of it |
//! |---|---|---|
//! | `report` (PAP-02) | a report with steps of thought | findings and impression; the thoughts stay out of it (OUT-41) |
//! | `detect` (PAP-07) | where `target` is | a box for each place, with its own label |
//! | `vqa` (PAP-08) | `question` about images | an answer of the kind `answer`: `short`, `open`, `true-false`, or `choice` among `options` |
//! | `text-qa` (PAP-09) | `question` about texts: a message, reports, what nodes before wrote | the same, with how many texts it is from |
//! | `compare` (PAP-15) | nothing: nodes before have drafted | where draft and the report that somebody signed differ |
//!
//! Images are the first `pictures` (1, if not said) of `modalities` (CR and DX, if not said), in the order of
//! their UIDs; with `middle: true` those about the middle, for key images of a stack. They are shown as their
//! files say. `prompt` is a template that is asked instead of the usual (Tera): `order.procedure`,
//! `order.reason`, `findings` of nodes before, `earlier` reports with `date` and `text`, `question`,
//! `options`, `target`, `texts`. `tokens_max` is how long an answer may be.
//!
//! An answer that cannot be taken apart, was cut off, or is twice of another kind than asked for, is rejected: a
//! person has to look, and nothing of it is sent. What does not fit together is flagged under "Comment": text
//! against findings and measurements of nodes before, a side that is marked on the other. The rules know eleven
//! findings of the chest in English and Chinese (`claims.rs`), and say nothing of others.

mod answer;
mod ask;
mod claims;
mod draft;
mod prompt;

use domain::{InferAnswer, NodeInput, NodeOutput, Presence, Section, StudyInput};
use plugin_api::{Context, NodeError, Plugin, export_plugin};
use serde::Deserialize;

use crate::answer::Kind;
use crate::ask::{Seen, answer_of_its_kind, question, seen};
use crate::draft::{comment, discrepancies, findings, flags, regions, report};
use crate::prompt::{Asked, written};

/// Drafts reports.
pub struct Draft;

/// What a workflow sets under `with:`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// What is to be done.
    pub task: Task,
    /// The question of a `vqa` or `text-qa`.
    #[serde(default)]
    pub question: Option<String>,
    /// What a `detect` looks for.
    #[serde(default)]
    pub target: Option<String>,
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
    /// Whether they are those about the middle.
    #[serde(default, rename = "middle")]
    pub is_middle: bool,
    /// Most tokens of an answer.
    #[serde(default)]
    pub tokens_max: Option<usize>,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Task {
    /// A report.
    Report,
    /// Places of something.
    Detect,
    /// An answer to a question about images.
    Vqa,
    /// An answer to a question about texts.
    TextQa,
    /// Where a draft and a signed report differ.
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
        if settings.task == Task::Compare {
            return compared(&input);
        }
        let seen = match settings.task {
            Task::TextQa => Vec::new(),
            _ => seen(context, settings, study(&input)?)?,
        };
        context.progress(0.1);
        let mut asked = Asked::of(&input);
        let prompt = prompt(settings, &mut asked)?;
        let question = question(&prompt, &seen, settings.tokens_max);
        let (mut output, said) = match settings.task {
            Task::Report => {
                let said = context.ask_whole(&question)?;
                let sections = report(&said.answer);
                (NodeOutput { sections, ..NodeOutput::default() }, said)
            }
            Task::Detect => {
                let said = context.ask_whole(&question)?;
                (detected(settings, &said, &seen)?, said)
            }
            Task::Vqa | Task::TextQa | Task::Compare => {
                let (answer, said) = answer_of_its_kind(context, settings, &question)?;
                let from = match settings.task {
                    Task::TextQa => format!("\n(Texts it is from: {}.)", asked.texts()),
                    _ => String::new(),
                };
                let sections = vec![findings(format!("{}\n{answer}{from}", asked.question))];
                (NodeOutput { sections, ..NodeOutput::default() }, said)
            }
        };
        output.regions = regions(&said, &seen, Self::VERSION);
        let flags = flags(&written(&output), &input, &output.regions);
        output.sections.push(comment(&said, &flags));
        Ok(output)
    }
}

fn study(input: &NodeInput) -> Result<&StudyInput, NodeError> {
    input.study.as_ref().ok_or_else(|| NodeError::rejected("no_study", "there is no study"))
}

/// What is asked.
fn prompt(settings: &Settings, asked: &mut Asked) -> Result<String, NodeError> {
    let wrong = |code, reason: &str| Err(NodeError::rejected(code, reason));
    let is_question = matches!(settings.task, Task::Vqa | Task::TextQa);
    if is_question && settings.question.is_none() {
        return wrong("no_question", "`task: vqa` and `task: text-qa` need a `question`");
    }
    if settings.task == Task::Detect && settings.target.is_none() {
        return wrong("no_target", "`task: detect` needs a `target`");
    }
    if settings.answer == Kind::Choice && settings.options.is_empty() {
        return wrong("no_options", "`answer: choice` needs `options`");
    }
    if settings.task == Task::TextQa && asked.texts() == 0 {
        return wrong("no_text", "there is no text to answer from");
    }
    asked.question = settings.question.clone().unwrap_or_default();
    asked.target = settings.target.clone().unwrap_or_default();
    if settings.answer == Kind::Choice {
        asked.options.clone_from(&settings.options);
    }
    let filled = asked.fill(settings.task.name(), settings.prompt.as_deref());
    filled.map_err(|reason| NodeError::rejected("prompt_unusable", reason))
}

/// What a detector says in words: where it is, or that the model did not find it, which says nothing of what is
/// there (PAP-06). Boxes that lie nowhere on the image are no answer.
fn detected(
    settings: &Settings,
    said: &InferAnswer,
    seen: &[Seen],
) -> Result<NodeOutput, NodeError> {
    let target = settings.target.clone().unwrap_or_default();
    let found = regions(said, seen, Draft::VERSION).len();
    if found < said.boxes.len() {
        let lost = said.boxes.len() - found;
        let reason = format!("{lost} of {} boxes lie nowhere on the image", said.boxes.len());
        return Err(NodeError::rejected("boxes_misplaced", reason));
    }
    let (presence, text) = if found == 0 {
        (Presence::Unknown, format!("{target}: not located by the network. There may be one."))
    } else {
        (Presence::Possible, format!("{target}: located at {found} places."))
    };
    let code = domain::Code::new("located", "99ISOCENTER", "Located structure");
    let finding = domain::Finding { code, site: None, presence, text };
    Ok(NodeOutput { findings: vec![finding], ..NodeOutput::default() })
}

/// Where the draft of the nodes before and the report that somebody signed for this study differ.
fn compared(input: &NodeInput) -> Result<NodeOutput, NodeError> {
    let ours: Vec<String> = input.earlier.values().map(written).collect();
    let ours = ours.join("\n");
    let theirs = input.reports.iter().find(|it| it.is_of_study);
    let Some(theirs) = theirs else {
        // It may come: the workflow says how often to look again.
        let reason = "nobody has reported this study yet: there is nothing to compare with";
        return Err(NodeError::Unavailable(reason.to_owned()));
    };
    if ours.trim().is_empty() {
        return Err(NodeError::rejected(
            "no_draft",
            "no node before this one has written anything",
        ));
    }
    let text =
        "Compared by rules that know eleven findings of the chest; others were not compared.";
    let title = domain::Code::new("121106", "DCM", "Comment");
    Ok(NodeOutput {
        findings: discrepancies(&ours, &theirs.text),
        sections: vec![Section { title, text: text.to_owned() }],
        ..NodeOutput::default()
    })
}

export_plugin!(Draft);
