//! When a study is complete, and which workflows take it (DIN-50..54, HL7-40..44).
//!
//! [`Decision`] is pure: a study, the workflows and the time in, what to do out. It is asked whenever
//! something about a study changed, and when it asked to be.

use std::time::Duration;

use contracts::{
    MessageSnapshot, MessageStep, NewRun, NewTask, NodeRunner, OrderSnapshot, RunSnapshot,
    StudySnapshot, StudyStep, WorkKind,
};
use domain::{Action, Amended, ErrorChain, Event, Subject, TaskKind};
use jiff::Timestamp;
use serde_json::json;
use tracing::error;
use uuid::Uuid;
use workflow::{
    Completion, Facts, Late, Overdue, Priority, Run, SeriesItem, StudyTrigger, Trigger,
};

use crate::completion::{Completeness, after, completeness};
use crate::facts::{
    content_key, definition_key, input_key, inputs, message_facts, series_items, study_facts,
};
use crate::orchestrator::{AFTER_FAILURE, ActiveWorkflow, Destinations, Orchestrator, POLL};
use crate::step::{Pins, begin_step};

/// How what is told of a study begins that a workflow has given up.
const GIVEN_UP: &str = "given up";

/// What one workflow makes of a study.
enum Verdict {
    /// It runs now, and this is why; perhaps on more than an earlier run had.
    Start(String, Option<Amended>),
    /// It waits, at the latest until then.
    Wait(Option<Timestamp>, String),
    /// It does not run, and this is why.
    No(String),
    /// It does not run, and a person has to look; we look again then.
    Person(TaskKind, String, Option<Timestamp>),
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
            let messages = self.decide_next_messages().await;
            match (studies, messages) {
                (Ok(false), Ok(false)) => self.store.wait_for(WorkKind::Assembly, POLL / 5).await,
                (Ok(_), Ok(_)) => {}
                (Err(error), _) | (_, Err(error)) => {
                    error!(error = %ErrorChain(&error), "nothing can be decided");
                    tokio::time::sleep(AFTER_FAILURE).await;
                }
            }
        }
    }

    async fn decide_next_study(&self) -> Result<bool, contracts::StoreError> {
        let (workflows, destinations) = (self.workflows.get(), self.destinations.get());
        let now = Timestamp::now();
        let runner = self.runner.as_ref();
        let decision = Decision { workflows: &workflows, runner, destinations: &destinations, now };
        let mut to_cancel = Vec::new();
        let cancelled = &mut to_cancel;
        let decide = Box::new(move |study: &StudySnapshot| {
            let (step, cancel) = decision.study(study);
            *cancelled = cancel;
            step
        });
        let found = self.store.decide_study(now, decide).await?;
        for (run, reason) in to_cancel {
            self.cancel(run, reason).await?;
        }
        Ok(found)
    }

    async fn decide_next_messages(&self) -> Result<bool, contracts::StoreError> {
        let (workflows, destinations) = (self.workflows.get(), self.destinations.get());
        let now = Timestamp::now();
        let runner = self.runner.as_ref();
        let decision = Decision { workflows: &workflows, runner, destinations: &destinations, now };
        let decide = Box::new(move |message: &MessageSnapshot| decision.message(message));
        self.store.decide_messages(decide).await
    }
}

