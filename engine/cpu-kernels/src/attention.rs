//! Scaled attention of queries `[B, L, H, d]` to keys and values `[B, S, G, d]`, heads of queries sharing
//! those of keys, as they lie in memory: `[B, L, H * d]` comes out. Keys go by in pieces, with a running
//! largest score and sum, so that no more than a piece of the scores exists.

use std::ops::Deref;

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Storage, Tensor};

use crate::rows::{add, add_times, dot, most, scale, shares};
use crate::threads::{self, Shared};
use crate::tile::{Multiplication, PANEL, Rows, RowsMut, Size, multiply};
use crate::{contiguous, outside};

/// Queries that share one copy of a piece of keys and values.
const QUERIES_MAX: usize = 512;

/// Keys of a piece.
const KEYS_MAX: usize = 256;

/// Queries whose scores are in the cache together.
const STRIP: usize = 48;

/// So many queries or fewer read keys and values as they lie: copying them would be most of the work.
const FEW: usize = 4;

/// Numbers of a tensor `[B, L, H, d]` and how far they are apart.
#[derive(Clone, Copy)]
struct Heads<'a> {
    numbers: &'a [f32],
    by_sample: usize,
    by_place: usize,
    by_head: usize,
}

impl<'a> Heads<'a> {
    fn of(storage: &'a CpuStorage, layout: &Layout) -> Result<(Self, [usize; 4])> {
        let dims = layout.shape().dims4()?;
        let dims = [dims.0, dims.1, dims.2, dims.3];
        let [by_sample, by_place, by_head, 1] = *layout.stride() else {
            candle_core::bail!("the numbers of a head do not lie one after the other");
        };
        let numbers = storage.as_slice::<f32>()?.get(layout.start_offset()..);
        let numbers = numbers.ok_or_else(|| outside("a head"))?;
        let it = Self { numbers, by_sample, by_place, by_head };
        let last = dims.map(|it| it.saturating_sub(1));
        if it.at(last[0], last[1], last[2]) + dims[3] > numbers.len() || dims.contains(&0) {
            return Err(outside("a head"));
        }
        Ok((it, dims))
    }

    const fn at(self, sample: usize, place: usize, head: usize) -> usize {
        sample * self.by_sample + place * self.by_place + head * self.by_head
    }

    fn head(self, sample: usize, place: usize, head: usize, width: usize) -> &'a [f32] {
        let at = self.at(sample, place, head);
        self.numbers.get(at..at + width).unwrap_or_default()
    }
}

struct Attention {
    /// What is added to the scores, `[B or 1, L, S]`.
    mask: Option<Tensor>,
}

/// Numbers of a mask of so many queries and keys, and of how many samples.
fn mask_of<'a>(
    held: Option<&'a (impl Deref<Target = Storage>, &Layout)>,
    own: usize,
    batch: usize,
) -> Result<Option<(&'a [f32], usize)>> {
    let Some((storage, layout)) = held else { return Ok(None) };
    let Storage::Cpu(storage) = &**storage else { return Err(outside("a mask")) };
    let numbers = contiguous(storage, layout)?;
    let rows = numbers.len() / own;
    if rows == 0 || numbers.len() != rows * own || !batch.is_multiple_of(rows) {
        return Err(outside("a mask"));
    }
    Ok(Some((numbers, rows)))
}

/// One head of one sample.
struct Job<'a> {
    q: Heads<'a>,
    k: Heads<'a>,
    v: Heads<'a>,
    /// Rows of the mask.
    mask: Option<&'a [f32]>,
    sample: usize,
    head: usize,
    group: usize,
    width: usize,
    keys: usize,
}

