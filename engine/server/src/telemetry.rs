//! The log and the metrics.

use std::fs::File;
use std::io::IsTerminal as _;
use std::path::Path;
use std::sync::Mutex;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

use crate::args::LogFormat;
use crate::output::Failure;

/// What is logged unless `RUST_LOG` says otherwise.
const DEFAULT_FILTER: &str = "info,sqlx=warn";

/// Begins to write the log: to `file`, or else to standard error.
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
        // If the log cannot be written, that cannot be said there either: whoever logged must not end of it.
        .log_internal_errors(false)
        .with_writer(writer);
    // A second call, in a test, changes nothing.
    _ = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    Ok(())
}

/// Begins to count.
///
/// # Errors
///
/// Fails if somebody counts already.
pub(crate) fn start_metrics() -> Result<PrometheusHandle, Failure> {
    let recorder = PrometheusBuilder::new();
    recorder
        .install_recorder()
        .map_err(|error| Failure::from_error("cannot start the metrics", &error))
}
