//! Proves that a workflow file can run, or says every reason why not.

use std::collections::BTreeSet;

use domain::OutputKind;
use serde_saphyr::Spanned;

use crate::condition::{Condition, ConditionError};
use crate::facts::{Facts, SeriesFacts};
use crate::problem::Problem;
use crate::spec::{
    AtMostSpec, DeliverySpec, EnoughSpec, ExpectSpec, ForEachSpec, JoinSpec, LateSpec, MessageSpec,
    NodeMap, NodeSpec, OnSpec, OverdueSpec, Spec, StudySpec,
};
use crate::workflow::{
    AT_MOST_DEFAULT, Completion, Delivery, Enough, Expect, ForEach, Join, Late, Node, Overdue,
    ROLES, Retry, SeriesRule, StudyTrigger, Surroundings, Trigger, Window, Work, Workflow,
    settings,
};

/// Most nodes of a workflow.
const NODES_MAX: usize = 200;

pub(crate) struct Checker<'a> {
    surroundings: &'a Surroundings<'a>,
    problems: Vec<Problem>,
    /// The nodes a delivery waits for that names none.
    sends: BTreeSet<String>,
}

impl<'a> Checker<'a> {
    pub(crate) const fn new(surroundings: &'a Surroundings<'a>) -> Self {
        Self { surroundings, problems: Vec::new(), sends: BTreeSet::new() }
    }

    pub(crate) fn workflow(mut self, spec: Spec) -> Result<Workflow, Vec<Problem>> {
        self.check_name(&spec.workflow);
        let trigger = self.trigger(&spec.workflow, spec.on);
        let priority = spec.priority.and_then(|it| self.priority(&it));
        let is_routing =
            !spec.deliver.is_empty() && spec.deliver.iter().flat_map(|it| &it.what).all(is_images);
        self.check_nodes(&spec.workflow, &spec.nodes, is_routing);
        // What only runs after a failure, or after everything, is waited for only by name.
        let is_usual = |it: &NodeSpec| !it.is_final && it.on_failure_of.is_empty();
        let usual = spec.nodes.0.iter().filter(|(_, it)| is_usual(it));
        self.sends = usual.map(|(it, _)| it.value.clone()).collect();
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
            at_most: spec.complete.at_most.map_or(AT_MOST_DEFAULT, overdue),
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
        let kinds = spec.kinds.value.list();
        for kind in &kinds {
            let is_type =
                |it: &str| it.len() == 3 && it.bytes().all(|it| it.is_ascii_alphanumeric());
            let is_sound = kind
                .split_once('^')
                .is_some_and(|(kind, event)| is_type(kind) && (event == "*" || is_type(event)));
            if !is_sound {
                let message = format!("`{kind}` is not a message type");
                let help =
                    "write type and event as `ORU^R01`, or `MDM^*` for every event of a type";
                self.add("workflow::message_type", &spec.kinds, "this", message, help);
            }
        }
        Trigger::Message { kinds, when: spec.when.and_then(|it| self.condition(&it, &[])) }
    }

    /// Reads a condition and tries it, so that a misspelt field shows now and not at night.
    fn condition(&mut self, text: &Spanned<String>, nodes: &[String]) -> Option<Condition> {
        self.expression(text, |it| it.holds(&Facts::sample_with(nodes)).map(|_| ()))
    }

    fn pick(&mut self, text: &Spanned<String>) -> Option<Condition> {
        let series = SeriesFacts::default();
        self.expression(text, |it| it.holds_for(&Facts::sample(), Some(&series)).map(|_| ()))
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
            let is_again = nodes.0.iter().take(index).any(|(it, _)| it.value == name.value);
            if is_again {
                let message = format!("two nodes are called `{}`", name.value);
                let help = "give each node its own name";
                self.add("workflow::duplicate_node", name, "and again here", message, help);
            }
            let leans = node.after.iter().chain(&node.on_failure_of);
            for after in leans.filter(|it| !names.contains(it.value.as_str())) {
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

    /// Keys that say nothing without others, or contradict them.
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
            let message = "a node with `finally` comes after everything else by itself";
            self.add(code, name, "this node", message, "remove `after` and `on_failure_of`");
        }
        if let Some(window) = &node.only_between
            && Window::parse(&window.value).is_none()
        {
            let message = format!("`{}` are no hours of a day", window.value);
            self.add(code, window, "here", message, "write them as `20:00-06:00`");
        }
    }

    /// A step is the work of a plugin or of a person.
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

