//! What the conditions of workflows can ask about a study or message, and what identifies a run
//! on it. Pure.

use std::collections::BTreeSet;

use contracts::{MessageSnapshot, OrderSnapshot, SeriesSnapshot, StoredInstance, StudySnapshot};
use sha2::{Digest as _, Sha256};
use workflow::{Facts, MessageFacts, OrderFacts, SeriesFacts, SeriesItem, StudyFacts};

use crate::configuration::ActiveWorkflow;

/// Modalities of series that are derived from others. They neither start nor change a run; nor
/// does any series that this engine made.
const DERIVED: &[&str] = &["SEG", "SR", "PR", "KO"];

/// The modality of Encapsulated PDF.
const DOCUMENT: &str = "DOC";

/// The instances a run works on.
pub(crate) fn inputs(series: &[SeriesSnapshot]) -> Vec<StoredInstance> {
    let originals = originals(series).into_iter();
    let mut instances: Vec<_> = originals.flat_map(|it| it.instances.clone()).collect();
    instances.sort();
    instances
}

/// SHA-256 over the names and data sets of instances, in hex. Sorted instances with the same
/// content give the same digest.
pub(crate) fn content_digest(instances: &[StoredInstance]) -> String {
    let mut hasher = Sha256::new();
    for it in instances {
        hasher.update(it.instance.as_str());
        hasher.update([0]);
        hasher.update(&it.sha256);
        hasher.update([0]);
    }
    hex::encode(hasher.finalize())
}

/// SHA-256 over the name of a workflow and the digest of its text and settings, in hex.
pub(crate) fn definition_digest(active: &ActiveWorkflow) -> String {
    let text = format!("{}\u{1f}{}", active.reference.name, active.reference.digest);
    hex::encode(Sha256::digest(text))
}

/// What conditions can ask about a study and its order.
pub(crate) fn study_facts(study: &StudySnapshot) -> Facts {
    let series = &study.series;
    let facts = StudyFacts {
        modalities: distinct(series.iter().map(|it| &it.modality)),
        body_parts: distinct(series.iter().map(|it| &it.body_part)),
        description: study.description.clone(),
        series_descriptions: distinct(series.iter().map(|it| &it.description)),
        series: count(series.len()),
        instances: count(series.iter().map(|it| it.instances.len()).sum()),
    };
    let order = study.orders.iter().find(|it| !it.is_cancelled).map(order_facts);
    Facts { study: facts, order: order.unwrap_or_default(), ..Facts::default() }
}

/// Values without repetitions and without empty ones, in order of the alphabet.
fn distinct<'a>(values: impl Iterator<Item = &'a String>) -> Vec<String> {
    let all: BTreeSet<&String> = values.filter(|it| !it.is_empty()).collect();
    all.into_iter().cloned().collect()
}

fn count(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
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

/// What conditions can ask about a message and the document in it.
pub(crate) fn message_facts(message: &MessageSnapshot) -> Facts {
    let codes: Vec<String> = message.document.reported().map(|it| it.code.clone()).collect();
    let attachments = &message.document.attachments;
    let media_types: BTreeSet<&String> = attachments.iter().map(|it| &it.media_type).collect();
    let about = message.document.about.as_ref();
    let message = MessageFacts {
        files: count(attachments.len()),
        media_types: media_types.into_iter().cloned().collect(),
        document_kind: about.map(|it| it.kind.clone()).unwrap_or_default(),
        message_type: message.message_type.to_string(),
        observations: count(codes.len()),
        codes,
    };
    Facts { message, ..Facts::default() }
}

/// The series of a study, for nodes with `for_each`.
pub(crate) fn series_items(series: &[SeriesSnapshot]) -> Vec<SeriesItem> {
    originals(series).into_iter().map(series_item).collect()
}

fn series_item(series: &SeriesSnapshot) -> SeriesItem {
    SeriesItem {
        series: series.series.to_string(),
        instances: series.instances.iter().map(|it| it.instance.to_string()).collect(),
        facts: SeriesFacts {
            modality: series.modality.clone(),
            body_part: series.body_part.clone(),
            description: series.description.clone(),
            instances: count(series.instances.len()),
        },
    }
}

/// The series that a run is about: images or, where a study has none, documents. A report that
/// somebody adds to images as a PDF is no reason to look at them again.
fn originals(series: &[SeriesSnapshot]) -> Vec<&SeriesSnapshot> {
    let (documents, images): (Vec<_>, Vec<_>) =
        series.iter().filter(|it| is_original(it)).partition(|it| it.modality == DOCUMENT);
    if images.is_empty() { documents } else { images }
}

fn is_original(series: &SeriesSnapshot) -> bool {
    !series.is_own && !DERIVED.contains(&series.modality.as_str())
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
