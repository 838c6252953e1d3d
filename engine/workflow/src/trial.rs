//! The tests inside of a workflow file: the run machine, with plugins that say what the test says.

use std::collections::VecDeque;

use crate::facts::Facts;
use crate::run::{Action, End, Run, RunEvent};
use crate::spec::{AnswerSpec, ExpectedSpec, GivenSpec};
use crate::workflow::{Priority, Trigger, Workflow};

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
}

/// Runs the tests of a workflow.
pub fn trial(workflow: &Workflow) -> Vec<Outcome> {
    let outcome = |(index, test): (usize, &crate::spec::TestSpec)| {
        let story = play(workflow, &test.given);
        Outcome { number: index + 1, differences: differences(&story, &test.expect) }
    };
    workflow.tests.iter().enumerate().map(outcome).collect()
}

impl Workflow {
    /// Whether the trigger's condition holds; why it cannot be told, if it cannot.
    ///
    /// # Errors
    ///
    /// Fails if the condition does.
    pub fn takes(&self, facts: &Facts) -> Result<bool, crate::ConditionError> {
        let when = match &self.trigger {
            Trigger::Study(trigger) => &trigger.when,
            Trigger::Message { kind, when } => {
                if *kind != facts.message.kind {
                    return Ok(false);
                }
                when
            }
        };
        when.as_ref().map_or(Ok(true), |it| it.holds(facts))
    }

    /// How urgent a run on this is. What cannot be told is routine.
    pub fn urgency(&self, facts: &Facts) -> Priority {
        let given = self.priority.as_ref().and_then(|it| it.text_of(facts).ok());
        if given.as_deref() == Some("stat") { Priority::Stat } else { Priority::Routine }
    }
}

fn play(workflow: &Workflow, given: &GivenSpec) -> Story {
    let facts = given.facts.facts();
    let mut story = Story { starts: workflow.takes(&facts).unwrap_or(false), ..Story::default() };
    if !story.starts {
        return story;
    }
    story.priority = Some(workflow.urgency(&facts));
    let (mut run, first) = Run::begin(workflow, &facts);
    let mut pending: VecDeque<Action> = first.into();
    while let Some(action) = pending.pop_front() {
        match action {
            Action::Open { node, .. } => {
                let event = answered(node, given);
                if let RunEvent::Succeeded { node } = &event {
                    story.path.push(node.clone());
                }
                pending.extend(run.apply(workflow, &facts, event).unwrap_or_default());
            }
            Action::Deliver { index } => {
                story.delivered.extend(workflow.deliveries.get(index).map(|it| it.to.clone()));
            }
            Action::End(end) => story.end = Some(end),
            _ => {}
        }
    }
    story
}

fn answered(node: String, given: &GivenSpec) -> RunEvent {
    match given.plugins.get(&node) {
        Some(AnswerSpec::Reject { reject }) => RunEvent::Rejected { node, reason: reject.clone() },
        Some(AnswerSpec::Fail { fail }) => RunEvent::Failed { node, reason: fail.clone() },
        Some(AnswerSpec::Output(_)) | None => RunEvent::Succeeded { node },
    }
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
