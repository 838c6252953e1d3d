//! Where the network computes, and with which numbers.

use std::ffi::OsStr;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::str::FromStr;

use candle_core::{DType, Device, Result};
use serde::Deserialize;

/// A variable of the environment that glibc reads when a program starts, and what to say there: memory that
/// was used once stays. Results of a hundred megabytes come and go with every layer; asked of the system
/// anew, their pages cost more than what is computed. Other C libraries do not know it.
pub const MEMORY_STAYS: (&str, &str) =
    ("GLIBC_TUNABLES", "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=9223372036854775807");

/// Begins this program again with [`MEMORY_STAYS`], if it was not begun so.
///
/// # Errors
///
/// Fails if the program cannot be begun again.
pub fn begin_again_with_memory_that_stays() -> std::io::Result<()> {
    let (name, value) = MEMORY_STAYS;
    if std::env::var_os(name).is_some_and(|it| it == OsStr::new(value)) {
        return Ok(());
    }
    let program = std::env::current_exe()?;
    Err(Command::new(program).args(std::env::args_os().skip(1)).env(name, value).exec())
}

/// Where it is to compute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compute {
    /// On a GPU, if this program was built for one and there is one; else on the CPU.
    #[default]
    Auto,
    /// On the CPU.
    Cpu,
    /// On a GPU or not at all.
    Cuda,
}

impl Compute {
    /// As it is said.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
        }
    }

    /// The device, and the numbers that suit it: bf16 on a GPU; f32 on a CPU, whose products take no
    /// bf16.
    ///
    /// # Errors
    ///
    /// Fails if a GPU is asked for and cannot be had.
    pub fn device(self) -> Result<(Device, DType)> {
        let on_cpu = (Device::Cpu, DType::F32);
        let on_gpu = || Ok((Device::new_cuda(0)?, DType::BF16));
        match self {
            Self::Cpu => Ok(on_cpu),
            Self::Cuda => on_gpu(),
            Self::Auto => Ok(on_gpu().unwrap_or(on_cpu)),
        }
    }
}

impl FromStr for Compute {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let all = [Self::Auto, Self::Cpu, Self::Cuda];
        let found = all.into_iter().find(|it| it.name() == text);
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
            Ok((device, kind)) => {
                assert!(device.is_cuda() && kind == DType::BF16);
                assert!(Compute::Auto.device().unwrap().0.is_cuda());
            }
            Err(_) => assert!(Compute::Auto.device().unwrap().0.is_cpu()),
        }
    }
}
