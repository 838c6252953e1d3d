//! The log and the metrics.

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

use crate::args::LogFormat;
use crate::output::Failure;

/// What is logged unless `RUST_LOG` says otherwise.
const DEFAULT_FILTER: &str = "info,sqlx=warn";

/// Begins to write the log, to standard error.
pub(crate) fn start_log(format: LogFormat) {
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second call, in a test, changes nothing.
    _ = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
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
