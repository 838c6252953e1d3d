//! Writes a data set anew, element by element: in another VR encoding, or without its peculiarities
//! (PS3.5, 7.1).
//!
//! The bytes of every value stay as they are: only the heads of elements change. Sequences and
//! items get an undefined length, because the lengths of what they hold change. Group lengths
//! (retired), elements of groups 0000 and 0002 and zeros that fill up are dropped.

use std::io::Cursor;

use super::deflation::{deflated, inflated};
use super::header::{
    DEPTH_MAX, Encoding, HeaderError, ITEM, ITEM_END, SEQUENCE_END, Tag, UNDEFINED,
    has_short_length, inflated_bytes_max, is_foreign, is_placeholder, read_encoded,
};

const PIXEL_DATA: Tag = Tag(0x7FE0, 0x0010);

/// A value representation, as it is written.
pub type Vr = [u8; 2];

const UNKNOWN: Vr = *b"UN";

const SEQUENCE: Vr = *b"SQ";

/// How a data set is written.
#[derive(Clone, Copy)]
pub(super) enum Form<'a> {
    /// Without VRs.
    Implicit,
    /// With a VR for each element: its own, or else the one that this dictionary gives.
    Explicit(&'a dyn Fn(Tag) -> Option<Vr>),
}

/// Why a data set cannot be written anew.
#[derive(Debug, thiserror::Error)]
pub enum RewriteError {
    /// It cannot be read.
    #[error("the data set cannot be read")]
    Header(#[from] HeaderError),
    /// Its pixels are compressed: there is no Implicit VR for them.
    #[error("its pixels are compressed")]
    Compressed,
    /// An element ends beyond what encloses it, or a delimiter is out of place.
    #[error("an element is out of place")]
    OutOfPlace,
    /// An attribute of the standard has the VR UN in Big Endian: PS3.5, 6.2.2 leaves open in which
    /// order the bytes of its value are.
    #[error("an attribute has the VR UN in Big Endian, where the order of its bytes is uncertain")]
    UncertainByteOrder,
}

/// A data set of Little Endian, deflated or not, in its own encoding, without its peculiarities:
/// what has the VR UN, or none that is valid, gets the one that `vr_of` gives, and what is in it is
/// read accordingly (PS3.5, 6.2.2).
///
/// # Errors
///
/// Fails if the data set cannot be read, is of Big Endian, or what has the VR UN is not what its
/// attribute should be.
pub fn without_peculiarities(
    data: &[u8],
    encoding: Encoding,
    vr_of: &dyn Fn(Tag) -> Option<Vr>,
) -> Result<Vec<u8>, RewriteError> {
    if encoding.is_big_endian {
        return Err(RewriteError::UncertainByteOrder);
    }
    if encoding.is_deflated {
        let plain = Encoding { is_deflated: false, ..encoding };
        let regular = without_peculiarities(&inflated_within_limits(data)?, plain, vr_of)?;
        return Ok(deflated(&regular).map_err(HeaderError::Io)?);
    }
    let form = if encoding.is_explicit { Form::Explicit(vr_of) } else { Form::Implicit };
    rewritten(data, encoding, form)
}

/// A deflated data set, inflated within the limits of the header reader (SEC-23).
fn inflated_within_limits(data: &[u8]) -> Result<Vec<u8>, RewriteError> {
    let limit = inflated_bytes_max(data.len() as u64);
    let inflated = inflated(data, limit).map_err(HeaderError::Io)?;
    inflated.ok_or_else(|| HeaderError::Limit { what: "inflated bytes" }.into())
}

/// A data set of Little Endian in another form.
pub(super) fn rewritten(
    data: &[u8],
    encoding: Encoding,
    form: Form<'_>,
) -> Result<Vec<u8>, RewriteError> {
    // The bounded reader refuses lengths that lie and nesting without end.
    let header = read_encoded(Cursor::new(data), data.len() as u64, encoding)?;
    let data = data.get(..header.end(data.len())).unwrap_or(data);
    let out = Vec::with_capacity(data.len() + data.len() / 16);
    let is_explicit = encoding.is_explicit;
    let mut writer = Writer { data, is_explicit, form, position: 0, open: Vec::new(), out };
    while writer.step()? {}
    Ok(writer.out)
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
    /// The VR that it is written with.
    vr: Vr,
    is_sequence: bool,
    /// Whether what is in the sequence states VRs.
    is_explicit: bool,
    /// Length of the value; nothing if it is undefined.
    length: Option<usize>,
}

struct Writer<'a> {
    data: &'a [u8],
    /// Whether the elements of the top level state VRs.
    is_explicit: bool,
    form: Form<'a>,
    position: usize,
    open: Vec<Open>,
    out: Vec<u8>,
}

