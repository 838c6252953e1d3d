//! Linear layers with packed weights: `x W^T + b` with optional GELU and residual.
//!
//! `W` is packed once in panels of 64 outputs, each `[inputs, 64]`, in the order in which the GEMM
//! kernel reads it. The same order serves a single row, which reads every weight once from memory,
//! and thousands of rows, which read a panel from the cache.
//!
//! Without activation and residual, a layer passes the gradient on to its input. Its weight has
//! none: such a layer is not trained, and may lie between layers that are.

use std::ops::Range;
use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Device, Layout, Result, Shape, Tensor};

use crate::gemm::{Gemm, GemmSize, MatrixMut, MatrixRef, PANEL_COLUMNS, gemm};
use crate::threads::{self, SharedOutput};
use crate::vector_ops::{add_assign, gelu_in_place};
use crate::{contiguous, out_of_bounds};

/// The length of the sums of one pass: this part of a panel stays in the cache.
const INNER_MAX: usize = 1024;

/// The maximum number of rows in one task of a thread.
const TASK_ROWS_MAX: usize = 192;

/// Numbers aligned to a cache line.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct CacheLine([f32; 16]);

/// The activation of a linear layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// The identity.
    None,
    /// GELU, with the error function.
    Gelu,
}

/// A linear layer with packed weights and an optional bias.
#[derive(Clone, Debug)]
pub struct PackedLinear {
    lines: Arc<Vec<CacheLine>>,
    inputs: usize,
    outputs: usize,
    bias: Option<Arc<Vec<f32>>>,
}

