//! `isocenter why`: what happened, and what did not.

use std::process::ExitCode;

use store::{Why, WhyStudy};

use crate::args::Listing;
use crate::commands::ask::show_run;
use crate::open::Opened;
use crate::output::{Failure, json, line};

/// Exit code 1 if nothing is known.
pub(crate) async fn why(what: &str, listing: &Listing) -> Result<ExitCode, Failure> {
    let opened = Opened::open(&listing.place).await?;
    let why = opened.store.why(what).await;
    opened.close().await;
    let why = why.map_err(|error| Failure::from_error("the database does not answer", &error))?;
    let is_known = !(why.orders.is_empty()
        && why.links.is_empty()
        && why.messages.is_empty()
        && why.studies.is_empty()
        && why.refusals.is_empty());
    if listing.json {
        json(&why)?;
    } else if is_known {
        explain(&why);
    } else {
        line(format_args!(
            "nothing is known of `{what}`: no order, message, study, patient or instance has this name"
        ));
    }
    Ok(if is_known { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn explain(why: &Why) {
    for order in &why.orders {
        let part = |name: &str| order.get(name).and_then(|it| it.as_str()).unwrap_or("-");
        let cancelled = order.get("cancelled").and_then(serde_json::Value::as_bool);
        let state = if cancelled == Some(true) { "cancelled" } else { "placed" };
        let (accession, patient) = (part("accession"), part("patient"));
        let (procedure, placer) = (part("procedure"), part("placer"));
        line(format_args!(
            "order {placer}, accession {accession}, patient {patient}, {procedure}: {state}"
        ));
    }
    for it in &why.links {
        let with = it.get("with").and_then(|it| it.as_str()).unwrap_or("-");
        line(format_args!("belongs together with patient {with}; nothing is shared"));
    }
    for it in &why.messages {
        let problem = it.problem.as_deref().map(|it| format!(": {it}")).unwrap_or_default();
        let (kind, id, sender) = (&it.message_type, &it.control_id, &it.sender);
        line(format_args!(
            "message {kind} {id} from {sender} at {}: answered {}{problem}",
            it.received_at, it.code
        ));
    }
    for run in &why.message_runs {
        show_run(run, "");
    }
    for it in &why.refusals {
        let reason = it.body.pointer("/detail/reason").and_then(|it| it.as_str());
        line(format_args!("instance refused at {}: {}", it.at, reason.unwrap_or_default()));
    }
    for study in &why.studies {
        explain_study(study);
    }
}

fn explain_study(study: &WhyStudy) {
    let it = &study.study;
    let accession = if it.accession.is_empty() { "none" } else { &it.accession };
    line(format_args!(
        "study {}: {} instances ({}), patient {}, accession {accession}, last received {}",
        it.study,
        it.instances,
        it.modalities,
        it.patient.as_deref().unwrap_or("unknown"),
        it.last_received
    ));
    for (workflow, reason) in &study.told {
        line(format_args!("  workflow {workflow} did not run: {reason}"));
    }
    for run in &study.runs {
        show_run(run, "  ");
    }
    for task in &study.tasks {
        let state = task
            .decision
            .as_deref()
            .map_or_else(|| "waits for a person".to_owned(), |it| format!("decided: {it}"));
        line(format_args!("  {} since {}: {}; {state}", task.kind, task.opened_at, task.reason));
    }
    if study.told.is_empty() && study.runs.is_empty() {
        line("  no workflow has looked at it yet");
    }
}