impl Writer<'_> {
    /// Writes one element or delimiter. False at the end of the data set.
    fn step(&mut self) -> Result<bool, RewriteError> {
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
        let head = self.head(tag)?;
        if head.is_sequence && tag == PIXEL_DATA {
            self.fragments(head.vr)?;
        } else if head.is_sequence {
            self.write_head(tag, SEQUENCE, UNDEFINED);
            self.begin(false, head.length, head.is_explicit)?;
        } else {
            let length = head.length.ok_or(RewriteError::OutOfPlace)?;
            self.value(tag, head.vr, length)?;
        }
        Ok(true)
    }

    fn head(&mut self, tag: Tag) -> Result<Head, RewriteError> {
        if !self.open.last().map_or(self.is_explicit, |it| it.is_explicit) {
            let length = self.length()?;
            return Ok(self.head_without_vr(tag, length));
        }
        let vr: Vr = self.bytes()?;
        if is_placeholder(vr) {
            let length = Some(usize::from(self.u16()?));
            return Ok(self.head_without_vr(tag, length));
        }
        if has_short_length(vr) {
            let length = Some(usize::from(self.u16()?));
            return Ok(Head { vr, is_sequence: false, is_explicit: true, length });
        }
        let _reserved: [u8; 2] = self.bytes()?;
        let length = self.length()?;
        if vr == UNKNOWN {
            return Ok(self.head_without_vr(tag, length));
        }
        let is_sequence = vr == SEQUENCE || length.is_none();
        Ok(Head { vr, is_sequence, is_explicit: true, length })
    }

    /// The head of an element whose VR is not stated. What is in it is in implicit VR, whatever
    /// encloses it (PS3.5, 6.2.2).
    fn head_without_vr(&self, tag: Tag, length: Option<usize>) -> Head {
        let vr = match self.form {
            Form::Implicit => UNKNOWN,
            Form::Explicit(vr_of) => vr_of(tag).unwrap_or(UNKNOWN),
        };
        let is_sequence = vr == SEQUENCE || length.is_none();
        // A length of 16 bits is too short for some values.
        let fits = length.is_none_or(|it| u16::try_from(it).is_ok());
        let vr = if fits || !has_short_length(vr) { vr } else { UNKNOWN };
        Head { vr, is_sequence, is_explicit: false, length }
    }

    fn delimiter(&mut self, tag: Tag) -> Result<(), RewriteError> {
        let length = self.length()?;
        match (tag, self.open.last().copied()) {
            (ITEM, Some(Open { is_item: false, is_explicit, .. })) => {
                self.write_delimiter(ITEM, UNDEFINED);
                self.begin(true, length, is_explicit)
            }
            (ITEM_END, Some(ended @ Open { is_item: true, .. }))
            | (SEQUENCE_END, Some(ended @ Open { is_item: false, .. })) => {
                self.open.pop();
                self.delimit(ended);
                Ok(())
            }
            _ => Err(RewriteError::OutOfPlace),
        }
    }

    /// Begins a sequence or an item whose head is written.
    fn begin(
        &mut self,
        is_item: bool,
        length: Option<usize>,
        is_explicit: bool,
    ) -> Result<(), RewriteError> {
        if self.open.len() >= DEPTH_MAX {
            return Err(HeaderError::Limit { what: "nesting" }.into());
        }
        let end = match length {
            Some(length) => Some(self.end_of(length)?),
            None => None,
        };
        self.open.push(Open { is_item, end, is_explicit });
        Ok(())
    }

    /// Ends a sequence or an item.
    fn delimit(&mut self, ended: Open) {
        self.write_delimiter(if ended.is_item { ITEM_END } else { SEQUENCE_END }, 0);
    }

    /// Copies compressed pixels, fragment by fragment.
    fn fragments(&mut self, vr: Vr) -> Result<(), RewriteError> {
        if matches!(self.form, Form::Implicit) {
            return Err(RewriteError::Compressed);
        }
        self.write_head(PIXEL_DATA, vr, UNDEFINED);
        loop {
            let tag = Tag(self.u16()?, self.u16()?);
            let length = self.length()?.ok_or(RewriteError::OutOfPlace)?;
            let value = self.take(length)?;
            if !matches!(tag, ITEM | SEQUENCE_END) {
                return Err(RewriteError::OutOfPlace);
            }
            self.write_delimiter(tag, u32::try_from(length).unwrap_or(UNDEFINED));
            self.out.extend_from_slice(value);
            if tag == SEQUENCE_END {
                return Ok(());
            }
        }
    }

    fn value(&mut self, tag: Tag, vr: Vr, length: usize) -> Result<(), RewriteError> {
        let is_foreign = self.open.is_empty() && is_foreign(tag);
        let value = self.take(length)?;
        if tag.1 != 0 && !is_foreign {
            self.write_head(tag, vr, u32::try_from(length).unwrap_or(UNDEFINED));
            self.out.extend_from_slice(value);
        }
        Ok(())
    }

    fn write_head(&mut self, tag: Tag, vr: Vr, length: u32) {
        if matches!(self.form, Form::Implicit) {
            return self.write_delimiter(tag, length);
        }
        self.write_tag(tag);
        self.out.extend(vr);
        match u16::try_from(length) {
            Ok(length) if has_short_length(vr) => self.out.extend(length.to_le_bytes()),
            _ => {
                self.out.extend([0, 0]);
                self.out.extend(length.to_le_bytes());
            }
        }
    }

    /// A head without a VR.
    fn write_delimiter(&mut self, tag: Tag, length: u32) {
        self.write_tag(tag);
        self.out.extend(length.to_le_bytes());
    }

    fn write_tag(&mut self, tag: Tag) {
        self.out.extend(tag.0.to_le_bytes());
        self.out.extend(tag.1.to_le_bytes());
    }

    /// The place at which a value of this length ends.
    fn end_of(&self, length: usize) -> Result<usize, RewriteError> {
        let end = self.position.checked_add(length);
        end.filter(|it| *it <= self.data.len()).ok_or(RewriteError::OutOfPlace)
    }

    /// A length of 32 bits; nothing if it is undefined.
    fn length(&mut self) -> Result<Option<usize>, RewriteError> {
        let length = u32::from_le_bytes(self.bytes()?);
        let is_defined = length != UNDEFINED;
        Ok(usize::try_from(length).ok().filter(|_| is_defined))
    }

    fn u16(&mut self) -> Result<u16, RewriteError> {
        Ok(u16::from_le_bytes(self.bytes()?))
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], RewriteError> {
        let rest = self.data.get(self.position..).unwrap_or_default();
        let bytes = rest.first_chunk::<N>().ok_or(RewriteError::OutOfPlace)?;
        self.position += N;
        Ok(*bytes)
    }
}

