//! Renders an instance as a picture for people: radiographs, photographs, and single slices.

use std::fmt::{self, Display, Formatter};

use dicom_core::Tag;
use dicom_dictionary_std::tags;
use dicom_object::DefaultDicomObject;
use domain::VolumeGeometry;

use crate::colours::{self, ColourSpace};
use crate::image_attributes::{SliceError, integer, quoted, text, uid};
use crate::object_reader;
use crate::palette::Palette;
use crate::rescale::{Rescale, is_in_hounsfield_units};
use crate::slice::check_pixels;
use crate::stored_values::StoredValues;
use crate::voi::{self, FiledVoi, Voi};
use crate::window::{VoiFunction, Window};
use crate::{FlatMask, Picture};

/// Number of bits up to which stored values are grey levels already, unless the file states
/// otherwise: scans, copies of screens, ultrasound.
const LEVEL_BITS_MAX: u32 = 8;

/// Which pictures are made of an image of grey values. Any other image is one picture.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Views {
    /// One, in the first way that the file states.
    #[default]
    First,
    /// One in each way that the file states.
    All,
    /// One through each of these windows, if the values are Hounsfield units; else as
    /// [`Views::First`].
    Windows(Vec<Window>),
}

/// A picture of an image.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown {
    /// The picture.
    pub picture: Picture,
    /// How it was made.
    pub manner: Manner,
}

/// How a picture was made from the values of a file.
#[derive(Clone, Debug, PartialEq)]
pub enum Manner {
    /// Through a window of the file.
    FiledWindow {
        /// The window.
        window: Window,
        /// How grey levels rise over it.
        function: VoiFunction,
        /// What the modality calls it.
        name: Option<String>,
    },
    /// Through a table of the file.
    FiledTable {
        /// What the modality calls it.
        name: Option<String>,
    },
    /// Through a window that was asked for.
    AskedWindow(Window),
    /// The file states nothing, and its stored values are grey levels: through the window over
    /// every value that its bits could hold.
    Levels(Window),
    /// The file states nothing: from the darkest to the brightest hundredth of its values.
    OverValues(Window),
    /// In the colours of the file.
    Colours,
    /// In the colours of its palette.
    Palette,
}

impl Manner {
    /// Whether the file states how it is to be shown.
    pub const fn is_filed(&self) -> bool {
        match self {
            Self::FiledWindow { .. } | Self::FiledTable { .. } | Self::Colours | Self::Palette => {
                true
            }
            Self::AskedWindow(_) | Self::Levels(_) | Self::OverValues(_) => false,
        }
    }
}

impl Display for Manner {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let named = |name: &Option<String>| {
            name.as_ref().map(|it| format!(" {}", quoted(it))).unwrap_or_default()
        };
        match self {
            Self::FiledWindow { window, function, name } => {
                let function = match function {
                    VoiFunction::Linear => String::new(),
                    other => format!(", {}", other.name()),
                };
                write!(f, "window{} of the file: {window}{function}", named(name))
            }
            Self::FiledTable { name } => write!(f, "VOI LUT{} of the file", named(name)),
            Self::AskedWindow(window) => write!(f, "window of the workflow: {window}"),
            Self::Levels(window) => write!(f, "grey levels as stored: {window}"),
            Self::OverValues(window) => {
                write!(f, "no window in the file, darkest to brightest hundredth: {window}")
            }
            Self::Colours => f.write_str("colours of the file"),
            Self::Palette => f.write_str("palette of the file"),
        }
    }
}

/// Renders an instance in the first way that its file states: see [`show`].
///
/// # Errors
///
/// Fails if the file cannot be decoded, or cannot be shown as one picture.
pub fn render(file: &[u8]) -> Result<Picture, SliceError> {
    let first = show(file, &Views::First)?.into_iter().next();
    first.map(|it| it.picture).ok_or_else(|| SliceError::not_a_slice("it has no pictures"))
}

