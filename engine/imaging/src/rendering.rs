//! Renders an instance as a picture for people: radiographs, photographs, and single slices.

use dicom_core::Tag;
use dicom_dictionary_std::tags;
use dicom_object::DefaultDicomObject;
use domain::VolumeGeometry;

use crate::image_attributes::{SliceError, integer, text, uid};
use crate::object_reader;
use crate::rescale::Rescale;
use crate::slice::check_pixels;
use crate::stored_values::{StoredValues, decoded_pixels};
use crate::window::Window;
use crate::{FlatMask, Picture};

/// Secondary Capture Image Storage, and its classes for one bit, for bytes and for words.
const SECONDARY_CAPTURE_CLASSES: [&str; 4] = [
    "1.2.840.10008.5.1.4.1.1.7",
    "1.2.840.10008.5.1.4.1.1.7.1",
    "1.2.840.10008.5.1.4.1.1.7.2",
    "1.2.840.10008.5.1.4.1.1.7.3",
];

/// Renders an instance: grey values through the first window of its file. Without one, a secondary
/// capture of eight bits is shown as it is, and anything else through a window over nearly all of
/// its values. Padding is black; colours stay as they are.
///
/// # Errors
///
/// Fails if the file cannot be decoded, or cannot be shown as one picture: several frames,
/// palettes.
pub fn render(file: &[u8]) -> Result<Picture, SliceError> {
    let object = object_reader::read(file)?;
    let rows = integer(&object, tags::ROWS, "Rows")?;
    let columns = integer(&object, tags::COLUMNS, "Columns")?;
    check_pixels(&object, rows, columns)?;
    let photometric = text(&object, tags::PHOTOMETRIC_INTERPRETATION).unwrap_or_default();
    let rgb = match photometric.as_str() {
        "MONOCHROME1" | "MONOCHROME2" => {
            let rescale = Rescale::for_showing(&object)?;
            let stored = StoredValues::decode(&object, rows, columns)?;
            let values = rescale.values(&stored);
            let window = window_of(&object).unwrap_or_else(|| {
                if is_screen(&object) {
                    rescale.full_window(&stored)
                } else {
                    Window::over(&values)
                }
            });
            let is_inverted = photometric == "MONOCHROME1";
            let gray = |it: &f32| {
                let gray = window.gray(*it);
                [if is_inverted && !it.is_nan() { 255 - gray } else { gray }; 3]
            };
            values.iter().flat_map(gray).collect()
        }
        "RGB" | "YBR_FULL" | "YBR_FULL_422" | "YBR_RCT" | "YBR_ICT" => decode_rgb(&object)?,
        other => {
            return Err(SliceError::NotASlice { what: format!("its colours are {other}") });
        }
    };
    Picture::new(columns, rows, rgb).map_err(|error| SliceError::undecodable(&error))
}

/// The pixels of an image that are padding, and stand for no tissue; nothing if it has none.
///
/// # Errors
///
/// Fails if the file cannot be decoded.
pub fn padding(file: &[u8]) -> Result<Option<FlatMask>, SliceError> {
    let object = object_reader::read(file)?;
    // Only grey values are padded (PS3.3, C.7.5.1.1.2).
    if integer(&object, tags::SAMPLES_PER_PIXEL, "Samples per Pixel")? != 1 {
        return Ok(None);
    }
    let height = integer(&object, tags::ROWS, "Rows")?;
    let width = integer(&object, tags::COLUMNS, "Columns")?;
    check_pixels(&object, height, width)?;
    let stored = StoredValues::decode(&object, height, width)?;
    let pixels = stored.values().map(|it| it.is_none()).collect();
    Ok(stored.has_padding().then_some(FlatMask { height, width, pixels }))
}

/// The geometry of a single image, without a position in the patient: a mask of it is a mask of its
/// pixels (OUT-17).
///
/// # Errors
///
/// Fails if the file cannot be parsed, or lacks an element of its geometry.
pub fn image_geometry(file: &[u8]) -> Result<VolumeGeometry, SliceError> {
    let object = object_reader::read(file)?;
    let lossy = text(&object, tags::LOSSY_IMAGE_COMPRESSION).is_some_and(|it| it == "01");
    Ok(VolumeGeometry {
        rows: integer(&object, tags::ROWS, "Rows")?,
        columns: integer(&object, tags::COLUMNS, "Columns")?,
        pixel_spacing: calibrated_spacing(&object),
        space: None,
        instances: vec![uid(&object, tags::SOP_INSTANCE_UID, "SOP Instance UID")?],
        sop_class: uid(&object, tags::SOP_CLASS_UID, "SOP Class UID")?,
        lossy,
    })
}