impl<'a> Writer<'a> {
    /// The next bytes of the data set.
    fn take(&mut self, length: usize) -> Result<&'a [u8], RewriteError> {
        let end = self.end_of(length)?;
        let value = self.data.get(self.position..end).ok_or(RewriteError::OutOfPlace)?;
        self.position = end;
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EXPLICIT: Encoding =
        Encoding { is_explicit: true, is_big_endian: false, is_deflated: false };
    const IMPLICIT: Encoding = Encoding { is_explicit: false, ..EXPLICIT };
    const PATIENT_ID: Tag = Tag(0x0010, 0x0020);
    const REFERENCES: Tag = Tag(0x0008, 0x1199);
    const CLASS: Tag = Tag(0x0008, 0x1150);

    fn vr_of(tag: Tag) -> Option<Vr> {
        match tag {
            PATIENT_ID => Some(*b"LO"),
            REFERENCES => Some(SEQUENCE),
            CLASS => Some(*b"UI"),
            _ => None,
        }
    }

    fn regular(data: &[u8]) -> Vec<u8> {
        without_peculiarities(data, EXPLICIT, &vr_of).unwrap()
    }

    fn tag_bytes(tag: Tag) -> Vec<u8> {
        [tag.0.to_le_bytes(), tag.1.to_le_bytes()].concat()
    }

