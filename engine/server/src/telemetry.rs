//! The log and the metrics: what the engine reports about itself while it runs.

use std::fs::File;
use std::io::IsTerminal as _;
use std::path::Path;
use std::sync::Mutex;

use clap::ValueEnum;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use serde::Deserialize;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

use crate::output::Failure;

/// `log:` of the site file and `--log`: how the log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object a line, for machines.
    Json,
}

/// What is logged unless `RUST_LOG` names another filter.
const DEFAULT_FILTER: &str = "info,sqlx=warn";

/// Starts the log: in `file`, or else on standard error.
///
/// # Errors
///
/// Fails if the file cannot be written.
pub(crate) fn start_log(format: LogFormat, file: Option<&Path>) -> Result<(), Failure> {
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER));
    let (writer, is_terminal) = match file {
        Some(path) => {
            let file = File::options().create(true).append(true).open(path);
            let file = file.map_err(|error| Failure::from_error("cannot write the log", &error))?;
            (BoxMakeWriter::new(Mutex::new(file)), false)
        }
        None => (BoxMakeWriter::new(std::io::stderr), std::io::stderr().is_terminal()),
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(is_terminal)
        // A log that cannot be written cannot report that either, and must not end the caller.
        .log_internal_errors(false)
        .with_writer(writer);
    // A second call, in a test, changes nothing.
    _ = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    Ok(())
}

/// Starts to count what `/metrics` shows.
///
/// # Errors
///
/// Fails if a recorder was installed before.
pub(crate) fn start_metrics() -> Result<PrometheusHandle, Failure> {
    let recorder = PrometheusBuilder::new();
    recorder
        .install_recorder()
        .map_err(|error| Failure::from_error("cannot start the metrics", &error))
}
