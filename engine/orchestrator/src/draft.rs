//! The draft of a result: what all nodes of a run found, put together. Pure.

use std::collections::{BTreeMap, BTreeSet};

use contracts::{PluginPin, RunRecord};
use domain::{Algorithm, NodeOutput, row_keys};

/// Puts the outputs of nodes together, but for what is hidden. Every segmentation, region and reasoning
/// names the plugin library, the run and the workflow that it comes from (OUT-33).
pub(crate) fn draft_of(
    outputs: &BTreeMap<String, NodeOutput>,
    plugins: &BTreeMap<String, PluginPin>,
    run: &RunRecord,
) -> NodeOutput {
    let mut draft = NodeOutput::default();
    let mut tracking_ids = BTreeSet::new();
    for (node, output) in outputs {
        let mut output = output.clone();
        output.segmentations.retain(|it| !it.is_hidden);
        // Two nodes may use one tracking ID for different things. Each thing needs its own.
        for segment in output.segmentations.iter_mut().flat_map(|it| &mut it.segments) {
            let mut number = 1;
            while !tracking_ids.insert(segment.tracking_id.clone()) {
                number += 1;
                segment.tracking_id = format!("{} ({node} {number})", segment.tracking_id);
            }
        }
        let plugin = plugins.get(node);
        let of_segmentations = output.segmentations.iter_mut().map(|it| &mut it.algorithm);
        let of_regions = output.regions.iter_mut().map(|it| &mut it.algorithm);
        let of_reasoning = output.reasoning.iter_mut().map(|it| &mut it.algorithm);
        of_segmentations
            .chain(of_regions)
            .chain(of_reasoning)
            .for_each(|it| add_provenance(it, plugin, run));
        draft.add(output);
    }
    // Those of an earlier version of the engine have no keys.
    row_keys::number(&mut draft, []);
    draft
}

fn add_provenance(algorithm: &mut Algorithm, plugin: Option<&PluginPin>, run: &RunRecord) {
    let parameters = &mut algorithm.parameters;
    if let Some(plugin) = plugin {
        parameters.insert("plugin_sha256".to_owned(), plugin.digest.clone());
    }
    parameters.insert("run_id".to_owned(), run.id.to_string());
    parameters.insert("workflow_sha256".to_owned(), run.workflow.digest.clone());
}
