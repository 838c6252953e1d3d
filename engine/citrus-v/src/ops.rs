//! Layers, out of operations that have gradients.
//!
//! candle's fused norms, softmax and rotary positions have none, its pooling has wrong ones, and it has
//! no bicubic resizing: these are put together here from what is right.

use candle_core::{D, DType, Module, Result, Tensor};
use cpu_kernels::packed::Packed;
use cpu_kernels::rows::{self, Activation};

use crate::plan::WeightsError;
use crate::weights::{Product, Weights};

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

/// Whether candle's fused operations may be taken: they have no gradients, and not all know f64.
fn is_fused(all: &[&Tensor]) -> bool {
    all.iter().all(|it| !it.track_op() && it.dtype() != DType::F64)
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

/// What keeps a norm from dividing by nought, as fused operations take it.
#[expect(clippy::cast_possible_truncation, reason = "a small constant of the network")]
const fn short(eps: f64) -> f32 {
    eps as f32
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
            return rows::rms_norm(x, &self.weight, short(self.eps));
        }
        if is_fused(&[x, &self.weight]) {
            return candle_nn::ops::rms_norm(&x.contiguous()?, &self.weight, short(self.eps));
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
            return rows::layer_norm(x, &self.weight, &self.bias, short(self.eps));
        }
        if is_fused(&[x, &self.weight, &self.bias]) {
            return candle_nn::ops::layer_norm(
                &x.contiguous()?,
                &self.weight,
                &self.bias,
                short(self.eps),
            );
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
    let scores = scores.to_dtype(DType::F32)?;
    let shares = if is_fused(&[&scores]) {
        candle_nn::ops::softmax_last_dim(&scores)?
    } else {
        candle_nn::ops::softmax(&scores, D::Minus1)?
    };
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
