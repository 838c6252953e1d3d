//! The table of known structures: for each its codes, how Hounsfield units distinguish it, its window,
//! and whether there are several of it in a patient.

use imaging::window::Window;

/// Whether each connected part of a structure is a finding of its own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Parts {
    /// It is one structure, whatever its number of parts.
    One,
    /// Each part is an object of its own.
    Several {
        /// Parts of less than this volume in mL are noise.
        smallest_ml: f64,
        /// Whether each is of a side of the patient.
        have_sides: bool,
    },
}

/// Category of a structure (CID 7150).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Category {
    Anatomy,
    Tissue,
    Abnormality,
}

/// A structure that Hounsfield units alone distinguish from all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HounsfieldTarget {
    Bone,
    Lung,
    Body,
}

impl HounsfieldTarget {
    /// Lower and upper bound in Hounsfield units.
    pub(crate) const fn range(self) -> [f32; 2] {
        match self {
            Self::Bone => [300.0, f32::MAX],
            Self::Lung => [-950.0, -400.0],
            Self::Body => [-300.0, f32::MAX],
        }
    }
}

/// A known structure.
#[derive(Debug, PartialEq)]
pub(crate) struct KnownTarget {
    /// The name in workflow files, in prompts and in outputs.
    pub(crate) name: &'static str,
    /// Segmented property type (SNOMED CT; CID 7151 and wider).
    pub(crate) code: &'static str,
    pub(crate) meaning: &'static str,
    pub(crate) category: Category,
    pub(crate) hounsfield: Option<HounsfieldTarget>,
    /// The window in which a radiologist would look at it on CT.
    pub(crate) window: Window,
    pub(crate) parts: Parts,
}

/// Window of soft tissue.
pub(crate) const SOFT_TISSUE: Window = Window { center: 40.0, width: 400.0 };

/// Smallest volume of a lesion in mL: a ball with a diameter of 2.7 mm.
pub(crate) const LESION_ML: f64 = 0.01;

/// Smallest volume of an organ in mL.
const ORGAN_ML: f64 = 1.0;

const ONE: Parts = Parts::One;
const LESIONS: Parts = Parts::Several { smallest_ml: LESION_ML, have_sides: false };
const PAIR: Parts = Parts::Several { smallest_ml: ORGAN_ML, have_sides: true };

/// A structure of soft tissue.
const fn soft(
    name: &'static str,
    code: &'static str,
    meaning: &'static str,
    category: Category,
    parts: Parts,
) -> KnownTarget {
    KnownTarget { name, code, meaning, category, hounsfield: None, window: SOFT_TISSUE, parts }
}

/// All known structures.
pub(crate) const KNOWN_TARGETS: [KnownTarget; 32] = [
    KnownTarget {
        name: "bone",
        code: "272673000",
        meaning: "Bone",
        category: Category::Tissue,
        hounsfield: Some(HounsfieldTarget::Bone),
        window: Window { center: 400.0, width: 1800.0 },
        parts: ONE,
    },
    KnownTarget {
        name: "lung",
        code: "39607008",
        meaning: "Lung",
        category: Category::Anatomy,
        hounsfield: Some(HounsfieldTarget::Lung),
        window: Window { center: -600.0, width: 1500.0 },
        parts: PAIR,
    },
    KnownTarget {
        name: "body",
        code: "38266002",
        meaning: "Entire body",
        category: Category::Anatomy,
        hounsfield: Some(HounsfieldTarget::Body),
        window: SOFT_TISSUE,
        parts: ONE,
    },
    KnownTarget {
        name: "brain",
        code: "12738006",
        meaning: "Brain",
        category: Category::Anatomy,
        hounsfield: None,
        window: Window { center: 40.0, width: 80.0 },
        parts: ONE,
    },
    soft("liver", "10200004", "Liver", Category::Anatomy, ONE),
    soft("kidney", "64033007", "Kidney", Category::Anatomy, PAIR),
    soft("spleen", "78961009", "Spleen", Category::Anatomy, ONE),
    soft("pancreas", "15776009", "Pancreas", Category::Anatomy, ONE),
    soft("gallbladder", "28231008", "Gallbladder", Category::Anatomy, ONE),
    soft("heart", "80891009", "Heart", Category::Anatomy, ONE),
    soft("aorta", "15825003", "Aorta", Category::Anatomy, ONE),
    soft("bladder", "89837001", "Bladder", Category::Anatomy, ONE),
    soft("left atrium", "82471001", "Left atrium", Category::Anatomy, ONE),
    soft("prostate", "41216001", "Prostate", Category::Anatomy, ONE),
    soft("uterus", "35039007", "Uterus", Category::Anatomy, ONE),
    soft("stomach", "69695003", "Stomach", Category::Anatomy, ONE),
    soft("colon", "71854001", "Colon", Category::Anatomy, ONE),
    soft("rectum", "34402009", "Rectum", Category::Anatomy, ONE),
    soft("esophagus", "32849002", "Esophagus", Category::Anatomy, ONE),
    soft("trachea", "44567001", "Trachea", Category::Anatomy, ONE),
    soft("thyroid", "69748006", "Thyroid", Category::Anatomy, ONE),
    soft("spinal cord", "2748008", "Spinal cord", Category::Anatomy, ONE),
    soft("inferior vena cava", "64131007", "Inferior vena cava", Category::Anatomy, ONE),
    soft("pulmonary artery", "81040000", "Pulmonary artery", Category::Anatomy, ONE),
    soft("femur", "71341001", "Femur", Category::Anatomy, PAIR),
    soft("lymph node", "59441001", "Lymph node", Category::Anatomy, LESIONS),
    soft("lesion", "52988006", "Lesion", Category::Abnormality, LESIONS),
    soft("nodule", "27925004", "Nodule", Category::Abnormality, LESIONS),
    soft("mass", "4147007", "Mass", Category::Abnormality, LESIONS),
    soft("tumor", "108369006", "Tumor", Category::Abnormality, LESIONS),
    soft("cyst", "367643001", "Cyst", Category::Abnormality, LESIONS),
    soft("hemorrhage", "50960005", "Hemorrhage", Category::Abnormality, LESIONS),
];
