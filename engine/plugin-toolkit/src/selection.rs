//! Chooses the images of a study that a plugin works on.
//!
//! Series and instances arrive in no particular order, so every choice is made in the order of the
//! SOP Instance UIDs: the same study gives the same images, in the same order, in every run.

use domain::{SeriesInput, SeriesInstance, StudyInput};

/// An image of a study, with the series it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageRef<'a> {
    /// The series of the image.
    pub series: &'a SeriesInput,
    /// The image.
    pub instance: &'a SeriesInstance,
}

/// All images of some series, in the order of their SOP Instance UIDs.
pub fn images_in_order<'a>(series: impl IntoIterator<Item = &'a SeriesInput>) -> Vec<ImageRef<'a>> {
    let mut images: Vec<ImageRef<'a>> = series
        .into_iter()
        .flat_map(|series| {
            series.instances.iter().map(move |instance| ImageRef { series, instance })
        })
        .collect();
    images.sort_by(|a, b| a.instance.instance.as_str().cmp(b.instance.instance.as_str()));
    images
}

/// A choice of images of a study.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// Values of Modality (0008,0060) of the series to choose from.
    pub modalities: Vec<String>,
    /// Upper bound of the number of images.
    pub count: usize,
    /// Which of the images are chosen.
    pub position: Position,
}

/// The position of the chosen images among all images in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Position {
    /// The first images.
    #[default]
    First,
    /// The images about the middle, such as the central slices of a stack.
    Middle,
}

impl Selection {
    /// The chosen images of a study; none if it has no series of these modalities.
    pub fn images<'a>(&self, study: &'a StudyInput) -> Vec<ImageRef<'a>> {
        let series = study.series.iter().filter(|it| self.modalities.contains(&it.modality));
        let mut images = images_in_order(series);
        if self.position == Position::Middle {
            let skipped = images.len().saturating_sub(self.count) / 2;
            images.drain(..skipped);
        }
        images.truncate(self.count);
        images
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(uid: &str, modality: &str, instances: &[&str]) -> SeriesInput {
        let instance = |uid: &&str| SeriesInstance {
            instance: uid.parse().unwrap(),
            sop_class: "1.2.840.10008.5.1.4.1.1.1".parse().unwrap(),
        };
        SeriesInput {
            series: uid.parse().unwrap(),
            modality: modality.to_owned(),
            instances: instances.iter().map(instance).collect(),
        }
    }

    fn study() -> StudyInput {
        let series = vec![
            series("1.1", "DX", &["1.1.9", "1.1.2"]),
            series("1.2", "CT", &["1.2.1"]),
            series("1.3", "CR", &["1.1.5", "1.1.4", "1.1.3"]),
        ];
        StudyInput { study: "1".parse().unwrap(), series }
    }

    fn chosen(count: usize, position: Position) -> Vec<String> {
        let modalities = vec!["CR".to_owned(), "DX".to_owned()];
        let study = study();
        let images = Selection { modalities, count, position }.images(&study);
        images.iter().map(|it| it.instance.instance.to_string()).collect()
    }

    #[test]
    fn images_are_chosen_by_modality_in_the_order_of_their_uids() {
        assert_eq!(chosen(2, Position::First), ["1.1.2", "1.1.3"]);
        assert_eq!(chosen(9, Position::First), ["1.1.2", "1.1.3", "1.1.4", "1.1.5", "1.1.9"]);
    }

    #[test]
    fn the_middle_of_a_stack_lies_between_its_ends() {
        assert_eq!(chosen(1, Position::Middle), ["1.1.4"]);
        assert_eq!(chosen(2, Position::Middle), ["1.1.3", "1.1.4"]);
        assert_eq!(chosen(9, Position::Middle).len(), 5);
    }

    #[test]
    fn an_image_comes_with_its_series() {
        let study = study();
        let images = images_in_order(&study.series);
        let modalities: Vec<&str> = images.iter().map(|it| it.series.modality.as_str()).collect();
        assert_eq!(modalities, ["DX", "CR", "CR", "CR", "DX", "CT"]);
    }

    #[test]
    fn a_study_without_such_images_gives_none() {
        let modalities = vec!["MR".to_owned()];
        let selection = Selection { modalities, count: 3, position: Position::Middle };
        assert_eq!(selection.images(&study()), []);
    }
}
