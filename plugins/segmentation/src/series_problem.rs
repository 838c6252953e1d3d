//! Series that could not be worked on. They are an error of the node only if no series could be.

use domain::SeriesInstanceUid;
use plugin_api::{Context, HostRejection, Level, NodeError};

use crate::rejection::Reason;

/// The fault of a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProblemKind {
    /// Its pixels cannot be decoded.
    Undecodable,
    /// It is no regular stack of slices (DIN-81).
    Geometry,
}

impl From<HostRejection> for ProblemKind {
    fn from(rejection: HostRejection) -> Self {
        match rejection {
            HostRejection::PixelsUndecodable => Self::Undecodable,
            HostRejection::GeometryInconsistent
            | HostRejection::NotInInput
            | HostRejection::QuestionRefused
            | HostRejection::Other => Self::Geometry,
        }
    }
}

/// A series that could not be worked on.
#[derive(Clone, Debug, PartialEq, Eq)]
struct SeriesProblem {
    kind: ProblemKind,
    /// The series and its problem as a sentence, with numbers.
    text: String,
}

/// All series that could not be worked on.
#[derive(Debug, Default)]
pub(crate) struct SeriesProblems(Vec<SeriesProblem>);

impl SeriesProblems {
    pub(crate) fn add(&mut self, series: &SeriesInstanceUid, kind: ProblemKind, reason: &str) {
        self.0.push(SeriesProblem { kind, text: format!("series {series}: {reason}") });
    }

    pub(crate) fn log(&self, context: &Context<'_>) {
        for problem in &self.0 {
            context.log(Level::Warning, &problem.text);
        }
    }

    /// The rejection of an input of which no series could be worked on. An inconsistent geometry
    /// comes first: a person can do something about it at the scanner.
    pub(crate) fn into_rejection(self) -> NodeError {
        let is_geometry = self.0.iter().any(|it| it.kind == ProblemKind::Geometry);
        let reason =
            if is_geometry { Reason::GeometryInconsistent } else { Reason::PixelsUndecodable };
        let texts: Vec<String> = self.0.into_iter().map(|it| it.text).collect();
        NodeError::rejected(reason, texts.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rejection(kinds: &[ProblemKind]) -> NodeError {
        let mut problems = SeriesProblems::default();
        for kind in kinds {
            // The text never decides.
            problems.add(&"1.2".parse().unwrap(), *kind, "it cannot be decoded");
        }
        problems.into_rejection()
    }

    #[test]
    fn a_rejection_is_of_the_geometry_if_any_series_is() {
        use ProblemKind::{Geometry, Undecodable};
        let reason = "series 1.2: it cannot be decoded";
        let undecodable = NodeError::rejected("pixels_undecodable", reason);
        assert_eq!(rejection(&[Undecodable]), undecodable);
        let mixed = NodeError::rejected("geometry_inconsistent", format!("{reason}; {reason}"));
        assert_eq!(rejection(&[Undecodable, Geometry]), mixed);
    }

    #[test]
    fn a_rejection_of_the_engine_is_of_the_geometry_but_for_pixels() {
        for kind in HostRejection::ALL {
            let is_pixels = kind == HostRejection::PixelsUndecodable;
            assert_eq!(ProblemKind::from(kind) == ProblemKind::Undecodable, is_pixels);
        }
    }
}