    fn short(tag: Tag, vr: Vr, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(value.len()).unwrap().to_le_bytes();
        [tag_bytes(tag), vr.to_vec(), length.to_vec(), value.to_vec()].concat()
    }

    fn long(tag: Tag, vr: Vr, length: u32, value: &[u8]) -> Vec<u8> {
        let head = [tag_bytes(tag), vr.to_vec(), vec![0, 0], length.to_le_bytes().to_vec()];
        [head.concat(), value.to_vec()].concat()
    }

    fn implicit(tag: Tag, length: u32, value: &[u8]) -> Vec<u8> {
        [tag_bytes(tag), length.to_le_bytes().to_vec(), value.to_vec()].concat()
    }

    /// An item with one reference in implicit VR, and an element that no dictionary knows.
    fn implicit_item() -> Vec<u8> {
        let inside = [implicit(CLASS, 4, b"1.2\0"), implicit(Tag(9, 0x1002), 2, b"xy")].concat();
        implicit(ITEM, u32::try_from(inside.len()).unwrap(), &inside)
    }

    /// The same item as it is written.
    fn written_item() -> Vec<u8> {
        [
            implicit(ITEM, UNDEFINED, &[]),
            short(CLASS, *b"UI", b"1.2\0"),
            long(Tag(9, 0x1002), UNKNOWN, 2, b"xy"),
            implicit(ITEM_END, 0, &[]),
            implicit(SEQUENCE_END, 0, &[]),
        ]
        .concat()
    }

    #[test]
    fn din_76_what_is_in_an_un_is_implicit_and_becomes_what_the_dictionary_says() {
        let end = implicit(SEQUENCE_END, 0, &[]);
        let private = Tag(9, 0x1001);
        let open = [implicit_item(), end].concat();
        for tag in [private, REFERENCES] {
            let expected = [long(tag, SEQUENCE, UNDEFINED, &[]), written_item()].concat();
            assert_eq!(regular(&long(tag, UNKNOWN, UNDEFINED, &open)), expected);
        }
        let length = u32::try_from(implicit_item().len()).unwrap();
        let expected = [long(REFERENCES, SEQUENCE, UNDEFINED, &[]), written_item()].concat();
        assert_eq!(regular(&long(REFERENCES, UNKNOWN, length, &implicit_item())), expected);
        // Nobody knows what is in a private one: its bytes stay.
        let closed = long(private, UNKNOWN, length, &implicit_item());
        assert_eq!(regular(&closed), closed);
        let id = short(PATIENT_ID, *b"LO", b"4711");
        assert_eq!(regular(&long(PATIENT_ID, UNKNOWN, 4, b"4711")), id);
    }

