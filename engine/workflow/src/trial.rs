//! The tests inside of a workflow file: the state machine of a run, with the answers of plugins that a
//! test specifies. Reports also which branches no test covers.

use std::collections::{BTreeSet, VecDeque};

use crate::facts::{Facts, NodeFacts};
use crate::fan::SeriesItem;
use crate::run::{Action, End, Run, RunEvent};
use crate::spec::{AnswerSpec, ExpectedSpec, GivenSpec, TestSpec};
use crate::step_name::StepName;
use crate::workflow::{Priority, Workflow};

/// How the tests of a workflow went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trial {
    /// One for each test.
    pub outcomes: Vec<Outcome>,
    /// Branches that no test covers: `bone fails`, `report is skipped`.
    pub uncovered: Vec<String>,
    /// The number of branches.
    pub branches: usize,
}

/// How one test went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Its number in the file, from 1.
    pub number: usize,
    /// What is not as expected. Empty, if the test passed.
    pub differences: Vec<String>,
}

/// What happened in a test.
#[derive(Default)]
struct Story {
    starts: bool,
    path: Vec<String>,
    delivered: Vec<String>,
    end: Option<End>,
    priority: Option<Priority>,
    /// Branches that the test covers.
    covered: BTreeSet<String>,
}

/// Runs the tests of a workflow.
pub fn trial(workflow: &Workflow) -> Trial {
    let mut trial = Trial::default();
    let mut covered = BTreeSet::new();
    for (index, test) in workflow.tests.iter().enumerate() {
        let story = play(workflow, test);
        let differences = differences(&story, &test.expect);
        trial.outcomes.push(Outcome { number: index + 1, differences });
        covered.extend(story.covered);
    }
    let all = branches(workflow);
    trial.branches = all.len();
    trial.uncovered = all.into_iter().filter(|branch| !covered.contains(branch)).collect();
    trial
}

/// The branches of a workflow, as they are reported.
fn branches(workflow: &Workflow) -> Vec<String> {
    let mut all = vec!["it starts".to_owned()];
    if workflow.trigger.condition().is_some() {
        all.push("it does not start".to_owned());
    }
    for node in &workflow.nodes {
        all.push(format!("{} succeeds", node.name));
        all.push(format!("{} fails", node.name));
        if node.when.is_some() || !node.on_failure_of.is_empty() {
            all.push(format!("{} is skipped", node.name));
        }
    }
    all
}

/// Runs one test.
fn play(workflow: &Workflow, test: &TestSpec) -> Story {
    let given = &test.given;
    let mut facts = given.facts.facts();
    let mut story = Story { starts: workflow.takes(&facts).unwrap_or(false), ..Story::default() };
    if !story.starts {
        story.covered.insert("it does not start".to_owned());
        return story;
    }
    story.covered.insert("it starts".to_owned());
    story.priority = Some(workflow.urgency(&facts));
    let (mut run, first) = Run::begin(workflow, &facts, &series(given));
    let mut pending: VecDeque<Action> = first.into();
    while let Some(action) = pending.pop_front() {
        match action {
            Action::Open { node, .. } => {
                let event = answered(workflow, node, given, &mut facts);
                if let RunEvent::Succeeded { node } = &event {
                    story.path.push(node.clone());
                    story.cover(node, "succeeds");
                }
                pending.extend(run.apply(workflow, &mut facts, event).unwrap_or_default());
            }
            Action::Escalate { node, .. } => story.cover(&node, "fails"),
            Action::Skip { node, .. } => story.cover(&node, "is skipped"),
            Action::Deliver { index } => {
                story.delivered.extend(workflow.deliveries.get(index).map(|it| it.to.clone()));
            }
            Action::End(end) => story.end = Some(end),
            Action::Close { .. } | Action::HoldBack { .. } => {}
        }
    }
    story
}

impl Story {
    fn cover(&mut self, step: &str, outcome: &str) {
        let node = StepName::parse(step).node;
        self.covered.insert(format!("{node} {outcome}"));
    }
}

/// The series of a test, each with UIDs of its own.
fn series(given: &GivenSpec) -> Vec<SeriesItem> {
    let mut series = Vec::new();
    for (index, facts) in given.facts.series().into_iter().enumerate() {
        let uid = format!("2.25.{}", index + 1);
        let instances = (0..facts.instances).map(|number| format!("{uid}.{number}")).collect();
        series.push(SeriesItem { series: uid, instances, facts });
    }
    series
}

/// What a node does that is open, as the test specifies it.
fn answered(workflow: &Workflow, node: String, given: &GivenSpec, facts: &mut Facts) -> RunEvent {
    let name = workflow.node_of(&node).map_or_else(|| node.clone(), |it| it.name.clone());
    let answer = given.plugins.get(&node).or_else(|| given.plugins.get(&name));
    let found = match answer {
        Some(AnswerSpec::Reject { reject }) => {
            return RunEvent::Rejected { node, reason: reject.clone() };
        }
        Some(AnswerSpec::Fail { fail }) => return RunEvent::Failed { node, reason: fail.clone() },
        Some(AnswerSpec::Output(output)) => NodeFacts::done(output),
        None => NodeFacts { state: "done".to_owned(), ..NodeFacts::default() },
    };
    facts.nodes.entry(name).or_default().add(found);
    RunEvent::Succeeded { node }
}

/// What is not as the test expects. What it leaves out is not compared.
fn differences(story: &Story, expected: &ExpectedSpec) -> Vec<String> {
    let end = match story.end {
        Some(End::Completed) => "completed",
        Some(End::Failed) => "failed",
        Some(End::Cancelled) => "cancelled",
        None => "not started",
    };
    let priority = match story.priority {
        Some(Priority::Stat) => "stat",
        Some(Priority::Routine) => "routine",
        None => "not started",
    };
    let starts = expected.starts.map(|it| it.to_string());
    let path = expected.path.as_deref().map(list);
    let delivered = expected.delivered.as_deref().map(list);
    let comparisons = [
        difference("starts", starts, &story.starts.to_string()),
        difference("path", path, &list(&story.path)),
        difference("delivered", delivered, &list(&story.delivered)),
        difference("end", expected.end.clone(), end),
        difference("priority", expected.priority.clone(), priority),
    ];
    comparisons.into_iter().flatten().collect()
}

fn difference(what: &str, expected: Option<String>, actual: &str) -> Option<String> {
    let expected = expected.filter(|expected| expected != actual)?;
    Some(format!("{what}: expected {expected}, got {actual}"))
}

fn list(names: &[String]) -> String {
    format!("[{}]", names.join(", "))
}
