//! When a study is complete, and which workflows take it (DIN-50..54, HL7-40..44).
//!
//! [`Decision`] is pure: a study, the workflows and the time in, what to do out. It is asked whenever
//! something about a study changed, and when it asked to be.

use std::collections::BTreeSet;
use std::time::Duration;

use contracts::{
    MessageSnapshot, MessageStep, NewRun, NewTask, NodeRunner, OrderSnapshot, SeriesSnapshot,
    StoredInstance, StudySnapshot, StudyStep, WorkKind,
};
use domain::{Action, ErrorChain, Event, Subject};
use jiff::Timestamp;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tracing::error;
use uuid::Uuid;
use workflow::{
    Facts, Late, MessageFacts, OrderFacts, Overdue, Priority, Run, StudyFacts, StudyTrigger,
    Trigger,
};

use crate::drive::{Pins, begin_step};
use crate::orchestrator::{AFTER_FAILURE, ActiveWorkflow, Destinations, Orchestrator, POLL};

/// Series that machines derive from others: they neither start nor change a run.
const DERIVED: &[&str] = &["SEG", "SR", "PR", "KO", "DOC"];

/// What one workflow makes of a study.
enum Verdict {
    /// It runs now, and this is why.
    Start(String),
    /// It waits, at the latest until then.
    Wait(Option<Timestamp>, String),
    /// It does not run, and this is why.
    No(String),
    /// It does not run, and a person has to look.
    Person(&'static str, String),
    /// It has run, and nothing has changed since.
    Ran,
}

/// What decisions are made with.
pub struct Decision<'a> {
    /// What may run.
    pub workflows: &'a [ActiveWorkflow],
    /// Which plugins there are.
    pub runner: &'a dyn NodeRunner,
    /// Where reports may go.
    pub destinations: &'a Destinations,
    /// The time.
    pub now: Timestamp,
}

impl Orchestrator {
    /// Decides about studies and messages as they come.
    pub(crate) async fn assemble(&self) {
        loop {
            let studies = self.decide_next_study().await;
            let messages = self.decide_next_message().await;
            match (studies, messages) {
                (Ok(false), Ok(false)) => self.store.wait_for(WorkKind::Assembly, POLL / 2).await,
                (Ok(_), Ok(_)) => {}
                (Err(error), _) | (_, Err(error)) => {
                    error!(error = %ErrorChain(&error), "nothing can be decided");
                    tokio::time::sleep(AFTER_FAILURE).await;
                }
            }
        }
    }

    fn decision(&self, now: Timestamp) -> Decision<'_> {
        let (workflows, destinations) = (&self.workflows, &self.destinations);
        Decision { workflows, runner: self.runner.as_ref(), destinations, now }
    }

    async fn decide_next_study(&self) -> Result<bool, contracts::StoreError> {
        let decision = self.decision(Timestamp::now());
        let mut to_cancel = Vec::new();
        let cancelled = &mut to_cancel;
        let decide = Box::new(move |study: &StudySnapshot| {
            let (step, cancel) = decision.study(study);
            *cancelled = cancel;
            step
        });
        let found = self.store.decide_study(Timestamp::now(), decide).await?;
        for run in to_cancel {
            self.cancel(run, "the order was cancelled").await?;
        }
        Ok(found)
    }

    async fn decide_next_message(&self) -> Result<bool, contracts::StoreError> {
        let decision = self.decision(Timestamp::now());
        let decide = Box::new(move |message: &MessageSnapshot| decision.message(message));
        self.store.decide_message(decide).await
    }
}

