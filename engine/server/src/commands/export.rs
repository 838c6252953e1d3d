//! The images of a study, handed out under the name their patient has now.

use std::path::Path;
use std::process::ExitCode;

use archive::DiskArchive;
use contracts::{Archive as _, PatientView};
use domain::is_harmless_uid;
use encoding::dicom_coercion::{CoercionError, Identity, Writer, coerced};
use encoding::dicom_header::Encoding;
use encoding::file_meta;
use jiff::Zoned;
use store::StudyExport;

use crate::args::ExportFlags;
use crate::commands::ask::{failed, person};
use crate::config::{Config, IdentityConfig};
use crate::open::Opened;
use crate::output::{Failure, line};
use crate::site::own_ae_title;

/// Writes every image of a study into a folder. Exit code 1 if one is not as it should be.
pub(crate) async fn export(flags: &ExportFlags) -> Result<ExitCode, Failure> {
    let config = Config::read(&flags.place)?;
    let opened = Opened::open(&flags.place).await?;
    let found = opened.store.export_study(&flags.study, person()).await;
    opened.close().await;
    let found = found.map_err(|error| failed(&error))?;
    let study = found.ok_or_else(|| {
        Failure::new(format!("there is no study `{}`: isocenter studies", flags.study))
    })?;
    let archive = DiskArchive::beside(&config.data(&flags.place).join("archive"));
    std::fs::create_dir_all(&flags.to).map_err(|error| {
        Failure::from_error(&format!("cannot make `{}`", flags.to.display()), &error)
    })?;
    let identity = identity(&study, &config).filter(|_| !flags.as_received);
    let system = own_ae_title(&config)?.to_string();
    let (mut written, mut changed, mut wrong) = (0, 0, 0);
    for (instance, sha256, sender) in &study.instances {
        let writer = Writer {
            at: Zoned::now().strftime("%Y%m%d%H%M%S.%6f%z").to_string(),
            system: system.clone(),
            source: sender.clone(),
        };
        let to = flags.to.join(file_name(instance, sha256));
        match hand_out(&archive.path_of(sha256), &to, identity.as_ref(), &writer) {
            Ok(is_changed) => {
                written += 1;
                changed += usize::from(is_changed);
            }
            Err(reason) => {
                wrong += 1;
                line(format_args!("{instance}: {reason}"));
            }
        }
    }
    line(format_args!(
        "{written} written, {changed} of them under another Patient ID than they came"
    ));
    Ok(if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn identity(study: &StudyExport, config: &Config) -> Option<Identity> {
    let PatientView { identifier, demographics, .. } = study.patient.clone()?;
    let default_issuer = match &config.identity {
        IdentityConfig::Single => String::new(),
        IdentityConfig::Many { default_issuer } => default_issuer.clone(),
    };
    // One that was first seen without an issuer is of the default one.
    let issuer = Some(identifier.issuer).filter(|it| !it.is_empty());
    Some(Identity {
        id: identifier.value,
        issuer: issuer.unwrap_or_else(|| default_issuer.clone()),
        default_issuer,
        name: demographics.name,
        birth_date: demographics.birth_date,
        sex: demographics.sex,
    })
}

/// The name of a file: that of the instance, unless it is none that a file may have.
fn file_name(instance: &str, sha256: &str) -> String {
    let is_plain = is_harmless_uid(instance) && !instance.contains('/');
    format!("{}.dcm", if is_plain { instance } else { sha256 })
}

/// Writes one file. True if it is under another Patient ID now.
fn hand_out(
    from: &Path,
    to: &Path,
    identity: Option<&Identity>,
    writer: &Writer,
) -> Result<bool, String> {
    let file = std::fs::read(from).map_err(|error| format!("it cannot be read: {error}"))?;
    let split = file_meta::split(&file);
    let (view, outcome) = match (identity, split) {
        (Some(identity), Some((at, syntax))) => {
            let (meta, data) = file.split_at(at);
            match coerced(data, Encoding::of(&syntax), identity, writer) {
                Ok(Some(data)) => ([meta, &data].concat(), Ok(true)),
                Ok(None) => (file, Ok(false)),
                Err(error @ CoercionError::Charset(_)) => {
                    // Under a wrong name is worse than under the former one, which is told.
                    let reason = format!("written as it came: {error}");
                    (file, Err(reason))
                }
                Err(error) => return Err(error.to_string()),
            }
        }
        _ => (file, Ok(false)),
    };
    std::fs::write(to, view).map_err(|error| format!("it cannot be written: {error}"))?;
    outcome
}
