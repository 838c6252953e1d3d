//! Layers, out of operations that have gradients.
//!
//! candle's fused norms, softmax and rotary positions have none, its pooling has wrong ones, and it has
//! no bicubic resizing: these are put together here from what is right.

use candle_core::{D, DType, Module, Result, Tensor};
use cpu_kernels::packed::Packed;
use cpu_kernels::patches::patches;
use cpu_kernels::rows::{self, Activation};

use crate::weights::{Product, Weights, WeightsError};

/// `x W^T + b`.
#[derive(Clone, Debug)]
pub struct Linear {
    weight: Product,
    bias: Option<Tensor>,
}

impl Linear {
    /// The layer called `name`; its bias, if there is one. A weight of more axes than two is one
    /// `[out, everything else]`.
    ///
    /// # Errors
    ///
    /// Fails if the weight is not there.
    pub fn load(weights: &Weights, name: &str) -> std::result::Result<Self, WeightsError> {
        let weight = weights.product(&format!("{name}.weight"))?;
        let bias = weights.get_if_there(&format!("{name}.bias"))?;
        Ok(Self::of(weight, bias)?)
    }

    /// A layer of a weight and a bias.
    ///
    /// # Errors
    ///
    /// Fails if they do not fit.
    pub fn of(weight: Product, bias: Option<Tensor>) -> Result<Self> {
        let Product::Full(weight) = weight else { return Ok(Self { weight, bias }) };
        let weight = weight.flatten_from(1)?;
        let both: Vec<&Tensor> = std::iter::once(&weight).chain(&bias).collect();
        if cpu_kernels::can_take(&both) {
            let packed = Packed::of(&weight, bias.as_ref())?;
            return Ok(Self { weight: Product::Packed(packed), bias: None });
        }
        Ok(Self { weight: Product::Full(weight), bias })
    }

    /// What comes out, after GELU.
    ///
    /// # Errors
    ///
    /// Fails if the width does not fit.
    pub fn forward_gelu(&self, x: &Tensor) -> Result<Tensor> {
        match &self.weight {
            Product::Packed(it) => it.forward(x, Activation::Gelu, None),
            _ => gelu(&self.forward(x)?),
        }
    }

    /// What comes out, added to `residual`.
    ///
    /// # Errors
    ///
    /// Fails if the shapes do not fit.
    pub fn forward_onto(&self, x: &Tensor, residual: &Tensor) -> Result<Tensor> {
        match &self.weight {
            Product::Packed(it) => it.forward(x, Activation::None, Some(residual)),
            _ => residual + self.forward(x)?,
        }
    }
}

impl Module for Linear {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut shape = x.dims().to_vec();
        let from = shape.pop().unwrap_or_default();
        // One large product rather than many small ones.
        let rows = || x.reshape(((), from));
        let y = match &self.weight {
            Product::Packed(it) => return it.forward(x, Activation::None, None),
            Product::Full(weight) => rows()?.matmul(&weight.t()?)?,
            Product::Eight(weight) => weight.forward(&rows()?)?,
        };
        let y = match &self.bias {
            Some(bias) => y.broadcast_add(bias)?,
            None => y,
        };
        shape.push(y.dim(1)?);
        y.reshape(shape)
    }
}

/// GELU by the error function.
///
/// # Errors
///
/// Fails if the device does.
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    if cpu_kernels::can_take(&[x]) { rows::gelu_erf(x) } else { x.gelu_erf() }
}

/// `silu(gate) * up`.
///
/// # Errors
///
/// Fails if the shapes differ.
pub fn silu_times(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    if cpu_kernels::can_take(&[gate, up]) { rows::silu_times(gate, up) } else { gate.silu()? * up }
}

/// Divides by the root of the mean square.
#[derive(Clone, Debug)]
pub struct RmsNorm {
    weight: Tensor,
    eps: f64,
}

impl RmsNorm {
    /// The norm called `name`.
    ///
    /// # Errors
    ///
    /// Fails if it is not there.
    pub fn load(
        weights: &Weights,
        name: &str,
        eps: f64,
    ) -> std::result::Result<Self, WeightsError> {
        Ok(Self { weight: weights.get(&format!("{name}.weight"))?, eps })
    }
}

