//! What a node is given, put together from rows.

use std::collections::BTreeMap;
use std::path::PathBuf;

use contracts::{Archive, ClaimedNode, NodeFailure, OrderSnapshot, SeriesSnapshot};
use domain::{NodeInput, OrderInput, SeriesInput, SeriesInstance, SopInstanceUid, StudyInput};
use workflow::{Item, Node};

/// The input of a node: the study or message of the run, and what the nodes before it found.
pub(crate) fn node_input(claimed: &ClaimedNode, node: &Node, item: Option<&Item>) -> NodeInput {
    let study = claimed.run.study.clone().map(|study| StudyInput {
        study,
        series: claimed.series.iter().filter_map(|it| series_input(it, item)).collect(),
    });
    // What it comes after, in all its steps; what comes finally reads all there is.
    let is_before = |step: &str| {
        let name = step.split('.').next().unwrap_or(step);
        node.is_final || node.after.iter().chain(&node.on_failure_of).any(|it| it == name)
    };
    let earlier = claimed.outputs.iter().filter(|(name, _)| is_before(name));
    NodeInput {
        study,
        document: claimed.document.clone(),
        order: claimed.orders.iter().find(|it| !it.is_cancelled).map(order_input),
        reports: claimed.reports.clone(),
        earlier: earlier.map(|(name, it)| (name.clone(), it.clone())).collect(),
    }
}

fn order_input(snapshot: &OrderSnapshot) -> OrderInput {
    let order = &snapshot.order;
    OrderInput {
        procedure: order.procedure.clone(),
        reason: order.reason.clone(),
        priority: order.priority.clone(),
    }
}

/// A series, if the step is about it or one of its instances.
fn series_input(series: &SeriesSnapshot, item: Option<&Item>) -> Option<SeriesInput> {
    let is_wanted = |it: &&contracts::StoredInstance| match item {
        None => true,
        Some(Item::Series(uid)) => series.series.as_str() == uid,
        Some(Item::Instance(uid)) => it.instance.as_str() == uid,
    };
    let instance = |it: &contracts::StoredInstance| SeriesInstance {
        instance: it.instance.clone(),
        sop_class: it.sop_class.clone(),
    };
    let instances: Vec<SeriesInstance> =
        series.instances.iter().filter(is_wanted).map(instance).collect();
    (!instances.is_empty()).then(|| SeriesInput {
        series: series.series.clone(),
        modality: series.modality.clone(),
        instances,
    })
}

/// Why a node cannot work, if images of its study are not in the archive any more.
pub(crate) async fn removed(files: &BTreeMap<SopInstanceUid, PathBuf>) -> Option<NodeFailure> {
    let paths: Vec<PathBuf> = files.values().cloned().collect();
    let count = move || paths.iter().filter(|it| !it.exists()).count();
    match tokio::task::spawn_blocking(count).await {
        Ok(0) | Err(_) => None,
        Ok(count) => Some(NodeFailure::Rejected {
            code: "images_removed".to_owned(),
            reason: format!(
                "{count} of {} images are not in the archive any more (retention): have them sent \
                 again, then retry the run",
                files.len()
            ),
        }),
    }
}

/// Where the instances of a node lie.
pub(crate) fn files(
    series: &[SeriesSnapshot],
    archive: &dyn Archive,
) -> BTreeMap<SopInstanceUid, PathBuf> {
    let instances = series.iter().flat_map(|it| &it.instances);
    instances.map(|it| (it.instance.clone(), archive.path_of(&it.sha256))).collect()
}
