//! Organs, lesions, sides and zones.

/// A side of the patient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// The patient's right, on the left of a picture.
    Right,
    /// The patient's left.
    Left,
}

impl Side {
    /// Both sides, in the order in which they are read.
    pub const ALL: [Self; 2] = [Self::Right, Self::Left];

    /// The sign of x on this side.
    pub(crate) const fn sign(self) -> f32 {
        match self {
            Self::Right => -1.0,
            Self::Left => 1.0,
        }
    }
}

/// A third of a lung.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zone {
    /// The upper third.
    Upper,
    /// The middle third.
    Middle,
    /// The lower third.
    Lower,
}

impl Zone {
    /// All zones, from above.
    pub const ALL: [Self; 3] = [Self::Upper, Self::Middle, Self::Lower];
}

/// An organ with a mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Organ {
    /// The vertebral column.
    Spine,
    /// A lung, without fluid and air around it.
    Lung(Side),
    /// The heart.
    Heart,
    /// The aorta.
    Aorta,
    /// The liver.
    Liver,
    /// The spleen.
    Spleen,
    /// A kidney.
    Kidney(Side),
}

impl Organ {
    /// All organs, in the order in which they are read.
    pub const ALL: [Self; 9] = [
        Self::Spine,
        Self::Lung(Side::Right),
        Self::Lung(Side::Left),
        Self::Heart,
        Self::Aorta,
        Self::Liver,
        Self::Spleen,
        Self::Kidney(Side::Right),
        Self::Kidney(Side::Left),
    ];
}

/// A kind of lesion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LesionKind {
    /// A small round opacity of the lung.
    Nodule,
    /// A large round opacity of the lung.
    Mass,
    /// An uneven opacity of the lung.
    Consolidation,
    /// Fluid around the lung.
    Effusion,
    /// Air around the lung.
    Pneumothorax,
    /// An enlarged heart; its mask is that of the heart.
    Cardiomegaly,
    /// A wide aorta; its mask is that of the aorta.
    Aneurysm,
    /// A solid lesion of the liver.
    LiverLesion,
    /// A cyst of the liver.
    HepaticCyst,
    /// A cyst of a kidney.
    RenalCyst,
    /// A stone of a kidney.
    RenalCalculus,
}

impl LesionKind {
    /// The kinds that a chest radiograph may show.
    pub const OF_RADIOGRAPH: [Self; 6] = [
        Self::Nodule,
        Self::Mass,
        Self::Consolidation,
        Self::Effusion,
        Self::Pneumothorax,
        Self::Cardiomegaly,
    ];

    /// The kinds that a slice of the chest may show.
    pub const OF_CHEST: [Self; 2] = [Self::Nodule, Self::Effusion];

    /// The kinds that a slice of the abdomen may show.
    pub const OF_ABDOMEN: [Self; 5] = [
        Self::LiverLesion,
        Self::HepaticCyst,
        Self::RenalCyst,
        Self::RenalCalculus,
        Self::Aneurysm,
    ];

    /// Whether it is on a side.
    pub const fn has_side(self) -> bool {
        match self {
            Self::Nodule
            | Self::Mass
            | Self::Consolidation
            | Self::Effusion
            | Self::Pneumothorax
            | Self::RenalCyst
            | Self::RenalCalculus => true,
            Self::Cardiomegaly | Self::Aneurysm | Self::LiverLesion | Self::HepaticCyst => false,
        }
    }

    /// Whether it is around the lung.
    pub const fn is_pleural(self) -> bool {
        matches!(self, Self::Effusion | Self::Pneumothorax)
    }

    /// Whether it is of the lung itself, and may be in any zone.
    pub const fn is_in_lung(self) -> bool {
        matches!(self, Self::Nodule | Self::Mass | Self::Consolidation)
    }
}
