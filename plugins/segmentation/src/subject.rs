//! What is outlined: a series as a volume, or one image of a series.

use domain::{SeriesInput, SopInstanceUid, VolumeGeometry};
use imaging::rendering::{image_geometry, padding};
use imaging::{FlatMask, Mask};
use plugin_api::VolumeRef;
use plugin_toolkit::picture::{QuestionPicture, QuestionPictureError};

use crate::series_problem::ProblemKind;
use crate::settings::Method;

/// CT Image Storage. Other classes of the modality CT are captures or multi-frame.
const CT_IMAGE_STORAGE: &str = "1.2.840.10008.5.1.4.1.1.2";

/// MR Image Storage.
const MR_IMAGE_STORAGE: &str = "1.2.840.10008.5.1.4.1.1.4";

/// A class of images that are not outlined.
struct RefusedClass {
    sop_class: &'static str,
    name: &'static str,
    /// Whether its images would be outlined if each frame were an image.
    has_frames: bool,
    /// Whether a reader would expect it to be outlined by Hounsfield units.
    is_ct: bool,
}

/// A class of several frames whose single-frame counterpart is outlined (PS3.4, B.5).
const fn of_frames(sop_class: &'static str, name: &'static str, is_ct: bool) -> RefusedClass {
    RefusedClass { sop_class, name, has_frames: true, is_ct }
}

/// A class of which nothing is outlined.
const fn other(sop_class: &'static str, name: &'static str) -> RefusedClass {
    RefusedClass { sop_class, name, has_frames: false, is_ct: false }
}

/// The classes of images that are refused by their names. Whatever else is not accepted holds no image
/// of a patient, such as reports and presentation states.
const REFUSED_CLASSES: [RefusedClass; 19] = [
    of_frames("1.2.840.10008.5.1.4.1.1.2.1", "Enhanced CT", true),
    of_frames("1.2.840.10008.5.1.4.1.1.2.2", "Legacy Converted Enhanced CT", true),
    of_frames("1.2.840.10008.5.1.4.1.1.4.1", "Enhanced MR", false),
    of_frames("1.2.840.10008.5.1.4.1.1.4.4", "Legacy Converted Enhanced MR", false),
    other("1.2.840.10008.5.1.4.1.1.128", "PET"),
    other("1.2.840.10008.5.1.4.1.1.130", "Enhanced PET"),
    other("1.2.840.10008.5.1.4.1.1.128.1", "Legacy Converted Enhanced PET"),
    other("1.2.840.10008.5.1.4.1.1.20", "nuclear medicine"),
    other("1.2.840.10008.5.1.4.1.1.77.1.5.4", "ophthalmic tomography (OCT)"),
    other("1.2.840.10008.5.1.4.1.1.77.1.5.7", "corneal topography"),
    other("1.2.840.10008.5.1.4.1.1.77.1.5.8", "ophthalmic OCT en face"),
    other("1.2.840.10008.5.1.4.1.1.77.1.6", "whole slide microscopy"),
    other("1.2.840.10008.5.1.4.1.1.77.1.2", "microscopy"),
    other("1.2.840.10008.5.1.4.1.1.77.1.3", "slide microscopy"),
    other("1.2.840.10008.5.1.4.1.1.13.1.1", "3D angiography"),
    other("1.2.840.10008.5.1.4.1.1.13.1.3", "breast tomosynthesis"),
    other("1.2.840.10008.5.1.4.1.1.14.1", "intravascular OCT"),
    other("1.2.840.10008.5.1.4.1.1.6.2", "enhanced ultrasound volume"),
    other("1.2.840.10008.5.1.4.1.1.481.1", "radiotherapy image"),
];

/// Why a series is refused.
pub(crate) struct Refusal {
    pub(crate) kind: ProblemKind,
    pub(crate) reason: String,
}

/// Modalities whose images are outlined one by one, as their files state that they are to be shown.
const SINGLE_IMAGE_MODALITIES: [&str; 12] =
    ["CR", "DX", "MG", "US", "SC", "XC", "ES", "OP", "DMS", "GM", "RF", "XA"];

/// Modalities of projection radiographs.
const RADIOGRAPH_MODALITIES: [&str; 5] = ["CR", "DX", "MG", "RF", "XA"];

/// A volume or an image in which targets are outlined.
pub(crate) struct Subject<'a> {
    pub(crate) series: &'a SeriesInput,
    pub(crate) geometry: VolumeGeometry,
    pub(crate) pixels: Pixels<'a>,
}

