//! The layers of the networks: linear, RMSNorm, LayerNorm, SwiGLU and MLP.
//!
//! candle's fused norms, softmax and rotary embeddings have no gradient. Where one is needed, the
//! layers here are composed of operations that have it; otherwise the fused operations of candle or
//! those of `cpu_kernels` are used. This is decided by each input: a layer that is not trained
//! itself may have to pass a gradient on to layers before it.

use candle_core::{D, DType, Module, Result, Tensor};
use cpu_kernels::packed_linear::{Activation, PackedLinear};
use cpu_kernels::row_ops;

use crate::checkpoint_index::WeightsError;
use crate::weights::{LinearWeight, Weights};

/// A linear layer, `x W^T + b`.
#[derive(Clone, Debug)]
pub struct Linear {
    weight: LinearWeight,
    bias: Option<Tensor>,
}

impl Linear {
    /// Loads the layer `name`, with its bias if there is one. A weight with more than two axes
    /// becomes `[out, all others]`.
    ///
    /// # Errors
    ///
    /// Fails if the weight is missing.
    pub fn load(weights: &Weights, name: &str) -> std::result::Result<Self, WeightsError> {
        let weight = weights.linear_weight(&format!("{name}.weight"))?;
        let bias = weights.find(&format!("{name}.bias"))?;
        Ok(Self::new(weight, bias)?)
    }

    /// A layer of a weight and a bias, packed for the CPU where possible.
    ///
    /// # Errors
    ///
    /// Fails if the two do not fit.
    pub fn new(weight: LinearWeight, bias: Option<Tensor>) -> Result<Self> {
        let LinearWeight::Full(weight) = weight else { return Ok(Self { weight, bias }) };
        let weight = weight.flatten_from(1)?;
        let both: Vec<&Tensor> = std::iter::once(&weight).chain(&bias).collect();
        if cpu_kernels::supports(&both) {
            let packed = PackedLinear::of(&weight, bias.as_ref())?;
            return Ok(Self { weight: LinearWeight::Packed(packed), bias: None });
        }
        Ok(Self { weight: LinearWeight::Full(weight), bias })
    }

    /// `gelu(x W^T + b)`.
    ///
    /// # Errors
    ///
    /// Fails if the width does not fit.
    pub fn forward_gelu(&self, x: &Tensor) -> Result<Tensor> {
        match &self.weight {
            LinearWeight::Packed(packed) if !x.track_op() => {
                packed.forward(x, Activation::Gelu, None)
            }
            _ => gelu(&self.forward(x)?),
        }
    }

    /// `residual + x W^T + b`.
    ///
    /// # Errors
    ///
    /// Fails if the shapes do not fit.
    pub fn forward_residual(&self, x: &Tensor, residual: &Tensor) -> Result<Tensor> {
        match &self.weight {
            LinearWeight::Packed(packed) if !x.track_op() && !residual.track_op() => {
                packed.forward(x, Activation::None, Some(residual))
            }
            _ => residual + self.forward(x)?,
        }
    }
}

impl Module for Linear {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut shape = x.dims().to_vec();
        let inputs = shape.pop().unwrap_or_default();
        // One large matrix product instead of one for each sample.
        let y = match &self.weight {
            LinearWeight::Packed(packed) => return packed.forward(x, Activation::None, None),
            LinearWeight::Full(weight) => x.reshape(((), inputs))?.matmul(&weight.t()?)?,
            LinearWeight::Quantized(weight) => weight.forward(&x.reshape(((), inputs))?)?,
        };
        let y = match &self.bias {
            Some(bias) => y.broadcast_add(bias)?,
            None => y,
        };
        shape.push(y.dim(1)?);
        y.reshape(shape)
    }
}

/// Whether candle's fused operations can be used: they have no gradient, and not all support f64.
pub(crate) fn can_fuse(tensors: &[&Tensor]) -> bool {
    tensors.iter().all(|it| !it.track_op() && it.dtype() != DType::F64)
}

/// GELU, with the error function.
///
/// # Errors
///
/// Fails if the device does.
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    if cpu_kernels::supports(&[x]) { row_ops::gelu_erf(x) } else { x.gelu_erf() }
}

