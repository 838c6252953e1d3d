//! What becomes of earlier results when a message corrects what they rest on (HL7-53), or instances
//! arrive late (DIN-52). Pure.
//!
//! A draft gives way to the later run. What a person has signed stands: the later run is a proposal
//! until a person signs it, and a task says so (`engine/decisions/0009-versions-of-a-result.md`).

use contracts::{
    EarlierResult, MessageSnapshot, MessageStep, NewRun, NewTask, StudySnapshot, StudyStep,
};
use domain::event::ResultSuperseded;
use domain::{Amended, Event, Subject, TaskKind};
use uuid::Uuid;

use super::subject::{message_subject, study_subject};

/// A run to cancel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cancellation {
    /// The run.
    pub(crate) run: Uuid,
    /// Why, for people.
    pub(crate) reason: &'static str,
}

/// The result that a run of `workflow` replaces: a draft at once, a signed one once it is signed.
pub(super) fn amended(earlier: &[EarlierResult], workflow: &str) -> Option<Amended> {
    let own = earlier.iter().filter(|it| it.workflow == workflow);
    let draft = own.clone().rfind(|it| it.is_draft());
    let last = draft.or_else(|| own.clone().rfind(|it| it.is_signed()))?;
    Some(Amended { run: last.run, first: last.first, is_replaced: true })
}

/// Why a message that would start `workflow` has nothing for it, if it has nothing.
pub(super) fn no_news(message: &MessageSnapshot, workflow: &str) -> Option<&'static str> {
    let history = &message.history;
    let mut own = history.earlier.iter().filter(|it| it.workflow == workflow);
    if history.is_outdated {
        return Some("a later message had corrected its results before it arrived");
    }
    (history.is_repeated && own.any(EarlierResult::is_signed))
        .then_some("it repeats the results that a person has signed")
}

/// Adds to the decision about a message what follows for the results of earlier ones: events, and
/// tasks where no run may take the place of a result. Returns the runs to cancel.
pub(super) fn follow_up(message: &MessageSnapshot, step: &mut MessageStep) -> Vec<Cancellation> {
    let subject = message_subject(message);
    if message.history.is_ambiguous && !step.start.is_empty() {
        let reason = "the message reports results again, and which of several with the same code \
            cannot be told: its report stands beside the earlier one";
        step.tasks.push(task(subject.clone(), reason.to_owned()));
    }
    let mut cancellations = Vec::new();
    for earlier in &message.history.earlier {
        let is_draft = earlier.is_draft();
        let is_news = earlier.is_signed() && !message.history.is_repeated;
        if !is_draft && !is_news {
            continue;
        }
        let successor =
            step.start.iter().find(|run| run.amends.is_some_and(|it| it.run == earlier.run));
        let subject = Subject { run: Some(earlier.run), ..subject.clone() };
        let workflow = &earlier.workflow;
        let body = ResultSuperseded {
            workflow: workflow.clone(),
            by: successor.map(|it| it.id),
            is_signed: earlier.is_signed(),
        };
        let is_left = is_draft && successor.is_none();
        step.events.push(Event::new(subject.clone(), body));
        if earlier.is_signed() {
            let reason = format!(
                "workflow {workflow}: the laboratory has corrected or withdrawn what the signed \
                 result rests on; it stands until a person withdraws it or signs another"
            );
            step.tasks.push(task(subject, reason));
        } else if is_left {
            let reason = format!(
                "workflow {workflow}: the laboratory has corrected or withdrawn what its report \
                 states, and no run replaces it; who has it needs to be told"
            );
            step.tasks.push(task(subject, reason));
        }
        if is_draft && !earlier.has_ended {
            let reason = "a later message holds in its place";
            cancellations.push(Cancellation { run: earlier.run, reason });
        }
    }
    cancellations
}

