//! The rescale of a modality: from stored values to values with a unit (PS3.3, C.11.1.1.2; DIN-80).
//!
//! In a CT the unit is Hounsfield units, and both numbers are Type 1 (PS3.3, C.8.2.1). A CT that
//! leaves one of them, or the unit, open is an error: bone begins at 300 of whatever was guessed.
//! Other images may have a table instead (PS3.3, C.11.1.1.1).

use dicom_core::Tag;
use dicom_dictionary_std::tags;
use dicom_object::mem::InMemElement;
use dicom_object::{DefaultDicomObject, InMemDicomObject};

use crate::image_attributes::{SliceError, StatedNumber, integer, quoted, text, texts};
use crate::lookup_table::LookupTable;
use crate::sequence_items::items;
use crate::stored_values::StoredValues;
use crate::window::Window;

/// CT Image Storage, Enhanced CT Image Storage and Legacy Converted Enhanced CT Image Storage.
const CT_CLASSES: [&str; 3] =
    ["1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2"];

/// Why a CT without a readable number is refused.
const NO_HOUNSFIELD_UNITS: &str = "a CT has no Hounsfield units without it";

/// The way from stored values to values with a unit.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Rescale {
    /// A straight line.
    Line {
        /// Rescale Slope (0028,1053).
        slope: f64,
        /// Rescale Intercept (0028,1052).
        intercept: f64,
    },
    /// The table of a Modality LUT Sequence (0028,3000).
    Table(LookupTable),
}

impl Rescale {
    /// The rescale of an image that is measured.
    ///
    /// # Errors
    ///
    /// Fails if the image is a CT and its values are not known to be Hounsfield units, or if a
    /// number is there and cannot be read.
    pub(crate) fn for_measuring(object: &DefaultDicomObject) -> Result<Self, SliceError> {
        let is_ct = is_ct(object);
        if is_ct {
            check_hounsfield(object)?;
        }
        Self::of(object, is_ct)
    }

    /// The rescale of an image that is shown. The window of a CT is in the unit of its values,
    /// whatever that is.
    ///
    /// # Errors
    ///
    /// Fails if a number cannot be read, or is missing from a CT.
    pub(crate) fn for_showing(object: &DefaultDicomObject) -> Result<Self, SliceError> {
        Self::of(object, has_ct_class(object))
    }

    fn of(object: &DefaultDicomObject, is_ct: bool) -> Result<Self, SliceError> {
        if is_ct && object.get(tags::MODALITY_LUT_SEQUENCE).is_some_and(is_filled) {
            let why = "the values of a CT are rescaled by slope and intercept";
            return Err(SliceError::unclear("Modality LUT Sequence", "present", why));
        }
        if let Some(table) = items(object, tags::MODALITY_LUT_SEQUENCE).first() {
            let is_signed =
                integer(object, tags::PIXEL_REPRESENTATION, "Pixel Representation")? == 1;
            return Ok(Self::Table(LookupTable::of_item(table, is_signed)?));
        }
        let intercept = number(object, tags::RESCALE_INTERCEPT, "Rescale Intercept", is_ct)?;
        let slope = number(object, tags::RESCALE_SLOPE, "Rescale Slope", is_ct)?.unwrap_or(1.0);
        if slope == 0.0 {
            let why = "all pixels would have one value";
            return Err(SliceError::unclear("Rescale Slope", "0", why));
        }
        Ok(Self::Line { slope, intercept: intercept.unwrap_or(0.0) })
    }

    /// The values with their unit, row by row; not a number (NaN) where a pixel is padding.
    pub(crate) fn values(&self, stored: &StoredValues) -> Vec<f32> {
        let values = stored.values();
        values.map(|it| it.map_or(f32::NAN, |stored| self.value(stored))).collect()
    }

    /// The window over every value that the pixels could have.
    pub(crate) fn full_window(&self, stored: &StoredValues) -> Window {
        let [low, high] = self.bounds(stored);
        Window::between(low, high)
    }

    /// The least and the greatest value that the pixels could have.
    pub(crate) fn bounds(&self, stored: &StoredValues) -> [f32; 2] {
        if let Self::Table(table) = self {
            return [0.0, f32::from(table.output_max())];
        }
        let [a, b] = stored.bounds().map(|it| self.value(it));
        [a.min(b), a.max(b)]
    }

