//! Convolutions of maps with channels last, as products where they can be one.

use candle_core::{Module, Result, Tensor};
use cpu_kernels::patches::patches;

use crate::ops::Linear;
use crate::plan::WeightsError;
use crate::weights::{Product, Weights};

/// A transposed convolution of 2 x 2 pixels in steps of two, as one product.
#[derive(Clone, Debug)]
pub enum ConvUp {
    /// From `in` to `[2, 2, out]`.
    Packed(Linear),
    /// The weight `[in, out, 2, 2]` and the bias.
    Full(Tensor, Tensor),
}

impl ConvUp {
    /// The layer called `name`.
    ///
    /// # Errors
    ///
    /// Fails if it is not there.
    pub fn load(weights: &Weights, name: &str) -> std::result::Result<Self, WeightsError> {
        let weight = weights.get(&format!("{name}.weight"))?;
        let bias = weights.get(&format!("{name}.bias"))?;
        if !cpu_kernels::can_take(&[&weight, &bias]) {
            return Ok(Self::Full(weight, bias));
        }
        let (inputs, outputs, _, _) = weight.dims4()?;
        let by_place = weight.permute((2, 3, 1, 0))?.contiguous()?;
        let by_place = Product::Full(by_place.reshape((4 * outputs, inputs))?);
        Ok(Self::Packed(Linear::of(by_place, Some(bias.repeat(4)?))?))
    }
}

impl Module for ConvUp {
    /// `[B, H, W, C]` to `[B, 2H, 2W, D]`.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, rows, columns, channels) = x.dims4()?;
        let blocks = match self {
            Self::Packed(linear) => linear.forward(x)?,
            Self::Full(weight, bias) => {
                let blocks = x.reshape(((), channels))?.matmul(&weight.flatten_from(1)?)?;
                let blocks = blocks.reshape(((), bias.dim(0)?, 2, 2))?;
                blocks.permute((0, 2, 3, 1))?.contiguous()?.broadcast_add(bias)?
            }
        };
        let out = blocks.elem_count() / (batch * rows * columns * 4);
        let blocks = blocks.reshape(&[batch, rows, columns, 2, 2, out][..])?;
        let y = blocks.permute(&[0, 1, 3, 2, 4, 5][..])?.contiguous()?;
        y.reshape((batch, rows * 2, columns * 2, out))
    }
}

/// A convolution whose steps are as long as its kernel, as one product.
#[derive(Clone, Debug)]
pub struct ConvPatch {
    linear: Linear,
    side: usize,
}

impl ConvPatch {
    /// The layer called `name`, of `side` x `side` pixels.
    ///
    /// # Errors
    ///
    /// Fails if it is not there.
    pub fn load(
        weights: &Weights,
        name: &str,
        side: usize,
    ) -> std::result::Result<Self, WeightsError> {
        Ok(Self { linear: Linear::load(weights, name)?, side })
    }
}

impl Module for ConvPatch {
    /// `[B, H, W, C]` to `[B, H / side, W / side, D]`.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, rows, columns, channels) = x.dims4()?;
        let s = self.side;
        let blocks = x.reshape(&[batch, rows / s, s, columns / s, s, channels][..])?;
        let blocks = blocks.permute(&[0, 1, 3, 5, 2, 4][..])?.contiguous()?;
        self.linear.forward(&blocks.reshape((batch, rows / s, columns / s, channels * s * s))?)
    }
}

/// A convolution of pictures `[B, C, H, W]` whose patches may lie over each other: `[B, H', W', D]`.
#[derive(Clone, Debug)]
pub struct ConvOverlapping {
    kernel: Kernel,
    /// Pixels along a patch.
    side: usize,
    stride: usize,
    padding: usize,
}

#[derive(Clone, Debug)]
enum Kernel {
    /// From all pixels of a patch.
    Packed(Linear),
    /// The weight `[out, in, side, side]` and the bias.
    Full(Tensor, Tensor),
}

impl ConvOverlapping {
    /// The layer called `name`, its patches `stride` apart and reaching `padding` over the edge.
    ///
    /// # Errors
    ///
    /// Fails if it is not there.
    pub fn load(
        weights: &Weights,
        name: &str,
        stride: usize,
        padding: usize,
    ) -> std::result::Result<Self, WeightsError> {
        let weight = weights.get(&format!("{name}.weight"))?;
        let bias = weights.get(&format!("{name}.bias"))?;
        let side = weight.dim(2)?;
        let kernel = if cpu_kernels::can_take(&[&weight, &bias]) {
            Kernel::Packed(Linear::of(Product::Full(weight), Some(bias))?)
        } else {
            Kernel::Full(weight, bias)
        };
        Ok(Self { kernel, side, stride, padding })
    }
}

impl Module for ConvOverlapping {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match &self.kernel {
            Kernel::Packed(it) => it.forward(&patches(x, self.side, self.stride, self.padding)?),
            Kernel::Full(weight, bias) => {
                let y = x.conv2d(weight, self.padding, self.stride, 1, 1)?;
                y.permute((0, 2, 3, 1))?.contiguous()?.broadcast_add(bias)
            }
        }
    }
}
