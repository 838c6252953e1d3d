//! A workflow that can run: its trigger, its nodes and its deliveries.

use std::collections::BTreeSet;
use std::time::Duration;

use domain::OutputKind;
use serde_json::Value;

use crate::condition::Condition;
use crate::message_type::MessageTypePattern;
use crate::spec::TestSpec;
use crate::step_name::StepName;

/// The roles in which people review results.
pub const ROLES: &[&str] = &["radiologist", "laboratory", "physician"];

/// A workflow that can run.
#[derive(Clone, Debug)]
pub struct Workflow {
    /// The name, as the trail records it.
    pub name: String,
    /// The purpose, for people.
    pub description: String,
    /// What starts a run.
    pub trigger: Trigger,
    /// By when a run should have ended.
    pub sla: Option<Duration>,
    /// How urgent its runs are.
    pub priority: Option<Condition>,
    /// The nodes, each after the nodes that it reads from.
    pub nodes: Vec<Node>,
    /// Which outputs are sent to which destination.
    pub deliveries: Vec<Delivery>,
    pub(crate) tests: Vec<TestSpec>,
}

/// What starts a workflow.
#[derive(Clone, Debug, PartialEq)]
pub enum Trigger {
    /// Images of a study.
    Study(StudyTrigger),
    /// A message of one of these types.
    Message {
        /// Message codes and trigger events (MSH-9).
        types: Vec<MessageTypePattern>,
        /// Which messages of these types. All, if there is no condition.
        when: Option<Condition>,
    },
    /// A message that carries a document.
    Document {
        /// Which documents. All, if there is no condition.
        when: Option<Condition>,
    },
}

impl Trigger {
    /// The condition that a study or message has to meet, if there is one.
    pub const fn condition(&self) -> Option<&Condition> {
        match self {
            Self::Study(study) => study.when.as_ref(),
            Self::Message { when, .. } | Self::Document { when } => when.as_ref(),
        }
    }
}

/// Which studies start a run, and when.
#[derive(Clone, Debug, PartialEq)]
pub struct StudyTrigger {
    /// Which studies. All, if there is no condition.
    pub when: Option<Condition>,
    /// When they are complete.
    pub completion: Completion,
    /// What to do about late instances.
    pub late: Late,
}

/// When a study counts as complete (DIN-50, DIN-51).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completion {
    /// Nothing has arrived for this long.
    pub quiet: Duration,
    /// The longest wait, and what happens then.
    pub at_most: WaitLimit,
    /// What must have arrived.
    pub expect: Vec<Expect>,
    /// What is enough without waiting for quiet.
    pub enough: Vec<Enough>,
}

/// The longest wait for a study.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitLimit {
    /// How long after the first instance.
    pub after: Duration,
    /// What happens then.
    pub then: Overdue,
}

/// The longest wait, if a workflow specifies none (DIN-51).
pub const WAIT_LIMIT_DEFAULT: WaitLimit =
    WaitLimit { after: Duration::from_mins(30), then: Overdue::Hold };

/// Something that must have arrived before a study counts as complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expect {
    /// An order for the study.
    Order,
    /// An order with the status that the examination is complete (ORC-5 `CM`).
    ExamComplete,
    /// A request for storage commitment, of which every instance has arrived.
    Commitment,
    /// This number of instances.
    Instances(usize),
    /// Series of a kind.
    Series(SeriesRule),
}

/// Series that must have arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeriesRule {
    /// Modality, if it matters.
    pub modality: Option<String>,
    /// Body part, if it matters.
    pub body_part: Option<String>,
    /// Part of the description, in lower case, if it matters.
    pub description: Option<String>,
    /// The number of such series.
    pub count: usize,
    /// The number of instances that each of them must have.
    pub instances: usize,
}

/// What completes a study at once, without a quiet period.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Enough {
    /// Every instance that a request for storage commitment names has arrived.
    Commitment,
    /// An order has the status that the examination is complete.
    ExamComplete,
    /// Everything that is expected has arrived.
    Expected,
    /// All associations that sent instances ended this long ago.
    Association(Duration),
}

/// What to do with a study that is not complete in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overdue {
    /// Run with what has arrived.
    Run,
    /// Hand it to a person.
    Hold,
    /// Fail, and notify a person.
    Fail,
}

/// What to do about instances that arrive after the run was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Late {
    /// Nothing.
    Ignore,
    /// Notify a person.
    Alert,
    /// Run again on all instances; the result adds to the earlier one.
    Amend,
    /// Run again on all instances; the result replaces the earlier one.
    Replace,
}

/// How urgent a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Before all routine runs.
    Stat,
    /// In the order of arrival.
    Routine,
}