    #[test]
    fn din_76_what_stands_for_a_vr_is_replaced_and_what_does_not_belong_is_left_out() {
        let id = short(PATIENT_ID, *b"LO", b"4711");
        for placeholder in [*b"??", *b"  ", [0, 0]] {
            let private = Tag(9, 0x1001);
            let data =
                [short(private, placeholder, b"abcd"), short(PATIENT_ID, placeholder, b"4711")];
            let expected = [long(private, UNKNOWN, 4, b"abcd"), id.clone()].concat();
            assert_eq!(regular(&data.concat()), expected);
        }
        let foreign = [short(Tag(0, 2), *b"UI", b"1.2\0"), short(Tag(2, 0x10), *b"UI", b"1.2\0")];
        let data = [foreign.concat(), id.clone(), vec![0; 64]].concat();
        assert_eq!(regular(&data), id);
        let implicit_id = implicit(PATIENT_ID, 4, b"4711");
        let filled = [implicit_id.clone(), vec![0; 64]].concat();
        assert_eq!(without_peculiarities(&filled, IMPLICIT, &vr_of).unwrap(), implicit_id);
    }

    #[test]
    fn din_76_a_deflated_data_set_is_written_anew_and_one_of_big_endian_is_refused() {
        let deflating = Encoding { is_deflated: true, ..EXPLICIT };
        let data = deflated(&long(PATIENT_ID, UNKNOWN, 4, b"4711")).unwrap();
        let regular = without_peculiarities(&data, deflating, &vr_of).unwrap();
        assert_eq!(inflated_within_limits(&regular).unwrap(), short(PATIENT_ID, *b"LO", b"4711"));

        let big_endian = Encoding { is_big_endian: true, ..EXPLICIT };
        let refused = without_peculiarities(&[], big_endian, &vr_of).unwrap_err();
        assert!(matches!(refused, RewriteError::UncertainByteOrder));
    }

    #[test]
    fn sec_23_what_is_inflated_to_be_written_anew_is_bounded() {
        let bomb = inflated_within_limits(&deflated(&vec![0; 100 << 20]).unwrap());
        assert!(matches!(bomb, Err(RewriteError::Header(HeaderError::Limit { .. }))));
    }

    #[test]
    fn din_76_compressed_pixels_stay_as_they_are() {
        let fragments = [
            implicit(ITEM, 0, &[]),
            implicit(ITEM, 4, &[1, 2, 3, 4]),
            implicit(SEQUENCE_END, 0, &[]),
        ]
        .concat();
        let pixels = long(PIXEL_DATA, *b"OB", UNDEFINED, &fragments);
        let data = [long(PATIENT_ID, UNKNOWN, 4, b"4711"), pixels.clone()].concat();
        assert_eq!(regular(&data), [short(PATIENT_ID, *b"LO", b"4711"), pixels].concat());
    }

    #[test]
    fn sec_22_what_an_un_hides_is_bounded_too() {
        let mut nested = Vec::new();
        for _ in 0..100 {
            let item = implicit(ITEM, u32::try_from(nested.len()).unwrap(), &nested);
            nested = implicit(REFERENCES, u32::try_from(item.len()).unwrap(), &item);
        }
        let item = implicit(ITEM, u32::try_from(nested.len()).unwrap(), &nested);
        let data = long(REFERENCES, UNKNOWN, u32::try_from(item.len()).unwrap(), &item);
        let error = without_peculiarities(&data, EXPLICIT, &vr_of).unwrap_err();
        assert!(matches!(error, RewriteError::Header(HeaderError::Limit { .. })), "{error:?}");
        let short_of_its_end = long(REFERENCES, UNKNOWN, 4, b"4711");
        assert!(without_peculiarities(&short_of_its_end, EXPLICIT, &vr_of).is_err());
    }

    /// How a sender writes an element.
    #[derive(Clone, Copy, Debug)]
    enum Style {
        Plain,
        Unknown,
        Placeholder([u8; 2]),
    }

    #[derive(Clone, Debug)]
    enum Element {
        Value(Tag, Vec<u8>, Style),
        Sequence(Tag, Vec<Vec<Self>>, Style),
    }

    /// Elements as they are sent, and as they are to be written: with the VR of the dictionary where
    /// it is not stated, and sequences of undefined length.
    #[derive(Default)]
    struct Both {
        sent: Vec<u8>,
        written: Vec<u8>,
    }

