//! A small CT for the tests of this crate: two rows of three pixels, written and read again.

use dicom_core::{DataElement, PrimitiveValue, Tag, VR};
use dicom_dictionary_std::tags;
use dicom_object::{DefaultDicomObject, FileMetaTableBuilder, InMemDicomObject, OpenFileOptions};

/// Stored values of the pixels.
pub(crate) const STORED: [u16; 6] = [0, 24, 1024, 1064, 1724, 2024];

/// The same pixels in Hounsfield units.
pub(crate) const HOUNSFIELD_UNITS: [f32; 6] = [-1024.0, -1000.0, 0.0, 40.0, 700.0, 1000.0];

/// The data set of a CT with nothing to object to, that tests change.
#[derive(Clone, Debug)]
pub(crate) struct Sample(pub(crate) InMemDicomObject);

impl Sample {
    pub(crate) fn ct() -> Self {
        let mut sample = Self(InMemDicomObject::new_empty());
        for (tag, vr, value) in [
            (tags::IMAGE_TYPE, VR::CS, "ORIGINAL\\PRIMARY\\AXIAL"),
            (tags::SOP_CLASS_UID, VR::UI, "1.2.840.10008.5.1.4.1.1.2"),
            (tags::SOP_INSTANCE_UID, VR::UI, "1.2.3"),
            (tags::MODALITY, VR::CS, "CT"),
            (tags::IMAGE_POSITION_PATIENT, VR::DS, "0\\0\\0"),
            (tags::IMAGE_ORIENTATION_PATIENT, VR::DS, "1\\0\\0\\0\\1\\0"),
            (tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME2"),
            (tags::PIXEL_SPACING, VR::DS, "1\\1"),
            (tags::RESCALE_INTERCEPT, VR::DS, "-1024"),
            (tags::RESCALE_SLOPE, VR::DS, "1"),
            (tags::RESCALE_TYPE, VR::LO, "HU"),
        ] {
            sample.put(tag, vr, value);
        }
        for (tag, value) in [
            (tags::SAMPLES_PER_PIXEL, 1_u16),
            (tags::ROWS, 2),
            (tags::COLUMNS, 3),
            (tags::BITS_ALLOCATED, 16),
            (tags::BITS_STORED, 16),
            (tags::HIGH_BIT, 15),
            (tags::PIXEL_REPRESENTATION, 0),
        ] {
            sample.put(tag, VR::US, value);
        }
        sample.pixels(STORED);
        sample
    }

    /// The same pixels as an MR, which needs no rescale.
    pub(crate) fn mr() -> Self {
        let mut sample = Self::ct();
        sample.put(tags::SOP_CLASS_UID, VR::UI, "1.2.840.10008.5.1.4.1.1.4");
        sample.put(tags::MODALITY, VR::CS, "MR");
        for tag in [tags::RESCALE_INTERCEPT, tags::RESCALE_SLOPE, tags::RESCALE_TYPE] {
            sample.remove(tag);
        }
        sample
    }

    pub(crate) fn put(&mut self, tag: Tag, vr: VR, value: impl Into<PrimitiveValue>) {
        self.0.put(DataElement::new(tag, vr, value.into()));
    }

    pub(crate) fn remove(&mut self, tag: Tag) {
        self.0.remove_element(tag);
    }

    /// Replaces the pixel cells.
    pub(crate) fn pixels(&mut self, cells: [u16; 6]) {
        let bytes: Vec<u8> = cells.into_iter().flat_map(u16::to_le_bytes).collect();
        self.put(tags::PIXEL_DATA, VR::OW, bytes);
    }

    /// Bits Stored, High Bit and Pixel Representation.
    pub(crate) fn bits(&mut self, stored: u16, high: u16, representation: u16) {
        self.put(tags::BITS_STORED, VR::US, stored);
        self.put(tags::HIGH_BIT, VR::US, high);
        self.put(tags::PIXEL_REPRESENTATION, VR::US, representation);
    }

    /// The file as a modality writes it.
    pub(crate) fn bytes(self) -> Vec<u8> {
        let meta = FileMetaTableBuilder::new().transfer_syntax("1.2.840.10008.1.2.1");
        let mut bytes = Vec::new();
        self.0.with_meta(meta).unwrap().write_all(&mut bytes).unwrap();
        bytes
    }

    /// The file as it is read.
    pub(crate) fn object(self) -> DefaultDicomObject {
        OpenFileOptions::new().from_reader(self.bytes().as_slice()).unwrap()
    }
}
