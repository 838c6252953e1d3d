//! The ways in which a file says that its values are to be shown: windows and tables (PS3.3,
//! C.11.2; DIN-80).

use dicom_core::Tag;
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;

use crate::image_attributes::{SliceError, texts};
use crate::lookup_table::LookupTable;
use crate::sequence_items::{items, text};
use crate::window::{VoiFunction, Window};

/// From values to grey levels.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Voi {
    /// Through a window.
    Window(Window, VoiFunction),
    /// Through the table of a VOI LUT Sequence (0028,3010).
    Table(LookupTable),
}

/// A way to show an image that its file states.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FiledVoi {
    pub(crate) voi: Voi,
    /// What the modality calls it: LUT Explanation (0028,3003), Window Center & Width Explanation
    /// (0028,1055).
    pub(crate) name: Option<String>,
}

impl Voi {
    /// The grey level of a value.
    pub(crate) fn gray(&self, value: f32) -> u8 {
        match self {
            Self::Window(window, function) => window.gray_by(*function, value),
            Self::Table(_) if value.is_nan() => 0,
            #[expect(clippy::cast_possible_truncation, reason = "a value of 16 bits and a slope")]
            Self::Table(table) => table.level(value.round() as i32),
        }
    }
}

/// All ways to show an image that its file states, tables first: a modality that writes a table
/// means it, and its windows are for viewers without tables.
///
/// `is_signed` is whether the values may be negative.
///
/// # Errors
///
/// Fails if a table cannot be read: no window is known to show the same.
pub(crate) fn of_file(
    object: &InMemDicomObject,
    is_signed: bool,
) -> Result<Vec<FiledVoi>, SliceError> {
    let stated = stating(object);
    let mut all = Vec::new();
    for item in items(stated, tags::VOILUT_SEQUENCE) {
        let voi = Voi::Table(LookupTable::of_item(item, is_signed)?);
        all.push(FiledVoi { voi, name: text(item, tags::LUT_EXPLANATION) });
    }
    let function = text(stated, tags::VOILUT_FUNCTION).unwrap_or_default();
    let function = VoiFunction::of(&function);
    let names = stated.get(tags::WINDOW_CENTER_WIDTH_EXPLANATION).map(texts).unwrap_or_default();
    let mut names = names.into_iter();
    let centers = numbers(stated, tags::WINDOW_CENTER).into_iter();
    for (center, width) in centers.zip(numbers(stated, tags::WINDOW_WIDTH)) {
        let name = names.next().filter(|it| !it.is_empty());
        if let Some((center, width)) = center.zip(width)
            && function.takes_width(width)
        {
            let voi = Voi::Window(Window { center, width }, function);
            all.push(FiledVoi { voi, name });
        }
    }
    Ok(all)
}

/// The data set that states how to show an image: the image itself, or else the functional groups
/// of its frame (PS3.3, C.7.6.16.2.10).
fn stating(object: &InMemDicomObject) -> &InMemDicomObject {
    let groups =
        [tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE, tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE];
    let in_groups = groups.into_iter().find_map(|sequence| {
        let group = items(object, sequence).first()?;
        items(group, tags::FRAME_VOILUT_SEQUENCE).first()
    });
    let is_stated = |tag| object.get(tag).is_some();
    if is_stated(tags::WINDOW_CENTER) || is_stated(tags::VOILUT_SEQUENCE) {
        return object;
    }
    in_groups.unwrap_or(object)
}

/// The numbers of an element, each if it is one.
fn numbers(object: &InMemDicomObject, tag: Tag) -> Vec<Option<f32>> {
    let texts = object.get(tag).map(texts).unwrap_or_default();
    let number = |it: &String| it.parse().ok().filter(|it: &f32| it.is_finite());
    texts.iter().map(number).collect()
}