impl Decision<'_> {
    /// Decides about a study: what to do, and which runs to cancel.
    pub fn study(&self, study: &StudySnapshot) -> (StudyStep, Vec<Uuid>) {
        let mut step = StudyStep { told: study.told.clone(), ..StudyStep::default() };
        let cancel = if is_cancelled(&study.orders) { running(study) } else { Vec::new() };
        if !cancel.is_empty() {
            // Until they have ended: the engine may die before it cancels them.
            step.look_again = self.now.checked_add(Duration::from_secs(5)).ok();
        }
        for active in self.workflows {
            let Trigger::Study(trigger) = &active.workflow.trigger else { continue };
            let verdict = self.verdict(study, active, trigger);
            self.carry_out(study, active, verdict, &mut step);
        }
        (step, cancel)
    }

    fn verdict(
        &self,
        study: &StudySnapshot,
        active: &ActiveWorkflow,
        trigger: &StudyTrigger,
    ) -> Verdict {
        if is_cancelled(&study.orders) {
            return Verdict::No("the order was cancelled".to_owned());
        }
        if let Some(conflict) = conflict(study) {
            return Verdict::Person("identity_conflict", conflict);
        }
        let inputs = inputs(&study.series);
        if inputs.is_empty() {
            return Verdict::Wait(None, "waits for images".to_owned());
        }
        let content = content_key(&inputs);
        let before: Vec<_> =
            study.runs.iter().filter(|it| it.workflow == active.reference.name).collect();
        if before.iter().any(|it| it.input_key.ends_with(&content)) {
            return Verdict::Ran;
        }
        if !before.is_empty() {
            return match trigger.late {
                Late::Ignore => Verdict::No("instances came late and are ignored".to_owned()),
                Late::Alert => {
                    let count: usize = study.series.iter().map(|it| it.instances.len()).sum();
                    let what = format!("instances came after the run; there are {count} now");
                    Verdict::Person("late_instances", what)
                }
            };
        }
        let facts = study_facts(study);
        match active.workflow.takes(&facts) {
            Ok(true) => self.completion(study, trigger),
            Ok(false) => {
                let text = trigger.when.as_ref().map(|it| it.text().to_owned());
                Verdict::No(format!("its condition does not hold: {}", text.unwrap_or_default()))
            }
            Err(error) => Verdict::Person("condition_failed", error.to_string()),
        }
    }

    /// Whether the evidence suffices (DIN-51).
    fn completion(&self, study: &StudySnapshot, trigger: &StudyTrigger) -> Verdict {
        let rule = &trigger.completion;
        let instances: usize = study.series.iter().map(|it| it.instances.len()).sum();
        let evidence = format!("{instances} instances in {} series", study.series.len());
        let quiet_at = after(study.last_received, rule.quiet);
        let has_order = !study.orders.is_empty();
        let is_quiet = quiet_at <= self.now;
        let lacks_order = rule.expects_order && !has_order;
        if is_quiet && !lacks_order {
            let by = study.orders.first().map(|it| format!(", order found by {}", it.matched_by));
            let quiet = rule.quiet.as_secs_f64();
            let reason = format!("quiet for {quiet} s: {evidence}{}", by.unwrap_or_default());
            return Verdict::Start(reason);
        }
        let deadline =
            rule.at_most.map(|(wait, then)| (after(study.first_received, wait), wait, then));
        if let Some((at, wait, then)) = deadline
            && at <= self.now
        {
            let lack = if lacks_order { "without an order" } else { "while instances still came" };
            let wait = wait.as_secs_f64();
            let reason = format!("the longest wait of {wait} s ran out {lack}: {evidence}");
            return match then {
                Overdue::Run => Verdict::Start(reason),
                Overdue::Hold => Verdict::Person("study_held", reason),
                Overdue::Fail => Verdict::Person("study_incomplete", reason),
            };
        }
        let next = match (is_quiet, deadline) {
            (false, Some((at, ..))) => Some(quiet_at.min(at)),
            (false, None) => Some(quiet_at),
            (true, deadline) => deadline.map(|(at, ..)| at),
        };
        let for_what = if is_quiet { "an order" } else { "more instances" };
        Verdict::Wait(next, format!("waits for {for_what}: {evidence}"))
    }

    fn carry_out(
        &self,
        study: &StudySnapshot,
        active: &ActiveWorkflow,
        verdict: Verdict,
        step: &mut StudyStep,
    ) {
        let name = active.reference.name.clone();
        let subject = Subject {
            patient: study.patient,
            study: Some(study.study.to_string()),
            accession: Some(study.accession.clone()).filter(|it| !it.is_empty()),
            ..Subject::default()
        };
        let is_told = |text: &String| study.told.get(&name) == Some(text);
        match verdict {
            Verdict::Start(reason) => {
                step.told.remove(&name);
                step.start.push(self.study_run(study, active, reason));
            }
            Verdict::Wait(next, text) => {
                step.look_again = [step.look_again, next].into_iter().flatten().min();
                step.told.insert(name, text);
            }
            Verdict::No(text) => {
                if !is_told(&text) {
                    step.events.push(not_started(&name, subject, &text));
                }
                step.told.insert(name, text);
            }
            Verdict::Person(kind, text) => {
                if !is_told(&text) {
                    step.events.push(not_started(&name, subject.clone(), &text));
                    let reason = format!("workflow {name}: {text}");
                    step.tasks.push(NewTask { kind: kind.to_owned(), subject, reason });
                }
                step.told.insert(name, text);
            }
            Verdict::Ran => {
                step.told.remove(&name);
            }
        }
    }

    fn study_run(&self, study: &StudySnapshot, active: &ActiveWorkflow, reason: String) -> NewRun {
        let facts = study_facts(study);
        let instances = inputs(&study.series);
        let subject = Subject {
            patient: study.patient,
            study: Some(study.study.to_string()),
            ..Subject::default()
        };

        NewRun {
            study: Some(study.study.clone()),
            patient: study.patient,
            input_key: input_key(active, &instances),
            instances,
            ..self.new_run(active, &facts, subject, reason)
        }
    }

    fn new_run(
        &self,
        active: &ActiveWorkflow,
        facts: &Facts,
        subject: Subject,
        reason: String,
    ) -> NewRun {
        let id = Uuid::now_v7();
        let (run, actions) = Run::begin(&active.workflow, facts);
        let pins = Pins { runner: self.runner, destinations: self.destinations };
        let subject = Subject { run: Some(id), ..subject };
        let step = begin_step(&active.workflow, &run, actions, &pins, &subject, self.now, facts);
        let priority = match active.workflow.urgency(facts) {
            Priority::Stat => 0,
            Priority::Routine => 10,
        };
        NewRun {
            id,
            workflow: active.reference.clone(),
            definition: active.text.clone(),
            patient: None,
            study: None,
            message: None,
            priority,
            input_key: String::new(),
            instances: Vec::new(),
            reason,
            step,
        }
    }

    /// Decides about a message.
    pub fn message(&self, message: &MessageSnapshot) -> MessageStep {
        let facts = message_facts(message);
        let mut step = MessageStep::default();
        for active in self.workflows {
            let Trigger::Message { kind, .. } = &active.workflow.trigger else { continue };
            let subject = Subject {
                patient: message.patient,
                message: Some(message.id),
                ..Subject::default()
            };
            match active.workflow.takes(&facts) {
                Ok(true) => {
                    let reason = format!("a message of type {kind} came");
                    step.start.push(NewRun {
                        message: Some(message.id),
                        patient: message.patient,
                        input_key: format!("{}:{}", definition_key(active), message.id.simple()),
                        ..self.new_run(active, &facts, subject, reason)
                    });
                }
                Ok(false) => {}
                Err(error) => {
                    let text = error.to_string();
                    step.events.push(not_started(&active.reference.name, subject, &text));
                }
            }
        }
        step
    }
}

