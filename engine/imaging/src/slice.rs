//! Decodes one file of a series: its pixels in Hounsfield units, and its position in the patient.

use std::path::Path;

use dicom_core::{DataDictionary as _, Tag};
use dicom_dictionary_std::{StandardDataDictionary, tags};
use dicom_object::{DefaultDicomObject, OpenFileOptions};
use dicom_pixeldata::PixelDecoder as _;
use domain::{ErrorChain, SopClassUid, SopInstanceUid};

/// Upper bound of the pixels of a slice. The largest detectors have a quarter of it.
const PIXELS_MAX: usize = 64 << 20;

/// Tolerance of the direction cosines from unit length and right angles (PAP-22).
const COSINE_TOLERANCE: f64 = 1e-3;

/// A decoded slice.
#[derive(Clone, Debug)]
pub struct Slice {
    /// SOP Instance UID (0008,0018).
    pub instance: SopInstanceUid,
    /// SOP Class UID (0008,0016).
    pub sop_class: SopClassUid,
    /// Rows (0028,0010).
    pub rows: u32,
    /// Columns (0028,0011).
    pub columns: u32,
    /// Image Orientation (Patient) (0020,0037): direction cosines of the rows, then of the columns.
    pub orientation: [f64; 6],
    /// Image Position (Patient) (0020,0032): centre of the first pixel, in mm.
    pub position: [f64; 3],
    /// Pixel Spacing (0028,0030): distance of the rows, then of the columns, in mm.
    pub spacing: [f64; 2],
    /// Slice Thickness (0018,0050), in mm; 0 if it is not stated.
    pub thickness: f64,
    /// Frame of Reference UID (0020,0052); empty if it is missing.
    pub frame_of_reference: String,
    /// Gantry/Detector Tilt (0018,1120), in degrees; 0 if it is not stated.
    pub tilt: f64,
    /// Whether the pixels were ever compressed with loss: Lossy Image Compression (0028,2110).
    pub is_lossy: bool,
    /// Values after the rescale of the modality, row by row.
    pub values: Vec<f32>,
}

/// Why a file cannot be used as a slice or picture.
#[derive(Debug, thiserror::Error)]
pub enum SliceError {
    /// The file cannot be parsed as DICOM.
    #[error("an instance cannot be read")]
    Unreadable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// An element is missing, or its value cannot be used.
    #[error("an instance has no usable {name}")]
    Missing {
        /// Name of the element.
        name: &'static str,
    },
    /// The pixels cannot be decoded.
    #[error("the pixels of an instance cannot be decoded: {reason}")]
    Undecodable {
        /// The error of the decoder.
        reason: String,
    },
    /// The image is not a single plane of grey values.
    #[error("an instance is not a single grey-scale slice: {what}")]
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
}

/// Decodes the file at `path`. The bounded header reader of `encoding` must have accepted it
/// before.
///
/// # Errors
///
/// Fails if the file is no slice; another try would fail in the same way.
pub fn read(path: &Path) -> Result<Slice, SliceError> {
    let object = OpenFileOptions::new()
        .open_file(path)
        .map_err(|error| SliceError::Unreadable(Box::new(error)))?;
    let rows = integer(&object, tags::ROWS, "Rows")?;
    let columns = integer(&object, tags::COLUMNS, "Columns")?;
    check_plane(&object, rows, columns)?;
    let orientation = numbers(&object, tags::IMAGE_ORIENTATION_PATIENT, "Image Orientation")?;
    check_orthonormal(&orientation)?;
    let position = numbers(&object, tags::IMAGE_POSITION_PATIENT, "Image Position")?;
    let spacing: [f64; 2] = numbers(&object, tags::PIXEL_SPACING, "Pixel Spacing")?;
    if spacing.iter().any(|it| *it <= 0.0) {
        return Err(SliceError::Missing { name: "Pixel Spacing" });
    }
    Ok(Slice {
        instance: uid(&object, tags::SOP_INSTANCE_UID, "SOP Instance UID")?,
        sop_class: uid(&object, tags::SOP_CLASS_UID, "SOP Class UID")?,
        rows,
        columns,
        orientation,
        position,
        spacing,
        thickness: optional_number(&object, tags::SLICE_THICKNESS).unwrap_or_default(),
        frame_of_reference: text(&object, tags::FRAME_OF_REFERENCE_UID).unwrap_or_default(),
        tilt: optional_number(&object, tags::GANTRY_DETECTOR_TILT).unwrap_or_default(),
        is_lossy: text(&object, tags::LOSSY_IMAGE_COMPRESSION).is_some_and(|it| it == "01"),
        values: values(&object, rows, columns)?,
    })
}