impl Job<'_> {
    fn mask(&self, query: usize, first: usize, count: usize) -> Option<&[f32]> {
        let at = query * self.keys + first;
        self.mask.and_then(|it| it.get(at..at + count))
    }

    fn factor(&self) -> f32 {
        1.0 / (self.width as f32).sqrt()
    }

    /// A single query: each key is read where it lies.
    fn few(&self, query: usize, to: &mut [f32]) {
        let q = self.q.head(self.sample, query, self.head, self.width);
        let mut scores: Vec<f32> = (0..self.keys)
            .map(|key| dot(q, self.k.head(self.sample, key, self.group, self.width)))
            .collect();
        scale(&mut scores, self.factor());
        if let Some(mask) = self.mask(query, 0, self.keys) {
            add(&mut scores, mask);
        }
        let most = most(&scores);
        let sum = shares(&mut scores, most);
        to.fill(0.0);
        for (key, share) in scores.iter().enumerate() {
            add_times(to, self.v.head(self.sample, key, self.group, self.width), share / sum);
        }
    }

    /// Many queries, `first..first + count`, `to` being rows of `stride`.
    fn many(&self, first: usize, count: usize, to: Shared, stride: usize) {
        let width = self.width;
        let panels = width.div_ceil(PANEL);
        let mut k = vec![0.0; width * KEYS_MAX.next_multiple_of(PANEL)];
        let mut v = vec![0.0; panels * KEYS_MAX * PANEL];
        let mut scores = vec![0.0; STRIP * KEYS_MAX];
        let mut sums = vec![(f32::NEG_INFINITY, 0.0); count];
        for start in (0..self.keys).step_by(KEYS_MAX) {
            let keys = KEYS_MAX.min(self.keys - start);
            self.pack(start, keys, &mut k, &mut v);
            for strip in (0..count).step_by(STRIP) {
                let rows = STRIP.min(count - strip);
                self.scores(first + strip, rows, keys, &k, &mut scores);
                for row in 0..rows {
                    let scores = scores.get_mut(row * keys..(row + 1) * keys).unwrap_or_default();
                    scale(scores, self.factor());
                    if let Some(mask) = self.mask(first + strip + row, start, keys) {
                        add(scores, mask);
                    }
                    let Some((largest, sum)) = sums.get_mut(strip + row) else { continue };
                    let now = most(scores).max(*largest);
                    // All hidden so far: no key has a share yet.
                    let base = if now == f32::NEG_INFINITY { 0.0 } else { now };
                    let shrunk = (*largest - base).exp();
                    let part = shares(scores, base);
                    *sum = *sum * shrunk + part;
                    *largest = now;
                    if start > 0 {
                        // SAFETY: these rows of this head are nobody else's.
                        scale(unsafe { to.part((strip + row) * stride, width) }, shrunk);
                    }
                }
                for panel in 0..panels {
                    let columns = PANEL.min(width - panel * PANEL);
                    let size = Size { rows, columns, inner: keys };
                    // SAFETY: scores and values are as large, and the rows are nobody else's.
                    unsafe {
                        let left = Rows { start: scores.as_ptr(), stride: keys };
                        let to = to.at(strip * stride + panel * PANEL);
                        let (panel, to) = (
                            v.as_ptr().add(panel * KEYS_MAX * PANEL),
                            RowsMut { start: to, stride },
                        );
                        multiply(Multiplication { size, left, panel, to, is_added: start > 0 });
                    }
                }
            }
        }
        for (row, (_, sum)) in sums.into_iter().enumerate() {
            // SAFETY: these rows of this head are nobody else's.
            scale(unsafe { to.part(row * stride, width) }, 1.0 / sum);
        }
    }

    /// A piece of keys, `[d, 64]` each, and of values, `[keys, 64]` each.
    fn pack(&self, start: usize, keys: usize, k: &mut [f32], v: &mut [f32]) {
        for key in 0..keys {
            let from = self.k.head(self.sample, start + key, self.group, self.width);
            let place = (key / PANEL) * self.width * PANEL + key % PANEL;
            let to = k.iter_mut().skip(place).step_by(PANEL);
            to.zip(from).for_each(|(to, from)| *to = *from);
            let from = self.v.head(self.sample, start + key, self.group, self.width);
            for (panel, from) in from.chunks(PANEL).enumerate() {
                let at = (panel * KEYS_MAX + key) * PANEL;
                if let Some(to) = v.get_mut(at..at + from.len()) {
                    to.copy_from_slice(from);
                }
            }
        }
    }

    fn scores(&self, query: usize, rows: usize, keys: usize, k: &[f32], scores: &mut [f32]) {
        let at = self.q.at(self.sample, query, self.head);
        for panel in 0..keys.div_ceil(PANEL) {
            let columns = PANEL.min(keys - panel * PANEL);
            let size = Size { rows, columns, inner: self.width };
            // SAFETY: so many queries are there, the panel is packed, and the scores have the room.
            unsafe {
                let left = self.q.numbers.as_ptr().add(at);
                let left = Rows { start: left, stride: self.q.by_place };
                let to = scores.as_mut_ptr().add(panel * PANEL);
                let to = RowsMut { start: to, stride: keys };
                let panel = k.as_ptr().add(panel * self.width * PANEL);
                multiply(Multiplication { size, left, panel, to, is_added: false });
            }
        }
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
        let (q, [batch, queries, heads, width]) = Heads::of(q, q_layout)?;
        let (k, k_dims) = Heads::of(k, k_layout)?;
        let (v, v_dims) = Heads::of(v, v_layout)?;
        let [_, keys, groups, _] = k_dims;
        if k_dims != v_dims || k_dims[0] != batch || k_dims[3] != width || heads % groups != 0 {
            candle_core::bail!("queries {:?} do not fit keys {k_dims:?}", q_layout.dims());
        }
        let own = queries * keys;
        let held = self.mask.as_ref().map(Tensor::storage_and_layout);
        let masks = mask_of(held.as_ref(), own, batch)?;
        let mask_of = |sample: usize| {
            let (numbers, rows) = masks?;
            numbers.get(sample % rows * own..(sample % rows + 1) * own)
        };
        // SAFETY: the jobs make up all samples, heads and queries.
        let mut to = unsafe { threads::unwritten(batch * queries * heads * width) };
        let (shared, stride) = (Shared::of(&mut to), heads * width);
        let chunks = queries.div_ceil(QUERIES_MAX);
        threads::each(batch * heads * chunks, |jobs| {
            for job in jobs {
                let (chunk, head, sample) =
                    (job % chunks, job / chunks % heads, job / chunks / heads);
                let group = head / (heads / groups);
                let mask = mask_of(sample);
                let job = Job { q, k, v, mask, sample, head, group, width, keys };
                let first = chunk * QUERIES_MAX;
                let count = QUERIES_MAX.min(queries - first);
                let at = (sample * queries + first) * stride + head * width;
                if count <= FEW {
                    for query in 0..count {
                        // SAFETY: this row of this head is nobody else's.
                        job.few(first + query, unsafe { shared.part(at + query * stride, width) });
                    }
                } else {
                    // SAFETY: the place is within the result.
                    let to = unsafe { shared.from(at) };
                    job.many(first, count, to, stride);
                }
            }
        });
        Ok((CpuStorage::F32(to), Shape::from((batch, queries, heads * width))))
    }
}

