//! Scaled dot-product attention of queries `[B, L, H, d]` to keys and values `[B, S, G, d]`, where
//! `H / G` query heads share a head of keys.
//!
//! The tensors are read as they are laid out in memory. Keys are processed in blocks with an online
//! softmax, as in FlashAttention ([arXiv 2205.14135](https://arxiv.org/abs/2205.14135)): the
//! running maximum and sum of each query are updated per block, so that only one block of scores
//! exists.

use std::ops::Deref;

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Storage, Tensor};

use crate::gemm::{Gemm, GemmSize, MatrixMut, MatrixRef, PANEL_COLUMNS, gemm};
use crate::threads::{self, SharedOutput};
use crate::vector_ops::{add_assign, axpy, dot, exp_sum, max, scale};
use crate::{contiguous, out_of_bounds};

/// The maximum number of queries that share one packed block of keys and values.
const TASK_QUERIES_MAX: usize = 512;

/// The number of keys in a block.
const KEY_BLOCK: usize = 256;

/// The number of queries whose scores are in the cache together.
const QUERY_BLOCK: usize = 48;

/// Up to this number of queries, keys and values are read in place: packing them would dominate.
const UNPACKED_QUERIES_MAX: usize = 4;

/// A tensor `[B, L, H, d]` with its strides.
#[derive(Clone, Copy)]
struct Heads<'a> {
    numbers: &'a [f32],
    sample_stride: usize,
    token_stride: usize,
    head_stride: usize,
}

/// The shape of a tensor `[B, L, H, d]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct HeadsShape {
    batch: usize,
    length: usize,
    heads: usize,
    head_dim: usize,
}

impl HeadsShape {
    fn of(layout: &Layout) -> Result<Self> {
        let (batch, length, heads, head_dim) = layout.shape().dims4()?;
        Ok(Self { batch, length, heads, head_dim })
    }
}

impl<'a> Heads<'a> {
    fn of(storage: &'a CpuStorage, layout: &Layout) -> Result<Self> {
        let shape = HeadsShape::of(layout)?;
        let [sample_stride, token_stride, head_stride, 1] = *layout.stride() else {
            candle_core::bail!("the numbers of a head are not contiguous");
        };
        let numbers = storage.as_slice::<f32>()?.get(layout.start_offset()..);
        let numbers = numbers.ok_or_else(|| out_of_bounds("a head"))?;
        let heads = Self { numbers, sample_stride, token_stride, head_stride };
        let HeadsShape { batch, length, heads: head_count, head_dim } = shape;
        if batch == 0 || length == 0 || head_count == 0 || head_dim == 0 {
            return Err(out_of_bounds("a head"));
        }
        let last = heads.offset(batch - 1, length - 1, head_count - 1);
        if last + head_dim > numbers.len() {
            return Err(out_of_bounds("a head"));
        }
        Ok(heads)
    }

    const fn offset(self, sample: usize, token: usize, head: usize) -> usize {
        sample * self.sample_stride + token * self.token_stride + head * self.head_stride
    }

    fn head(self, sample: usize, token: usize, head: usize, head_dim: usize) -> &'a [f32] {
        let offset = self.offset(sample, token, head);
        self.numbers.get(offset..offset + head_dim).unwrap_or_default()
    }
}

struct Attention {
    /// Added to the scores, `[B or 1, L, S]`.
    mask: Option<Tensor>,
}

/// The numbers of a mask.
#[derive(Clone, Copy)]
struct Mask<'a> {
    numbers: &'a [f32],
    /// The size of the mask of one sample.
    sample_size: usize,
    /// The number of samples that the mask distinguishes: 1 or the batch.
    samples: usize,
}

