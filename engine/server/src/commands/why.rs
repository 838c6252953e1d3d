//! `isocenter why`: explains what happened, and what did not.

use std::process::ExitCode;

use clap::Args;
use serde_json::Value;
use store::{MessageLine, TaskLine, Why as Explanation, WhyStudy};

use super::Execute;
use super::run::show_run;
use crate::installation::ListArgs;
use crate::output::{Failure, exit_code, json, line};

/// Explains what happened to an accession number, study, patient, instance or message, and what did
/// not. The exit code is 1 if nothing is known.
#[derive(Args)]
pub(crate) struct Why {
    /// The accession number, UID, identifier or control id.
    what: String,
    #[command(flatten)]
    list: ListArgs,
}

impl Execute for Why {
    async fn execute(self) -> Result<ExitCode, Failure> {
        let ListArgs { installation, json: as_json, .. } = self.list;
        let why = installation.query(async |store| store.why(&self.what).await).await?;
        let is_known = is_known(&why);
        if as_json {
            json(&why)?;
        } else if is_known {
            show(&why);
        } else {
            line(format_args!(
                "nothing is known of `{}`: no order, message, study, patient or instance has this \
                 name",
                self.what
            ));
        }
        Ok(exit_code(is_known))
    }
}

fn is_known(why: &Explanation) -> bool {
    !(why.orders.is_empty()
        && why.links.is_empty()
        && why.messages.is_empty()
        && why.studies.is_empty()
        && why.refusals.is_empty())
}

fn show(why: &Explanation) {
    for order in &why.orders {
        line(order_line(order));
    }
    for link in &why.links {
        let patient = link.get("with").and_then(Value::as_str).unwrap_or("-");
        line(format_args!("linked to patient {patient}; nothing is shared"));
    }
    for message in &why.messages {
        let has_run = why.message_runs.iter().any(|it| it.run.message == Some(message.id));
        message_lines(message, has_run).iter().for_each(line);
    }
    why.message_tasks.iter().map(task_line).for_each(line);
    for run in &why.message_runs {
        show_run(run, "");
    }
    for refusal in &why.refusals {
        let reason = refusal.body.pointer("/detail/reason").and_then(Value::as_str);
        line(format_args!("instance refused at {}: {}", refusal.at, reason.unwrap_or_default()));
    }
    for study in &why.studies {
        show_study(study);
    }
}

fn message_lines(message: &MessageLine, has_run: bool) -> Vec<String> {
    let problem = message.problem.as_deref().map(|it| format!(": {it}")).unwrap_or_default();
    let later = message.superseded_by.map(|it| format!("; message {it} holds in its place"));
    let later = later.unwrap_or_default();
    let mut lines = vec![format!(
        "message {} {} from {} at {}: answered {}{problem}{later}",
        message.message_type, message.control_id, message.sender, message.received_at, message.code
    )];
    if !message.flags.is_empty() {
        lines.push(format!("  flagged: {}", message.flags.join(", ")));
    }
    if !has_run && message.problem.is_none() {
        let text = if message.decided { "no workflow started on it" } else { "not decided on yet" };
        lines.push(format!("  {text}"));
    }
    lines
}

fn order_line(order: &Value) -> String {
    let part = |name: &str| order.get(name).and_then(Value::as_str).unwrap_or("-");
    let is_cancelled = order.get("cancelled").and_then(Value::as_bool) == Some(true);
    format!(
        "order {}, accession {}, patient {}, {}: {}",
        part("placer"),
        accession_text(part("accession"), order),
        part("patient"),
        part("procedure"),
        if is_cancelled { "cancelled" } else { "placed" }
    )
}

/// An accession number, and what images carry of it where that is not the same (HL7-41).
fn accession_text(accession: &str, order: &Value) -> String {
    let in_images = order.get("accession_in_images").and_then(Value::as_str).unwrap_or_default();
    if !in_images.is_empty() {
        return format!("{accession} ({in_images} in images)");
    }
    if accession.chars().count() > domain::ACCESSION_MAX {
        return format!("{accession} (too long for images)");
    }
    accession.to_owned()
}

fn task_line(task: &TaskLine) -> String {
    let state = match &task.decision {
        None => "waits for a person".to_owned(),
        Some(decision) => format!("decided: {decision}"),
    };
    format!("  {} since {}: {}; {state}", task.kind, task.opened_at, task.reason)
}

fn show_study(study: &WhyStudy) {
    let row = &study.study;
    line(format_args!(
        "study {}: {} instances ({}), patient {}, accession {}, last received {}",
        row.study,
        row.instances,
        row.modalities,
        row.patient.as_deref().unwrap_or("unknown"),
        if row.accession.is_empty() { "none" } else { &row.accession },
        row.last_received
    ));
    for (workflow, standing) in &study.standings {
        line(format_args!("  workflow {workflow} did not run: {}", standing.reason));
    }
    for run in &study.runs {
        show_run(run, "  ");
    }
    study.tasks.iter().map(task_line).for_each(line);
    if study.standings.is_empty() && study.runs.is_empty() {
        line("  no workflow has looked at it yet");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn hl7_10_a_message_that_starts_nothing_says_so() {
        let mut message = MessageLine {
            id: uuid::Uuid::nil(),
            received_at: "2026-01-15T08:00:00Z".to_owned(),
            sender: "LIS".to_owned(),
            message_type: "ORU^R01".to_owned(),
            control_id: "7".to_owned(),
            sha256: String::new(),
            code: "AA".to_owned(),
            problem: None,
            flags: vec!["without_effect".to_owned()],
            decided: true,
            superseded_by: None,
        };
        let first = "message ORU^R01 7 from LIS at 2026-01-15T08:00:00Z: answered AA";
        let lines = message_lines(&message, false);
        assert_eq!(lines, [first, "  flagged: without_effect", "  no workflow started on it"]);
        message.flags.clear();
        assert_eq!(message_lines(&message, true), [first]);
        message.decided = false;
        assert_eq!(message_lines(&message, false), [first, "  not decided on yet"]);
    }

    #[test]
    fn an_order_is_one_line_with_dashes_for_what_is_unknown() {
        let order = json!({"placer": "P1", "accession": "A1", "cancelled": true});
        assert_eq!(order_line(&order), "order P1, accession A1, patient -, -: cancelled");
        assert!(order_line(&json!({"procedure": "CT"})).ends_with("patient -, CT: placed"));
    }

    #[test]
    fn hl7_41_an_order_says_what_images_carry_of_a_long_accession_number() {
        let long = "RIS-2026-0000012345";
        let carried = json!({"accession": long, "accession_in_images": "RIS-2026-0000012"});
        assert!(order_line(&carried).contains(&format!("{long} (RIS-2026-0000012 in images)")));
        let unknown = json!({"accession": long, "accession_in_images": ""});
        assert!(order_line(&unknown).contains(&format!("{long} (too long for images)")));
    }
}
