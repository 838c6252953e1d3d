//! Tells plugins what the headers of their images state: view, position, number, and the patient's
//! age and sex.

use std::collections::BTreeMap;
use std::path::PathBuf;

use contracts::{Decoder, NodeFailure};
use domain::{Code, ErrorChain, ImageFacts, NodeInput, PatientFacts, SopInstanceUid};
use encoding::dicom::date_time;
use encoding::dicom::header::{Header, Tag, VIEW_CODE};
use tracing::warn;

use crate::header::{self, HeaderReadError, tags};

/// Completes an input by the headers of its images. One that is no header within the limits is left
/// out: the plugin will find out when it reads the file.
///
/// # Errors
///
/// Fails if the disk or the decoder does: by other facts, a plugin may choose other images.
pub(crate) async fn completed(
    mut input: NodeInput,
    files: &BTreeMap<SopInstanceUid, PathBuf>,
    decoder: &dyn Decoder,
) -> Result<NodeInput, NodeFailure> {
    let Some(study) = &mut input.study else { return Ok(input) };
    let instances = study.series.iter().flat_map(|it| &it.instances);
    let wanted: Vec<SopInstanceUid> = instances.map(|it| it.instance.clone()).collect();
    let mut read = ReadFacts::default();
    for instance in wanted {
        let Some(file) = files.get(&instance) else { continue };
        match header::of_stored(file.clone(), decoder).await {
            Ok(header) => read.add(instance, &header),
            Err(error @ (HeaderReadError::Unreadable(_) | HeaderReadError::NoDecoder { .. })) => {
                let reason =
                    format!("the header of an image cannot be read: {}", ErrorChain(&error));
                return Err(NodeFailure::Retryable { reason });
            }
            Err(error) => warn!(%instance, %error, "a header cannot be read"),
        }
    }
    study.patient = read.patient;
    study.images = read.images;
    Ok(input)
}

/// What was read of the images of a study so far.
#[derive(Default)]
struct ReadFacts {
    patient: PatientFacts,
    images: BTreeMap<SopInstanceUid, ImageFacts>,
}

impl ReadFacts {
    fn add(&mut self, instance: SopInstanceUid, header: &Header) {
        if self.patient.age.is_empty() {
            self.patient.age = age(header);
        }
        if self.patient.sex.is_empty() {
            self.patient.sex = sex(header);
        }
        self.images.insert(instance, image_facts(header));
    }
}

fn image_facts(header: &Header) -> ImageFacts {
    let own_laterality = code(header, tags::IMAGE_LATERALITY);
    let laterality =
        if own_laterality.is_empty() { code(header, tags::LATERALITY) } else { own_laterality };
    ImageFacts {
        series_number: whole_number(header, tags::SERIES_NUMBER),
        acquisition_number: whole_number(header, tags::ACQUISITION_NUMBER),
        instance_number: whole_number(header, tags::INSTANCE_NUMBER),
        image_type: codes(header, tags::IMAGE_TYPE),
        view_position: code(header, tags::VIEW_POSITION),
        view_code: view_code(header),
        laterality,
        patient_orientation: codes(header, tags::PATIENT_ORIENTATION),
        body_part: code(header, tags::BODY_PART_EXAMINED),
        position: header.decimals(tags::IMAGE_POSITION_PATIENT).and_then(|it| it.try_into().ok()),
        orientation: header
            .decimals(tags::IMAGE_ORIENTATION_PATIENT)
            .and_then(|it| it.try_into().ok()),
    }
}

/// The first item of View Code Sequence.
fn view_code(header: &Header) -> Option<Code> {
    let part = |tag| header.nested_text(VIEW_CODE, tag).map(|it| it.text);
    Some(Code {
        value: part(tags::CODE_VALUE)?,
        scheme: part(tags::CODING_SCHEME_DESIGNATOR).unwrap_or_default(),
        meaning: part(tags::CODE_MEANING).unwrap_or_default(),
    })
}

/// A code string (CS).
fn code(header: &Header, tag: Tag) -> String {
    header.ascii(tag).unwrap_or_default().to_owned()
}

/// The code strings of an element of several values.
fn codes(header: &Header, tag: Tag) -> Vec<String> {
    let values = header.ascii(tag).map(|it| it.split('\\').map(|it| it.trim().to_owned()));
    values.map(Iterator::collect).unwrap_or_default()
}

/// An integer string (IS).
fn whole_number(header: &Header, tag: Tag) -> Option<i64> {
    header.ascii(tag)?.parse().ok()
}

/// The sex, if it is one of the defined terms.
fn sex(header: &Header) -> String {
    let sex = header.ascii(tags::PATIENT_SEX).unwrap_or_default();
    if matches!(sex, "M" | "F" | "O") { sex.to_owned() } else { String::new() }
}

/// The age as stated, or else from the date of birth to the date of the study, as an age string
/// (AS).
fn age(header: &Header) -> String {
    let stated = header.ascii(tags::PATIENT_AGE).unwrap_or_default();
    if is_age(stated) {
        return stated.to_owned();
    }
    let date = |tag| header.ascii(tag).and_then(date_time::date);
    let dates = date(tags::PATIENT_BIRTH_DATE).zip(date(tags::STUDY_DATE));
    dates.and_then(|(birth, study)| age_between(&birth, &study)).unwrap_or_default()
}

/// Whether a text is three digits and a unit: days, weeks, months or years (PS3.5, 6.2).
fn is_age(text: &str) -> bool {
    matches!(text.as_bytes(), [digits @ .., b'D' | b'W' | b'M' | b'Y']
        if digits.len() == 3 && digits.iter().all(u8::is_ascii_digit))
}

