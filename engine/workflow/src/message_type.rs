//! Message types as workflow files name them (HL7 v2.5.1, 2.14.9.9): a message code with a trigger event,
//! or with all of them.

use std::fmt;

/// A message type, or all types of a message code: `ORU^R01`, `MDM^*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageTypePattern {
    /// MSH-9.1: the message code.
    code: String,
    /// MSH-9.2: the trigger event. `None` stands for every event.
    trigger: Option<String>,
}

impl MessageTypePattern {
    /// Reads a pattern. `None`, if the text is no message type.
    pub fn parse(text: &str) -> Option<Self> {
        let (code, trigger) = text.split_once('^')?;
        let is_type = is_identifier(code) && (trigger == "*" || is_identifier(trigger));
        is_type.then(|| Self {
            code: code.to_owned(),
            trigger: (trigger != "*").then(|| trigger.to_owned()),
        })
    }

    /// Every trigger event of this message code.
    pub(crate) fn any_trigger(code: &str) -> Self {
        Self { code: code.to_owned(), trigger: None }
    }

    /// Whether a message is of this type; `message_type` is its type as `ORU^R01`.
    pub fn matches(&self, message_type: &str) -> bool {
        let Some((code, trigger)) = message_type.split_once('^') else { return false };
        self.code == code && self.trigger.as_deref().is_none_or(|wanted| wanted == trigger)
    }
}

impl fmt::Display for MessageTypePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}^{}", self.code, self.trigger.as_deref().unwrap_or("*"))
    }
}

/// Message codes and trigger events have three letters and digits.
fn is_identifier(text: &str) -> bool {
    text.len() == 3 && text.bytes().all(|it| it.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_matches_itself_alone() {
        let pattern = MessageTypePattern::parse("ORU^R01").unwrap();
        assert!(pattern.matches("ORU^R01"));
        assert!(!pattern.matches("ORU^R30") && !pattern.matches("ORM^R01"));
        assert!(!pattern.matches("ORU") && !pattern.matches(""));
    }

    #[test]
    fn a_star_stands_for_every_event_of_a_code() {
        let pattern = MessageTypePattern::parse("MDM^*").unwrap();
        assert!(pattern.matches("MDM^T02") && pattern.matches("MDM^T11"));
        assert!(!pattern.matches("ORU^R01") && !pattern.matches("MDM"));
    }

    #[test]
    fn what_is_no_type_is_refused() {
        for text in
            ["ORU", "ORU^", "^R01", "ORUX^R01", "ORU^R0", "*^*", "ORU^R01^ORU_R01", "ÖRU^R01"]
        {
            assert_eq!(MessageTypePattern::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_pattern_is_written_as_it_is_read() {
        for text in ["ORU^R01", "MDM^*"] {
            assert_eq!(MessageTypePattern::parse(text).unwrap().to_string(), text);
        }
    }
}
