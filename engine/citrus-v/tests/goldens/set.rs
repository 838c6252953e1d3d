//! A set of inputs and outputs of the reference implementations: the one of the project, or the one
//! that `ISOCENTER_GOLDENS` names. Also read by the tests of the crate `training`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use candle_core::{DType, Device, Tensor};
use citrus_v::compute::Compute;
use serde_json::Value;

/// The device of all computations: the CPU, or what `ISOCENTER_DEVICE` names (`cuda`). The device
/// is opened once, because tensors of different handles of a GPU cannot be combined.
pub(crate) fn device() -> Device {
    static DEVICE: LazyLock<Device> = LazyLock::new(|| {
        let name = std::env::var("ISOCENTER_DEVICE").unwrap_or_else(|_| "cpu".to_owned());
        name.parse::<Compute>().unwrap().device().unwrap().0
    });
    DEVICE.clone()
}

/// A folder with a set of inputs and outputs.
pub(crate) struct Set(pub(crate) PathBuf);

impl Set {
    /// The set of the project.
    pub(crate) fn own() -> Self {
        Self(Path::new(env!("CARGO_MANIFEST_DIR")).join("../citrus-v/tests/goldens/own"))
    }

    /// The sets that have this file: the project's own, which must have it, and the one that
    /// `ISOCENTER_GOLDENS` names, if it does.
    pub(crate) fn with(file: &str) -> Vec<Self> {
        let own = Self::own();
        assert!(own.path(file).exists(), "the set of the project has no {file}");
        let other = std::env::var_os("ISOCENTER_GOLDENS").map(|it| Self(PathBuf::from(it)));
        let is_usable = |it: &Self| it.path("MANIFEST.json").exists() && it.path(file).exists();
        std::iter::once(own).chain(other.filter(is_usable)).collect()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn json(&self, name: &str) -> Value {
        serde_json::from_str(&std::fs::read_to_string(self.path(name)).unwrap()).unwrap()
    }

    pub(crate) fn tensors(&self, name: &str) -> Tensors {
        Tensors(candle_core::safetensors::load(self.path(name), &device()).unwrap())
    }
}

/// The tensors of a file, by name.
pub(crate) struct Tensors(pub(crate) HashMap<String, Tensor>);

impl Tensors {
    pub(crate) fn get(&self, name: &str) -> &Tensor {
        self.0.get(name).unwrap_or_else(|| panic!("the set has no `{name}`"))
    }

    pub(crate) fn numbers(&self, name: &str) -> Vec<i64> {
        // A GPU does not convert every number type to this one.
        let tensor = self.get(name).to_device(&Device::Cpu).unwrap().to_dtype(DType::I64).unwrap();
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    }

    pub(crate) fn ids(&self, name: &str) -> Vec<u32> {
        self.numbers(name).into_iter().map(|it| u32::try_from(it).unwrap()).collect()
    }

    pub(crate) fn bytes(&self, name: &str) -> Vec<u8> {
        self.get(name).flatten_all().unwrap().to_vec1().unwrap()
    }
}

/// Fails unless every number is within `abs` plus `rel` times the expected number.
#[track_caller]
pub(crate) fn assert_close(what: &str, found: &Tensor, expected: &Tensor, abs: f32, rel: f32) {
    let flat = |it: &Tensor| {
        it.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap()
    };
    let found = flat(found);
    let expected = flat(expected);
    assert_eq!(found.len(), expected.len(), "{what}");
    let excess = found.iter().zip(&expected).map(|(a, b)| (a - b).abs() - abs - rel * b.abs());
    let worst = excess.fold(f32::NEG_INFINITY, f32::max);
    assert!(worst <= 0.0, "{what}: {worst} beyond what is tolerated");
}

/// Every fourth row of an axis.
pub(crate) fn every_fourth(x: &Tensor, axis: usize) -> Tensor {
    let side = u32::try_from(x.dim(axis).unwrap()).unwrap();
    let rows: Vec<u32> = (0..side).step_by(4).collect();
    x.index_select(&Tensor::new(rows, &device()).unwrap(), axis).unwrap()
}
