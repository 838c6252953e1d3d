//! The KV cache: keys and values of the tokens that a sequence has processed, so that none is
//! computed twice.

use candle_core::{Result, Tensor, bail};

/// The capacity of a layer grows in steps of this number of tokens, to copy it rarely.
const CAPACITY_STEP: usize = 256;

/// Keys and values, layer by layer. New tokens are written behind the others in place.
#[derive(Debug, Default)]
pub struct KvCache {
    layers: Vec<LayerCache>,
}

/// Keys and values of one layer.
#[derive(Debug)]
struct LayerCache {
    /// `[B, capacity, kv_heads, head_dim]`, of which the first `length` tokens are filled.
    keys: Tensor,
    values: Tensor,
    /// Within a forward pass, the lower layers are ahead of the others.
    length: usize,
}

impl KvCache {
    /// The number of tokens in the cache.
    pub fn len(&self) -> usize {
        self.layers.first().map_or(0, |it| it.length)
    }

    /// Whether the cache holds no token.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The memory that the cache occupies, in bytes.
    pub fn size_bytes(&self) -> usize {
        self.layers.iter().map(|it| tensor_bytes(&it.keys) + tensor_bytes(&it.values)).sum()
    }

    /// A copy of the first `count` tokens. Tokens appended to one of the two do not show in the
    /// other.
    ///
    /// # Errors
    ///
    /// Fails if the cache holds fewer tokens.
    pub fn prefix(&self, count: usize) -> Result<Self> {
        if count > self.len() {
            bail!("there are {} tokens, not {count}", self.len())
        }
        let mut layers = Vec::with_capacity(self.layers.len());
        for layer in &self.layers {
            layers.push(LayerCache {
                keys: with_capacity(&layer.keys, count, count)?,
                values: with_capacity(&layer.values, count, count)?,
                length: count,
            });
        }
        Ok(Self { layers })
    }

    /// Appends keys and values `[B, L, kv_heads, head_dim]` of a layer. Returns all keys and values
    /// of the layer.
    ///
    /// # Errors
    ///
    /// Fails if the shapes do not fit, or a gradient is tracked: an update in place has none.
    pub(crate) fn append(
        &mut self,
        layer: usize,
        k: &Tensor,
        v: &Tensor,
    ) -> Result<(Tensor, Tensor)> {
        if k.track_op() || v.track_op() {
            bail!("the KV cache is for inference; there is no gradient through it")
        }
        let count = k.dim(1)?;
        if self.layers.len() == layer {
            self.layers.push(LayerCache {
                keys: zeros_like(k, count)?,
                values: zeros_like(v, count)?,
                length: 0,
            });
        }
        let Some(layer_cache) = self.layers.get_mut(layer) else {
            bail!("layer {layer} comes before the one below it")
        };
        layer_cache.append(k, v, count)
    }
}

impl LayerCache {
    fn append(&mut self, k: &Tensor, v: &Tensor, count: usize) -> Result<(Tensor, Tensor)> {
        let length = self.length + count;
        if length > self.keys.dim(1)? {
            self.keys = with_capacity(&self.keys, self.length, length)?;
            self.values = with_capacity(&self.values, self.length, length)?;
        }
        self.keys.slice_set(&k.contiguous()?, 1, self.length)?;
        self.values.slice_set(&v.contiguous()?, 1, self.length)?;
        self.length = length;
        Ok((self.keys.narrow(1, 0, length)?, self.values.narrow(1, 0, length)?))
    }
}

fn tensor_bytes(tensor: &Tensor) -> usize {
    tensor.elem_count() * tensor.dtype().size_in_bytes()
}

/// Zeros with a capacity of at least `tokens` tokens like these, `[B, L, kv_heads, head_dim]`.
fn zeros_like(like: &Tensor, tokens: usize) -> Result<Tensor> {
    let (batch, _, kv_heads, head_dim) = like.dims4()?;
    let capacity = tokens.next_multiple_of(CAPACITY_STEP);
    Tensor::zeros((batch, capacity, kv_heads, head_dim), like.dtype(), like.device())
}

/// The first `length` tokens in a tensor with a capacity of at least `tokens`.
fn with_capacity(from: &Tensor, length: usize, tokens: usize) -> Result<Tensor> {
    let to = zeros_like(from, tokens)?;
    if length > 0 {
        to.slice_set(&from.narrow(1, 0, length)?.contiguous()?, 1, 0)?;
    }
    Ok(to)
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;

    fn numbers(first: f32, tokens: usize) -> Tensor {
        let last = first + (tokens * 6) as f32;
        Tensor::arange(first, last, &Device::Cpu).unwrap().reshape((1, tokens, 2, 3)).unwrap()
    }

    fn plain(tensor: &Tensor) -> Vec<f32> {
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn appended_tokens_follow_the_others_also_where_the_capacity_ends() {
        let mut cache = KvCache::default();
        let chunks = [CAPACITY_STEP - 1, 1, 1, 2 * CAPACITY_STEP, 3];
        let mut all: Vec<Tensor> = Vec::new();
        for (index, tokens) in chunks.into_iter().enumerate() {
            let chunk = numbers(index as f32 * 1e4, tokens);
            all.push(chunk.clone());
            for layer in 0..2 {
                let (keys, values) = cache.append(layer, &chunk, &chunk.neg().unwrap()).unwrap();
                let expected = plain(&Tensor::cat(&all, 1).unwrap());
                assert_eq!(plain(&keys), expected);
                assert_eq!(plain(&values.neg().unwrap()), expected);
            }
        }
        assert_eq!(cache.len(), chunks.iter().sum::<usize>());
    }

    #[test]
    fn a_prefix_is_a_copy() {
        let mut one = KvCache::default();
        one.append(0, &numbers(0.0, 5), &numbers(0.0, 5)).unwrap();
        let mut two = one.prefix(3).unwrap();
        let (copied, _) = two.append(0, &numbers(500.0, 1), &numbers(500.0, 1)).unwrap();
        let (original, _) = one.append(0, &numbers(900.0, 1), &numbers(900.0, 1)).unwrap();
        let first = |count| numbers(0.0, 5).narrow(1, 0, count).unwrap();
        let expected = |count, next| Tensor::cat(&[first(count), numbers(next, 1)], 1).unwrap();
        assert_eq!(plain(&copied), plain(&expected(3, 500.0)));
        assert_eq!(plain(&original), plain(&expected(5, 900.0)));
        assert!(one.prefix(7).is_err());
    }

    #[test]
    fn tensors_with_a_gradient_are_refused() {
        let var = candle_core::Var::zeros((1, 1, 2, 3), DType::F32, &Device::Cpu).unwrap();
        assert!(KvCache::default().append(0, var.as_tensor(), &numbers(0.0, 1)).is_err());
    }
}
