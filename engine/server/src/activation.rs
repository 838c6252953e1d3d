//! Which versions of workflows are at work: the database says, files only offer.
//!
//! A file whose workflow was never heard of is put to work when the engine starts, if its own tests
//! pass. After that, only `isocenter workflow activate`, `rollback` and `deactivate` change what runs.

use std::path::PathBuf;
use std::sync::Arc;

use domain::{Actor, WorkflowRef};
use orchestrator::{ActiveWorkflow, Destinations};
use plugin_host::PluginHost;
use store::PgStore;
use tracing::warn;

use crate::args::ServeFlags;
use crate::output::Failure;
use crate::site::{Site, add_stand_ins};
use crate::workflows::{WorkflowFile, read_one, rendered};

/// Has a site begin with what is at work when the engine starts, files that are new among it. Gives the
/// number of changes up to then.
pub(crate) async fn settled(
    store: &Arc<PgStore>,
    site: &mut Site,
    flags: &ServeFlags,
) -> Result<i64, Failure> {
    let failed = |error: &contracts::StoreError| {
        Failure::from_error("the versions of workflows cannot be read", error)
    };
    let (active, off) = store.active_workflows().await.map_err(|error| failed(&error))?;
    for offered in &site.workflows {
        let WorkflowRef { name, digest } = &offered.reference;
        match active.iter().find(|(it, _)| it.name == *name) {
            Some((it, _)) if it.digest != *digest => warn!(
                workflow = name,
                "its file differs from the version at work: isocenter workflow activate FILE"
            ),
            Some(_) => {}
            None if off.contains(name) => warn!(workflow = name, "it was turned off, and stays so"),
            None => {
                let failures = failures(&offered.workflow);
                if !failures.is_empty() {
                    let text = failures.join("\n  ");
                    return Err(Failure::new(format!(
                        "workflow {name} does not pass its own tests:\n  {text}"
                    )));
                }
                let added = store.activate(&offered.reference, &offered.text, Actor::engine());
                added.await.map_err(|error| failed(&error))?;
            }
        }
    }
    // Before the versions: what changes in between is seen once more.
    let stamp = store.activation_stamp().await.map_err(|error| failed(&error))?;
    let (active, _) = store.active_workflows().await.map_err(|error| failed(&error))?;
    let texts: Vec<&str> = active.iter().map(|it| it.1.as_str()).collect();
    add_stand_ins(&mut site.destinations, flags, &texts);
    site.workflows = read(active, &site.host, &site.destinations, &site.workflows).await;
    Ok(stamp)
}

/// What is at work now, read again. One that cannot run any more, for its plugins and destinations
/// have changed, starts nothing and is named in the log.
pub(crate) async fn read(
    active: Vec<(WorkflowRef, String)>,
    host: &PluginHost,
    destinations: &Destinations,
    known: &[ActiveWorkflow],
) -> Vec<ActiveWorkflow> {
    let mut all = Vec::new();
    for (reference, text) in active {
        if let Some(same) = known.iter().find(|it| it.reference == reference) {
            all.push(same.clone());
            continue;
        }
        let file = WorkflowFile { path: PathBuf::from(&reference.name), text };
        match read_one(&file, host, destinations).await {
            Ok(workflow) => all.push(workflow),
            Err(problems) => warn!(
                workflow = reference.name,
                problems = rendered(&[problems]),
                "the version at work cannot run any more"
            ),
        }
    }
    all
}

/// What the tests inside of a workflow found wrong.
pub(crate) fn failures(workflow: &workflow::Workflow) -> Vec<String> {
    let outcomes = workflow::trial(workflow).outcomes.into_iter();
    let shown = |it: workflow::Outcome| {
        let number = it.number;
        it.differences.into_iter().map(move |text| format!("test {number}: {text}"))
    };
    outcomes.flat_map(shown).collect()
}
