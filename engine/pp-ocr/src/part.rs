//! Parts of a page, and pictures as the models take them.

use image::GrayImage;
use rten_tensor::NdTensor;

/// A box on a page: right and bottom are excluded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    /// Left edge.
    pub left: f32,
    /// Upper edge.
    pub top: f32,
    /// Right edge.
    pub right: f32,
    /// Lower edge.
    pub bottom: f32,
}

impl Bounds {
    /// Its width.
    pub fn width(&self) -> f32 {
        self.right - self.left
    }

    /// Its height.
    pub fn height(&self) -> f32 {
        self.bottom - self.top
    }
}

/// Three equal channels of a grey picture, with values from -1 to 1, as the models were trained.
/// `width` may be more than that of the picture: the rest is grey.
pub(crate) fn channels(picture: &GrayImage, width: u32) -> NdTensor<f32, 4> {
    let wide = width as usize;
    let high = picture.height() as usize;
    let mut channel = Vec::with_capacity(wide * high);
    for row in picture.rows() {
        let values = row.map(|it| f32::from(it.0[0]) / 127.5 - 1.0);
        channel.extend(values.chain(std::iter::repeat(0.0)).take(wide));
    }
    NdTensor::from_data([1, 3, high, wide], channel.repeat(3))
}

#[cfg(test)]
mod tests {
    use image::Luma;

    use super::*;

    #[test]
    fn a_picture_becomes_three_channels_and_a_grey_rest() {
        let picture = GrayImage::from_fn(2, 1, |x, _| Luma([if x == 0 { 0 } else { 255 }]));
        let tensor = channels(&picture, 3);
        assert_eq!(tensor.into_data(), [-1.0, 1.0, 0.0].repeat(3));
    }
}
