//! The bounded reader of data sets: what it reads, and what it refuses (SEC-21 to SEC-24).

use std::io::Cursor;

use proptest::prelude::*;

use super::*;

const EXPLICIT: Encoding = Encoding { is_explicit: true, is_big_endian: false, is_deflated: false };
const DEFLATED_ENCODING: Encoding = Encoding { is_deflated: true, ..EXPLICIT };
const IMPLICIT: Encoding = Encoding { is_explicit: false, ..EXPLICIT };

fn header(bytes: &[u8], encoding: Encoding) -> Result<Header, HeaderError> {
    if encoding.is_deflated {
        let plain = inflated_header(bytes, bytes.len() as u64)?;
        return read_encoded(Cursor::new(&plain), plain.len() as u64, Encoding::INFLATED);
    }
    read_encoded(Cursor::new(bytes), bytes.len() as u64, encoding)
}

fn element(group: u16, number: u16, vr: [u8; 2], value: &[u8]) -> Vec<u8> {
    let mut bytes = [group.to_le_bytes(), number.to_le_bytes()].concat();
    bytes.extend(vr);
    bytes.extend(u16::try_from(value.len()).unwrap().to_le_bytes());
    bytes.extend(value);
    bytes
}

#[test]
fn values_of_the_top_level_are_kept() {
    let bytes = [
        element(0x0008, 0x0005, *b"CS", b"GB18030 "),
        element(0x0010, 0x0010, *b"PN", b"\xd5\x5c^\xc8\xfd "),
        element(0x0028, 0x0030, *b"DS", b"0.5\\0.25"),
    ]
    .concat();

    let header = header(&bytes, EXPLICIT).unwrap();

    assert_eq!(header.text(Tag(0x0010, 0x0010)).unwrap().text, "誠^三");
    assert_eq!(header.decimals(Tag(0x0028, 0x0030)), Some(vec![0.5, 0.25]));
}

/// Of requests the first counts, however its lengths are written; what lies deeper in it does not.
#[test]
fn hl7_40_the_first_request_of_a_data_set_is_kept() {
    fn nested(tag: [u8; 4], vr: &[u8], content: &[u8], is_open: bool) -> Vec<u8> {
        let length = u32::try_from(content.len()).unwrap();
        let length = if is_open { UNDEFINED } else { length };
        [tag.as_slice(), vr, &length.to_le_bytes(), content].concat()
    }
    const UNDEFINED: u32 = 0xFFFF_FFFF;
    let (sequence, item) = ([0x40, 0, 0x75, 0x02], [0xFE, 0xFF, 0, 0xE0]);
    let placer = |value: &[u8], encoding: Encoding| {
        let explicit = element(0x0040, 0x2016, *b"LO", value);
        let length = u32::try_from(value.len()).unwrap().to_le_bytes();
        let implicit = [[0x40, 0, 0x16, 0x20], length].concat();
        if encoding.is_explicit { explicit } else { [implicit.as_slice(), value].concat() }
    };
    for (encoding, vr) in [(EXPLICIT, b"SQ\0\0".as_slice()), (IMPLICIT, b"")] {
        for is_open in [false, true] {
            let (item_end, end) =
                ([0xFE, 0xFF, 0x0D, 0xE0, 0, 0, 0, 0], [0xFE, 0xFF, 0xDD, 0xE0, 0, 0, 0, 0]);
            let closed = |mut bytes: Vec<u8>, by: [u8; 8]| {
                if is_open {
                    bytes.extend(by);
                }
                bytes
            };
            let deeper = nested(item, b"", &placer(b"deeper", encoding), false);
            let deeper = nested([0x32, 0, 0x64, 0x10], vr, &deeper, false);
            let of = |name: &[u8]| {
                let inside = [placer(name, encoding), deeper.clone()].concat();
                nested(item, b"", &closed(inside, item_end), is_open)
            };
            let both = closed([of(b"P1"), of(b"P2")].concat(), end);
            let bytes = nested(sequence, vr, &both, is_open);

            let header = header(&bytes, encoding).unwrap();

            let tag = Tag(0x0040, 0x2016);
            assert_eq!(header.request_text(tag).unwrap().text, "P1", "{encoding:?} {is_open}");
            assert_eq!(header.text(tag), None);
        }
    }
}

