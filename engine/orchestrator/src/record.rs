//! What the header of an instance says, for the database (DIN-21, DIN-60, DIN-70..74). Pure.

use std::str::FromStr;

use contracts::{
    InstanceArrival, InstanceRecord, Quarantined, Refusal, RefusalReason, VersionPolicy,
};
use domain::{
    Demographics, PatientId, QualityFlag, SeriesInstanceUid, SopInstanceUid, StudyInstanceUid,
    is_harmless_uid,
};
use encoding::dicom_charset::Text;
use encoding::dicom_header::{Header, Tag};

const SOP_CLASS: Tag = Tag(0x0008, 0x0016);
const SOP_INSTANCE: Tag = Tag(0x0008, 0x0018);
pub(crate) const STUDY_DATE: Tag = Tag(0x0008, 0x0020);
pub(crate) const STUDY_TIME: Tag = Tag(0x0008, 0x0030);
pub(crate) const ACCESSION: Tag = Tag(0x0008, 0x0050);
const MANUFACTURER: Tag = Tag(0x0008, 0x0070);
const MODALITY: Tag = Tag(0x0008, 0x0060);
pub(crate) const STUDY_DESCRIPTION: Tag = Tag(0x0008, 0x1030);
const SERIES_DESCRIPTION: Tag = Tag(0x0008, 0x103E);
const PATIENT_NAME: Tag = Tag(0x0010, 0x0010);
const PATIENT_ID: Tag = Tag(0x0010, 0x0020);
const ISSUER: Tag = Tag(0x0010, 0x0021);
const BIRTH_DATE: Tag = Tag(0x0010, 0x0030);
const SEX: Tag = Tag(0x0010, 0x0040);
const BODY_PART: Tag = Tag(0x0018, 0x0015);
const STUDY: Tag = Tag(0x0020, 0x000D);
const SERIES: Tag = Tag(0x0020, 0x000E);
const REQUESTED_PROCEDURE: Tag = Tag(0x0040, 0x1001);
const PLACER: Tag = Tag(0x0040, 0x2016);
const FILLER: Tag = Tag(0x0040, 0x2017);
const FRAME_OF_REFERENCE: Tag = Tag(0x0020, 0x0052);
pub(crate) const STUDY_ID: Tag = Tag(0x0020, 0x0010);

/// Checks a header against the request it came with, and takes from it what is needed.
pub(crate) fn record(
    arrival: InstanceArrival,
    versions: VersionPolicy,
    file: &Quarantined,
    header: &Header,
) -> Result<InstanceRecord, Refusal> {
    let class = class(&arrival, header)?;
    let missing = |what: &str| {
        let comment = format!("no valid {what} in the data set");
        Refusal::new(RefusalReason::DoesNotMatchClass, comment)
    };
    let uid = |tag| header.ascii(tag).unwrap_or_default();
    let mut quality_flags = Vec::new();
    let patient = patient(header, &mut quality_flags);
    let text = |tag| header.text(tag).map(|it| it.text).unwrap_or_default();
    let plain = |tag| header.ascii(tag).unwrap_or_default().to_owned();
    // Modalities say in the request they took from the worklist which order it is (PS3.3, C.7.3.1).
    let of_order = |tag| {
        let whole = |it: &Text| it.is_whole;
        let said =
            header.text(tag).filter(whole).or_else(|| header.request_text(tag).filter(whole));
        said.map(|it| it.text).unwrap_or_default()
    };
    Ok(InstanceRecord {
        instance: name::<SopInstanceUid>(
            &arrival.sop_instance,
            QualityFlag::InstanceUidMalformed,
            &mut quality_flags,
        )?,
        sop_class: class.parse().map_err(|_| missing("SOP Class UID"))?,
        series: name::<SeriesInstanceUid>(
            uid(SERIES),
            QualityFlag::SeriesUidMalformed,
            &mut quality_flags,
        )?,
        study: name::<StudyInstanceUid>(
            uid(STUDY),
            QualityFlag::StudyUidMalformed,
            &mut quality_flags,
        )?,
        sha256: file.sha256.clone(),
        bytes: file.bytes,
        patient,
        demographics: demographics(header, &mut quality_flags),
        accession: accession(header, &mut quality_flags),
        modality: plain(MODALITY),
        is_own: header.ascii(MANUFACTURER) == Some(domain::MANUFACTURER),
        body_part: plain(BODY_PART),
        study_description: text(STUDY_DESCRIPTION),
        series_description: text(SERIES_DESCRIPTION),
        study_date: plain(STUDY_DATE),
        study_time: plain(STUDY_TIME),
        study_id: text(STUDY_ID),
        frame_of_reference: plain(FRAME_OF_REFERENCE),
        placer: of_order(PLACER),
        filler: of_order(FILLER),
        requested_procedure: of_order(REQUESTED_PROCEDURE),
        versions,
        quality_flags,
        arrival,
    })
}