/// Whether the values of an image are grey levels already: a scan, or a copy of a screen, with at
/// most eight bits.
fn is_screen(object: &DefaultDicomObject) -> bool {
    let class = text(object, tags::SOP_CLASS_UID).unwrap_or_default();
    let bits = integer(object, tags::BITS_STORED, "Bits Stored");
    SECONDARY_CAPTURE_CLASSES.contains(&class.as_str()) && bits.is_ok_and(|it| it <= 8)
}

/// Distance of rows and of columns in the patient, in mm, if the image states it (DIN-82): as a
/// calibrated spacing, or as one at the detector with the magnification.
fn calibrated_spacing(object: &DefaultDicomObject) -> Option<[f64; 2]> {
    let kind = text(object, tags::PIXEL_SPACING_CALIBRATION_TYPE).unwrap_or_default();
    if matches!(kind.as_str(), "GEOMETRY" | "FIDUCIAL") {
        return spacing(object, tags::PIXEL_SPACING);
    }
    let factor = text(object, tags::ESTIMATED_RADIOGRAPHIC_MAGNIFICATION_FACTOR)?;
    let factor: f64 = factor.parse().ok().filter(|it: &f64| it.is_finite() && *it >= 1.0)?;
    spacing(object, tags::IMAGER_PIXEL_SPACING).map(|it| it.map(|millimetres| millimetres / factor))
}

/// Two positive numbers of an element.
fn spacing(object: &DefaultDicomObject, tag: Tag) -> Option<[f64; 2]> {
    let pair: [f64; 2] = object.element(tag).ok()?.to_multi_float64().ok()?.try_into().ok()?;
    pair.iter().all(|it| it.is_finite() && *it > 0.0).then_some(pair)
}

/// The first window of a file (PS3.3, C.11.2.1.2).
fn window_of(object: &DefaultDicomObject) -> Option<Window> {
    let center = first_number(object, tags::WINDOW_CENTER)?;
    let width = first_number(object, tags::WINDOW_WIDTH)?;
    (center.is_finite() && width.is_finite() && width >= 1.0).then_some(Window { center, width })
}

fn first_number(object: &DefaultDicomObject, tag: Tag) -> Option<f32> {
    object.element(tag).ok()?.to_multi_float32().ok()?.first().copied()
}

/// Red, green and blue, pixel by pixel.
fn decode_rgb(object: &DefaultDicomObject) -> Result<Vec<u8>, SliceError> {
    if integer(object, tags::BITS_ALLOCATED, "Bits Allocated")? != 8 {
        return Err(SliceError::NotASlice { what: "its colours have more than 8 bits".to_owned() });
    }
    let decoded = decoded_pixels(object)?;
    let image = decoded.to_dynamic_image(0).map_err(|it| SliceError::undecodable(&it))?;
    Ok(image.into_rgb8().into_raw())
}

#[cfg(test)]
mod tests {
    use dicom_core::{DataElement, PrimitiveValue, VR};
    use dicom_object::{FileMetaTableBuilder, InMemDicomObject};

    use super::*;
    use crate::sample::Sample;

    /// An image of two rows and columns.
    fn file(photometric: &str, pixels: &[u8], window: Option<(&str, &str)>) -> Vec<u8> {
        let samples = u16::try_from(pixels.len() / 4).unwrap();
        let short = |it: u16| PrimitiveValue::from(it);
        let mut object = InMemDicomObject::from_element_iter([
            DataElement::new(tags::SOP_CLASS_UID, VR::UI, "1.2.840.10008.5.1.4.1.1.7"),
            DataElement::new(tags::SOP_INSTANCE_UID, VR::UI, "1.2.3"),
            DataElement::new(tags::SAMPLES_PER_PIXEL, VR::US, short(samples)),
            DataElement::new(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, photometric),
            DataElement::new(tags::PLANAR_CONFIGURATION, VR::US, short(0)),
            DataElement::new(tags::ROWS, VR::US, short(2)),
            DataElement::new(tags::COLUMNS, VR::US, short(2)),
            DataElement::new(tags::BITS_ALLOCATED, VR::US, short(8)),
            DataElement::new(tags::BITS_STORED, VR::US, short(8)),
            DataElement::new(tags::HIGH_BIT, VR::US, short(7)),
            DataElement::new(tags::PIXEL_REPRESENTATION, VR::US, short(0)),
            DataElement::new(tags::PIXEL_DATA, VR::OB, PrimitiveValue::from(pixels)),
        ]);
        if let Some((center, width)) = window {
            object.put(DataElement::new(tags::WINDOW_CENTER, VR::DS, center));
            object.put(DataElement::new(tags::WINDOW_WIDTH, VR::DS, width));
        }
        let meta = FileMetaTableBuilder::new().transfer_syntax("1.2.840.10008.1.2.1");
        let mut bytes = Vec::new();
        object.with_meta(meta).unwrap().write_all(&mut bytes).unwrap();
        bytes
    }

