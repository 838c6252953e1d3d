//! Coerces the patient identity of an object when it is sent or exported. The stored object stays
//! as it was received (DIN-62; PS3.3, C.12.1.1.9).

use std::io::Cursor;

use crate::dicom::charset::Charset;
use crate::dicom::header::{Encoding, Header, HeaderError, Tag, is_foreign, read_encoded, starts};

const CHARACTER_SET: Tag = Tag(0x0008, 0x0005);
const COERCED_AT: Tag = Tag(0x0008, 0x0015);
const PATIENT_NAME: Tag = Tag(0x0010, 0x0010);
const PATIENT_ID: Tag = Tag(0x0010, 0x0020);
const ISSUER: Tag = Tag(0x0010, 0x0021);
const ISSUER_QUALIFIERS: Tag = Tag(0x0010, 0x0024);
const BIRTH_DATE: Tag = Tag(0x0010, 0x0030);
const SEX: Tag = Tag(0x0010, 0x0040);
const MODIFIED: Tag = Tag(0x0400, 0x0550);
const ORIGINAL: Tag = Tag(0x0400, 0x0561);
const MODIFIED_AT: Tag = Tag(0x0400, 0x0562);
const MODIFYING_SYSTEM: Tag = Tag(0x0400, 0x0563);
const SOURCE: Tag = Tag(0x0400, 0x0564);
const REASON: Tag = Tag(0x0400, 0x0565);

/// The current identity of a patient.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Patient ID.
    pub id: String,
    /// Issuer of Patient ID; empty if the site has only one.
    pub issuer: String,
    /// The issuer of an object that names none.
    pub default_issuer: String,
    /// Patient's Name as DICOM writes it; empty leaves that of the object.
    pub name: String,
    /// Patient's Birth Date; empty leaves that of the object.
    pub birth_date: String,
    /// Patient's Sex; empty leaves that of the object.
    pub sex: String,
}

/// When and by which system an identity is coerced: the origin of the change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Writer {
    /// Date and time with offset (`DT`).
    pub at: String,
    /// The system that changes the values.
    pub system: String,
    /// Source of the previous values.
    pub source: String,
}

