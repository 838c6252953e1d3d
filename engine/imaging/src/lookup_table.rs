//! Look-up tables of a header: output values by input value (PS3.3, C.11.1.1.1, C.11.2.1.1 and
//! C.7.6.3.1.5).

use dicom_core::value::{PrimitiveValue, Value};
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;
use dicom_object::mem::InMemElement;

use crate::image_attributes::{SliceError, quoted, texts};

/// The most entries of a table.
pub(crate) const ENTRIES_MAX: usize = 1 << 16;

/// Output values for consecutive input values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LookupTable {
    /// The input value of the first entry. Values below it have the first output value as well.
    first: i32,
    /// At least one output value.
    entries: Vec<u16>,
    /// Number of bits of an output value: 1 to 16.
    bits: u32,
}

/// The three numbers of a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Descriptor {
    /// Number of entries.
    pub(crate) count: usize,
    first: i32,
    /// Number of bits of an output value: 1 to 16.
    pub(crate) bits: u32,
}

impl Descriptor {
    /// Reads a descriptor. `is_signed` is whether input values may be negative: the second number
    /// has their sign, whatever its representation.
    ///
    /// # Errors
    ///
    /// Fails unless it is three numbers, of which the third is a number of bits.
    pub(crate) fn of(
        element: Option<&InMemElement>,
        name: &'static str,
        is_signed: bool,
    ) -> Result<Self, SliceError> {
        let element = element.ok_or(SliceError::Missing { name })?;
        let unusable = || SliceError::Unusable { name, found: quoted(&texts(element).join("\\")) };
        let words = words(element).ok_or_else(unusable)?;
        let [count, first, bits] = words.as_slice().try_into().map_err(|_| unusable())?;
        let bits = u32::from(bits);
        if !(1..=16).contains(&bits) {
            return Err(unusable());
        }
        // 65,536 does not fit into the element, and is written as 0.
        let count = if count == 0 { ENTRIES_MAX } else { usize::from(count) };
        let is_signed = is_signed || element.vr() == dicom_core::VR::SS;
        let first = if is_signed { i32::from(first.cast_signed()) } else { i32::from(first) };
        Ok(Self { count, first, bits })
    }
}

impl LookupTable {
    /// The table of an item of a Modality LUT Sequence or VOI LUT Sequence.
    ///
    /// # Errors
    ///
    /// Fails if its descriptor cannot be read, or has more entries than there is data.
    pub(crate) fn of_item(item: &InMemDicomObject, is_signed: bool) -> Result<Self, SliceError> {
        let descriptor =
            Descriptor::of(item.get(tags::LUT_DESCRIPTOR), "LUT Descriptor", is_signed)?;
        Self::of_data(descriptor, item.get(tags::LUT_DATA), "LUT Data")
    }

    /// The table with this descriptor and data.
    ///
    /// # Errors
    ///
    /// Fails if there are fewer data than entries.
    pub(crate) fn of_data(
        descriptor: Descriptor,
        data: Option<&InMemElement>,
        name: &'static str,
    ) -> Result<Self, SliceError> {
        let words = data.and_then(words).ok_or(SliceError::Missing { name })?;
        let entries = if words.len() >= descriptor.count {
            words
        } else {
            // Entries of eight bits, two in a word.
            words.iter().flat_map(|it| it.to_le_bytes()).map(u16::from).collect()
        };
        Self::of_entries(descriptor, entries, name)
    }

    /// The table with these entries.
    ///
    /// # Errors
    ///
    /// Fails if there are fewer than the descriptor states.
    pub(crate) fn of_entries(
        descriptor: Descriptor,
        mut entries: Vec<u16>,
        name: &'static str,
    ) -> Result<Self, SliceError> {
        let Descriptor { count, first, bits } = descriptor;
        if entries.len() < count {
            let found = format!("{} entries, and {count} are stated", entries.len());
            return Err(SliceError::Unusable { name, found });
        }
        entries.truncate(count);
        Ok(Self { first, entries, bits })
    }

