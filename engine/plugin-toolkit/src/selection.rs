//! Chooses the images of a study that a plugin works on.
//!
//! Series and instances arrive in no particular order, and their UIDs mean nothing. Images are
//! chosen by what they show, in the order in which a radiologist hangs them: see [`order_of`]. The
//! same study gives the same images, in the same order, in every run.

use domain::{Code, ImageFacts, SeriesInput, SeriesInstance, StudyInput};

/// Steps of a millimetre in which heights of slices are compared: headers round them.
const HEIGHT_STEPS_PER_MM: f64 = 1000.0;

/// An image of a study, with the series it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageRef<'a> {
    /// The series of the image.
    pub series: &'a SeriesInput,
    /// The image.
    pub instance: &'a SeriesInstance,
}

/// All images of some series, in the order of their SOP Instance UIDs: for a plugin that works on
/// each of them, in any order that is always the same.
pub fn images_in_order<'a>(series: impl IntoIterator<Item = &'a SeriesInput>) -> Vec<ImageRef<'a>> {
    let mut images = images_of(series);
    images.sort_by(|a, b| a.instance.instance.as_str().cmp(b.instance.instance.as_str()));
    images
}

fn images_of<'a>(series: impl IntoIterator<Item = &'a SeriesInput>) -> Vec<ImageRef<'a>> {
    let images = series.into_iter().flat_map(|series| {
        series.instances.iter().map(move |instance| ImageRef { series, instance })
    });
    images.collect()
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
    /// The images about the middle of the largest stack: the most images of one series in one
    /// plane.
    Middle,
}

/// Chosen images, and what they were chosen from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice<'a> {
    /// The images, in order.
    pub images: Vec<ImageRef<'a>>,
    /// The number of images that there were to choose from.
    pub considered: usize,
}

impl Selection {
    /// The chosen images of a study; none if it has no series of these modalities.
    pub fn images<'a>(&self, study: &'a StudyInput) -> Vec<ImageRef<'a>> {
        self.choose(study).images
    }

    /// Chooses images of a study.
    pub fn choose<'a>(&self, study: &'a StudyInput) -> Choice<'a> {
        let series = study.series.iter().filter(|it| self.modalities.contains(&it.modality));
        let mut images = images_of(series);
        images.sort_by_cached_key(|it| order_of(study, *it));
        let considered = images.len();
        if self.position == Position::Middle {
            images = largest_stack(study, &images);
            let skipped = images.len().saturating_sub(self.count) / 2;
            images.drain(..skipped);
        }
        images.truncate(self.count);
        Choice { images, considered }
    }

    /// Why these images were chosen, for people.
    pub fn reason(&self, choice: &Choice<'_>) -> String {
        let chosen = choice.images.len();
        let all = choice.considered;
        let modalities = self.modalities.join(", ");
        let rule = match self.position {
            Position::First => {
                "the first by view (PA, AP, others, oblique, lateral), number of the series, \
                 position along the normal, numbers of acquisition and image"
            }
            Position::Middle => {
                "about the middle of the largest stack, by position along the normal"
            }
        };
        format!("{chosen} of {all} images of {modalities}: {rule}")
    }
}

/// The view of a projection, in the order in which radiologists look at views.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum View {
    /// From behind: the heart is nearest to its true size.
    PosteroAnterior,
    /// From the front.
    AnteroPosterior,
    /// Any other, or not known.
    Other,
    /// Turned between front and side.
    Oblique,
    /// From a side.
    Lateral,
}

impl View {
    /// The view that a header states, by View Position (0018,5101), or else by View Code Sequence
    /// (0054,0220), or else by Patient Orientation (0020,0020).
    pub fn of(facts: &ImageFacts) -> Self {
        match facts.view_position.as_str() {
            "PA" => return Self::PosteroAnterior,
            "AP" => return Self::AnteroPosterior,
            "LL" | "RL" | "LLD" | "RLD" | "LATERAL" | "LAT" => return Self::Lateral,
            "LLO" | "RLO" | "LAO" | "RAO" | "LPO" | "RPO" => return Self::Oblique,
            _ => {}
        }
        if let Some(view) = facts.view_code.as_ref().and_then(Self::of_code) {
            return view;
        }
        // The first letter is the main direction of a row, which goes from side to side on a
        // frontal view and from front to back on a lateral one.
        let row = facts.patient_orientation.first().and_then(|it| it.chars().next());
        match row {
            Some('L' | 'R') if facts.orientation.is_none() => Self::AnteroPosterior,
            Some('A' | 'P') if facts.orientation.is_none() => Self::Lateral,
            _ => Self::Other,
        }
    }
}

