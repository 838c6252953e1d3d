//! Pixel cells: which of their bits are the stored value of a pixel (PS3.5, 8.1.1).

use dicom_dictionary_std::tags;
use dicom_object::DefaultDicomObject;

use crate::image_attributes::{SliceError, integer};

/// Where a stored value lies in its pixel cell, and how its bits are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CellFormat {
    /// Bits Allocated (0028,0100): 8 or 16.
    allocated: u32,
    /// Bits Stored (0028,0101): 1 to `allocated`.
    stored: u32,
    /// Number of bits of the cell below the stored value: 0 where High Bit (0028,0102) is one less
    /// than Bits Stored, as it has to be today.
    shift: u32,
    /// Pixel Representation (0028,0103): two's complement, or not negative.
    is_signed: bool,
}

impl CellFormat {
    /// The format that a header states.
    ///
    /// # Errors
    ///
    /// Fails if an element is missing, or if the bits do not fit into a cell of 8 or 16.
    pub(crate) fn of(object: &DefaultDicomObject) -> Result<Self, SliceError> {
        let allocated = integer(object, tags::BITS_ALLOCATED, "Bits Allocated")?;
        if !matches!(allocated, 8 | 16) {
            let why = "only pixel cells of 8 and 16 bits are read";
            return Err(SliceError::unclear("Bits Allocated", allocated.to_string(), why));
        }
        let stored = integer(object, tags::BITS_STORED, "Bits Stored")?;
        if !(1..=allocated).contains(&stored) {
            let found = format!("{stored} with {allocated} Bits Allocated");
            return Err(SliceError::unclear(
                "Bits Stored",
                found,
                "a value must fit into its cell",
            ));
        }
        let high = integer(object, tags::HIGH_BIT, "High Bit")?;
        let shift = (high + 1).checked_sub(stored).filter(|_| high < allocated);
        let shift = shift.ok_or_else(|| {
            let found = format!("{high} with {stored} of {allocated} bits stored");
            SliceError::unclear("High Bit", found, "a value must fit into its cell")
        })?;
        let is_signed = match integer(object, tags::PIXEL_REPRESENTATION, "Pixel Representation")? {
            0 => false,
            1 => true,
            other => {
                let why = "a value is signed (1) or not (0)";
                return Err(SliceError::unclear("Pixel Representation", other.to_string(), why));
            }
        };
        Ok(Self { allocated, stored, shift, is_signed })
    }

    /// The least and the greatest stored value.
    pub(crate) const fn bounds(self) -> [i32; 2] {
        if self.is_signed {
            [-(1 << (self.stored - 1)), (1 << (self.stored - 1)) - 1]
        } else {
            [0, (1 << self.stored) - 1]
        }
    }

    /// Number of bytes of a cell.
    pub(crate) const fn bytes(self) -> usize {
        if self.allocated == 8 { 1 } else { 2 }
    }

    /// Fails if High Bit lies higher than it has to, and the bits below the value are in use. Such
    /// a file may be right by the old rule, with an overlay in them, or its High Bit is wrong: the
    /// values would differ by a power of two.
    pub(crate) fn check_cells(self, cells: &[u16]) -> Result<(), SliceError> {
        let below = (1_u32 << self.shift) - 1;
        if cells.iter().all(|it| u32::from(*it) & below == 0) {
            return Ok(());
        }
        let high = self.stored + self.shift - 1;
        let found = format!("{high} with {} Bits Stored", self.stored);
        Err(SliceError::unclear("High Bit", found, "the bits below the stored values are in use"))
    }

    /// The stored value of a cell. Bits outside of it are no part of the value.
    pub(crate) const fn stored_value(self, cell: u16) -> i32 {
        self.number((cell as u32) >> self.shift, self.stored)
    }

    /// The number that all bits of a cell are together.
    pub(crate) const fn whole_cell(self, cell: u16) -> i32 {
        self.number(cell as u32, self.allocated)
    }

