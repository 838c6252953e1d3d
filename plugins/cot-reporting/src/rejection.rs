//! The reasons for which this plugin rejects its input, beside those of an answer
//! ([`plugin_toolkit::answer::AnswerRejection`]).

use plugin_api::RejectionCode;

/// A reason of a rejection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// The run is not about a study.
    NoStudy,
    /// The study has no image of the wanted modalities, or one cannot be read.
    NoImage,
    /// An image cannot be shown to the model.
    ImageUnusable,
    /// An image has several frames, which are not shown.
    SeveralFrames,
    /// `question` is missing.
    NoQuestion,
    /// `target` is missing.
    NoTarget,
    /// `options` are missing.
    NoOptions,
    /// There is no text to answer from.
    NoText,
    /// No earlier node has written a draft.
    NoDraft,
    /// The template of the prompt cannot be rendered.
    PromptUnusable,
}

impl RejectionCode for Reason {
    fn name(self) -> &'static str {
        match self {
            Self::NoStudy => "no_study",
            Self::NoImage => "no_image",
            Self::ImageUnusable => "image_unusable",
            Self::SeveralFrames => "several_frames",
            Self::NoQuestion => "no_question",
            Self::NoTarget => "no_target",
            Self::NoOptions => "no_options",
            Self::NoText => "no_text",
            Self::NoDraft => "no_draft",
            Self::PromptUnusable => "prompt_unusable",
        }
    }
}