fn not_started(workflow: &str, subject: Subject, reason: &str) -> Event {
    let detail = json!({"workflow": workflow, "reason": reason});
    Event::engine("workflow_not_started", Action::R, subject, detail)
}

fn after(start: Timestamp, wait: Duration) -> Timestamp {
    start.checked_add(wait).unwrap_or(Timestamp::MAX)
}

fn is_cancelled(orders: &[OrderSnapshot]) -> bool {
    !orders.is_empty() && orders.iter().all(|it| it.is_cancelled)
}

fn running(study: &StudySnapshot) -> Vec<Uuid> {
    study.runs.iter().filter(|it| !it.has_ended).map(|it| it.id).collect()
}

/// Whether images and order are of two patients (HL7-44).
fn conflict(study: &StudySnapshot) -> Option<String> {
    let of_order = |it: &OrderSnapshot| it.patient.zip(study.patient).is_some_and(|(a, b)| a != b);
    let order = study.orders.iter().find(|it| of_order(it))?;
    Some(format!(
        "images and order, which belong together by {}, are of two patients: nothing is sent",
        order.matched_by
    ))
}

/// The instances a run works on.
fn inputs(series: &[SeriesSnapshot]) -> Vec<StoredInstance> {
    let original = series.iter().filter(|it| !DERIVED.contains(&it.modality.as_str()));
    let mut instances: Vec<_> = original.flat_map(|it| it.instances.clone()).collect();
    instances.sort();
    instances
}

