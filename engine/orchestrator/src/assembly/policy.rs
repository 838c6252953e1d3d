//! Which workflows a study or message starts, and why not. Reads and writes nothing.
//!
//! A [`Verdict`] is what one workflow makes of one study. Verdicts that are not a start are stored
//! with the study ([`WorkflowStanding`]), so that a person can ask why nothing happens, and so
//! that each is recorded and escalated once.

use std::time::Duration;

use contracts::{
    InputKey, MessageSnapshot, MessageStep, NewRun, NewTask, NodeRunner, OrderSnapshot,
    StudySnapshot, StudyStep, WorkflowStanding,
};
use domain::event::WorkflowNotStarted;
use domain::{Amended, Event, Subject, TaskKind};
use jiff::Timestamp;
use uuid::Uuid;
use workflow::{
    Completion, Facts, Late, Overdue, Priority, Run, SeriesItem, StudyTrigger, Trigger,
};

use super::completeness::{Completeness, completeness};
use super::facts::{
    content_digest, definition_digest, inputs, message_facts, series_items, study_facts,
};
use super::later_results::{self, Cancellation};
use super::subject::{message_subject, study_subject};
use crate::configuration::{ActiveWorkflow, Destinations};
use crate::run::step::{StepContext, first_step};
use crate::timing::after;

/// When a study with runs to cancel is looked at again. The engine may die before it cancels them.
const CANCELLATION_CHECK: Duration = Duration::from_secs(5);

/// What one workflow makes of a study.
enum Verdict {
    /// The workflow starts now.
    Start {
        /// Why now.
        reason: String,
        /// The earlier run that the new one adds to or replaces.
        amends: Option<Amended>,
    },
    /// It waits for more of the study.
    Wait {
        /// When to look again, if nothing arrives before.
        until: Option<Timestamp>,
        /// What it waits for.
        reason: String,
    },
    /// It does not start.
    Decline {
        /// Why not.
        reason: String,
    },
    /// It does not start, and a person has to look.
    Escalate(Escalation),
    /// It ran on exactly these instances before.
    UpToDate,
}

/// Why a person has to look at a study.
struct Escalation {
    /// The kind of the task.
    kind: TaskKind,
    /// What happened.
    reason: String,
    /// When to look at the study again.
    look_again: Option<Timestamp>,
    /// Whether the workflow never starts on this study, whatever arrives later.
    is_abandoned: bool,
}

impl Escalation {
    fn new(kind: TaskKind, reason: String) -> Self {
        Self { kind, reason, look_again: None, is_abandoned: false }
    }
}

/// An earlier run of a workflow on the same study, which a new run adds to or replaces.
struct EarlierRun {
    amended: Amended,
    /// When the first instance arrived after it had begun.
    late_since: Timestamp,
}

/// What is decided about a study.
pub(crate) struct StudyDecision {
    /// The rows and events to store.
    pub(crate) step: StudyStep,
    /// The runs to cancel afterwards.
    pub(crate) cancellations: Vec<Cancellation>,
}

/// What is decided about a message.
pub(crate) struct MessageDecision {
    /// The rows and events to store.
    pub(crate) step: MessageStep,
    /// The runs to cancel afterwards.
    pub(crate) cancellations: Vec<Cancellation>,
}

/// Everything that decisions depend on besides the study or message itself.
pub(crate) struct AssemblyPolicy<'a> {
    /// The workflows that may start.
    pub(crate) workflows: &'a [ActiveWorkflow],
    /// Names the plugin libraries that a new run will use.
    pub(crate) runner: &'a dyn NodeRunner,
    /// Where reports may be sent.
    pub(crate) destinations: &'a Destinations,
    /// The time of the decision.
    pub(crate) now: Timestamp,
}

