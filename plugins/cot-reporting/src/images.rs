//! The images of a study that the model is shown.

use domain::{ImageFacts, SeriesInstanceUid, SopClassUid, SopInstanceUid, StudyInput};
use imaging::SliceError;
use imaging::rendering::Manner;
use plugin_api::{Context, NodeError};
use plugin_toolkit::image_class::{Form, ImageClass};
use plugin_toolkit::picture::{QuestionPicture, QuestionPictureError};
use plugin_toolkit::selection::{Position, Selection};
use plugin_toolkit::text::printable;

use crate::Settings;
use crate::rejection::Reason;

/// An image that the model is shown, at the same place in the list as its picture in the question.
/// An image of several pictures is there several times.
#[derive(Clone, Debug)]
pub(crate) struct ShownImage {
    pub(crate) series: SeriesInstanceUid,
    pub(crate) instance: SopInstanceUid,
    pub(crate) sop_class: SopClassUid,
    /// Columns and rows.
    pub(crate) size: [u32; 2],
    pub(crate) modality: String,
    /// What its header states.
    pub(crate) facts: ImageFacts,
    /// How its picture was made.
    pub(crate) manner: Manner,
}

impl ShownImage {
    /// What was shown, for people: number and view of the image, its UID, and how it was rendered.
    fn remark(&self) -> String {
        let facts = &self.facts;
        let number = |name: &str, number: Option<i64>| number.map(|it| format!("{name} {it}"));
        let code = |it: &String| Some(it.clone()).filter(|it| !it.is_empty());
        let parts = [
            code(&self.modality),
            number("series", facts.series_number),
            number("image", facts.instance_number),
            code(&facts.body_part),
            code(&facts.view().to_owned()),
            code(&facts.laterality),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        printable(&format!("{} ({}), {}", parts.join(" "), self.instance, self.manner))
    }
}

/// The name of a class whose objects have several frames.
fn frames_name(sop_class: &str) -> Option<&'static str> {
    let class = ImageClass::of(sop_class)?;
    match class.form {
        Form::Image => None,
        Form::Frames | Form::OtherFrames => Some(class.name),
    }
}

/// Why an image cannot be shown.
const fn reason_of(error: &QuestionPictureError) -> Reason {
    match error {
        QuestionPictureError::Rendering(SliceError::SeveralFrames) => Reason::SeveralFrames,
        QuestionPictureError::Rendering(_) | QuestionPictureError::Encoding(_) => {
            Reason::ImageUnusable
        }
    }
}

/// The images of a question, with their pictures.
#[derive(Debug, Default)]
pub(crate) struct ShownImages {
    pub(crate) images: Vec<ShownImage>,
    pub(crate) pictures: Vec<QuestionPicture>,
    /// Why these images; empty if there are none.
    reason: String,
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
        let views = settings.windows.views();
        let choice = selection.choose(study);
        let mut shown = Self { reason: selection.reason(&choice), ..Self::default() };
        for image in choice.images {
            let instance = &image.instance.instance;
            if let Some(name) = frames_name(image.instance.sop_class.as_str()) {
                let reason = format!("instance {instance}: {name}, several frames: not shown yet");
                return Err(NodeError::rejected(Reason::SeveralFrames, reason));
            }
            let file = context
                .read_instance(instance)
                .map_err(|error| error.into_node_error(Reason::NoImage))?;
            let pictures = QuestionPicture::views_of_file(file, &views).map_err(|error| {
                NodeError::rejected(reason_of(&error), format!("instance {instance}: {error}"))
            })?;
            for picture in pictures {
                shown.images.push(ShownImage {
                    series: image.series.series.clone(),
                    instance: instance.clone(),
                    sop_class: image.instance.sop_class.clone(),
                    size: picture.picture.size(),
                    modality: image.series.modality.clone(),
                    facts: study.images.get(instance).cloned().unwrap_or_default(),
                    manner: picture.manner,
                });
                shown.pictures.push(picture.picture);
            }
        }
        if shown.images.is_empty() {
            let reason = format!("the study has no image of {}", settings.modalities.join(", "));
            return Err(NodeError::rejected(Reason::NoImage, reason));
        }
        Ok(shown)
    }

    /// What the model was shown and why, for people; nothing if it was shown nothing.
    pub(crate) fn remarks(&self) -> Vec<String> {
        if self.images.is_empty() {
            return Vec::new();
        }
        let mut remarks = vec![format!("The model was shown {}.", self.reason)];
        for (index, image) in self.images.iter().enumerate() {
            remarks.push(format!("Picture {}: {}.", index + 1, image.remark()));
        }
        remarks
    }
}

#[cfg(test)]
mod tests {
    use plugin_toolkit::image_class::IMAGE_CLASSES;

    use super::*;

    #[test]
    fn pap_05_every_class_of_images_is_shown_or_refused_as_the_documentation_says() {
        let text = include_str!("../../README.md");
        let rows = text.lines().filter(|it| it.starts_with("| 1.2.840.10008."));
        let documented: Vec<Vec<&str>> =
            rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect()).collect();
        for class in &IMAGE_CLASSES {
            let row = documented.iter().find(|it| it[0] == class.sop_class).unwrap();
            let found = match frames_name(class.sop_class) {
                Some(_) => "refused: several_frames",
                None => "image",
            };
            assert_eq!(row.last(), Some(&found), "{}", class.name);
        }
    }
}