impl PackedLinear {
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
        let start = layout.start_offset();
        let strides = layout.stride();
        let [output_stride, input_stride] = *strides else {
            candle_core::bail!("weights have two axes");
        };
        let panels = outputs.div_ceil(PANEL_COLUMNS);
        let mut lines = vec![CacheLine([0.0; 16]); panels * inputs * (PANEL_COLUMNS / 16)];
        for output in 0..outputs {
            let panel = output / PANEL_COLUMNS;
            let column = output % PANEL_COLUMNS;
            for input in 0..inputs {
                let line = (panel * inputs + input) * (PANEL_COLUMNS / 16) + column / 16;
                let number = numbers.get(start + output * output_stride + input * input_stride);
                let slot = lines.get_mut(line).and_then(|it| it.0.get_mut(column % 16));
                if let (Some(slot), Some(number)) = (slot, number) {
                    *slot = *number;
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
        let op = LinearOp { layer: self.clone(), activation };
        let x = x.contiguous()?;
        match residual {
            Some(residual) => x.apply_op2(&residual.contiguous()?, op),
            None => x.apply_op1(op),
        }
    }

    /// The weight `[out, in]` in its usual order, copied from the panels.
    fn weight(&self) -> Result<Tensor> {
        let mut numbers = Vec::with_capacity(self.outputs * self.inputs);
        for output in 0..self.outputs {
            let panel = output / PANEL_COLUMNS;
            let column = output % PANEL_COLUMNS;
            for input in 0..self.inputs {
                let line = (panel * self.inputs + input) * (PANEL_COLUMNS / 16) + column / 16;
                let number = self.lines.get(line).and_then(|it| it.0.get(column % 16));
                numbers.push(number.copied().unwrap_or_default());
            }
        }
        Tensor::from_vec(numbers, (self.outputs, self.inputs), &Device::Cpu)
    }

    /// The address of a panel, from input `inner` on.
    fn panel(&self, panel: usize, inner: usize) -> *const f32 {
        let first = self.lines.as_ptr().cast::<f32>();
        first.wrapping_add((panel * self.inputs + inner) * PANEL_COLUMNS)
    }
}

/// The operation of a layer with its fused activation.
struct LinearOp {
    layer: PackedLinear,
    activation: Activation,
}

impl LinearOp {
    fn run(&self, x: &[f32], residual: Option<&[f32]>) -> Result<Vec<f32>> {
        let PackedLinear { inputs, outputs, .. } = self.layer;
        if inputs == 0 || !x.len().is_multiple_of(inputs) {
            return Err(out_of_bounds("an input"));
        }
        let rows = x.len() / inputs;
        if residual.is_some_and(|it| it.len() != rows * outputs) {
            return Err(out_of_bounds("what is added"));
        }
        // SAFETY: the tasks cover all rows and all panels, and each task writes its part.
        let mut output = unsafe { threads::uninitialized(rows * outputs) };
        let shared = SharedOutput::of(&mut output);
        let panels = outputs.div_ceil(PANEL_COLUMNS);
        let row_blocks = rows.div_ceil(TASK_ROWS_MAX);
        let tasks = if rows <= TASK_ROWS_MAX { panels } else { 8 * threads::thread_count() };
        let panel_groups = tasks.div_ceil(row_blocks.max(1)).clamp(1, panels.max(1));
        let block_rows = rows.div_ceil(row_blocks.max(1));
        let group_panels = panels.div_ceil(panel_groups);
        threads::parallel_for(row_blocks * panel_groups, |tasks| {
            for task in tasks {
                let block = task / panel_groups;
                let group = task % panel_groups;
                let rows = block * block_rows..rows.min((block + 1) * block_rows);
                let panels = group * group_panels..panels.min((group + 1) * group_panels);
                self.run_task(x, rows, panels, shared, residual);
            }
        });
        Ok(output)
    }

    /// Computes some rows of some panels.
    fn run_task(
        &self,
        x: &[f32],
        rows: Range<usize>,
        panels: Range<usize>,
        output: SharedOutput,
        residual: Option<&[f32]>,
    ) {
        let PackedLinear { inputs, outputs, .. } = self.layer;
        let steps = inputs.div_ceil(INNER_MAX);
        let step = inputs.div_ceil(steps.max(1));
        for panel in panels {
            let first = panel * PANEL_COLUMNS;
            let columns = PANEL_COLUMNS.min(outputs - first);
            for inner in (0..inputs).step_by(step.max(1)) {
                let size = GemmSize { rows: rows.len(), columns, inner: step.min(inputs - inner) };
                // SAFETY: the size is within x, the panel and the output, and no other task writes
                // to this part of the output.
                unsafe {
                    let left = x.as_ptr().add(rows.start * inputs + inner);
                    let left = MatrixRef { start: left, stride: inputs };
                    let to = output.at(rows.start * outputs + first);
                    let to = MatrixMut { start: to, stride: outputs };
                    let panel = self.layer.panel(panel, inner);
                    gemm(Gemm { size, left, panel, to, accumulates: inner > 0 });
                }
            }
            for row in rows.clone() {
                let at = row * outputs + first;
                // SAFETY: no other task writes to these columns of this row.
                let part = unsafe { output.slice(at, columns) };
                self.finish(part, first, residual.and_then(|it| it.get(at..at + columns)));
            }
        }
    }

    /// Adds bias and residual, and applies the activation.
    fn finish(&self, part: &mut [f32], first: usize, residual: Option<&[f32]>) {
        let bias = self.layer.bias.as_ref().and_then(|it| it.get(first..first + part.len()));
        if let Some(bias) = bias {
            add_assign(part, bias);
        }
        match self.activation {
            Activation::None => {}
            Activation::Gelu => gelu_in_place(part),
        }
        if let Some(residual) = residual {
            add_assign(part, residual);
        }
    }

    fn shaped(&self, layout: &Layout, numbers: Vec<f32>) -> (CpuStorage, Shape) {
        let mut dims = layout.dims().to_vec();
        if let Some(last) = dims.last_mut() {
            *last = self.layer.outputs;
        }
        (CpuStorage::F32(numbers), Shape::from(dims))
    }

    fn check(&self, layout: &Layout) -> Result<()> {
        if layout.dims().last() == Some(&self.layer.inputs) {
            return Ok(());
        }
        candle_core::bail!("a layer of {} inputs gets {:?}", self.layer.inputs, layout.dims())
    }
}

impl CustomOp1 for LinearOp {
    fn name(&self) -> &'static str {
        "packed-linear"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        self.check(layout)?;
        let numbers = self.run(contiguous(x, layout)?, None)?;
        Ok(self.shaped(layout, numbers))
    }

    fn bwd(&self, x: &Tensor, _output: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        if self.activation != Activation::None {
            candle_core::bail!("a linear layer with a fused activation has no gradient");
        }
        let rows = gradient.reshape(((), self.layer.outputs))?;
        rows.matmul(&self.layer.weight()?)?.reshape(x.shape()).map(Some)
    }
}

impl CustomOp2 for LinearOp {
    fn name(&self) -> &'static str {
        "packed-linear"
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
    use candle_core::{Tensor, Var};

