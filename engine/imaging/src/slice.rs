//! Decodes one file of a series: its pixels in Hounsfield units, and its position in the patient.

use std::path::Path;

use dicom_dictionary_std::tags;
use dicom_object::DefaultDicomObject;
use domain::{SopClassUid, SopInstanceUid};

use crate::image_attributes::{
    SliceError, integer, numbers, optional_number, quoted, text, texts, uid,
};
use crate::object_reader;
use crate::rescale::Rescale;
use crate::stored_values::StoredValues;

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
    /// Values after the rescale of the modality, row by row; not a number (NaN) where a pixel is
    /// padding and stands for no tissue.
    pub values: Vec<f32>,
}

/// Decodes the file at `path`. The bounded header reader of `encoding` must have accepted it
/// before.
///
/// # Errors
///
/// Fails if the file is no slice; another try would fail in the same way.
pub fn read(path: &Path) -> Result<Slice, SliceError> {
    slice_of(&object_reader::open(path)?)
}

fn slice_of(object: &DefaultDicomObject) -> Result<Slice, SliceError> {
    let rows = integer(object, tags::ROWS, "Rows")?;
    let columns = integer(object, tags::COLUMNS, "Columns")?;
    check_plane(object, rows, columns)?;
    let rescale = Rescale::for_measuring(object)?;
    let orientation = numbers(object, tags::IMAGE_ORIENTATION_PATIENT, "Image Orientation")?;
    check_orthonormal(&orientation)?;
    let position = numbers(object, tags::IMAGE_POSITION_PATIENT, "Image Position")?;
    let spacing: [f64; 2] = numbers(object, tags::PIXEL_SPACING, "Pixel Spacing")?;
    if spacing.iter().any(|it| *it <= 0.0) {
        let found = format!("{spacing:?}");
        return Err(SliceError::Unusable { name: "Pixel Spacing", found });
    }
    Ok(Slice {
        instance: uid(object, tags::SOP_INSTANCE_UID, "SOP Instance UID")?,
        sop_class: uid(object, tags::SOP_CLASS_UID, "SOP Class UID")?,
        rows,
        columns,
        orientation,
        position,
        spacing,
        thickness: optional_number(object, tags::SLICE_THICKNESS).unwrap_or_default(),
        frame_of_reference: text(object, tags::FRAME_OF_REFERENCE_UID).unwrap_or_default(),
        tilt: optional_number(object, tags::GANTRY_DETECTOR_TILT).unwrap_or_default(),
        is_lossy: text(object, tags::LOSSY_IMAGE_COMPRESSION).is_some_and(|it| it == "01"),
        values: rescale.values(&StoredValues::decode(object, rows, columns)?),
    })
}

fn check_plane(object: &DefaultDicomObject, rows: u32, columns: u32) -> Result<(), SliceError> {
    check_pixels(object, rows, columns)?;
    if integer(object, tags::SAMPLES_PER_PIXEL, "Samples per Pixel")? != 1 {
        return Err(SliceError::not_a_slice("it is in colour"));
    }
    let kinds = object.get(tags::IMAGE_TYPE).map(texts).unwrap_or_default();
    if kinds.iter().any(|it| it == "LOCALIZER") {
        return Err(SliceError::Localizer);
    }
    match text(object, tags::PHOTOMETRIC_INTERPRETATION).unwrap_or_default().as_str() {
        "MONOCHROME2" => Ok(()),
        // Hounsfield units do not depend on their presentation; the values of other modalities do.
        "MONOCHROME1" if text(object, tags::MODALITY).is_some_and(|it| it == "CT") => Ok(()),
        "MONOCHROME1" => Err(SliceError::not_a_slice("its bright is dark (MONOCHROME1)")),
        other => Err(SliceError::not_a_slice(format!("its colours are {}", quoted(other)))),
    }
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
        return Err(SliceError::SeveralFrames);
    }
    Ok(())
}

fn check_orthonormal(orientation: &[f64; 6]) -> Result<(), SliceError> {
    let [a, b, c, d, e, f] = orientation;
    let row = a * a + b * b + c * c;
    let column = d * d + e * e + f * f;
    let across = a * d + b * e + c * f;
    let is_sound = [row - 1.0, column - 1.0, across].iter().all(|it| it.abs() <= COSINE_TOLERANCE);
    if is_sound {
        return Ok(());
    }
    let found = format!("{orientation:?}");
    Err(SliceError::Unusable { name: "Image Orientation", found })
}

#[cfg(test)]
mod tests {
    use dicom_core::value::DataSetSequence;
    use dicom_core::{DataElement, PrimitiveValue, Tag, VR};
    use dicom_object::InMemDicomObject;