fn check_plane(object: &DefaultDicomObject, rows: u32, columns: u32) -> Result<(), SliceError> {
    check_pixels(object, rows, columns)?;
    if integer(object, tags::SAMPLES_PER_PIXEL, "Samples per Pixel")? != 1 {
        return Err(SliceError::not_a_slice("it is in colour"));
    }
    // PS3.3, C.8.2.1.1.1: a projection along the patient has no thickness to measure with.
    let kinds = object
        .element(tags::IMAGE_TYPE)
        .ok()
        .and_then(|it| it.to_multi_str().ok().map(|it| it.to_vec()));
    if kinds.is_some_and(|it| it.iter().any(|it| it.trim() == "LOCALIZER")) {
        return Err(SliceError::not_a_slice("it is a localizer"));
    }
    // Hounsfield units do not depend on their presentation; the values of other modalities do.
    let is_inverted =
        text(object, tags::PHOTOMETRIC_INTERPRETATION).is_some_and(|it| it == "MONOCHROME1");
    if is_inverted && text(object, tags::MODALITY).is_none_or(|it| it != "CT") {
        return Err(SliceError::not_a_slice("its bright is dark (MONOCHROME1)"));
    }
    Ok(())
}

/// Checks that there is one frame, with pixels up to the upper bound.
pub(crate) fn check_pixels(
    object: &DefaultDicomObject,
    rows: u32,
    columns: u32,
) -> Result<(), SliceError> {
    let pixels = u64::from(rows) * u64::from(columns);
    if pixels == 0 || pixels > PIXELS_MAX as u64 {
        return Err(SliceError::not_a_slice("its rows and columns are beyond the limit"));
    }
    if text(object, tags::NUMBER_OF_FRAMES).is_some_and(|it| it != "1" && it != "0") {
        return Err(SliceError::not_a_slice("it has several frames"));
    }
    Ok(())
}

fn check_orthonormal(orientation: &[f64; 6]) -> Result<(), SliceError> {
    let [a, b, c, d, e, f] = orientation;
    let row = a * a + b * b + c * c;
    let column = d * d + e * e + f * f;
    let across = a * d + b * e + c * f;
    let is_sound = [row - 1.0, column - 1.0, across].iter().all(|it| it.abs() <= COSINE_TOLERANCE);
    if is_sound { Ok(()) } else { Err(SliceError::Missing { name: "Image Orientation" }) }
}

/// Stored values through the rescale of the modality (DIN-80).
pub(crate) fn values(
    object: &DefaultDicomObject,
    rows: u32,
    columns: u32,
) -> Result<Vec<f32>, SliceError> {
    let decoded = object.decode_pixel_data().map_err(|it| SliceError::undecodable(&it))?;
    // By default the library applies the rescale of the header.
    let values: Vec<f32> = decoded.to_vec().map_err(|it| SliceError::undecodable(&it))?;
    if values.len() != rows as usize * columns as usize {
        let reason = "there are fewer pixels than rows and columns say".to_owned();
        return Err(SliceError::Undecodable { reason });
    }
    Ok(values)
}

pub(crate) fn text(object: &DefaultDicomObject, tag: Tag) -> Option<String> {
    let text = object.element(tag).ok()?.to_str().ok()?;
    Some(text.trim_matches(['\0', ' ']).to_owned()).filter(|it| !it.is_empty())
}

fn optional_number(object: &DefaultDicomObject, tag: Tag) -> Option<f64> {
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
    value.ok_or(SliceError::Missing { name })
}

fn numbers<const N: usize>(
    object: &DefaultDicomObject,
    tag: Tag,
    name: &'static str,
) -> Result<[f64; N], SliceError> {
    let element = object.element(tag).map_err(|_| SliceError::Missing { name })?;
    let numbers = element.to_multi_float64().map_err(|_| SliceError::Missing { name })?;
    if numbers.iter().any(|it| !it.is_finite()) {
        return Err(SliceError::Missing { name });
    }
    numbers.try_into().map_err(|_| SliceError::Missing { name })
}

pub(crate) fn uid<T: std::str::FromStr>(
    object: &DefaultDicomObject,
    tag: Tag,
    name: &'static str,
) -> Result<T, SliceError> {
    let text = text(object, tag).ok_or(SliceError::Missing { name })?;
    text.parse().map_err(|_| SliceError::Missing { name })
}
