use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use miette::NamedSource;
use serde_json::Value;
use serde_saphyr::Spanned;

use crate::condition::{Condition, ConditionError};
use crate::facts::Facts;
use crate::problem::{InvalidWorkflow, Problem};
use crate::spec::{
    AtMostSpec, DeliverySpec, ExpectSpec, LateSpec, NodeMap, NodeSpec, OnSpec, OverdueSpec, Spec,
    StudySpec, TestSpec,
};

/// Most nodes of a workflow.
const NODES_MAX: usize = 200;

/// What reports can be encoded as.
const KINDS: &[&str] = &["seg", "sr", "oru", "json"];

/// A workflow that can run.
#[derive(Clone, Debug)]
pub struct Workflow {
    /// Its name, as the trail records it.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// What starts it.
    pub trigger: Trigger,
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
        /// Type and event.
        kind: String,
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

/// When a study is taken to be complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    /// Nothing has come for so long.
    pub quiet: Duration,
    /// The longest wait, and what then.
    pub at_most: Option<(Duration, Overdue)>,
    /// Whether an order must be there.
    pub expects_order: bool,
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
    /// What does the work.
    pub plugin: String,
    /// What to tell it.
    pub settings: Value,
    /// The steps it comes after.
    pub after: Vec<String>,
    /// Skip it unless this holds.
    pub when: Option<Condition>,
    /// How often to try.
    pub retry: Retry,
    /// How long one try may take.
    pub timeout: Duration,
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
    /// `seg`, `sr`, `oru`, `json`.
    pub what: Vec<String>,
    /// The steps that must be done.
    pub after: Vec<String>,
}

/// What a workflow is checked against.
pub struct Surroundings<'a> {
    /// Plugins that are loaded.
    pub plugins: &'a BTreeSet<String>,
    /// Destinations, and which kinds of report each takes.
    pub destinations: &'a BTreeMap<String, Vec<&'static str>>,
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
        Ok(spec) => Checker { surroundings, problems: Vec::new() }.workflow(spec),
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
    let destinations =
        deliver.into_iter().map(|it| (it.to.value.clone(), KINDS.to_vec())).collect();
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
    nodes.into_iter().map(|(_, node)| (node.plugin.value.clone(), settings(&node))).collect()
}

/// The destinations a file names. Nothing, if the file cannot be read.
pub fn destinations(text: &str) -> BTreeSet<String> {
    let spec: Option<Spec> = serde_saphyr::from_str(text).ok();
    spec.map(|it| it.deliver).unwrap_or_default().into_iter().map(|it| it.to.value).collect()
}

fn settings(node: &NodeSpec) -> Value {
    let given = node.with.as_ref().map(|it| it.value.clone()).filter(|it| !it.is_null());
    given.unwrap_or_else(|| Value::Object(serde_json::Map::new()))
}

struct Checker<'a> {
    surroundings: &'a Surroundings<'a>,
    problems: Vec<Problem>,
}

