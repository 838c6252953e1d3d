//! The CT of the demonstration: a patient made of cylinders, whose volumes are known.

use dicom_core::value::DataSetSequence;
use dicom_core::{DataElement, PrimitiveValue, Tag, VR, dicom_value};
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;
use domain::derived_uid;

use crate::dicom::written;

const CT_IMAGE_STORAGE: &str = "1.2.840.10008.5.1.4.1.1.2";

/// Hounsfield units of the materials.
const AIR: i16 = -1000;
const TISSUE: i16 = 40;
const LUNG: i16 = -800;
const BONE: i16 = 700;

/// A scan: the patient, the order and the geometry.
#[derive(Clone, Debug)]
pub struct Phantom {
    /// Patient ID.
    pub patient_id: String,
    /// Patient's name.
    pub patient_name: String,
    /// Accession number.
    pub accession: String,
    /// Placer order number in the images, or empty for images that name no order.
    pub placer: String,
    /// Distinguishes studies: the same seed gives the same UIDs.
    pub seed: String,
    /// Rows and columns of a slice.
    pub size: u16,
    /// How many slices.
    pub slices: u16,
    /// Size of a pixel, in mm.
    pub pixel: f64,
    /// Distance of slices, in mm.
    pub spacing: f64,
    /// How far each slice lies to the side of the one before, in mm.
    pub lean: f64,
}

impl Default for Phantom {
    fn default() -> Self {
        Self {
            patient_id: "DEMO-4711".to_owned(),
            patient_name: "DEMO^PHANTOM".to_owned(),
            accession: "DEMO-ACC-1".to_owned(),
            placer: String::new(),
            seed: "demo".to_owned(),
            size: 256,
            slices: 40,
            pixel: 1.5,
            spacing: 3.0,
            lean: 0.0,
        }
    }
}

impl Phantom {
    /// Study Instance UID.
    pub fn study_uid(&self) -> String {
        derived_uid(&["phantom", &self.seed, "study"])
    }

    /// SOP Instance UID of a slice.
    pub fn instance_uid(&self, slice: u16) -> String {
        derived_uid(&["phantom", &self.seed, &format!("instance {slice}")])
    }

    /// Volume of its bones in mL: two cylinders of radius 15 mm and one of 20 mm along the table,
    /// the latter with a canal of 6 mm that is closed nowhere.
    pub fn bone_millilitres(&self) -> f64 {
        let height = f64::from(self.slices) * self.spacing;
        let disc = |radius: f64| std::f64::consts::PI * radius * radius;
        (2.0 * disc(15.0) + disc(20.0) - disc(6.0)) * height / 1000.0
    }

    /// The files of the study, slice by slice.
    pub fn files(&self) -> Vec<Vec<u8>> {
        self.files_with(|_, _| {})
    }

    /// The files of a study that differs from this one by a change to the data set of each slice.
    pub fn files_with(&self, change: impl Fn(u16, &mut InMemDicomObject)) -> Vec<Vec<u8>> {
        let sets = (0..self.slices).map(|slice| {
            let mut set = self.data_set(slice);
            change(slice, &mut set);
            set
        });
        sets.map(|it| written(&it)).collect()
    }

    fn value(x: f64, y: f64) -> i16 {
        let within = |cx: f64, cy: f64, r: f64| (x - cx).hypot(y - cy) <= r;
        let in_ellipse = |a: f64, b: f64| (x / a).powi(2) + (y / b).powi(2) <= 1.0;
        let spine = within(0.0, 70.0, 20.0) && !within(0.0, 70.0, 6.0);
        if spine || within(-140.0, 0.0, 15.0) || within(140.0, 0.0, 15.0) {
            BONE
        } else if within(-60.0, -10.0, 45.0) || within(60.0, -10.0, 45.0) {
            LUNG
        } else if in_ellipse(180.0, 120.0) {
            TISSUE
        } else {
            AIR
        }
    }

    /// Hounsfield units of a slice, row by row.
    pub fn hounsfield_units(&self, slice: u16) -> Vec<i16> {
        let aside = self.lean * f64::from(slice);
        let middle = f64::from(self.size) / 2.0 - 0.5;
        let place = |index: u16| (f64::from(index) - middle) * self.pixel;
        let rows = (0..self.size).map(place);
        let places = rows.flat_map(|y| (0..self.size).map(move |column| (place(column), y)));
        places.map(|(x, y)| Self::value(x - aside, y)).collect()
    }

    fn pixels(&self, slice: u16) -> PrimitiveValue {
        let stored = self.hounsfield_units(slice).into_iter().map(|it| it + 1024);
        stored.flat_map(i16::to_le_bytes).collect::<Vec<u8>>().into()
    }