    use super::*;
    use crate::sample::{HOUNSFIELD_UNITS, STORED, Sample};

    const INTERCEPT: Tag = tags::RESCALE_INTERCEPT;
    const SLOPE: Tag = tags::RESCALE_SLOPE;
    const TYPE: Tag = tags::RESCALE_TYPE;

    fn values(mut sample: Sample, change: impl FnOnce(&mut Sample)) -> Result<Vec<f32>, String> {
        change(&mut sample);
        slice_of(&sample.object()).map(|it| it.values).map_err(|it| it.to_string())
    }

    #[track_caller]
    fn check_refused(sample: Sample, change: impl FnOnce(&mut Sample), beginning: &str) {
        let error = values(sample, change).unwrap_err();
        assert!(error.starts_with(beginning), "{error}");
    }

    #[track_caller]
    fn check_ct_refused(change: impl FnOnce(&mut Sample), beginning: &str) {
        check_refused(Sample::ct(), change, beginning);
    }

    #[track_caller]
    fn check_hounsfield(change: impl FnOnce(&mut Sample)) {
        assert_eq!(values(Sample::ct(), change), Ok(HOUNSFIELD_UNITS.to_vec()));
    }

    /// An item with one text.
    fn item(tag: Tag, vr: VR, text: &str) -> InMemDicomObject {
        InMemDicomObject::from_element_iter([DataElement::new(tag, vr, text)])
    }

    fn sequence(tag: Tag, item: InMemDicomObject) -> DataElement<InMemDicomObject> {
        DataElement::new(tag, VR::SQ, DataSetSequence::from(vec![item]))
    }

    #[test]
    fn din_80_a_ct_without_readable_hounsfield_units_is_refused_by_attribute_and_value() {
        check_ct_refused(|it| it.remove(INTERCEPT), "Rescale Intercept is missing: ");
        check_ct_refused(|it| it.remove(SLOPE), "Rescale Slope is missing: ");
        check_ct_refused(|it| it.put(INTERCEPT, VR::DS, ""), "Rescale Intercept is empty: ");
        check_ct_refused(|it| it.put(SLOPE, VR::DS, "  "), "Rescale Slope is empty: ");
        check_ct_refused(
            |it| it.put(INTERCEPT, VR::DS, "-1024,0"),
            "Rescale Intercept is `-1024,0`: ",
        );
        check_ct_refused(|it| it.put(SLOPE, VR::DS, "1,0"), "Rescale Slope is `1,0`: ");
        check_ct_refused(|it| it.put(SLOPE, VR::DS, "1.0 HU"), "Rescale Slope is `1.0 HU`: ");
        check_ct_refused(
            |it| it.put(INTERCEPT, VR::DS, "0\\-1024"),
            "Rescale Intercept is `0\\-1024`: ",
        );
        check_ct_refused(|it| it.put(INTERCEPT, VR::UN, vec![1_u8, 2]), "Rescale Intercept is `");
        check_ct_refused(
            |it| it.put(INTERCEPT, VR::US, 64_512_u16),
            "Rescale Intercept is `64512`: ",
        );
        check_ct_refused(|it| it.put(SLOPE, VR::DS, "0.0"), "Rescale Slope is 0: ");
    }

    #[test]
    fn din_80_a_ct_in_another_unit_is_refused_by_its_type() {
        check_ct_refused(|it| it.put(TYPE, VR::LO, "MGML"), "Rescale Type is `MGML`: ");
        check_ct_refused(|it| it.put(TYPE, VR::LO, "HU_MOD"), "Rescale Type is `HU_MOD`: ");
        check_ct_refused(
            |it| it.put(TYPE, VR::UN, b"Z_EFF\0".as_slice()),
            "Rescale Type is `Z_EFF`: ",
        );
        let of_derived = |it: &mut Sample| {
            it.put(TYPE, VR::LO, "US");
            it.put(tags::IMAGE_TYPE, VR::CS, "DERIVED\\SECONDARY\\AXIAL");
        };
        check_ct_refused(of_derived, "Rescale Type is `US`: ");
        let of_multi_energy = |it: &mut Sample| {
            it.remove(TYPE);
            it.put(tags::MULTIENERGY_CT_ACQUISITION, VR::CS, "YES");
        };
        check_ct_refused(of_multi_energy, "Rescale Type is missing: ");
        let by_table = |it: &mut Sample| {
            let table = item(tags::MODALITY_LUT_TYPE, VR::LO, "HU");
            it.0.put(sequence(tags::MODALITY_LUT_SEQUENCE, table));
        };
        check_ct_refused(by_table, "Modality LUT Sequence is present: ");
    }

