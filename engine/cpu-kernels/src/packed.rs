//! `x W^T + b`, with `W` laid out once as the multiplication reads it: in panels of 64 outputs, each
//! `[inner, 64]`. One such order serves a single row, which reads every weight once from memory, and
//! thousands, which read them from the cache.

use std::ops::Range;
use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor};

use crate::rows::{Activation, activate, add};
use crate::threads::{self, Shared};
use crate::tile::{Multiplication, PANEL, Rows, RowsMut, Size, multiply};
use crate::{contiguous, outside};

/// What is summed over in one go: so much of a panel stays in the cache.
const INNER_MAX: usize = 1024;

/// Rows that a thread takes at once, where there are many.
const ROWS_OF_A_THREAD: usize = 192;

/// Numbers that begin where a line of the cache does.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Line([f32; 16]);

/// Weights `[out, in]` in panels, and a bias.
#[derive(Clone, Debug)]
pub struct Packed {
    lines: Arc<Vec<Line>>,
    inputs: usize,
    outputs: usize,
    bias: Option<Arc<Vec<f32>>>,
}

impl Packed {
    /// Packs weights `[out, in]` and a bias `[out]`.
    ///
    /// # Errors
    ///
    /// Fails if they are not f32 on the CPU.
    pub fn of(weight: &Tensor, bias: Option<&Tensor>) -> Result<Self> {
        let (outputs, inputs) = weight.dims2()?;
        let (storage, layout) = weight.storage_and_layout();
        let candle_core::Storage::Cpu(storage) = &*storage else {
            candle_core::bail!("weights are packed on the CPU");
        };
        let numbers = storage.as_slice::<f32>()?;
        let (start, strides) = (layout.start_offset(), layout.stride());
        let (down, along) = match strides {
            [down, along] => (*down, *along),
            _ => candle_core::bail!("weights have two axes"),
        };
        let panels = outputs.div_ceil(PANEL);
        let mut lines = vec![Line([0.0; 16]); panels * inputs * (PANEL / 16)];
        for output in 0..outputs {
            let (panel, column) = (output / PANEL, output % PANEL);
            for input in 0..inputs {
                let line = (panel * inputs + input) * (PANEL / 16) + column / 16;
                let number = numbers.get(start + output * down + input * along);
                let place = lines.get_mut(line).and_then(|it| it.0.get_mut(column % 16));
                if let (Some(place), Some(number)) = (place, number) {
                    *place = *number;
                }
            }
        }
        let bias = bias.map(Tensor::to_vec1::<f32>).transpose()?.map(Arc::new);
        Ok(Self { lines: Arc::new(lines), inputs, outputs, bias })
    }

    /// `activation(x W^T + b)` of `[.., in]`, with `residual` added at the end.
    ///
    /// # Errors
    ///
    /// Fails if the shapes do not fit.
    pub fn forward(
        &self,
        x: &Tensor,
        activation: Activation,
        residual: Option<&Tensor>,
    ) -> Result<Tensor> {
        let product = Product { packed: self.clone(), activation };
        let x = x.contiguous()?;
        match residual {
            Some(residual) => x.apply_op2(&residual.contiguous()?, product),
            None => x.apply_op1(product),
        }
    }

    /// The panel that begins with output `panel * 64`, from input `inner` on.
    fn panel(&self, panel: usize, inner: usize) -> *const f32 {
        let first = self.lines.as_ptr().cast::<f32>();
        first.wrapping_add((panel * self.inputs + inner) * PANEL)
    }
}

struct Product {
    packed: Packed,
    activation: Activation,
}

impl Product {
    fn run(&self, x: &[f32], residual: Option<&[f32]>) -> Result<Vec<f32>> {
        let Packed { inputs, outputs, .. } = self.packed;
        if inputs == 0 || !x.len().is_multiple_of(inputs) {
            return Err(outside("an input"));
        }
        let rows = x.len() / inputs;
        if residual.is_some_and(|it| it.len() != rows * outputs) {
            return Err(outside("what is added"));
        }
        // SAFETY: the pieces make up all rows and all panels, and each piece is written.
        let mut to = unsafe { threads::unwritten(rows * outputs) };
        let (shared, panels) = (Shared::of(&mut to), outputs.div_ceil(PANEL));
        let blocks = rows.div_ceil(ROWS_OF_A_THREAD);
        let wanted = if rows <= ROWS_OF_A_THREAD { panels } else { 8 * threads::count() };
        let groups = wanted.div_ceil(blocks.max(1)).clamp(1, panels.max(1));
        let (high, wide) = (rows.div_ceil(blocks.max(1)), panels.div_ceil(groups));
        threads::each(blocks * groups, |pieces| {
            for piece in pieces {
                let (block, group) = (piece / groups, piece % groups);
                let rows = block * high..rows.min((block + 1) * high);
                let panels = group * wide..panels.min((group + 1) * wide);
                self.piece(x, rows, panels, shared, residual);
            }
        });
        Ok(to)
    }

