//! Arguments of every command that reads a whole site: `serve`, `check`, `test`, `workflow`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use crate::telemetry::LogFormat;

/// Parts of a site that the command line names instead of the site file.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct SiteArgs {
    /// The folder with workflow files.
    #[arg(long)]
    pub(crate) workflows: Option<PathBuf>,
    /// The folder with plugins. Default: the folder of this program, then `plugins` in the data
    /// folder.
    #[arg(long)]
    pub(crate) plugins: Option<PathBuf>,
    /// Where to listen for DICOM.
    #[arg(long)]
    pub(crate) dicom: Option<SocketAddr>,
    /// Where to listen for HL7.
    #[arg(long)]
    pub(crate) mllp: Option<SocketAddr>,
    /// Where to answer `/healthz`, `/metrics` and `/api`.
    #[arg(long)]
    pub(crate) http: Option<SocketAddr>,
    /// A folder that stands for every destination the site file does not name.
    #[arg(long)]
    pub(crate) folder: Option<PathBuf>,
    /// Accept nothing, work on nothing and send nothing until each is released: see
    /// `isocenter hold`.
    #[arg(long)]
    pub(crate) safe_mode: bool,
    /// Accept every peer on this machine, whatever its AE title.
    #[arg(long)]
    pub(crate) trust_loopback: bool,
    /// Load plugins that nobody has signed. For trials.
    #[arg(long)]
    pub(crate) allow_unsigned: bool,
    /// How to write the log.
    #[arg(long, value_enum)]
    pub(crate) log: Option<LogFormat>,
    /// Where to write the log, instead of standard error.
    #[arg(long)]
    pub(crate) log_file: Option<PathBuf>,
}
