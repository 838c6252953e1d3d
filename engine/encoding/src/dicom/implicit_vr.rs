//! Writes a data set of Explicit VR Little Endian in Implicit VR Little Endian, the transfer syntax
//! that every receiver accepts (PS3.5, 10.1 and A.1).
//!
//! The bytes of every value stay as they are: only the heads of elements change. Sequences and
//! items get an undefined length, because the lengths of what they hold change. Group lengths
//! (retired) are dropped where they would no longer hold.

use super::header::Encoding;
use super::rewriting::{Form, RewriteError, rewritten};

const EXPLICIT_LITTLE_ENDIAN: Encoding =
    Encoding { is_explicit: true, is_big_endian: false, is_deflated: false };

/// The data set, given in Explicit VR Little Endian, in Implicit VR Little Endian.
///
/// # Errors
///
/// Fails if the data set cannot be read, or its pixels are compressed.
pub fn written(data: &[u8]) -> Result<Vec<u8>, RewriteError> {
    rewritten(data, EXPLICIT_LITTLE_ENDIAN, Form::Implicit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dicom::header::{ITEM, ITEM_END, SEQUENCE_END, Tag, UNDEFINED, has_short_length};

    /// An element in Explicit VR Little Endian.
    fn explicit(tag: Tag, vr: [u8; 2], value: &[u8]) -> Vec<u8> {
        let mut bytes = [tag.0.to_le_bytes(), tag.1.to_le_bytes()].concat();
        bytes.extend(vr);
        if has_short_length(vr) {
            bytes.extend(u16::try_from(value.len()).unwrap().to_le_bytes());
        } else {
            bytes.extend([0, 0]);
            bytes.extend(u32::try_from(value.len()).unwrap().to_le_bytes());
        }
        [bytes, value.to_vec()].concat()
    }

    /// An element, item or delimiter in Implicit VR Little Endian, with this length.
    fn implicit(tag: Tag, length: u32, value: &[u8]) -> Vec<u8> {
        let tag_bytes = [tag.0.to_le_bytes(), tag.1.to_le_bytes()].concat();
        [tag_bytes, length.to_le_bytes().to_vec(), value.to_vec()].concat()
    }

    const PIXEL_DATA: Tag = Tag(0x7FE0, 0x0010);
    const PATIENT_ID: Tag = Tag(0x0010, 0x0020);
    const REFERENCES: Tag = Tag(0x0008, 0x1199);
    const TEXT: Tag = Tag(0x0040, 0xA160);

    #[test]
    fn din_05_values_stay_as_they_are_and_heads_lose_their_vr() {
        let pixels = explicit(PIXEL_DATA, *b"OW", &[1, 2, 3, 4]);
        let data = [explicit(PATIENT_ID, *b"LO", b"47\xE9 "), pixels].concat();
        let expected =
            [implicit(PATIENT_ID, 4, b"47\xE9 "), implicit(PIXEL_DATA, 4, &[1, 2, 3, 4])];
        assert_eq!(written(&data).unwrap(), expected.concat());
    }

    #[test]
    fn din_05_sequences_of_either_length_are_written_with_delimiters() {
        let inner = explicit(TEXT, *b"UT", b"note");
        let item = implicit(ITEM, u32::try_from(inner.len()).unwrap(), &inner);
        let expected = [
            implicit(REFERENCES, UNDEFINED, &[]),
            implicit(ITEM, UNDEFINED, &[]),
            implicit(TEXT, 4, b"note"),
            implicit(ITEM_END, 0, &[]),
            implicit(SEQUENCE_END, 0, &[]),
            implicit(PIXEL_DATA, 2, &[7, 7]),
        ]
        .concat();
        let pixels = explicit(PIXEL_DATA, *b"OB", &[7, 7]);
        let of_known_length = [explicit(REFERENCES, *b"SQ", &item), pixels.clone()].concat();
        assert_eq!(written(&of_known_length).unwrap(), expected);
        let mut undefined = explicit(REFERENCES, *b"SQ", &[]);
        let at = undefined.len() - 4;
        undefined[at..].fill(0xFF);
        let end = implicit(SEQUENCE_END, 0, &[]);
        let of_undefined_length = [undefined, item, end, pixels].concat();
        assert_eq!(written(&of_undefined_length).unwrap(), expected);
    }

    #[test]
    fn din_05_what_is_of_unknown_vr_and_undefined_length_is_implicit_already() {
        let tag = Tag(0x0009, 0x1001);
        let inside = [
            implicit(ITEM, UNDEFINED, &[]),
            implicit(TEXT, 4, b"note"),
            implicit(ITEM_END, 0, &[]),
            implicit(SEQUENCE_END, 0, &[]),
        ]
        .concat();
        let mut data = explicit(tag, *b"UN", &[]);
        let at = data.len() - 4;
        data[at..].fill(0xFF);
        data.extend(&inside);
        assert_eq!(written(&data).unwrap(), [implicit(tag, UNDEFINED, &[]), inside].concat());
    }

    #[test]
    fn din_05_group_lengths_are_dropped() {
        let length = explicit(Tag(0x0010, 0), *b"UL", &[12, 0, 0, 0]);
        let data = [length, explicit(PATIENT_ID, *b"LO", b"4711")].concat();
        assert_eq!(written(&data).unwrap(), implicit(PATIENT_ID, 4, b"4711"));
    }

    #[test]
    fn din_05_compressed_pixels_and_broken_data_are_not_written() {
        let mut pixels = explicit(PIXEL_DATA, *b"OB", &[]);
        let at = pixels.len() - 4;
        pixels[at..].fill(0xFF);
        let fragments = [implicit(ITEM, 0, &[]), implicit(SEQUENCE_END, 0, &[])].concat();
        let compressed = written(&[pixels, fragments].concat());
        assert!(matches!(compressed, Err(RewriteError::Compressed)), "{compressed:?}");
        let truncated = written(b"\x10\x00\x20\x00LO\x09\x004711");
        assert!(matches!(truncated, Err(RewriteError::Header(_))), "{truncated:?}");
    }

    /// What a reader passes over is not sent on: another one may not pass over it.
    #[test]
    fn din_23_what_does_not_belong_in_a_data_set_is_not_written() {
        let command = explicit(Tag(0, 2), *b"UI", b"1.2\0");
        let meta = explicit(Tag(2, 0x10), *b"UI", b"1.2.840.10008.1.2.1\0");
        let unknown = b"\x09\0\x01\x10??\x04\0abcd".to_vec();
        let filling = vec![0; 64];
        let data = [command, meta, unknown, explicit(PATIENT_ID, *b"LO", b"4711"), filling];
        let expected =
            [implicit(Tag(9, 0x1001), 4, b"abcd"), implicit(PATIENT_ID, 4, b"4711")].concat();
        assert_eq!(written(&data.concat()).unwrap(), expected);
    }
}
