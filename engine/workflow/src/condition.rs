//! Conditions in the Common Expression Language: typed, without effects, bounded (SEC-29).

use std::fmt;
use std::sync::Arc;

use cel::{Context, Program, Value};
use serde::Serialize;

use crate::facts::{Facts, SeriesFacts};

/// Longest condition, in bytes.
const TEXT_BYTES_MAX: usize = 4096;

/// Largest number of loops over lists in one condition: nested, each multiplies the work.
const LOOPS_MAX: usize = 4;

/// The macros of CEL that loop over a list.
const LOOPS: &[&str] = &[".exists(", ".exists_one(", ".all(", ".map(", ".filter("];

/// A compiled expression.
#[derive(Clone)]
pub struct Condition {
    text: String,
    program: Arc<Program>,
}

/// Why an expression cannot be compiled or evaluated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConditionError {
    /// It is not CEL.
    #[error("this is not an expression: {0}")]
    Unreadable(String),
    /// It is too long or loops over too many lists.
    #[error("the expression is too long, or loops over more than {LOOPS_MAX} lists")]
    TooLarge,
    /// Its evaluation failed.
    #[error("the expression fails: {0}")]
    Failed(String),
    /// Its value has another type than the one that is needed.
    #[error("the expression must give {expected}, and gives {found}")]
    WrongType {
        /// The type that is needed.
        expected: &'static str,
        /// The type or value that it gives.
        found: String,
    },
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Condition").field(&self.text).finish()
    }
}

impl PartialEq for Condition {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Condition {
    /// Compiles an expression.
    ///
    /// # Errors
    ///
    /// Fails on text that is no expression, or a too large one.
    pub fn parse(text: &str) -> Result<Self, ConditionError> {
        let loops: usize = LOOPS.iter().map(|name| text.matches(name).count()).sum();
        if text.len() > TEXT_BYTES_MAX || loops > LOOPS_MAX {
            return Err(ConditionError::TooLarge);
        }
        let program = Program::compile(text)
            .map_err(|errors| ConditionError::Unreadable(errors.to_string()))?;
        Ok(Self { text: text.to_owned(), program: Arc::new(program) })
    }

    /// The expression as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Evaluates whether the expression holds.
    ///
    /// # Errors
    ///
    /// Fails if the evaluation does, or gives anything but true or false.
    pub fn holds(&self, facts: &Facts) -> Result<bool, ConditionError> {
        self.holds_for(facts, None)
    }

    /// Evaluates whether the expression holds for one series.
    ///
    /// # Errors
    ///
    /// Fails if the evaluation does, or gives anything but true or false.
    pub fn holds_for(
        &self,
        facts: &Facts,
        series: Option<&SeriesFacts>,
    ) -> Result<bool, ConditionError> {
        match self.value(facts, series)? {
            Value::Bool(answer) => Ok(answer),
            other => Err(wrong_type("true or false", &other)),
        }
    }

    /// Evaluates an expression that gives text.
    ///
    /// # Errors
    ///
    /// Fails if the evaluation does, or gives anything but text.
    pub fn text_of(&self, facts: &Facts) -> Result<String, ConditionError> {
        match self.value(facts, None)? {
            Value::String(answer) => Ok(answer.to_string()),
            other => Err(wrong_type("a text", &other)),
        }
    }

    fn value(&self, facts: &Facts, series: Option<&SeriesFacts>) -> Result<Value, ConditionError> {
        let mut context = Context::default();
        context.add_variable_from_value("study", value_of(&facts.study)?);
        context.add_variable_from_value("order", value_of(&facts.order)?);
        context.add_variable_from_value("message", value_of(&facts.message)?);
        context.add_variable_from_value("nodes", value_of(&facts.nodes)?);
        if let Some(series) = series {
            context.add_variable_from_value("series", value_of(series)?);
        }
        self.program.execute(&context).map_err(|error| ConditionError::Failed(error.to_string()))
    }
}

/// Facts as a value of CEL.
fn value_of(facts: &impl Serialize) -> Result<Value, ConditionError> {
    cel::to_value(facts).map_err(|error| ConditionError::Failed(error.to_string()))
}

fn wrong_type(expected: &'static str, found: &Value) -> ConditionError {
    ConditionError::WrongType { expected, found: found.type_of().to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(text: &str) -> Result<bool, ConditionError> {
        Condition::parse(text).and_then(|condition| condition.holds(&Facts::sample()))
    }

    #[test]
    fn a_condition_is_true_or_false_and_nothing_else() {
        assert_eq!(holds("'CT' in study.modalities"), Ok(true));
        assert_eq!(holds("study.instances > 1"), Ok(false));
        assert!(matches!(holds("study.description"), Err(ConditionError::WrongType { .. })));
    }

    #[test]
    fn a_misspelt_field_fails_and_text_that_is_no_expression_is_refused() {
        assert!(matches!(holds("study.modality == 'CT'"), Err(ConditionError::Failed(_))));
        assert!(matches!(holds("study.modalities =="), Err(ConditionError::Unreadable(_))));
    }

    #[test]
    fn sec_29_a_condition_is_bounded() {
        let long = format!("'{}' == ''", "x".repeat(TEXT_BYTES_MAX));
        assert_eq!(holds(&long), Err(ConditionError::TooLarge));
        let loops = ["study.modalities.exists(m, m == 'CT')"; LOOPS_MAX + 1].join(" && ");
        assert_eq!(holds(&loops), Err(ConditionError::TooLarge));
    }

    #[test]
    fn only_a_condition_under_where_can_ask_about_series() {
        let condition = Condition::parse("series.modality == 'MR'").unwrap();
        assert!(condition.holds(&Facts::sample()).is_err());
        let series = SeriesFacts { modality: "MR".to_owned(), ..SeriesFacts::default() };
        assert_eq!(condition.holds_for(&Facts::sample(), Some(&series)), Ok(true));
    }

    #[test]
    fn text_of_gives_text() {
        let condition = Condition::parse("order.priority").unwrap();
        assert_eq!(condition.text_of(&Facts::sample()), Ok("ROUTINE".to_owned()));
        assert!(Condition::parse("1 + 1").unwrap().text_of(&Facts::sample()).is_err());
    }
}
