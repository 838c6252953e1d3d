use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use domain::OutputKind;
use miette::NamedSource;
use serde_json::Value;

use crate::check::Checker;
use crate::condition::Condition;
use crate::problem::{InvalidWorkflow, Problem};
use crate::spec::{NodeSpec, Spec, TestSpec};

/// In which roles people review.
pub const ROLES: &[&str] = &["radiologist", "laboratory", "physician"];

/// A workflow that can run.
#[derive(Clone, Debug)]
pub struct Workflow {
    /// Its name, as the trail records it.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// What starts it.
    pub trigger: Trigger,
    /// By when a run should have ended.
    pub sla: Option<Duration>,
    /// How urgent its runs are.
    pub priority: Option<Condition>,
    /// Its steps, each after the ones it reads from.
    pub nodes: Vec<Node>,
    /// What goes where.
    pub deliveries: Vec<Delivery>,
    pub(crate) tests: Vec<TestSpec>,
}

/// What starts a workflow.
#[derive(Clone, Debug, PartialEq)]
pub enum Trigger {
    /// Images of a study.
    Study(StudyTrigger),
    /// A message of a type.
    Message {
        /// Types and events; `MDM^*` is every event of a type.
        kinds: Vec<String>,
        /// Which of them.
        when: Option<Condition>,
    },
    /// A message that carries a document.
    Document {
        /// Which of them.
        when: Option<Condition>,
    },
}

/// Which studies, and when.
#[derive(Clone, Debug, PartialEq)]
pub struct StudyTrigger {
    /// Which.
    pub when: Option<Condition>,
    /// When they are complete.
    pub completion: Completion,
    /// What to do about late instances.
    pub late: Late,
}

/// When a study is taken to be complete (DIN-50, DIN-51).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completion {
    /// Nothing has come for so long.
    pub quiet: Duration,
    /// The longest wait, and what then.
    pub at_most: (Duration, Overdue),
    /// What must be there.
    pub expect: Vec<Expect>,
    /// What is enough without waiting for quiet.
    pub enough: Vec<Enough>,
}

/// The longest wait, if a workflow names none (DIN-51).
pub const AT_MOST_DEFAULT: (Duration, Overdue) = (Duration::from_mins(30), Overdue::Hold);

/// Something that must be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expect {
    /// An order that asks for the study.
    Order,
    /// An order that says that the examination is over.
    ExamComplete,
    /// A request for storage commitment, of which everything has come.
    Commitment,
    /// So many instances.
    Instances(usize),
    /// Series of a kind.
    Series(SeriesRule),
}

/// Series that must be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeriesRule {
    /// Modality, if it matters.
    pub modality: Option<String>,
    /// Body part, if it matters.
    pub body_part: Option<String>,
    /// Words in the description, in small letters, if it matters.
    pub description: Option<String>,
    /// How many such series.
    pub count: usize,
    /// Instances that each of them must have.
    pub instances: usize,
}

/// Something that is enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Enough {
    /// Everything that a request for storage commitment names has come.
    Commitment,
    /// An order says that the examination is over.
    ExamComplete,
    /// Everything that is expected is there.
    Expected,
    /// All associations that brought instances ended so long ago.
    Association(Duration),
}

/// What to do with a study that is not complete in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overdue {
    /// Run with what is there.
    Run,
    /// Give it to a person.
    Hold,
    /// Give up, and say so.
    Fail,
}

/// What to do about instances that come after the run was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Late {
    /// Nothing.
    Ignore,
    /// Tell a person.
    Alert,
    /// Run again on all; the result adds to the earlier one.
    Amend,
    /// Run again on all; the result replaces the earlier one.
    Replace,
}

/// How urgent a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Before everything else.
    Stat,
    /// In turn.
    Routine,
}

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Its name, unique in the workflow.
    pub name: String,
    /// What does the work, or who.
    pub work: Work,
    /// The steps it comes after.
    pub after: Vec<String>,
    /// How many of them must have done their work.
    pub join: Join,
    /// What it is done for, each on its own.
    pub for_each: Option<ForEach>,
    /// With `for_each`: only those this holds for.
    pub pick: Option<Condition>,
    /// It is done only if one of these has failed for good.
    pub on_failure_of: Vec<String>,
    /// It is done when everything else has ended.
    pub is_final: bool,
    /// By when it should have ended, once it may be worked on.
    pub sla: Option<Duration>,
    /// At which time of the day it may be worked on.
    pub window: Option<Window>,
    /// Skip it unless this holds.
    pub when: Option<Condition>,
    /// How often to try.
    pub retry: Retry,
    /// How long one try may take.
    pub timeout: Duration,
}

