//! `isocenter conformance`: the statements of conformance, written from the code.

use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::Execute;
use crate::output::{Failure, line};

/// Writes what the engine conforms to: the DICOM Conformance Statement, or the HL7 profile.
#[derive(Args)]
pub(crate) struct Conformance {
    /// The standard.
    #[arg(value_enum)]
    of: Standard,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Standard {
    /// DICOM, PS3.2.
    Dicom,
    /// HL7 v2.
    Hl7,
}

impl Execute for Conformance {
    async fn execute(self) -> Result<ExitCode, Failure> {
        let statement = match self.of {
            Standard::Dicom => dimse::conformance::statement(),
            Standard::Hl7 => hl7::conformance::profile(),
        };
        line(statement.trim_end());
        Ok(ExitCode::SUCCESS)
    }
}
