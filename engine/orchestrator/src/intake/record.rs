//! What the header of an instance states, as rows for the database (DIN-21, DIN-60, DIN-70..74).
//! Pure.
//!
//! Defects of a header that do not keep the instance from being used become quality flags. An
//! instance is refused only if the header contradicts the C-STORE request, or if a UID is missing
//! or cannot be a name for anything.

use std::str::FromStr;

use contracts::{
    InstanceArrival, InstanceRecord, Quarantined, Refusal, RefusalReason, VersionPolicy,
};
use domain::{
    Demographics, PatientId, QualityFlag, SeriesInstanceUid, SopInstanceUid, StudyInstanceUid,
    is_harmless_uid,
};
use encoding::decoded_text::DecodedText;
use encoding::dicom::header::{
    Header, ISSUER_OF_ACCESSION_NUMBER, ORDER_FILLER_IDENTIFIER, ORDER_PLACER_IDENTIFIER, Tag,
};

use crate::header::tags;

/// Checks a header against the request that it came with, and extracts what is stored of it.
pub(super) fn instance_record(
    arrival: InstanceArrival,
    versions: VersionPolicy,
    file: &Quarantined,
    header: &Header,
) -> Result<InstanceRecord, Refusal> {
    let sop_class = checked_sop_class(&arrival, header)?;
    let sop_class = sop_class.parse().map_err(|_| no_valid_uid("SOP Class UID"))?;
    let mut fields = HeaderFields { header, flags: Vec::new() };
    let patient = fields.patient();
    let instance = fields
        .uid::<SopInstanceUid>(&arrival.sop_instance, QualityFlag::InstanceUidMalformed)
        .ok_or_else(|| no_valid_uid("sop_instance UID"))?;
    let series = fields
        .uid::<SeriesInstanceUid>(
            ascii(header, tags::SERIES_INSTANCE_UID),
            QualityFlag::SeriesUidMalformed,
        )
        .ok_or_else(|| no_valid_uid("series UID"))?;
    let study = fields
        .uid::<StudyInstanceUid>(
            ascii(header, tags::STUDY_INSTANCE_UID),
            QualityFlag::StudyUidMalformed,
        )
        .ok_or_else(|| no_valid_uid("study UID"))?;
    let demographics = fields.demographics();
    let accession = fields.accession();
    let placer = assigned_number(header, tags::PLACER_ORDER_NUMBER, ORDER_PLACER_IDENTIFIER);
    let filler = assigned_number(header, tags::FILLER_ORDER_NUMBER, ORDER_FILLER_IDENTIFIER);
    Ok(InstanceRecord {
        instance,
        sop_class,
        series,
        study,
        sha256: file.sha256.clone(),
        bytes: file.bytes,
        patient,
        demographics,
        accession: accession.number,
        accession_issuer: accession.authority,
        requested_accessions: requested_accessions(header),
        modality: ascii(header, tags::MODALITY).to_owned(),
        is_own: header.ascii(tags::MANUFACTURER) == Some(domain::MANUFACTURER),
        body_part: ascii(header, tags::BODY_PART_EXAMINED).to_owned(),
        study_description: text(header, tags::STUDY_DESCRIPTION),
        series_description: text(header, tags::SERIES_DESCRIPTION),
        study_date: ascii(header, tags::STUDY_DATE).to_owned(),
        study_time: ascii(header, tags::STUDY_TIME).to_owned(),
        study_id: text(header, tags::STUDY_ID),
        frame_of_reference: ascii(header, tags::FRAME_OF_REFERENCE_UID).to_owned(),
        placer: placer.number,
        filler: filler.number,
        placer_authority: placer.authority,
        filler_authority: filler.authority,
        requested_procedure: order_number(header, tags::REQUESTED_PROCEDURE_ID),
        versions,
        quality_flags: fields.flags,
        arrival,
    })
}

fn no_valid_uid(name: &str) -> Refusal {
    let comment = format!("no valid {name} in the data set");
    Refusal::new(RefusalReason::DoesNotMatchClass, comment)
}

/// The SOP Class UID, if class and instance are those that the request announced.
fn checked_sop_class<'a>(
    arrival: &InstanceArrival,
    header: &'a Header,
) -> Result<&'a str, Refusal> {
    let sop_class = ascii(header, tags::SOP_CLASS_UID);
    if sop_class != arrival.sop_class {
        let comment = "(0008,0016) is not the Affected SOP Class UID";
        return Err(Refusal::new(RefusalReason::DoesNotMatchClass, comment));
    }
    if header.ascii(tags::SOP_INSTANCE_UID) != Some(arrival.sop_instance.as_str()) {
        let comment = "(0008,0018) is not the Affected SOP Instance UID";
        return Err(Refusal::new(RefusalReason::InvalidInstance, comment));
    }
    Ok(sop_class)
}

fn ascii(header: &Header, tag: Tag) -> &str {
    header.ascii(tag).unwrap_or_default()
}

