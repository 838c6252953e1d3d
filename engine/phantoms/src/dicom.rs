//! Phantoms as the files of a study: with the attributes that a modality writes.

use dicom_core::value::DataSetSequence;
use dicom_core::{DataElement, PrimitiveValue, Tag, VR, dicom_value};
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;
use dicom_transfer_syntax_registry::entries::EXPLICIT_VR_LITTLE_ENDIAN;
use domain::derived_uid;
use encoding::dicom::file_meta::FileMeta;

use crate::ct::CtVolume;
use crate::person::{Order, Person};
use crate::phantom::Phantom;
use crate::random::Random;

/// SOP classes of what is written.
const CT_IMAGE: &str = "1.2.840.10008.5.1.4.1.1.2";
const DIGITAL_X_RAY_FOR_PRESENTATION: &str = "1.2.840.10008.5.1.4.1.1.1.1";

/// Width of a radiograph, in mm.
const DETECTOR_MM: f64 = 400.0;

/// The radiograph as a Digital X-Ray Image of twelve bits. Some are stored inverted (MONOCHROME1),
/// and look the same.
pub fn radiograph_file(phantom: &Phantom, person: &Person, order: &Order) -> Vec<u8> {
    let mut random = Random::new(phantom.seed, "dicom");
    let is_inverted = random.chance(30);
    let spacing = DETECTOR_MM / f64::from(phantom.size);
    let mut header = Header::new("radiograph", phantom.seed, 0);
    header.study(person, order, DIGITAL_X_RAY_FOR_PRESENTATION, "DX", "CHEST");
    header.text(tags::IMAGE_TYPE, VR::CS, "ORIGINAL\\PRIMARY\\");
    header.text(tags::PRESENTATION_INTENT_TYPE, VR::CS, "FOR PRESENTATION");
    header.text(tags::VIEW_POSITION, VR::CS, if random.chance(70) { "PA" } else { "AP" });
    header.text(tags::PATIENT_ORIENTATION, VR::CS, "L\\F");
    header.text(tags::IMAGE_LATERALITY, VR::CS, "U");
    header.text(tags::IMAGER_PIXEL_SPACING, VR::DS, &format!("{spacing:.6}\\{spacing:.6}"));
    header.text(tags::PIXEL_INTENSITY_RELATIONSHIP, VR::CS, "LOG");
    header.text(tags::BURNED_IN_ANNOTATION, VR::CS, "YES");
    header.text(tags::WINDOW_CENTER, VR::DS, "2048");
    header.text(tags::WINDOW_WIDTH, VR::DS, "4096");
    header.text(tags::RESCALE_INTERCEPT, VR::DS, "0");
    header.text(tags::RESCALE_SLOPE, VR::DS, "1");
    header.text(tags::RESCALE_TYPE, VR::LO, "US");
    header.text(
        tags::PRESENTATION_LUT_SHAPE,
        VR::CS,
        if is_inverted { "INVERSE" } else { "IDENTITY" },
    );
    let photometric = if is_inverted { "MONOCHROME1" } else { "MONOCHROME2" };
    let pixels = phantom.grey.iter().map(|it| {
        let value = u16::from(*it) * 16 + 8;
        if is_inverted { 4095 - value } else { value }
    });
    header.pixels(phantom.size, photometric, 12, pixels.flat_map(u16::to_le_bytes).collect());
    written(&header.set)
}

/// The slices of a volume as CT Images, from the feet.
pub fn ct_files(volume: &CtVolume, seed: u64, person: &Person, order: &Order) -> Vec<Vec<u8>> {
    (0..volume.slices()).map(|index| ct_file(volume, index, seed, person, order)).collect()
}

