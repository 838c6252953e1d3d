//! Problems of a workflow file, each with its position and a way out for the integrator.

use std::fmt;

use miette::{Diagnostic, LabeledSpan, NamedSource, SourceSpan};
use serde_saphyr::{Location, Spanned};
use thiserror::Error;

/// A workflow file that cannot be used, with every problem in it.
#[derive(Debug, Error, Diagnostic)]
#[error("the workflow in `{file}` cannot run")]
pub struct InvalidWorkflow {
    /// The file in which the workflow was found.
    pub file: String,
    #[source_code]
    pub(crate) text: NamedSource<String>,
    /// The problems, in the order of the checks.
    #[related]
    pub problems: Vec<WorkflowProblem>,
}

/// One problem of a workflow file.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct WorkflowProblem {
    /// A stable name for this kind of problem: `workflow::unknown_node`.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// The way out.
    pub help: String,
    at: Option<SourceSpan>,
    label: &'static str,
}

impl Diagnostic for WorkflowProblem {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(self.code))
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        (!self.help.is_empty()).then(|| Box::new(&self.help) as Box<dyn fmt::Display>)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let label = LabeledSpan::new_with_span(Some(self.label.to_owned()), self.at?);
        Some(Box::new(std::iter::once(label)))
    }
}

impl WorkflowProblem {
    pub(crate) fn new<T>(
        code: &'static str,
        at: &Spanned<T>,
        label: &'static str,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        let at = Some(span_at(&at.referenced));
        Self { code, message: message.into(), help: help.into(), at, label }
    }

    pub(crate) fn unreadable(error: &serde_saphyr::Error) -> Self {
        Self {
            code: "workflow::unreadable",
            message: error.without_snippet().to_string(),
            help: "every key is explained in workflows/README.md".to_owned(),
            at: error.location().map(|it| span_at(&it)),
            label: "here",
        }
    }
}

/// The position of a value in the file, in bytes.
fn span_at(location: &Location) -> SourceSpan {
    let span = location.span();
    (byte_count(span.byte_offset()), byte_count(span.byte_len())).into()
}

fn byte_count(count: Option<u64>) -> usize {
    usize::try_from(count.unwrap_or(0)).unwrap_or(0)
}