fn text(header: &Header, tag: Tag) -> String {
    header.text(tag).map(|it| it.text).unwrap_or_default()
}

/// An order number with the authority that assigned it, if one is named.
#[derive(Default)]
struct AssignedNumber {
    number: String,
    authority: String,
}

/// An order number with its authority. Without the authority that cannot be decoded it might be
/// another order's: then there is none.
fn assigned_number(header: &Header, number: Tag, authority: Tag) -> AssignedNumber {
    let number = order_number(header, number);
    match header.authority(authority) {
        None => AssignedNumber { number, authority: String::new() },
        Some(named) if named.is_lossless => AssignedNumber { number, authority: named.text },
        Some(_) => AssignedNumber::default(),
    }
}

/// The accession numbers of all requests that an image answers.
fn requested_accessions(header: &Header) -> Vec<String> {
    header.requested_accessions().into_iter().filter_map(|it| whole(Some(it))).collect()
}

/// The value of an attribute that names an order: of the image, or of the request that the
/// modality copied from the worklist (PS3.3, C.7.3.1).
fn order_number(header: &Header, tag: Tag) -> String {
    let of_image = whole(header.text(tag));
    of_image.or_else(|| whole(header.request_text(tag))).unwrap_or_default()
}

/// A value of which every character could be decoded.
fn whole(text: Option<DecodedText>) -> Option<String> {
    text.filter(|it| it.is_lossless).map(|it| it.text)
}

/// Reads the fields whose defects are flagged.
struct HeaderFields<'a> {
    header: &'a Header,
    flags: Vec<QualityFlag>,
}

impl HeaderFields<'_> {
    /// A UID; `None` if it cannot be a name for anything. A malformed one is flagged: the instance
    /// is stored under it and not used, since nothing could refer to it (DIN-21, DIN-61).
    fn uid<T: FromStr>(&mut self, uid: &str, malformed: QualityFlag) -> Option<String> {
        if uid.parse::<T>().is_ok() {
            return Some(uid.to_owned());
        }
        if is_harmless_uid(uid) {
            self.flags.push(malformed);
            return Some(uid.to_owned());
        }
        None
    }

    /// The patient. An identifier that cannot be decoded, or whose issuer cannot be, identifies
    /// nobody (DIN-74, DIN-60).
    fn patient(&mut self) -> Option<PatientId> {
        if !self.header.has_known_charset() {
            self.flags.push(QualityFlag::CharsetUnknown);
        }
        let Some(id) = self.header.text(tags::PATIENT_ID) else {
            self.flags.push(QualityFlag::PatientIdMissing);
            return None;
        };
        if !id.is_lossless {
            self.flags.push(QualityFlag::PatientIdUndecodable);
            return None;
        }
        let named = self.header.text(tags::ISSUER_OF_PATIENT_ID);
        match named.or_else(|| self.header.universal_issuer()) {
            None => PatientId::new(&id.text, ""),
            Some(issuer) if issuer.is_lossless => PatientId::new(&id.text, &issuer.text),
            Some(_) => {
                self.flags.push(QualityFlag::PatientIssuerUndecodable);
                None
            }
        }
    }

    /// The accession number of the study, or of the first request. One that cannot be decoded, or
    /// whose issuer cannot be, is none.
    fn accession(&mut self) -> AssignedNumber {
        let Some(number) = self.header.text(tags::ACCESSION_NUMBER) else {
            let of_request = whole(self.header.request_text(tags::ACCESSION_NUMBER));
            let number = of_request.unwrap_or_default();
            return AssignedNumber { number, authority: String::new() };
        };
        let issuer = self.header.authority(ISSUER_OF_ACCESSION_NUMBER);
        if !number.is_lossless || issuer.as_ref().is_some_and(|it| !it.is_lossless) {
            self.flags.push(QualityFlag::AccessionUndecodable);
            return AssignedNumber::default();
        }
        let authority = issuer.map(|it| it.text).unwrap_or_default();
        AssignedNumber { number: number.text, authority }
    }

    fn demographics(&mut self) -> Demographics {
        let name = match self.header.text(tags::PATIENT_NAME) {
            Some(name) if name.is_lossless => name.text,
            Some(_) => {
                self.flags.push(QualityFlag::PatientNameUndecodable);
                String::new()
            }
            None => String::new(),
        };
        let birth_date = ascii(self.header, tags::PATIENT_BIRTH_DATE);
        let is_date = birth_date.len() == 8 && birth_date.bytes().all(|it| it.is_ascii_digit());
        let sex = ascii(self.header, tags::PATIENT_SEX);
        let is_sex = matches!(sex, "M" | "F" | "O");
        Demographics {
            name,
            birth_date: if is_date { birth_date.to_owned() } else { String::new() },
            sex: if is_sex { sex.to_owned() } else { String::new() },
        }
    }
}
