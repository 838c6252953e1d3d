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
    ACCESSION_MAX, Demographics, PatientId, QualityFlag, SeriesInstanceUid, SopInstanceUid,
    StudyInstanceUid, is_harmless_uid,
};
use encoding::decoded_text::DecodedText;
use encoding::dicom::date_time;
use encoding::dicom::header::{
    Header, ISSUER_OF_ACCESSION_NUMBER, ORDER_FILLER_IDENTIFIER, ORDER_PLACER_IDENTIFIER,
    Peculiarity, Tag,
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
    check_transfer_syntax(&arrival, header)?;
    let mut fields = HeaderFields { header, flags: encoding_flags(header) };
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

/// Refuses a data set that claims to be in another transfer syntax than the one it was sent in: a
/// reader that believes it would read other values.
fn check_transfer_syntax(arrival: &InstanceArrival, header: &Header) -> Result<(), Refusal> {
    match header.claimed_transfer_syntax() {
        Some(claimed) if claimed != arrival.transfer_syntax => {
            let comment = "(0002,0010) in the data set is not its transfer syntax";
            Err(Refusal::new(RefusalReason::CannotUnderstand, comment))
        }
        _ => Ok(()),
    }
}

/// How the data set departs from the standard, where it can be read all the same.
fn encoding_flags(header: &Header) -> Vec<QualityFlag> {
    let flag_of = |it: &Peculiarity| match it {
        Peculiarity::Placeholder => Some(QualityFlag::VrUnknown),
        Peculiarity::TrailingZeros => Some(QualityFlag::TrailingZeros),
        Peculiarity::ForeignGroup => Some(QualityFlag::ForeignGroup),
        // The standard allows it.
        Peculiarity::UnknownRepresentation => None,
    };
    let mut flags: Vec<QualityFlag> = header.peculiarities().iter().filter_map(flag_of).collect();
    if !header.has_known_charset() {
        flags.push(QualityFlag::CharsetUnknown);
    }
    if header.has_misspelt_charset() {
        flags.push(QualityFlag::CharsetMisspelt);
    }
    flags
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
        let number = self.header.text(tags::ACCESSION_NUMBER);
        let issuer = self.header.authority(ISSUER_OF_ACCESSION_NUMBER);
        let is_lossless =
            |it: &Option<_>| it.as_ref().is_none_or(|it: &DecodedText| it.is_lossless);
        let assigned = match number {
            Some(_) if !is_lossless(&number) || !is_lossless(&issuer) => {
                self.flags.push(QualityFlag::AccessionUndecodable);
                return AssignedNumber::default();
            }
            Some(number) => AssignedNumber {
                number: number.text,
                authority: issuer.map(|it| it.text).unwrap_or_default(),
            },
            None => AssignedNumber {
                number: whole(self.header.request_text(tags::ACCESSION_NUMBER)).unwrap_or_default(),
                authority: String::new(),
            },
        };
        if assigned.number.chars().count() > ACCESSION_MAX {
            self.flags.push(QualityFlag::AccessionTooLong);
        }
        assigned
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
        let birth_date = date_time::date(ascii(self.header, tags::PATIENT_BIRTH_DATE));
        let sex = ascii(self.header, tags::PATIENT_SEX);
        let is_sex = matches!(sex, "M" | "F" | "O");
        Demographics {
            name,
            birth_date: birth_date.unwrap_or_default(),
            sex: if is_sex { sex.to_owned() } else { String::new() },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use encoding::dicom::header::{Encoding, read_encoded};
    use uuid::Uuid;

    use super::*;

    const EXPLICIT: &str = "1.2.840.10008.1.2.1";
    const CT: &str = "1.2.840.10008.5.1.4.1.1.2";

    fn element(tag: Tag, vr: &str, value: &[u8]) -> Vec<u8> {
        let head = [tag.0.to_le_bytes(), tag.1.to_le_bytes()].concat();
        let length = u16::try_from(value.len()).unwrap().to_le_bytes();
        [head.as_slice(), vr.as_bytes(), &length, value].concat()
    }

    /// The record of a small instance with `before` and `inside` its data set.
    fn record(before: &[u8], inside: &[u8], after: &[u8]) -> Result<InstanceRecord, Refusal> {
        let data = [
            before,
            &element(tags::SOP_CLASS_UID, "UI", format!("{CT}\0").as_bytes()),
            &element(tags::SOP_INSTANCE_UID, "UI", b"1.2.3\0"),
            inside,
            &element(tags::STUDY_INSTANCE_UID, "UI", b"1.2\0"),
            &element(tags::SERIES_INSTANCE_UID, "UI", b"1.2.1\0"),
            after,
        ]
        .concat();
        let header = read_encoded(Cursor::new(&data), data.len() as u64, Encoding::of(EXPLICIT));
        let file = Quarantined {
            path: std::path::PathBuf::new(),
            sha256: String::new(),
            bytes: data.len() as u64,
            meta_bytes: 0,
            head: Vec::new(),
        };
        let arrival = InstanceArrival {
            calling_ae: "CT1".to_owned(),
            called_ae: "ISOCENTER".to_owned(),
            address: "10.0.0.1".to_owned(),
            association: Uuid::nil(),
            sop_class: CT.to_owned(),
            sop_instance: "1.2.3".to_owned(),
            transfer_syntax: EXPLICIT.to_owned(),
        };
        instance_record(arrival, VersionPolicy::default(), &file, &header.unwrap())
    }

    fn flags(before: &[u8], inside: &[u8], after: &[u8]) -> Vec<QualityFlag> {
        let mut flags = record(before, inside, after).unwrap().quality_flags;
        flags.retain(|it| *it != QualityFlag::PatientIdMissing);
        flags
    }

    #[test]
    fn din_76_what_is_peculiar_in_a_data_set_is_flagged() {
        let syntax = Tag(0x0002, 0x0010);
        let meta = element(syntax, "UI", format!("{EXPLICIT}\0").as_bytes());
        assert_eq!(flags(&meta, &[], &[]), [QualityFlag::ForeignGroup]);
        assert_eq!(flags(&[], &[], &[0; 64]), [QualityFlag::TrailingZeros]);
        let private = element(Tag(0x0009, 0x1001), "??", b"abcd");
        assert_eq!(flags(&[], &private, &[]), [QualityFlag::VrUnknown]);
        assert_eq!(flags(&[], &[], &[]), []);
    }

    #[test]
    fn hl7_41_an_accession_number_that_objects_cannot_carry_is_kept_and_flagged() {
        let inside = |number: &[u8]| element(tags::ACCESSION_NUMBER, "SH", number);
        assert_eq!(flags(&[], &inside(b"2026-00000012345"), &[]), []);
        let long = inside(b"RIS-2026-0000012345 ");
        assert_eq!(flags(&[], &long, &[]), [QualityFlag::AccessionTooLong]);
        assert_eq!(record(&[], &long, &[]).unwrap().accession, "RIS-2026-0000012345");
    }

    #[test]
    fn din_23_a_data_set_that_claims_another_transfer_syntax_is_refused() {
        let meta = element(Tag(0x0002, 0x0010), "UI", b"1.2.840.10008.1.2.2\0");
        let refusal = record(&meta, &[], &[]).unwrap_err();
        assert_eq!(refusal.reason, RefusalReason::CannotUnderstand);
    }

    #[test]
    fn din_70_a_misspelt_character_set_is_flagged_and_the_name_is_kept() {
        let inside = |set: &str| {
            let set = element(Tag(0x0008, 0x0005), "CS", set.as_bytes());
            [set, element(tags::PATIENT_NAME, "PN", b"M\xdcLLER^J\xd6RG ")].concat()
        };
        let name = |set: &str| record(&[], &inside(set), &[]).unwrap().demographics.name;
        assert_eq!(name("ISO-IR 100"), "M\u{dc}LLER^J\u{d6}RG");
        assert_eq!(flags(&[], &inside("ISO-IR 100"), &[]), [QualityFlag::CharsetMisspelt]);
        assert_eq!(name("KLINGON "), "");
        let expected = [QualityFlag::CharsetUnknown, QualityFlag::PatientNameUndecodable];
        assert_eq!(flags(&[], &inside("KLINGON "), &[]), expected);
    }

    #[test]
    fn din_76_a_birth_date_is_a_day_or_left_open() {
        let born = |date: &[u8]| {
            let inside = element(tags::PATIENT_BIRTH_DATE, "DA", date);
            record(&[], &inside, &[]).unwrap().demographics.birth_date
        };
        assert_eq!(
            ["19700000", "19700131", "1970.01.31"].map(|it| born(it.as_bytes())),
            ["", "19700131", "19700131"]
        );
    }
}