/// The authority of a Patient ID may be named by its OID only.
#[test]
fn din_60_the_universal_issuer_of_a_patient_id_is_read() {
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap().to_le_bytes();
    let value = b"1.2.3.111 ".as_slice();
    let id = [[0x40, 0, 0x32, 0].as_slice(), b"UT\0\0", &length(value), value].concat();
    let item = [[0xFE, 0xFF, 0, 0xE0].as_slice(), &length(&id), &id].concat();
    let sequence = [[0x10, 0, 0x24, 0].as_slice(), b"SQ\0\0", &length(&item), &item].concat();
    let read = header(&sequence, EXPLICIT).unwrap();
    assert_eq!(read.universal_issuer().unwrap().text, "1.2.3.111");
    assert_eq!(read.text(Tag(0x0040, 0x0032)), None);
    assert_eq!(header(&[], EXPLICIT).unwrap().universal_issuer(), None);
}

/// The bomb of `standards.md` §0.2: twelve bytes that declare a gigabyte.
#[test]
fn sec_22_a_declared_gigabyte_is_refused_before_it_is_allocated() {
    let mut bytes = vec![0x10, 0, 0x10, 0];
    bytes.extend((1_u32 << 30).to_le_bytes());
    assert!(matches!(header(&bytes, IMPLICIT), Err(HeaderError::TooLong { .. })));
}

#[test]
fn sec_22_sequences_may_not_nest_without_end() {
    let mut bytes = Vec::new();
    for _ in 0..10_000 {
        bytes.extend([0x08, 0, 0x40, 0x11, b'S', b'Q', 0, 0, 0xFF, 0xFF, 0xFF, 0xFF]);
        bytes.extend([0xFE, 0xFF, 0x00, 0xE0, 0xFF, 0xFF, 0xFF, 0xFF]);
    }
    assert!(matches!(header(&bytes, EXPLICIT), Err(HeaderError::Limit { what: "nesting" })));
}

#[test]
fn sec_23_a_deflated_bomb_is_stopped() {
    use std::io::Write as _;
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    let mut start = vec![0xE0, 0x7F, 0x10, 0x00, b'O', b'B', 0, 0];
    start.extend((512_u32 << 20).to_le_bytes());
    encoder.write_all(&start).unwrap();
    for _ in 0..512 {
        encoder.write_all(&vec![0; 1 << 20]).unwrap();
    }
    let bytes = encoder.finish().unwrap();

    let outcome = header(&bytes, Encoding { is_deflated: true, ..EXPLICIT });

    assert!(matches!(outcome, Err(HeaderError::Truncated { .. })), "{outcome:?}");
}

/// The header of a deflated data set is that of the plain one, with or without pixels.
#[test]
fn sec_24_a_deflated_data_set_is_inflated_up_to_its_pixels_and_checked_to_its_end() {
    let patient = element(0x10, 0x20, *b"LO", b"4711");
    let pixels = element(0x7FE0, 0x10, *b"OB", &[0, 0]);
    let pixels = [&pixels[..6], &[0, 0, 4, 0, 0, 0, 1, 2, 3, 4]].concat();
    let padding = element(0xFFFC, 0xFFFC, *b"LO", b"zz");
    let deflated = |it: &[u8]| crate::dicom::deflation::deflated(it).unwrap();
    for (data, has_pixels) in
        [(patient.clone(), false), ([patient.clone(), pixels.clone(), padding].concat(), true)]
    {
        let packed = deflated(&data);
        let refused = read_encoded(Cursor::new(&packed), packed.len() as u64, DEFLATED_ENCODING);
        assert!(matches!(refused, Err(HeaderError::Deflated)));
        let read = header(&packed, DEFLATED_ENCODING).unwrap();
        assert_eq!((read.ascii(Tag(0x10, 0x20)), read.has_pixels), (Some("4711"), has_pixels));
        assert!(inflated_header(packed.as_slice(), packed.len() as u64).unwrap().len() < 40);
    }
    let cut = deflated(&[patient, pixels[..14].to_vec()].concat());
    assert!(matches!(header(&cut, DEFLATED_ENCODING), Err(HeaderError::Truncated { .. })));
}

/// What dcmtk and pydicom pass over is passed over, and told.
#[test]
fn din_23_commands_meta_information_and_filling_are_passed_over_with_a_flag() {
    let patient = element(0x10, 0x20, *b"LO", b"4711");
    let meta = element(0x0002, 0x0010, *b"UI", b"1.2.840.10008.1.2\0");
    let command = element(0x0000, 0x0002, *b"UI", b"1.2\0");
    let read = header(&[command, meta, patient.clone()].concat(), EXPLICIT).unwrap();
    assert_eq!(read.ascii(Tag(0x10, 0x20)), Some("4711"));
    assert_eq!(read.claimed_transfer_syntax(), Some("1.2.840.10008.1.2"));
    assert_eq!(Vec::from_iter(read.peculiarities()), [&Peculiarity::ForeignGroup]);
    for (count, is_filling) in [(1, false), (7, false), (8, true), (12, true), (4096, true)] {
        let outcome = header(&[patient.clone(), vec![0; count]].concat(), EXPLICIT);
        let peculiarities = outcome.ok().map(|it| Vec::from_iter(it.peculiarities().clone()));
        assert_eq!(peculiarities, is_filling.then(|| vec![Peculiarity::TrailingZeros]), "{count}");
    }
    // A whole file is none of this.
    let file = [vec![0; 128], b"DICM".to_vec(), patient].concat();
    assert!(matches!(header(&file, EXPLICIT), Err(HeaderError::ForeignGroup { .. })));
}

