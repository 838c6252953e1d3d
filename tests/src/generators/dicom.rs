//! Images: stored values in every position of their cells, rescale and padding, and identities in
//! every character set, right or with one defect.

use dicom_core::value::DataSetSequence;
use dicom_core::{DataElement, PrimitiveValue, Tag, VR};
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;
use fastrand::Rng;

fn put(set: &mut InMemDicomObject, tag: Tag, vr: VR, value: impl Into<PrimitiveValue>) {
    set.put(DataElement::new(tag, vr, value.into()));
}

/// What makes the values of a CT no Hounsfield units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    /// Rescale Slope is missing.
    NoSlope,
    /// Rescale Slope is 0.
    FlatSlope,
    /// Rescale Slope has a comma.
    CommaSlope,
    /// Rescale Intercept is empty.
    EmptyIntercept,
    /// Rescale Intercept is missing.
    NoIntercept,
    /// Rescale Type names another unit.
    OtherUnit,
    /// A Modality LUT takes the place of the rescale.
    ModalityLut,
}

impl Defect {
    const ALL: [Self; 7] = [
        Self::NoSlope,
        Self::FlatSlope,
        Self::CommaSlope,
        Self::EmptyIntercept,
        Self::NoIntercept,
        Self::OtherUnit,
        Self::ModalityLut,
    ];

    /// The attribute that a reason has to name.
    pub const fn attribute(self) -> &'static str {
        match self {
            Self::NoSlope | Self::FlatSlope | Self::CommaSlope => "Rescale Slope",
            Self::EmptyIntercept | Self::NoIntercept => "Rescale Intercept",
            Self::OtherUnit => "Rescale Type",
            Self::ModalityLut => "Modality LUT Sequence",
        }
    }

    fn apply_to(self, set: &mut InMemDicomObject) {
        match self {
            Self::NoSlope => _ = set.remove_element(tags::RESCALE_SLOPE),
            Self::FlatSlope => put(set, tags::RESCALE_SLOPE, VR::DS, "0"),
            Self::CommaSlope => put(set, tags::RESCALE_SLOPE, VR::DS, "1,0"),
            Self::EmptyIntercept => put(set, tags::RESCALE_INTERCEPT, VR::DS, ""),
            Self::NoIntercept => _ = set.remove_element(tags::RESCALE_INTERCEPT),
            Self::OtherUnit => put(set, tags::RESCALE_TYPE, VR::LO, "MGML"),
            Self::ModalityLut => {
                let mut item = InMemDicomObject::new_empty();
                put(&mut item, tags::MODALITY_LUT_TYPE, VR::LO, "HU");
                let items = DataSetSequence::from(vec![item]);
                set.put(DataElement::new(tags::MODALITY_LUT_SEQUENCE, VR::SQ, items));
            }
        }
    }
}

/// The pixels of a slice, and how they are written.
#[derive(Clone, Debug)]
pub struct Pixels {
    slope: &'static str,
    intercept: &'static str,
    /// Bits Stored.
    stored: u16,
    /// High Bit.
    high: u16,
    is_signed: bool,
    /// Pixel Padding Value, and Pixel Padding Range Limit.
    padding: Option<Padding>,
    values: Vec<i32>,
    /// Why the values are no Hounsfield units.
    pub defect: Option<Defect>,
}

#[derive(Clone, Copy, Debug)]
struct Padding {
    value: i32,
    limit: Option<i32>,
}

impl Padding {
    fn contains(self, value: i32) -> bool {
        let limit = self.limit.unwrap_or(self.value);
        (self.value.min(limit)..=self.value.max(limit)).contains(&value)
    }
}

impl Pixels {
    /// Pixels of a slice with this number of rows and columns.
    pub fn any(random: &mut Rng, size: u16) -> Self {
        let stored = random.u16(10..=16);
        let is_signed = random.bool();
        let least = if is_signed { -(1_i32 << (stored - 1)) } else { 0 };
        let most = least + (1_i32 << stored) - 1;
        let padding = random.bool().then(|| Padding {
            value: random.i32(least..=most),
            limit: random.bool().then(|| random.i32(least..=most)),
        });
        let count = usize::from(size) * usize::from(size);
        let value = |random: &mut Rng| match padding {
            // Padding occurs, or it would not be written.
            Some(padding) if random.u8(..4) == 0 => padding.value,
            _ => random.i32(least..=most),
        };
        Self {
            slope: random.choice(["1", "1.0", "0.5", "2", "1.0002442", "-1"]).unwrap(),
            intercept: random.choice(["-1024", "0", "-1000.5", "-8192"]).unwrap(),
            stored,
            high: if random.bool() { stored - 1 } else { 15 },
            is_signed,
            padding,
            values: (0..count).map(|_| value(random)).collect(),
            defect: (random.u8(..4) == 0).then(|| random.choice(Defect::ALL).unwrap()),
        }
    }

