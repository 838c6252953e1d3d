//! Stored values: the pixels of an image as its modality has stored them, and which of them are
//! padding.

use dicom_object::DefaultDicomObject;
use dicom_pixeldata::PixelDecoder as _;

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
        let decoded = object.decode_pixel_data().map_err(|it| SliceError::undecodable(&it))?;
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

    /// Whether any pixel may be padding.
    pub(crate) fn has_padding(&self) -> bool {
        self.padding != Padding::None
    }
}
