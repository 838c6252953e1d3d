//! Convolutions of maps with channels last, as matrix products where possible.

use candle_core::{Module, Result, Tensor};
use cpu_kernels::im2col::im2col;

use crate::checkpoint_index::WeightsError;
use crate::layers::Linear;
use crate::weights::{LinearWeight, Weights};

/// A transposed convolution with a kernel of 2 x 2 and a stride of 2.
#[derive(Clone, Debug)]
pub enum ConvTranspose2x2 {
    /// A linear layer from `in` to `[2, 2, out]`.
    Packed(Linear),
    /// The weight `[in, out, 2, 2]` and the bias `[out]`.
    Full(Tensor, Tensor),
}

impl ConvTranspose2x2 {
    /// Loads the layer `name`.
    ///
    /// # Errors
    ///
    /// Fails if a tensor is missing.
    pub fn load(weights: &Weights, name: &str) -> std::result::Result<Self, WeightsError> {
        let weight = weights.get(&format!("{name}.weight"))?;
        let bias = weights.get(&format!("{name}.bias"))?;
        if !cpu_kernels::supports(&[&weight, &bias]) {
            return Ok(Self::Full(weight, bias));
        }
        let (inputs, outputs, _, _) = weight.dims4()?;
        let by_pixel = weight.permute((2, 3, 1, 0))?.contiguous()?;
        let by_pixel = LinearWeight::Full(by_pixel.reshape((4 * outputs, inputs))?);
        Ok(Self::Packed(Linear::new(by_pixel, Some(bias.repeat(4)?))?))
    }
}

impl Module for ConvTranspose2x2 {
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

/// A convolution whose stride is the side of its kernel: a linear layer on blocks of pixels.
#[derive(Clone, Debug)]
pub struct StridedConv {
    linear: Linear,
    side: usize,
}

impl StridedConv {
    /// Loads the layer `name`, whose kernel has this side.
    ///
    /// # Errors
    ///
    /// Fails if a tensor is missing.
    pub fn load(
        weights: &Weights,
        name: &str,
        side: usize,
    ) -> std::result::Result<Self, WeightsError> {
        Ok(Self { linear: Linear::load(weights, name)?, side })
    }
}

impl Module for StridedConv {
    /// `[B, H, W, C]` to `[B, H / side, W / side, D]`.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, rows, columns, channels) = x.dims4()?;
        let s = self.side;
        let blocks = x.reshape(&[batch, rows / s, s, columns / s, s, channels][..])?;
        let blocks = blocks.permute(&[0, 1, 3, 5, 2, 4][..])?.contiguous()?;
        self.linear.forward(&blocks.reshape((batch, rows / s, columns / s, channels * s * s))?)
    }
}

/// A convolution with stride and padding from channels first to channels last, `[B, C, H, W]` to
/// `[B, H', W', D]`: im2col and a linear layer on the CPU.
#[derive(Clone, Debug)]
pub struct PatchConv {
    kernel: Kernel,
    /// The side of the kernel.
    side: usize,
    stride: usize,
    padding: usize,
}

#[derive(Clone, Debug)]
enum Kernel {
    /// A linear layer on all pixels of a patch.
    Packed(Linear),
    /// The weight `[out, in, side, side]` and the bias `[out]`.
    Full(Tensor, Tensor),
}

impl PatchConv {
    /// Loads the layer `name`.
    ///
    /// # Errors
    ///
    /// Fails if a tensor is missing.
    pub fn load(
        weights: &Weights,
        name: &str,
        stride: usize,
        padding: usize,
    ) -> std::result::Result<Self, WeightsError> {
        let weight = weights.get(&format!("{name}.weight"))?;
        let bias = weights.get(&format!("{name}.bias"))?;
        let side = weight.dim(2)?;
        let kernel = if cpu_kernels::supports(&[&weight, &bias]) {
            Kernel::Packed(Linear::new(LinearWeight::Full(weight), Some(bias))?)
        } else {
            Kernel::Full(weight, bias)
        };
        Ok(Self { kernel, side, stride, padding })
    }
}

impl Module for PatchConv {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match &self.kernel {
            Kernel::Packed(it) => it.forward(&im2col(x, self.side, self.stride, self.padding)?),
            Kernel::Full(weight, bias) => {
                let y = x.conv2d(weight, self.padding, self.stride, 1, 1)?;
                y.permute((0, 2, 3, 1))?.contiguous()?.broadcast_add(bias)
            }
        }
    }
}