/// Adds to the decision about a study what follows for an earlier result when a run on late
/// instances starts: an event, and a task if a person has signed the result.
pub(super) fn follow_late_images(study: &StudySnapshot, run: &NewRun, step: &mut StudyStep) {
    let Some(amended) = run.amends else { return };
    let mut runs = study.runs.iter().filter(|it| it.workflow == run.workflow.name);
    let signed = runs.rfind(|it| it.is_signed);
    if !amended.is_replaced && signed.is_none() {
        return;
    }
    let workflow = &run.workflow.name;
    let subject = Subject { run: Some(amended.run), ..study_subject(study) };
    let by = Some(run.id);
    let is_signed = signed.is_some();
    let body = ResultSuperseded { workflow: workflow.clone(), by, is_signed };
    step.events.push(Event::new(subject.clone(), body));
    if let Some(signed) = signed {
        let subject = Subject { run: Some(signed.id), ..subject };
        let reason = format!(
            "workflow {workflow}: instances arrived after its result was signed; it stands until a \
             person signs the result of the run on all of them"
        );
        step.tasks.push(NewTask { kind: TaskKind::LateInstances, subject, reason });
    }
}

fn task(subject: Subject, reason: String) -> NewTask {
    NewTask { kind: TaskKind::ResultCorrected, subject, reason }
}

#[cfg(test)]
mod tests {
    use contracts::ResultHistory;
    use domain::{ExchangedDocument, MessageType, ReviewState};
    use uuid::Uuid;

    use super::*;

    /// The result of a run: its number, what people made of it, and whether it has ended.
    fn result(number: u128, reviewed: Option<ReviewState>, has_ended: bool) -> EarlierResult {
        let run = Uuid::from_u128(number);
        EarlierResult { run, workflow: "table".to_owned(), first: run, has_ended, reviewed }
    }

    fn message(earlier: Vec<EarlierResult>) -> MessageSnapshot {
        MessageSnapshot {
            id: Uuid::from_u128(100),
            message_type: MessageType::new("ORU", "R01"),
            patient: None,
            document: ExchangedDocument::default(),
            history: ResultHistory { earlier, ..ResultHistory::default() },
        }
    }

    #[test]
    fn hl7_53_a_draft_is_replaced_before_a_signed_result() {
        let signed = result(1, Some(ReviewState::Signed), true);
        let draft = result(2, None, true);
        let withdrawn = result(3, Some(ReviewState::Withdrawn), true);
        let of = |earlier: &[EarlierResult]| {
            amended(earlier, "table").map(|it| (it.run.as_u128(), it.is_replaced))
        };
        assert_eq!(of(&[draft.clone(), signed.clone()]), Some((2, true)));
        assert_eq!(of(&[signed.clone(), withdrawn.clone()]), Some((1, true)));
        assert_eq!(of(&[withdrawn]), None);
        assert_eq!(amended(&[draft], "other"), None);
    }

    #[test]
    fn hl7_53_a_correction_of_what_was_signed_is_for_a_person() {
        let message = message(vec![result(1, Some(ReviewState::Amended), true)]);
        let mut step = MessageStep::default();
        assert_eq!(follow_up(&message, &mut step), []);
        assert_eq!((step.events.len(), step.tasks.len()), (1, 1));
        assert_eq!(step.tasks[0].kind, TaskKind::ResultCorrected);
        assert_eq!(step.tasks[0].subject.run, Some(Uuid::from_u128(1)));
    }

    #[test]
    fn hl7_53_what_was_signed_and_is_sent_again_unchanged_is_no_news() {
        let mut message = message(vec![result(1, Some(ReviewState::Signed), true)]);
        assert_eq!(no_news(&message, "table"), None);
        message.history.is_repeated = true;
        assert!(no_news(&message, "table").is_some());
        assert_eq!(no_news(&message, "other"), None);
        let mut step = MessageStep::default();
        assert_eq!(follow_up(&message, &mut step), []);
        assert_eq!((step.events.len(), step.tasks.len()), (0, 0));
    }

    #[test]
    fn hl7_53_a_run_whose_draft_is_outdated_ends_and_a_draft_without_successor_is_told() {
        let message = message(vec![result(1, None, false), result(2, None, true)]);
        let mut step = MessageStep::default();
        let cancelled = follow_up(&message, &mut step);
        assert_eq!(cancelled.iter().map(|it| it.run.as_u128()).collect::<Vec<_>>(), [1]);
        assert_eq!((step.events.len(), step.tasks.len()), (2, 2));
    }
}
