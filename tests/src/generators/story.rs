//! What is sent of one patient: images with or without an order, an identifier and empty fields.

use dicom_core::{DataElement, PrimitiveValue, VR};
use dicom_dictionary_std::tags;
use fastrand::Rng;
use simulators::order_message;
use simulators::phantom::Phantom;

/// Keeps a story independent of what else its seed determines.
const SALT: u64 = 0x5701_2026;

/// A study, and the order that comes before it, if one does.
#[derive(Clone, Debug)]
pub struct Story {
    /// The study.
    pub phantom: Phantom,
    /// Whether an order is sent.
    has_order: bool,
    /// Whether the images name a patient. Without, no order comes either.
    has_patient: bool,
    /// Whether images and order leave out what they may leave out.
    is_sparse: bool,
}

impl Story {
    /// The usual story: an order, and images with everything in them.
    pub fn usual(phantom: Phantom) -> Self {
        Self { phantom, has_order: true, has_patient: true, is_sparse: false }
    }

    /// The story of a seed. Half of them are usual.
    pub fn of(seed: u64, phantom: Phantom) -> Self {
        let mut random = Rng::with_seed(seed ^ SALT);
        let usual = Self::usual(phantom);
        match random.u8(..6) {
            0 => Self { has_order: false, ..usual },
            1 => Self { has_order: false, has_patient: false, ..usual },
            2 => Self { is_sparse: true, ..usual },
            _ => usual,
        }
    }

    /// Whether the images name a patient.
    pub const fn has_patient(&self) -> bool {
        self.has_patient
    }

    /// In what it is not usual, as a few words.
    pub fn words(&self) -> &'static str {
        match (self.has_order, self.has_patient, self.is_sparse) {
            (_, false, _) => "of nobody",
            (false, true, _) => "without an order",
            (true, true, true) => "with empty fields",
            (true, true, false) => "as usual",
        }
    }

    /// The files of the study.
    pub fn files(&self) -> Vec<Vec<u8>> {
        let empty = |tag, vr| DataElement::new(tag, vr, PrimitiveValue::Empty);
        self.phantom.files_with(|_, set| {
            if !self.has_patient {
                set.put(empty(tags::PATIENT_ID, VR::LO));
            }
            if self.is_sparse {
                set.put(empty(tags::PATIENT_NAME, VR::PN));
                set.put(empty(tags::PATIENT_BIRTH_DATE, VR::DA));
                set.put(empty(tags::PATIENT_SEX, VR::CS));
                set.put(empty(tags::STUDY_ID, VR::SH));
                set.put(empty(tags::STUDY_DESCRIPTION, VR::LO));
            }
        })
    }

    /// The order, if one is sent.
    pub fn order(&self) -> Option<String> {
        let order = order_message(&self.phantom, &self.phantom.accession);
        let sparse = |line: &str| match line.split('|').next() {
            Some("PID") => line.split('|').take(4).collect::<Vec<_>>().join("|"),
            _ => line.replace("24627-2^CT Chest^LN", ""),
        };
        let sparse_order = || order.split('\r').map(sparse).collect::<Vec<_>>().join("\r");
        self.has_order.then(|| if self.is_sparse { sparse_order() } else { order.clone() })
    }
}