impl Checker<'_> {
    fn workflow(mut self, spec: Spec) -> Result<Workflow, Vec<Problem>> {
        self.check_name(&spec.workflow);
        let trigger = self.trigger(&spec.workflow, spec.on);
        let priority = spec.priority.and_then(|it| self.priority(&it));
        self.check_nodes(&spec.workflow, &spec.nodes);
        let names: BTreeSet<String> = spec.nodes.0.iter().map(|(it, _)| it.value.clone()).collect();
        let deliveries = spec.deliver.into_iter().map(|it| self.delivery(it, &names)).collect();
        let nodes: Vec<Node> =
            spec.nodes.0.into_iter().map(|(name, it)| self.node(name, it)).collect();
        match (trigger, self.problems.is_empty()) {
            (Some(trigger), true) => Ok(Workflow {
                name: spec.workflow.value,
                description: spec.description,
                trigger,
                priority,
                nodes: in_order(nodes),
                deliveries,
                tests: spec.tests,
            }),
            _ => Err(self.problems),
        }
    }

    fn add<T>(
        &mut self,
        code: &'static str,
        at: &Spanned<T>,
        label: &'static str,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.problems.push(Problem::new(code, at, label, message, help));
    }

    fn check_name(&mut self, name: &Spanned<String>) {
        let is_plain = |it: char| it.is_ascii_lowercase() || it.is_ascii_digit() || it == '-';
        if name.value.is_empty() || name.value.len() > 64 || !name.value.chars().all(is_plain) {
            let message = format!("`{}` is not a name for a workflow", name.value);
            let help = "use small letters, digits and dashes, at most 64";
            self.add("workflow::bad_name", name, "this name", message, help);
        }
    }

    fn trigger(&mut self, name: &Spanned<String>, on: OnSpec) -> Option<Trigger> {
        match (on.study, on.message) {
            (Some(study), None) => Some(Trigger::Study(self.study(study.value))),
            (None, Some(message)) => {
                let when = message.value.when.and_then(|it| self.condition(&it));
                Some(Trigger::Message { kind: message.value.kind, when })
            }
            _ => {
                let help = "write either `on: { study: … }` or `on: { message: … }`";
                let message = "a workflow needs exactly one trigger";
                self.add("workflow::trigger", name, "of this workflow", message, help);
                None
            }
        }
    }

    fn study(&mut self, spec: StudySpec) -> StudyTrigger {
        let overdue = |it: AtMostSpec| {
            let then = match it.then {
                OverdueSpec::Run => Overdue::Run,
                OverdueSpec::Hold => Overdue::Hold,
                OverdueSpec::Fail => Overdue::Fail,
            };
            (it.after, then)
        };
        let completion = Completion {
            quiet: spec.complete.quiet,
            at_most: spec.complete.at_most.map(overdue),
            expects_order: spec.complete.expect.contains(&ExpectSpec::Order),
        };
        let late = match spec.late {
            LateSpec::Ignore => Late::Ignore,
            LateSpec::Alert => Late::Alert,
        };
        StudyTrigger { when: spec.when.and_then(|it| self.condition(&it)), completion, late }
    }

    /// Reads a condition and tries it, so that a misspelt field shows now and not at night.
    fn condition(&mut self, text: &Spanned<String>) -> Option<Condition> {
        self.expression(text, |it| it.holds(&Facts::sample()).map(|_| ()))
    }

    fn priority(&mut self, text: &Spanned<String>) -> Option<Condition> {
        let plain = matches!(text.value.as_str(), "stat" | "routine");
        let quoted = format!("\"{}\"", text.value);
        let value = if plain { quoted } else { text.value.clone() };
        let text = Spanned::new(value, text.referenced, text.defined);
        self.expression(&text, |it| {
            let given = it.text_of(&Facts::sample())?;
            if matches!(given.as_str(), "stat" | "routine") {
                return Ok(());
            }
            Err(ConditionError::WrongType { expected: "`stat` or `routine`", found: given })
        })
    }

    fn expression(
        &mut self,
        text: &Spanned<String>,
        try_it: impl Fn(&Condition) -> Result<(), ConditionError>,
    ) -> Option<Condition> {
        let outcome = Condition::parse(&text.value).and_then(|it| try_it(&it).map(|()| it));
        match outcome {
            Ok(condition) => Some(condition),
            Err(error) => {
                let help = "conditions are CEL over `study`, `order` and `message`; \
                    see workflows/README.md for their fields";
                self.add("workflow::condition", text, "this expression", error.to_string(), help);
                None
            }
        }
    }

    fn check_nodes(&mut self, workflow: &Spanned<String>, nodes: &NodeMap) {
        let names: BTreeSet<&str> = nodes.0.iter().map(|(it, _)| it.value.as_str()).collect();
        if nodes.0.is_empty() || nodes.0.len() > NODES_MAX {
            let message = format!("a workflow has from one to {NODES_MAX} nodes");
            self.add("workflow::nodes", workflow, "of this workflow", message, "");
        }
        for (index, (name, node)) in nodes.0.iter().enumerate() {
            let is_again = nodes.0.iter().take(index).any(|(it, _)| it.value == name.value);
            if is_again {
                let message = format!("two nodes are called `{}`", name.value);
                let help = "give each node its own name";
                self.add("workflow::duplicate_node", name, "and again here", message, help);
            }
            for after in node.after.iter().filter(|it| !names.contains(it.value.as_str())) {
                let message = format!(
                    "node `{}` comes after `{}`, which does not exist",
                    name.value, after.value
                );
                let help = "check the spelling under `after`";
                self.add("workflow::unknown_node", after, "no node has this name", message, help);
            }
            self.check_plugin(node);
        }
        for (name, _) in stuck(nodes) {
            let message = format!("node `{}` waits for itself, in a circle", name.value);
            let help = "break the circle by removing one `after`";
            self.add("workflow::cycle", name, "can never start", message, help);
        }
    }

    fn check_plugin(&mut self, node: &NodeSpec) {
        let plugin = &node.plugin;
        if !self.surroundings.plugins.contains(&plugin.value) {
            let loaded: Vec<&str> = self.surroundings.plugins.iter().map(String::as_str).collect();
            let help = format!("loaded: {}", loaded.join(", "));
            let message = format!("no plugin provides `{}`", plugin.value);
            self.add("workflow::unknown_plugin", plugin, "not loaded", message, help);
            return;
        }
        if let Some(reason) = (self.surroundings.check_settings)(&plugin.value, &settings(node)) {
            let message = format!("`{}` does not take these settings: {reason}", plugin.value);
            let help = "the plugin's documentation lists its settings";
            match &node.with {
                Some(with) => self.add("workflow::settings", with, "here", message, help),
                None => self.add("workflow::settings", plugin, "has no `with:`", message, help),
            }
        }
    }

    fn node(&mut self, name: Spanned<String>, spec: NodeSpec) -> Node {
        if spec.retry.attempts == 0 || spec.retry.attempts > 100 {
            let message = "a node is tried from one to a hundred times";
            self.add("workflow::retry", &name, "this node", message, "");
        }
        Node {
            settings: settings(&spec),
            name: name.value,
            plugin: spec.plugin.value,
            after: spec.after.into_iter().map(|it| it.value).collect(),
            when: spec.when.and_then(|it| self.condition(&it)),
            retry: Retry { attempts: spec.retry.attempts, backoff: spec.retry.backoff },
            timeout: spec.timeout,
        }
    }

    fn delivery(&mut self, spec: DeliverySpec, names: &BTreeSet<String>) -> Delivery {
        let takes = self.surroundings.destinations.get(&spec.to.value);
        if takes.is_none() {
            let known: Vec<&str> =
                self.surroundings.destinations.keys().map(String::as_str).collect();
            let message = format!("there is no destination `{}`", spec.to.value);
            let help = format!("destinations of this site: {}", known.join(", "));
            self.add(
                "workflow::unknown_destination",
                &spec.to,
                "not in the site file",
                message,
                help,
            );
        }
        for what in &spec.what {
            let kind = what.value.as_str();
            if !KINDS.contains(&kind) {
                let message = format!("`{kind}` is nothing that can be sent");
                let help = format!("one of: {}", KINDS.join(", "));
                self.add("workflow::unknown_kind", what, "this", message, help);
            } else if takes.is_some_and(|it| !it.contains(&kind)) {
                let message = format!("`{}` does not take `{kind}`", spec.to.value);
                let help = "DICOM destinations take seg and sr, MLLP ones oru, folders everything";
                self.add("workflow::kind_not_taken", what, "this", message, help);
            }
        }
        for after in spec.after.iter().filter(|it| !names.contains(&it.value)) {
            let message = format!("a delivery waits for `{}`, which does not exist", after.value);
            let help = "check the spelling under `after`";
            self.add("workflow::unknown_node", after, "no node has this name", message, help);
        }
        let after: Vec<String> = if spec.after.is_empty() {
            names.iter().cloned().collect()
        } else {
            spec.after.into_iter().map(|it| it.value).collect()
        };
        let what = spec.what.into_iter().map(|it| it.value).collect();
        Delivery { to: spec.to.value, what, after }
    }
}

