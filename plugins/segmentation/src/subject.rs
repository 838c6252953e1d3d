//! What is outlined: a series as a volume, or one image of a series.

use domain::{SeriesInput, SopInstanceUid, VolumeGeometry};
use imaging::rendering::image_geometry;
use plugin_api::VolumeRef;
use plugin_toolkit::picture::{QuestionPicture, QuestionPictureError};

use crate::settings::Method;

/// CT Image Storage. Other classes of the modality CT are localizers or multi-frame.
const CT_IMAGE_STORAGE: &str = "1.2.840.10008.5.1.4.1.1.2";

/// MR Image Storage.
const MR_IMAGE_STORAGE: &str = "1.2.840.10008.5.1.4.1.1.4";

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
    /// A single image.
    Image { instance: &'a SopInstanceUid, picture: QuestionPicture },
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
        Ok(Self { series, geometry, pixels: Pixels::Image { instance, picture } })
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
}

/// Whether the images of a series are outlined one by one.
pub(crate) fn is_of_single_images(series: &SeriesInput) -> bool {
    SINGLE_IMAGE_MODALITIES.contains(&series.modality.as_str())
}

fn has_class(series: &SeriesInput, sop_class: &str) -> bool {
    series.instances.iter().any(|it| it.sop_class.as_str() == sop_class)
}