/// Renders an instance as radiologists see it (DIN-80): grey values through the tables and windows
/// of the file. Where it states none, values of up to eight bits are shown as they are, and others
/// through a window over nearly all of them. Padding is black. Colours are red, green and blue,
/// whatever their colour space.
///
/// # Errors
///
/// Fails if the file cannot be decoded, or cannot be shown as a picture: several frames, colours of
/// a retired colour space.
pub fn show(file: &[u8], views: &Views) -> Result<Vec<Shown>, SliceError> {
    let object = object_reader::read(file)?;
    let rows = integer(&object, tags::ROWS, "Rows")?;
    let columns = integer(&object, tags::COLUMNS, "Columns")?;
    check_pixels(&object, rows, columns)?;
    let picture =
        |rgb| Picture::new(columns, rows, rgb).map_err(|error| SliceError::undecodable(&error));
    let photometric = text(&object, tags::PHOTOMETRIC_INTERPRETATION).unwrap_or_default();
    if matches!(photometric.as_str(), "MONOCHROME1" | "MONOCHROME2") {
        let image = GrayImage::decode(&object, rows, columns)?;
        let is_inverted = photometric == "MONOCHROME1";
        let views = image.views(&object, views)?.into_iter();
        let shown = views.map(|GrayView { voi, manner }| {
            Ok(Shown { picture: picture(image.rgb(&voi, is_inverted))?, manner })
        });
        return shown.collect();
    }
    if photometric == "PALETTE COLOR" {
        let rgb = palette_rgb(&object, rows, columns)?;
        return Ok(vec![Shown { picture: picture(rgb)?, manner: Manner::Palette }]);
    }
    let space = ColourSpace::of(&photometric).ok_or_else(|| SliceError::NotASlice {
        what: format!("its colours are {}", quoted(&photometric)),
    })?;
    let rgb = colours::decode(&object, space, rows as usize * columns as usize)?;
    Ok(vec![Shown { picture: picture(rgb)?, manner: Manner::Colours }])
}

/// An image of grey values.
struct GrayImage {
    rescale: Rescale,
    stored: StoredValues,
    /// Not a number where a pixel is padding.
    values: Vec<f32>,
}

/// One of the ways to show an image of grey values.
struct GrayView {
    voi: Voi,
    manner: Manner,
}

impl GrayImage {
    fn decode(object: &DefaultDicomObject, rows: u32, columns: u32) -> Result<Self, SliceError> {
        let rescale = Rescale::for_showing(object)?;
        let stored = StoredValues::decode(object, rows, columns)?;
        let values = rescale.values(&stored);
        Ok(Self { rescale, stored, values })
    }

    /// The ways in which the image is shown: at least one.
    fn views(
        &self,
        object: &DefaultDicomObject,
        views: &Views,
    ) -> Result<Vec<GrayView>, SliceError> {
        let linear = |window| Voi::Window(window, VoiFunction::Linear);
        if let Views::Windows(windows) = views
            && !windows.is_empty()
            && is_in_hounsfield_units(object)
        {
            let asked = windows
                .iter()
                .map(|it| GrayView { voi: linear(*it), manner: Manner::AskedWindow(*it) });
            return Ok(asked.collect());
        }
        let [least, _] = self.rescale.bounds(&self.stored);
        let filed = voi::of_file(object, least < 0.0)?;
        let mut shown: Vec<GrayView> = filed.into_iter().map(GrayView::of_file).collect();
        if *views != Views::All {
            shown.truncate(1);
        }
        if shown.is_empty() {
            let bits = integer(object, tags::BITS_STORED, "Bits Stored")?;
            let manner = if bits <= LEVEL_BITS_MAX {
                GrayView::by_levels(self.rescale.full_window(&self.stored))
            } else {
                GrayView::over_values(Window::over(&self.values))
            };
            shown.push(manner);
        }
        Ok(shown)
    }

    fn rgb(&self, voi: &Voi, is_inverted: bool) -> Vec<u8> {
        let gray = |value: &f32| {
            let gray = voi.gray(*value);
            [if is_inverted && !value.is_nan() { 255 - gray } else { gray }; 3]
        };
        self.values.iter().flat_map(gray).collect()
    }
}

impl GrayView {
    fn of_file(filed: FiledVoi) -> Self {
        let FiledVoi { voi, name } = filed;
        let manner = match voi {
            Voi::Window(window, function) => Manner::FiledWindow { window, function, name },
            Voi::Table(_) => Manner::FiledTable { name },
        };
        Self { voi, manner }
    }

