//! Keys and values of what was read so far, so that nothing is read twice.

use candle_core::{Result, Tensor, bail};

/// Tokens by which room is made: what is kept moves to a larger place once for so many.
const ROOM: usize = 256;

/// Keys and values, layer by layer. A new token is written behind the others, in place.
#[derive(Debug, Default)]
pub struct Cache {
    /// `[B, room, kv, d]` each, of which the first are filled.
    layers: Vec<(Tensor, Tensor)>,
    /// How many, of each layer: within a pass the first layers are ahead of the others.
    filled: Vec<usize>,
}

impl Cache {
    /// How many tokens it holds.
    pub fn len(&self) -> usize {
        self.filled.first().copied().unwrap_or_default()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes it takes.
    pub fn bytes(&self) -> usize {
        let size = |it: &Tensor| it.elem_count() * it.dtype().size_in_bytes();
        self.layers.iter().map(|(keys, values)| size(keys) + size(values)).sum()
    }

    /// A copy of the first `count` tokens: what is written behind them here is not seen there.
    ///
    /// # Errors
    ///
    /// Fails if there are not so many.
    pub fn beginning(&self, count: usize) -> Result<Self> {
        if count > self.len() {
            bail!("there are {} tokens, not {count}", self.len())
        }
        let first = |it: &Tensor| grown(&it.narrow(1, 0, count)?, count, count);
        let copied = |(keys, values): &(Tensor, Tensor)| Ok((first(keys)?, first(values)?));
        let layers: Vec<(Tensor, Tensor)> =
            self.layers.iter().map(copied).collect::<Result<_>>()?;
        Ok(Self { filled: vec![count; layers.len()], layers })
    }

    /// Adds keys and values `[B, L, kv, d]` of a layer; gives all there are.
    ///
    /// # Errors
    ///
    /// Fails if the shapes do not fit, or a gradient is wanted: what is written in place has none.
    pub(crate) fn extended(
        &mut self,
        layer: usize,
        k: &Tensor,
        v: &Tensor,
    ) -> Result<(Tensor, Tensor)> {
        if k.track_op() || v.track_op() {
            bail!("keys are kept for answers; there is no gradient through them")
        }
        let more = k.dim(1)?;
        if self.layers.len() == layer {
            self.layers.push((roomy(k, more)?, roomy(v, more)?));
            self.filled.push(0);
        }
        let slot = self.layers.get_mut(layer).zip(self.filled.get_mut(layer));
        let Some(((keys, values), filled)) = slot else {
            bail!("layer {layer} comes before the one below it")
        };
        let all = *filled + more;
        if all > keys.dim(1)? {
            *keys = grown(keys, *filled, all)?;
            *values = grown(values, *filled, all)?;
        }
        keys.slice_set(&k.contiguous()?, 1, *filled)?;
        values.slice_set(&v.contiguous()?, 1, *filled)?;
        *filled = all;
        Ok((keys.narrow(1, 0, all)?, values.narrow(1, 0, all)?))
    }
}

/// Room for so many tokens like these, `[B, L, kv, d]`.
fn roomy(like: &Tensor, tokens: usize) -> Result<Tensor> {
    let (batch, _, heads, head) = like.dims4()?;
    let room = tokens.next_multiple_of(ROOM);
    Tensor::zeros((batch, room, heads, head), like.dtype(), like.device())
}

/// The first `filled` tokens in a place with room for `tokens`.
fn grown(from: &Tensor, filled: usize, tokens: usize) -> Result<Tensor> {
    let to = roomy(from, tokens)?;
    if filled > 0 {
        to.slice_set(&from.narrow(1, 0, filled)?.contiguous()?, 1, 0)?;
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

    fn plain(it: &Tensor) -> Vec<f32> {
        it.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn what_is_added_stands_behind_what_is_there_also_where_room_ends() {
        let mut cache = Cache::default();
        let pieces = [ROOM - 1, 1, 1, 2 * ROOM, 3];
        let mut all: Vec<Tensor> = Vec::new();
        for (index, tokens) in pieces.into_iter().enumerate() {
            let piece = numbers(index as f32 * 1e4, tokens);
            all.push(piece.clone());
            for layer in 0..2 {
                let (keys, values) = cache.extended(layer, &piece, &piece.neg().unwrap()).unwrap();
                let expected = plain(&Tensor::cat(&all, 1).unwrap());
                assert_eq!(plain(&keys), expected);
                assert_eq!(plain(&values.neg().unwrap()), expected);
            }
        }
        assert_eq!(cache.len(), pieces.iter().sum::<usize>());
    }

    #[test]
    fn a_beginning_is_a_copy_of_its_own() {
        let mut one = Cache::default();
        one.extended(0, &numbers(0.0, 5), &numbers(0.0, 5)).unwrap();
        let mut two = one.beginning(3).unwrap();
        let (keys, _) = two.extended(0, &numbers(500.0, 1), &numbers(500.0, 1)).unwrap();
        let (kept, _) = one.extended(0, &numbers(900.0, 1), &numbers(900.0, 1)).unwrap();
        let parts = |count| numbers(0.0, 5).narrow(1, 0, count).unwrap();
        let expected = |count, next| Tensor::cat(&[parts(count), numbers(next, 1)], 1).unwrap();
        assert_eq!(plain(&keys), plain(&expected(3, 500.0)));
        assert_eq!(plain(&kept), plain(&expected(5, 900.0)));
        assert!(one.beginning(7).is_err());
    }

    #[test]
    fn what_is_being_trained_is_refused() {
        let var = candle_core::Var::zeros((1, 1, 2, 3), DType::F32, &Device::Cpu).unwrap();
        assert!(Cache::default().extended(0, var.as_tensor(), &numbers(0.0, 1)).is_err());
    }
}