impl Module for RmsNorm {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        if cpu_kernels::can_take(&[x, &self.weight]) {
            #[expect(
                clippy::cast_possible_truncation,
                reason = "a small constant of the network"
            )]
            return rows::rms_norm(x, &self.weight, self.eps as f32);
        }
        let kind = x.dtype();
        let wide = x.to_dtype(DType::F32)?;
        let square = wide.sqr()?.mean_keepdim(D::Minus1)?;
        let normed = wide.broadcast_div(&(square + self.eps)?.sqrt()?)?;
        normed.to_dtype(kind)?.broadcast_mul(&self.weight)
    }
}

/// Subtracts the mean and divides by the standard deviation, over the last axis.
#[derive(Clone, Debug)]
pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

impl LayerNorm {
    /// The norm called `name`.
    ///
    /// # Errors
    ///
    /// Fails if it is not there.
    pub fn load(
        weights: &Weights,
        name: &str,
        eps: f64,
    ) -> std::result::Result<Self, WeightsError> {
        let weight = weights.get(&format!("{name}.weight"))?;
        let bias = weights.get(&format!("{name}.bias"))?;
        Ok(Self { weight, bias, eps })
    }
}

impl Module for LayerNorm {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        if cpu_kernels::can_take(&[x, &self.weight, &self.bias]) {
            #[expect(
                clippy::cast_possible_truncation,
                reason = "a small constant of the network"
            )]
            return rows::layer_norm(x, &self.weight, &self.bias, self.eps as f32);
        }
        let kind = x.dtype();
        let wide = x.to_dtype(DType::F32)?;
        let centred = wide.broadcast_sub(&wide.mean_keepdim(D::Minus1)?)?;
        let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
        let normed = centred.broadcast_div(&(variance + self.eps)?.sqrt()?)?;
        normed.to_dtype(kind)?.broadcast_mul(&self.weight)?.broadcast_add(&self.bias)
    }
}

/// A stack of linear layers with ReLU between them.
#[derive(Clone, Debug)]
pub struct Mlp(Vec<Linear>);

impl Mlp {
    /// The layers `name.0`, `name.1`, … of which there are `count`.
    ///
    /// # Errors
    ///
    /// Fails if one is not there.
    pub fn load(
        weights: &Weights,
        name: &str,
        count: usize,
    ) -> std::result::Result<Self, WeightsError> {
        let layers = (0..count).map(|it| Linear::load(weights, &format!("{name}.{it}")));
        Ok(Self(layers.collect::<std::result::Result<_, _>>()?))
    }
}

impl Module for Mlp {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut x = x.clone();
        for (index, layer) in self.0.iter().enumerate() {
            x = layer.forward(&if index == 0 { x } else { x.relu()? })?;
        }
        Ok(x)
    }
}

/// Scaled attention of queries `[B, L, H, d]` to keys and values `[B, S, G, d]`, heads of queries sharing
/// those of keys: `[B, L, H * d]`. `mask` `[B or 1, L, S]` is added to the scores.
///
/// # Errors
///
/// Fails if the shapes do not fit.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
    if cpu_kernels::can_take(&[q, k, v]) {
        return cpu_kernels::attention::attention(q, k, v, mask);
    }
    let (batch, length, heads, head) = q.dims4()?;
    let groups = k.dim(2)?;
    let group = heads / groups;
    // Queries that share a head of keys stand below each other: keys are not copied.
    let first = |it: &Tensor| it.transpose(1, 2)?.contiguous();
    let q = first(q)?.reshape((batch, groups, group * length, head))?;
    let (k, v) = (first(k)?, first(v)?);
    let scores = (q.matmul(&k.transpose(2, 3)?.contiguous()?)? * (1.0 / (head as f64).sqrt()))?;
    let scores = match mask {
        Some(mask) => {
            let (rows, length, all) = mask.dims3()?;
            let mask = mask.reshape((rows, 1, 1, length, all))?;
            let mask = mask.broadcast_as((rows, 1, group, length, all))?;
            scores.broadcast_add(&mask.contiguous()?.reshape((rows, 1, group * length, all))?)?
        }
        None => scores,
    };
    let kind = scores.dtype();
    let shares = candle_nn::ops::softmax(&scores.to_dtype(DType::F32)?, D::Minus1)?;
    let out = shares.to_dtype(kind)?.matmul(&v)?.reshape((batch, heads, length, head))?;
    out.transpose(1, 2)?.contiguous()?.reshape((batch, length, heads * head))
}

