//! Images of each kind in which a file says how its pixels are to be shown (PS3.3, C.7.6.3 and
//! C.11).

use dicom_core::value::DataSetSequence;
use dicom_core::{DataElement, PrimitiveValue, Tag, VR};
use dicom_dictionary_std::tags;
use dicom_object::{FileMetaTableBuilder, InMemDicomObject};

/// Rows and columns of all images.
const SIZE: u16 = 16;

/// Number of their pixels.
const PIXELS: usize = (SIZE as usize) * (SIZE as usize);

/// An image that is shown in one way or several.
#[derive(Clone, Debug)]
pub struct ShownImage {
    /// What is special about it.
    pub name: &'static str,
    /// Its file.
    pub bytes: Vec<u8>,
}

/// One image of each kind.
pub fn all() -> Vec<ShownImage> {
    [windows(), tables(), without_window(), padded(), palettes(), colours()].concat()
}

/// The data set of an image, to be completed.
struct Image(InMemDicomObject);

impl Image {
    fn new(photometric: &str, samples: u16) -> Self {
        let mut image = Self(InMemDicomObject::new_empty());
        image.put(tags::SOP_CLASS_UID, VR::UI, "1.2.840.10008.5.1.4.1.1.1");
        image.put(tags::SOP_INSTANCE_UID, VR::UI, "1.2.3.4");
        image.put(tags::MODALITY, VR::CS, "CR");
        image.put(tags::SAMPLES_PER_PIXEL, VR::US, samples);
        image.put(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, photometric);
        image.put(tags::ROWS, VR::US, SIZE);
        image.put(tags::COLUMNS, VR::US, SIZE);
        image.put(tags::PIXEL_REPRESENTATION, VR::US, 0_u16);
        image
    }

    /// Grey values from 0 to 4080 in twelve bits.
    fn twelve_bits(photometric: &str) -> Self {
        let mut image = Self::new(photometric, 1);
        image.bits(16, 12);
        image.words(&ramp(16));
        image
    }

    /// Grey values from 0 to 255 in eight bits.
    fn eight_bits(photometric: &str) -> Self {
        let mut image = Self::new(photometric, 1);
        image.bits(8, 8);
        image.put(tags::PIXEL_DATA, VR::OB, bytes(1, 0));
        image
    }

    fn put(&mut self, tag: Tag, vr: VR, value: impl Into<PrimitiveValue>) {
        self.0.put(DataElement::new(tag, vr, value.into()));
    }

    fn bits(&mut self, allocated: u16, stored: u16) {
        self.put(tags::BITS_ALLOCATED, VR::US, allocated);
        self.put(tags::BITS_STORED, VR::US, stored);
        self.put(tags::HIGH_BIT, VR::US, stored - 1);
    }

    fn words(&mut self, words: &[u16]) {
        self.put(tags::PIXEL_DATA, VR::OW, PrimitiveValue::U16(words.into()));
    }

    fn window(&mut self, center: &str, width: &str) {
        self.put(tags::WINDOW_CENTER, VR::DS, center);
        self.put(tags::WINDOW_WIDTH, VR::DS, width);
    }

    fn table(&mut self, sequence: Tag, descriptor: [u16; 3], data: PrimitiveValue) {
        let mut item = Self(InMemDicomObject::new_empty());
        item.put(tags::LUT_DESCRIPTOR, VR::US, PrimitiveValue::U16(descriptor.as_slice().into()));
        item.put(tags::LUT_DATA, VR::OW, data);
        if sequence == tags::MODALITY_LUT_SEQUENCE {
            item.put(tags::MODALITY_LUT_TYPE, VR::LO, "US");
        }
        let items = DataSetSequence::from(vec![item.0]);
        self.0.put(DataElement::new(sequence, VR::SQ, items));
    }

    fn named(self, name: &'static str) -> ShownImage {
        let meta = FileMetaTableBuilder::new().transfer_syntax("1.2.840.10008.1.2.1");
        let mut bytes = Vec::new();
        self.0.with_meta(meta).unwrap().write_all(&mut bytes).unwrap();
        ShownImage { name, bytes }
    }
}

/// Values in equal steps from 0.
fn ramp(step: u16) -> Vec<u16> {
    (0..u16::try_from(PIXELS).unwrap()).map(|it| it * step).collect()
}

/// Bytes that rise by `step` from `first`, and start anew beyond the largest.
fn bytes(step: usize, first: usize) -> Vec<u8> {
    (0..PIXELS).map(|it| u8::try_from((first + it * step) % 256).unwrap()).collect()
}