impl View {
    /// The view that a code of SNOMED CT means (PS3.16, CID 4010), also by the value that it had
    /// before 2020.
    fn of_code(code: &Code) -> Option<Self> {
        if !matches!(code.scheme.as_str(), "SCT" | "SRT" | "SNM3" | "99SDM") {
            return None;
        }
        match code.value.as_str() {
            "272479007" | "R-40888" | "R-10214" => Some(Self::PosteroAnterior),
            "399348003" | "R-10206" => Some(Self::AnteroPosterior),
            "399067008" | "R-102CD" | "399173006" | "R-10236" | "399198007" | "R-10232"
            | "399352003" | "R-10228" | "399260004" | "R-10224" => Some(Self::Lateral),
            "399312000" | "R-10208" | "399059000" | "R-10216" | "399135007" | "R-10220"
            | "399356000" | "R-40985" | "399006002" | "R-10212" | "399038007" | "R-10210"
            | "399184004" | "R-10238" | "399236003" | "R-10234" | "399182000" | "R-102C1"
            | "399160007" | "R-10204" | "399099002" | "R-10230" | "399368009" | "R-10226"
            | "260426006" | "R-40782" | "260427002" | "R-40783" => Some(Self::Oblique),
            _ => None,
        }
    }
}

/// Where an image stands among all images of a study.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ImageOrder<'a> {
    /// A localizer shows where the others were taken, and comes after them.
    is_localizer: bool,
    view: View,
    /// Series without a number come last.
    series_number: i64,
    series: &'a str,
    place: Option<Place>,
    acquisition_number: i64,
    instance_number: i64,
    /// Decides only between images that state the same of themselves.
    instance: &'a str,
}

/// The place of a slice in its stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    /// The axis of the patient that the normal is nearest to.
    plane: usize,
    /// Height along the normal.
    height: i64,
}

/// The order of an image: main images before localizers, frontal views before lateral ones, series
/// by their number, slices along their normal, then acquisition and instance number.
pub fn order_of<'a>(study: &StudyInput, image: ImageRef<'a>) -> ImageOrder<'a> {
    let nothing = ImageFacts::default();
    let facts = study.images.get(&image.instance.instance).unwrap_or(&nothing);
    let last = |number: Option<i64>| number.unwrap_or(i64::MAX);
    ImageOrder {
        is_localizer: facts.image_type.iter().any(|it| it == "LOCALIZER"),
        view: View::of(facts),
        series_number: last(facts.series_number),
        series: image.series.series.as_str(),
        place: Place::of(facts),
        acquisition_number: last(facts.acquisition_number),
        instance_number: last(facts.instance_number),
        instance: image.instance.instance.as_str(),
    }
}

impl Place {
    /// The place that a header states; nothing without position and orientation.
    fn of(facts: &ImageFacts) -> Option<Self> {
        let [a, b, c, d, e, f] = facts.orientation?;
        let position = facts.position?;
        let normal = [b * f - c * e, c * d - a * f, a * e - b * d];
        let plane = (0..normal.len()).max_by(|one, other| {
            let size = |it: &usize| normal.get(*it).copied().unwrap_or_default().abs();
            size(one).total_cmp(&size(other))
        })?;
        let height: f64 = normal.iter().zip(position).map(|(n, p)| n * p).sum();
        #[expect(clippy::cast_possible_truncation, reason = "a patient is not that tall")]
        let height = (height * HEIGHT_STEPS_PER_MM).round() as i64;
        Some(Self { plane, height })
    }
}

/// Images of one series in one plane.
struct Stack<'a> {
    /// Whether they are no localizers.
    is_main: bool,
    series: &'a str,
    plane: Option<usize>,
    images: Vec<ImageRef<'a>>,
}