/// The pixels of a subject.
pub(crate) enum Pixels<'a> {
    /// A stack of slices.
    Volume(VolumeRef<'a>),
    /// A single image. `padding` are its pixels that stand for no tissue, if it has any.
    Image { instance: &'a SopInstanceUid, picture: QuestionPicture, padding: Option<FlatMask> },
}

impl<'a> Subject<'a> {
    pub(crate) fn of_volume(series: &'a SeriesInput, volume: VolumeRef<'a>) -> Self {
        Self { series, geometry: volume.geometry.clone(), pixels: Pixels::Volume(volume) }
    }

    /// Fails if the file of the image cannot be decoded.
    pub(crate) fn of_image(
        series: &'a SeriesInput,
        instance: &'a SopInstanceUid,
        file: &[u8],
    ) -> Result<Self, QuestionPictureError> {
        let geometry = image_geometry(file)?;
        let picture = QuestionPicture::from_file(file)?;
        let pixels = Pixels::Image { instance, picture, padding: padding(file)? };
        Ok(Self { series, geometry, pixels })
    }

    /// What a mask covers of the tissue: without the pixels of padding.
    pub(crate) fn without_padding(&self, mask: Mask) -> Mask {
        match &self.pixels {
            Pixels::Volume(volume) => mask.without(volume.values.iter().map(|it| it.is_nan())),
            Pixels::Image { padding: Some(padding), .. } => {
                mask.without(padding.pixels.iter().copied())
            }
            Pixels::Image { padding: None, .. } => mask,
        }
    }

    /// Whether the values are Hounsfield units.
    pub(crate) fn is_ct(&self) -> bool {
        has_class(self.series, CT_IMAGE_STORAGE)
    }

    /// UID of the series or image, by which segments in it are tracked.
    pub(crate) fn uid(&self) -> &str {
        match &self.pixels {
            Pixels::Volume(_) => self.series.series.as_str(),
            Pixels::Image { instance, .. } => instance.as_str(),
        }
    }
}

impl Method {
    /// Whether the method works on a series.
    pub(crate) fn accepts(&self, series: &SeriesInput) -> bool {
        has_class(series, CT_IMAGE_STORAGE)
            || match self {
                Self::Threshold { .. } => false,
                Self::Network(_) => {
                    has_class(series, MR_IMAGE_STORAGE) || is_of_single_images(series)
                }
            }
    }

    /// Why a series of images is not outlined; nothing if nobody would expect it to be.
    pub(crate) fn refusal(&self, series: &SeriesInput) -> Option<Refusal> {
        let is_for_all = match self {
            Self::Threshold { .. } => false,
            Self::Network(_) => true,
        };
        let mut classes = REFUSED_CLASSES.iter().filter(|it| it.is_ct || is_for_all);
        let RefusedClass { name, has_frames, .. } =
            classes.find(|it| has_class(series, it.sop_class))?;
        Some(if *has_frames {
            let reason = format!("{name}, several frames: not outlined yet");
            Refusal { kind: ProblemKind::SeveralFrames, reason }
        } else {
            Refusal { kind: ProblemKind::Unsupported, reason: format!("{name}: not outlined yet") }
        })
    }
}

/// Whether the images of a series are outlined one by one.
pub(crate) fn is_of_single_images(series: &SeriesInput) -> bool {
    SINGLE_IMAGE_MODALITIES.contains(&series.modality.as_str())
}

/// Whether the images of a series are projection radiographs.
pub(crate) fn is_of_radiographs(series: &SeriesInput) -> bool {
    RADIOGRAPH_MODALITIES.contains(&series.modality.as_str())
}

fn has_class(series: &SeriesInput, sop_class: &str) -> bool {
    series.instances.iter().any(|it| it.sop_class.as_str() == sop_class)
}

#[cfg(test)]
mod tests {
    use domain::SeriesInstance;
    use imaging::Picture;

    use super::*;
    use crate::settings::Settings;

    fn series(sop_class: &str) -> SeriesInput {
        SeriesInput {
            series: "1.2".parse().unwrap(),
            modality: "CT".to_owned(),
            instances: vec![SeriesInstance {
                instance: "1.2.1".parse().unwrap(),
                sop_class: sop_class.parse().unwrap(),
            }],
        }
    }

    #[test]
    fn pap_05_images_that_are_not_outlined_are_refused_by_their_name() {
        let settings = |method: &str| {
            let json = serde_json::json!({"method": method, "targets": ["bone"]});
            serde_json::from_value::<Settings>(json).unwrap()
        };
        let threshold = settings("threshold");
        let network = settings("network");
        let ct = Some("Enhanced CT, several frames: not outlined yet");
        let mr = Some("Enhanced MR, several frames: not outlined yet");
        let pet = Some("PET: not outlined yet");
        let slide = Some("whole slide microscopy: not outlined yet");
        for (class, by_threshold, by_network) in [
            ("1.2.840.10008.5.1.4.1.1.2", None, None),
            ("1.2.840.10008.5.1.4.1.1.2.1", ct, ct),
            ("1.2.840.10008.5.1.4.1.1.4.1", None, mr),
            ("1.2.840.10008.5.1.4.1.1.128", None, pet),
            ("1.2.840.10008.5.1.4.1.1.77.1.6", None, slide),
            ("1.2.840.10008.5.1.4.1.1.88.34", None, None),
        ] {
            let series = series(class);
            let reason = |of: &Settings| of.method().refusal(&series).map(|it| it.reason);
            assert_eq!(reason(&threshold).as_deref(), by_threshold, "{class}");
            assert_eq!(reason(&network).as_deref(), by_network, "{class}");
        }
    }

    #[test]
    fn din_80_what_is_drawn_over_the_padding_of_an_image_is_no_tissue() {
        let series = series("1.2.840.10008.5.1.4.1.1.1");
        let geometry = VolumeGeometry {
            rows: 2,
            columns: 2,
            pixel_spacing: None,
            space: None,
            instances: vec!["1.2.1".parse().unwrap()],
            sop_class: "1.2.840.10008.5.1.4.1.1.1".parse().unwrap(),
            lossy: false,
        };
        let picture = Picture::new(2, 2, vec![0; 12]).unwrap();
        let picture = QuestionPicture::from_picture(&picture).unwrap();
        let padding = FlatMask { height: 2, width: 2, pixels: vec![true, false, false, true] };
        let instance = &series.instances[0].instance;
        let pixels = Pixels::Image { instance, picture, padding: Some(padding) };
        let subject = Subject { series: &series, geometry, pixels };
        let drawn = Mask { shape: [1, 2, 2], voxels: vec![true, true, false, true] };
        assert_eq!(subject.without_padding(drawn).voxels, [false, true, false, false]);
    }
}
