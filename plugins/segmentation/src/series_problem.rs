//! Series that could not be worked on. They are an error of the node only if no series could be,
//! and a remark of its result otherwise.

use domain::{Code, Section, SeriesInstanceUid};
use plugin_api::{Context, HostRejection, Level, NodeError};

use crate::rejection::Reason;

/// The fault of a series. The first in this order names the rejection of several: a person can do
/// something about an inconsistent geometry at the scanner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ProblemKind {
    /// It is no regular stack of slices (DIN-81).
    Geometry,
    /// Its pixels cannot be decoded, or have no known unit.
    Undecodable,
    /// Its images have several frames.
    SeveralFrames,
    /// Its images are of a kind that is not outlined.
    Unsupported,
    /// It has nothing but localizers.
    Localizers,
}

impl From<HostRejection> for ProblemKind {
    fn from(rejection: HostRejection) -> Self {
        match rejection {
            HostRejection::PixelsUndecodable => Self::Undecodable,
            HostRejection::Localizers => Self::Localizers,
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

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A comment that names the series a reader might believe to be in the result; nothing if there
    /// are none. Nobody expects localizers to be measured, and nearly every CT has some.
    pub(crate) fn remarks(&self) -> Option<Section> {
        let unexpected = self.0.iter().filter(|it| it.kind != ProblemKind::Localizers);
        let lines: Vec<String> =
            unexpected.map(|it| format!("Not looked at: {}.", it.text)).collect();
        let title = Code::new("121106", "DCM", "Comment");
        (!lines.is_empty()).then(|| Section { title, text: lines.join("\n") })
    }

    /// The rejection of an input of which no series could be worked on.
    pub(crate) fn into_rejection(self) -> NodeError {
        let reason = match self.0.iter().map(|it| it.kind).min() {
            Some(ProblemKind::Undecodable) => Reason::PixelsUndecodable,
            Some(ProblemKind::SeveralFrames) => Reason::SeveralFrames,
            Some(ProblemKind::Unsupported) => Reason::NoSeriesToOutline,
            Some(ProblemKind::Geometry | ProblemKind::Localizers) | None => {
                Reason::GeometryInconsistent
            }
        };
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
        use ProblemKind::{Geometry, Localizers, SeveralFrames, Undecodable, Unsupported};
        let unsupported =
            NodeError::rejected("no_series_to_outline", "series 1.2: it cannot be decoded");
        assert_eq!(rejection(&[Unsupported]), unsupported);
        let reason = "series 1.2: it cannot be decoded";
        let undecodable = NodeError::rejected("pixels_undecodable", reason);
        assert_eq!(rejection(&[Undecodable]), undecodable);
        let localizers = NodeError::rejected("geometry_inconsistent", reason);
        assert_eq!(rejection(&[Localizers]), localizers);
        let frames = NodeError::rejected("several_frames", format!("{reason}; {reason}"));
        assert_eq!(rejection(&[Localizers, SeveralFrames]), frames);
        let mixed = NodeError::rejected("geometry_inconsistent", format!("{reason}; {reason}"));
        assert_eq!(rejection(&[Undecodable, Geometry]), mixed);
    }

    #[test]
    fn a_remark_names_every_series_that_was_passed_over_but_for_localizers() {
        let mut problems = SeriesProblems::default();
        problems.add(&"1.2".parse().unwrap(), ProblemKind::Localizers, "it is a localizer");
        assert_eq!(problems.remarks(), None);
        let reason = "Enhanced CT, several frames: not outlined yet";
        problems.add(&"1.3".parse().unwrap(), ProblemKind::SeveralFrames, reason);
        let reason = "instance 1.4.1: Rescale Slope is 0: all pixels would have one value";
        problems.add(&"1.4".parse().unwrap(), ProblemKind::Undecodable, reason);
        let remarks = problems.remarks().unwrap();
        assert_eq!(
            remarks.text,
            "Not looked at: series 1.3: Enhanced CT, several frames: not outlined yet.\n\
             Not looked at: series 1.4: instance 1.4.1: Rescale Slope is 0: all pixels would have \
             one value."
        );
    }

    #[test]
    fn a_rejection_of_the_engine_is_of_the_geometry_but_for_pixels_and_localizers() {
        for kind in HostRejection::ALL {
            let expected = match kind {
                HostRejection::PixelsUndecodable => ProblemKind::Undecodable,
                HostRejection::Localizers => ProblemKind::Localizers,
                _ => ProblemKind::Geometry,
            };
            assert_eq!(ProblemKind::from(kind), expected);
        }
    }
}