    fn value(&self, stored: i32) -> f32 {
        match self {
            #[expect(
                clippy::cast_possible_truncation,
                reason = "a voxel is worth no more than an f32"
            )]
            Self::Line { slope, intercept } => (slope * f64::from(stored) + intercept) as f32,
            Self::Table(table) => f32::from(table.output(stored)),
        }
    }
}

/// Whether the values of an image are Hounsfield units.
pub(crate) fn is_in_hounsfield_units(object: &DefaultDicomObject) -> bool {
    is_ct(object) && check_hounsfield(object).is_ok()
}

fn is_ct(object: &DefaultDicomObject) -> bool {
    has_ct_class(object) || text(object, tags::MODALITY).is_some_and(|it| it == "CT")
}

fn has_ct_class(object: &DefaultDicomObject) -> bool {
    text(object, tags::SOP_CLASS_UID).is_some_and(|it| CT_CLASSES.contains(&it.as_str()))
}

/// A number of the rescale; nothing if it is missing or empty where it may be.
fn number(
    object: &DefaultDicomObject,
    tag: Tag,
    name: &'static str,
    is_ct: bool,
) -> Result<Option<f64>, SliceError> {
    match StatedNumber::of(stated(object, tag)) {
        StatedNumber::Number(number) => Ok(Some(number)),
        StatedNumber::Unreadable(found) => {
            Err(SliceError::unclear(name, found, "that is not a decimal number"))
        }
        StatedNumber::Missing if is_ct => {
            Err(SliceError::unclear(name, "missing", NO_HOUNSFIELD_UNITS))
        }
        StatedNumber::Empty if is_ct => {
            Err(SliceError::unclear(name, "empty", NO_HOUNSFIELD_UNITS))
        }
        StatedNumber::Missing | StatedNumber::Empty => Ok(None),
    }
}

/// Checks that the values of a CT are in Hounsfield units.
///
/// Rescale Type (0028,1054) may be missing if they are, but for a multi-energy CT. `US` leaves the
/// unit open, and an original image is in Hounsfield units whatever its type (PS3.3, C.8.2.1).
fn check_hounsfield(object: &DefaultDicomObject) -> Result<(), SliceError> {
    let unit = stated(object, tags::RESCALE_TYPE).map(|it| texts(it).join("\\"));
    let is_multi_energy =
        text(object, tags::MULTIENERGY_CT_ACQUISITION).is_some_and(|it| it == "YES");
    let is_original = object
        .get(tags::IMAGE_TYPE)
        .is_some_and(|it| texts(it).first().is_some_and(|kind| kind == "ORIGINAL"));
    match unit.unwrap_or_default().as_str() {
        "" if is_multi_energy => {
            let why = "a multi-energy CT states the unit of its values";
            Err(SliceError::unclear("Rescale Type", "missing", why))
        }
        "HU" | "" => Ok(()),
        "US" if is_original && !is_multi_energy => Ok(()),
        other => {
            let why = "the values of the CT are not in Hounsfield units";
            Err(SliceError::unclear("Rescale Type", quoted(other), why))
        }
    }
}

/// An element of the image itself, or else of the functional groups of its frame.
fn stated(object: &InMemDicomObject, tag: Tag) -> Option<&InMemElement> {
    let own = object.get(tag);
    if own.is_some_and(is_filled) {
        return own;
    }
    let of_frame = group(object, tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE);
    let of_all = group(object, tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE);
    let in_frame = of_frame.and_then(|it| transformation(it)?.get(tag));
    let in_all = of_all.and_then(|it| transformation(it).unwrap_or(it).get(tag));
    in_frame.or(in_all).or(own)
}

/// The first item of a sequence of functional groups.
fn group(object: &InMemDicomObject, sequence: Tag) -> Option<&InMemDicomObject> {
    items(object, sequence).first()
}

/// The rescale of a functional group (PS3.3, C.7.6.16.2.9).
fn transformation(group: &InMemDicomObject) -> Option<&InMemDicomObject> {
    items(group, tags::PIXEL_VALUE_TRANSFORMATION_SEQUENCE).first()
}

/// Whether an element has a value, or an item.
fn is_filled(element: &InMemElement) -> bool {
    match element.items() {
        Some(items) => !items.is_empty(),
        None => texts(element).iter().any(|it| !it.is_empty()),
    }
}