    /// What a CT is must not depend on one of two elements that say so.
    #[test]
    fn din_80_a_ct_is_one_by_its_class_or_by_its_modality() {
        let by_class = |it: &mut Sample| {
            it.remove(INTERCEPT);
            it.put(tags::MODALITY, VR::CS, "OT");
        };
        check_refused(Sample::ct(), by_class, "Rescale Intercept is missing: ");
        let by_modality = |it: &mut Sample| {
            it.remove(INTERCEPT);
            it.put(tags::SOP_CLASS_UID, VR::UI, "1.2.3.4.5");
        };
        check_refused(Sample::ct(), by_modality, "Rescale Intercept is missing: ");
    }

    #[test]
    fn din_80_hounsfield_units_are_read_however_they_are_written() {
        check_hounsfield(|_| {});
        check_hounsfield(|it| it.remove(TYPE));
        check_hounsfield(|it| it.put(TYPE, VR::LO, "US"));
        check_hounsfield(|it| it.put(INTERCEPT, VR::UN, b"-1024 ".as_slice()));
        check_hounsfield(|it| it.put(SLOPE, VR::UN, b"1\0".as_slice()));
        check_hounsfield(|it| it.put(INTERCEPT, VR::DS, "-1024\\-1024"));
        check_hounsfield(|it| it.put(INTERCEPT, VR::FD, -1024.0_f64));
        check_hounsfield(|it| it.put(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME1"));
    }

    #[test]
    fn din_80_the_rescale_of_a_single_frame_may_be_in_its_functional_groups() {
        for groups in
            [tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE, tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE]
        {
            check_hounsfield(|it| {
                it.remove(INTERCEPT);
                let rescale = item(INTERCEPT, VR::DS, "-1024");
                let sequence_of_frame =
                    sequence(tags::PIXEL_VALUE_TRANSFORMATION_SEQUENCE, rescale);
                let group = InMemDicomObject::from_element_iter([sequence_of_frame]);
                it.0.put(sequence(groups, group));
            });
        }
    }

    #[test]
    fn din_80_an_mr_needs_no_rescale_but_one_that_it_has_must_be_readable() {
        let stored: Vec<f32> = STORED.map(f32::from).to_vec();
        assert_eq!(values(Sample::mr(), |_| {}), Ok(stored.clone()));
        assert_eq!(values(Sample::mr(), |it| it.put(SLOPE, VR::DS, "")), Ok(stored.clone()));
        let doubled: Vec<f32> = stored.iter().map(|it| it * 2.0).collect();
        assert_eq!(values(Sample::mr(), |it| it.put(SLOPE, VR::DS, "2")), Ok(doubled));
        let comma = |it: &mut Sample| it.put(SLOPE, VR::DS, "2,5");
        check_refused(Sample::mr(), comma, "Rescale Slope is `2,5`: ");
        check_refused(Sample::mr(), |it| it.put(SLOPE, VR::DS, "0"), "Rescale Slope is 0: ");
    }

    /// Hounsfield units where `tissue` says so, and nothing elsewhere.
    #[track_caller]
    fn check_padded(change: impl FnOnce(&mut Sample), tissue: [bool; 6]) {
        let found = values(Sample::ct(), change).unwrap();
        for ((value, hounsfield), is_tissue) in found.iter().zip(HOUNSFIELD_UNITS).zip(tissue) {
            let is_right =
                if is_tissue { value.to_bits() == hounsfield.to_bits() } else { value.is_nan() };
            assert!(is_right, "{found:?}");
        }
    }

    const VALUE: Tag = tags::PIXEL_PADDING_VALUE;
    const LIMIT: Tag = tags::PIXEL_PADDING_RANGE_LIMIT;

    /// The first and the last pixel are padded with this cell.
    fn padded(sample: &mut Sample, cell: u16) {
        let [_, inner @ .., _] = STORED;
        let mut cells = [cell; 6];
        cells[1..5].copy_from_slice(&inner);
        sample.pixels(cells);
    }

    const INNER: [bool; 6] = [false, true, true, true, true, false];

    #[test]
    fn din_80_padding_is_no_tissue_in_whatever_representation_it_is_stated() {
        for cell in [63_536_u16, 32_767, 0x8000] {
            for (vr, value) in [
                (VR::US, PrimitiveValue::from(cell)),
                (VR::SS, cell.cast_signed().into()),
                (VR::UN, cell.to_le_bytes().to_vec().into()),
            ] {
                for representation in [0, 1] {
                    check_padded(
                        |it| {
                            padded(it, cell);
                            it.bits(16, 15, representation);
                            it.put(VALUE, vr, value.clone());
                        },
                        INNER,
                    );
                }
            }
        }
    }

    #[test]
    fn din_80_padding_of_twelve_bits_is_found_within_and_beyond_them() {
        for cell in [4095, 0xF830] {
            check_padded(
                |it| {
                    padded(it, cell);
                    it.bits(12, 11, 0);
                    it.put(VALUE, VR::US, cell);
                },
                INNER,
            );
        }
    }

    #[test]
    fn din_80_a_range_of_padding_is_no_tissue_from_either_end() {
        let lowest = [false, false, true, true, true, true];
        for (value, limit) in [(0_u16, 24_u16), (24, 0)] {
            check_padded(
                |it| {
                    it.put(VALUE, VR::US, value);
                    it.put(LIMIT, VR::US, limit);
                },
                lowest,
            );
        }
    }

    #[test]
    fn din_80_padding_that_is_empty_or_absent_takes_nothing_away() {
        check_padded(|it| it.put(VALUE, VR::US, 9999_u16), [true; 6]);
        check_padded(|it| it.put(VALUE, VR::US, PrimitiveValue::Empty), [true; 6]);
    }

    #[test]
    fn din_80_padding_that_cannot_be_read_is_refused() {
        let text = |it: &mut Sample| it.put(VALUE, VR::LO, "none");
        check_refused(Sample::ct(), text, "Pixel Padding Value is `none`: ");
        let bytes = |it: &mut Sample| it.put(VALUE, VR::UN, vec![1_u8, 2, 3, 4]);
        check_refused(Sample::ct(), bytes, "Pixel Padding Value is `");
        let limit = |it: &mut Sample| it.put(LIMIT, VR::US, 24_u16);
        check_refused(Sample::ct(), limit, "Pixel Padding Range Limit is 24: ");
    }

    #[test]
    fn din_80_samples_in_the_upper_bits_are_read_there_or_refused() {
        check_hounsfield(|it| {
            it.bits(12, 15, 0);
            it.pixels(STORED.map(|cell| cell << 4));
        });
        let unmoved = |it: &mut Sample| it.bits(12, 15, 0);
        check_refused(Sample::ct(), unmoved, "High Bit is 15 with 12 Bits Stored: ");
        check_refused(Sample::ct(), |it| it.bits(12, 10, 0), "High Bit is 10 with 12 of 16 ");
        check_refused(Sample::ct(), |it| it.bits(12, 16, 0), "High Bit is 16 with 12 of 16 ");
        check_refused(Sample::ct(), |it| it.bits(17, 16, 0), "Bits Stored is 17 with 16 ");
        check_refused(Sample::ct(), |it| it.bits(0, 15, 0), "Bits Stored is 0 with 16 ");
    }

    #[test]
    fn din_80_bits_beyond_the_high_bit_are_no_value() {
        check_hounsfield(|it| {
            it.bits(12, 11, 0);
            it.pixels(STORED.map(|cell| cell | 0xA000));
        });
        check_hounsfield(|it| {
            it.bits(12, 11, 1);
            it.put(INTERCEPT, VR::DS, "0");
            it.pixels(STORED.map(|cell| cell.wrapping_sub(1024) & 0x0FFF));
        });
    }

    #[test]
    fn din_80_a_frame_that_is_too_short_is_refused_with_its_bytes() {
        let short = |it: &mut Sample| it.put(tags::PIXEL_DATA, VR::OW, vec![0_u8; 10]);
        let reason = "its pixels cannot be decoded: the frame has 10 bytes, and 2 rows of 3 \
                      columns need 12";
        check_refused(Sample::ct(), short, reason);
        let wide = |it: &mut Sample| it.put(tags::BITS_ALLOCATED, VR::US, 32_u16);
        check_refused(Sample::ct(), wide, "Bits Allocated is 32: ");
        // More bytes than pixels are no fault.
        check_hounsfield(|it| {
            let mut bytes: Vec<u8> = STORED.into_iter().flat_map(u16::to_le_bytes).collect();
            bytes.extend([0; 128]);
            it.put(tags::PIXEL_DATA, VR::OW, bytes);
        });
    }

    #[test]
    fn pap_22_a_localizer_is_told_from_other_images() {
        let mut sample = Sample::ct();
        sample.put(tags::IMAGE_TYPE, VR::CS, "ORIGINAL\\PRIMARY\\LOCALIZER");
        assert!(matches!(slice_of(&sample.object()), Err(SliceError::Localizer)));
    }
}
