//! Writes the images of a study into a folder, under the identity its patient has now.
//!
//! Images in the archive stay as received. Patients are merged and renamed later; an image that
//! leaves the hospital under a former identity ends up in the wrong record. Patient ID, issuer,
//! name, birth date and sex are therefore replaced on the way out, with the former values in the
//! Original Attributes Sequence (DIN-62; PS3.3, C.12.1.1.9).

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Cursor, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use archive::DiskArchive;
use contracts::{Archive as _, DecodeError, Decoder, PatientView};
use domain::is_harmless_uid;
use encoding::dicom::coercion::{CoercionError, Identity, Writer, coerced, is_current};
use encoding::dicom::header::{Encoding, read_encoded};
use encoding::dicom::{deflation, file_meta};
use jiff::Zoned;
use serde::Deserialize;
use store::StudyExport;

/// The longest image that gets another identity unless the site sets another limit.
const IMAGE_BYTES_MAX: u64 = 1 << 30;

/// What a site may set as the longest image.
const IMAGE_BYTES_MAX_RANGE: std::ops::RangeInclusive<u64> = 1 << 20..=16 << 30;

/// More than File Meta Information takes.
const META_BYTES_MAX: u64 = 1 << 20;

/// `export:` of the site file.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ExportConfig {
    /// The longest image, as it is or once inflated, that is written under another identity, in
    /// bytes. It is in memory about three times. A longer one is not written (SEC-23).
    pub image_bytes_max: u64,
}

impl Default for ExportConfig {
    fn default() -> Self {
        Self { image_bytes_max: IMAGE_BYTES_MAX }
    }
}

impl ExportConfig {
    /// A value outside its range, in words for the person who wrote the site file.
    pub fn problem(&self) -> Option<String> {
        let range = IMAGE_BYTES_MAX_RANGE;
        (!range.contains(&self.image_bytes_max))
            .then(|| format!("export.image_bytes_max: from {} to {}", range.start(), range.end()))
    }
}