fn windows() -> Vec<ShownImage> {
    let mut images = Vec::new();
    for (name, photometric, function) in [
        ("window", "MONOCHROME2", None),
        ("window-linear", "MONOCHROME2", Some("LINEAR")),
        ("window-linear-exact", "MONOCHROME2", Some("LINEAR_EXACT")),
        ("window-sigmoid", "MONOCHROME2", Some("SIGMOID")),
        ("window-inverted", "MONOCHROME1", None),
        ("window-sigmoid-inverted", "MONOCHROME1", Some("SIGMOID")),
    ] {
        let mut image = Image::twelve_bits(photometric);
        image.window("1800.5", "2500");
        if let Some(function) = function {
            image.put(tags::VOILUT_FUNCTION, VR::CS, function);
        }
        images.push(image.named(name));
    }
    let mut image = Image::twelve_bits("MONOCHROME2");
    image.window("1000\\2000\\3000", "500\\4000\\1");
    image.put(tags::WINDOW_CENTER_WIDTH_EXPLANATION, VR::LO, "NARROW\\WIDE\\STEP");
    images.push(image.named("windows"));
    let mut image = Image::twelve_bits("MONOCHROME2");
    image.put(tags::RESCALE_INTERCEPT, VR::DS, "-1024");
    image.put(tags::RESCALE_SLOPE, VR::DS, "0.5");
    image.window("40", "1400");
    images.push(image.named("window-rescaled"));
    images
}

fn tables() -> Vec<ShownImage> {
    let voi = tags::VOILUT_SEQUENCE;
    let square = |count: u64, max: u64| {
        let values = (0..count).map(|it| u16::try_from(it * it * max / (count * count)).unwrap());
        values.collect::<Vec<u16>>()
    };
    let words = |it: Vec<u16>| PrimitiveValue::U16(it.into());
    let mut images = Vec::new();
    for (name, photometric) in [("voi-lut", "MONOCHROME2"), ("voi-lut-inverted", "MONOCHROME1")] {
        let mut image = Image::twelve_bits(photometric);
        image.table(voi, [2000, 1000, 12], words(square(2000, 4095)));
        images.push(image.named(name));
    }
    let mut image = Image::twelve_bits("MONOCHROME2");
    image.table(voi, [4096, 0, 16], words(square(4096, 255).iter().map(|it| it * 257).collect()));
    image.window("2048", "4096");
    images.push(image.named("voi-lut-beside-a-window"));
    let mut image = Image::twelve_bits("MONOCHROME2");
    let entries: Vec<u8> = square(4096, 255).iter().map(|it| u8::try_from(*it).unwrap()).collect();
    let pairs = entries.as_chunks::<2>().0.iter().map(|it| u16::from_le_bytes(*it));
    image.table(voi, [4096, 0, 8], words(pairs.collect()));
    images.push(image.named("voi-lut-two-entries-in-a-word"));
    let mut image = Image::twelve_bits("MONOCHROME2");
    image.table(tags::MODALITY_LUT_SEQUENCE, [4096, 0, 12], words(square(4096, 4095)));
    image.window("2000", "3000");
    images.push(image.named("modality-lut"));
    let mut image = Image::twelve_bits("MONOCHROME2");
    image.table(tags::MODALITY_LUT_SEQUENCE, [4096, 0, 12], words(square(4096, 4095)));
    image.table(voi, [4096, 0, 12], words(square(4096, 4095)));
    images.push(image.named("modality-lut-and-voi-lut"));
    images
}

fn without_window() -> Vec<ShownImage> {
    vec![
        Image::eight_bits("MONOCHROME2").named("eight-bits"),
        Image::eight_bits("MONOCHROME1").named("eight-bits-inverted"),
        Image::twelve_bits("MONOCHROME2").named("twelve-bits"),
        Image::twelve_bits("MONOCHROME1").named("twelve-bits-inverted"),
    ]
}

fn padded() -> Vec<ShownImage> {
    let mut images = Vec::new();
    for (name, photometric, limit) in [
        ("padded", "MONOCHROME2", None),
        ("padded-inverted", "MONOCHROME1", None),
        ("padded-range", "MONOCHROME2", Some(3500_u16)),
    ] {
        let mut image = Image::twelve_bits(photometric);
        image.window("1800.5", "2500");
        image.put(tags::PIXEL_PADDING_VALUE, VR::US, 4080_u16);
        if let Some(limit) = limit {
            image.put(tags::PIXEL_PADDING_RANGE_LIMIT, VR::US, limit);
        }
        images.push(image.named(name));
    }
    images
}

/// Descriptor, data and segmented data of red, green and blue.
const PALETTE_TAGS: [[Tag; 3]; 3] = [
    [
        tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR,
        tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DATA,
        tags::SEGMENTED_RED_PALETTE_COLOR_LOOKUP_TABLE_DATA,
    ],
    [
        tags::GREEN_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR,
        tags::GREEN_PALETTE_COLOR_LOOKUP_TABLE_DATA,
        tags::SEGMENTED_GREEN_PALETTE_COLOR_LOOKUP_TABLE_DATA,
    ],
    [
        tags::BLUE_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR,
        tags::BLUE_PALETTE_COLOR_LOOKUP_TABLE_DATA,
        tags::SEGMENTED_BLUE_PALETTE_COLOR_LOOKUP_TABLE_DATA,
    ],
];