/// The MLP with a SwiGLU activation ([arXiv 2002.05202](https://arxiv.org/abs/2002.05202)):
/// `down(silu(gate(x)) * up(x))`.
pub struct SwiGlu {
    gate: Linear,
    up: Linear,
    down: Linear,
}

impl SwiGlu {
    /// Loads the MLP `name`.
    ///
    /// # Errors
    ///
    /// Fails if a tensor is missing.
    pub fn load(weights: &Weights, name: &str) -> std::result::Result<Self, WeightsError> {
        Ok(Self {
            gate: Linear::load(weights, &format!("{name}.gate_proj"))?,
            up: Linear::load(weights, &format!("{name}.up_proj"))?,
            down: Linear::load(weights, &format!("{name}.down_proj"))?,
        })
    }

    /// `residual + down(silu(gate(x)) * up(x))`.
    ///
    /// # Errors
    ///
    /// Fails if the shapes do not fit.
    pub fn forward_residual(&self, x: &Tensor, residual: &Tensor) -> Result<Tensor> {
        let gate = self.gate.forward(x)?;
        let up = self.up.forward(x)?;
        self.down.forward_residual(&swiglu(&gate, &up)?, residual)
    }
}

/// `silu(gate) * up`.
fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    if cpu_kernels::supports(&[gate, up]) { row_ops::swiglu(gate, up) } else { gate.silu()? * up }
}

/// The epsilon of a norm in the precision of fused operations.
#[expect(clippy::cast_possible_truncation, reason = "a small constant of the network")]
const fn epsilon_f32(eps: f64) -> f32 {
    eps as f32
}

/// RMSNorm ([arXiv 1910.07467](https://arxiv.org/abs/1910.07467)): divides by the root mean square
/// over the last axis.
#[derive(Clone, Debug)]
pub struct RmsNorm {
    weight: Tensor,
    eps: f64,
}

impl RmsNorm {
    /// Loads the norm `name`.
    ///
    /// # Errors
    ///
    /// Fails if the weight is missing.
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
        let eps = epsilon_f32(self.eps);
        if cpu_kernels::supports(&[x, &self.weight]) {
            return row_ops::rms_norm(x, &self.weight, eps);
        }
        if can_fuse(&[x, &self.weight]) {
            return candle_nn::ops::rms_norm(&x.contiguous()?, &self.weight, eps);
        }
        let dtype = x.dtype();
        let x = x.to_dtype(DType::F32)?;
        let mean_square = x.sqr()?.mean_keepdim(D::Minus1)?;
        let normed = x.broadcast_div(&(mean_square + self.eps)?.sqrt()?)?;
        normed.to_dtype(dtype)?.broadcast_mul(&self.weight)
    }
}

/// Layer normalization: subtracts the mean and divides by the standard deviation over the last
/// axis.
#[derive(Clone, Debug)]
pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

impl LayerNorm {
    /// Loads the norm `name`.
    ///
    /// # Errors
    ///
    /// Fails if weight or bias are missing.
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
        let Self { weight, bias, .. } = self;
        let eps = epsilon_f32(self.eps);
        if cpu_kernels::supports(&[x, weight, bias]) {
            return row_ops::layer_norm(x, weight, bias, eps);
        }
        if can_fuse(&[x, weight, bias]) {
            return candle_nn::ops::layer_norm(&x.contiguous()?, weight, bias, eps);
        }
        let dtype = x.dtype();
        let x = x.to_dtype(DType::F32)?;
        let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
        let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
        let normed = centred.broadcast_div(&(variance + self.eps)?.sqrt()?)?;
        normed.to_dtype(dtype)?.broadcast_mul(weight)?.broadcast_add(bias)
    }
}

/// A stack of linear layers with ReLU in between.
#[derive(Clone, Debug)]
pub struct Mlp(Vec<Linear>);

impl Mlp {
    /// Loads `count` layers: `name.0`, `name.1` and so on.
    ///
    /// # Errors
    ///
    /// Fails if one is missing.
    pub fn load(
        weights: &Weights,
        name: &str,
        count: usize,
    ) -> std::result::Result<Self, WeightsError> {
        let layers = (0..count).map(|index| Linear::load(weights, &format!("{name}.{index}")));
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