fn ct_file(volume: &CtVolume, index: u32, seed: u64, person: &Person, order: &Order) -> Vec<u8> {
    let slice = volume.slice(index);
    let size = slice.phantom.size;
    let spacing = DETECTOR_MM / f64::from(size);
    let thickness = DETECTOR_MM / f64::from(volume.slices());
    let corner = -(f64::from(size) / 2.0 - 0.5) * spacing;
    let z = f64::from(index) * thickness;
    let mut header = Header::new("ct volume", seed, index);
    header.study(person, order, CT_IMAGE, "CT", "CHESTABDOMEN");
    header.text(tags::IMAGE_TYPE, VR::CS, "ORIGINAL\\PRIMARY\\AXIAL");
    header.text(tags::KVP, VR::DS, "120");
    header.text(tags::PATIENT_POSITION, VR::CS, "HFS");
    header.text(tags::SLICE_THICKNESS, VR::DS, &format!("{thickness:.6}"));
    header.text(tags::PIXEL_SPACING, VR::DS, &format!("{spacing:.6}\\{spacing:.6}"));
    let position = format!("{corner:.6}\\{corner:.6}\\{z:.6}");
    header.text(tags::IMAGE_POSITION_PATIENT, VR::DS, &position);
    header.text(tags::IMAGE_ORIENTATION_PATIENT, VR::DS, "1\\0\\0\\0\\1\\0");
    let frame = derived_uid(&["ct volume", &seed.to_string(), "frame"]);
    header.text(tags::FRAME_OF_REFERENCE_UID, VR::UI, &frame);
    header.text(tags::RESCALE_INTERCEPT, VR::DS, "-1024");
    header.text(tags::RESCALE_SLOPE, VR::DS, "1");
    header.text(tags::RESCALE_TYPE, VR::LO, "HU");
    header.text(tags::WINDOW_CENTER, VR::DS, "40");
    header.text(tags::WINDOW_WIDTH, VR::DS, "400");
    let stored = slice.hounsfield.iter().map(|it| it + 1024);
    header.pixels(size, "MONOCHROME2", 16, stored.flat_map(i16::to_le_bytes).collect());
    written(&header.set)
}

/// A data set while it is filled.
struct Header {
    set: InMemDicomObject,
    kind: &'static str,
    seed: String,
    number: u32,
}

impl Header {
    fn new(kind: &'static str, seed: u64, number: u32) -> Self {
        Self { set: InMemDicomObject::new_empty(), kind, seed: seed.to_string(), number }
    }

    fn text(&mut self, tag: Tag, vr: VR, value: &str) {
        self.set.put(DataElement::new(tag, vr, PrimitiveValue::from(value)));
    }

    fn uid(&self, what: &str) -> String {
        derived_uid(&[self.kind, &self.seed, what])
    }

    /// Patient, study, series, equipment and instance.
    fn study(&mut self, person: &Person, order: &Order, class: &str, modality: &str, part: &str) {
        let instance = self.uid(&format!("instance {}", self.number));
        let study = self.uid("study");
        let series = self.uid("series");
        let number = (self.number + 1).to_string();
        for (tag, vr, value) in [
            (tags::SPECIFIC_CHARACTER_SET, VR::CS, "ISO_IR 192"),
            (tags::SOP_CLASS_UID, VR::UI, class),
            (tags::SOP_INSTANCE_UID, VR::UI, &instance),
            (tags::STUDY_DATE, VR::DA, "20260102"),
            (tags::STUDY_TIME, VR::TM, "101500"),
            (tags::ACCESSION_NUMBER, VR::SH, &order.accession),
            (tags::MODALITY, VR::CS, modality),
            (tags::MANUFACTURER, VR::LO, "Phantom"),
            (tags::REFERRING_PHYSICIAN_NAME, VR::PN, ""),
            (tags::STUDY_DESCRIPTION, VR::LO, order.procedure),
            (tags::SERIES_DESCRIPTION, VR::LO, "phantom, not for clinical use"),
            (tags::PATIENT_NAME, VR::PN, &person.name),
            (tags::PATIENT_ID, VR::LO, &person.id),
            (tags::PATIENT_BIRTH_DATE, VR::DA, &person.birth_date),
            (tags::PATIENT_SEX, VR::CS, person.sex),
            (tags::BODY_PART_EXAMINED, VR::CS, part),
            (tags::STUDY_INSTANCE_UID, VR::UI, &study),
            (tags::SERIES_INSTANCE_UID, VR::UI, &series),
            (tags::STUDY_ID, VR::SH, "1"),
            (tags::SERIES_NUMBER, VR::IS, "1"),
            (tags::INSTANCE_NUMBER, VR::IS, &number),
        ] {
            self.text(tag, vr, value);
        }
        let placer = PrimitiveValue::from(order.placer.as_str());
        let reason = PrimitiveValue::from(order.reason);
        let request = InMemDicomObject::from_element_iter([
            DataElement::new(tags::PLACER_ORDER_NUMBER_IMAGING_SERVICE_REQUEST, VR::LO, placer),
            DataElement::new(tags::REASON_FOR_THE_REQUESTED_PROCEDURE, VR::LO, reason),
        ]);
        let requests = DataSetSequence::from(vec![request]);
        self.set.put(DataElement::new(tags::REQUEST_ATTRIBUTES_SEQUENCE, VR::SQ, requests));
    }