impl Image {
    /// Puts a palette with these entries of red, green and blue.
    fn palette(&mut self, descriptor: [u16; 3], data: [Vec<u16>; 3], is_segmented: bool) {
        for ([described, plain, segmented], words) in PALETTE_TAGS.into_iter().zip(data) {
            let descriptor = PrimitiveValue::U16(descriptor.as_slice().into());
            self.put(described, VR::US, descriptor);
            let tag = if is_segmented { segmented } else { plain };
            self.put(tag, VR::OW, PrimitiveValue::U16(words.into()));
        }
    }
}

fn palettes() -> Vec<ShownImage> {
    let rising = |step: u16| (0..256_u16).map(|it| it * step % 256 * 257).collect::<Vec<u16>>();
    let mut images = Vec::new();
    let mut image = Image::eight_bits("PALETTE COLOR");
    image.palette([256, 0, 16], [rising(1), rising(3), rising(7)], false);
    images.push(image.named("palette"));
    let mut image = Image::eight_bits("PALETTE COLOR");
    let part = |step| rising(step).into_iter().take(100).collect::<Vec<u16>>();
    image.palette([100, 50, 16], [part(1), part(3), part(7)], false);
    images.push(image.named("palette-of-a-part"));
    let mut image = Image::eight_bits("PALETTE COLOR");
    let packed = |step| {
        let bytes: Vec<u8> = rising(step).iter().map(|it| it.to_le_bytes()[0]).collect();
        bytes.as_chunks::<2>().0.iter().map(|it| u16::from_le_bytes(*it)).collect::<Vec<u16>>()
    };
    image.palette([256, 0, 8], [packed(1), packed(3), packed(7)], false);
    images.push(image.named("palette-two-entries-in-a-word"));
    let mut image = Image::new("PALETTE COLOR", 1);
    image.bits(16, 16);
    image.words(&ramp(256));
    let wide = |step: u32| {
        (0..65_536_u32).map(|it| u16::try_from(it * step % 65_536).unwrap()).collect::<Vec<u16>>()
    };
    image.palette([0, 0, 16], [wide(1), wide(3), wide(7)], false);
    images.push(image.named("palette-of-sixteen-bits"));
    let mut image = Image::eight_bits("PALETTE COLOR");
    let lines = |middle: u16| vec![0, 1, 0, 1, 99, middle, 1, 156, 65_535 - middle];
    image.palette([256, 0, 16], [lines(65_535), lines(30_000), lines(9_000)], true);
    images.push(image.named("palette-in-segments"));
    images
}

fn colours() -> Vec<ShownImage> {
    let planes = [bytes(1, 0), bytes(5, 40), bytes(11, 200)];
    let [first, second, third] = &planes;
    let pixels = first.iter().zip(second).zip(third);
    let by_pixel: Vec<u8> = pixels.flat_map(|((a, b), c)| [*a, *b, *c]).collect();
    let by_plane = planes.concat();
    let mut images = Vec::new();
    for (name, photometric, planar, pixels) in [
        ("rgb", "RGB", 0_u16, &by_pixel),
        ("rgb-by-plane", "RGB", 1, &by_plane),
        ("ybr-full", "YBR_FULL", 0, &by_pixel),
        ("ybr-full-by-plane", "YBR_FULL", 1, &by_plane),
    ] {
        let mut image = Image::new(photometric, 3);
        image.bits(8, 8);
        image.put(tags::PLANAR_CONFIGURATION, VR::US, planar);
        image.put(tags::PIXEL_DATA, VR::OB, pixels.clone());
        images.push(image.named(name));
    }
    let mut image = Image::new("YBR_FULL_422", 3);
    image.bits(8, 8);
    image.put(tags::PLANAR_CONFIGURATION, VR::US, 0_u16);
    let pairs = first.as_chunks::<2>().0.iter().zip(second).zip(third);
    let shared: Vec<u8> = pairs.flat_map(|(([a, b], cb), cr)| [*a, *b, *cb, *cr]).collect();
    image.put(tags::PIXEL_DATA, VR::OB, shared);
    images.push(image.named("ybr-full-422"));
    let mut image = Image::new("RGB", 3);
    image.bits(16, 16);
    image.put(tags::PLANAR_CONFIGURATION, VR::US, 0_u16);
    image.words(&by_pixel.iter().map(|it| u16::from(*it) * 257).collect::<Vec<u16>>());
    images.push(image.named("rgb-of-sixteen-bits"));
    images
}
