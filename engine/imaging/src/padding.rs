//! Padding: pixels outside of what was scanned, which stand for no tissue (PS3.3, C.7.5.1.1.2).

use std::ops::RangeInclusive;

use dicom_core::Tag;
use dicom_core::value::{PrimitiveValue, Value};
use dicom_dictionary_std::tags;
use dicom_object::DefaultDicomObject;

use crate::cell_format::CellFormat;
use crate::image_attributes::{SliceError, quoted, texts};

/// Which pixels of an image are padding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Padding {
    /// None.
    None,
    /// Those with these stored values.
    StoredValues(RangeInclusive<i32>),
    /// Those whose whole cells are these numbers, which do not fit into the stored bits.
    Cells(RangeInclusive<i32>),
}

impl Padding {
    /// The padding that a header states: Pixel Padding Value (0028,0120), alone or up to Pixel
    /// Padding Range Limit (0028,0121), whichever is the larger.
    ///
    /// # Errors
    ///
    /// Fails if one of the two has a value that cannot be read, or the limit stands alone.
    pub(crate) fn of(object: &DefaultDicomObject, format: CellFormat) -> Result<Self, SliceError> {
        let value = whole_number(object, tags::PIXEL_PADDING_VALUE, "Pixel Padding Value")?;
        let name = "Pixel Padding Range Limit";
        let limit = whole_number(object, tags::PIXEL_PADDING_RANGE_LIMIT, name)?;
        let Some(value) = value else {
            return match limit {
                None => Ok(Self::None),
                Some(limit) => {
                    let why = "there is no Pixel Padding Value to begin with";
                    Err(SliceError::unclear(name, limit.to_string(), why))
                }
            };
        };
        let bounds = [value, limit.unwrap_or(value)];
        if let [Some(a), Some(b)] = bounds.map(|it| format.as_stored_value(it)) {
            return Ok(Self::StoredValues(a.min(b)..=a.max(b)));
        }
        match bounds.map(|it| format.as_whole_cell(it)) {
            [Some(a), Some(b)] => Ok(Self::Cells(a.min(b)..=a.max(b))),
            // No cell can hold such a number, so no pixel is padding.
            _ => Ok(Self::None),
        }
    }

    /// Whether a pixel is padding.
    pub(crate) fn contains(&self, cell: u16, format: CellFormat) -> bool {
        match self {
            Self::None => false,
            Self::StoredValues(range) => range.contains(&format.stored_value(cell)),
            Self::Cells(range) => range.contains(&format.whole_cell(cell)),
        }
    }
}

/// A whole number in any representation: US or SS as it should be, bytes (UN), or text. Nothing if
/// the element is missing or empty.
fn whole_number(
    object: &DefaultDicomObject,
    tag: Tag,
    name: &'static str,
) -> Result<Option<i64>, SliceError> {
    let Some(element) = object.get(tag) else { return Ok(None) };
    let numbers = match element.value() {
        Value::Primitive(PrimitiveValue::Empty) => return Ok(None),
        // Bytes of an unknown representation, in the order of all but a retired transfer syntax.
        Value::Primitive(PrimitiveValue::U8(bytes)) => match bytes.as_slice() {
            [] => return Ok(None),
            [low, high] => Some(vec![i64::from(u16::from_le_bytes([*low, *high]))]),
            _ => None,
        },
        Value::Primitive(PrimitiveValue::Str(_) | PrimitiveValue::Strs(_))
            if texts(element).iter().all(String::is_empty) =>
        {
            return Ok(None);
        }
        Value::Primitive(value) => value.to_multi_int::<i64>().ok(),
        Value::Sequence(_) | Value::PixelSequence(_) => None,
    };
    match numbers.as_deref() {
        Some([first, rest @ ..]) if rest.iter().all(|it| it == first) => Ok(Some(*first)),
        _ => {
            let why = "which pixels are no tissue is not known";
            Err(SliceError::unclear(name, quoted(&texts(element).join("\\")), why))
        }
    }
}