/// The images of the series and plane that has the most of them, without localizers if there is
/// anything else. `images` are in order.
fn largest_stack<'a>(study: &StudyInput, images: &[ImageRef<'a>]) -> Vec<ImageRef<'a>> {
    let mut stacks: Vec<Stack<'a>> = Vec::new();
    for image in images {
        let order = order_of(study, *image);
        let is_main = !order.is_localizer;
        let plane = order.place.map(|it| it.plane);
        let is_in = |it: &&mut Stack<'a>| {
            it.is_main == is_main && it.series == order.series && it.plane == plane
        };
        if let Some(stack) = stacks.iter_mut().find(is_in) {
            stack.images.push(*image);
        } else {
            let images = vec![*image];
            stacks.push(Stack { is_main, series: order.series, plane, images });
        }
    }
    // The first of equals: `max_by_key` would take the last.
    let largest = stacks.into_iter().rev().max_by_key(|it| (it.is_main, it.images.len()));
    largest.map(|it| it.images).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use domain::PatientFacts;

    use super::*;

    /// A study of images, each with the UIDs of series and image, its modality, and what its header
    /// states.
    fn study(images: &[(&str, &str, &str, ImageFacts)]) -> StudyInput {
        let mut study = StudyInput {
            study: "1".parse().unwrap(),
            series: Vec::new(),
            patient: PatientFacts::default(),
            images: BTreeMap::new(),
        };
        for (series, instance, modality, facts) in images {
            study.images.insert(instance.parse().unwrap(), facts.clone());
            let instance = SeriesInstance {
                instance: instance.parse().unwrap(),
                sop_class: "1.2.840.10008.5.1.4.1.1.1".parse().unwrap(),
            };
            match study.series.iter_mut().find(|it| it.series.as_str() == *series) {
                Some(known) => known.instances.push(instance),
                None => study.series.push(SeriesInput {
                    series: series.parse().unwrap(),
                    modality: (*modality).to_owned(),
                    instances: vec![instance],
                }),
            }
        }
        study
    }

    fn view(view: &str, number: i64) -> ImageFacts {
        let view_position = view.to_owned();
        ImageFacts { view_position, instance_number: Some(number), ..ImageFacts::default() }
    }

    /// An axial slice.
    fn slice(series: i64, height: f64, number: i64) -> ImageFacts {
        ImageFacts {
            series_number: Some(series),
            instance_number: Some(number),
            position: Some([-100.0, -100.0, height]),
            orientation: Some([1.0, 0.0, 0.0, 0.0, 1.0, 0.0]),
            ..ImageFacts::default()
        }
    }

    fn chosen(study: &StudyInput, modality: &str, count: usize, position: Position) -> Vec<String> {
        let selection = Selection { modalities: vec![modality.to_owned()], count, position };
        let images = selection.images(study);
        images.iter().map(|it| it.instance.instance.to_string()).collect()
    }

    #[test]
    fn din_83_frontal_views_come_before_lateral_ones_whatever_their_uids() {
        let turned = |row: &str| ImageFacts {
            patient_orientation: vec![row.to_owned(), "F".to_owned()],
            ..ImageFacts::default()
        };
        let study = study(&[
            ("1.1", "1.1.1", "DX", view("LL", 1)),
            ("1.1", "1.1.2", "DX", view("LLO", 2)),
            ("1.2", "1.2.3", "DX", view("", 1)),
            ("1.3", "1.3.10", "DX", view("PA", 9)),
            ("1.3", "1.3.4", "DX", view("AP", 3)),
            ("1.4", "1.4.5", "DX", turned("P")),
            ("1.5", "1.5.6", "DX", turned("L")),
            ("1.6", "1.6.1", "CT", slice(1, 0.0, 1)),
        ]);
        let expected = ["1.3.10", "1.3.4", "1.5.6", "1.2.3", "1.1.2", "1.1.1", "1.4.5"];
        assert_eq!(chosen(&study, "DX", 9, Position::First), expected);
        assert_eq!(chosen(&study, "DX", 1, Position::First), ["1.3.10"]);
        assert!(chosen(&study, "MR", 3, Position::Middle).is_empty());
    }

    #[test]
    fn din_81_slices_are_in_the_order_of_their_positions_then_of_their_numbers() {
        let study = study(&[
            ("1.1", "1.1.1", "CT", slice(2, 30.0, 1)),
            ("1.1", "1.1.2", "CT", slice(2, 10.0, 3)),
            ("1.1", "1.1.10", "CT", slice(2, 20.0, 2)),
            ("1.1", "1.1.9", "CT", slice(2, 20.0, 4)),
            ("1.2", "1.2.1", "CT", slice(1, 99.0, 1)),
        ]);
        let expected = ["1.2.1", "1.1.2", "1.1.10", "1.1.9", "1.1.1"];
        assert_eq!(chosen(&study, "CT", 9, Position::First), expected);
    }

    #[test]
    fn din_83_a_view_code_counts_where_there_is_no_view_position() {
        let coded = |value: &str, scheme: &str, position: &str| ImageFacts {
            view_position: position.to_owned(),
            view_code: Some(Code::new(value, scheme, "")),
            ..ImageFacts::default()
        };
        for (facts, expected) in [
            (coded("272479007", "SCT", ""), View::PosteroAnterior),
            (coded("R-10206", "SRT", ""), View::AnteroPosterior),
            (coded("399173006", "SCT", ""), View::Lateral),
            (coded("399368009", "SCT", ""), View::Oblique),
            (coded("272479007", "SCT", "LL"), View::Lateral),
            (coded("272479007", "99X", ""), View::Other),
            (coded("399061009", "SCT", ""), View::Other),
        ] {
            assert_eq!(View::of(&facts), expected, "{facts:?}");
        }
    }

    /// Of several series, the middle of all would be in none.
    #[test]
    fn din_81_the_middle_is_that_of_the_largest_stack_without_its_localizers() {
        let mut scout = slice(1, 500.0, 1);
        scout.image_type =
            vec!["ORIGINAL".to_owned(), "PRIMARY".to_owned(), "LOCALIZER".to_owned()];
        let mut coronal = slice(2, 7.0, 9);
        coronal.orientation = Some([1.0, 0.0, 0.0, 0.0, 0.0, -1.0]);
        let study = study(&[
            ("1.9", "1.9.1", "CT", scout.clone()),
            ("1.9", "1.9.2", "CT", scout.clone()),
            ("1.9", "1.9.3", "CT", scout.clone()),
            ("1.9", "1.9.4", "CT", scout),
            ("1.1", "1.1.3", "CT", slice(2, -10.0, 1)),
            ("1.1", "1.1.2", "CT", slice(2, -20.0, 2)),
            ("1.1", "1.1.1", "CT", slice(2, -30.0, 3)),
            ("1.1", "1.1.4", "CT", coronal),
            ("1.3", "1.3.1", "CT", slice(3, 0.0, 1)),
        ]);
        assert_eq!(chosen(&study, "CT", 1, Position::Middle), ["1.1.2"]);
        assert_eq!(chosen(&study, "CT", 2, Position::Middle), ["1.1.1", "1.1.2"]);
        assert_eq!(chosen(&study, "CT", 9, Position::Middle), ["1.1.1", "1.1.2", "1.1.3"]);
    }

    #[test]
    fn images_that_state_nothing_are_in_the_order_of_their_uids() {
        let nothing = ImageFacts::default;
        let study = study(&[
            ("1.1", "1.1.9", "DX", nothing()),
            ("1.1", "1.1.2", "DX", nothing()),
            ("1.3", "1.3.5", "CT", nothing()),
        ]);
        assert_eq!(chosen(&study, "DX", 2, Position::First), ["1.1.2", "1.1.9"]);
        let images = images_in_order(&study.series);
        let modalities: Vec<&str> = images.iter().map(|it| it.series.modality.as_str()).collect();
        assert_eq!(modalities, ["DX", "DX", "CT"]);
    }

    #[test]
    fn a_choice_has_a_reason() {
        let study =
            study(&[("1.1", "1.1.1", "DX", view("LL", 1)), ("1.1", "1.1.2", "DX", view("PA", 2))]);
        let modalities = vec!["CR".to_owned(), "DX".to_owned()];
        let selection = Selection { modalities, count: 1, position: Position::First };
        let reason = selection.reason(&selection.choose(&study));
        assert!(reason.starts_with("1 of 2 images of CR, DX: the first by view"), "{reason}");
    }
}
