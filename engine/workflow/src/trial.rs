//! The tests inside of a workflow file: the run machine, with plugins that say what the test says.
//! Also says which branches the tests never took.

use std::collections::{BTreeSet, VecDeque};

use crate::facts::{Facts, NodeFacts};
use crate::fan::SeriesItem;
use crate::run::{Action, End, Run, RunEvent};
use crate::spec::{AnswerSpec, ExpectedSpec, GivenSpec, TestSpec};
use crate::workflow::{Priority, Trigger, Workflow};

/// How the tests of a workflow went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trial {
    /// One for each test.
    pub outcomes: Vec<Outcome>,
    /// What tests could show and none did: `bone fails`, `report is skipped`.
    pub untried: Vec<String>,
    /// How many branches there are.
    pub branches: usize,
}

/// How one test went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Its number in the file, from 1.
    pub number: usize,
    /// What is not as expected. Nothing, if it passed.
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
    /// Branches that were taken.
    taken: BTreeSet<String>,
}

/// Runs the tests of a workflow.
pub fn trial(workflow: &Workflow) -> Trial {
    let mut trial = Trial::default();
    let mut taken = BTreeSet::new();
    for (index, test) in workflow.tests.iter().enumerate() {
        let story = play(workflow, test);
        let differences = differences(&story, &test.expect);
        trial.outcomes.push(Outcome { number: index + 1, differences });
        taken.extend(story.taken);
    }
    let all = branches(workflow);
    trial.branches = all.len();
    trial.untried = all.into_iter().filter(|it| !taken.contains(it)).collect();
    trial
}

/// Everything that can go one way or the other.
fn branches(workflow: &Workflow) -> Vec<String> {
    let mut all = vec!["it starts".to_owned()];
    let has_condition = match &workflow.trigger {
        Trigger::Study(study) => study.when.is_some(),
        Trigger::Message { when, .. } | Trigger::Document { when } => when.is_some(),
    };
    if has_condition {
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

impl Workflow {
    /// Whether the trigger's condition holds; why it cannot be told, if it cannot.
    ///
    /// # Errors
    ///
    /// Fails if the condition does.
    pub fn takes(&self, facts: &Facts) -> Result<bool, crate::ConditionError> {
        let message = &facts.message;
        let (is_of_kind, when) = match &self.trigger {
            Trigger::Study(trigger) => (true, &trigger.when),
            Trigger::Message { kinds, when } => {
                (kinds.iter().any(|it| is_kind(it, &message.kind)), when)
            }
            Trigger::Document { when } => {
                let is_document = message.kind.starts_with("MDM^");
                (is_document || !message.media_types.is_empty(), when)
            }
        };
        if !is_of_kind {
            return Ok(false);
        }
        when.as_ref().map_or(Ok(true), |it| it.holds(facts))
    }

    /// How urgent a run on this is. What cannot be told is routine.
    pub fn urgency(&self, facts: &Facts) -> Priority {
        let given = self.priority.as_ref().and_then(|it| it.text_of(facts).ok());
        if given.as_deref() == Some("stat") { Priority::Stat } else { Priority::Routine }
    }
}

/// Whether a type of message is the one a workflow names, `MDM^*` being every event of a type.
fn is_kind(wanted: &str, kind: &str) -> bool {
    match wanted.strip_suffix('*') {
        Some(start) => kind.starts_with(start),
        None => wanted == kind,
    }
}

fn play(workflow: &Workflow, test: &TestSpec) -> Story {
    let given = &test.given;
    let mut facts = given.facts.facts();
    let mut story = Story { starts: workflow.takes(&facts).unwrap_or(false), ..Story::default() };
    if !story.starts {
        story.taken.insert("it does not start".to_owned());
        return story;
    }
    story.taken.insert("it starts".to_owned());
    story.priority = Some(workflow.urgency(&facts));
    let (mut run, first) = Run::begin(workflow, &facts, &series(given));
    let mut pending: VecDeque<Action> = first.into();
    while let Some(action) = pending.pop_front() {
        match action {
            Action::Open { node, .. } => {
                let event = answered(workflow, node, given, &mut facts);
                if let RunEvent::Succeeded { node } = &event {
                    story.path.push(node.clone());
                    story.take(node, "succeeds");
                }
                pending.extend(run.apply(workflow, &mut facts, event).unwrap_or_default());
            }
            Action::Escalate { node, .. } => story.take(&node, "fails"),
            Action::Skip { node, .. } => story.take(&node, "is skipped"),
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
    fn take(&mut self, step: &str, what: &str) {
        let node = step.split('.').next().unwrap_or(step);
        self.taken.insert(format!("{node} {what}"));
    }
}

/// The series of a test, with names of their own.
fn series(given: &GivenSpec) -> Vec<SeriesItem> {
    let named = |(index, facts): (usize, crate::facts::SeriesFacts)| {
        let series = format!("2.25.{}", index + 1);
        let instances = (0..facts.instances).map(|it| format!("{series}.{it}")).collect();
        SeriesItem { series, instances, facts }
    };
    given.facts.series().into_iter().enumerate().map(named).collect()
}

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

fn differences(story: &Story, expected: &ExpectedSpec) -> Vec<String> {
    let mut found = Vec::new();
    let mut compare = |what: &str, expected: Option<String>, actual: String| {
        if let Some(expected) = expected
            && expected != actual
        {
            found.push(format!("{what}: expected {expected}, got {actual}"));
        }
    };
    let list = |it: &Vec<String>| format!("[{}]", it.join(", "));
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
    compare("starts", expected.starts.map(|it| it.to_string()), story.starts.to_string());
    compare("path", expected.path.as_ref().map(list), list(&story.path));
    compare("delivered", expected.delivered.as_ref().map(list), list(&story.delivered));
    compare("end", expected.end.clone(), end.to_owned());
    compare("priority", expected.priority.clone(), priority.to_owned());
    found
}