impl AssemblyPolicy<'_> {
    /// Decides about a study: runs to start, runs to cancel, or why there are none.
    pub(crate) fn decide_study(&self, study: &StudySnapshot) -> StudyDecision {
        let standings = study.standings.clone();
        let mut step = StudyStep { standings, ..StudyStep::default() };
        let mut cancellations = Vec::new();
        if is_cancelled(&study.orders) {
            let reason = "the order was cancelled";
            cancellations.extend(runs_in_progress(study).map(|run| Cancellation { run, reason }));
        }
        if !cancellations.is_empty() {
            step.look_again = Some(after(self.now, CANCELLATION_CHECK));
        }
        for active in self.workflows {
            let Trigger::Study(trigger) = &active.workflow.trigger else { continue };
            let verdict = self.verdict(study, active, trigger);
            if let Verdict::Start { amends: Some(amended), .. } = &verdict
                && amended.is_replaced
                && runs_in_progress(study).any(|it| it == amended.run)
            {
                let reason = "replaced by a run on all instances";
                cancellations.push(Cancellation { run: amended.run, reason });
            }
            self.carry_out(study, active, verdict, &mut step);
        }
        StudyDecision { step, cancellations }
    }

    fn verdict(
        &self,
        study: &StudySnapshot,
        active: &ActiveWorkflow,
        trigger: &StudyTrigger,
    ) -> Verdict {
        // A workflow without nodes only forwards images and concludes nothing: neither a cancelled
        // order nor a conflict stands between a modality and a PACS.
        let is_routing = active.workflow.nodes.is_empty();
        if is_cancelled(&study.orders) && !is_routing {
            return Verdict::Decline { reason: "the order was cancelled".to_owned() };
        }
        if let Some(reason) = identity_conflict(study).filter(|_| !is_routing) {
            return Verdict::Escalate(Escalation::new(TaskKind::IdentityConflict, reason));
        }
        let inputs = inputs(&study.series);
        if inputs.is_empty() {
            return Verdict::Wait { until: None, reason: "waits for images".to_owned() };
        }
        let content = content_digest(&inputs);
        let mut earlier = study.runs.iter().filter(|it| it.workflow == active.reference.name);
        if earlier.clone().any(|it| it.input_key.content == content) {
            return Verdict::UpToDate;
        }
        let is_signed = earlier.clone().any(|it| it.is_signed);
        let earlier = match earlier.next_back() {
            None => None,
            Some(last) => {
                let is_replaced = match trigger.late {
                    Late::Amend => false,
                    Late::Replace => true,
                    Late::Ignore => {
                        let reason = "instances arrived late and are ignored".to_owned();
                        return Verdict::Decline { reason };
                    }
                    Late::Alert => {
                        let count = instance_count(study);
                        let reason =
                            format!("instances arrived after the run; there are {count} now");
                        return Verdict::Escalate(Escalation::new(TaskKind::LateInstances, reason));
                    }
                };
                if is_signed && !active.workflow.has_review() {
                    return Verdict::Escalate(unsignable(study));
                }
                Some(EarlierRun {
                    amended: Amended { run: last.id, first: last.first, is_replaced },
                    late_since: last.first_later.unwrap_or(self.now),
                })
            }
        };
        match active.workflow.takes(&study_facts(study)) {
            Ok(true) => self.weigh_evidence(study, active, &trigger.completion, earlier),
            Ok(false) => {
                let condition =
                    trigger.when.as_ref().map(workflow::Condition::text).unwrap_or_default();
                Verdict::Decline { reason: format!("its condition does not hold: {condition}") }
            }
            Err(error) => {
                Verdict::Escalate(Escalation::new(TaskKind::ConditionFailed, error.to_string()))
            }
        }
    }

    /// Whether the study is complete enough to start (DIN-51).
    fn weigh_evidence(
        &self,
        study: &StudySnapshot,
        active: &ActiveWorkflow,
        rule: &Completion,
        earlier: Option<EarlierRun>,
    ) -> Verdict {
        if let Some(standing) = study.standings.get(&active.reference.name)
            && standing.is_abandoned
        {
            let escalation = Escalation::new(TaskKind::StudyIncomplete, standing.reason.clone());
            return Verdict::Escalate(Escalation { is_abandoned: true, ..escalation });
        }
        let late_since = earlier.as_ref().map(|it| it.late_since);
        let amends = earlier.map(|it| it.amended);
        match completeness(rule, study, late_since, self.now) {
            Completeness::Complete { reason } => Verdict::Start { reason, amends },
            Completeness::Waiting { until, reason } => Verdict::Wait { until, reason },
            Completeness::Overdue { then, until, lacking } => {
                let wait = rule.at_most.after.as_secs_f64();
                let reason = format!("the longest wait of {wait} s ran out without {lacking}");
                match then {
                    Overdue::Run => Verdict::Start { reason, amends },
                    Overdue::Hold => Verdict::Escalate(Escalation {
                        look_again: until,
                        ..Escalation::new(TaskKind::StudyHeld, reason)
                    }),
                    Overdue::Fail => Verdict::Escalate(Escalation {
                        is_abandoned: true,
                        ..Escalation::new(
                            TaskKind::StudyIncomplete,
                            format!("never starts: {reason}"),
                        )
                    }),
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
        let known = study.standings.get(&name);
        match verdict {
            Verdict::Start { reason, amends } => {
                step.standings.remove(&name);
                let run = self.study_run(study, active, reason, amends);
                later_results::follow_late_images(study, &run, step);
                step.start.push(run);
            }
            Verdict::Wait { until, reason } => {
                step.look_again = earliest(step.look_again, until);
                step.standings.insert(name, WorkflowStanding { reason, is_abandoned: false });
            }
            Verdict::Decline { reason } => {
                if known.is_none_or(|it| it.reason != reason) {
                    step.events.push(not_started(&name, study_subject(study), &reason));
                }
                step.standings.insert(name, WorkflowStanding { reason, is_abandoned: false });
            }
            Verdict::Escalate(Escalation { kind, reason, look_again, is_abandoned }) => {
                step.look_again = earliest(step.look_again, look_again);
                if known.is_none_or(|it| it.reason != reason) {
                    let subject = study_subject(study);
                    step.events.push(not_started(&name, subject.clone(), &reason));
                    let reason = format!("workflow {name}: {reason}");
                    step.tasks.push(NewTask { kind, subject, reason });
                }
                step.standings.insert(name, WorkflowStanding { reason, is_abandoned });
            }
            Verdict::UpToDate => {
                step.standings.remove(&name);
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
        let subject = Subject { accession: None, ..study_subject(study) };
        NewRun {
            study: Some(study.study.clone()),
            patient: study.patient,
            input_key: InputKey {
                definition: definition_digest(active),
                content: content_digest(&instances),
            },
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
        let context =
            StepContext { runner: self.runner, destinations: self.destinations, now: self.now };
        let subject = Subject { run: Some(id), ..subject };
        let step = first_step(&active.workflow, &run, actions, &context, &subject, facts);
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
            input_key: InputKey::default(),
            instances: Vec::new(),
            reason,
            amends: None,
            due: active.workflow.sla.map(|it| after(self.now, it)),
            step,
        }
    }

    /// Decides about a message: every workflow whose condition holds starts on it.
    pub(crate) fn decide_message(&self, message: &MessageSnapshot) -> MessageDecision {
        let facts = message_facts(message);
        let mut step = MessageStep::default();
        for active in self.workflows {
            if matches!(active.workflow.trigger, Trigger::Study(_)) {
                continue;
            }
            let name = &active.reference.name;
            match active.workflow.takes(&facts) {
                Ok(true) => match later_results::no_news(message, name) {
                    None => step.start.push(self.message_run(message, active, &facts)),
                    Some(reason) => {
                        step.events.push(not_started(name, message_subject(message), reason));
                    }
                },
                Ok(false) => {}
                Err(error) => {
                    let reason = error.to_string();
                    step.events.push(not_started(name, message_subject(message), &reason));
                }
            }
        }
        let cancellations = later_results::follow_up(message, &mut step);
        MessageDecision { step, cancellations }
    }

    fn message_run(
        &self,
        message: &MessageSnapshot,
        active: &ActiveWorkflow,
        facts: &Facts,
    ) -> NewRun {
        let reason = format!("a message of type {} arrived", message.message_type);
        NewRun {
            message: Some(message.id),
            patient: message.patient,
            input_key: InputKey {
                definition: definition_digest(active),
                content: message.id.simple().to_string(),
            },
            amends: later_results::amended(&message.history.earlier, &active.reference.name),
            ..self.new_run(active, facts, &[], message_subject(message), reason)
        }
    }
}

fn instance_count(study: &StudySnapshot) -> usize {
    study.series.iter().map(|it| it.instances.len()).sum()
}

/// A later run would be a proposal beside the signed result, and nobody could sign it.
fn unsignable(study: &StudySnapshot) -> Escalation {
    let count = instance_count(study);
    let reason = format!(
        "instances arrived after the result was signed; there are {count} now, and the workflow \
         has no review in which a person could sign another result"
    );
    Escalation::new(TaskKind::LateInstances, reason)
}

fn not_started(workflow: &str, subject: Subject, reason: &str) -> Event {
    let body = WorkflowNotStarted { workflow: workflow.to_owned(), reason: reason.to_owned() };
    Event::new(subject, body)
}

fn earliest(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    one.into_iter().chain(other).min()
}

fn is_cancelled(orders: &[OrderSnapshot]) -> bool {
    !orders.is_empty() && orders.iter().all(|it| it.is_cancelled)
}

fn runs_in_progress(study: &StudySnapshot) -> impl Iterator<Item = Uuid> {
    study.runs.iter().filter(|it| !it.has_ended).map(|it| it.id)
}

/// Why images and order are of two patients, if they are (HL7-44).
fn identity_conflict(study: &StudySnapshot) -> Option<String> {
    let order = study.orders.iter().find(|it| it.is_of_other_patient(study.patient))?;
    Some(format!(
        "images and order, which belong together by {}, are of two patients: nothing is sent",
        order.matched_by
    ))
}

#[cfg(test)]
mod tests;