/// The age between two dates (`YYYYMMDD`): in years from the second birthday on, before it in
/// months.
pub(super) fn age_between(birth: &str, study: &str) -> Option<String> {
    let months = |date: &str| {
        let year: i32 = date.get(..4)?.parse().ok()?;
        let month: i32 = date.get(4..6)?.parse().ok()?;
        Some(12 * year + month)
    };
    let is_before_day = study.get(6..)? < birth.get(6..)?;
    let months = months(study)? - months(birth)? - i32::from(is_before_day);
    match months {
        0..24 => Some(format!("{months:03}M")),
        24..12_000 => Some(format!("{:03}Y", months / 12)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use encoding::dicom::header::{Encoding, read_encoded};

    use super::*;

    /// A header with these elements, in the order of their tags.
    fn header(elements: &[(Tag, &[u8; 2], &str)]) -> Header {
        let mut bytes = Vec::new();
        for (Tag(group, number), vr, text) in elements {
            let padded =
                if text.len().is_multiple_of(2) { (*text).to_owned() } else { format!("{text} ") };
            bytes.extend(group.to_le_bytes());
            bytes.extend(number.to_le_bytes());
            bytes.extend(*vr);
            bytes.extend(u16::try_from(padded.len()).unwrap().to_le_bytes());
            bytes.extend(padded.bytes());
        }
        let encoding = Encoding::of("1.2.840.10008.1.2.1");
        read_encoded(Cursor::new(bytes.as_slice()), bytes.len() as u64, encoding).unwrap()
    }

    #[test]
    fn din_83_a_plugin_is_told_view_side_position_and_numbers() {
        let facts = image_facts(&header(&[
            (tags::IMAGE_TYPE, b"CS", "ORIGINAL\\PRIMARY"),
            (tags::BODY_PART_EXAMINED, b"CS", "CHEST"),
            (tags::VIEW_POSITION, b"CS", "PA"),
            (tags::SERIES_NUMBER, b"IS", "3"),
            (tags::ACQUISITION_NUMBER, b"IS", "2"),
            (tags::INSTANCE_NUMBER, b"IS", " 10"),
            (tags::PATIENT_ORIENTATION, b"CS", "L\\F"),
            (tags::IMAGE_POSITION_PATIENT, b"DS", "-1.5\\2\\3"),
            (tags::IMAGE_ORIENTATION_PATIENT, b"DS", "1\\0\\0\\0\\1\\0"),
            (tags::LATERALITY, b"CS", "R"),
            (tags::IMAGE_LATERALITY, b"CS", "L"),
        ]));
        let expected = ImageFacts {
            series_number: Some(3),
            acquisition_number: Some(2),
            instance_number: Some(10),
            image_type: vec!["ORIGINAL".to_owned(), "PRIMARY".to_owned()],
            view_position: "PA".to_owned(),
            view_code: None,
            laterality: "L".to_owned(),
            patient_orientation: vec!["L".to_owned(), "F".to_owned()],
            body_part: "CHEST".to_owned(),
            position: Some([-1.5, 2.0, 3.0]),
            orientation: Some([1.0, 0.0, 0.0, 0.0, 1.0, 0.0]),
        };
        assert_eq!(facts, expected);
        assert_eq!(image_facts(&header(&[])), ImageFacts::default());
    }

    #[test]
    fn din_83_a_plugin_is_told_the_view_code_beside_the_view_position() {
        let mut item = Vec::new();
        for (element, vr, text) in [
            (0x0100_u16, b"SH", "272479007 "),
            (0x0102, b"SH", "SCT "),
            (0x0104, b"LO", "postero-anterior"),
        ] {
            item.extend([0x08, 0x00]);
            item.extend(element.to_le_bytes());
            item.extend(vr);
            item.extend(u16::try_from(text.len()).unwrap().to_le_bytes());
            item.extend(text.bytes());
        }
        let length = u32::try_from(item.len()).unwrap();
        let mut bytes = vec![0x54, 0x00, 0x20, 0x02, b'S', b'Q', 0, 0];
        bytes.extend((length + 8).to_le_bytes());
        bytes.extend([0xFE, 0xFF, 0x00, 0xE0]);
        bytes.extend(length.to_le_bytes());
        bytes.extend(item);
        let encoding = Encoding::of("1.2.840.10008.1.2.1");
        let header =
            read_encoded(Cursor::new(bytes.as_slice()), bytes.len() as u64, encoding).unwrap();

        let facts = image_facts(&header);

        assert_eq!(facts.view_code, Some(Code::new("272479007", "SCT", "postero-anterior")));
        assert_eq!((facts.view_position.as_str(), facts.view()), ("", "postero-anterior"));
    }

    #[test]
    fn din_83_an_age_is_as_stated_or_from_the_date_of_birth() {
        let aged = |stated, birth| {
            age(&header(&[
                (tags::STUDY_DATE, b"DA", "20260115"),
                (tags::PATIENT_BIRTH_DATE, b"DA", birth),
                (tags::PATIENT_AGE, b"AS", stated),
            ]))
        };
        for (stated, birth, expected) in [
            ("045Y", "20200101", "045Y"),
            ("45", "19800116", "045Y"),
            ("", "19800115", "046Y"),
            ("", "20250116", "011M"),
            ("", "20260116", ""),
            ("", "19803001", ""),
        ] {
            assert_eq!(aged(stated, birth), expected, "{stated} {birth}");
        }
    }
}