impl Decision<'_> {
    /// Decides about a study: what to do, and which runs to cancel, and why.
    pub fn study(&self, study: &StudySnapshot) -> (StudyStep, Vec<(Uuid, &'static str)>) {
        let mut step = StudyStep { told: study.told.clone(), ..StudyStep::default() };
        let mut cancel = Vec::new();
        if is_cancelled(&study.orders) {
            cancel.extend(running(study).map(|it| (it, "the order was cancelled")));
        }
        if !cancel.is_empty() {
            // Until they have ended: the engine may die before it cancels them.
            step.look_again = self.now.checked_add(Duration::from_secs(5)).ok();
        }
        for active in self.workflows {
            let Trigger::Study(trigger) = &active.workflow.trigger else { continue };
            let verdict = self.verdict(study, active, trigger);
            if let Verdict::Start(_, Some(amended)) = &verdict
                && amended.is_replaced
                && running(study).any(|it| it == amended.run)
            {
                cancel.push((amended.run, "replaced by a run on all instances"));
            }
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
        // What only passes images on concludes nothing: nothing stands between a modality and a PACS.
        let is_routing = active.workflow.nodes.is_empty();
        if is_cancelled(&study.orders) && !is_routing {
            return Verdict::No("the order was cancelled".to_owned());
        }
        if let Some(conflict) = conflict(study).filter(|_| !is_routing) {
            return Verdict::Person(TaskKind::IdentityConflict, conflict, None);
        }
        let inputs = inputs(&study.series);
        if inputs.is_empty() {
            return Verdict::Wait(None, "waits for images".to_owned());
        }
        let content = content_key(&inputs);
        let mut before = study.runs.iter().filter(|it| it.workflow == active.reference.name);
        if before.clone().any(|it| it.input_key.ends_with(&content)) {
            return Verdict::Ran;
        }
        let last = before.next_back();
        let is_replaced = match (last, trigger.late) {
            (None, _) | (_, Late::Amend) => false,
            (_, Late::Replace) => true,
            (_, Late::Ignore) => {
                return Verdict::No("instances came late and are ignored".to_owned());
            }
            (_, Late::Alert) => {
                let count: usize = study.series.iter().map(|it| it.instances.len()).sum();
                let what = format!("instances came after the run; there are {count} now");
                return Verdict::Person(TaskKind::LateInstances, what, None);
            }
        };
        let amends = last.map(|it| Amended { run: it.id, first: it.first, is_replaced });
        match active.workflow.takes(&study_facts(study)) {
            Ok(true) => {
                let since = |it: &RunSnapshot| it.first_later.unwrap_or(self.now);
                let rerun = last.map(since).zip(amends);
                self.completion(study, active, &trigger.completion, rerun)
            }
            Ok(false) => {
                let text = trigger.when.as_ref().map(|it| it.text().to_owned());
                Verdict::No(format!("its condition does not hold: {}", text.unwrap_or_default()))
            }
            Err(error) => Verdict::Person(TaskKind::ConditionFailed, error.to_string(), None),
        }
    }

    /// Whether the evidence suffices (DIN-51).
    fn completion(
        &self,
        study: &StudySnapshot,
        active: &ActiveWorkflow,
        rule: &Completion,
        rerun: Option<(Timestamp, Amended)>,
    ) -> Verdict {
        let (late_since, amends) = rerun.unzip();
        // Who gave up a study does not take it up again when more of it comes.
        let told = study.told.get(&active.reference.name);
        if let Some(text) = told.filter(|it| it.starts_with(GIVEN_UP)) {
            return Verdict::Person(TaskKind::StudyIncomplete, text.clone(), None);
        }
        match completeness(rule, study, late_since, self.now) {
            Completeness::Complete(reason) => Verdict::Start(reason, amends),
            Completeness::Waits { until, what } => Verdict::Wait(until, what),
            Completeness::Overdue { then, until, lack } => {
                let wait = rule.at_most.0.as_secs_f64();
                let text = format!("the longest wait of {wait} s ran out without {lack}");
                match then {
                    Overdue::Run => Verdict::Start(text, amends),
                    Overdue::Hold => Verdict::Person(TaskKind::StudyHeld, text, until),
                    Overdue::Fail => Verdict::Person(
                        TaskKind::StudyIncomplete,
                        format!("{GIVEN_UP}: {text}"),
                        None,
                    ),
                }
            }
        }
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
            Verdict::Start(reason, amends) => {
                step.told.remove(&name);
                step.start.push(self.study_run(study, active, reason, amends));
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
            Verdict::Person(kind, text, next) => {
                step.look_again = [step.look_again, next].into_iter().flatten().min();
                if !is_told(&text) {
                    step.events.push(not_started(&name, subject.clone(), &text));
                    let reason = format!("workflow {name}: {text}");
                    step.tasks.push(NewTask { kind, subject, reason });
                }
                step.told.insert(name, text);
            }
            Verdict::Ran => {
                step.told.remove(&name);
            }
        }
    }

    fn study_run(
        &self,
        study: &StudySnapshot,
        active: &ActiveWorkflow,
        reason: String,
        amends: Option<Amended>,
    ) -> NewRun {
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
            amends,
            ..self.new_run(active, &facts, &series_items(&study.series), subject, reason)
        }
    }

    fn new_run(
        &self,
        active: &ActiveWorkflow,
        facts: &Facts,
        series: &[SeriesItem],
        subject: Subject,
        reason: String,
    ) -> NewRun {
        let id = Uuid::now_v7();
        let (run, actions) = Run::begin(&active.workflow, facts, series);
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
            amends: None,
            due: active.workflow.sla.map(|it| after(self.now, it)),
            step,
        }
    }

    /// Decides about a message.
    pub fn message(&self, message: &MessageSnapshot) -> MessageStep {
        let facts = message_facts(message);
        let mut step = MessageStep::default();
        for active in self.workflows {
            if matches!(active.workflow.trigger, Trigger::Study(_)) {
                continue;
            }
            let subject = Subject {
                patient: message.patient,
                message: Some(message.id),
                ..Subject::default()
            };
            match active.workflow.takes(&facts) {
                Ok(true) => {
                    let reason = format!("a message of type {} came", message.message_type);
                    step.start.push(NewRun {
                        message: Some(message.id),
                        patient: message.patient,
                        input_key: format!("{}:{}", definition_key(active), message.id.simple()),
                        ..self.new_run(active, &facts, &[], subject, reason)
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

fn is_cancelled(orders: &[OrderSnapshot]) -> bool {
    !orders.is_empty() && orders.iter().all(|it| it.is_cancelled)
}

fn running(study: &StudySnapshot) -> impl Iterator<Item = Uuid> {
    study.runs.iter().filter(|it| !it.has_ended).map(|it| it.id)
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

#[cfg(test)]
mod tests;