    use super::*;
    use crate::simd::tests::with_each;

    fn max_difference(a: &Tensor, b: &Tensor) -> f32 {
        let difference = (a - b).unwrap().abs().unwrap().flatten_all().unwrap();
        difference.max(0).unwrap().to_scalar::<f32>().unwrap()
    }

    #[test]
    fn a_packed_layer_gives_what_candle_gives() {
        let random = |shape: &[usize]| Tensor::randn(0_f32, 1.0, shape, &Device::Cpu).unwrap();
        for (rows, inputs, outputs) in
            [(1, 3, 1), (1, 64, 64), (5, 17, 70), (7, 100, 130), (300, 1100, 65), (500, 33, 8)]
        {
            let x = random(&[rows, inputs]);
            let weight = random(&[outputs, inputs]);
            let bias = random(&[outputs]);
            let residual = random(&[rows, outputs]);
            let expected = x.matmul(&weight.t().unwrap()).unwrap().broadcast_add(&bias).unwrap();
            let expected = (expected.gelu_erf().unwrap() + &residual).unwrap();
            let layer = PackedLinear::of(&weight, Some(&bias)).unwrap();
            with_each(|instructions| {
                let found = layer.forward(&x, Activation::Gelu, Some(&residual)).unwrap();
                let difference = max_difference(&found, &expected);
                let shape = (rows, inputs, outputs);
                assert!(difference < 1e-3, "{instructions:?} {shape:?}: {difference}");
            });
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let ones =
            |shape: &[usize]| Tensor::ones(shape, candle_core::DType::F32, &Device::Cpu).unwrap();
        let layer = PackedLinear::of(&ones(&[4, 3]), None).unwrap();
        assert!(layer.forward(&ones(&[2, 4]), Activation::None, None).is_err());
        assert!(layer.forward(&ones(&[2, 3]), Activation::None, Some(&ones(&[1, 4]))).is_err());
    }

    #[test]
    fn a_packed_layer_passes_the_gradient_on_that_candle_computes() {
        for (rows, inputs, outputs) in [(1, 3, 1), (2, 17, 70), (7, 100, 130)] {
            let x = Var::randn(0_f32, 1.0, (2, rows, inputs), &Device::Cpu).unwrap();
            let weight = Tensor::randn(0_f32, 1.0, (outputs, inputs), &Device::Cpu).unwrap();
            let layer = PackedLinear::of(&weight, None).unwrap();
            let gradient = |y: Tensor| {
                let store = y.sqr().unwrap().sum_all().unwrap().backward().unwrap();
                store.get(&x).unwrap().clone()
            };
            let found = gradient(layer.forward(&x, Activation::None, None).unwrap());
            let flat = x.reshape((2 * rows, inputs)).unwrap();
            let expected = gradient(flat.matmul(&weight.t().unwrap()).unwrap());
            let scale = expected.abs().unwrap().flatten_all().unwrap().max(0).unwrap();
            let scale = scale.to_scalar::<f32>().unwrap();
            assert!(max_difference(&found, &expected) < 1e-4 * scale, "{rows} {inputs} {outputs}");
        }
    }

    #[test]
    fn a_gradient_is_refused_and_not_left_out() {
        let x = Var::ones((2, 3), candle_core::DType::F32, &Device::Cpu).unwrap();
        let layer = PackedLinear::of(&x.as_detached_tensor(), None).unwrap();
        let residual = Tensor::ones((2, 2), x.dtype(), &Device::Cpu).unwrap();
        for (activation, residual) in
            [(Activation::None, Some(&residual)), (Activation::Gelu, None)]
        {
            let y = layer.forward(x.as_tensor(), activation, residual).unwrap();
            assert!(y.sum_all().unwrap().backward().is_err());
        }
    }
}
