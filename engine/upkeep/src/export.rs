//! Writes the images of a study into a folder, under the identity its patient has now.
//!
//! Images in the archive stay as received. Patients are merged and renamed later; an image that
//! leaves the hospital under a former identity ends up in the wrong record. Patient ID, issuer,
//! name, birth date and sex are therefore replaced on the way out, with the former values in the
//! Original Attributes Sequence (DIN-62; PS3.3, C.12.1.1.9).

use std::io;
use std::path::Path;

use archive::DiskArchive;
use contracts::{Archive as _, PatientView};
use domain::is_harmless_uid;
use encoding::dicom::coercion::{CoercionError, Identity, Writer, coerced};
use encoding::dicom::file_meta;
use encoding::dicom::header::Encoding;
use jiff::Zoned;
use store::StudyExport;

/// Under which identity images are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportIdentity<'a> {
    /// Byte for byte as received.
    AsReceived,
    /// The identity the patient has now.
    Current {
        /// The issuer that is meant where an image names none; empty with a single issuer.
        default_issuer: &'a str,
    },
}

/// What became of one image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExportOutcome {
    /// Written as received: its identity is still that of the patient.
    Unchanged,
    /// Written under another identity than it arrived with.
    Coerced,
    /// Not written, or written with a reservation that a person has to know about.
    Failed(ExportFailure),
}

/// Why an image was not written as it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExportFailure {
    /// The archive does not have it, or not as a readable file.
    #[error("it cannot be read: {0}")]
    Unreadable(String),
    /// The name of the patient cannot be written in the image's character set. The image was
    /// written under the former identity: a name with missing letters would be worse.
    #[error("written as it came: {0}")]
    WrittenAsReceived(String),
    /// The identity of the image cannot be replaced; nothing was written.
    #[error("{0}")]
    NotCoerced(String),
    /// The folder cannot be written.
    #[error("it cannot be written: {0}")]
    Unwritable(String),
}

/// One image that was to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportedInstance {
    /// Its SOP Instance UID.
    pub instance: String,
    /// What became of it.
    pub outcome: ExportOutcome,
}

/// Writes every image of `study` into `folder`, and reports on each. `system` is the AE title that
/// the images name as the system which changed them.
///
/// # Errors
///
/// Fails if the folder cannot be made.
pub fn write_study(
    study: &StudyExport,
    archive: &DiskArchive,
    folder: &Path,
    identity: ExportIdentity<'_>,
    system: &str,
) -> io::Result<Vec<ExportedInstance>> {
    std::fs::create_dir_all(folder)?;
    let identity = match identity {
        ExportIdentity::AsReceived => None,
        ExportIdentity::Current { default_issuer } => {
            study.patient.as_ref().map(|it| current_identity(it, default_issuer))
        }
    };
    let mut exported = Vec::new();
    for instance in &study.instances {
        let writer = Writer {
            at: Zoned::now().strftime("%Y%m%d%H%M%S.%6f%z").to_string(),
            system: system.to_owned(),
            source: instance.calling_ae.clone(),
        };
        let target = folder.join(file_name(&instance.uid, &instance.sha256));
        let outcome =
            write_instance(&archive.path_of(&instance.sha256), &target, identity.as_ref(), &writer)
                .unwrap_or_else(ExportOutcome::Failed);
        exported.push(ExportedInstance { instance: instance.uid.clone(), outcome });
    }
    Ok(exported)
}

/// What an image says of its patient once it is coerced. An identifier that was first seen without
/// an issuer belongs to the default one.
fn current_identity(patient: &PatientView, default_issuer: &str) -> Identity {
    let PatientView { identifier, demographics, .. } = patient.clone();
    let issuer =
        if identifier.issuer.is_empty() { default_issuer.to_owned() } else { identifier.issuer };
    Identity {
        id: identifier.value,
        issuer,
        default_issuer: default_issuer.to_owned(),
        name: demographics.name,
        birth_date: demographics.birth_date,
        sex: demographics.sex,
    }
}

/// The name of an image's file: its SOP Instance UID, or its digest if a peer sent a UID that is
/// not safe as a file name.
fn file_name(instance: &str, sha256: &str) -> String {
    let is_safe = is_harmless_uid(instance) && !instance.contains('/');
    format!("{}.dcm", if is_safe { instance } else { sha256 })
}

/// Writes one image.
fn write_instance(
    source: &Path,
    target: &Path,
    identity: Option<&Identity>,
    writer: &Writer,
) -> Result<ExportOutcome, ExportFailure> {
    let file =
        std::fs::read(source).map_err(|error| ExportFailure::Unreadable(error.to_string()))?;
    let Some((identity, (data_start, syntax))) = identity.zip(file_meta::split(&file)) else {
        return write(target, &file).map(|()| ExportOutcome::Unchanged);
    };
    let (meta, data_set) = file.split_at(data_start);
    match coerced(data_set, Encoding::of(&syntax), identity, writer) {
        Ok(None) => write(target, &file).map(|()| ExportOutcome::Unchanged),
        Ok(Some(data_set)) => {
            write(target, &[meta, &data_set].concat()).map(|()| ExportOutcome::Coerced)
        }
        Err(error @ CoercionError::Charset(_)) => {
            write(target, &file)?;
            Err(ExportFailure::WrittenAsReceived(error.to_string()))
        }
        Err(error) => Err(ExportFailure::NotCoerced(error.to_string())),
    }
}

fn write(target: &Path, bytes: &[u8]) -> Result<(), ExportFailure> {
    std::fs::write(target, bytes).map_err(|error| ExportFailure::Unwritable(error.to_string()))
}

#[cfg(test)]
mod tests {
    use domain::{Demographics, PatientId};

    use super::*;

    #[test]
    fn a_uid_names_its_file_unless_it_could_leave_the_folder() {
        assert_eq!(file_name("1.2.840.1", "ab"), "1.2.840.1.dcm");
        assert_eq!(file_name("../../etc/passwd", "ab"), "ab.dcm");
        assert_eq!(file_name("1.2/3", "ab"), "ab.dcm");
        assert_eq!(file_name("", "ab"), "ab.dcm");
    }

    #[test]
    fn an_identifier_without_an_issuer_belongs_to_the_default_one() {
        let patient = |issuer: &str| PatientView {
            id: uuid::Uuid::nil(),
            identifier: PatientId { value: "77".to_owned(), issuer: issuer.to_owned() },
            demographics: Demographics { name: "Doe^Jane".to_owned(), ..Demographics::default() },
            version: 1,
        };
        let identity = current_identity(&patient(""), "HOSP");
        assert_eq!((identity.id.as_str(), identity.issuer.as_str()), ("77", "HOSP"));
        assert_eq!(identity.name, "Doe^Jane");
        let identity = current_identity(&patient("CLINIC"), "HOSP");
        assert_eq!(
            (identity.issuer.as_str(), identity.default_issuer.as_str()),
            ("CLINIC", "HOSP")
        );
    }

    #[test]
    fn an_image_that_is_not_there_is_reported_and_nothing_is_written() {
        let target = std::env::temp_dir().join(format!("isocenter-export-{}", std::process::id()));
        let outcome = write_instance(Path::new("/nowhere"), &target, None, &Writer::default());
        assert!(matches!(outcome, Err(ExportFailure::Unreadable(_))), "{outcome:?}");
        assert!(!target.exists());
    }
}