    fn grays(file: &[u8]) -> Vec<u8> {
        render(file).unwrap().rgb.chunks(3).map(|it| it[0]).collect()
    }

    #[test]
    fn gray_values_go_through_the_window_and_may_be_turned_round() {
        let pixels = [0, 10, 20, 30];
        let named = |photometric| file(photometric, &pixels, Some(("15.5", "21")));
        assert_eq!(grays(&named("MONOCHROME2")), [0, 64, 191, 255]);
        assert_eq!(grays(&named("MONOCHROME1")), [255, 191, 64, 0]);
        // The first of several windows; without any, from the darkest to the brightest.
        let several = file("MONOCHROME2", &pixels, Some(("15.5\\40", "21\\80")));
        assert_eq!(grays(&several), [0, 64, 191, 255]);
        let other_class = |it: Vec<u8>| {
            let capture = b"1.2.840.10008.5.1.4.1.1.7\0";
            let at = it.windows(capture.len()).rposition(|bytes| bytes == capture).unwrap();
            [&it[..at], b"1.2.840.10008.5.1.4.1.1.1\0", &it[at + capture.len()..]].concat()
        };
        let radiograph = other_class(file("MONOCHROME2", &pixels, None));
        assert_eq!(grays(&radiograph), [0, 85, 170, 255]);
    }

    /// A scan of paper has its grey levels: stretched, its paper would be as dark as its print.
    #[test]
    fn din_80_a_secondary_capture_of_eight_bits_without_a_window_is_shown_as_it_is() {
        let pixels = [200, 210, 220, 255];
        assert_eq!(grays(&file("MONOCHROME2", &pixels, None)), pixels);
        assert_eq!(grays(&file("MONOCHROME1", &pixels, None)), [55, 45, 35, 0]);
    }

    #[test]
    fn colours_stay_and_palettes_are_refused() {
        let pixels: Vec<u8> = (0..12).map(|it| it * 20).collect();
        assert_eq!(render(&file("RGB", &pixels, None)).unwrap().rgb, pixels);
        let palette = render(&file("PALETTE COLOR", &[0, 1, 2, 3], None)).unwrap_err();
        assert!(palette.to_string().contains("PALETTE COLOR"), "{palette}");
        assert!(render(b"no image").is_err());
    }

    #[test]
    fn din_80_padding_is_black_in_no_window_and_known_by_its_pixels() {
        let mut sample = Sample::ct();
        sample.put(tags::PIXEL_PADDING_VALUE, VR::US, 2024_u16);
        let expected = [false, false, false, false, false, true];
        assert_eq!(padding(&sample.clone().bytes()).unwrap().unwrap().pixels, expected);
        // From the darkest to the brightest pixel that is no padding.
        assert_eq!(grays(&sample.clone().bytes()), [0, 4, 151, 157, 255, 0]);
        sample.put(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME1");
        assert_eq!(grays(&sample.bytes()), [255, 251, 104, 98, 0, 0]);
        assert_eq!(padding(&Sample::ct().bytes()).unwrap(), None);
        let pixels: Vec<u8> = (0..12).collect();
        assert_eq!(padding(&file("RGB", &pixels, None)).unwrap(), None);
    }

    #[test]
    fn din_80_a_ct_is_not_shown_in_values_that_were_guessed() {
        let mut sample = Sample::ct();
        sample.remove(tags::RESCALE_SLOPE);
        let error = render(&sample.bytes()).unwrap_err().to_string();
        assert!(error.starts_with("Rescale Slope is missing: "), "{error}");
        // A map of iodine is shown in its own unit, and measured in none.
        let mut sample = Sample::ct();
        sample.put(tags::RESCALE_TYPE, VR::LO, "MGML");
        assert!(render(&sample.bytes()).is_ok());
    }
}
