//! One file of a series: its pixels in Hounsfield units and its place in the patient.

use std::path::Path;

use dicom_core::{DataDictionary as _, Tag};
use dicom_dictionary_std::{StandardDataDictionary, tags};
use dicom_object::{DefaultDicomObject, OpenFileOptions};
use dicom_pixeldata::PixelDecoder as _;
use domain::{ErrorChain, SopClassUid, SopInstanceUid};

/// Most pixels of a slice. The largest detectors have a quarter of it.
const PIXELS_MAX: usize = 64 << 20;

/// Orientation cosines may be this far from length one and right angles (PAP-22).
const COSINE_TOLERANCE: f64 = 1e-3;

/// One slice, decoded.
#[derive(Clone, Debug)]
pub struct Slice {
    /// Which instance.
    pub instance: SopInstanceUid,
    /// What kind.
    pub sop_class: SopClassUid,
    /// Rows.
    pub rows: u32,
    /// Columns.
    pub columns: u32,
    /// Direction of the rows, then of the columns.
    pub orientation: [f64; 6],
    /// Centre of the first pixel, in mm.
    pub position: [f64; 3],
    /// Between rows, then between columns, in mm.
    pub spacing: [f64; 2],
    /// Nominal thickness, in mm.
    pub thickness: f64,
    /// Frame of Reference UID.
    pub frame_of_reference: String,
    /// Gantry tilt as stated, in degrees.
    pub tilt: f64,
    /// Whether the pixels were ever compressed with loss.
    pub is_lossy: bool,
    /// Values after the rescale of the modality, row by row.
    pub values: Vec<f32>,
}

/// Why a file is no slice.
#[derive(Debug, thiserror::Error)]
pub enum SliceError {
    /// It cannot be opened as DICOM.
    #[error("an instance cannot be read")]
    Unreadable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It has no such element, or not a usable one.
    #[error("an instance has no usable {name}")]
    Missing {
        /// Name of the element.
        name: &'static str,
    },
    /// Its pixels cannot be decoded.
    #[error("the pixels of an instance cannot be decoded: {reason}")]
    Undecodable {
        /// What the decoder says.
        reason: String,
    },
    /// It is not a single plane of grey values.
    #[error("an instance is not a single grey-scale slice: {what}")]
    NotASlice {
        /// What it is.
        what: String,
    },
}

/// Reads the file at `path`, which the bounded reader of `encoding` has seen before.
///
/// # Errors
///
/// Says what is wrong with the file. Reading it again would fail again.
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
    let optional = |tag| text(&object, tag).and_then(|it| it.parse::<f64>().ok());
    Ok(Slice {
        instance: uid(&object, tags::SOP_INSTANCE_UID, "SOP Instance UID")?,
        sop_class: uid(&object, tags::SOP_CLASS_UID, "SOP Class UID")?,
        rows,
        columns,
        orientation,
        position,
        spacing,
        thickness: optional(tags::SLICE_THICKNESS).unwrap_or_default(),
        frame_of_reference: text(&object, tags::FRAME_OF_REFERENCE_UID).unwrap_or_default(),
        tilt: optional(tags::GANTRY_DETECTOR_TILT).unwrap_or_default(),
        is_lossy: text(&object, tags::LOSSY_IMAGE_COMPRESSION).is_some_and(|it| it == "01"),
        values: values(&object, rows, columns)?,
    })
}

fn check_plane(object: &DefaultDicomObject, rows: u32, columns: u32) -> Result<(), SliceError> {
    check_pixels(object, rows, columns)?;
    let not = |what: &str| Err(SliceError::NotASlice { what: what.to_owned() });
    if integer(object, tags::SAMPLES_PER_PIXEL, "Samples per Pixel")? != 1 {
        return not("it is in colour");
    }
    // PS3.3, C.8.2.1.1.1: a projection along the patient has no thickness to measure with.
    let kinds = object
        .element(tags::IMAGE_TYPE)
        .ok()
        .and_then(|it| it.to_multi_str().ok().map(|it| it.to_vec()));
    if kinds.is_some_and(|it| it.iter().any(|it| it.trim() == "LOCALIZER")) {
        return not("it is a localizer");
    }
    // Hounsfield units are what they are; other values mean what their picture shows.
    let is_inverted =
        text(object, tags::PHOTOMETRIC_INTERPRETATION).is_some_and(|it| it == "MONOCHROME1");
    if is_inverted && text(object, tags::MODALITY).is_none_or(|it| it != "CT") {
        return not("its bright is dark (MONOCHROME1)");
    }
    Ok(())
}

/// Whether there is one frame of no more pixels than may be.
pub(crate) fn check_pixels(
    object: &DefaultDicomObject,
    rows: u32,
    columns: u32,
) -> Result<(), SliceError> {
    let not = |what: &str| Err(SliceError::NotASlice { what: what.to_owned() });
    let pixels = u64::from(rows) * u64::from(columns);
    if pixels == 0 || pixels > PIXELS_MAX as u64 {
        return not("its rows and columns are beyond the limit");
    }
    if text(object, tags::NUMBER_OF_FRAMES).is_some_and(|it| it != "1" && it != "0") {
        return not("it has several frames");
    }
    Ok(())
}

fn check_orthonormal(o: &[f64; 6]) -> Result<(), SliceError> {
    let [a, b, c, d, e, f] = o;
    let (row, column) = (a * a + b * b + c * c, d * d + e * e + f * f);
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
    let undecodable = |error: &dyn std::error::Error| SliceError::Undecodable {
        reason: ErrorChain(error).to_string(),
    };
    let decoded = object.decode_pixel_data().map_err(|error| undecodable(&error))?;
    // The rescale of the header is applied by the library unless told otherwise.
    let values: Vec<f32> = decoded.to_vec().map_err(|error| undecodable(&error))?;
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

pub(crate) fn integer(
    object: &DefaultDicomObject,
    tag: Tag,
    name: &'static str,
) -> Result<u32, SliceError> {
    // Rows and columns of any other representation than US are somebody's attack (SEC-24).
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
    let missing = || SliceError::Missing { name };
    let element = object.element(tag).map_err(|_| missing())?;
    let numbers = element.to_multi_float64().map_err(|_| missing())?;
    if numbers.iter().any(|it| !it.is_finite()) {
        return Err(missing());
    }
    numbers.try_into().map_err(|_| missing())
}

pub(crate) fn uid<T: std::str::FromStr>(
    object: &DefaultDicomObject,
    tag: Tag,
    name: &'static str,
) -> Result<T, SliceError> {
    let text = text(object, tag).ok_or(SliceError::Missing { name })?;
    text.parse().map_err(|_| SliceError::Missing { name })
}