    const fn by_levels(window: Window) -> Self {
        Self { voi: Voi::Window(window, VoiFunction::Linear), manner: Manner::Levels(window) }
    }

    const fn over_values(window: Window) -> Self {
        Self { voi: Voi::Window(window, VoiFunction::Linear), manner: Manner::OverValues(window) }
    }
}

/// Red, green and blue of an image of indices.
fn palette_rgb(
    object: &DefaultDicomObject,
    rows: u32,
    columns: u32,
) -> Result<Vec<u8>, SliceError> {
    let stored = StoredValues::decode(object, rows, columns)?;
    let [least, _] = stored.bounds();
    let palette = Palette::of(object, least < 0)?;
    Ok(stored.values().flat_map(|it| it.map_or([0; 3], |index| palette.rgb(index))).collect())
}

/// The pixels of an image that are padding, and stand for no tissue; nothing if it has none.
///
/// # Errors
///
/// Fails if the file cannot be decoded.
pub fn padding(file: &[u8]) -> Result<Option<FlatMask>, SliceError> {
    let object = object_reader::read(file)?;
    // Only grey values are padded (PS3.3, C.7.5.1.1.2).
    if integer(&object, tags::SAMPLES_PER_PIXEL, "Samples per Pixel")? != 1 {
        return Ok(None);
    }
    let height = integer(&object, tags::ROWS, "Rows")?;
    let width = integer(&object, tags::COLUMNS, "Columns")?;
    check_pixels(&object, height, width)?;
    let stored = StoredValues::decode(&object, height, width)?;
    let pixels = stored.values().map(|it| it.is_none()).collect();
    Ok(stored.has_padding().then_some(FlatMask { height, width, pixels }))
}

