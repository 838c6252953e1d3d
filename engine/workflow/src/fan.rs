//! What a node is done for, each on its own (`for_each`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::condition::ConditionError;
use crate::facts::{Facts, SeriesFacts};
use crate::workflow::{ForEach, Node, Workflow};

/// Most steps a node may become.
const STEPS_MAX: usize = 10_000;

/// A series a run works on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SeriesItem {
    /// Series Instance UID.
    pub series: String,
    /// SOP Instance UIDs.
    pub instances: Vec<String>,
    /// What conditions can ask of it.
    pub facts: SeriesFacts,
}

/// The one thing a step is done for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Item {
    /// A series, by its UID.
    Series(String),
    /// An instance, by its UID.
    Instance(String),
}

/// The steps of nodes that are done for several things: node, and per step its name and thing.
pub(crate) type Fans = BTreeMap<String, Vec<(String, Item)>>;

/// The steps of every node of a workflow that has `for_each`.
///
/// # Errors
///
/// Fails if a `where` cannot be asked, or there would be too many steps: names the node.
pub(crate) fn fans(
    workflow: &Workflow,
    facts: &Facts,
    series: &[SeriesItem],
) -> Result<Fans, (String, String)> {
    let mut fans = Fans::new();
    for node in &workflow.nodes {
        let Some(for_each) = node.for_each else { continue };
        let failed = |reason: String| (node.name.clone(), reason);
        let items = items(node, for_each, facts, series).map_err(|it| failed(it.to_string()))?;
        if items.len() > STEPS_MAX {
            return Err(failed(format!("it would be done more than {STEPS_MAX} times")));
        }
        let named = |(index, item)| (format!("{}.{}", node.name, index + 1), item);
        fans.insert(node.name.clone(), items.into_iter().enumerate().map(named).collect());
    }
    Ok(fans)
}

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
        match for_each {
            _ if !is_picked => {}
            ForEach::Series => items.push(Item::Series(one.series.clone())),
            ForEach::Instance => items.extend(one.instances.iter().cloned().map(Item::Instance)),
        }
    }
    Ok(items)
}