fn content_key(instances: &[StoredInstance]) -> String {
    let mut hasher = Sha256::new();
    for it in instances {
        hasher.update(it.instance.as_str());
        hasher.update([0]);
        hasher.update(&it.sha256);
        hasher.update([0]);
    }
    hex::encode(hasher.finalize())
}

/// The workflow with its settings: its digest covers both.
fn definition_key(active: &ActiveWorkflow) -> String {
    let text = format!("{}\u{1f}{}", active.reference.name, active.reference.digest);
    hex::encode(Sha256::digest(text))
}

/// Same key, same run (DIN-53).
fn input_key(active: &ActiveWorkflow, instances: &[StoredInstance]) -> String {
    format!("{}:{}", definition_key(active), content_key(instances))
}

fn study_facts(study: &StudySnapshot) -> Facts {
    let each = |of: fn(&SeriesSnapshot) -> &String| {
        let all: BTreeSet<&String> =
            study.series.iter().map(of).filter(|it| !it.is_empty()).collect();
        all.into_iter().cloned().collect()
    };
    let count = |it: usize| i64::try_from(it).unwrap_or(i64::MAX);
    let facts = StudyFacts {
        modalities: each(|it| &it.modality),
        body_parts: each(|it| &it.body_part),
        description: study.description.clone(),
        series_descriptions: each(|it| &it.description),
        series: count(study.series.len()),
        instances: count(study.series.iter().map(|it| it.instances.len()).sum()),
    };
    let order = study.orders.iter().find(|it| !it.is_cancelled).map(order_facts);
    Facts { study: facts, order: order.unwrap_or_default(), message: MessageFacts::default() }
}

fn order_facts(snapshot: &OrderSnapshot) -> OrderFacts {
    let order = &snapshot.order;
    let priority = match order.priority.as_str() {
        "S" | "STAT" => "STAT",
        "" | "R" | "ROUTINE" => "ROUTINE",
        other => other,
    };
    OrderFacts {
        exists: true,
        priority: priority.to_owned(),
        modality: order.modality.clone(),
        procedure_code: order.procedure_code.clone(),
        procedure: order.procedure.clone(),
    }
}

fn message_facts(message: &MessageSnapshot) -> Facts {
    let observations = &message.document.observations;
    let message = MessageFacts {
        kind: message.message_type.clone(),
        observations: i64::try_from(observations.len()).unwrap_or(i64::MAX),
        codes: observations.iter().map(|it| it.code.clone()).collect(),
    };
    Facts { message, ..Facts::default() }
}
