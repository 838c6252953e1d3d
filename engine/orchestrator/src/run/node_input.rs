//! Builds the input of a node from the rows of its run.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use contracts::{Archive, ClaimedNode, NodeFailure, OrderSnapshot, SeriesSnapshot, StoredInstance};
use domain::{
    ExchangedDocument, NodeInput, OrderInput, PatientFacts, SeriesInput, SeriesInstance,
    SopInstanceUid, StudyInput,
};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use workflow::{Item, Node};

use super::image_facts::age_between;

/// Code of the rejection of a node whose images retention has removed. Plugins have codes of their
/// own; this is the only one of the engine.
const IMAGES_REMOVED: &str = "images_removed";

/// The input of a node: the study or message of the run, its order, the patient's earlier
/// reports, and the outputs of the nodes before it.
///
/// What the headers of its images state is added by [`super::image_facts::completed`].
///
/// With `item`, the node is one step of a `for_each` and gets that series or instance alone.
pub(crate) fn node_input(
    claimed: &ClaimedNode,
    node: &Node,
    item: Option<&Item>,
    now: Timestamp,
) -> NodeInput {
    let study = claimed.run.study.clone().map(|study| StudyInput {
        study,
        series: claimed.series.iter().filter_map(|it| series_input(it, item)).collect(),
        patient: PatientFacts::default(),
        images: BTreeMap::new(),
    });
    let earlier = claimed.outputs.iter().filter(|(step, _)| is_predecessor(node, step));
    NodeInput {
        study,
        document: claimed.document.clone().map(without_order_numbers),
        patient: patient_facts(claimed, now),
        order: claimed.orders.iter().find(|it| !it.is_cancelled).map(order_input),
        reports: claimed.reports.clone(),
        earlier: earlier.map(|(name, it)| (name.clone(), it.clone())).collect(),
    }
}

/// Age and sex of the patient of a message, at the time that the message states, or else now.
/// Nothing for a study: its headers state them.
fn patient_facts(claimed: &ClaimedNode, now: Timestamp) -> PatientFacts {
    let (Some(document), Some(patient)) = (&claimed.document, &claimed.patient) else {
        return PatientFacts::default();
    };
    let stated_at = document.observations.iter().filter_map(|it| it.stated_at).max();
    let date = stated_at.unwrap_or(now).to_zoned(TimeZone::system()).strftime("%Y%m%d").to_string();
    let demographics = &patient.demographics;
    let birth_date = demographics.birth_date.get(..8).unwrap_or_default();
    let is_told = matches!(demographics.sex.as_str(), "M" | "F" | "O");
    PatientFacts {
        age: age_between(birth_date, &date).unwrap_or_default(),
        sex: if is_told { demographics.sex.clone() } else { String::new() },
    }
}

/// A document as plugins get it: with an order number, a laboratory could name the patient.
fn without_order_numbers(mut document: ExchangedDocument) -> ExchangedDocument {
    for observation in &mut document.observations {
        observation.filler = None;
        observation.placer = None;
        observation.accession.clear();
    }
    document
}

/// Whether a node reads the output of a step: of every step of a node that it comes after; the
/// final node reads all outputs.
fn is_predecessor(node: &Node, step: &str) -> bool {
    let name = step.split('.').next().unwrap_or(step);
    node.is_final || node.after.iter().chain(&node.on_failure_of).any(|it| it == name)
}

fn order_input(snapshot: &OrderSnapshot) -> OrderInput {
    let order = &snapshot.order;
    OrderInput {
        procedure: order.procedure.clone(),
        reason: order.reason.clone(),
        priority: order.priority.clone(),
    }
}

/// The part of a series that the step is about, or `None` if it is about nothing in it.
fn series_input(series: &SeriesSnapshot, item: Option<&Item>) -> Option<SeriesInput> {
    let instances: Vec<SeriesInstance> = series
        .instances
        .iter()
        .filter(|instance| is_wanted(series, instance, item))
        .map(|it| SeriesInstance { instance: it.instance.clone(), sop_class: it.sop_class.clone() })
        .collect();
    (!instances.is_empty()).then(|| SeriesInput {
        series: series.series.clone(),
        modality: series.modality.clone(),
        instances,
    })
}

fn is_wanted(series: &SeriesSnapshot, instance: &StoredInstance, item: Option<&Item>) -> bool {
    match item {
        None => true,
        Some(Item::Series(uid)) => series.series.as_str() == uid,
        Some(Item::Instance(uid)) => instance.instance.as_str() == uid,
    }
}

/// Fails if files of the input were removed from the archive by retention, or cannot be looked for.
pub(crate) async fn check_files(
    files: &BTreeMap<SopInstanceUid, PathBuf>,
) -> Result<(), NodeFailure> {
    let paths: Vec<PathBuf> = files.values().cloned().collect();
    let count_missing = move || -> io::Result<usize> {
        let mut missing = 0;
        for path in paths {
            missing += usize::from(!path.try_exists()?);
        }
        Ok(missing)
    };
    match tokio::task::spawn_blocking(count_missing).await {
        Ok(Ok(0)) | Err(_) => Ok(()),
        // A disk that fails at the moment has not lost them.
        Ok(Err(error)) => Err(NodeFailure::Retryable {
            reason: format!("the images cannot be looked for: {error}"),
        }),
        Ok(Ok(missing)) => Err(NodeFailure::Rejected {
            code: IMAGES_REMOVED.to_owned(),
            reason: format!(
                "{missing} of {} images are not in the archive any more (retention): have them \
                 sent again, then retry the run",
                files.len()
            ),
        }),
    }
}

/// The files of the instances of a node.
pub(crate) fn files(
    series: &[SeriesSnapshot],
    archive: &dyn Archive,
) -> BTreeMap<SopInstanceUid, PathBuf> {
    let instances = series.iter().flat_map(|it| &it.instances);
    instances.map(|it| (it.instance.clone(), archive.path_of(&it.sha256))).collect()
}