    /// What only a plugin can be told; and that a role is one that tokens can have.
    fn check_review(&mut self, name: &Spanned<String>, role: &Spanned<String>, node: &NodeSpec) {
        let code = "workflow::shape";
        if !ROLES.contains(&role.value.as_str()) {
            let message = format!("nobody can have the role `{}`", role.value);
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

    /// A person signs what a run found, all of it: nothing may be found beside or after.
    fn check_reviews(&mut self, nodes: &NodeMap) {
        let mut reviews = nodes.0.iter().filter(|(_, it)| it.review.is_some());
        if let (Some(_), Some((second, _))) = (reviews.next(), reviews.next()) {
            let message = format!("`{}` is a second review", second.value);
            let help = "a result is signed once: let another workflow, or another person, begin where this ends";
            self.add("workflow::review", second, "this node", message, help);
        }
        let by_name = |wanted: &str| nodes.0.iter().find(|(it, _)| it.value == wanted);
        for (name, review) in nodes.0.iter().filter(|(_, it)| it.review.is_some()) {
            let mut before: BTreeSet<&str> = BTreeSet::new();
            let mut open: Vec<&NodeSpec> = vec![review];
            while let Some(node) = open.pop() {
                for after in &node.after {
                    if before.insert(after.value.as_str()) {
                        open.extend(by_name(&after.value).map(|(_, it)| it));
                    }
                }
            }
            let is_usual =
                |it: &NodeSpec| it.plugin.is_some() && !it.is_final && it.on_failure_of.is_empty();
            let beside = nodes
                .0
                .iter()
                .filter(|(it, node)| is_usual(node) && !before.contains(it.value.as_str()));
            for (other, _) in beside {
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
        let after: Vec<String> = spec.after.iter().map(|it| it.value.clone()).collect();
        let on_failure_of: Vec<String> =
            spec.on_failure_of.iter().map(|it| it.value.clone()).collect();
        let known: Vec<String> = after.iter().chain(&on_failure_of).cloned().collect();
        let work = match (&spec.plugin, &spec.review) {
            (None, Some(role)) => Work::Review { role: role.value.clone() },
            (plugin, _) => {
                let name = plugin.as_ref().map(|it| it.value.clone()).unwrap_or_default();
                Work::Plugin { name, settings: settings(&spec) }
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
        if !self.surroundings.destinations.contains_key(&spec.to.value) {
            let known: Vec<&str> =
                self.surroundings.destinations.keys().map(String::as_str).collect();
            let message = format!("there is no destination `{}`", spec.to.value);
            let help = format!("destinations of this site: {}", known.join(", "));
            let code = "workflow::unknown_destination";
            self.add(code, &spec.to, "not in the site file", message, help);
        }
        let mut what: Vec<OutputKind> =
            spec.what.iter().filter_map(|kind| self.output_kind(kind, &spec.to.value)).collect();
        what.sort_unstable();
        what.dedup();
        for after in spec.after.iter().filter(|it| !names.contains(&it.value)) {
            let message = format!("a delivery waits for `{}`, which does not exist", after.value);
            let help = "check the spelling under `after`";
            self.add("workflow::unknown_node", after, "no node has this name", message, help);
        }
        let after: Vec<String> = if spec.after.is_empty() {
            names.iter().filter(|it| self.sends.contains(*it)).cloned().collect()
        } else {
            spec.after.into_iter().map(|it| it.value).collect()
        };
        Delivery { to: spec.to.value, what, after }
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
        let takes = self.surroundings.destinations.get(destination);
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

/// The nodes that no order can reach, because they wait for each other.
fn stuck(nodes: &NodeMap) -> Vec<&(Spanned<String>, NodeSpec)> {
    let names: BTreeSet<&str> = nodes.0.iter().map(|(it, _)| it.value.as_str()).collect();
    let mut placed: BTreeSet<&str> = BTreeSet::new();
    loop {
        let ready = nodes.0.iter().filter(|(name, node)| {
            let waits = |it: &Spanned<String>| {
                names.contains(it.value.as_str()) && !placed.contains(it.value.as_str())
            };
            let mut leans = node.after.iter().chain(&node.on_failure_of);
            !placed.contains(name.value.as_str()) && !leans.any(waits)
        });
        let ready: Vec<&str> = ready.map(|(it, _)| it.value.as_str()).collect();
        if ready.is_empty() {
            return nodes.0.iter().filter(|(it, _)| !placed.contains(it.value.as_str())).collect();
        }
        placed.extend(ready);
    }
}

/// Each node after the ones it reads from, those that come finally last. There is no cycle: that
/// was checked.
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