    /// The stored value that a header means by a number of 16 bits, whose sign may have been lost
    /// or added with its representation; nothing if no stored value can be meant.
    pub(crate) fn as_stored_value(self, stated: i64) -> Option<i32> {
        let as_stated = i32::try_from(stated).ok();
        let as_cell = self.as_whole_cell(stated);
        let pattern = u32::try_from(stated).ok().filter(|it| *it < 1 << self.stored);
        let as_pattern = pattern.map(|it| self.number(it, self.stored));
        let mut meant = [as_stated, as_cell, as_pattern].into_iter().flatten();
        meant.find(|it| self.number(it.cast_unsigned(), self.stored) == *it)
    }

    /// The whole cell that a header means by a number of 16 bits; nothing if it is beyond a cell.
    pub(crate) fn as_whole_cell(self, stated: i64) -> Option<i32> {
        let bound = 1_i64 << self.allocated;
        if !(-bound / 2..bound).contains(&stated) {
            return None;
        }
        let pattern = u32::try_from(stated.rem_euclid(bound)).ok()?;
        Some(self.number(pattern, self.allocated))
    }

    /// The number that the lowest `width` bits are.
    const fn number(self, bits: u32, width: u32) -> i32 {
        let unused = u32::BITS - width;
        let aligned = bits << unused;
        if self.is_signed {
            aligned.cast_signed() >> unused
        } else {
            (aligned >> unused).cast_signed()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn format(stored: u32, shift: u32, is_signed: bool) -> CellFormat {
        CellFormat { allocated: 16, stored, shift, is_signed }
    }

    #[test]
    fn din_80_bits_outside_of_the_stored_value_are_no_value() {
        let unsigned = format(12, 0, false);
        assert_eq!([0x0FFF, 0x1FFF, 0x8001].map(|it| unsigned.stored_value(it)), [4095, 4095, 1]);
        let signed = format(12, 0, true);
        // -1000 in twelve bits, with the upper bits zero, set, and in use by an overlay.
        let cells = [0x0C18, 0xFC18, 0x5C18];
        assert_eq!(cells.map(|it| signed.stored_value(it)), [-1000; 3]);
        assert_eq!(format(12, 4, false).stored_value(0x1230), 0x123);
        assert_eq!(format(12, 4, true).stored_value(0xC180), -1000);
        let full = format(16, 0, true);
        assert_eq!([0x8000, 0xFFFF].map(|it| full.stored_value(it)), [-32_768, -1]);
        assert_eq!(format(16, 0, false).stored_value(0xFFFF), 65_535);
    }

    #[test]
    fn din_80_a_high_bit_above_bits_in_use_is_refused() {
        let raised = format(12, 4, false);
        assert!(raised.check_cells(&[0x1230, 0xFFF0, 0]).is_ok());
        let error = raised.check_cells(&[0x1230, 0x0401]).unwrap_err().to_string();
        assert!(error.starts_with("High Bit is 15 with 12 Bits Stored: "), "{error}");
        assert!(format(12, 0, false).check_cells(&[0xFFFF]).is_ok());
    }

    #[test]
    fn din_80_a_stated_value_is_meant_in_the_sign_of_the_pixels() {
        let signed = format(16, 0, true);
        assert_eq!([-2000, 63_536].map(|it| signed.as_stored_value(it)), [Some(-2000); 2]);
        let unsigned = format(16, 0, false);
        assert_eq!([-2000, 63_536].map(|it| unsigned.as_stored_value(it)), [Some(63_536); 2]);
        let twelve = format(12, 0, true);
        let stated = [-2000, 63_536, 0x0830];
        assert_eq!(stated.map(|it| twelve.as_stored_value(it)), [Some(-2000); 3]);
        // Beyond the stored bits, though not beyond the cell.
        assert_eq!(format(12, 0, false).as_stored_value(63_536), None);
        assert_eq!(format(12, 0, false).as_whole_cell(-2000), Some(63_536));
        assert_eq!([70_000, -40_000].map(|it| signed.as_whole_cell(it)), [None; 2]);
    }
}