    /// The output value of an input value: of the nearest entry where it has none of its own.
    pub(crate) fn output(&self, input: i32) -> u16 {
        let index = i64::from(input) - i64::from(self.first);
        let last = self.entries.len().saturating_sub(1);
        let index = usize::try_from(index.max(0)).map_or(last, |it| it.min(last));
        self.entries.get(index).copied().unwrap_or_default()
    }

    /// The largest value that an output could have.
    pub(crate) const fn output_max(&self) -> u16 {
        u16::MAX >> (u16::BITS - self.bits)
    }

    /// The output value of an input value as one of 256 levels.
    pub(crate) fn level(&self, input: i32) -> u8 {
        let output_max = u32::from(self.output_max());
        let level = (u32::from(self.output(input)) * 255 + output_max / 2) / output_max;
        u8::try_from(level).unwrap_or(u8::MAX)
    }
}

/// The values of an element in words of 16 bits, whatever their representation; nothing if it is
/// text or a sequence.
pub(crate) fn words(element: &InMemElement) -> Option<Vec<u16>> {
    let Value::Primitive(value) = element.value() else { return None };
    match value {
        PrimitiveValue::U16(words) => Some(words.to_vec()),
        PrimitiveValue::I16(words) => Some(words.iter().map(|it| it.cast_unsigned()).collect()),
        // Bytes of an unknown representation, in the order of all but a retired transfer syntax.
        PrimitiveValue::U8(bytes) => {
            let (pairs, rest) = bytes.as_chunks::<2>();
            let words = pairs.iter().map(|it| u16::from_le_bytes(*it));
            Some(words.chain(rest.iter().map(|it| u16::from(*it))).collect())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use dicom_core::{DataElement, VR};

    use super::*;

    fn item(descriptor: [u16; 3], data: DataElement<InMemDicomObject>) -> InMemDicomObject {
        let descriptor = PrimitiveValue::from(descriptor);
        InMemDicomObject::from_element_iter([
            DataElement::new(tags::LUT_DESCRIPTOR, VR::US, descriptor),
            data,
        ])
    }

    fn data(words: &[u16]) -> DataElement<InMemDicomObject> {
        DataElement::new(tags::LUT_DATA, VR::OW, PrimitiveValue::U16(words.into()))
    }

    #[test]
    fn din_80_a_table_starts_at_its_first_value_and_holds_beyond_its_ends() {
        let table = LookupTable::of_item(&item([3, 10, 12], data(&[0, 2048, 4095])), false);
        let table = table.unwrap();
        assert_eq!([-5, 10, 11, 12, 99].map(|it| table.output(it)), [0, 0, 2048, 4095, 4095]);
        assert_eq!([10, 11, 12].map(|it| table.level(it)), [0, 128, 255]);
        let negative = LookupTable::of_item(&item([2, 0xFFFF, 8], data(&[7, 9])), true).unwrap();
        assert_eq!([-1, 0].map(|it| negative.output(it)), [7, 9]);
    }

    #[test]
    fn din_80_entries_of_eight_bits_may_share_a_word() {
        let table = LookupTable::of_item(&item([3, 0, 8], data(&[0x2010, 0x0030])), false);
        assert_eq!([0, 1, 2].map(|it| table.as_ref().unwrap().output(it)), [0x10, 0x20, 0x30]);
        let bytes = DataElement::new(tags::LUT_DATA, VR::OB, PrimitiveValue::from(vec![1_u8, 2]));
        let table = LookupTable::of_item(&item([2, 0, 8], bytes), false).unwrap();
        assert_eq!([0, 1].map(|it| table.output(it)), [1, 2]);
    }

    #[test]
    fn din_80_a_table_without_its_entries_is_refused() {
        let error = |descriptor, words: &[u16]| {
            LookupTable::of_item(&item(descriptor, data(words)), false).unwrap_err().to_string()
        };
        assert!(error([9, 0, 8], &[1, 2]).contains("4 entries, and 9 are stated"));
        assert!(error([0, 0, 16], &[1, 2]).contains("65536 are stated"));
        assert!(error([2, 0, 17], &[1, 2]).starts_with("its LUT Descriptor is "));
        let none = LookupTable::of_item(&InMemDicomObject::new_empty(), false).unwrap_err();
        assert_eq!(none.to_string(), "it has no LUT Descriptor");
    }
}