/// The halves of the last axis swapped, the new first one negated.
///
/// # Errors
///
/// Fails if the axis is odd.
pub fn rotate_half(x: &Tensor) -> Result<Tensor> {
    let half = x.dim(D::Minus1)? / 2;
    let (first, second) = (x.narrow(D::Minus1, 0, half)?, x.narrow(D::Minus1, half, half)?);
    Tensor::cat(&[&second.neg()?, &first], D::Minus1)
}

/// Turns each pair of halves of `[B, L, H, d]` by an angle given as cosine and sine, `[B or 1, L, d]`.
///
/// # Errors
///
/// Fails if the shapes do not fit.
pub fn rotated(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    if cpu_kernels::can_take(&[x, cos, sin]) {
        return rows::rotary(x, cos, sin);
    }
    let kind = x.dtype();
    let x = x.to_dtype(DType::F32)?;
    let (cos, sin) = (cos.unsqueeze(2)?, sin.unsqueeze(2)?);
    let turned = (x.broadcast_mul(&cos)? + rotate_half(&x)?.broadcast_mul(&sin)?)?;
    turned.to_dtype(kind)
}

/// The largest of each 2 x 2 of `[B, H, W, C]`. Its gradient goes to the largest alone.
///
/// # Errors
///
/// Fails if rows or columns are odd.
pub fn max_pool_2x2(x: &Tensor) -> Result<Tensor> {
    let (batch, rows, columns, channels) = x.dims4()?;
    let blocks = x.reshape((batch, rows / 2, 2, columns / 2, 2, channels))?;
    let pairs = blocks.max(4)?;
    pairs.max(2)
}

/// `[B, H, W, C]` with every pixel four times.
///
/// # Errors
///
/// Fails if it is not of that shape.
pub fn doubled(x: &Tensor) -> Result<Tensor> {
    let (batch, rows, columns, channels) = x.dims4()?;
    let wide = x.reshape((batch, rows, 1, columns, 1, channels))?;
    let wide = wide.broadcast_as((batch, rows, 2, columns, 2, channels))?;
    wide.contiguous()?.reshape((batch, rows * 2, columns * 2, channels))
}

/// A matrix of `[to, from]` that resizes an axis by cubic convolution with a = -0.75, pixels at the
/// middle of their places, without smoothing: as torch interpolates.
///
/// # Errors
///
/// Fails if the device does.
pub fn bicubic_matrix(from: usize, to: usize, like: &Tensor) -> Result<Tensor> {
    const A: f32 = -0.75;
    let near = |x: f32| ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0;
    let far = |x: f32| ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A;
    let mut matrix = vec![0.0_f32; from * to];
    let scale = from as f32 / to as f32;
    for (row, weights) in matrix.chunks_exact_mut(from).enumerate() {
        let place = (row as f32 + 0.5) * scale - 0.5;
        let (first, t) = (place.floor(), place - place.floor());
        let taps = [far(t + 1.0), near(t), near(1.0 - t), far(2.0 - t)];
        for (offset, weight) in taps.into_iter().enumerate() {
            let at = (first - 1.0 + offset as f32).clamp(0.0, from as f32 - 1.0);
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "clamped to the axis"
            )]
            if let Some(it) = weights.get_mut(at as usize) {
                *it += weight;
            }
        }
    }
    Tensor::from_vec(matrix, (to, from), like.device())?.to_dtype(like.dtype())
}

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
