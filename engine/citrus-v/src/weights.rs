//! The weights of a checkpoint: memory-mapped, and converted to the form in which they are computed
//! with.
#![expect(unsafe_code, reason = "a file is mapped into memory")]

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use candle_core::quantized::{GgmlDType, QMatMul, QTensor};
use candle_core::safetensors::MmapedSafetensors;
use candle_core::{DType, Device, Tensor, Var};
use cpu_kernels::packed_linear::PackedLinear;

use crate::checkpoint_index::{CheckpointIndex, Mismatch, WeightsError, is_of_language_model};

/// The precision of the weights in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// All weights in this number type.
    Full(DType),
    /// The linear layers of the language model in eight bits, blocks of 32 numbers sharing a scale
    /// (`Q8_0`); everything else in f32.
    Q8_0,
}

impl From<DType> for Precision {
    fn from(dtype: DType) -> Self {
        Self::Full(dtype)
    }
}

/// The weight of a linear layer.
#[derive(Clone, Debug)]
pub enum LinearWeight {
    /// A tensor `[out, in]`.
    Full(Tensor),
    /// Packed for multiplication on the CPU, with the bias of the layer.
    Packed(PackedLinear),
    /// Quantized to eight bits.
    Quantized(QMatMul),
}

/// The mapped weights of a checkpoint.
pub struct Weights {
    index: CheckpointIndex,
    files: Vec<MmapedSafetensors>,
    device: Device,
    dtype: DType,
    is_quantized: bool,
    training: Option<Training>,
}

/// The variables of weights that are opened for training.
struct Training {
    /// Whether the tensor with this canonical name is trained.
    is_trained: Box<dyn Fn(&str) -> bool + Send + Sync>,
    /// The variables that were read so far, by canonical name.
    variables: Mutex<BTreeMap<String, Var>>,
}

impl Weights {
    /// Maps the files of a checkpoint. Tensors are converted to this precision on `device`.
    ///
    /// # Errors
    ///
    /// Fails if a file cannot be mapped.
    pub fn open(
        index: CheckpointIndex,
        precision: impl Into<Precision>,
        device: &Device,
    ) -> Result<Self, WeightsError> {
        let precision = precision.into();
        let dtype = match precision {
            Precision::Full(dtype) => dtype,
            Precision::Q8_0 => DType::F32,
        };
        let mut files = Vec::new();
        for path in &index.files {
            // SAFETY: nobody writes to the files of a checkpoint in use: they are the site's own,
            // or linked, and whoever imports by link accepts that they must not change.
            files.push(unsafe { MmapedSafetensors::new(path) }?);
        }
        Ok(Self {
            index,
            files,
            device: device.clone(),
            dtype,
            is_quantized: precision == Precision::Q8_0,
            training: None,
        })
    }

    /// Maps the files of a checkpoint for training, in f32: every tensor becomes a variable.
    ///
    /// # Errors
    ///
    /// Fails if a file cannot be mapped.
    pub fn open_for_training(
        index: CheckpointIndex,
        device: &Device,
    ) -> Result<Self, WeightsError> {
        Self::open_for_partial_training(index, device, |_| true)
    }

    /// As [`open_for_training`](Self::open_for_training), but only the tensors become variables of
    /// which `is_trained` says so by their canonical name. The others are as for inference.
    ///
    /// # Errors
    ///
    /// Fails if a file cannot be mapped.
    pub fn open_for_partial_training(
        index: CheckpointIndex,
        device: &Device,
        is_trained: impl Fn(&str) -> bool + Send + Sync + 'static,
    ) -> Result<Self, WeightsError> {
        let weights = Self::open(index, DType::F32, device)?;
        let is_trained = Box::new(is_trained);
        let training = Training { is_trained, variables: Mutex::default() };
        Ok(Self { training: Some(training), ..weights })
    }

    /// The variables that were read so far, by canonical name; empty unless opened for training.
    pub fn variables(&self) -> BTreeMap<String, Var> {
        match &self.training {
            Some(training) => {
                training.variables.lock().unwrap_or_else(PoisonError::into_inner).clone()
            }
            None => BTreeMap::new(),
        }
    }

    /// The device of the tensors.
    pub const fn device(&self) -> &Device {
        &self.device
    }

    /// The number type of the tensors.
    pub const fn dtype(&self) -> DType {
        self.dtype
    }

    /// The canonical names of all tensors of the checkpoint.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.index.tensors.keys().map(String::as_str)
    }

    /// The tensor with this canonical name.
    ///
    /// # Errors
    ///
    /// Fails if it is missing or cannot be read.
    pub fn get(&self, name: &str) -> Result<Tensor, WeightsError> {
        let Some(training) = self.training.as_ref().filter(|it| (it.is_trained)(name)) else {
            return self.read(name);
        };
        let mut variables = training.variables.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(variable) = variables.get(name) {
            return Ok(variable.as_tensor().clone());
        }
        let variable = Var::from_tensor(&self.read(name)?)?;
        let tensor = variable.as_tensor().clone();
        variables.insert(name.to_owned(), variable);
        Ok(tensor)
    }

    /// The tensor with this canonical name, if there is one.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be read.
    pub fn find(&self, name: &str) -> Result<Option<Tensor>, WeightsError> {
        if self.index.tensors.contains_key(name) { self.get(name).map(Some) } else { Ok(None) }
    }

    fn read(&self, name: &str) -> Result<Tensor, WeightsError> {
        let location = self.index.tensors.get(name).ok_or_else(|| missing(name))?;
        let file = self.files.get(location.file).ok_or_else(|| missing(name))?;
        let tensor = file.load(&location.name, &self.device)?.to_dtype(self.dtype)?;
        match location.row {
            Some(row) => Ok(tensor.narrow(0, row, 1)?.contiguous()?),
            None => Ok(tensor),
        }
    }

    /// The weight of a linear layer, quantized if requested and possible.
    ///
    /// # Errors
    ///
    /// Fails if it is missing or cannot be read.
    pub fn linear_weight(&self, name: &str) -> Result<LinearWeight, WeightsError> {
        let weight = self.get(name)?;
        if !self.is_quantized || !is_of_language_model(name) {
            return Ok(LinearWeight::Full(weight));
        }
        if weight.dim(1)? % GgmlDType::Q8_0.block_size() != 0 {
            return Ok(LinearWeight::Full(weight));
        }
        let quantized = QTensor::quantize(&weight, GgmlDType::Q8_0)?;
        Ok(LinearWeight::Quantized(QMatMul::from_qtensor(quantized)?))
    }
}

fn missing(name: &str) -> WeightsError {
    WeightsError::Mismatch(Mismatch { missing: vec![name.to_owned()], ..Mismatch::default() })
}
