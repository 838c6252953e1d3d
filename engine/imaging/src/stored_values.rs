//! Stored values: the pixels of an image as its modality has stored them, and which of them are
//! padding.

use std::panic::{AssertUnwindSafe, catch_unwind};

use dicom_core::DataElement;
use dicom_core::value::Value;
use dicom_dictionary_std::tags;
use dicom_object::DefaultDicomObject;
use dicom_pixeldata::{DecodedPixelData, PixelDecoder as _};

use crate::cell_format::CellFormat;
use crate::image_attributes::SliceError;
use crate::padding::Padding;

/// The pixels of a single frame of grey values, row by row.
pub(crate) struct StoredValues {
    cells: Vec<u16>,
    format: CellFormat,
    padding: Padding,
}

impl StoredValues {
    /// Decodes the frame of a file. Bytes beyond the last pixel are ignored.
    ///
    /// # Errors
    ///
    /// Fails if the frame cannot be decoded, is shorter than its rows and columns, or if the header
    /// leaves open where a stored value lies in its cell, or which values are padding.
    pub(crate) fn decode(
        object: &DefaultDicomObject,
        rows: u32,
        columns: u32,
    ) -> Result<Self, SliceError> {
        let format = CellFormat::of(object)?;
        let padding = Padding::of(object, format)?;
        let decoded = decoded_pixels(object)?;
        let bytes_needed = rows as usize * columns as usize * format.bytes();
        let Some(bytes) = decoded.data().get(..bytes_needed) else {
            let found = decoded.data().len();
            let reason = format!(
                "the frame has {found} bytes, and {rows} rows of {columns} columns need \
                 {bytes_needed}"
            );
            return Err(SliceError::Undecodable { reason });
        };
        let cells: Vec<u16> = if format.bytes() == 1 {
            bytes.iter().map(|it| u16::from(*it)).collect()
        } else {
            let pairs = bytes.as_chunks::<2>().0;
            pairs.iter().map(|it| u16::from_ne_bytes(*it)).collect()
        };
        format.check_cells(&cells)?;
        Ok(Self { cells, format, padding })
    }

    /// The stored values; nothing for a pixel that is padding.
    pub(crate) fn values(&self) -> impl Iterator<Item = Option<i32>> {
        self.cells.iter().map(|cell| {
            let is_padding = self.padding.contains(*cell, self.format);
            (!is_padding).then(|| self.format.stored_value(*cell))
        })
    }

    /// The least and the greatest stored value that the pixels could have.
    pub(crate) const fn bounds(&self) -> [i32; 2] {
        self.format.bounds()
    }

    /// Whether any pixel may be padding.
    pub(crate) fn has_padding(&self) -> bool {
        self.padding != Padding::None
    }
}

/// RLE Lossless (PS3.5, A.4.2).
pub(crate) const RLE_LOSSLESS: &str = "1.2.840.10008.1.2.5";

/// Decodes the single frame of a file.
///
/// # Errors
///
/// Fails if its pixels cannot be decoded. A decoder that panics has found a fault of the file, and
/// would panic again.
pub(crate) fn decoded_pixels(
    object: &DefaultDicomObject,
) -> Result<DecodedPixelData<'_>, SliceError> {
    check_fragments(object)?;
    let decoded = catch_unwind(AssertUnwindSafe(|| object.decode_pixel_data()));
    let Ok(decoded) = decoded else {
        let reason = "they are not what their transfer syntax says".to_owned();
        return Err(SliceError::Undecodable { reason });
    };
    decoded.map_err(|it| SliceError::undecodable(&it))
}

/// A frame of RLE is one fragment (PS3.5, A.4.2). The decoder takes each for a frame.
fn check_fragments(object: &DefaultDicomObject) -> Result<(), SliceError> {
    let transfer_syntax = object.meta().transfer_syntax().trim_end_matches(['\0', ' ']);
    let value = object.get(tags::PIXEL_DATA).map(DataElement::value);
    match value {
        Some(Value::PixelSequence(sequence)) if transfer_syntax == RLE_LOSSLESS => {
            match sequence.fragments().len() {
                1 => Ok(()),
                count => {
                    let reason = format!("its frame of RLE is in {count} fragments, not in one");
                    Err(SliceError::Undecodable { reason })
                }
            }
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use dicom_core::VR;
    use dicom_core::value::PixelFragmentSequence;
    use dicom_object::FileMetaTableBuilder;

    use super::*;
    use crate::sample::Sample;

    /// The header of RLE (PS3.5, G.5): number of segments, and where each begins.
    fn rle(segments: &[&[u8]]) -> Vec<u8> {
        let mut header = [0_u32; 16];
        header[0] = u32::try_from(segments.len()).unwrap();
        let mut at = 64;
        for (place, segment) in header[1..].iter_mut().zip(segments) {
            *place = at;
            at += u32::try_from(segment.len()).unwrap();
        }
        let mut bytes: Vec<u8> = header.iter().flat_map(|it| it.to_le_bytes()).collect();
        bytes.extend(segments.concat());
        bytes
    }

    /// A small CT whose pixels are in these fragments.
    fn compressed(fragments: Vec<Vec<u8>>) -> DefaultDicomObject {
        let mut sample = Sample::ct();
        let sequence = PixelFragmentSequence::new_fragments(fragments);
        sample.0.put(DataElement::new(tags::PIXEL_DATA, VR::OB, sequence));
        let meta = FileMetaTableBuilder::new().transfer_syntax(RLE_LOSSLESS);
        sample.0.with_meta(meta).unwrap()
    }

    /// Six pixels of 16 bits, all zero: upper bytes, then lower ones.
    fn frame() -> Vec<u8> {
        rle(&[&[0xFB, 0], &[0xFB, 0]])
    }

    #[test]
    fn din_80_a_frame_of_rle_in_several_fragments_is_refused_by_their_number() {
        let whole = compressed(vec![frame()]);
        let values = StoredValues::decode(&whole, 2, 3).unwrap();
        assert!(values.values().all(|it| it == Some(0)));
        for count in [2, 4] {
            let pieces = frame().chunks(frame().len() / count).map(<[u8]>::to_vec).collect();
            let error = StoredValues::decode(&compressed(pieces), 2, 3).err().unwrap();
            let expected = format!("in {count} fragments, not in one");
            assert!(error.to_string().contains(&expected), "{error}");
        }
    }

    /// Whatever a decoder does with them, it is told as a fault of the pixels.
    #[test]
    fn din_80_broken_pixels_are_undecodable() {
        for bytes in [vec![0; 64], vec![0xFF; 80], rle(&[&[0x85]]), vec![1, 0, 0, 0], Vec::new()] {
            let error = StoredValues::decode(&compressed(vec![bytes.clone()]), 2, 3).err();
            let error = error.map(|it| it.to_string());
            assert!(error.is_none_or(|it| it.contains("cannot be decoded")), "{bytes:?}");
        }
    }
}