    /// Writes them into an image.
    pub fn apply_to(&self, set: &mut InMemDicomObject) {
        let vr = if self.is_signed { VR::SS } else { VR::US };
        put(set, tags::BITS_STORED, VR::US, self.stored);
        put(set, tags::HIGH_BIT, VR::US, self.high);
        put(set, tags::PIXEL_REPRESENTATION, VR::US, u16::from(self.is_signed));
        put(set, tags::RESCALE_SLOPE, VR::DS, self.slope);
        put(set, tags::RESCALE_INTERCEPT, VR::DS, self.intercept);
        if let Some(Padding { value, limit }) = self.padding {
            put(set, tags::PIXEL_PADDING_VALUE, vr, self.short(value));
            if let Some(limit) = limit {
                put(set, tags::PIXEL_PADDING_RANGE_LIMIT, vr, self.short(limit));
            }
        }
        let shift = self.high + 1 - self.stored;
        let mask = (1_u32 << self.stored) - 1;
        let cell = |it: &i32| u16::try_from((it.cast_unsigned() & mask) << shift).unwrap();
        let bytes: Vec<u8> = self.values.iter().map(cell).flat_map(u16::to_le_bytes).collect();
        put(set, tags::PIXEL_DATA, VR::OW, bytes);
        if let Some(defect) = self.defect {
            defect.apply_to(set);
        }
    }

    /// A value in the representation of the pixels.
    fn short(&self, value: i32) -> PrimitiveValue {
        if self.is_signed {
            i16::try_from(value).unwrap().into()
        } else {
            u16::try_from(value).unwrap().into()
        }
    }

    /// The Hounsfield units of each pixel; nothing where it is padding.
    pub fn expected(&self) -> Vec<Option<f64>> {
        let slope: f64 = self.slope.parse().unwrap();
        let intercept: f64 = self.intercept.parse().unwrap();
        let unit = |it: &i32| {
            let is_padding = self.padding.is_some_and(|padding| padding.contains(*it));
            (!is_padding).then(|| slope * f64::from(*it) + intercept)
        };
        self.values.iter().map(unit).collect()
    }
}

/// Who an image says it is of.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Patient ID.
    pub patient_id: String,
    /// Issuer of Patient ID; empty if there is none.
    pub issuer: &'static str,
    /// Patient's Name.
    pub name: &'static str,
    /// Specific Character Set.
    charset: &'static str,
    /// The name in that set.
    encoded: &'static [u8],
}

/// Specific Character Set, a name in it, and the name as text.
const NAMES: [(&str, &[u8], &str); 8] = [
    ("ISO_IR 192", "MÜLLER^JÖRG".as_bytes(), "MÜLLER^JÖRG"),
    ("ISO_IR 100", b"M\xdcLLER^J\xd6RG", "MÜLLER^JÖRG"),
    ("", b"DOE^JANE", "DOE^JANE"),
    ("GB18030", b"\xd5\x5c\xd4\x5c\xd0\x5c^\xc8\xfd", "誠診衆^三"),
    (
        "\\ISO 2022 IR 87",
        b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B",
        "Yamada^Tarou=山田^太郎",
    ),
    (
        "\\ISO 2022 IR 149",
        b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7",
        "Hong^Gildong=洪^吉洞",
    ),
    ("ISO_IR 144", b"\xbb\xee\xda^\xdc\xd1\xe3", "Люк^мбу"),
    ("ISO_IR 192", "王^小东".as_bytes(), "王^小东"),
];

impl Identity {
    /// Any identity. Few numbers are in use, so that several authorities have the same.
    pub fn any(random: &mut Rng) -> Self {
        let (charset, encoded, name) = random.choice(NAMES).unwrap();
        Self {
            patient_id: format!("47{:02}", random.u8(..4)),
            issuer: random.choice(["", "HOSP", "LAB", "1.2.3.111"]).unwrap(),
            name,
            charset,
            encoded,
        }
    }

    /// Writes it into an image, with or without blanks around the identifier.
    pub fn apply_to(&self, set: &mut InMemDicomObject) {
        put(set, tags::SPECIFIC_CHARACTER_SET, VR::CS, self.charset);
        put(set, tags::PATIENT_ID, VR::LO, self.patient_id.as_str());
        if !self.issuer.is_empty() {
            put(set, tags::ISSUER_OF_PATIENT_ID, VR::LO, self.issuer);
        }
        // As bytes of the set: whoever writes the data set must not encode them again.
        let mut name = self.encoded.to_vec();
        name.resize(name.len().next_multiple_of(2), b' ');
        put(set, tags::PATIENT_NAME, VR::PN, name);
    }
}