impl<'a> Mask<'a> {
    fn of(
        guard: &'a (impl Deref<Target = Storage>, &Layout),
        sample_size: usize,
        batch: usize,
    ) -> Result<Self> {
        let (storage, layout) = guard;
        let Storage::Cpu(storage) = &**storage else { return Err(out_of_bounds("a mask")) };
        let numbers = contiguous(storage, layout)?;
        let samples = numbers.len() / sample_size;
        let is_whole = numbers.len() == samples * sample_size;
        if samples == 0 || !is_whole || !batch.is_multiple_of(samples) {
            return Err(out_of_bounds("a mask"));
        }
        Ok(Self { numbers, sample_size, samples })
    }

    fn of_sample(self, sample: usize) -> Option<&'a [f32]> {
        let start = sample % self.samples * self.sample_size;
        self.numbers.get(start..start + self.sample_size)
    }
}

/// The attention of one query head of one sample.
struct HeadTask<'a> {
    q: Heads<'a>,
    k: Heads<'a>,
    v: Heads<'a>,
    /// The mask of the sample, `[L, S]`.
    mask: Option<&'a [f32]>,
    sample: usize,
    head: usize,
    /// The head of keys and values that this query head uses.
    kv_head: usize,
    head_dim: usize,
    keys: usize,
}

/// A block of keys and values, packed for the GEMM kernel.
struct PackedBlock {
    /// Panels of keys, each `[head_dim, 64]`.
    keys: Vec<f32>,
    /// Panels of values, each `[keys, 64]`.
    values: Vec<f32>,
}

/// The state of the online softmax of one query.
#[derive(Clone, Copy)]
struct SoftmaxState {
    /// The maximum of all scores so far.
    max: f32,
    /// The sum of `exp(score - max)` so far.
    sum: f32,
}

