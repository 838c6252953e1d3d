//! Decides whether a study or a message starts a run, and how urgent the run is.

use crate::condition::ConditionError;
use crate::facts::{Facts, MessageFacts};
use crate::message_type::MessageTypePattern;
use crate::workflow::{Priority, Trigger, Workflow};

impl Workflow {
    /// Whether these facts start a run.
    ///
    /// # Errors
    ///
    /// Fails if the condition of the trigger cannot be evaluated.
    pub fn takes(&self, facts: &Facts) -> Result<bool, ConditionError> {
        let is_of_type = match &self.trigger {
            Trigger::Study(_) => true,
            Trigger::Message { types, .. } => {
                types.iter().any(|pattern| pattern.matches(&facts.message.message_type))
            }
            Trigger::Document { .. } => has_document(&facts.message),
        };
        match self.trigger.condition() {
            Some(condition) if is_of_type => condition.holds(facts),
            Some(_) | None => Ok(is_of_type),
        }
    }

    /// How urgent a run on these facts is. A priority that cannot be evaluated is routine.
    pub fn urgency(&self, facts: &Facts) -> Priority {
        let priority = self.priority.as_ref().and_then(|condition| condition.text_of(facts).ok());
        match priority.as_deref() {
            Some("stat") => Priority::Stat,
            Some(_) | None => Priority::Routine,
        }
    }
}

/// Whether a message carries a document: a file, or the text of one (MDM).
fn has_document(message: &MessageFacts) -> bool {
    MessageTypePattern::any_trigger("MDM").matches(&message.message_type)
        || !message.media_types.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::condition::Condition;

    fn workflow(trigger: Trigger, priority: Option<&str>) -> Workflow {
        Workflow {
            name: "test".to_owned(),
            description: String::new(),
            trigger,
            sla: None,
            priority: priority.map(|it| Condition::parse(it).unwrap()),
            nodes: Vec::new(),
            deliveries: Vec::new(),
            tests: Vec::new(),
        }
    }

    fn message(message_type: &str, media_types: &[&str]) -> Facts {
        let media_types = media_types.iter().map(|it| (*it).to_owned()).collect();
        let message_type = message_type.to_owned();
        Facts {
            message: MessageFacts { message_type, media_types, ..MessageFacts::default() },
            ..Facts::default()
        }
    }

    #[test]
    fn a_message_starts_a_run_by_its_type_and_its_condition() {
        let types = vec![MessageTypePattern::parse("ORU^*").unwrap()];
        let when = Some(Condition::parse("message.files == 0").unwrap());
        let workflow = workflow(Trigger::Message { types, when }, None);
        assert!(workflow.takes(&message("ORU^R01", &[])).unwrap());
        assert!(!workflow.takes(&message("MDM^T02", &[])).unwrap());
        let mut with_file = message("ORU^R01", &[]);
        with_file.message.files = 1;
        assert!(!workflow.takes(&with_file).unwrap());
    }

    #[test]
    fn a_document_is_a_document_message_or_a_file_in_another() {
        let workflow = workflow(Trigger::Document { when: None }, None);
        assert!(workflow.takes(&message("MDM^T02", &[])).unwrap());
        assert!(workflow.takes(&message("ORU^R01", &["application/pdf"])).unwrap());
        assert!(!workflow.takes(&message("ORU^R01", &[])).unwrap());
    }

    #[test]
    fn a_condition_that_cannot_be_evaluated_is_an_error_and_a_priority_is_routine() {
        let when = Some(Condition::parse("study.nothing == 1").unwrap());
        let workflow = workflow(Trigger::Document { when }, Some("study.nothing"));
        assert!(workflow.takes(&message("MDM^T02", &[])).is_err());
        assert_eq!(workflow.urgency(&Facts::default()), Priority::Routine);
    }

    #[test]
    fn a_priority_follows_the_facts() {
        let text = "order.priority == 'STAT' ? 'stat' : 'routine'";
        let workflow = workflow(Trigger::Document { when: None }, Some(text));
        let mut facts = Facts::default();
        assert_eq!(workflow.urgency(&facts), Priority::Routine);
        facts.order.priority = "STAT".to_owned();
        assert_eq!(workflow.urgency(&facts), Priority::Stat);
    }
}
