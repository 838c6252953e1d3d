//! The reasoning of the model as an annex of a report (OUT-41).

use domain::{Reasoning, ReasoningBox, ReasoningStep};

use crate::input::ReportInput;
use crate::layout::narrative::{Annex, NarrativeSection};

/// The heading of the annex.
pub(crate) const HEADING: &str = "Annex: reasoning of the model";

/// What every reader of a reasoning has to know.
pub(crate) const NOTICE: &str = "The steps by which a model came to its draft. They explain the \
    draft and are no findings. Nobody has verified them.";

/// The annex of a report; `None` if there is no reasoning, or the delivery does not ask for it.
pub(crate) fn annex(input: &ReportInput<'_>) -> Option<Annex> {
    let reasoning = &input.results.reasoning;
    if reasoning.is_empty() {
        return None;
    }
    Some(Annex {
        heading: HEADING.to_owned(),
        notice: NOTICE.to_owned(),
        banner: input.context.engine.language.label(),
        sections: reasoning.iter().map(section).collect(),
    })
}

fn section(reasoning: &Reasoning) -> NarrativeSection {
    let mut lines = Vec::new();
    for (position, step) in reasoning.steps.iter().enumerate() {
        let text = format!("Step {}: {}", position + 1, step_text(step));
        lines.extend(text.lines().map(str::to_owned));
        lines.extend(step.boxes.iter().map(place));
    }
    lines.extend(left_out(reasoning));
    NarrativeSection { heading: title(reasoning), lines, is_list: true }
}

/// The algorithm with its model, if it names one.
fn title(reasoning: &Reasoning) -> String {
    let algorithm = &reasoning.algorithm;
    let model = algorithm.parameters.get("model").filter(|it| !it.is_empty());
    let model = model.map(|it| format!(", model {it}")).unwrap_or_default();
    format!("{} {}{model}", algorithm.name, algorithm.version)
}

/// The text of a step, with a remark if its end was left out.
pub(crate) fn step_text(step: &ReasoningStep) -> String {
    match step.characters_left_out {
        0 => step.text.clone(),
        count => format!("{} [{count} more characters were left out]", step.text),
    }
}

/// A remark on the steps that were left out.
pub(crate) fn left_out(reasoning: &Reasoning) -> Option<String> {
    let count = reasoning.steps_left_out;
    (count > 0).then(|| format!("[{count} more steps were left out]"))
}

fn place(cited: &ReasoningBox) -> String {
    let ReasoningBox { label, instance, .. } = cited;
    let [left, top, right, bottom] = cited.corners;
    let frame = cited.frame.map(|it| format!("frame {it} of ")).unwrap_or_default();
    format!("{label}: columns {left} to {right}, rows {top} to {bottom} of {frame}image {instance}")
}