/// The nodes that no order can reach, because they wait for each other.
fn stuck(nodes: &NodeMap) -> Vec<&(Spanned<String>, NodeSpec)> {
    let names: BTreeSet<&str> = nodes.0.iter().map(|(it, _)| it.value.as_str()).collect();
    let mut placed: BTreeSet<&str> = BTreeSet::new();
    loop {
        let ready = nodes.0.iter().filter(|(name, node)| {
            let waits = |it: &Spanned<String>| {
                names.contains(it.value.as_str()) && !placed.contains(it.value.as_str())
            };
            !placed.contains(name.value.as_str()) && !node.after.iter().any(waits)
        });
        let ready: Vec<&str> = ready.map(|(it, _)| it.value.as_str()).collect();
        if ready.is_empty() {
            return nodes.0.iter().filter(|(it, _)| !placed.contains(it.value.as_str())).collect();
        }
        placed.extend(ready);
    }
}

/// Each node after the ones it reads from. There is no cycle: that was checked.
fn in_order(mut nodes: Vec<Node>) -> Vec<Node> {
    let mut ordered: Vec<Node> = Vec::new();
    while !nodes.is_empty() {
        let is_placed = |name: &String| ordered.iter().any(|it| it.name == *name);
        let at = nodes.iter().position(|it| it.after.iter().all(is_placed)).unwrap_or_default();
        ordered.push(nodes.remove(at));
    }
    ordered
}
