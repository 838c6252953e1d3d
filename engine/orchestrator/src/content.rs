//! What a run found, all of it together. Pure.

use std::collections::{BTreeMap, BTreeSet};

use contracts::{PluginPin, RunRecord};
use domain::{Algorithm, NodeOutput};

/// What the nodes of a run found, each thing with where it comes from (OUT-33).
pub(crate) fn drafted(
    outputs: &BTreeMap<String, NodeOutput>,
    plugins: &BTreeMap<String, PluginPin>,
    run: &RunRecord,
) -> NodeOutput {
    let mut all = NodeOutput::default();
    let mut names = BTreeSet::new();
    for (node, output) in outputs {
        let mut output = output.clone();
        // Two nodes may track things by one name: each is a thing of its own.
        for it in output.segmentations.iter_mut().flat_map(|it| &mut it.segments) {
            let mut number = 1;
            while !names.insert(it.tracking_id.clone()) {
                number += 1;
                it.tracking_id = format!("{} ({node} {number})", it.tracking_id);
            }
        }
        let plugin = plugins.get(node);
        let outlined = output.segmentations.iter_mut().map(|it| &mut it.algorithm);
        let marked = output.regions.iter_mut().map(|it| &mut it.algorithm);
        outlined.chain(marked).for_each(|it| trace(it, plugin, run));
        all.add(output);
    }
    all
}

fn trace(algorithm: &mut Algorithm, plugin: Option<&PluginPin>, run: &RunRecord) {
    let parameters = &mut algorithm.parameters;
    if let Some(plugin) = plugin {
        parameters.insert("plugin_sha256".to_owned(), plugin.digest.clone());
    }
    parameters.insert("run_id".to_owned(), run.id.to_string());
    parameters.insert("workflow_sha256".to_owned(), run.workflow.digest.clone());
}
