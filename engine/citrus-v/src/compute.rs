//! The device to compute on, its number type, and the tuning of the memory allocator.

use std::ffi::OsStr;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::str::FromStr;

use candle_core::{DType, Device, Result};
use serde::Deserialize;

/// An environment variable and its value, with which glibc's `malloc` retains freed memory.
///
/// Activations of a hundred megabytes are allocated and freed with every layer. If the allocator
/// returned them to the system, the page faults would cost more than the computation. glibc reads
/// the variable when a program starts; other C libraries ignore it.
pub const RETAIN_FREED_MEMORY: (&str, &str) =
    ("GLIBC_TUNABLES", "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=9223372036854775807");

/// Executes this program again with [`RETAIN_FREED_MEMORY`], unless it is set already.
///
/// # Errors
///
/// Fails if the program cannot be executed.
pub fn restart_with_allocator_tuning() -> std::io::Result<()> {
    let (name, value) = RETAIN_FREED_MEMORY;
    if std::env::var_os(name).is_some_and(|it| it == OsStr::new(value)) {
        return Ok(());
    }
    let program = std::env::current_exe()?;
    Err(Command::new(program).args(std::env::args_os().skip(1)).env(name, value).exec())
}

/// The choice of a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compute {
    /// A GPU if this program was built for one and there is one, otherwise the CPU.
    #[default]
    Auto,
    /// The CPU, even if there is a GPU.
    Cpu,
    /// A GPU; without one, loading fails.
    Cuda,
}

impl Compute {
    /// All choices.
    const ALL: [Self; 3] = [Self::Auto, Self::Cpu, Self::Cuda];

    /// The name in configuration files and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
        }
    }

    /// The device and its number type: bf16 on a GPU, f32 on a CPU, whose matrix products do not
    /// support bf16.
    ///
    /// # Errors
    ///
    /// Fails if a GPU is requested and cannot be used.
    pub fn device(self) -> Result<(Device, DType)> {
        match self {
            Self::Cpu => Ok((Device::Cpu, DType::F32)),
            Self::Cuda => cuda_device(),
            Self::Auto => Ok(cuda_device().unwrap_or((Device::Cpu, DType::F32))),
        }
    }
}

fn cuda_device() -> Result<(Device, DType)> {
    Ok((Device::new_cuda(0)?, DType::BF16))
}

impl FromStr for Compute {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let found = Self::ALL.into_iter().find(|it| it.name() == text);
        found.ok_or_else(|| "auto, cpu or cuda".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_gpu_auto_is_the_cpu_and_cuda_is_refused() {
        assert!(matches!(Compute::Cpu.device().unwrap(), (Device::Cpu, DType::F32)));
        match Compute::Cuda.device() {
            Ok((device, dtype)) => {
                assert!(device.is_cuda() && dtype == DType::BF16);
                assert!(Compute::Auto.device().unwrap().0.is_cuda());
            }
            Err(_) => assert!(Compute::Auto.device().unwrap().0.is_cpu()),
        }
    }
}
