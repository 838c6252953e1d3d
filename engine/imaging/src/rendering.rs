//! Renders an instance as a picture for people: radiographs, photographs, and single slices.

use dicom_core::Tag;
use dicom_dictionary_std::tags;
use dicom_object::{DefaultDicomObject, OpenFileOptions};
use dicom_pixeldata::PixelDecoder as _;
use domain::VolumeGeometry;

use crate::Picture;
use crate::slice::{SliceError, check_pixels, integer, text, uid, values};
use crate::window::Window;

/// Renders an instance: grey values through the first window of its file, or through one over
/// nearly all of them; colours as they are.
///
/// # Errors
///
/// Fails if the file cannot be decoded, or cannot be shown as one picture: several frames,
/// palettes.
pub fn render(file: &[u8]) -> Result<Picture, SliceError> {
    let object = OpenFileOptions::new()
        .from_reader(file)
        .map_err(|error| SliceError::Unreadable(Box::new(error)))?;
    let rows = integer(&object, tags::ROWS, "Rows")?;
    let columns = integer(&object, tags::COLUMNS, "Columns")?;
    check_pixels(&object, rows, columns)?;
    let photometric = text(&object, tags::PHOTOMETRIC_INTERPRETATION).unwrap_or_default();
    let rgb = match photometric.as_str() {
        "MONOCHROME1" | "MONOCHROME2" => {
            let values = values(&object, rows, columns)?;
            let window = window_of(&object).unwrap_or_else(|| Window::over(&values));
            let is_inverted = photometric == "MONOCHROME1";
            let gray = |it: &f32| {
                let gray = window.gray(*it);
                [if is_inverted { 255 - gray } else { gray }; 3]
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

/// The geometry of a single image, without a position in the patient: a mask of it is a mask of its
/// pixels (OUT-17).
///
/// # Errors
///
/// Fails if the file cannot be parsed, or lacks an element of its geometry.
pub fn image_geometry(file: &[u8]) -> Result<VolumeGeometry, SliceError> {
    let object = OpenFileOptions::new()
        .from_reader(file)
        .map_err(|error| SliceError::Unreadable(Box::new(error)))?;
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
    let decoded = object.decode_pixel_data().map_err(|it| SliceError::undecodable(&it))?;
    let image = decoded.to_dynamic_image(0).map_err(|it| SliceError::undecodable(&it))?;
    Ok(image.into_rgb8().into_raw())
}

#[cfg(test)]
mod tests {
    use dicom_core::{DataElement, PrimitiveValue, VR};
    use dicom_object::{FileMetaTableBuilder, InMemDicomObject};

    use super::*;

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
        assert_eq!(grays(&file("MONOCHROME2", &pixels, None)), [0, 85, 170, 255]);
    }

    #[test]
    fn colours_stay_and_palettes_are_refused() {
        let pixels: Vec<u8> = (0..12).map(|it| it * 20).collect();
        assert_eq!(render(&file("RGB", &pixels, None)).unwrap().rgb, pixels);
        let palette = render(&file("PALETTE COLOR", &[0, 1, 2, 3], None)).unwrap_err();
        assert!(palette.to_string().contains("PALETTE COLOR"), "{palette}");
        assert!(render(b"no image").is_err());
    }
}