    /// Some rows of some panels.
    fn piece(
        &self,
        x: &[f32],
        rows: Range<usize>,
        panels: Range<usize>,
        to: Shared,
        residual: Option<&[f32]>,
    ) {
        let Packed { inputs, outputs, .. } = self.packed;
        let steps = inputs.div_ceil(INNER_MAX);
        let step = inputs.div_ceil(steps.max(1));
        for panel in panels {
            let first = panel * PANEL;
            let columns = PANEL.min(outputs - first);
            for inner in (0..inputs).step_by(step.max(1)) {
                let size = Size { rows: rows.len(), columns, inner: step.min(inputs - inner) };
                // SAFETY: rows, columns and inner length are within x, the panel and the result, of
                // which this piece is nobody else's.
                unsafe {
                    let left = x.as_ptr().add(rows.start * inputs + inner);
                    let left = Rows { start: left, stride: inputs };
                    let to = to.at(rows.start * outputs + first);
                    let to = RowsMut { start: to, stride: outputs };
                    let panel = self.packed.panel(panel, inner);
                    multiply(Multiplication { size, left, panel, to, is_added: inner > 0 });
                }
            }
            for row in rows.clone() {
                let at = row * outputs + first;
                // SAFETY: these columns of this row are nobody else's.
                let part = unsafe { to.part(at, columns) };
                self.finish(part, first, residual.and_then(|it| it.get(at..at + columns)));
            }
        }
    }

    fn finish(&self, part: &mut [f32], first: usize, residual: Option<&[f32]>) {
        let bias = self.packed.bias.as_ref().and_then(|it| it.get(first..first + part.len()));
        if let Some(bias) = bias {
            add(part, bias);
        }
        activate(part, self.activation);
        if let Some(residual) = residual {
            add(part, residual);
        }
    }

    fn shaped(&self, layout: &Layout, numbers: Vec<f32>) -> (CpuStorage, Shape) {
        let mut dims = layout.dims().to_vec();
        if let Some(last) = dims.last_mut() {
            *last = self.packed.outputs;
        }
        (CpuStorage::F32(numbers), Shape::from(dims))
    }

    fn check(&self, layout: &Layout) -> Result<()> {
        if layout.dims().last() == Some(&self.packed.inputs) {
            return Ok(());
        }
        candle_core::bail!("a layer of {} inputs gets {:?}", self.packed.inputs, layout.dims())
    }
}

impl CustomOp1 for Product {
    fn name(&self) -> &'static str {
        "packed-product"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        self.check(layout)?;
        let numbers = self.run(contiguous(x, layout)?, None)?;
        Ok(self.shaped(layout, numbers))
    }
}

impl CustomOp2 for Product {
    fn name(&self) -> &'static str {
        "packed-product"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        layout: &Layout,
        residual: &CpuStorage,
        residual_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.check(layout)?;
        let residual = contiguous(residual, residual_layout)?;
        let numbers = self.run(contiguous(x, layout)?, Some(residual))?;
        Ok(self.shaped(layout, numbers))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor, Var};

    use super::*;
    use crate::lanes::tests::with_each;

    fn far(a: &Tensor, b: &Tensor) -> f32 {
        let far = (a - b).unwrap().abs().unwrap().flatten_all().unwrap();
        far.max(0).unwrap().to_scalar::<f32>().unwrap()
    }

    #[test]
    fn it_gives_what_candle_gives() {
        let random = |shape: &[usize]| Tensor::randn(0_f32, 1.0, shape, &Device::Cpu).unwrap();
        for (rows, inputs, outputs) in
            [(1, 3, 1), (1, 64, 64), (5, 17, 70), (7, 100, 130), (300, 1100, 65), (500, 33, 8)]
        {
            let (x, weight) = (random(&[rows, inputs]), random(&[outputs, inputs]));
            let (bias, residual) = (random(&[outputs]), random(&[rows, outputs]));
            let expected = x.matmul(&weight.t().unwrap()).unwrap().broadcast_add(&bias).unwrap();
            let expected = (expected.gelu_erf().unwrap() + &residual).unwrap();
            let packed = Packed::of(&weight, Some(&bias)).unwrap();
            with_each(|instructions| {
                let found = packed.forward(&x, Activation::Gelu, Some(&residual)).unwrap();
                let far = far(&found, &expected);
                assert!(far < 1e-3, "{instructions:?} {rows} {inputs} {outputs}: {far}");
            });
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let ones =
            |shape: &[usize]| Tensor::ones(shape, candle_core::DType::F32, &Device::Cpu).unwrap();
        let packed = Packed::of(&ones(&[4, 3]), None).unwrap();
        assert!(packed.forward(&ones(&[2, 4]), Activation::None, None).is_err());
        assert!(packed.forward(&ones(&[2, 3]), Activation::None, Some(&ones(&[1, 4]))).is_err());
    }

    #[test]
    fn a_gradient_is_refused_and_not_left_out() {
        let x = Var::ones((2, 3), candle_core::DType::F32, &Device::Cpu).unwrap();
        let packed = Packed::of(&x.as_detached_tensor(), None).unwrap();
        for residual in [None, Some(Tensor::ones((2, 2), x.dtype(), &Device::Cpu).unwrap())] {
            let y = packed.forward(x.as_tensor(), Activation::None, residual.as_ref()).unwrap();
            assert!(y.sum_all().unwrap().backward().is_err());
        }
    }
}
