//! Conditions in the Common Expression Language: typed, without effects, bounded (SEC-29).

use std::fmt;
use std::sync::Arc;

use cel::{Context, Program, Value};

use crate::facts::{Facts, SeriesFacts};

/// Longest condition.
const TEXT_BYTES_MAX: usize = 4096;

/// Most walks through lists in one condition: nested, each multiplies the work.
const WALKS_MAX: usize = 4;

/// The macros of CEL that walk through a list.
const WALKS: &[&str] = &[".exists(", ".exists_one(", ".all(", ".map(", ".filter("];

/// An expression that can be asked again and again.
#[derive(Clone)]
pub struct Condition {
    text: String,
    program: Arc<Program>,
}

/// Why an expression cannot be asked, or did not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConditionError {
    /// It is not CEL.
    #[error("this is not an expression: {0}")]
    Unreadable(String),
    /// It is too long or walks through too many lists.
    #[error("the expression is too long, or walks through more than {WALKS_MAX} lists")]
    TooLarge,
    /// It failed.
    #[error("the expression fails: {0}")]
    Failed(String),
    /// It gives something else than what is asked for.
    #[error("the expression must give {expected}, and gives {found}")]
    WrongType {
        /// What is asked for.
        expected: &'static str,
        /// What it gives.
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
    /// Reads an expression.
    ///
    /// # Errors
    ///
    /// Says why it cannot be asked.
    pub fn parse(text: &str) -> Result<Self, ConditionError> {
        let walks: usize = WALKS.iter().map(|it| text.matches(it).count()).sum();
        if text.len() > TEXT_BYTES_MAX || walks > WALKS_MAX {
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

    /// Asks whether it holds.
    ///
    /// # Errors
    ///
    /// Says why it does not answer yes or no.
    pub fn holds(&self, facts: &Facts) -> Result<bool, ConditionError> {
        self.holds_for(facts, None)
    }

    /// Asks whether it holds for one series.
    ///
    /// # Errors
    ///
    /// Says why it does not answer yes or no.
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

    /// Asks for a text.
    ///
    /// # Errors
    ///
    /// Says why it does not answer with a text.
    pub fn text_of(&self, facts: &Facts) -> Result<String, ConditionError> {
        match self.value(facts, None)? {
            Value::String(answer) => Ok(answer.to_string()),
            other => Err(wrong_type("a text", &other)),
        }
    }

    fn value(&self, facts: &Facts, series: Option<&SeriesFacts>) -> Result<Value, ConditionError> {
        let failed = |error: &dyn fmt::Display| ConditionError::Failed(error.to_string());
        let mut context = Context::default();
        let study = cel::to_value(&facts.study).map_err(|error| failed(&error))?;
        let order = cel::to_value(&facts.order).map_err(|error| failed(&error))?;
        let message = cel::to_value(&facts.message).map_err(|error| failed(&error))?;
        context.add_variable_from_value("study", study);
        context.add_variable_from_value("order", order);
        context.add_variable_from_value("message", message);
        let nodes = cel::to_value(&facts.nodes).map_err(|error| failed(&error))?;
        context.add_variable_from_value("nodes", nodes);
        if let Some(series) = series {
            let series = cel::to_value(series).map_err(|error| failed(&error))?;
            context.add_variable_from_value("series", series);
        }
        self.program.execute(&context).map_err(|error| failed(&error))
    }
}

fn wrong_type(expected: &'static str, found: &Value) -> ConditionError {
    ConditionError::WrongType { expected, found: found.type_of().to_string() }
}
