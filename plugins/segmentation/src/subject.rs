//! What is outlined: a series as a volume, or one image of a series.

use domain::{SeriesInput, SopInstanceUid, VolumeGeometry};
use imaging::rendering::{image_geometry, padding};
use imaging::{FlatMask, Mask};
use plugin_api::VolumeRef;
use plugin_toolkit::picture::{QuestionPicture, QuestionPictureError};

use crate::settings::Method;

/// CT Image Storage. Other classes of the modality CT are captures or multi-frame.
const CT_IMAGE_STORAGE: &str = "1.2.840.10008.5.1.4.1.1.2";

/// MR Image Storage.
const MR_IMAGE_STORAGE: &str = "1.2.840.10008.5.1.4.1.1.4";

/// A class of images of several frames, which are not outlined.
struct MultiFrameClass {
    sop_class: &'static str,
    name: &'static str,
    /// Whether its frames would be outlined by Hounsfield units.
    is_ct: bool,
}

/// The classes of several frames whose single-frame counterparts are outlined (PS3.4, B.5).
const MULTI_FRAME_CLASSES: [MultiFrameClass; 4] = [
    MultiFrameClass { sop_class: "1.2.840.10008.5.1.4.1.1.2.1", name: "Enhanced CT", is_ct: true },
    MultiFrameClass {
        sop_class: "1.2.840.10008.5.1.4.1.1.2.2",
        name: "Legacy Converted Enhanced CT",
        is_ct: true,
    },
    MultiFrameClass { sop_class: "1.2.840.10008.5.1.4.1.1.4.1", name: "Enhanced MR", is_ct: false },
    MultiFrameClass {
        sop_class: "1.2.840.10008.5.1.4.1.1.4.4",
        name: "Legacy Converted Enhanced MR",
        is_ct: false,
    },
];

/// Modalities whose images are outlined one by one, as their files state that they are to be shown.
const SINGLE_IMAGE_MODALITIES: [&str; 12] =
    ["CR", "DX", "MG", "US", "SC", "XC", "ES", "OP", "DMS", "GM", "RF", "XA"];

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

    /// The name of the images of a series that the method would outline if they were not of several
    /// frames; nothing for any other series.
    pub(crate) fn multi_frame_name(&self, series: &SeriesInput) -> Option<&'static str> {
        let is_for_all = match self {
            Self::Threshold { .. } => false,
            Self::Network(_) => true,
        };
        let mut classes = MULTI_FRAME_CLASSES.iter().filter(|it| it.is_ct || is_for_all);
        classes.find(|it| has_class(series, it.sop_class)).map(|it| it.name)
    }
}

/// Whether the images of a series are outlined one by one.
pub(crate) fn is_of_single_images(series: &SeriesInput) -> bool {
    SINGLE_IMAGE_MODALITIES.contains(&series.modality.as_str())
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
    fn images_of_several_frames_have_a_name_for_the_methods_that_would_outline_them() {
        let settings = |method: &str| {
            let json = serde_json::json!({"method": method, "targets": ["bone"]});
            serde_json::from_value::<Settings>(json).unwrap()
        };
        let threshold = settings("threshold");
        let network = settings("network");
        for (class, by_threshold, by_network) in [
            ("1.2.840.10008.5.1.4.1.1.2", None, None),
            ("1.2.840.10008.5.1.4.1.1.2.1", Some("Enhanced CT"), Some("Enhanced CT")),
            ("1.2.840.10008.5.1.4.1.1.4.1", None, Some("Enhanced MR")),
            ("1.2.840.10008.5.1.4.1.1.7", None, None),
        ] {
            let series = series(class);
            assert_eq!(threshold.method().multi_frame_name(&series), by_threshold);
            assert_eq!(network.method().multi_frame_name(&series), by_network);
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