    /// The Request Attributes Sequence (0040,0275): the order that the images were made for.
    fn request(&self) -> DataElement<InMemDicomObject> {
        let placer = PrimitiveValue::from(self.placer.as_str());
        let tag = tags::PLACER_ORDER_NUMBER_IMAGING_SERVICE_REQUEST;
        let request = InMemDicomObject::from_element_iter([DataElement::new(tag, VR::LO, placer)]);
        let requests = DataSetSequence::from(vec![request]);
        DataElement::new(tags::REQUEST_ATTRIBUTES_SEQUENCE, VR::SQ, requests)
    }

    fn data_set(&self, slice: u16) -> InMemDicomObject {
        let uid = |what: &str| derived_uid(&["phantom", &self.seed, what]);
        let instance = self.instance_uid(slice);
        let corner = -(f64::from(self.size) / 2.0 - 0.5) * self.pixel;
        let z = f64::from(slice) * self.spacing;
        let mut set = InMemDicomObject::new_empty();
        let mut text = |tag: Tag, vr: VR, value: &str| {
            set.put(DataElement::new(tag, vr, PrimitiveValue::from(value)));
        };
        text(tags::SPECIFIC_CHARACTER_SET, VR::CS, "ISO_IR 192");
        text(tags::IMAGE_TYPE, VR::CS, "ORIGINAL\\PRIMARY\\AXIAL");
        text(tags::SOP_CLASS_UID, VR::UI, CT_IMAGE_STORAGE);
        text(tags::SOP_INSTANCE_UID, VR::UI, &instance);
        text(tags::STUDY_DATE, VR::DA, "20260102");
        text(tags::STUDY_TIME, VR::TM, "101500");
        text(tags::ACCESSION_NUMBER, VR::SH, &self.accession);
        text(tags::MODALITY, VR::CS, "CT");
        text(tags::MANUFACTURER, VR::LO, "Phantom");
        text(tags::REFERRING_PHYSICIAN_NAME, VR::PN, "");
        text(tags::STUDY_DESCRIPTION, VR::LO, "CT chest phantom");
        text(tags::SERIES_DESCRIPTION, VR::LO, "axial");
        text(tags::PATIENT_NAME, VR::PN, &self.patient_name);
        text(tags::PATIENT_ID, VR::LO, &self.patient_id);
        text(tags::PATIENT_BIRTH_DATE, VR::DA, "19700101");
        text(tags::PATIENT_SEX, VR::CS, "O");
        text(tags::BODY_PART_EXAMINED, VR::CS, "CHEST");
        text(tags::SLICE_THICKNESS, VR::DS, &self.spacing.to_string());
        text(tags::KVP, VR::DS, "120");
        text(tags::STUDY_INSTANCE_UID, VR::UI, &self.study_uid());
        text(tags::SERIES_INSTANCE_UID, VR::UI, &uid("series"));
        text(tags::STUDY_ID, VR::SH, "1");
        text(tags::SERIES_NUMBER, VR::IS, "2");
        text(tags::ACQUISITION_NUMBER, VR::IS, "1");
        text(tags::INSTANCE_NUMBER, VR::IS, &(slice + 1).to_string());
        text(tags::IMAGE_POSITION_PATIENT, VR::DS, &format!("{corner}\\{corner}\\{z}"));
        text(tags::IMAGE_ORIENTATION_PATIENT, VR::DS, "1\\0\\0\\0\\1\\0");
        text(tags::FRAME_OF_REFERENCE_UID, VR::UI, &uid("frame"));
        text(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME2");
        text(tags::PIXEL_SPACING, VR::DS, &format!("{}\\{}", self.pixel, self.pixel));
        text(tags::RESCALE_INTERCEPT, VR::DS, "-1024");
        text(tags::RESCALE_SLOPE, VR::DS, "1");
        text(tags::RESCALE_TYPE, VR::LO, "HU");
        for (tag, value) in [
            (tags::SAMPLES_PER_PIXEL, 1),
            (tags::ROWS, self.size),
            (tags::COLUMNS, self.size),
            (tags::BITS_ALLOCATED, 16),
            (tags::BITS_STORED, 16),
            (tags::HIGH_BIT, 15),
            (tags::PIXEL_REPRESENTATION, 0),
        ] {
            set.put(DataElement::new(tag, VR::US, dicom_value!(U16, [value])));
        }
        let none = DataSetSequence::<InMemDicomObject>::empty();
        set.put(DataElement::new(tags::REFERENCED_STUDY_SEQUENCE, VR::SQ, none));
        set.put(DataElement::new(tags::PIXEL_DATA, VR::OW, self.pixels(slice)));
        if !self.placer.is_empty() {
            set.put(self.request());
        }
        set
    }
}
