//! Pictures of a question: PNG in base 64, with their size.
//!
//! The model sees eight bits per channel, so a picture loses what lies outside of its window. The
//! size is that of the picture as it was sent: boxes and masks of the answer refer to it.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use image::GrayImage;
use image::imageops::{FilterType, resize};
use imaging::rendering::{self, Manner, Views};
use imaging::window::Window;
use imaging::{Picture, PictureError, SliceError};

/// A picture that is encoded for a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuestionPicture {
    columns: u32,
    rows: u32,
    base64: String,
}

/// A picture of an image, and how it was made of the image.
#[derive(Clone, Debug, PartialEq)]
pub struct PictureOfImage {
    /// The picture.
    pub picture: QuestionPicture,
    /// How it was made.
    pub manner: Manner,
}

/// Why an image cannot be shown to the model.
#[derive(Debug, thiserror::Error)]
pub enum QuestionPictureError {
    /// The file cannot be decoded, or not be shown as one picture.
    #[error(transparent)]
    Rendering(#[from] SliceError),
    /// The pixels cannot be encoded as a picture of this size.
    #[error(transparent)]
    Encoding(#[from] PictureError),
}

impl QuestionPicture {
    /// Encodes a picture.
    ///
    /// # Errors
    ///
    /// Fails if the size does not match the pixels.
    pub fn from_picture(picture: &Picture) -> Result<Self, PictureError> {
        let base64 = BASE64_STANDARD.encode(picture.to_png()?);
        Ok(Self { columns: picture.width, rows: picture.height, base64 })
    }

    /// Renders the file of an instance by its own window, and encodes it.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be decoded, or cannot be shown as one picture.
    pub fn from_file(file: &[u8]) -> Result<Self, QuestionPictureError> {
        Ok(Self::from_picture(&rendering::render(file)?)?)
    }

    /// Renders the file of an instance in each of these ways, and encodes the pictures: at least
    /// one.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be decoded, or cannot be shown as a picture.
    pub fn views_of_file(
        file: &[u8],
        views: &Views,
    ) -> Result<Vec<PictureOfImage>, QuestionPictureError> {
        let shown = rendering::show(file, views)?.into_iter();
        let encoded = shown.map(|it| {
            let picture = Self::from_picture(&it.picture)?;
            Ok(PictureOfImage { picture, manner: it.manner })
        });
        encoded.collect()
    }

    /// Encodes a slice, row by row, as grey values from black to white over a window.
    ///
    /// # Errors
    ///
    /// Fails if there are more or fewer values than `rows` times `columns`.
    pub fn from_slice(
        rows: u32,
        columns: u32,
        values: &[f32],
        window: Window,
    ) -> Result<Self, PictureError> {
        let rgb = values.iter().flat_map(|it| [window.gray(*it); 3]).collect();
        Self::from_picture(&Picture::new(columns, rows, rgb)?)
    }

    /// Encodes a page. A page with a longer side than `side_max` pixels is scaled down to it.
    ///
    /// # Errors
    ///
    /// Fails if the page has no pixels.
    pub fn from_page(page: &GrayImage, side_max: u32) -> Result<Self, PictureError> {
        let (width, height) = page.dimensions();
        let longer = width.max(height).max(side_max);
        let width = scaled(width, side_max, longer);
        let height = scaled(height, side_max, longer);
        let page = resize(page, width, height, FilterType::Triangle);
        let rgb = page.as_raw().iter().flat_map(|it| [*it; 3]).collect();
        Self::from_picture(&Picture::new(width, height, rgb)?)
    }

    /// Columns and rows.
    pub const fn size(&self) -> [u32; 2] {
        [self.columns, self.rows]
    }

    /// PNG in base 64, as the question holds it.
    pub fn base64(&self) -> &str {
        &self.base64
    }
}

fn scaled(side: u32, to: u32, from: u32) -> u32 {
    (side * to / from).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(picture: &QuestionPicture) -> Picture {
        Picture::decode(&BASE64_STANDARD.decode(picture.base64()).unwrap()).unwrap()
    }

    #[test]
    fn a_picture_arrives_as_it_was_sent() {
        let sent = Picture::new(2, 1, vec![1, 2, 3, 250, 251, 252]).unwrap();
        let picture = QuestionPicture::from_picture(&sent).unwrap();
        assert_eq!(picture.size(), [2, 1]);
        assert_eq!(decoded(&picture), sent);
    }

    #[test]
    fn a_slice_goes_from_black_to_white_over_its_window() {
        let window = Window { center: 40.0, width: 400.0 };
        let values = [-1000.0, -160.0, 39.5, 239.0, 3000.0, 39.5];
        let picture = QuestionPicture::from_slice(2, 3, &values, window).unwrap();
        assert_eq!(picture.size(), [3, 2]);
        let grays: Vec<u8> = decoded(&picture).rgb.chunks(3).map(|it| it[0]).collect();
        assert_eq!(grays, [0, 0, 128, 255, 255, 128]);
    }

    #[test]
    fn a_slice_of_another_size_than_its_values_is_refused() {
        let window = Window { center: 0.0, width: 1.0 };
        let error = QuestionPicture::from_slice(2, 2, &[0.0; 3], window).unwrap_err();
        assert!(matches!(error, PictureError::Size { width: 2, height: 2, .. }), "{error}");
    }

    #[test]
    fn a_large_page_is_scaled_down_to_its_longer_side_and_a_small_one_is_not() {
        let page = GrayImage::from_pixel(300, 600, image::Luma([77]));
        let scaled = QuestionPicture::from_page(&page, 200).unwrap();
        assert_eq!(scaled.size(), [100, 200]);
        assert!(decoded(&scaled).rgb.iter().all(|it| *it == 77));
        assert_eq!(QuestionPicture::from_page(&page, 600).unwrap().size(), [300, 600]);
        assert_eq!(QuestionPicture::from_page(&page, 4000).unwrap().size(), [300, 600]);
        let line = GrayImage::new(1, 600);
        assert_eq!(QuestionPicture::from_page(&line, 200).unwrap().size(), [1, 200]);
    }

    #[test]
    fn a_file_that_is_no_image_is_refused() {
        let error = QuestionPicture::from_file(b"no DICOM").unwrap_err();
        assert!(matches!(error, QuestionPictureError::Rendering(SliceError::Unreadable(_))));
    }
}
