//! Palettes: red, green and blue by index (PS3.3, C.7.6.3.1.5, C.7.6.3.1.6 and C.7.9.2).

use dicom_core::Tag;
use dicom_dictionary_std::tags;
use dicom_object::DefaultDicomObject;

use crate::image_attributes::SliceError;
use crate::lookup_table::{Descriptor, ENTRIES_MAX, LookupTable, words};

/// The elements of one colour.
struct Channel {
    descriptor: Tag,
    data: Tag,
    segmented: Tag,
}

const CHANNELS: [Channel; 3] = [
    Channel {
        descriptor: tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR,
        data: tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DATA,
        segmented: tags::SEGMENTED_RED_PALETTE_COLOR_LOOKUP_TABLE_DATA,
    },
    Channel {
        descriptor: tags::GREEN_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR,
        data: tags::GREEN_PALETTE_COLOR_LOOKUP_TABLE_DATA,
        segmented: tags::SEGMENTED_GREEN_PALETTE_COLOR_LOOKUP_TABLE_DATA,
    },
    Channel {
        descriptor: tags::BLUE_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR,
        data: tags::BLUE_PALETTE_COLOR_LOOKUP_TABLE_DATA,
        segmented: tags::SEGMENTED_BLUE_PALETTE_COLOR_LOOKUP_TABLE_DATA,
    },
];

const DESCRIPTOR: &str = "Palette Color Lookup Table Descriptor";
const DATA: &str = "Palette Color Lookup Table Data";
const SEGMENTED_DATA: &str = "Segmented Palette Color Lookup Table Data";

/// The colours of an image by their index.
#[derive(Debug)]
pub(crate) struct Palette([LookupTable; 3]);

impl Palette {
    /// The palette of an image.
    ///
    /// # Errors
    ///
    /// Fails if one of its tables is missing or incomplete.
    pub(crate) fn of(object: &DefaultDicomObject, is_signed: bool) -> Result<Self, SliceError> {
        let [red, green, blue] = CHANNELS.map(|it| it.table(object, is_signed));
        Ok(Self([red?, green?, blue?]))
    }

    /// Red, green and blue of an index.
    pub(crate) fn rgb(&self, index: i32) -> [u8; 3] {
        let Self(tables) = self;
        tables.each_ref().map(|it| it.level(index))
    }
}

impl Channel {
    fn table(
        &self,
        object: &DefaultDicomObject,
        is_signed: bool,
    ) -> Result<LookupTable, SliceError> {
        let descriptor = Descriptor::of(object.get(self.descriptor), DESCRIPTOR, is_signed)?;
        if let Some(data) = object.get(self.data) {
            return LookupTable::of_data(descriptor, Some(data), DATA);
        }
        let missing = || SliceError::Missing { name: DATA };
        let words = object.get(self.segmented).and_then(words).ok_or_else(missing)?;
        let units = if descriptor.bits <= 8 {
            words.iter().flat_map(|it| it.to_le_bytes()).map(u16::from).collect()
        } else {
            words
        };
        let unit_bytes = if descriptor.bits <= 8 { 1 } else { 2 };
        let entries = Segments::expand(&units, unit_bytes, descriptor.count).ok_or_else(|| {
            let found = "no chain of segments".to_owned();
            SliceError::Unusable { name: SEGMENTED_DATA, found }
        })?;
        LookupTable::of_entries(descriptor, entries, SEGMENTED_DATA)
    }
}

/// A table that is written as segments: of single values, of straight lines, and of copies.
struct Segments<'a> {
    /// What segments consist of: bytes or words.
    units: &'a [u16],
    /// Number of bytes of a unit: 1 or 2.
    unit_bytes: usize,
    entries: Vec<u16>,
    count_max: usize,
}

impl<'a> Segments<'a> {
    /// The entries of a table, at most `count_max`; nothing if its segments cannot be read.
    fn expand(units: &'a [u16], unit_bytes: usize, count_max: usize) -> Option<Vec<u16>> {
        let count_max = count_max.min(ENTRIES_MAX);
        let mut segments = Self { units, unit_bytes, entries: Vec::new(), count_max };
        let mut at = 0;
        while at < units.len() && segments.entries.len() < count_max {
            at = segments.segment(at, true)?;
        }
        Some(segments.entries)
    }

    /// Appends the segment at a place, and returns the place of the next.
    fn segment(&mut self, at: usize, may_copy: bool) -> Option<usize> {
        let kind = *self.units.get(at)?;
        let length = usize::from(*self.units.get(at + 1)?);
        let start = at + 2;
        match kind {
            0 => {
                let values = self.units.get(start..start + length)?;
                self.entries.extend(values);
                Some(start + length)
            }
            1 => {
                let last = *self.units.get(start)?;
                self.line(length, last)?;
                Some(start + 1)
            }
            2 if may_copy => {
                // Four bytes, the lowest first; it is a number of bytes.
                let end = start + 4 / self.unit_bytes;
                let offset = self.units.get(start..end)?.iter().rev();
                let unit_bits = 8 * self.unit_bytes;
                let offset = offset.fold(0, |sum, it| (sum << unit_bits) + usize::from(*it));
                let mut from = offset / self.unit_bytes;
                for _ in 0..length {
                    if self.entries.len() >= self.count_max {
                        break;
                    }
                    from = self.segment(from, false)?;
                }
                Some(end)
            }
            _ => None,
        }
    }

    /// Appends a line from the last entry, which is no part of it, to `last`, which is.
    fn line(&mut self, length: usize, last: u16) -> Option<()> {
        let from = i64::from(*self.entries.last()?);
        let steps = i64::try_from(length).ok()?;
        let rise = i64::from(last) - from;
        for step in 1..=steps {
            // Rounded, as the distance of two values is not a whole number of steps.
            let value = from + (2 * rise * step + steps * rise.signum()) / (2 * steps);
            self.entries.push(u16::try_from(value).ok()?);
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn din_80_segments_of_a_palette_are_values_lines_and_copies() {
        // Two values, a line of four steps to 100, the first segment again.
        let words = [0, 2, 10, 20, 1, 4, 100, 2, 1, 0, 0];
        let expected = [10, 20, 40, 60, 80, 100, 10, 20];
        assert_eq!(Segments::expand(&words, 2, 8).unwrap(), expected);
        let bytes = [0, 2, 10, 20, 2, 1, 0, 0, 0, 0];
        assert_eq!(Segments::expand(&bytes, 1, 4).unwrap(), [10, 20, 10, 20]);
        let falling = [0, 1, 100, 1, 3, 0];
        assert_eq!(Segments::expand(&falling, 2, 4).unwrap(), [100, 67, 33, 0]);
    }

    #[test]
    fn sec_24_segments_that_refer_to_themselves_or_to_nothing_are_refused() {
        for words in [
            [2, 1, 0, 0].as_slice(),
            &[2, 9, 0, 9],
            &[1, 3, 7],
            &[0, 9, 1],
            &[0, 1, 5, 2, 1, 6, 0],
            &[7, 1, 1],
            &[0],
        ] {
            assert_eq!(Segments::expand(words, 2, 256), None, "{words:?}");
        }
    }
}