impl HeadTask<'_> {
    fn mask(&self, query: usize, first_key: usize, count: usize) -> Option<&[f32]> {
        let start = query * self.keys + first_key;
        self.mask.and_then(|it| it.get(start..start + count))
    }

    /// The factor of the scores, `1 / sqrt(d)`.
    fn score_scale(&self) -> f32 {
        1.0 / (self.head_dim as f32).sqrt()
    }

    /// The attention of a single query, which reads keys and values in place.
    fn attend_single(&self, query: usize, output: &mut [f32]) {
        let q = self.q.head(self.sample, query, self.head, self.head_dim);
        let mut scores: Vec<f32> = (0..self.keys)
            .map(|key| dot(q, self.k.head(self.sample, key, self.kv_head, self.head_dim)))
            .collect();
        scale(&mut scores, self.score_scale());
        if let Some(mask) = self.mask(query, 0, self.keys) {
            add_assign(&mut scores, mask);
        }
        let max_score = max(&scores);
        let sum = exp_sum(&mut scores, max_score);
        output.fill(0.0);
        for (key, numerator) in scores.iter().enumerate() {
            let value = self.v.head(self.sample, key, self.kv_head, self.head_dim);
            axpy(output, value, numerator / sum);
        }
    }

    /// The attention of queries `first..first + count`, to rows of `output` that are `stride`
    /// apart.
    fn attend_many(&self, first: usize, count: usize, output: SharedOutput, stride: usize) {
        let mut packed = PackedBlock {
            keys: vec![0.0; self.head_dim * KEY_BLOCK.next_multiple_of(PANEL_COLUMNS)],
            values: vec![0.0; self.value_panels() * KEY_BLOCK * PANEL_COLUMNS],
        };
        let mut scores = vec![0.0; QUERY_BLOCK * KEY_BLOCK];
        let mut states = vec![SoftmaxState { max: f32::NEG_INFINITY, sum: 0.0 }; count];
        for first_key in (0..self.keys).step_by(KEY_BLOCK) {
            let keys = KEY_BLOCK.min(self.keys - first_key);
            self.pack(first_key, keys, &mut packed);
            for (block, states) in states.chunks_mut(QUERY_BLOCK).enumerate() {
                let offset = block * QUERY_BLOCK;
                let rows = states.len();
                // SAFETY: these rows of this head belong to this task.
                let block_output = unsafe { output.offset(offset * stride) };
                self.compute_scores(first + offset, rows, keys, &packed, &mut scores);
                for (row, state) in states.iter_mut().enumerate() {
                    let row_scores =
                        scores.get_mut(row * keys..(row + 1) * keys).unwrap_or_default();
                    scale(row_scores, self.score_scale());
                    if let Some(mask) = self.mask(first + offset + row, first_key, keys) {
                        add_assign(row_scores, mask);
                    }
                    let rescale = state.update(row_scores);
                    if first_key > 0 {
                        // SAFETY: these rows of this head belong to this task.
                        scale(unsafe { block_output.slice(row * stride, self.head_dim) }, rescale);
                    }
                }
                // SAFETY: the first row is in bounds.
                let to = MatrixMut { start: unsafe { block_output.at(0) }, stride };
                self.add_values(rows, keys, &packed, &scores, to, first_key > 0);
            }
        }
        for (row, state) in states.into_iter().enumerate() {
            // SAFETY: these rows of this head belong to this task.
            scale(unsafe { output.slice(row * stride, self.head_dim) }, 1.0 / state.sum);
        }
    }

    /// The number of panels of values.
    const fn value_panels(&self) -> usize {
        self.head_dim.div_ceil(PANEL_COLUMNS)
    }

    /// Packs a block of keys and values.
    fn pack(&self, first_key: usize, keys: usize, packed: &mut PackedBlock) {
        for key in 0..keys {
            let from = self.k.head(self.sample, first_key + key, self.kv_head, self.head_dim);
            let panel_start = key / PANEL_COLUMNS * self.head_dim * PANEL_COLUMNS;
            let column = key % PANEL_COLUMNS;
            let to = packed.keys.iter_mut().skip(panel_start + column).step_by(PANEL_COLUMNS);
            to.zip(from).for_each(|(to, from)| *to = *from);
            let from = self.v.head(self.sample, first_key + key, self.kv_head, self.head_dim);
            for (panel, from) in from.chunks(PANEL_COLUMNS).enumerate() {
                let start = (panel * KEY_BLOCK + key) * PANEL_COLUMNS;
                if let Some(to) = packed.values.get_mut(start..start + from.len()) {
                    to.copy_from_slice(from);
                }
            }
        }
    }

    /// The unscaled scores of a block of queries and a block of keys, `[rows, keys]`.
    fn compute_scores(
        &self,
        query: usize,
        rows: usize,
        keys: usize,
        packed: &PackedBlock,
        scores: &mut [f32],
    ) {
        let offset = self.q.offset(self.sample, query, self.head);
        for panel in 0..keys.div_ceil(PANEL_COLUMNS) {
            let columns = PANEL_COLUMNS.min(keys - panel * PANEL_COLUMNS);
            let size = GemmSize { rows, columns, inner: self.head_dim };
            // SAFETY: the queries are in bounds, the panel is packed, and the scores have room.
            unsafe {
                let left = self.q.numbers.as_ptr().add(offset);
                let left = MatrixRef { start: left, stride: self.q.token_stride };
                let to = scores.as_mut_ptr().add(panel * PANEL_COLUMNS);
                let to = MatrixMut { start: to, stride: keys };
                let panel = packed.keys.as_ptr().add(panel * self.head_dim * PANEL_COLUMNS);
                gemm(Gemm { size, left, panel, to, accumulates: false });
            }
        }
    }

    /// Adds the values of a block, weighted by the numerators of the softmax, to the output.
    fn add_values(
        &self,
        rows: usize,
        keys: usize,
        packed: &PackedBlock,
        numerators: &[f32],
        output: MatrixMut,
        accumulates: bool,
    ) {
        for panel in 0..self.value_panels() {
            let columns = PANEL_COLUMNS.min(self.head_dim - panel * PANEL_COLUMNS);
            let size = GemmSize { rows, columns, inner: keys };
            // SAFETY: numerators and values have this size, and the rows belong to this task.
            unsafe {
                let left = MatrixRef { start: numerators.as_ptr(), stride: keys };
                let to = MatrixMut { start: output.start.add(panel * PANEL_COLUMNS), ..output };
                let panel = packed.values.as_ptr().add(panel * KEY_BLOCK * PANEL_COLUMNS);
                gemm(Gemm { size, left, panel, to, accumulates });
            }
        }
    }
}

