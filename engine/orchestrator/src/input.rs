//! What a node is given, put together from rows.

use std::collections::BTreeMap;
use std::path::PathBuf;

use contracts::{Archive, ClaimedNode, SeriesSnapshot};
use domain::{NodeInput, SeriesInput, SeriesInstance, SopInstanceUid, StudyInput};
use workflow::Node;

/// The input of a node: the study or message of the run, and what the nodes before it found.
pub(crate) fn node_input(claimed: &ClaimedNode, node: &Node) -> NodeInput {
    let study = claimed.run.study.clone().map(|study| StudyInput {
        study,
        series: claimed.series.iter().map(series_input).collect(),
    });
    let earlier = claimed.outputs.iter().filter(|(name, _)| node.after.contains(name));
    NodeInput {
        study,
        document: claimed.document.clone(),
        earlier: earlier.map(|(name, it)| (name.clone(), it.clone())).collect(),
    }
}

fn series_input(series: &SeriesSnapshot) -> SeriesInput {
    let instance = |it: &contracts::StoredInstance| SeriesInstance {
        instance: it.instance.clone(),
        sop_class: it.sop_class.clone(),
    };
    SeriesInput {
        series: series.series.clone(),
        modality: series.modality.clone(),
        instances: series.instances.iter().map(instance).collect(),
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
