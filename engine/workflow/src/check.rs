//! Proves that a workflow file can run, or reports every reason why not.

use std::collections::{BTreeMap, BTreeSet};

use domain::OutputKind;
use serde_json::Value;
use serde_saphyr::Spanned;

use crate::condition::{Condition, ConditionError};
use crate::facts::{Facts, SeriesFacts};
use crate::message_type::MessageTypePattern;
use crate::problem::WorkflowProblem;
use crate::spec::{
    AtMostSpec, DeliverySpec, EnoughSpec, ExpectSpec, ForEachSpec, JoinSpec, LateSpec, MessageSpec,
    NodeMap, NodeSpec, OnSpec, OverdueSpec, Spec, StudySpec,
};
use crate::workflow::{
    Completion, Delivery, Enough, Expect, ForEach, Join, Late, Node, Overdue, ROLES, Retry,
    SeriesRule, StudyTrigger, Trigger, WAIT_LIMIT_DEFAULT, WaitLimit, Window, Work, Workflow,
};

/// What a workflow file is checked against: the plugins and destinations of a site.
pub struct CheckContext<'a> {
    /// Plugins that are loaded.
    pub plugins: &'a BTreeSet<String>,
    /// Destinations, and which kinds of output each takes.
    pub destinations: &'a BTreeMap<String, Vec<OutputKind>>,
    /// Asks a plugin, by its name, what is wrong with settings for it. `None`, if nothing is.
    pub check_settings: &'a dyn Fn(&str, &Value) -> Option<String>,
}

/// Largest number of nodes of a workflow.
const NODES_MAX: usize = 200;

/// Checks one file, and collects its problems.
pub(crate) struct Checker<'a> {
    context: &'a CheckContext<'a>,
    problems: Vec<WorkflowProblem>,
    /// The nodes that a delivery without `after` waits for.
    awaited_by_default: BTreeSet<String>,
}

impl<'a> Checker<'a> {
    pub(crate) const fn new(context: &'a CheckContext<'a>) -> Self {
        Self { context, problems: Vec::new(), awaited_by_default: BTreeSet::new() }
    }

