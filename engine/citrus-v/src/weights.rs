//! The weights of a checkpoint whose plan fits: mapped, and brought into the form they are computed with.
#![expect(unsafe_code, reason = "a file is mapped into memory")]

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use candle_core::quantized::{GgmlDType, QMatMul, QTensor};
use candle_core::safetensors::MmapedSafetensors;
use candle_core::{DType, Device, Tensor, Var};
use cpu_kernels::packed::Packed;

use crate::plan::{Misfit, Plan, WeightsError, is_of_text};

/// How exactly weights are kept in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// Each as one of these numbers.
    Full(DType),
    /// Those of the language model's products in eight bits, 32 sharing a scale (`Q8_0`); all else in
    /// f32.
    Eight,
}

impl From<DType> for Precision {
    fn from(dtype: DType) -> Self {
        Self::Full(dtype)
    }
}

/// The weight of a product.
#[derive(Clone, Debug)]
pub enum Product {
    /// As it is, `[out, in]`.
    Full(Tensor),
    /// As the CPU multiplies it, with the bias of its layer.
    Packed(Packed),
    /// In eight bits.
    Eight(QMatMul),
}

/// The weights of a checkpoint, mapped.
pub struct Weights {
    plan: Plan,
    files: Vec<MmapedSafetensors>,
    device: Device,
    dtype: DType,
    is_eight: bool,
    /// What training changes, by our names, if it is to.
    variables: Option<Mutex<BTreeMap<String, Var>>>,
}

impl Weights {
    /// Maps the files of a plan. Tensors come out with this precision on `device`.
    ///
    /// # Errors
    ///
    /// Fails if a file cannot be mapped.
    pub fn open(
        plan: Plan,
        precision: impl Into<Precision>,
        device: &Device,
    ) -> Result<Self, WeightsError> {
        let (dtype, is_eight) = match precision.into() {
            Precision::Full(dtype) => (dtype, false),
            Precision::Eight => (DType::F32, true),
        };
        let mut files = Vec::new();
        for path in &plan.files {
            // SAFETY: nobody writes to the files of a checkpoint that is in use: they are the site's own, or,
            // linked, of somebody who was told that they must not change.
            files.push(unsafe { MmapedSafetensors::new(path) }?);
        }
        let device = device.clone();
        Ok(Self { plan, files, device, dtype, is_eight, variables: None })
    }

    /// The same, for training: what is taken from it can be changed, and is remembered.
    ///
    /// # Errors
    ///
    /// Fails if a file cannot be mapped.
    pub fn open_for_training(plan: Plan, device: &Device) -> Result<Self, WeightsError> {
        let weights = Self::open(plan, DType::F32, device)?;
        Ok(Self { variables: Some(Mutex::default()), ..weights })
    }

    /// What was taken from it and can be changed, by our names.
    pub fn variables(&self) -> BTreeMap<String, Var> {
        let taken = self.variables.as_ref();
        taken
            .map(|it| it.lock().unwrap_or_else(PoisonError::into_inner).clone())
            .unwrap_or_default()
    }

    /// Where tensors are put.
    pub const fn device(&self) -> &Device {
        &self.device
    }

    /// What kind of numbers they come out as.
    pub const fn dtype(&self) -> DType {
        self.dtype
    }

    /// A tensor by our name for it.
    ///
    /// # Errors
    ///
    /// Fails if it is not there or cannot be read.
    pub fn get(&self, name: &str) -> Result<Tensor, WeightsError> {
        let Some(variables) = &self.variables else { return self.read(name) };
        let mut variables = variables.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(variable) = variables.get(name) {
            return Ok(variable.as_tensor().clone());
        }
        let variable = Var::from_tensor(&self.read(name)?)?;
        let tensor = variable.as_tensor().clone();
        variables.insert(name.to_owned(), variable);
        Ok(tensor)
    }

    fn read(&self, name: &str) -> Result<Tensor, WeightsError> {
        let missing = || Misfit { missing: vec![name.to_owned()], ..Misfit::default() };
        let place = self.plan.tensors.get(name);
        let place = place.ok_or_else(|| WeightsError::Misfit(missing()))?;
        let file = self.files.get(place.file);
        let file = file.ok_or_else(|| WeightsError::Misfit(missing()))?;
        let tensor = file.load(&place.name, &self.device)?.to_dtype(self.dtype)?;
        match place.row {
            Some(row) => Ok(tensor.narrow(0, row, 1)?.contiguous()?),
            None => Ok(tensor),
        }
    }

    /// The weight of a product of the language model, in eight bits if that was asked for.
    ///
    /// # Errors
    ///
    /// Fails if it is not there or cannot be read.
    pub fn product(&self, name: &str) -> Result<Product, WeightsError> {
        let full = self.get(name)?;
        if !self.is_eight || !is_of_text(name) {
            return Ok(Product::Full(full));
        }
        if full.dim(1)? % GgmlDType::Q8_0.block_size() != 0 {
            return Ok(Product::Full(full));
        }
        let eight = QTensor::quantize(&full, GgmlDType::Q8_0)?;
        Ok(Product::Eight(QMatMul::from_qtensor(eight)?))
    }

    /// The same, if it is there.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be read.
    pub fn get_if_there(&self, name: &str) -> Result<Option<Tensor>, WeightsError> {
        if self.plan.tensors.contains_key(name) { self.get(name).map(Some) } else { Ok(None) }
    }
}
