//! Which versions of workflows are active: the database decides, files only offer.
//!
//! A workflow the database has never had is activated when the engine starts, if its own tests
//! pass. From then on only `isocenter workflow activate`, `rollback` and `deactivate` change what
//! runs: a changed file changes nothing until a person activates it.

use std::path::PathBuf;
use std::sync::Arc;

use contracts::StoreError;
use domain::{Actor, WorkflowRef};
use orchestrator::{ActiveWorkflow, Destinations};
use plugin_host::PluginHost;
use store::PgStore;
use tracing::warn;

use crate::output::Failure;
use crate::site::{Site, add_stand_ins};
use crate::site_args::SiteArgs;
use crate::workflows::{WorkflowFile, read_one, rendered};

/// What becomes of a workflow file when the engine starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Offer {
    /// The database has this very version active.
    Active,
    /// The database has another version active: a person has to activate this one.
    Differs,
    /// A person deactivated this workflow, and it stays so.
    Deactivated,
    /// The database has never had this workflow: it is activated if its tests pass.
    New,
}

impl Offer {
    fn of(offered: &WorkflowRef, active: &[(WorkflowRef, String)], off: &[String]) -> Self {
        match active.iter().find(|(it, _)| it.name == offered.name) {
            Some((it, _)) if it.digest == offered.digest => Self::Active,
            Some(_) => Self::Differs,
            None if off.contains(&offered.name) => Self::Deactivated,
            None => Self::New,
        }
    }
}

/// Settles which workflows a site starts with: those the database has active, and new files.
/// Returns the number of changes of activations up to then.
pub(crate) async fn settle(
    store: &Arc<PgStore>,
    site: &mut Site,
    arguments: &SiteArgs,
) -> Result<i64, Failure> {
    let known = store.active_workflows().await.map_err(|error| unreadable(&error))?;
    for offered in &site.workflows {
        let name = &offered.reference.name;
        match Offer::of(&offered.reference, &known.active, &known.inactive) {
            Offer::Active => {}
            Offer::Differs => warn!(
                workflow = name,
                "its file differs from the active version: isocenter workflow activate FILE"
            ),
            Offer::Deactivated => {
                warn!(workflow = name, "it was deactivated, and stays so");
            }
            Offer::New => activate(store, offered).await?,
        }
    }
    // Before the versions: a change in between is noticed by the reload.
    let stamp = store.activation_stamp().await.map_err(|error| unreadable(&error))?;
    let active = store.active_workflows().await.map_err(|error| unreadable(&error))?.active;
    let texts: Vec<&str> = active.iter().map(|it| it.1.as_str()).collect();
    add_stand_ins(&mut site.destinations, arguments, &texts);
    site.workflows = read(active, &site.host, &site.destinations, &site.workflows).await;
    Ok(stamp)
}

/// Activates a workflow that the database has never had, if its tests pass.
async fn activate(store: &PgStore, offered: &ActiveWorkflow) -> Result<(), Failure> {
    let failures = failures(&offered.workflow);
    if !failures.is_empty() {
        return Err(Failure::new(format!(
            "workflow {} does not pass its own tests:\n  {}",
            offered.reference.name,
            failures.join("\n  ")
        )));
    }
    let added = store.activate(&offered.reference, &offered.text, Actor::engine()).await;
    added.map_err(|error| unreadable(&error))
}

fn unreadable(error: &StoreError) -> Failure {
    Failure::from_error("the versions of workflows cannot be read", error)
}

/// Reads the active versions. A version that cannot run any more, because its plugins or
/// destinations changed, starts no runs and is named in the log.
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
                "the active version cannot run any more"
            ),
        }
    }
    all
}

/// What the tests inside a workflow found wrong, a line for each difference.
pub(crate) fn failures(workflow: &workflow::Workflow) -> Vec<String> {
    let mut failures = Vec::new();
    for outcome in workflow::trial(workflow).outcomes {
        for difference in outcome.differences {
            failures.push(format!("test {}: {difference}", outcome.number));
        }
    }
    failures
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(name: &str, digest: &str) -> WorkflowRef {
        WorkflowRef { name: name.to_owned(), digest: digest.to_owned() }
    }

    #[test]
    fn a_file_offers_and_the_database_decides() {
        let active = [(version("bone", "a1"), String::new())];
        let off = ["lung".to_owned()];
        for (offered, expected) in [
            (version("bone", "a1"), Offer::Active),
            (version("bone", "b2"), Offer::Differs),
            (version("lung", "c3"), Offer::Deactivated),
            (version("heart", "d4"), Offer::New),
        ] {
            assert_eq!(Offer::of(&offered, &active, &off), expected, "{}", offered.name);
        }
    }
}