/// What does the work of a step, or who.
#[derive(Clone, Debug, PartialEq)]
pub enum Work {
    /// A plugin.
    Plugin {
        /// Its name.
        name: String,
        /// What to tell it.
        settings: Value,
    },
    /// A person, who looks at everything that was found (OUT-80).
    Review {
        /// In which role.
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

/// How many of the steps before must have done their work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Join {
    /// All.
    #[default]
    All,
    /// One, once none of them goes on.
    Any,
}

/// What a node is done for, each on its own.
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
        let minutes = |text: &str| {
            let (hours, minutes) = text.trim().split_once(':')?;
            let both: (u32, u32) = (hours.parse().ok()?, minutes.parse().ok()?);
            (both.0 < 24 && both.1 < 60).then_some(both.0 * 60 + both.1)
        };
        let (from, to) = text.split_once('-')?;
        let window = Self { from: minutes(from)?, to: minutes(to)? };
        (window.from != window.to).then_some(window)
    }

    /// How long it is until it opens, at so many minutes since midnight. Nothing while it is open.
    pub const fn wait(self, now: u32) -> Duration {
        let since_open = (now + DAY - self.from) % DAY;
        let length = (self.to + DAY - self.from) % DAY;
        let minutes = if since_open < length { 0 } else { DAY - since_open };
        Duration::from_secs(minutes as u64 * 60)
    }
}

/// How often to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// All tries together.
    pub attempts: u32,
    /// The wait before the second; each further one waits twice as long.
    pub backoff: Duration,
}

/// What goes where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// A destination of the site file.
    pub to: String,
    /// What to send, in the order in which it is sent, each kind once.
    pub what: Vec<OutputKind>,
    /// The steps that must be done.
    pub after: Vec<String>,
}

/// What a workflow is checked against.
pub struct Surroundings<'a> {
    /// Plugins that are loaded.
    pub plugins: &'a BTreeSet<String>,
    /// Destinations, and which kinds of output each takes.
    pub destinations: &'a BTreeMap<String, Vec<OutputKind>>,
    /// What is wrong with settings for a plugin.
    pub check_settings: &'a dyn Fn(&str, &Value) -> Option<String>,
}

/// Reads the workflow in `text`, which was found in `file`.
///
/// # Errors
///
/// Fails with every [`Problem`] of the file, not only the first, each with its place in the text.
pub fn read(
    file: &str,
    text: &str,
    surroundings: &Surroundings<'_>,
) -> Result<Workflow, InvalidWorkflow> {
    let outcome = match serde_saphyr::from_str::<Spec>(text) {
        Ok(spec) => Checker::new(surroundings).workflow(spec),
        Err(error) => Err(vec![Problem::unreadable(&error)]),
    };
    outcome.map_err(|problems| InvalidWorkflow {
        file: file.to_owned(),
        text: NamedSource::new(file, text.to_owned()).with_language("YAML"),
        problems,
    })
}

/// Reads a version that was checked when it was first used: plugins and destinations may have
/// changed since, a run that began with it goes on all the same.
///
/// # Errors
///
/// Fails if this program does not read what an older one wrote.
pub fn reread(file: &str, text: &str) -> Result<Workflow, InvalidWorkflow> {
    let spec: Option<Spec> = serde_saphyr::from_str(text).ok();
    let plugins = plugin_settings(text).into_iter().map(|(plugin, _)| plugin).collect();
    let deliver = spec.map(|it| it.deliver).unwrap_or_default();
    let takes_all: Vec<OutputKind> = OutputKind::requestable().collect();
    let destinations = deliver.into_iter().map(|it| (it.to.value, takes_all.clone())).collect();
    let check_settings = &|_: &str, _: &Value| None;
    read(
        file,
        text,
        &Surroundings { plugins: &plugins, destinations: &destinations, check_settings },
    )
}

/// The plugins a file names with the settings for each, so that they can be asked. Nothing, if the
/// file cannot be read: [`read`] says why.
pub fn plugin_settings(text: &str) -> Vec<(String, Value)> {
    let spec: Result<Spec, _> = serde_saphyr::from_str(text);
    let nodes = spec.map(|it| it.nodes.0).unwrap_or_default();
    let plugin = |node: &NodeSpec| Some((node.plugin.as_ref()?.value.clone(), settings(node)));
    nodes.iter().filter_map(|(_, node)| plugin(node)).collect()
}

/// The destinations a file names. Nothing, if the file cannot be read.
pub fn destinations(text: &str) -> BTreeSet<String> {
    let spec: Option<Spec> = serde_saphyr::from_str(text).ok();
    spec.map(|it| it.deliver).unwrap_or_default().into_iter().map(|it| it.to.value).collect()
}

pub(crate) fn settings(node: &NodeSpec) -> Value {
    let given = node.with.as_ref().map(|it| it.value.clone()).filter(|it| !it.is_null());
    given.unwrap_or_else(|| Value::Object(serde_json::Map::new()))
}

impl Workflow {
    /// All steps that come before these, and these.
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

    /// Whether somebody has to have signed before this is sent.
    pub fn is_after_review(&self, delivery: &Delivery) -> bool {
        let before = self.closure(&delivery.after);
        self.nodes.iter().any(|it| it.role().is_some() && before.contains(it.name.as_str()))
    }

    /// The node a step of a run belongs to: `bone`, or `bone.2`, the second it was done for.
    pub fn node_of(&self, step: &str) -> Option<&Node> {
        let name = step.split('.').next().unwrap_or(step);
        self.nodes.iter().find(|it| it.name == name)
    }
}
