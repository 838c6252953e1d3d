//! The reasons for which this plugin rejects its input, beside those of an answer
//! ([`plugin_toolkit::answer::AnswerRejection`]).

use plugin_api::RejectionCode;

/// A reason of a rejection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// The run is not about a study.
    NoStudy,
    /// `method: threshold` finds no CT.
    NoCtSeries,
    /// `method: network` finds no series that it can show to the model.
    NoSeriesToOutline,
    /// An image cannot be read.
    NoImage,
    /// No series is a regular stack of slices.
    GeometryInconsistent,
    /// No series can be decoded, or none states the unit of its values.
    PixelsUndecodable,
    /// The only images to outline are of several frames.
    SeveralFrames,
    /// A slice cannot be shown to the model.
    SliceUnusable,
    /// A mask is beyond the limits of the engine.
    MaskTooLarge,
}

impl RejectionCode for Reason {
    fn name(self) -> &'static str {
        match self {
            Self::NoStudy => "no_study",
            Self::NoCtSeries => "no_ct_series",
            Self::NoSeriesToOutline => "no_series_to_outline",
            Self::NoImage => "no_image",
            Self::GeometryInconsistent => "geometry_inconsistent",
            Self::PixelsUndecodable => "pixels_undecodable",
            Self::SeveralFrames => "several_frames",
            Self::SliceUnusable => "slice_unusable",
            Self::MaskTooLarge => "mask_too_large",
        }
    }
}
