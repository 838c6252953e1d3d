//! Reads attributes from the header of an image, and says why one cannot be used.

use dicom_core::value::{PrimitiveValue, Value};
use dicom_core::{DataDictionary as _, Tag};
use dicom_dictionary_std::StandardDataDictionary;
use dicom_object::DefaultDicomObject;
use dicom_object::mem::InMemElement;
use domain::ErrorChain;

/// Upper bound of what a reason quotes from a header, in characters.
const QUOTED_CHARS_MAX: usize = 64;

/// Why a file cannot be used as a slice or picture. The texts do not name the file: whoever reads
/// several does.
#[derive(Debug, thiserror::Error)]
pub enum SliceError {
    /// The file cannot be parsed as DICOM.
    #[error("it cannot be read")]
    Unreadable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// An element is missing or empty.
    #[error("it has no {name}")]
    Missing {
        /// Name of the element.
        name: &'static str,
    },
    /// An element has a value that it may not have.
    #[error("its {name} is {found}, which cannot be used")]
    Unusable {
        /// Name of the element.
        name: &'static str,
        /// The value.
        found: String,
    },
    /// An element leaves open what the pixels mean, so they are not read at all.
    #[error("{name} is {found}: {why}")]
    Unclear {
        /// Name of the element.
        name: &'static str,
        /// What is there: the value, or that there is none.
        found: String,
        /// Why the pixels cannot be read with it.
        why: &'static str,
    },
    /// The pixels cannot be decoded.
    #[error("its pixels cannot be decoded: {reason}")]
    Undecodable {
        /// The error of the decoder.
        reason: String,
    },
    /// The image is a projection along the patient, which has no thickness to measure with (PS3.3,
    /// C.8.2.1.1.1).
    #[error("it is a localizer")]
    Localizer,
    /// The object has more than one frame.
    #[error("it has several frames")]
    SeveralFrames,
    /// The image is not a single plane of grey values.
    #[error("it is not a single grey-scale slice: {what}")]
    NotASlice {
        /// What the image is instead.
        what: String,
    },
}

impl SliceError {
    /// The error of a decoder, with its causes.
    pub(crate) fn undecodable(error: &dyn std::error::Error) -> Self {
        Self::Undecodable { reason: ErrorChain(error).to_string() }
    }

    /// The error of an image that is something else than a slice.
    pub(crate) fn not_a_slice(what: impl Into<String>) -> Self {
        Self::NotASlice { what: what.into() }
    }

    /// The error of an element whose value cannot be used.
    fn unusable(name: &'static str, element: &InMemElement) -> Self {
        let texts = texts(element);
        if texts.iter().all(String::is_empty) {
            return Self::Missing { name };
        }
        Self::Unusable { name, found: quoted(&texts.join("\\")) }
    }

    /// The error of an element that leaves open what the pixels mean.
    pub(crate) fn unclear(name: &'static str, found: impl Into<String>, why: &'static str) -> Self {
        Self::Unclear { name, found: found.into(), why }
    }
}

/// A number that an element states.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum StatedNumber {
    /// There is no element.
    Missing,
    /// The element has no value.
    Empty,
    /// Every value of the element is this one.
    Number(f64),
    /// The element has something else for a value, quoted here.
    Unreadable(String),
}

impl StatedNumber {
    /// Reads an element of VR DS. Integers in binary form are unreadable: their sign depends on a
    /// representation that a DS does not have.
    pub(crate) fn of(element: Option<&InMemElement>) -> Self {
        let Some(element) = element else { return Self::Missing };
        let texts = texts(element);
        if texts.iter().all(String::is_empty) {
            return Self::Empty;
        }
        let is_decimal = matches!(
            element.value(),
            Value::Primitive(
                PrimitiveValue::Str(_)
                    | PrimitiveValue::Strs(_)
                    | PrimitiveValue::U8(_)
                    | PrimitiveValue::F32(_)
                    | PrimitiveValue::F64(_)
            )
        );
        let numbers = texts.iter().map(|it| it.parse().ok().filter(|it: &f64| it.is_finite()));
        let numbers: Option<Vec<f64>> = numbers.collect();
        match numbers.as_deref() {
            Some([first, rest @ ..])
                if is_decimal && rest.iter().all(|it| it.total_cmp(first).is_eq()) =>
            {
                Self::Number(*first)
            }
            _ => Self::Unreadable(quoted(&texts.join("\\"))),
        }
    }
}

/// The values of an element as text, without padding. Bytes of an unknown representation (UN) are
/// text too, as the dictionary would have it for every element that is read here.
pub(crate) fn texts(element: &InMemElement) -> Vec<String> {
    let whole = match element.value() {
        Value::Primitive(PrimitiveValue::U8(bytes)) => String::from_utf8_lossy(bytes).into_owned(),
        Value::Primitive(value) => value.to_multi_str().join("\\"),
        Value::Sequence(_) => "a sequence".to_owned(),
        Value::PixelSequence(_) => "fragments".to_owned(),
    };
    if whole.is_empty() {
        return Vec::new();
    }
    whole.split('\\').map(|it| it.trim_matches(is_padding).to_owned()).collect()
}

/// Whether a letter only fills a value up to its length.
fn is_padding(letter: char) -> bool {
    letter.is_whitespace() || letter == '\0'
}