#[test]
fn din_76_an_element_without_a_valid_vr_is_read_with_a_flag() {
    let patient = element(0x10, 0x20, *b"LO", b"4711");
    for placeholder in [*b"??", *b"  ", [0, 0]] {
        let private = element(9, 0x1001, placeholder, b"abcd");
        let read = header(&[private, patient.clone()].concat(), EXPLICIT).unwrap();
        assert_eq!(read.ascii(Tag(0x10, 0x20)), Some("4711"));
        assert_eq!(read.bytes(Tag(9, 0x1001)), Some(b"abcd".as_slice()));
        assert_eq!(Vec::from_iter(read.peculiarities()), [&Peculiarity::Placeholder]);
    }
    for bad in [*b"?!", *b"Aa", [0, 1], *b" A"] {
        let outcome = header(&element(9, 0x1001, bad, b"abcd"), EXPLICIT);
        assert!(matches!(outcome, Err(HeaderError::BadVr { .. })), "{bad:?}");
    }
}

/// What has the VR UN is in Implicit VR Little Endian, in Big Endian as well (PS3.5, 6.2.2).
#[test]
fn din_76_the_authority_of_a_patient_id_is_read_in_an_un() {
    for is_big_endian in [false, true] {
        let u16 = |it: u16| if is_big_endian { it.to_be_bytes() } else { it.to_le_bytes() };
        let u32 = |it: u32| if is_big_endian { it.to_be_bytes() } else { it.to_le_bytes() };
        let id = [[0x40, 0, 0x32, 0, 10, 0, 0, 0].as_slice(), b"1.2.3.111 "].concat();
        let item = [[0xFE, 0xFF, 0, 0xE0, 18, 0, 0, 0].as_slice(), &id].concat();
        let head = [u16(0x10).as_slice(), &u16(0x24), b"UN\0\0"].concat();
        let end = [0xFE, 0xFF, 0xDD, 0xE0, 0, 0, 0, 0];
        let closed = [head.as_slice(), &u32(26), &item].concat();
        let open = [head.as_slice(), &u32(u32::MAX), &item, &end].concat();
        for bytes in [closed, open] {
            let read = header(&bytes, Encoding { is_big_endian, ..EXPLICIT }).unwrap();
            assert_eq!(read.universal_issuer().unwrap().text, "1.2.3.111");
            let peculiarities = Vec::from_iter(read.peculiarities());
            assert_eq!(peculiarities, [&Peculiarity::UnknownRepresentation]);
        }
    }
}

#[test]
fn fragments_of_pixels_are_stepped_over_and_what_follows_is_checked() {
    let mut bytes = vec![0xE0, 0x7F, 0x10, 0x00, b'O', b'B', 0, 0, 0xFF, 0xFF, 0xFF, 0xFF];
    bytes.extend([0xFE, 0xFF, 0x00, 0xE0, 0, 0, 0, 0]);
    bytes.extend([0xFE, 0xFF, 0x00, 0xE0, 4, 0, 0, 0, 1, 2, 3, 4]);
    bytes.extend([0xFE, 0xFF, 0xDD, 0xE0, 0, 0, 0, 0]);
    assert!(header(&bytes, EXPLICIT).unwrap().has_pixels);

    bytes.extend([0xFC, 0xFF, 0xFC, 0xFF, b'O', b'B', 0, 0, 0, 0, 0, 0x40]);
    assert!(matches!(header(&bytes, EXPLICIT), Err(HeaderError::TooLong { .. })));
}

#[test]
fn a_cut_data_set_is_not_taken_for_a_whole_one() {
    let whole = [element(8, 0x18, *b"UI", b"1.2\0"), element(0x10, 0x20, *b"LO", b"P1")].concat();
    for length in 1..whole.len() {
        let outcome = header(&whole[..length], EXPLICIT);
        assert_eq!(outcome.is_ok(), length == 12, "{length}");
    }
}

proptest! {
    #[test]
    fn no_bytes_upset_the_reader(bytes in prop::collection::vec(any::<u8>(), 0..600), kind in 0..4) {
        let encoding = Encoding {
            is_explicit: kind != 0,
            is_big_endian: kind == 2,
            is_deflated: kind == 3,
        };
        _ = header(&bytes, encoding);
    }
}