/// One node: work that a plugin or a person does.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The name, unique in the workflow.
    pub name: String,
    /// The plugin or the role that does the work.
    pub work: Work,
    /// The nodes that it comes after.
    pub after: Vec<String>,
    /// How many of them must be done.
    pub join: Join,
    /// The items that it is done for individually: then the node has several steps.
    pub for_each: Option<ForEach>,
    /// With `for_each`: only the items for which this holds.
    pub pick: Option<Condition>,
    /// It is done only if one of these nodes has failed.
    pub on_failure_of: Vec<String>,
    /// It is done after everything else has ended, however that ended.
    pub is_final: bool,
    /// How long after its opening it should have ended.
    pub sla: Option<Duration>,
    /// The hours of the day in which it may be worked on.
    pub window: Option<Window>,
    /// It is skipped unless this holds.
    pub when: Option<Condition>,
    /// How often it is attempted.
    pub retry: Retry,
    /// How long one attempt may take.
    pub timeout: Duration,
}

/// The plugin or the person that does the work of a node.
#[derive(Clone, Debug, PartialEq)]
pub enum Work {
    /// A plugin.
    Plugin {
        /// Name of the plugin.
        name: String,
        /// Settings for the plugin.
        settings: Value,
    },
    /// A person, who reviews all findings of the run (OUT-80).
    Review {
        /// The role of the person.
        role: String,
    },
}

impl Node {
    /// The plugin that does the work, if one does.
    pub fn plugin(&self) -> Option<&str> {
        match &self.work {
            Work::Plugin { name, .. } => Some(name),
            Work::Review { .. } => None,
        }
    }

    /// The role of the person who does the work, if one does.
    pub fn role(&self) -> Option<&str> {
        match &self.work {
            Work::Plugin { .. } => None,
            Work::Review { role } => Some(role),
        }
    }
}

/// How many of the nodes before must be done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Join {
    /// All.
    #[default]
    All,
    /// At least one, once none of them can still become done.
    Any,
}

/// The items that a node is done for individually.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForEach {
    /// Each series.
    Series,
    /// Each instance.
    Instance,
}

/// Hours of the day, in minutes since midnight. The end may be on the next day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// When it opens.
    pub from: u32,
    /// When it closes.
    pub to: u32,
}

/// Minutes of a day.
const DAY: u32 = 24 * 60;

impl Window {
    /// Reads `20:00-06:00`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (from, to) = text.split_once('-')?;
        let window = Self { from: minutes_of_day(from)?, to: minutes_of_day(to)? };
        (window.from != window.to).then_some(window)
    }

    /// How long it takes until the window opens, at this time in minutes since midnight. Zero inside of
    /// the window.
    pub const fn wait(self, now: u32) -> Duration {
        let since_open = (now + DAY - self.from) % DAY;
        let length = (self.to + DAY - self.from) % DAY;
        let minutes = if since_open < length { 0 } else { DAY - since_open };
        Duration::from_secs(minutes as u64 * 60)
    }
}

/// Reads `20:30` as minutes since midnight.
fn minutes_of_day(text: &str) -> Option<u32> {
    let (hours, minutes) = text.trim().split_once(':')?;
    let hours: u32 = hours.parse().ok()?;
    let minutes: u32 = minutes.parse().ok()?;
    (hours < 24 && minutes < 60).then_some(hours * 60 + minutes)
}

/// How often a node is attempted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// The number of attempts, the first included.
    pub attempts: u32,
    /// The wait before the second attempt; each further one waits twice as long.
    pub backoff: Duration,
}

/// Outputs for a destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// A destination of the site file.
    pub to: String,
    /// What to send, in the order in which it is sent, each kind once.
    pub what: Vec<OutputKind>,
    /// The nodes that must have ended.
    pub after: Vec<String>,
}

impl Workflow {
    /// These nodes, and all nodes that come before them.
    pub fn closure<'a>(&'a self, of: &'a [String]) -> BTreeSet<&'a str> {
        let mut all: BTreeSet<&str> = of.iter().map(String::as_str).collect();
        // Each node comes after those it waits for: one pass from the end reaches all.
        for node in self.nodes.iter().rev() {
            if all.contains(node.name.as_str()) {
                all.extend(node.after.iter().chain(&node.on_failure_of).map(String::as_str));
            }
        }
        all
    }

    /// Whether a person has signed before this is sent.
    pub fn is_after_review(&self, delivery: &Delivery) -> bool {
        let before = self.closure(&delivery.after);
        self.nodes.iter().any(|it| it.role().is_some() && before.contains(it.name.as_str()))
    }

    /// Whether a person reviews what a run finds.
    pub fn has_review(&self) -> bool {
        self.nodes.iter().any(|it| it.role().is_some())
    }

    /// The node that a step of a run belongs to: `bone` for the step `bone`, and for `bone.2`.
    pub fn node_of(&self, step: &str) -> Option<&Node> {
        let step = StepName::parse(step);
        self.nodes.iter().find(|node| node.name == step.node)
    }
}