/// Why an object cannot be coerced.
#[derive(Debug, thiserror::Error)]
pub enum CoercionError {
    /// The data set cannot be read.
    #[error("the data set cannot be read")]
    Header(#[from] HeaderError),
    /// The character set of the object lacks a character of the new value.
    #[error("{0} cannot be written in the character set of the object")]
    Charset(Tag),
    /// The Original Attributes Sequence of the object is encoded so that no item can be added.
    #[error("its Original Attributes Sequence (0400,0561) is not written as a sequence (SQ)")]
    Original,
    /// The data set is longer than may be held in memory (SEC-23).
    #[error("the data set is longer than the {bytes_max} bytes that may be held in memory")]
    TooLong {
        /// The limit.
        bytes_max: u64,
    },
}

/// Whether an object already has the Patient ID of `identity`, from the same issuer.
pub fn is_current(header: &Header, identity: &Identity) -> bool {
    let current = |tag| header.text(tag).map(|it| it.text).unwrap_or_default();
    let issuer = Some(current(ISSUER)).filter(|it| !it.is_empty());
    let issuer = issuer.unwrap_or_else(|| identity.default_issuer.clone());
    let is_same_issuer = identity.issuer.is_empty() || issuer == identity.issuer;
    current(PATIENT_ID) == identity.id && is_same_issuer
}

/// The data set of an object with this identity, and its previous values in the Original Attributes
/// Sequence. Nothing, if the object has this Patient ID already.
///
/// # Errors
///
/// Fails if the data set cannot be read or is deflated, its character set lacks a character, or it
/// has more than `bytes_max` bytes.
pub fn coerced(
    data: &[u8],
    encoding: Encoding,
    identity: &Identity,
    writer: &Writer,
    bytes_max: u64,
) -> Result<Option<Vec<u8>>, CoercionError> {
    let header = read_encoded(Cursor::new(data), data.len() as u64, encoding)?;
    if is_current(&header, identity) {
        return Ok(None);
    }
    if data.len() as u64 > bytes_max {
        return Err(CoercionError::TooLong { bytes_max });
    }
    spliced(data, encoding, &header, identity, writer).map(Some)
}

fn spliced(
    data: &[u8],
    encoding: Encoding,
    header: &Header,
    identity: &Identity,
    writer: &Writer,
) -> Result<Vec<u8>, CoercionError> {
    let charset = header.ascii(CHARACTER_SET).map(Charset::parse).unwrap_or_default();
    let at = starts(Cursor::new(data), data.len() as u64, encoding)?;
    let ends = at.iter().skip(1).map(|it| it.1).chain([header.end(data.len()) as u64]);
    let place = |it: u64| usize::try_from(it).unwrap_or(usize::MAX);
    let spans: Vec<(Tag, &[u8])> = at
        .iter()
        .zip(ends)
        .filter_map(|((tag, start), end)| Some((*tag, data.get(place(*start)..place(end))?)))
        .collect();
    let changed = changes(identity, &charset)?;
    // The issuer of the previous ID does not apply to the current one.
    let is_replaced =
        |tag| changed.iter().any(|it| it.0 == tag) || [ISSUER, ISSUER_QUALIFIERS].contains(&tag);
    let former: Vec<&(Tag, &[u8])> = spans.iter().filter(|it| is_replaced(it.0)).collect();
    let mut added: Vec<(Tag, Vec<u8>)> = changed
        .iter()
        .map(|(tag, vr, value)| (*tag, element(encoding, *tag, *vr, value, b' ')))
        .collect();
    added.push((COERCED_AT, element(encoding, COERCED_AT, *b"DT", writer.at.as_bytes(), b' ')));
    let before = spans.iter().find(|(tag, _)| *tag == ORIGINAL).map(|it| it.1);
    added.push((ORIGINAL, original(encoding, before, &former, writer)?));
    // Group lengths (retired) are dropped where they no longer hold.
    let is_length = |tag: Tag| tag.1 == 0 && added.iter().any(|it| it.0.0 == tag.0);
    let is_gone = |tag| {
        is_replaced(tag) || is_length(tag) || is_foreign(tag) || added.iter().any(|it| it.0 == tag)
    };
    let unchanged = spans.iter().filter(|it| !is_gone(it.0));
    let mut all: Vec<(Tag, &[u8])> = unchanged.copied().collect();
    all.extend(added.iter().map(|(tag, bytes)| (*tag, bytes.as_slice())));
    all.sort_by_key(|it| it.0);
    Ok(all.into_iter().flat_map(|it| it.1.iter().copied()).collect())
}

/// An element and its new value: tag, VR, bytes.
type Change = (Tag, [u8; 2], Vec<u8>);

/// The elements with a new value, in the character set of the object.
fn changes(identity: &Identity, charset: &Charset) -> Result<Vec<Change>, CoercionError> {
    let all = [
        (PATIENT_NAME, *b"PN", &identity.name),
        (PATIENT_ID, *b"LO", &identity.id),
        (ISSUER, *b"LO", &identity.issuer),
        (BIRTH_DATE, *b"DA", &identity.birth_date),
        (SEX, *b"CS", &identity.sex),
    ];
    let mut changes = Vec::new();
    for (tag, vr, text) in all.into_iter().filter(|it| !it.2.is_empty()) {
        let value = charset.encode(text).ok_or(CoercionError::Charset(tag))?;
        changes.push((tag, vr, value));
    }
    Ok(changes)
}

/// Original Attributes Sequence (0400,0561): the items that were there, and a new one.
fn original(
    encoding: Encoding,
    before: Option<&[u8]>,
    former: &[&(Tag, &[u8])],
    writer: &Writer,
) -> Result<Vec<u8>, CoercionError> {
    let text = |tag, vr, value: &str| element(encoding, tag, vr, value.as_bytes(), b' ');
    let values: Vec<u8> = former.iter().flat_map(|it| it.1.iter().copied()).collect();
    let modified = sequence(encoding, MODIFIED, &[], &item(encoding, &values));
    let content = [
        modified,
        text(MODIFIED_AT, *b"DT", &writer.at),
        text(MODIFYING_SYSTEM, *b"LO", &writer.system),
        text(SOURCE, *b"LO", &writer.source),
        text(REASON, *b"CS", "COERCE"),
    ];
    // One of VR UN would hold items of another encoding (PS3.5, 6.2.2).
    let is_sequence = |it: &[u8]| !encoding.is_explicit || it.get(4..6) == Some(b"SQ");
    if !before.is_none_or(is_sequence) {
        return Err(CoercionError::Original);
    }
    let before = before.map(|it| items(encoding, it)).unwrap_or_default();
    Ok(sequence(encoding, ORIGINAL, &before, &item(encoding, &content.concat())))
}

/// The items of an encoded sequence element.
fn items(encoding: Encoding, element: &[u8]) -> Vec<u8> {
    let head = if encoding.is_explicit { 12 } else { 8 };
    let length = element.get(head - 4..head).unwrap_or_default();
    let content = element.get(head..).unwrap_or_default();
    if length == [0xFF; 4] {
        // Without the delimiter at its end.
        return content.get(..content.len().saturating_sub(8)).unwrap_or_default().to_vec();
    }
    content.to_vec()
}

fn sequence(encoding: Encoding, tag: Tag, before: &[u8], items: &[u8]) -> Vec<u8> {
    let mut bytes = tag_bytes(encoding, tag);
    if encoding.is_explicit {
        bytes.extend(b"SQ\0\0");
    }
    bytes.extend([0xFF; 4]);
    bytes.extend(before);
    bytes.extend(items);
    bytes.extend(tag_bytes(encoding, Tag(0xFFFE, 0xE0DD)));
    bytes.extend([0; 4]);
    bytes
}

fn item(encoding: Encoding, content: &[u8]) -> Vec<u8> {
    let mut bytes = tag_bytes(encoding, Tag(0xFFFE, 0xE000));
    bytes.extend([0xFF; 4]);
    bytes.extend(content);
    bytes.extend(tag_bytes(encoding, Tag(0xFFFE, 0xE00D)));
    bytes.extend([0; 4]);
    bytes
}

/// An element with a short value.
fn element(encoding: Encoding, tag: Tag, vr: [u8; 2], value: &[u8], padding: u8) -> Vec<u8> {
    let mut value = value.to_vec();
    value.resize(value.len().next_multiple_of(2), padding);
    let mut bytes = tag_bytes(encoding, tag);
    if encoding.is_explicit {
        bytes.extend(vr);
        let length = u16::try_from(value.len()).unwrap_or(u16::MAX - 1);
        value.truncate(length.into());
        bytes.extend(if encoding.is_big_endian {
            length.to_be_bytes()
        } else {
            length.to_le_bytes()
        });
    } else {
        bytes.extend(u32::try_from(value.len()).unwrap_or_default().to_le_bytes());
    }
    bytes.extend(value);
    bytes
}

fn tag_bytes(encoding: Encoding, Tag(group, number): Tag) -> Vec<u8> {
    let pair = [group, number];
    let bytes =
        pair.map(|it| if encoding.is_big_endian { it.to_be_bytes() } else { it.to_le_bytes() });
    bytes.concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Encoding =
        Encoding { is_explicit: true, is_big_endian: false, is_deflated: false };

    fn data_set(encoding: Encoding) -> Vec<u8> {
        let it =
            |tag, vr: &[u8; 2], value: &str| element(encoding, tag, *vr, value.as_bytes(), b' ');
        [
            it(CHARACTER_SET, b"CS", "ISO_IR 100"),
            it(PATIENT_NAME, b"PN", "OLD^NAME"),
            it(PATIENT_ID, b"LO", "17"),
            it(SEX, b"CS", "F"),
            it(Tag(0x0020, 0x0010), b"SH", "study"),
        ]
        .concat()
    }

    fn writer(at: &str) -> Writer {
        Writer { at: at.to_owned(), system: "ISOCENTER".to_owned(), source: "CT1".to_owned() }
    }

    fn identity(id: &str, name: &str) -> Identity {
        let (id, name) = (id.to_owned(), name.to_owned());
        Identity { id, name, issuer: "HOSP".to_owned(), ..Identity::default() }
    }

    /// More than any data set of these tests has.
    const BYTES_MAX: u64 = 1 << 20;

    fn read(data: &[u8], encoding: Encoding) -> Header {
        read_encoded(Cursor::new(data), data.len() as u64, encoding).unwrap()
    }

    #[test]
    fn din_62_the_view_has_the_new_values_and_keeps_the_rest_in_every_encoding() {
        for encoding in [
            PLAIN,
            Encoding { is_explicit: false, ..PLAIN },
            Encoding { is_big_endian: true, ..PLAIN },
        ] {
            let data = data_set(encoding);
            let first =
                coerced(&data, encoding, &identity("99", "N\u{e4}w^NAME"), &writer("1"), BYTES_MAX);
            let first = first.unwrap().unwrap();
            let header = read(&first, encoding);
            let text = |tag| header.text(tag).unwrap().text;
            assert_eq!(
                (text(PATIENT_ID), text(PATIENT_NAME), text(ISSUER), text(SEX)),
                ("99".into(), "N\u{e4}w^NAME".into(), "HOSP".into(), "F".into()),
                "{encoding:?}"
            );
            assert_eq!((text(COERCED_AT), text(Tag(0x0020, 0x0010))), ("1".into(), "study".into()));
            // Once more: the former item stays, another one comes.
            let second = coerced(&first, encoding, &identity("100", "X"), &writer("2"), BYTES_MAX);
            let second = second.unwrap().unwrap();
            assert_eq!(read(&second, encoding).text(PATIENT_ID).unwrap().text, "100");
            let has = |it: &[u8]| second.windows(it.len()).any(|window| window == it);
            assert!(has(b"OLD^NAME") && has(b"N\xe4w^NAME") && has(b"COERCE"), "{encoding:?}");
            // Under this identifier it is already.
            let same = coerced(&second, encoding, &identity("100", "Y"), &writer("3"), BYTES_MAX);
            assert_eq!(same.unwrap(), None);
        }
    }

    /// The former issuer beside the new ID would name another person.
    #[test]
    fn din_62_the_former_issuer_does_not_stay_beside_the_new_id() {
        let it = |tag, vr: &[u8; 2], value: &str| element(PLAIN, tag, *vr, value.as_bytes(), b' ');
        let data = |issuer: &str| {
            let length = element(PLAIN, Tag(0x0010, 0), *b"UL", &[9, 0, 0, 0], 0);
            let (id, issuer) = (it(PATIENT_ID, b"LO", "99"), it(ISSUER, b"LO", issuer));
            let qualifiers = sequence(PLAIN, ISSUER_QUALIFIERS, &[], &item(PLAIN, &[]));
            [length, id, issuer, qualifiers].concat()
        };
        let of = |id: &str, issuer: &str| Identity {
            issuer: issuer.to_owned(),
            default_issuer: "HOSP".to_owned(),
            ..identity(id, "")
        };
        let has = |header: &Header, tag| header.text(tag).is_some_and(|it| !it.text.is_empty());

        // The same number of another clinic is not this patient's.
        let view = coerced(&data("CLINIC_B"), PLAIN, &of("99", "HOSP"), &writer("1"), BYTES_MAX);
        let view = view.unwrap().unwrap();
        assert_eq!(read(&view, PLAIN).text(ISSUER).unwrap().text, "HOSP");
        // Without an issuer the default one is meant.
        assert_eq!(
            coerced(&data(""), PLAIN, &of("99", "HOSP"), &writer("1"), BYTES_MAX).unwrap(),
            None
        );
        // At a site with one authority nobody is named.
        let view = coerced(&data("CLINIC_B"), PLAIN, &of("100", ""), &writer("1"), BYTES_MAX);
        let view = view.unwrap().unwrap();
        assert!(!has(&read(&view, PLAIN), ISSUER));
        let starts = starts(Cursor::new(&view), view.len() as u64, PLAIN).unwrap();
        let tags: Vec<Tag> = starts.iter().map(|it| it.0).collect();
        assert_eq!(tags, [COERCED_AT, PATIENT_ID, ORIGINAL], "no length of a group, no qualifiers");
        assert!(view.windows(8).any(|it| it == b"CLINIC_B"), "it is kept as a former value");

        // Items of another encoding are not mixed with ours.
        let mut odd = data("CLINIC_B");
        odd.extend([0x00, 0x04, 0x61, 0x05, b'U', b'N', 0, 0, 0, 0, 0, 0]);
        let outcome = coerced(&odd, PLAIN, &of("100", ""), &writer("1"), BYTES_MAX);
        assert!(matches!(outcome, Err(CoercionError::Original)), "{outcome:?}");
    }

    #[test]
    fn sec_23_what_is_held_in_memory_has_an_upper_bound() {
        let plain = data_set(PLAIN);
        let length = plain.len() as u64;
        let within = |encoding, bytes_max| {
            coerced(&plain, encoding, &identity("99", "NEW"), &writer("1"), bytes_max)
        };
        assert!(within(PLAIN, length).unwrap().is_some());
        let outcome = within(PLAIN, length - 1);
        assert!(matches!(outcome, Err(CoercionError::TooLong { .. })), "{outcome:?}");
        let outcome = within(Encoding { is_deflated: true, ..PLAIN }, length);
        let is_refused = matches!(outcome, Err(CoercionError::Header(HeaderError::Deflated)));
        assert!(is_refused, "{outcome:?}");
    }

    #[test]
    fn din_62_a_name_that_the_object_s_letters_lack_is_refused() {
        let outcome =
            coerced(&data_set(PLAIN), PLAIN, &identity("9", "\u{738b}"), &writer("1"), BYTES_MAX);
        assert!(matches!(outcome, Err(CoercionError::Charset(PATIENT_NAME))), "{outcome:?}");
    }
}