/// A text of a header in a form that a reason may hold.
pub(crate) fn quoted(text: &str) -> String {
    let letters = text.chars().take(QUOTED_CHARS_MAX);
    let letters: String = letters.map(|it| if it.is_control() { '\u{fffd}' } else { it }).collect();
    format!("`{letters}`")
}

/// The text of an element without its padding; nothing if it is missing or empty.
pub(crate) fn text(object: &DefaultDicomObject, tag: Tag) -> Option<String> {
    let text = texts(object.get(tag)?).join("\\");
    Some(text).filter(|it| !it.is_empty())
}

pub(crate) fn optional_number(object: &DefaultDicomObject, tag: Tag) -> Option<f64> {
    text(object, tag)?.parse().ok()
}

pub(crate) fn integer(
    object: &DefaultDicomObject,
    tag: Tag,
    name: &'static str,
) -> Result<u32, SliceError> {
    // These elements are US in every object; any other representation is an attack (SEC-24).
    let element = object.element(tag).map_err(|_| SliceError::Missing { name })?;
    let is_short =
        StandardDataDictionary.by_tag(tag).is_some() && element.vr() == dicom_core::VR::US;
    let value = element.to_int::<u32>().ok().filter(|_| is_short);
    value.ok_or_else(|| SliceError::unusable(name, element))
}

pub(crate) fn numbers<const N: usize>(
    object: &DefaultDicomObject,
    tag: Tag,
    name: &'static str,
) -> Result<[f64; N], SliceError> {
    let element = object.element(tag).map_err(|_| SliceError::Missing { name })?;
    let numbers = element.to_multi_float64().unwrap_or_default();
    let numbers: Option<[f64; N]> = numbers.try_into().ok();
    let numbers = numbers.filter(|it| it.iter().all(|number| number.is_finite()));
    numbers.ok_or_else(|| SliceError::unusable(name, element))
}

pub(crate) fn uid<T: std::str::FromStr>(
    object: &DefaultDicomObject,
    tag: Tag,
    name: &'static str,
) -> Result<T, SliceError> {
    let text = text(object, tag).ok_or(SliceError::Missing { name })?;
    text.parse().map_err(|_| SliceError::Unusable { name, found: quoted(&text) })
}

#[cfg(test)]
mod tests {
    use dicom_core::{DataElement, VR};
    use dicom_dictionary_std::tags;

    use super::*;

    fn stated(vr: VR, value: impl Into<PrimitiveValue>) -> StatedNumber {
        let value: PrimitiveValue = value.into();
        StatedNumber::of(Some(&DataElement::new(tags::RESCALE_INTERCEPT, vr, value)))
    }

    #[test]
    fn din_76_a_number_is_read_with_its_padding_and_in_any_decimal_form() {
        let is_1024 = StatedNumber::Number(-1024.0);
        for text in ["-1024", " -1024 ", "-1024\0", "-1.024E+03", "-1024.", "-1024\\-1024 "] {
            assert_eq!(stated(VR::DS, text), is_1024, "{text}");
            assert_eq!(stated(VR::UN, text.as_bytes().to_vec()), is_1024, "{text}");
        }
        assert_eq!(stated(VR::FD, -1024.0_f64), is_1024);
        assert_eq!(StatedNumber::of(None), StatedNumber::Missing);
        for nothing in ["", "  ", "\0"] {
            assert_eq!(stated(VR::DS, nothing), StatedNumber::Empty);
        }
    }

    #[test]
    fn din_80_a_value_that_cannot_be_used_is_told_and_one_that_is_missing_as_missing() {
        let spacing = tags::PIXEL_SPACING;
        let read = |value: Option<&str>| {
            let mut sample = crate::sample::Sample::ct();
            sample.remove(spacing);
            if let Some(value) = value {
                sample.put(spacing, VR::DS, value);
            }
            let read = numbers::<2>(&sample.object(), spacing, "Pixel Spacing");
            read.map_err(|it| it.to_string())
        };
        assert_eq!(read(Some("0.5\\0.5")), Ok([0.5, 0.5]));
        for nothing in [None, Some(""), Some(" ")] {
            assert_eq!(read(nothing), Err("it has no Pixel Spacing".to_owned()));
        }
        for odd in ["0,5\\0,5", "0.5", "NaN\\0.5", "1\\2\\3"] {
            let expected = format!("its Pixel Spacing is `{odd}`, which cannot be used");
            assert_eq!(read(Some(odd)), Err(expected));
        }
    }

    #[test]
    fn what_is_no_number_is_quoted() {
        for text in ["-1024,0", "1.0 HU", "NaN", "inf", "-1024\\0", "1\\", "- 1024", "0x10"] {
            let expected = StatedNumber::Unreadable(format!("`{text}`"));
            assert_eq!(stated(VR::DS, text), expected);
        }
        let unsigned = stated(VR::US, 64_512_u16);
        assert_eq!(unsigned, StatedNumber::Unreadable("`64512`".to_owned()));
        let long = stated(VR::UN, vec![7_u8; 200]);
        let expected = "\u{fffd}".repeat(QUOTED_CHARS_MAX);
        assert_eq!(long, StatedNumber::Unreadable(format!("`{expected}`")));
    }
}
