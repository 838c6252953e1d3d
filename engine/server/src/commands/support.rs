//! A file for whoever is asked for help: how the engine fares, and nothing of any patient.

use std::path::Path;
use std::process::ExitCode;

use jiff::Zoned;
use serde_json::json;

use crate::args::Place;
use crate::commands::ask::failed;
use crate::config::Config;
use crate::open::Opened;
use crate::output::{Failure, line};

/// Writes it. Only numbers, kinds, and names the site gave to workflows and destinations are in it.
pub(crate) async fn support(to: &Path, place: &Place) -> Result<ExitCode, Failure> {
    let config = Config::read(place)?;
    let opened = Opened::open(place).await?;
    let checks = opened.store.examine().await;
    let counts = opened.store.support_counts().await;
    opened.close().await;
    let checks = checks.map_err(|error| failed(&error))?;
    let counts = counts.map_err(|error| failed(&error))?;
    let disk = rustix::fs::statvfs(config.data(place)).ok();
    let free = disk.map(|it| it.f_bavail * it.f_frsize);
    let bundle = json!({
        "isocenter": env!("CARGO_PKG_VERSION"),
        "made_at": Zoned::now().to_string(),
        "system": std::fs::read_to_string("/proc/version").unwrap_or_default().trim(),
        "cpus": std::thread::available_parallelism().map_or(0, usize::from),
        "free_bytes": free,
        "checks": checks,
        "counts": counts,
    });
    let text = serde_json::to_string_pretty(&bundle);
    let text = text.map_err(|error| Failure::from_error("cannot write the file", &error))?;
    std::fs::write(to, text).map_err(|error| {
        Failure::from_error(&format!("cannot write `{}`", to.display()), &error)
    })?;
    line(format_args!("{}: numbers and kinds only; read it before you pass it on", to.display()));
    Ok(ExitCode::SUCCESS)
}
