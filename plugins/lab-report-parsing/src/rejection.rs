//! The reasons for which this plugin rejects its input, beside those of an answer
//! ([`plugin_toolkit::answer::AnswerRejection`]).

use plugin_api::RejectionCode;

/// A reason of a rejection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Neither the message nor its papers have a result.
    NoResults,
    /// The message takes results back, and has none.
    Withdrawn,
    /// There is neither a result nor a paper.
    NoDocument,
    /// The readers do not agree, or only one has read.
    Doubtful,
    /// `question` is missing.
    NoQuestion,
    /// Not exactly one entry has the name of the question.
    NoSuchEntry,
    /// The list of document kinds cannot be parsed.
    KindsUnreadable,
    /// A document is of none of the listed kinds.
    KindUnknown,
    /// A document has no pages.
    NoPage,
    /// A page has no picture, or a picture has no pixels.
    NoPicture,
    /// A page cannot be encoded for the model.
    PictureUnusable,
    /// A picture cannot be decoded.
    PictureUnreadable,
    /// A picture is beyond the limits of the recogniser.
    PictureTooLarge,
    /// A file is of a type that has no pages.
    MediaType,
    /// An attachment is not base 64.
    FileUnreadable,
    /// An instance cannot be read.
    NoImage,
    /// An instance has no picture or document that can be used.
    ImageUnusable,
    /// A PDF cannot be parsed or drawn.
    PdfUnreadable,
    /// A PDF has more pages than are read.
    TooManyPages,
    /// A page of a PDF is too small or too large.
    PdfPageSize,
    /// The answer of the model has no table of results.
    AnswerWithoutTable,
}

impl RejectionCode for Reason {
    fn name(self) -> &'static str {
        match self {
            Self::NoResults => "no_results",
            Self::Withdrawn => "withdrawn",
            Self::NoDocument => "no_document",
            Self::Doubtful => "doubtful",
            Self::NoQuestion => "no_question",
            Self::NoSuchEntry => "no_such_entry",
            Self::KindsUnreadable => "kinds_unreadable",
            Self::KindUnknown => "kind_unknown",
            Self::NoPage => "no_page",
            Self::NoPicture => "no_picture",
            Self::PictureUnusable => "picture_unusable",
            Self::PictureUnreadable => "picture_unreadable",
            Self::PictureTooLarge => "picture_too_large",
            Self::MediaType => "media_type",
            Self::FileUnreadable => "file_unreadable",
            Self::NoImage => "no_image",
            Self::ImageUnusable => "image_unusable",
            Self::PdfUnreadable => "pdf_unreadable",
            Self::TooManyPages => "too_many_pages",
            Self::PdfPageSize => "pdf_page_size",
            Self::AnswerWithoutTable => "answer_unreadable",
        }
    }
}