/// Attention of `[B, L, H, d]` to `[B, S, G, d]`; `mask` `[B or 1, L, S]` is added to the scores.
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
    use crate::lanes::tests::with_each;

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
    fn it_gives_what_candle_gives() {
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
            let (k, v) =
                (both.narrow(2, 0, groups).unwrap(), both.narrow(2, groups, groups).unwrap());
            let before = keys.saturating_sub(queries);
            let hidden = |it: usize| it % keys > before + it / keys;
            let mask =
                (0..queries * keys).map(|it| if hidden(it) { f32::NEG_INFINITY } else { 0.0 });
            let mask = Tensor::from_vec(mask.collect(), (1, queries, keys), &Device::Cpu).unwrap();
            for mask in [None, Some(&mask)] {
                let expected = expected(&q, &k, &v, mask);
                with_each(|instructions| {
                    let found = attention(&q, &k, &v, mask).unwrap();
                    let far = (&found - &expected).unwrap().abs().unwrap().flatten_all().unwrap();
                    let far = far.max(0).unwrap().to_scalar::<f32>().unwrap();
                    assert!(far < 1e-5, "{instructions:?} {queries} {keys} {width}: {far}");
                });
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let ones = |shape: [usize; 4]| Tensor::ones(&shape, DType::F32, &Device::Cpu).unwrap();
        let (q, k) = (ones([1, 2, 3, 4]), ones([1, 2, 2, 4]));
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
