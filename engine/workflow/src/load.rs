//! Reads workflow files: text in, a workflow out, or every reason why not.

use std::collections::BTreeSet;

use domain::OutputKind;
use miette::NamedSource;
use serde_json::Value;

use crate::check::{CheckContext, Checker};
use crate::problem::{InvalidWorkflow, WorkflowProblem};
use crate::spec::{NodeSpec, Spec};
use crate::workflow::Workflow;

/// Reads the workflow in `text`, which was found in `file`.
///
/// # Errors
///
/// Fails with every [`WorkflowProblem`] of the file, not only the first, each with its position in the
/// text.
pub fn read(
    file: &str,
    text: &str,
    context: &CheckContext<'_>,
) -> Result<Workflow, InvalidWorkflow> {
    let checked = match serde_saphyr::from_str::<Spec>(text) {
        Ok(spec) => Checker::new(context).workflow(spec),
        Err(error) => Err(vec![WorkflowProblem::unreadable(&error)]),
    };
    checked.map_err(|problems| InvalidWorkflow {
        file: file.to_owned(),
        text: NamedSource::new(file, text.to_owned()).with_language("YAML"),
        problems,
    })
}

/// Reads a version that was checked when it was first used. Plugins and destinations may have changed
/// since; a run that began with this version continues with it.
///
/// # Errors
///
/// Fails if this program does not read what an older one wrote.
pub fn reread(file: &str, text: &str) -> Result<Workflow, InvalidWorkflow> {
    let plugins = plugin_settings(text).into_iter().map(|(plugin, _)| plugin).collect();
    let every_kind: Vec<OutputKind> = OutputKind::requestable().collect();
    let destinations = destinations(text).into_iter().map(|it| (it, every_kind.clone())).collect();
    let context = CheckContext {
        plugins: &plugins,
        destinations: &destinations,
        check_settings: &|_, _| None,
    };
    read(file, text, &context)
}

/// The plugins that a file names with the settings for each, so that they can be asked about them.
/// Empty, if the file cannot be read: [`read`] reports why.
pub fn plugin_settings(text: &str) -> Vec<(String, Value)> {
    let spec: Option<Spec> = serde_saphyr::from_str(text).ok();
    let nodes = spec.map(|spec| spec.nodes.0).unwrap_or_default();
    nodes.iter().filter_map(|(_, node)| settings_of(node)).collect()
}

fn settings_of(node: &NodeSpec) -> Option<(String, Value)> {
    Some((node.plugin.as_ref()?.value.clone(), node.settings()))
}

/// The destinations that a file names. Empty, if the file cannot be read.
pub fn destinations(text: &str) -> BTreeSet<String> {
    let spec: Option<Spec> = serde_saphyr::from_str(text).ok();
    let deliveries = spec.map(|spec| spec.deliver).unwrap_or_default();
    deliveries.into_iter().map(|delivery| delivery.to.value).collect()
}