    fn pixels(&mut self, size: u32, photometric: &str, bits: u16, bytes: Vec<u8>) {
        self.text(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, photometric);
        let side = u16::try_from(size).unwrap_or(u16::MAX);
        for (tag, value) in [
            (tags::SAMPLES_PER_PIXEL, 1),
            (tags::ROWS, side),
            (tags::COLUMNS, side),
            (tags::BITS_ALLOCATED, 16),
            (tags::BITS_STORED, bits),
            (tags::HIGH_BIT, bits - 1),
            (tags::PIXEL_REPRESENTATION, 0),
        ] {
            self.set.put(DataElement::new(tag, VR::US, dicom_value!(U16, [value])));
        }
        self.set.put(DataElement::new(tags::PIXEL_DATA, VR::OW, PrimitiveValue::from(bytes)));
    }
}

/// A data set as a file, under the names that it states.
pub(crate) fn written(set: &InMemDicomObject) -> Vec<u8> {
    let stated = |tag| set.get(tag).and_then(|it| it.to_str().ok()).unwrap_or_default();
    let meta = FileMeta {
        sop_class: &stated(tags::SOP_CLASS_UID),
        sop_instance: &stated(tags::SOP_INSTANCE_UID),
        transfer_syntax: "1.2.840.10008.1.2.1",
        sending_ae: "",
        receiving_ae: "",
    };
    let mut file = meta.to_bytes();
    // Writing to memory what was just made does not fail; a short file would show at once.
    _ = set.write_dataset_with_ts(&mut file, &EXPLICIT_VR_LITTLE_ENDIAN.erased());
    file
}

#[cfg(test)]
mod tests {
    use imaging::{Slice, volume};

    use super::*;
    use crate::words::Language;
    use crate::{View, radiograph};

    fn of(seed: u64, view: View) -> (Person, Order) {
        (Person::new(seed), Order::new(seed, view, Language::Chinese))
    }

    /// As the engine shows a received radiograph, it is the phantom.
    #[test]
    fn a_radiograph_is_shown_as_it_was_drawn() {
        for seed in 0..8 {
            let phantom = radiograph(seed, 96);
            let (person, order) = of(seed, phantom.view);
            let file = radiograph_file(&phantom, &person, &order);
            let shown = imaging::rendering::render(&file).unwrap();
            assert_eq!([shown.width, shown.height], [96, 96]);
            for (pixel, grey) in shown.rgb.as_chunks::<3>().0.iter().zip(&phantom.grey) {
                assert!(pixel.iter().all(|it| it.abs_diff(*grey) <= 1), "{seed}: {pixel:?} {grey}");
            }
        }
    }

    #[test]
    fn a_volume_is_stacked_from_its_files() {
        let source = CtVolume::new(3, 48, 10);
        let (person, order) = of(3, View::ChestSlice);
        let folder = std::env::temp_dir().join(format!("phantoms-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir_all(&folder).unwrap();
        let mut slices: Vec<Slice> = Vec::new();
        for (index, file) in ct_files(&source, 3, &person, &order).into_iter().enumerate() {
            let path = folder.join(format!("{index}.dcm"));
            std::fs::write(&path, file).unwrap();
            slices.push(imaging::slice::read(&path).unwrap());
        }
        let stacked = volume::stack(slices).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        let drawn = (0..10).flat_map(|it| source.slice(it).hounsfield);
        let drawn: Vec<f32> = drawn.map(f32::from).collect();
        assert_eq!(stacked.values, drawn);
    }
}
