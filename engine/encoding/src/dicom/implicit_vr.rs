//! Writes a data set of Explicit VR Little Endian in Implicit VR Little Endian, the transfer syntax
//! that every receiver accepts (PS3.5, 10.1 and A.1).
//!
//! The bytes of every value stay as they are: only the heads of elements change. Sequences and items
//! get an undefined length, because the lengths of what they hold change. Group lengths (retired)
//! are dropped where they would no longer hold.

use std::io::Cursor;

use super::header::{
    Encoding, HeaderError, ITEM, ITEM_END, SEQUENCE_END, Tag, UNDEFINED, has_short_length,
    read_encoded,
};

const EXPLICIT_LITTLE_ENDIAN: Encoding =
    Encoding { is_explicit: true, is_big_endian: false, is_deflated: false };

const PIXEL_DATA: Tag = Tag(0x7FE0, 0x0010);

/// Why a data set cannot be written in Implicit VR.
#[derive(Debug, thiserror::Error)]
pub enum ImplicitVrError {
    /// It cannot be read.
    #[error("the data set cannot be read")]
    Header(#[from] HeaderError),
    /// Its pixels are compressed: there is no Implicit VR for them.
    #[error("its pixels are compressed")]
    Compressed,
    /// An element ends beyond what encloses it, or a delimiter is out of place.
    #[error("an element is out of place")]
    OutOfPlace,
}

/// A sequence or item that has begun and not ended.
#[derive(Clone, Copy)]
struct Open {
    is_item: bool,
    /// Where it ends; nothing, if a delimiter ends it.
    end: Option<usize>,
    is_explicit: bool,
}

/// The head of an element.
struct Head {
    is_sequence: bool,
    is_explicit: bool,
    /// Length of the value; nothing if it is undefined.
    length: Option<usize>,
}

struct Writer<'a> {
    data: &'a [u8],
    position: usize,
    open: Vec<Open>,
    out: Vec<u8>,
}

/// The data set, given in Explicit VR Little Endian, in Implicit VR Little Endian.
///
/// # Errors
///
/// Fails if the data set cannot be read, or its pixels are compressed.
pub fn written(data: &[u8]) -> Result<Vec<u8>, ImplicitVrError> {
    // The bounded reader refuses lengths that lie and nesting without end.
    read_encoded(Cursor::new(data), data.len() as u64, EXPLICIT_LITTLE_ENDIAN)?;
    let out = Vec::with_capacity(data.len() + data.len() / 16);
    let mut writer = Writer { data, position: 0, open: Vec::new(), out };
    while writer.step()? {}
    Ok(writer.out)
}

impl Writer<'_> {
    /// Writes one element or delimiter. False at the end of the data set.
    fn step(&mut self) -> Result<bool, ImplicitVrError> {
        while let Some(ended) = self.open.pop_if(|it| it.end == Some(self.position)) {
            self.delimit(ended);
        }
        if self.position == self.data.len() && self.open.is_empty() {
            return Ok(false);
        }
        let tag = Tag(self.u16()?, self.u16()?);
        if tag.0 == 0xFFFE {
            self.delimiter(tag)?;
            return Ok(true);
        }
        let head = self.head()?;
        if head.is_sequence {
            if tag == PIXEL_DATA {
                return Err(ImplicitVrError::Compressed);
            }
            self.begin(tag, false, head.length, head.is_explicit)?;
        } else {
            let length = head.length.ok_or(ImplicitVrError::OutOfPlace)?;
            self.value(tag, length)?;
        }
        Ok(true)
    }

    fn head(&mut self) -> Result<Head, ImplicitVrError> {
        let is_explicit = self.open.last().is_none_or(|it| it.is_explicit);
        if !is_explicit {
            let length = self.length()?;
            return Ok(Head { is_sequence: length.is_none(), is_explicit, length });
        }
        let vr: [u8; 2] = self.bytes()?;
        if has_short_length(vr) {
            let length = Some(usize::from(self.u16()?));
            return Ok(Head { is_sequence: false, is_explicit, length });
        }
        let _reserved: [u8; 2] = self.bytes()?;
        let length = self.length()?;
        let is_sequence = vr == *b"SQ" || length.is_none();
        // A UN of undefined length is in implicit VR, whatever encloses it (PS3.5, 6.2.2).
        Ok(Head { is_sequence, is_explicit: vr != *b"UN", length })
    }

    fn delimiter(&mut self, tag: Tag) -> Result<(), ImplicitVrError> {
        let length = self.length()?;
        match (tag, self.open.last().copied()) {
            (ITEM, Some(Open { is_item: false, is_explicit, .. })) => {
                self.begin(tag, true, length, is_explicit)
            }
            (ITEM_END, Some(ended @ Open { is_item: true, .. }))
            | (SEQUENCE_END, Some(ended @ Open { is_item: false, .. })) => {
                self.open.pop();
                self.delimit(ended);
                Ok(())
            }
            _ => Err(ImplicitVrError::OutOfPlace),
        }
    }

    /// Begins a sequence or an item of undefined length.
    fn begin(
        &mut self,
        tag: Tag,
        is_item: bool,
        length: Option<usize>,
        is_explicit: bool,
    ) -> Result<(), ImplicitVrError> {
        self.write_head(tag, UNDEFINED);
        let end = match length {
            Some(length) => Some(self.end_of(length)?),
            None => None,
        };
        self.open.push(Open { is_item, end, is_explicit });
        Ok(())
    }

    /// Ends a sequence or an item.
    fn delimit(&mut self, ended: Open) {
        self.write_head(if ended.is_item { ITEM_END } else { SEQUENCE_END }, 0);
    }

    fn value(&mut self, tag: Tag, length: usize) -> Result<(), ImplicitVrError> {
        let end = self.end_of(length)?;
        let value = self.data.get(self.position..end).ok_or(ImplicitVrError::OutOfPlace)?;
        self.position = end;
        if tag.1 != 0 {
            self.write_head(tag, u32::try_from(length).unwrap_or(UNDEFINED));
            self.out.extend_from_slice(value);
        }
        Ok(())
    }

    fn write_head(&mut self, tag: Tag, length: u32) {
        self.out.extend(tag.0.to_le_bytes());
        self.out.extend(tag.1.to_le_bytes());
        self.out.extend(length.to_le_bytes());
    }

    /// The place at which a value of this length ends.
    fn end_of(&self, length: usize) -> Result<usize, ImplicitVrError> {
        let end = self.position.checked_add(length);
        end.filter(|it| *it <= self.data.len()).ok_or(ImplicitVrError::OutOfPlace)
    }

    /// A length of 32 bits; nothing if it is undefined.
    fn length(&mut self) -> Result<Option<usize>, ImplicitVrError> {
        let length = u32::from_le_bytes(self.bytes()?);
        let is_defined = length != UNDEFINED;
        Ok(usize::try_from(length).ok().filter(|_| is_defined))
    }

    fn u16(&mut self) -> Result<u16, ImplicitVrError> {
        Ok(u16::from_le_bytes(self.bytes()?))
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], ImplicitVrError> {
        let rest = self.data.get(self.position..).unwrap_or_default();
        let bytes = rest.first_chunk::<N>().ok_or(ImplicitVrError::OutOfPlace)?;
        self.position += N;
        Ok(*bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(matches!(compressed, Err(ImplicitVrError::Compressed)), "{compressed:?}");
        let truncated = written(b"\x10\x00\x20\x00LO\x09\x004711");
        assert!(matches!(truncated, Err(ImplicitVrError::Header(_))), "{truncated:?}");
    }
}