    /// The workflow of a file.
    ///
    /// # Errors
    ///
    /// Fails with every problem that was found.
    pub(crate) fn workflow(mut self, spec: Spec) -> Result<Workflow, Vec<WorkflowProblem>> {
        self.check_name(&spec.workflow);
        let trigger = self.trigger(&spec.workflow, spec.on);
        let priority = spec.priority.and_then(|it| self.priority(&it));
        let is_routing =
            !spec.deliver.is_empty() && spec.deliver.iter().flat_map(|it| &it.what).all(is_images);
        self.check_nodes(&spec.workflow, &spec.nodes, is_routing);
        let regular = spec.nodes.0.iter().filter(|(_, node)| is_regular(node));
        self.awaited_by_default = regular.map(|(name, _)| name.value.clone()).collect();
        let names: BTreeSet<String> = spec.nodes.0.iter().map(|(it, _)| it.value.clone()).collect();
        let deliveries = spec.deliver.into_iter().map(|it| self.delivery(it, &names)).collect();
        let nodes: Vec<Node> =
            spec.nodes.0.into_iter().map(|(name, it)| self.node(name, it)).collect();
        match (trigger, self.problems.is_empty()) {
            (Some(trigger), true) => Ok(Workflow {
                name: spec.workflow.value,
                description: spec.description,
                trigger,
                sla: spec.sla,
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
        self.problems.push(WorkflowProblem::new(code, at, label, message, help));
    }

    fn check_name(&mut self, name: &Spanned<String>) {
        let text = &name.value;
        if text.is_empty() || text.len() > 64 || !text.chars().all(is_name_character) {
            let message = format!("`{text}` is not a name for a workflow");
            let help = "use small letters, digits and dashes, at most 64";
            self.add("workflow::bad_name", name, "this name", message, help);
        }
    }

    fn trigger(&mut self, name: &Spanned<String>, on: OnSpec) -> Option<Trigger> {
        match (on.study, on.message, on.document) {
            (Some(study), None, None) => Some(Trigger::Study(self.study(name, study.value))),
            (None, Some(message), None) => Some(self.message(message.value)),
            (None, None, Some(document)) => {
                let when = document.value.when.and_then(|it| self.condition(&it, &[]));
                Some(Trigger::Document { when })
            }
            _ => {
                let help = "write one of `on: { study: … }`, `{ message: … }`, `{ document: … }`";
                let message = "a workflow needs exactly one trigger";
                self.add("workflow::trigger", name, "of this workflow", message, help);
                None
            }
        }
    }

    fn study(&mut self, name: &Spanned<String>, spec: StudySpec) -> StudyTrigger {
        let completion = Completion {
            quiet: spec.complete.quiet,
            at_most: spec.complete.at_most.map_or(WAIT_LIMIT_DEFAULT, wait_limit),
            expect: spec.complete.expect.into_iter().map(expected).collect(),
            enough: spec.complete.enough.into_iter().map(enough).collect(),
        };
        if completion.enough.contains(&Enough::Expected) && completion.expect.is_empty() {
            let message = "`enough: [expected]` needs something under `expect`";
            let help = "name what must be there: an order, a number of instances, series";
            self.add("workflow::nothing_expected", name, "of this workflow", message, help);
        }
        let late = match spec.late {
            LateSpec::Ignore => Late::Ignore,
            LateSpec::Alert => Late::Alert,
            LateSpec::Amend => Late::Amend,
            LateSpec::Replace => Late::Replace,
        };
        StudyTrigger { when: spec.when.and_then(|it| self.condition(&it, &[])), completion, late }
    }

    fn message(&mut self, spec: MessageSpec) -> Trigger {
        let mut types = Vec::new();
        for text in spec.types.value.list() {
            let Some(pattern) = MessageTypePattern::parse(&text) else {
                let message = format!("`{text}` is not a message type");
                let help =
                    "write type and event as `ORU^R01`, or `MDM^*` for every event of a type";
                self.add("workflow::message_type", &spec.types, "this", message, help);
                continue;
            };
            types.push(pattern);
        }
        Trigger::Message { types, when: spec.when.and_then(|it| self.condition(&it, &[])) }
    }

    /// Reads a condition and evaluates it once, so that a misspelt field shows when the file is checked.
    fn condition(&mut self, text: &Spanned<String>, nodes: &[String]) -> Option<Condition> {
        self.expression(text, |it| it.holds(&Facts::sample_with(nodes)).map(|_| ()))
    }

    /// Reads the condition under `where`.
    fn pick(&mut self, text: &Spanned<String>) -> Option<Condition> {
        let series = SeriesFacts::default();
        self.expression(text, |it| it.holds_for(&Facts::sample(), Some(&series)).map(|_| ()))
    }

    /// Reads a priority: one of the two, or an expression that gives one.
    fn priority(&mut self, text: &Spanned<String>) -> Option<Condition> {
        let is_constant = is_priority(&text.value);
        let value = if is_constant { format!("\"{}\"", text.value) } else { text.value.clone() };
        let text = Spanned::new(value, text.referenced, text.defined);
        self.expression(&text, |it| {
            let given = it.text_of(&Facts::sample())?;
            if is_priority(&given) {
                return Ok(());
            }
            Err(ConditionError::WrongType { expected: "`stat` or `routine`", found: given })
        })
    }

    fn expression(
        &mut self,
        text: &Spanned<String>,
        evaluate: impl Fn(&Condition) -> Result<(), ConditionError>,
    ) -> Option<Condition> {
        let parsed = Condition::parse(&text.value);
        match parsed.and_then(|condition| evaluate(&condition).map(|()| condition)) {
            Ok(condition) => Some(condition),
            Err(error) => {
                let help = "conditions are CEL over `study`, `order` and `message`, those of nodes also over \
                    `nodes` they come after; see workflows/README.md for the fields";
                self.add("workflow::condition", text, "this expression", error.to_string(), help);
                None
            }
        }
    }

    fn check_nodes(&mut self, workflow: &Spanned<String>, nodes: &NodeMap, is_routing: bool) {
        let names: BTreeSet<&str> = nodes.0.iter().map(|(it, _)| it.value.as_str()).collect();
        if nodes.0.is_empty() && !is_routing || nodes.0.len() > NODES_MAX {
            let message = format!(
                "a workflow has from one to {NODES_MAX} nodes, or sends nothing but `images`"
            );
            self.add("workflow::nodes", workflow, "of this workflow", message, "");
        }
        for (index, (name, node)) in nodes.0.iter().enumerate() {
            let is_duplicate = nodes.0.iter().take(index).any(|(it, _)| it.value == name.value);
            if is_duplicate {
                let message = format!("two nodes are called `{}`", name.value);
                let help = "give each node its own name";
                self.add("workflow::duplicate_node", name, "and again here", message, help);
            }
            for after in predecessors(node).filter(|it| !names.contains(it.value.as_str())) {
                let message = format!(
                    "node `{}` comes after `{}`, which does not exist",
                    name.value, after.value
                );
                let help = "check the spelling under `after`";
                self.add("workflow::unknown_node", after, "no node has this name", message, help);
            }
            self.check_work(name, node);
            self.check_shape(name, node);
        }
        self.check_reviews(nodes);
        for (name, _) in stuck(nodes) {
            let message = format!("node `{}` waits for itself, in a circle", name.value);
            let help = "break the circle by removing one `after`";
            self.add("workflow::cycle", name, "can never start", message, help);
        }
    }

    /// Keys that have no effect without others, or contradict them.
    fn check_shape(&mut self, name: &Spanned<String>, node: &NodeSpec) {
        let code = "workflow::shape";
        if name.value.is_empty() || name.value.contains(['.', ' ']) {
            let message = format!("`{}` is not a name for a node", name.value);
            let help = "use letters, digits, dashes and underscores";
            self.add(code, name, "this name", message, help);
        }
        if let Some(pick) = node.pick.as_ref().filter(|_| node.for_each.is_none()) {
            let help = "add `for_each: series` or `for_each: instance`";
            self.add(code, pick, "here", "`where` picks among what `for_each` names", help);
        }
        if node.is_final && !(node.after.is_empty() && node.on_failure_of.is_empty()) {
            let message = "a node with `finally` comes after everything else already";
            self.add(code, name, "this node", message, "remove `after` and `on_failure_of`");
        }
        if let Some(window) = &node.only_between
            && Window::parse(&window.value).is_none()
        {
            let message = format!("`{}` are no hours of a day", window.value);
            self.add(code, window, "here", message, "write them as `20:00-06:00`");
        }
    }

    /// A node is the work of a plugin or of a person.
    fn check_work(&mut self, name: &Spanned<String>, node: &NodeSpec) {
        let code = "workflow::shape";
        match (&node.plugin, &node.review) {
            (Some(plugin), None) => self.check_plugin(plugin, node),
            (None, Some(review)) => self.check_review(name, review, node),
            _ => {
                let message = format!("node `{}` needs `plugin` or `review`, not both", name.value);
                self.add(code, name, "this node", message, "name who does the work");
            }
        }
    }

    /// The role is one that tokens can have, and no key is given that only plugins have.
    fn check_review(&mut self, name: &Spanned<String>, role: &Spanned<String>, node: &NodeSpec) {
        let code = "workflow::shape";
        if !ROLES.contains(&role.value.as_str()) {
            let message = format!("there is no role `{}`", role.value);
            self.add(code, role, "this", message, format!("one of: {}", ROLES.join(", ")));
        }
        let is_odd = node.with.is_some()
            || node.for_each.is_some()
            || node.is_final
            || node.only_between.is_some()
            || !node.on_failure_of.is_empty();
        if is_odd {
            let message = "a review has `after`, `join`, `when` and `sla`, and nothing else";
            self.add(code, name, "this node", message, "remove the other keys");
        }
    }

    /// A person signs all findings of a run: no plugin may find anything beside or after the review.
    fn check_reviews(&mut self, nodes: &NodeMap) {
        let mut reviews = nodes.0.iter().filter(|(_, it)| it.review.is_some());
        if let (Some(_), Some((second, _))) = (reviews.next(), reviews.next()) {
            let message = format!("`{}` is a second review", second.value);
            let help = "a result is signed once: let another workflow, or another person, begin where this ends";
            self.add("workflow::review", second, "this node", message, help);
        }
        for (name, review) in nodes.0.iter().filter(|(_, it)| it.review.is_some()) {
            let before = all_before(review, nodes);
            for (other, node) in &nodes.0 {
                let is_plugin = node.plugin.is_some() && is_regular(node);
                if !is_plugin || before.contains(other.value.as_str()) {
                    continue;
                }
                let message = format!(
                    "`{}` is not seen in the review `{}`: it would be found and never signed",
                    other.value, name.value
                );
                let help = format!("let `{}` come after `{}`", name.value, other.value);
                self.add("workflow::review", other, "this node", message, help);
            }
        }
    }

    fn check_plugin(&mut self, plugin: &Spanned<String>, node: &NodeSpec) {
        if !self.context.plugins.contains(&plugin.value) {
            let loaded: Vec<&str> = self.context.plugins.iter().map(String::as_str).collect();
            let help = format!("loaded: {}", loaded.join(", "));
            let message = format!("no plugin provides `{}`", plugin.value);
            self.add("workflow::unknown_plugin", plugin, "not loaded", message, help);
            return;
        }
        if let Some(reason) = (self.context.check_settings)(&plugin.value, &node.settings()) {
            let message = format!("`{}` does not take these settings: {reason}", plugin.value);
            let help = "the plugin's documentation lists its settings";
            match &node.with {
                Some(with) => self.add("workflow::settings", with, "here", message, help),
                None => self.add("workflow::settings", plugin, "has no `with:`", message, help),
            }
        }
    }

    /// The node of a spec; its names were checked before.
    fn node(&mut self, name: Spanned<String>, spec: NodeSpec) -> Node {
        if spec.retry.attempts == 0 || spec.retry.attempts > 100 {
            let message = "a node is attempted from one to a hundred times";
            self.add("workflow::retry", &name, "this node", message, "");
        }
        let after: Vec<String> = spec.after.iter().map(|it| it.value.clone()).collect();
        let on_failure_of: Vec<String> =
            spec.on_failure_of.iter().map(|it| it.value.clone()).collect();
        let known: Vec<String> = after.iter().chain(&on_failure_of).cloned().collect();
        let work = match (&spec.plugin, &spec.review) {
            (None, Some(role)) => Work::Review { role: role.value.clone() },
            (plugin, _) => {
                let name = plugin.as_ref().map(|it| it.value.clone()).unwrap_or_default();
                Work::Plugin { name, settings: spec.settings() }
            }
        };
        Node {
            work,
            name: name.value,
            after,
            join: match spec.join {
                JoinSpec::All => Join::All,
                JoinSpec::Any => Join::Any,
            },
            for_each: spec.for_each.map(|it| match it {
                ForEachSpec::Series => ForEach::Series,
                ForEachSpec::Instance => ForEach::Instance,
            }),
            pick: spec.pick.and_then(|it| self.pick(&it)),
            on_failure_of,
            is_final: spec.is_final,
            sla: spec.sla,
            window: spec.only_between.and_then(|it| Window::parse(&it.value)),
            when: spec.when.and_then(|it| self.condition(&it, &known)),
            retry: Retry { attempts: spec.retry.attempts, backoff: spec.retry.backoff },
            timeout: spec.timeout,
        }
    }

    fn delivery(&mut self, spec: DeliverySpec, names: &BTreeSet<String>) -> Delivery {
        if !self.context.destinations.contains_key(&spec.to.value) {
            let known: Vec<&str> = self.context.destinations.keys().map(String::as_str).collect();
            let message = format!("there is no destination `{}`", spec.to.value);
            let help = format!("destinations of this site: {}", known.join(", "));
            let code = "workflow::unknown_destination";
            self.add(code, &spec.to, "not in the site file", message, help);
        }
        let mut what: Vec<OutputKind> =
            spec.what.iter().filter_map(|kind| self.output_kind(kind, &spec.to.value)).collect();
        if let Some(key) = spec.has_reasoning.filter(|it| it.value) {
            self.check_reasoning(&key, &what);
            what.push(OutputKind::Reasoning);
        }
        what.sort_unstable();
        what.dedup();
        for after in spec.after.iter().filter(|it| !names.contains(&it.value)) {
            let message = format!("a delivery waits for `{}`, which does not exist", after.value);
            let help = "check the spelling under `after`";
            self.add("workflow::unknown_node", after, "no node has this name", message, help);
        }
        let after: Vec<String> = if spec.after.is_empty() {
            names.iter().filter(|it| self.awaited_by_default.contains(*it)).cloned().collect()
        } else {
            spec.after.into_iter().map(|it| it.value).collect()
        };
        Delivery { to: spec.to.value, what, after }
    }

    /// The reasoning of the model goes with another output, or in it (OUT-41).
    fn check_reasoning(&mut self, key: &Spanned<bool>, what: &[OutputKind]) {
        if what.iter().any(|kind| kind.may_have_reasoning()) {
            return;
        }
        let may_have = OutputKind::requestable().filter(|kind| kind.may_have_reasoning());
        let message = "nothing of this delivery can have the reasoning of the model";
        let help = format!("send one of {} with it", names(may_have));
        self.add("workflow::no_place_for_reasoning", key, "this", message, help);
    }

    /// The kind that a delivery to `destination` names, if there is such a kind.
    fn output_kind(&mut self, name: &Spanned<String>, destination: &str) -> Option<OutputKind> {
        let kind = OutputKind::parse(&name.value).filter(|kind| kind.is_requestable());
        let Some(kind) = kind else {
            let message = format!("`{}` is nothing that can be sent", name.value);
            let help = format!("one of: {}", names(OutputKind::requestable()));
            self.add("workflow::unknown_kind", name, "this", message, help);
            return None;
        };
        let takes = self.context.destinations.get(destination);
        if let Some(takes) = takes.filter(|takes| !takes.contains(&kind)) {
            let message = format!("`{destination}` does not take `{}`", name.value);
            let help = format!("`{destination}` can take {}", names(takes.iter().copied()));
            self.add("workflow::kind_not_taken", name, "this", message, help);
        }
        Some(kind)
    }
}

fn is_images(kind: &Spanned<String>) -> bool {
    OutputKind::parse(&kind.value) == Some(OutputKind::Images)
}

fn names(kinds: impl Iterator<Item = OutputKind>) -> String {
    kinds.map(OutputKind::name).collect::<Vec<_>>().join(", ")
}

/// A node that runs in any case: not only after a failure, and not after everything else.
const fn is_regular(node: &NodeSpec) -> bool {
    !node.is_final && node.on_failure_of.is_empty()
}

const fn is_name_character(character: char) -> bool {
    character.is_ascii_lowercase() || character.is_ascii_digit() || character == '-'
}

fn is_priority(text: &str) -> bool {
    matches!(text, "stat" | "routine")
}

/// The nodes that a node names as coming before it.
fn predecessors(node: &NodeSpec) -> impl Iterator<Item = &Spanned<String>> {
    node.after.iter().chain(&node.on_failure_of)
}

/// The names of all nodes that come before a node under `after`, directly or not.
fn all_before<'a>(node: &'a NodeSpec, nodes: &'a NodeMap) -> BTreeSet<&'a str> {
    let mut before = BTreeSet::new();
    let mut pending: Vec<&NodeSpec> = vec![node];
    while let Some(node) = pending.pop() {
        for after in &node.after {
            if before.insert(after.value.as_str()) {
                let found = nodes.0.iter().find(|(name, _)| name.value == after.value);
                pending.extend(found.map(|(_, node)| node));
            }
        }
    }
    before
}

fn wait_limit(spec: AtMostSpec) -> WaitLimit {
    let then = match spec.then {
        OverdueSpec::Run => Overdue::Run,
        OverdueSpec::Hold => Overdue::Hold,
        OverdueSpec::Fail => Overdue::Fail,
    };
    WaitLimit { after: spec.after, then }
}

fn expected(spec: ExpectSpec) -> Expect {
    match spec {
        ExpectSpec::Order => Expect::Order,
        ExpectSpec::ExamComplete => Expect::ExamComplete,
        ExpectSpec::Commitment => Expect::Commitment,
        ExpectSpec::Instances(count) => Expect::Instances(count),
        ExpectSpec::Series(rule) => Expect::Series(SeriesRule {
            modality: rule.modality,
            body_part: rule.body_part,
            description: rule.description.map(|it| it.to_lowercase()),
            count: rule.count.unwrap_or(1),
            instances: rule.instances.unwrap_or(1),
        }),
    }
}

fn enough(spec: EnoughSpec) -> Enough {
    match spec {
        EnoughSpec::Commitment => Enough::Commitment,
        EnoughSpec::ExamComplete => Enough::ExamComplete,
        EnoughSpec::Expected => Enough::Expected,
        EnoughSpec::Association(wait) => Enough::Association(wait),
    }
}

/// The nodes that can never open, because they wait for each other.
fn stuck(nodes: &NodeMap) -> Vec<&(Spanned<String>, NodeSpec)> {
    let names: BTreeSet<&str> = nodes.0.iter().map(|(it, _)| it.value.as_str()).collect();
    let mut placed: BTreeSet<&str> = BTreeSet::new();
    loop {
        let mut ready = Vec::new();
        for (name, node) in &nodes.0 {
            let name = name.value.as_str();
            let mut known = predecessors(node).filter(|it| names.contains(it.value.as_str()));
            if !placed.contains(name) && known.all(|it| placed.contains(it.value.as_str())) {
                ready.push(name);
            }
        }
        if ready.is_empty() {
            return nodes.0.iter().filter(|(it, _)| !placed.contains(it.value.as_str())).collect();
        }
        placed.extend(ready);
    }
}

/// The nodes in an order in which each comes after its predecessors, with those under `finally` last.
/// There is no cycle: that was checked.
fn in_order(mut nodes: Vec<Node>) -> Vec<Node> {
    nodes.sort_by_key(|it| it.is_final);
    let mut ordered: Vec<Node> = Vec::new();
    while !nodes.is_empty() {
        let is_placed = |name: &String| ordered.iter().any(|it| it.name == *name);
        let at =
            nodes.iter().position(|it| it.after.iter().chain(&it.on_failure_of).all(is_placed));
        let at = at.unwrap_or_default();
        ordered.push(nodes.remove(at));
    }
    ordered
}
