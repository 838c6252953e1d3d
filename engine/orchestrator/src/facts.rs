//! What conditions can ask about a study or message, and what a run on it is known by. Pure.

use std::collections::BTreeSet;

use contracts::{MessageSnapshot, OrderSnapshot, SeriesSnapshot, StoredInstance, StudySnapshot};
use sha2::{Digest as _, Sha256};
use workflow::{Facts, MessageFacts, OrderFacts, SeriesFacts, SeriesItem, StudyFacts};

use crate::orchestrator::ActiveWorkflow;

/// Series that are derived from others: they neither start nor change a run. Nor does what this engine made.
const DERIVED: &[&str] = &["SEG", "SR", "PR", "KO"];

/// The modality of Encapsulated PDF.
const PAPER: &str = "DOC";

/// The instances a run works on.
pub(crate) fn inputs(series: &[SeriesSnapshot]) -> Vec<StoredInstance> {
    let original = originals(series).into_iter();
    let mut instances: Vec<_> = original.flat_map(|it| it.instances.clone()).collect();
    instances.sort();
    instances
}

pub(crate) fn content_key(instances: &[StoredInstance]) -> String {
    let mut hasher = Sha256::new();
    for it in instances {
        hasher.update(it.instance.as_str());
        hasher.update([0]);
        hasher.update(&it.sha256);
        hasher.update([0]);
    }
    hex::encode(hasher.finalize())
}

/// The workflow with its settings: its digest covers both.
pub(crate) fn definition_key(active: &ActiveWorkflow) -> String {
    let text = format!("{}\u{1f}{}", active.reference.name, active.reference.digest);
    hex::encode(Sha256::digest(text))
}

/// Same key, same run (DIN-53).
pub(crate) fn input_key(active: &ActiveWorkflow, instances: &[StoredInstance]) -> String {
    format!("{}:{}", definition_key(active), content_key(instances))
}

pub(crate) fn study_facts(study: &StudySnapshot) -> Facts {
    let each = |of: fn(&SeriesSnapshot) -> &String| {
        let all: BTreeSet<&String> =
            study.series.iter().map(of).filter(|it| !it.is_empty()).collect();
        all.into_iter().cloned().collect()
    };
    let count = |it: usize| i64::try_from(it).unwrap_or(i64::MAX);
    let facts = StudyFacts {
        modalities: each(|it| &it.modality),
        body_parts: each(|it| &it.body_part),
        description: study.description.clone(),
        series_descriptions: each(|it| &it.description),
        series: count(study.series.len()),
        instances: count(study.series.iter().map(|it| it.instances.len()).sum()),
    };
    let order = study.orders.iter().find(|it| !it.is_cancelled).map(order_facts);
    Facts { study: facts, order: order.unwrap_or_default(), ..Facts::default() }
}

fn order_facts(snapshot: &OrderSnapshot) -> OrderFacts {
    let order = &snapshot.order;
    let priority = match order.priority.as_str() {
        "S" | "STAT" => "STAT",
        "" | "R" | "ROUTINE" => "ROUTINE",
        other => other,
    };
    OrderFacts {
        exists: true,
        priority: priority.to_owned(),
        modality: order.modality.clone(),
        procedure_code: order.procedure_code.clone(),
        procedure: order.procedure.clone(),
    }
}

pub(crate) fn message_facts(message: &MessageSnapshot) -> Facts {
    let observations = &message.document.observations;
    let files: BTreeSet<&String> =
        message.document.attachments.iter().map(|it| &it.media_type).collect();
    let about = message.document.about.as_ref();
    let count = |it: usize| i64::try_from(it).unwrap_or(i64::MAX);
    let message = MessageFacts {
        files: count(message.document.attachments.len()),
        media_types: files.into_iter().cloned().collect(),
        document_kind: about.map(|it| it.kind.clone()).unwrap_or_default(),
        kind: message.message_type.to_string(),
        observations: count(observations.len()),
        codes: observations.iter().map(|it| it.code.clone()).collect(),
    };
    Facts { message, ..Facts::default() }
}

/// The series of a study, for nodes that are done for each of them.
pub(crate) fn series_items(series: &[SeriesSnapshot]) -> Vec<SeriesItem> {
    let item = |it: &SeriesSnapshot| SeriesItem {
        series: it.series.to_string(),
        instances: it.instances.iter().map(|it| it.instance.to_string()).collect(),
        facts: SeriesFacts {
            modality: it.modality.clone(),
            body_part: it.body_part.clone(),
            description: it.description.clone(),
            instances: i64::try_from(it.instances.len()).unwrap_or(i64::MAX),
        },
    };
    originals(series).into_iter().map(item).collect()
}

/// What a run is about: images; or, where a study has none, its papers. A report that somebody adds to images as
/// PDF is no reason to look at them again.
fn originals(series: &[SeriesSnapshot]) -> Vec<&SeriesSnapshot> {
    let is_original = |it: &&SeriesSnapshot| !it.is_own && !DERIVED.contains(&it.modality.as_str());
    let (papers, images): (Vec<_>, Vec<_>) =
        series.iter().filter(is_original).partition(|it| it.modality == PAPER);
    if images.is_empty() { papers } else { images }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(modality: &str, is_own: bool) -> SeriesSnapshot {
        SeriesSnapshot {
            series: "1.2.3".parse().unwrap(),
            modality: modality.to_owned(),
            is_own,
            body_part: String::new(),
            description: String::new(),
            instances: Vec::new(),
        }
    }

    #[test]
    fn a_run_is_about_images_or_else_about_papers_and_never_about_what_we_made() {
        let modalities = |all: &[SeriesSnapshot]| {
            originals(all).iter().map(|it| it.modality.clone()).collect::<Vec<_>>().join(" ")
        };
        let all = [series("CT", false), series("DOC", false), series("SEG", false)];
        assert_eq!(modalities(&all), "CT");
        assert_eq!(modalities(&all[1..]), "DOC");
        assert_eq!(modalities(&[series("DOC", true), series("OT", true)]), "");
    }
}