/// Under which identity images are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportIdentity<'a> {
    /// Byte for byte as received.
    AsReceived,
    /// The identity the patient has now.
    Current {
        /// The issuer that is meant where an image names none; empty with a single issuer.
        default_issuer: &'a str,
        /// The longest image that gets another identity, in bytes.
        image_bytes_max: u64,
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
/// the images name as the system which changed them. `decoder` inflates what is deflated.
///
/// # Errors
///
/// Fails if the folder cannot be made.
pub async fn write_study(
    study: &StudyExport,
    archive: &DiskArchive,
    decoder: &dyn Decoder,
    folder: &Path,
    identity: ExportIdentity<'_>,
    system: &str,
) -> io::Result<Vec<ExportedInstance>> {
    std::fs::create_dir_all(folder)?;
    let current = match identity {
        ExportIdentity::AsReceived => None,
        ExportIdentity::Current { default_issuer, image_bytes_max } => {
            let patient = study.patient.as_ref();
            patient.map(|it| Current {
                identity: current_identity(it, default_issuer),
                bytes_max: image_bytes_max,
            })
        }
    };
    let mut exported = Vec::new();
    for instance in &study.instances {
        let writer = Writer {
            at: Zoned::now().strftime("%Y%m%d%H%M%S.%6f%z").to_string(),
            system: system.to_owned(),
            source: instance.calling_ae.clone(),
        };
        let source = archive.path_of(&instance.sha256);
        let target = folder.join(file_name(&instance.uid, &instance.sha256));
        let written = write_instance(&source, &target, current.as_ref(), &writer, decoder).await;
        let outcome = written.unwrap_or_else(ExportOutcome::Failed);
        exported.push(ExportedInstance { instance: instance.uid.clone(), outcome });
    }
    Ok(exported)
}

/// The identity that images get, and the longest that does.
struct Current {
    identity: Identity,
    bytes_max: u64,
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
async fn write_instance(
    source: &Path,
    target: &Path,
    current: Option<&Current>,
    writer: &Writer,
    decoder: &dyn Decoder,
) -> Result<ExportOutcome, ExportFailure> {
    let Some(Current { identity, bytes_max }) = current else {
        return copy(source, target).map(|()| ExportOutcome::Unchanged);
    };
    let length = source.metadata().map_err(|error| unreadable(&error))?.len();
    if length > *bytes_max {
        return write_long(source, target, identity, *bytes_max, decoder).await;
    }
    let file = std::fs::read(source).map_err(|error| unreadable(&error))?;
    let Some((data_start, syntax)) = file_meta::split(&file) else {
        return write(target, &file).map(|()| ExportOutcome::Unchanged);
    };
    let (meta, data_set) = file.split_at(data_start);
    let encoding = Encoding::of(&syntax);
    let inflated = if encoding.is_deflated {
        Some(decoder.inflated(source).await.map_err(|error| not_inflated(&error))?)
    } else {
        None
    };
    let plain = inflated.as_deref().unwrap_or(data_set);
    let plain_encoding = Encoding { is_deflated: false, ..encoding };
    match coerced(plain, plain_encoding, identity, writer, *bytes_max) {
        Ok(None) => write(target, &file).map(|()| ExportOutcome::Unchanged),
        Ok(Some(mut data_set)) => {
            if encoding.is_deflated {
                let packed = deflation::deflated(&data_set);
                data_set = packed.map_err(|it| ExportFailure::NotCoerced(it.to_string()))?;
            }
            write(target, &[meta, &data_set].concat()).map(|()| ExportOutcome::Coerced)
        }
        Err(error @ CoercionError::Charset(_)) => {
            write(target, &file)?;
            Err(ExportFailure::WrittenAsReceived(error.to_string()))
        }
        Err(error @ CoercionError::TooLong { .. }) => Err(too_long(&error)),
        Err(error) => Err(ExportFailure::NotCoerced(error.to_string())),
    }
}

/// Writes an image that is too long to be held in memory, if its identity is that of the patient.
async fn write_long(
    source: &Path,
    target: &Path,
    identity: &Identity,
    bytes_max: u64,
    decoder: &dyn Decoder,
) -> Result<ExportOutcome, ExportFailure> {
    let io = |error: io::Error| unreadable(&error);
    let mut file = BufReader::new(File::open(source).map_err(io)?);
    let mut start = Vec::new();
    file.by_ref().take(META_BYTES_MAX).read_to_end(&mut start).map_err(io)?;
    if let Some((data_start, syntax)) = file_meta::split(&start) {
        let length = file.seek(SeekFrom::End(0)).map_err(io)?;
        file.seek(SeekFrom::Start(data_start as u64)).map_err(io)?;
        let length = length.saturating_sub(data_start as u64);
        let encoding = Encoding::of(&syntax);
        let header = if encoding.is_deflated {
            let plain = decoder.inflated_header(source).await;
            let plain = plain.map_err(|error| not_inflated(&error))?;
            let length = plain.len() as u64;
            read_encoded(Cursor::new(plain), length, Encoding::INFLATED)
        } else {
            read_encoded(file, length, encoding)
        };
        let header = header.map_err(|error| ExportFailure::NotCoerced(error.to_string()))?;
        if !is_current(&header, identity) {
            return Err(too_long(&CoercionError::TooLong { bytes_max }));
        }
    }
    copy(source, target).map(|()| ExportOutcome::Unchanged)
}

/// The failure of an image that is too long, with the ways out.
fn too_long(error: &CoercionError) -> ExportFailure {
    let ways = "raise `export.image_bytes_max`, or export it with --as-received";
    ExportFailure::NotCoerced(format!("{error}: {ways}"))
}

fn not_inflated(error: &DecodeError) -> ExportFailure {
    ExportFailure::NotCoerced(format!("it cannot be inflated: {error}"))
}

fn unreadable(error: &io::Error) -> ExportFailure {
    ExportFailure::Unreadable(error.to_string())
}

/// Copies a file piece by piece.
fn copy(source: &Path, target: &Path) -> Result<(), ExportFailure> {
    let from = File::open(source).map_err(|error| unreadable(&error))?;
    let mut from = BufReader::new(from);
    let unwritable = |error: io::Error| ExportFailure::Unwritable(error.to_string());
    let mut to = File::create(target).map_err(unwritable)?;
    loop {
        // `io::copy` would not tell which of the two has failed.
        let piece = from.fill_buf().map_err(|error| unreadable(&error))?;
        if piece.is_empty() {
            return Ok(());
        }
        to.write_all(piece).map_err(unwritable)?;
        let bytes = piece.len();
        from.consume(bytes);
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
    fn din_62_an_image_that_cannot_be_read_is_not_told_as_a_folder_that_cannot_be_written() {
        let folder = std::env::temp_dir().join(format!("isocenter-export-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        // A folder can be opened and not be read as a file, even by root.
        let copied = copy(&folder, &folder.join("target"));
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(matches!(copied, Err(ExportFailure::Unreadable(_))), "{copied:?}");
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

    /// Inflates in this process.
    struct Inflating;

    #[async_trait::async_trait]
    impl Decoder for Inflating {
        async fn picture(&self, _: &Path) -> Result<contracts::DecodedPicture, DecodeError> {
            unreachable!("nothing is drawn")
        }

        async fn segments(&self, _: &Path) -> Result<Vec<contracts::ReceivedSegment>, DecodeError> {
            unreachable!("nothing is compared")
        }

        async fn document(&self, _: &Path) -> Result<contracts::ReceivedDocument, DecodeError> {
            unreachable!("nothing is compared")
        }

        async fn inflated_header(&self, file: &Path) -> Result<Vec<u8>, DecodeError> {
            self.inflated(file).await
        }

        async fn inflated(&self, file: &Path) -> Result<Vec<u8>, DecodeError> {
            let file = std::fs::read(file).unwrap();
            let (start, _) = file_meta::split(&file).unwrap();
            Ok(deflation::inflated(&file[start..], 1 << 20).unwrap().unwrap())
        }
    }

    #[tokio::test]
    async fn an_image_that_is_not_there_is_reported_and_nothing_is_written() {
        let target = std::env::temp_dir().join(format!("isocenter-export-{}", std::process::id()));
        let writer = Writer::default();
        let written = write_instance(Path::new("/nowhere"), &target, None, &writer, &Inflating);
        let outcome = written.await;
        assert!(matches!(outcome, Err(ExportFailure::Unreadable(_))), "{outcome:?}");
        assert!(!target.exists());
    }

    #[tokio::test]
    async fn sec_23_a_long_image_is_handed_out_only_under_the_identity_it_has() {
        for transfer_syntax in ["1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99"] {
            check_long_image(transfer_syntax).await;
        }
    }

    async fn check_long_image(transfer_syntax: &str) {
        let folder =
            std::env::temp_dir().join(format!("isocenter-export-{}", uuid::Uuid::now_v7()));
        std::fs::create_dir_all(&folder).unwrap();
        let source = folder.join("source");
        let target = folder.join("target");
        let patient_id = [&[0x10, 0, 0x20, 0], b"LO".as_slice(), &[2, 0], b"77"].concat();
        let meta = file_meta::FileMeta {
            sop_class: "1.2.840.10008.5.1.4.1.1.2",
            sop_instance: "1.2.3",
            transfer_syntax,
            sending_ae: "CT1",
            receiving_ae: "ISOCENTER",
        };
        let is_deflated = Encoding::of(transfer_syntax).is_deflated;
        let data = if is_deflated { deflation::deflated(&patient_id).unwrap() } else { patient_id };
        std::fs::write(&source, [meta.to_bytes(), data].concat()).unwrap();
        let current = |id: &str, bytes_max: u64| Current {
            identity: Identity { id: id.to_owned(), ..Identity::default() },
            bytes_max,
        };
        let write = async |current: &Current| {
            write_instance(&source, &target, Some(current), &Writer::default(), &Inflating).await
        };

        assert_eq!(write(&current("99", 1 << 20)).await, Ok(ExportOutcome::Coerced));
        let written = std::fs::read(&target).unwrap();
        let (start, syntax) = file_meta::split(&written).unwrap();
        assert_eq!(syntax, transfer_syntax);
        let inflated = is_deflated.then(|| deflation::inflated(&written[start..], 1 << 20));
        let inflated =
            inflated.map_or_else(|| written[start..].to_vec(), |it| it.unwrap().unwrap());
        assert!(inflated.windows(2).any(|it| it == b"99"));
        assert_eq!(write(&current("77", 16)).await, Ok(ExportOutcome::Unchanged));
        std::fs::remove_file(&target).unwrap();
        let failure = write(&current("99", 16)).await.unwrap_err();

        assert!(failure.to_string().contains("export.image_bytes_max"), "{failure}");
        assert!(!target.exists());
        std::fs::remove_dir_all(folder).unwrap();
    }
}
