//! `isocenter export`: hands out the images of a study.

use std::path::PathBuf;
use std::process::ExitCode;

use archive::DiskArchive;
use clap::Args;
use upkeep::export::{ExportIdentity, ExportOutcome, write_study};

use super::Execute;
use crate::installation::InstallationArgs;
use crate::operator::operator;
use crate::output::{Failure, exit_code, line};
use crate::plugins::decoder;
use crate::site::own_ae_title;

/// Writes the images of a study into a folder, under the identity their patient has now. The exit
/// code is 1 if one is not as it should be.
#[derive(Args)]
pub(crate) struct Export {
    /// The Study Instance UID.
    study: String,
    /// The folder.
    #[arg(long)]
    to: PathBuf,
    /// Byte for byte as received, even if their patient is known under another identifier now.
    #[arg(long)]
    as_received: bool,
    #[command(flatten)]
    installation: InstallationArgs,
}

impl Execute for Export {
    async fn execute(self) -> Result<ExitCode, Failure> {
        let installation = self.installation.read()?;
        let study = installation
            .query(async |store| store.export_study(&self.study, operator()).await)
            .await?;
        let study = study.ok_or_else(|| {
            Failure::new(format!("there is no study `{}`", self.study))
                .with_hint("`isocenter studies` lists the newest studies")
        })?;
        let archive = DiskArchive::beside(&installation.data.join("archive"));
        let identity = if self.as_received {
            ExportIdentity::AsReceived
        } else {
            ExportIdentity::Current {
                default_issuer: installation.config.identity.default_issuer(),
                image_bytes_max: installation.config.export.image_bytes_max,
            }
        };
        let system = own_ae_title(&installation.config)?.to_string();
        let decoder = decoder()?;
        let exported = write_study(&study, &archive, &*decoder, &self.to, identity, &system).await;
        let exported = exported.map_err(|error| {
            Failure::from_error(&format!("cannot make `{}`", self.to.display()), &error)
        })?;
        let mut written = 0;
        let mut coerced = 0;
        let mut failed = 0;
        for image in &exported {
            match &image.outcome {
                ExportOutcome::Unchanged => written += 1,
                ExportOutcome::Coerced => {
                    written += 1;
                    coerced += 1;
                }
                ExportOutcome::Failed(failure) => {
                    failed += 1;
                    line(format_args!("{}: {failure}", image.instance));
                }
            }
        }
        line(format_args!(
            "{written} written, {coerced} of them under another Patient ID than they came"
        ));
        Ok(exit_code(failed == 0))
    }
}
