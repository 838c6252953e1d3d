//! The images of a study that the model is shown.

use domain::{SeriesInstanceUid, SopClassUid, SopInstanceUid, StudyInput};
use plugin_api::{Context, NodeError};
use plugin_toolkit::picture::QuestionPicture;
use plugin_toolkit::selection::{Position, Selection};

use crate::Settings;
use crate::rejection::Reason;

/// An image that the model is shown, at the same place in the list as its picture in the question.
#[derive(Clone, Debug)]
pub(crate) struct ShownImage {
    pub(crate) series: SeriesInstanceUid,
    pub(crate) instance: SopInstanceUid,
    pub(crate) sop_class: SopClassUid,
    /// Columns and rows.
    pub(crate) size: [u32; 2],
}

/// The images of a question, with their pictures.
#[derive(Debug, Default)]
pub(crate) struct ShownImages {
    pub(crate) images: Vec<ShownImage>,
    pub(crate) pictures: Vec<QuestionPicture>,
}

impl ShownImages {
    /// Chooses images of a study by the settings, and encodes them.
    pub(crate) fn of_study(
        context: &Context<'_>,
        settings: &Settings,
        study: &StudyInput,
    ) -> Result<Self, NodeError> {
        let selection = Selection {
            modalities: settings.modalities.clone(),
            count: settings.pictures,
            position: if settings.is_middle { Position::Middle } else { Position::First },
        };
        let mut shown = Self::default();
        for image in selection.images(study) {
            let instance = &image.instance.instance;
            let file = context
                .read_instance(instance)
                .map_err(|error| error.into_node_error(Reason::NoImage))?;
            let picture = QuestionPicture::from_file(file).map_err(|error| {
                NodeError::rejected(Reason::ImageUnusable, format!("instance {instance}: {error}"))
            })?;
            shown.images.push(ShownImage {
                series: image.series.series.clone(),
                instance: instance.clone(),
                sop_class: image.instance.sop_class.clone(),
                size: picture.size(),
            });
            shown.pictures.push(picture);
        }
        if shown.images.is_empty() {
            let reason = format!("the study has no image of {}", settings.modalities.join(", "));
            return Err(NodeError::rejected(Reason::NoImage, reason));
        }
        Ok(shown)
    }
}
