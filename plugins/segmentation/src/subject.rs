//! What is outlined: a series as a volume, or one image of a series.

use domain::{SeriesInput, SopInstanceUid, VolumeGeometry};
use imaging::rendering::{image_geometry, padding};
use imaging::{FlatMask, Mask};
use plugin_api::VolumeRef;
use plugin_toolkit::image_class::{Form, ImageClass};
use plugin_toolkit::picture::{QuestionPicture, QuestionPictureError};

use crate::series_problem::ProblemKind;
use crate::settings::Method;

/// CT Image Storage. Other classes of the modality CT are captures or multi-frame.
const CT_IMAGE_STORAGE: &str = "1.2.840.10008.5.1.4.1.1.2";

/// MR Image Storage.
const MR_IMAGE_STORAGE: &str = "1.2.840.10008.5.1.4.1.1.4";

/// Classes of CT of several frames: a reader would expect them to be outlined by Hounsfield units.
const CT_OF_FRAMES: [&str; 2] = ["1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2"];

/// Why a series or an image is refused.
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
        if self.accepts(series) {
            return None;
        }
        let is_expected = |class: &&ImageClass| match self {
            Self::Threshold { .. } => CT_OF_FRAMES.contains(&class.sop_class),
            Self::Network(_) => true,
        };
        let classes =
            series.instances.iter().filter_map(|it| ImageClass::of(it.sop_class.as_str()));
        classes.filter(is_expected).map(Refusal::of).next()
    }
}

impl Refusal {
    /// Why images of a class are not outlined.
    fn of(class: &ImageClass) -> Self {
        let name = class.name;
        match class.form {
            Form::Frames => Self {
                kind: ProblemKind::SeveralFrames,
                reason: format!("{name}, several frames: not outlined yet"),
            },
            Form::Image | Form::OtherFrames => {
                Self { kind: ProblemKind::Unsupported, reason: format!("{name}: not outlined yet") }
            }
        }
    }

    /// Why an image of a series that is outlined one by one is not; nothing if the file decides.
    pub(crate) fn of_image(sop_class: &str) -> Option<Self> {
        let class = ImageClass::of(sop_class)?;
        match class.form {
            Form::Image => None,
            Form::Frames | Form::OtherFrames => Some(Self::of(class)),
        }
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
    use plugin_toolkit::image_class::IMAGE_CLASSES;

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

    /// The rows of the table of images in `plugins/README.md`: cells without their spaces.
    fn documented() -> Vec<Vec<&'static str>> {
        let text = include_str!("../../README.md");
        let rows = text.lines().filter(|it| it.starts_with("| 1.2.840.10008."));
        rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect()).collect()
    }

    /// What is done with images of a class, in the words of the table.
    fn outcome(method: &Method, series: &SeriesInput) -> String {
        let class = series.instances[0].sop_class.as_str();
        if method.accepts(series) {
            if !is_of_single_images(series) {
                return "volume".to_owned();
            }
            return match Refusal::of_image(class) {
                Some(refusal) => format!("refused: {}", refused_as(refusal.kind)),
                None => "image".to_owned(),
            };
        }
        match method.refusal(series) {
            Some(refusal) => format!("refused: {}", refused_as(refusal.kind)),
            None => "no CT".to_owned(),
        }
    }

    fn refused_as(kind: ProblemKind) -> &'static str {
        match kind {
            ProblemKind::SeveralFrames => "several_frames",
            ProblemKind::Unsupported => "no_series_to_outline",
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn pap_05_every_class_of_images_is_taken_or_refused_as_the_documentation_says() {
        let of_method = |method: &str| {
            let json = serde_json::json!({"method": method, "targets": ["bone"]});
            serde_json::from_value::<Settings>(json).unwrap()
        };
        let [threshold, network] = ["threshold", "network"].map(of_method);
        let documented = documented();
        assert_eq!(documented.len(), IMAGE_CLASSES.len());
        for class in &IMAGE_CLASSES {
            let row = documented.iter().find(|it| it[0] == class.sop_class).unwrap();
            let [_, name, modality, by_threshold, by_network, _] = row.as_slice() else {
                panic!("{row:?}")
            };
            let series =
                SeriesInput { modality: (*modality).to_owned(), ..series(class.sop_class) };
            let found = [&threshold, &network].map(|it| outcome(it.method(), &series));
            assert_eq!(
                (*name, found),
                (class.name, [*by_threshold, *by_network].map(str::to_owned))
            );
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