impl SoftmaxState {
    /// Turns further scores into numerators of the softmax. Returns the factor by which what was
    /// accumulated before has to be scaled.
    fn update(&mut self, scores: &mut [f32]) -> f32 {
        let new_max = max(scores).max(self.max);
        // While all keys are masked, the maximum is minus infinity and no key has a share.
        let base = if new_max == f32::NEG_INFINITY { 0.0 } else { new_max };
        let rescale = (self.max - base).exp();
        let block_sum = exp_sum(scores, base);
        self.sum = self.sum * rescale + block_sum;
        self.max = new_max;
        rescale
    }
}

impl CustomOp3 for Attention {
    fn name(&self) -> &'static str {
        "attention-heads"
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        q_layout: &Layout,
        k: &CpuStorage,
        k_layout: &Layout,
        v: &CpuStorage,
        v_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let q_shape = HeadsShape::of(q_layout)?;
        let kv_shape = HeadsShape::of(k_layout)?;
        let HeadsShape { batch, length: queries, heads, head_dim } = q_shape;
        let HeadsShape { length: keys, heads: kv_heads, .. } = kv_shape;
        let q = Heads::of(q, q_layout)?;
        let k = Heads::of(k, k_layout)?;
        let v = Heads::of(v, v_layout)?;
        let fits = HeadsShape::of(v_layout)? == kv_shape
            && kv_shape.batch == batch
            && kv_shape.head_dim == head_dim
            && heads.is_multiple_of(kv_heads);
        if !fits {
            candle_core::bail!("queries {q_shape:?} do not fit keys {kv_shape:?}");
        }
        let guard = self.mask.as_ref().map(Tensor::storage_and_layout);
        let mask = match &guard {
            Some(guard) => Some(Mask::of(guard, queries * keys, batch)?),
            None => None,
        };
        // SAFETY: the tasks cover all samples, heads and queries.
        let mut output = unsafe { threads::uninitialized(batch * queries * heads * head_dim) };
        let shared = SharedOutput::of(&mut output);
        let stride = heads * head_dim;
        let chunks = queries.div_ceil(TASK_QUERIES_MAX);
        threads::parallel_for(batch * heads * chunks, |tasks| {
            for task in tasks {
                let first = task % chunks * TASK_QUERIES_MAX;
                let head = task / chunks % heads;
                let sample = task / chunks / heads;
                let kv_head = head / (heads / kv_heads);
                let mask = mask.and_then(|it| it.of_sample(sample));
                let task = HeadTask { q, k, v, mask, sample, head, kv_head, head_dim, keys };
                let count = TASK_QUERIES_MAX.min(queries - first);
                let offset = (sample * queries + first) * stride + head * head_dim;
                if count <= UNPACKED_QUERIES_MAX {
                    for query in 0..count {
                        // SAFETY: this row of this head belongs to this task.
                        let row = unsafe { shared.slice(offset + query * stride, head_dim) };
                        task.attend_single(first + query, row);
                    }
                } else {
                    // SAFETY: the offset is within the output.
                    let task_output = unsafe { shared.offset(offset) };
                    task.attend_many(first, count, task_output, stride);
                }
            }
        });
        Ok((CpuStorage::F32(output), Shape::from((batch, queries, heads * head_dim))))
    }
}

/// Scaled dot-product attention of queries `[B, L, H, d]` to keys and values `[B, S, G, d]`; `mask`
/// `[B or 1, L, S]` is added to the scores. Returns `[B, L, H * d]`.
///
/// # Errors
///
/// Fails if the shapes do not fit.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
    let mask = mask.map(Tensor::contiguous).transpose()?;
    q.apply_op3(k, v, Attention { mask })
}

#[cfg(test)]
mod tests {
    use candle_core::{D, DType, Device, Tensor, Var};

    use super::attention;
    use crate::simd::tests::with_each;