/// The geometry of a single image, without a position in the patient: a mask of it is a mask of its
/// pixels (OUT-17).
///
/// # Errors
///
/// Fails if the file cannot be parsed, or lacks an element of its geometry.
pub fn image_geometry(file: &[u8]) -> Result<VolumeGeometry, SliceError> {
    let object = object_reader::read(file)?;
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

#[cfg(test)]
mod tests {
    use dicom_core::{DataElement, PrimitiveValue, VR};
    use dicom_object::{FileMetaTableBuilder, InMemDicomObject};

    use super::*;
    use crate::sample::Sample;

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

    /// A radiograph of the same pixels.
    fn radiograph(photometric: &str, pixels: &[u8]) -> Vec<u8> {
        let capture = b"1.2.840.10008.5.1.4.1.1.7\0";
        let file = file(photometric, pixels, None);
        let at = file.windows(capture.len()).rposition(|bytes| bytes == capture).unwrap();
        [&file[..at], b"1.2.840.10008.5.1.4.1.1.1\0", &file[at + capture.len()..]].concat()
    }

    #[test]
    fn gray_values_go_through_the_window_and_may_be_turned_round() {
        let pixels = [0, 10, 20, 30];
        let named = |photometric| file(photometric, &pixels, Some(("15.5", "21")));
        assert_eq!(grays(&named("MONOCHROME2")), [0, 64, 191, 255]);
        assert_eq!(grays(&named("MONOCHROME1")), [255, 191, 64, 0]);
        let several = file("MONOCHROME2", &pixels, Some(("15.5\\40", "21\\80")));
        assert_eq!(grays(&several), [0, 64, 191, 255]);
    }

    #[test]
    fn din_80_every_window_of_a_file_is_a_picture_if_asked_for() {
        let pixels = [0, 10, 20, 30];
        let several = file("MONOCHROME2", &pixels, Some(("15.5\\x\\10.5", "21\\9\\11")));
        let shown = show(&several, &Views::All).unwrap();
        let manners: Vec<String> = shown.iter().map(|it| it.manner.to_string()).collect();
        let expected =
            ["window of the file: 21 wide about 15.5", "window of the file: 11 wide about 10.5"];
        assert_eq!(manners, expected);
        assert_eq!(shown[1].picture.rgb, [[0; 3], [128; 3], [255; 3], [255; 3]].concat());
        assert_eq!(show(&several, &Views::First).unwrap(), shown[..1]);
    }

    /// A CT has Hounsfield units, and nothing else has.
    #[test]
    fn din_80_windows_of_a_workflow_are_for_hounsfield_units() {
        let soft = Window { center: 40.0, width: 400.0 };
        let lung = Window { center: -600.0, width: 1500.0 };
        let views = Views::Windows(vec![soft, lung]);
        let shown = show(&Sample::ct().bytes(), &views).unwrap();
        let reds = |it: &Shown| it.picture.rgb.chunks(3).map(|rgb| rgb[0]).collect::<Vec<u8>>();
        assert_eq!(
            shown.iter().map(reds).collect::<Vec<_>>(),
            [[0, 0, 102, 128, 255, 255], [55, 60, 230, 236, 255, 255]]
        );
        assert_eq!(shown[1].manner, Manner::AskedWindow(lung));
        for other in [Sample::mr(), {
            let mut map = Sample::ct();
            map.put(tags::RESCALE_TYPE, VR::LO, "MGML");
            map
        }] {
            let shown = show(&other.bytes(), &views).unwrap();
            assert!(matches!(shown.as_slice(), [Shown { manner: Manner::OverValues(_), .. }]));
        }
    }

    /// Stretched, the paper of a scan would be as dark as its print, and the noise of an ultrasound
    /// as bright as its tissue.
    #[test]
    fn din_80_eight_bits_without_a_window_are_shown_as_they_are() {
        let pixels = [200, 210, 220, 255];
        for written in [file, |photometric: &str, pixels: &[u8], _: Option<(&str, &str)>| {
            radiograph(photometric, pixels)
        }] {
            assert_eq!(grays(&written("MONOCHROME2", &pixels, None)), pixels);
            assert_eq!(grays(&written("MONOCHROME1", &pixels, None)), [55, 45, 35, 0]);
        }
    }

    #[test]
    fn colours_stay_and_those_without_a_meaning_are_refused() {
        let pixels: Vec<u8> = (0..12).map(|it| it * 20).collect();
        assert_eq!(render(&file("RGB", &pixels, None)).unwrap().rgb, pixels);
        let retired = render(&file("HSV", &pixels, None)).unwrap_err();
        assert!(retired.to_string().contains("HSV"), "{retired}");
        let palette = render(&file("PALETTE COLOR", &[0, 1, 2, 3], None)).unwrap_err();
        assert!(palette.to_string().contains("Palette Color"), "{palette}");
        assert!(render(b"no image").is_err());
    }

    #[test]
    fn din_80_padding_is_black_in_no_window_and_known_by_its_pixels() {
        let mut sample = Sample::ct();
        sample.put(tags::PIXEL_PADDING_VALUE, VR::US, 2024_u16);
        let expected = [false, false, false, false, false, true];
        assert_eq!(padding(&sample.clone().bytes()).unwrap().unwrap().pixels, expected);
        // From the darkest to the brightest pixel that is no padding.
        assert_eq!(grays(&sample.clone().bytes()), [0, 4, 151, 157, 255, 0]);
        sample.put(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME1");
        assert_eq!(grays(&sample.bytes()), [255, 251, 104, 98, 0, 0]);
        assert_eq!(padding(&Sample::ct().bytes()).unwrap(), None);
        let pixels: Vec<u8> = (0..12).collect();
        assert_eq!(padding(&file("RGB", &pixels, None)).unwrap(), None);
    }

    #[test]
    fn din_80_a_ct_is_not_shown_in_values_that_were_guessed() {
        let mut sample = Sample::ct();
        sample.remove(tags::RESCALE_SLOPE);
        let error = render(&sample.bytes()).unwrap_err().to_string();
        assert!(error.starts_with("Rescale Slope is missing: "), "{error}");
        // A map of iodine is shown in its own unit, and measured in none.
        let mut sample = Sample::ct();
        sample.put(tags::RESCALE_TYPE, VR::LO, "MGML");
        assert!(render(&sample.bytes()).is_ok());
    }
}
