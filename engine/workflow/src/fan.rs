//! The steps of nodes with `for_each`: one for each series or instance.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::condition::ConditionError;
use crate::facts::{Facts, SeriesFacts};
use crate::step_name::StepName;
use crate::workflow::{ForEach, Node, Workflow};

/// Largest number of steps of a node.
const STEPS_MAX: usize = 10_000;

/// A series that a run works on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SeriesItem {
    /// Series Instance UID.
    pub series: String,
    /// SOP Instance UIDs.
    pub instances: Vec<String>,
    /// The values that conditions can ask about.
    pub facts: SeriesFacts,
}

/// The one item that a step is done for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Item {
    /// A series, by its UID.
    Series(String),
    /// An instance, by its UID.
    Instance(String),
}

/// A step of a node with `for_each`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FanStep {
    /// The name of the step.
    pub(crate) name: String,
    /// The item that it is done for.
    pub(crate) item: Item,
}

/// The steps of the nodes with `for_each`, by the name of the node.
pub(crate) type Fans = BTreeMap<String, Vec<FanStep>>;

/// Why the steps of a node cannot be determined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FanError {
    /// The name of the node.
    pub(crate) node: String,
    /// Why not.
    pub(crate) reason: String,
}

/// The steps of every node of a workflow that has `for_each`.
///
/// # Errors
///
/// Fails if a `where` cannot be evaluated, or a node has too many steps.
pub(crate) fn fans(
    workflow: &Workflow,
    facts: &Facts,
    series: &[SeriesItem],
) -> Result<Fans, FanError> {
    let mut fans = Fans::new();
    for node in &workflow.nodes {
        let Some(for_each) = node.for_each else { continue };
        let items = items(node, for_each, facts, series)
            .map_err(|error| FanError { node: node.name.clone(), reason: error.to_string() })?;
        if items.len() > STEPS_MAX {
            let reason = format!("it would be done more than {STEPS_MAX} times");
            return Err(FanError { node: node.name.clone(), reason });
        }
        let mut steps = Vec::new();
        for (index, item) in items.into_iter().enumerate() {
            let name = StepName { node: &node.name, number: Some(index + 1) }.to_string();
            steps.push(FanStep { name, item });
        }
        fans.insert(node.name.clone(), steps);
    }
    Ok(fans)
}

/// The items of a node: those series, or the instances of those series, for which `where` holds.
fn items(
    node: &Node,
    for_each: ForEach,
    facts: &Facts,
    series: &[SeriesItem],
) -> Result<Vec<Item>, ConditionError> {
    let mut items = Vec::new();
    for one in series {
        let is_picked = match &node.pick {
            Some(pick) => pick.holds_for(facts, Some(&one.facts))?,
            None => true,
        };
        if !is_picked {
            continue;
        }
        match for_each {
            ForEach::Series => items.push(Item::Series(one.series.clone())),
            ForEach::Instance => items.extend(one.instances.iter().cloned().map(Item::Instance)),
        }
    }
    Ok(items)
}