    fn expected(q: &Tensor, k: &Tensor, v: &Tensor, mask: Option<&Tensor>) -> Tensor {
        let (batch, queries, heads, width) = q.dims4().unwrap();
        let (_, keys, groups, _) = k.dims4().unwrap();
        let many = |it: &Tensor| {
            let it = it.reshape((batch, keys, groups, 1, width)).unwrap();
            let it = it.broadcast_as((batch, keys, groups, heads / groups, width)).unwrap();
            let it = it.contiguous().unwrap().reshape((batch, keys, heads, width)).unwrap();
            it.transpose(1, 2).unwrap().contiguous().unwrap()
        };
        let q = q.transpose(1, 2).unwrap().contiguous().unwrap();
        let scores = q.matmul(&many(k).transpose(2, 3).unwrap()).unwrap();
        let scores = (scores / (width as f64).sqrt()).unwrap();
        let scores = match mask {
            Some(mask) => scores.broadcast_add(&mask.unsqueeze(1).unwrap()).unwrap(),
            None => scores,
        };
        let shares = candle_nn::ops::softmax(&scores, D::Minus1).unwrap();
        let out = shares.matmul(&many(v)).unwrap().transpose(1, 2).unwrap();
        out.contiguous().unwrap().reshape((batch, queries, heads * width)).unwrap()
    }

    #[test]
    fn attention_gives_what_candle_gives() {
        let random = |shape: [usize; 4]| Tensor::randn(0_f32, 1.0, &shape, &Device::Cpu).unwrap();
        for (batch, queries, keys, heads, groups, width) in [
            (1, 1, 1, 1, 1, 4),
            (2, 1, 300, 4, 2, 32),
            (3, 7, 9, 4, 1, 5),
            (1, 600, 700, 2, 2, 80),
            (2, 49, 49, 2, 2, 96),
        ] {
            let q = random([batch, queries, heads, width]);
            // Views of one tensor, as from one product.
            let both = random([batch, keys, 2 * groups, width]);
            let k = both.narrow(2, 0, groups).unwrap();
            let v = both.narrow(2, groups, groups).unwrap();
            let before = keys.saturating_sub(queries);
            let hidden = |it: usize| it % keys > before + it / keys;
            let mask =
                (0..queries * keys).map(|it| if hidden(it) { f32::NEG_INFINITY } else { 0.0 });
            let mask = Tensor::from_vec(mask.collect(), (1, queries, keys), &Device::Cpu).unwrap();
            for mask in [None, Some(&mask)] {
                let expected = expected(&q, &k, &v, mask);
                with_each(|instructions| {
                    let found = attention(&q, &k, &v, mask).unwrap();
                    let difference = (&found - &expected).unwrap().abs().unwrap().flatten_all();
                    let difference = difference.unwrap().max(0).unwrap();
                    let difference = difference.to_scalar::<f32>().unwrap();
                    let shape = (queries, keys, width);
                    assert!(difference < 1e-5, "{instructions:?} {shape:?}: {difference}");
                });
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let ones = |shape: [usize; 4]| Tensor::ones(&shape, DType::F32, &Device::Cpu).unwrap();
        let q = ones([1, 2, 3, 4]);
        let k = ones([1, 2, 2, 4]);
        assert!(attention(&q, &k, &k, None).is_err());
        for shape in [(1, 2, 5), (2, 2, 2)] {
            let mask = Tensor::ones(shape, DType::F32, &Device::Cpu).unwrap();
            assert!(attention(&q, &q, &q, Some(&mask)).is_err());
        }
    }

    #[test]
    fn a_gradient_is_refused_and_not_left_out() {
        let q = Var::ones((1, 2, 3, 4), DType::F32, &Device::Cpu).unwrap();
        let k = q.as_detached_tensor();
        assert!(attention(&q, &k, &k, None).unwrap().sum_all().unwrap().backward().is_err());
        assert!(attention(&k, &k, &q, None).unwrap().sum_all().unwrap().backward().is_err());
    }
}