    impl Both {
        fn add(&mut self, element: &Element, is_explicit: bool) {
            let known = |tag| vr_of(tag).unwrap_or(UNKNOWN);
            let in_form = |tag, vr, value: &[u8]| {
                let length = u32::try_from(value.len()).unwrap();
                if has_short_length(vr) {
                    short(tag, vr, value)
                } else {
                    long(tag, vr, length, value)
                }
            };
            match element {
                Element::Value(tag, value, style) => {
                    let length = u32::try_from(value.len()).unwrap();
                    let (sent, vr) = match style {
                        _ if !is_explicit => (implicit(*tag, length, value), known(*tag)),
                        // A private element may state a VR that no dictionary has.
                        Style::Plain => {
                            let vr = vr_of(*tag).unwrap_or(*b"ST");
                            (in_form(*tag, vr, value), vr)
                        }
                        Style::Unknown => (long(*tag, UNKNOWN, length, value), known(*tag)),
                        Style::Placeholder(vr) => (short(*tag, *vr, value), known(*tag)),
                    };
                    self.sent.extend(sent);
                    self.written.extend(in_form(*tag, vr, value));
                }
                Element::Sequence(tag, items, style) => {
                    let is_plain = is_explicit && matches!(style, Style::Plain);
                    let vr = if is_plain { SEQUENCE } else { UNKNOWN };
                    let head = if is_explicit {
                        long(*tag, vr, UNDEFINED, &[])
                    } else {
                        implicit(*tag, UNDEFINED, &[])
                    };
                    self.sent.extend(head);
                    // One that only its undefined length shows to be a sequence is one of the
                    // dictionary or none.
                    let vr = SEQUENCE;
                    self.written.extend(long(*tag, vr, UNDEFINED, &[]));
                    for item in items {
                        let mut inside = Self::default();
                        for element in item {
                            inside.add(element, is_plain);
                        }
                        let length = u32::try_from(inside.sent.len()).unwrap();
                        self.sent.extend(implicit(ITEM, length, &inside.sent));
                        self.written.extend(implicit(ITEM, UNDEFINED, &inside.written));
                        self.written.extend(implicit(ITEM_END, 0, &[]));
                    }
                    let end = implicit(SEQUENCE_END, 0, &[]);
                    self.sent.extend(&end);
                    self.written.extend(end);
                }
            }
        }
    }

    fn elements() -> impl Strategy<Value = Vec<Element>> {
        let placeholders = prop::sample::select(vec![*b"??", *b"  ", [0, 0]]);
        let style = prop_oneof![
            Just(Style::Plain),
            Just(Style::Unknown),
            placeholders.prop_map(Style::Placeholder)
        ];
        let tag = prop::sample::select(vec![PATIENT_ID, CLASS, Tag(9, 0x1001), Tag(11, 0x1002)]);
        let value = prop::collection::vec(any::<u8>(), 0..6);
        let value = (tag, value, style.clone())
            .prop_map(|(tag, value, style)| Element::Value(tag, value, style));
        value
            .prop_recursive(4, 40, 4, move |inner| {
                let item = prop::collection::vec(inner, 0..4);
                let items = prop::collection::vec(item, 0..3);
                let tag = prop::sample::select(vec![REFERENCES, Tag(9, 0x1003)]);
                (tag, items, style.clone())
                    .prop_map(|(tag, items, style)| Element::Sequence(tag, items, style))
            })
            .prop_flat_map(|it| prop::collection::vec(Just(it), 1..3))
    }

    proptest! {
        /// Whatever a sender does not state, no byte of any value changes.
        #[test]
        fn din_76_every_value_is_the_same_in_the_regular_form(elements in elements(), zeros in 0..3_usize) {
            let mut both = Both::default();
            for element in &elements {
                both.add(element, true);
            }
            both.sent.extend(vec![0; zeros * 8]);
            prop_assert_eq!(regular(&both.sent), both.written);
        }
    }
}