/// The SOP Class UID, if class and instance are those that were announced.
fn class<'a>(arrival: &InstanceArrival, header: &'a Header) -> Result<&'a str, Refusal> {
    let class = header.ascii(SOP_CLASS).unwrap_or_default();
    if class != arrival.sop_class {
        let comment = "(0008,0016) is not the Affected SOP Class UID";
        return Err(Refusal::new(RefusalReason::DoesNotMatchClass, comment));
    }
    if header.ascii(SOP_INSTANCE) != Some(arrival.sop_instance.as_str()) {
        let comment = "(0008,0018) is not the Affected SOP Instance UID";
        return Err(Refusal::new(RefusalReason::InvalidInstance, comment));
    }
    Ok(class)
}

/// A name. A malformed one is kept and flagged, and the instance is not used: nothing could refer to
/// it (DIN-21, DIN-61).
fn name<T: FromStr>(
    uid: &str,
    malformed: QualityFlag,
    flags: &mut Vec<QualityFlag>,
) -> Result<String, Refusal> {
    if uid.parse::<T>().is_ok() {
        return Ok(uid.to_owned());
    }
    if is_harmless_uid(uid) {
        flags.push(malformed);
        return Ok(uid.to_owned());
    }
    let of = match malformed {
        QualityFlag::SeriesUidMalformed => "series",
        QualityFlag::StudyUidMalformed => "study",
        _ => "sop_instance",
    };
    let comment = format!("no valid {of} UID in the data set");
    Err(Refusal::new(RefusalReason::DoesNotMatchClass, comment))
}

/// Whose it is. A value that cannot be decoded identifies nobody (DIN-74).
fn patient(header: &Header, flags: &mut Vec<QualityFlag>) -> Option<PatientId> {
    if !header.has_known_charset() {
        flags.push(QualityFlag::CharsetUnknown);
    }
    let Some(id) = header.text(PATIENT_ID) else {
        flags.push(QualityFlag::PatientIdMissing);
        return None;
    };
    if !id.is_whole {
        flags.push(QualityFlag::PatientIdUndecodable);
        return None;
    }
    let issuer = header.text(ISSUER).filter(|it| it.is_whole).map(|it| it.text);
    PatientId::new(&id.text, &issuer.unwrap_or_default())
}

fn accession(header: &Header, flags: &mut Vec<QualityFlag>) -> String {
    match header.text(ACCESSION) {
        Some(it) if it.is_whole => it.text,
        Some(_) => {
            flags.push(QualityFlag::AccessionUndecodable);
            String::new()
        }
        None => {
            let of_request = header.request_text(ACCESSION).filter(|it| it.is_whole);
            of_request.map(|it| it.text).unwrap_or_default()
        }
    }
}

fn demographics(header: &Header, flags: &mut Vec<QualityFlag>) -> Demographics {
    let name = match header.text(PATIENT_NAME) {
        Some(it) if it.is_whole => it.text,
        Some(_) => {
            flags.push(QualityFlag::PatientNameUndecodable);
            String::new()
        }
        None => String::new(),
    };
    let birth_date = header.ascii(BIRTH_DATE).unwrap_or_default();
    let is_date = birth_date.len() == 8 && birth_date.bytes().all(|it| it.is_ascii_digit());
    Demographics {
        name,
        birth_date: if is_date { birth_date.to_owned() } else { String::new() },
        sex: header
            .ascii(SEX)
            .filter(|it| matches!(*it, "M" | "F" | "O"))
            .unwrap_or_default()
            .to_owned(),
    }
}
