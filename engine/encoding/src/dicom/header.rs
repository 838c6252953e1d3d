//! The bounded reader of DICOM data sets, which stands between the network and every other reader.
//!
//! It walks a whole data set once, retains the small values of its top level and of the first item
//! of a few sequences ([`RETAINED_SEQUENCES`]), and checks that every length fits into what has
//! arrived (SEC-21, SEC-22, SEC-24). Libraries that allocate what a length field says may read the
//! data set only afterwards.
//!
//! **Invariants**
//!
//! - Memory grows with what is retained, never with what is declared.
//! - Nested sequences are tracked in a list, not by recursion.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

mod walk;

pub(crate) use walk::{
    ITEM, ITEM_END, SEQUENCE_END, UNDEFINED, has_short_length, is_foreign, is_placeholder,
};
pub use walk::{Skip, Tag, read, starts};

use crate::decoded_text::DecodedText;
use crate::dicom::charset::Charset;

/// Longest value that is retained. Longer ones are skipped.
pub const VALUE_BYTES_MAX: u64 = 64 * 1024;

/// Upper bound of the bytes retained of one data set.
pub const RETAINED_BYTES_MAX: u64 = 64 << 20;

/// Deepest nesting of sequences and items (SEC-22).
pub const DEPTH_MAX: usize = 64;

/// Upper bound of the elements of one data set, nested ones included (SEC-22).
pub const ELEMENTS_MAX: u64 = 1_000_000;

/// Upper bound of the factor by which a deflated data set may grow (SEC-23).
pub const INFLATION_RATIO_MAX: u64 = 200;

/// Upper bound of the size of a deflated data set after it is inflated (SEC-23).
pub const INFLATED_BYTES_MAX: u64 = 4 << 30;

/// Deflated Explicit VR Little Endian (PS3.5, A.5).
const DEFLATED: &str = "1.2.840.10008.1.2.1.99";

/// Implicit VR Little Endian (PS3.5, A.1).
const IMPLICIT_LITTLE_ENDIAN: &str = "1.2.840.10008.1.2";

/// Explicit VR Big Endian (PS3.5, A.3; retired, still sent).
const EXPLICIT_BIG_ENDIAN: &str = "1.2.840.10008.1.2.2";

/// How the elements of a data set are encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encoding {
    /// Whether each element states its value representation.
    pub is_explicit: bool,
    /// Whether the most significant byte comes first.
    pub is_big_endian: bool,
    /// Whether the whole data set is deflated.
    pub is_deflated: bool,
}

impl Encoding {
    /// What a deflated data set is in once it is inflated (PS3.5, A.5).
    pub const INFLATED: Self = Self { is_explicit: true, is_big_endian: false, is_deflated: false };

    /// The encoding of a transfer syntax. All compressed ones are explicit, little endian.
    pub fn of(transfer_syntax: &str) -> Self {
        Self {
            is_explicit: transfer_syntax != IMPLICIT_LITTLE_ENDIAN,
            is_big_endian: transfer_syntax == EXPLICIT_BIG_ENDIAN,
            is_deflated: transfer_syntax == DEFLATED,
        }
    }
}

/// Sequences of the top level of which the first item is retained: Issuer of Patient ID Qualifiers
/// (PS3.3, 10.15), Request Attributes (PS3.3, C.7.3.1.1), what assigned the numbers of the order
/// (`HL7v2 Hierarchic Designator`; PS3.3, 10.17), and View Code (PS3.3, C.8.11.5).
pub const RETAINED_SEQUENCES: [Tag; 6] = [
    ISSUER_OF_ACCESSION_NUMBER,
    ISSUER_QUALIFIERS,
    REQUEST_ATTRIBUTES,
    ORDER_PLACER_IDENTIFIER,
    ORDER_FILLER_IDENTIFIER,
    VIEW_CODE,
];

/// Issuer of Accession Number Sequence.
pub const ISSUER_OF_ACCESSION_NUMBER: Tag = Tag(0x0008, 0x0051);

/// Order Placer Identifier Sequence.
pub const ORDER_PLACER_IDENTIFIER: Tag = Tag(0x0040, 0x0026);

/// Order Filler Identifier Sequence.
pub const ORDER_FILLER_IDENTIFIER: Tag = Tag(0x0040, 0x0027);

/// View Code Sequence.
pub const VIEW_CODE: Tag = Tag(0x0054, 0x0220);

/// Issuer of Patient ID Qualifiers Sequence.
const ISSUER_QUALIFIERS: Tag = Tag(0x0010, 0x0024);

/// Accession Number: one study may answer several orders, each in an item of the request.
pub(crate) const ACCESSION_NUMBER: Tag = Tag(0x0008, 0x0050);

/// Local Namespace Entity ID.
const LOCAL_NAMESPACE_ENTITY_ID: Tag = Tag(0x0040, 0x0031);

/// Universal Entity ID.
const UNIVERSAL_ENTITY_ID: Tag = Tag(0x0040, 0x0032);

/// Request Attributes Sequence.
pub(crate) const REQUEST_ATTRIBUTES: Tag = Tag(0x0040, 0x0275);

/// The group of the pixels.
const PIXELS_GROUP: u16 = 0x7FE0;

/// Transfer Syntax UID.
const TRANSFER_SYNTAX: Tag = Tag(0x0002, 0x0010);

/// A departure of a data set from what most senders write. It changes no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Peculiarity {
    /// An element has `??`, two spaces or two zeros for a VR.
    Placeholder,
    /// Zeros follow the last element.
    TrailingZeros,
    /// Elements of a command (group 0000) or of the meta information of a file (group 0002) are in
    /// the data set. They are passed over.
    ForeignGroup,
    /// A sequence or an attribute of the standard has the VR UN, as PS3.5, 6.2.2 allows: only the
    /// dictionary knows what it is.
    UnknownRepresentation,
}

/// The small values of the top level of a data set, and of the first item of each of
/// [`RETAINED_SEQUENCES`].
#[derive(Clone, Debug, Default)]
pub struct Header {
    values: BTreeMap<Tag, Vec<u8>>,
    /// By sequence and element.
    first_items: BTreeMap<Tag, BTreeMap<Tag, Vec<u8>>>,
    /// Accession numbers in further items of the Request Attributes Sequence.
    further_accessions: Vec<Vec<u8>>,
    charset: Charset,
    is_big_endian: bool,
    peculiarities: BTreeSet<Peculiarity>,
    /// Where zeros begin that fill the data set up.
    filling_start: Option<u64>,
    /// Whether there are pixels, waveforms excluded: (7FE0,0008), (7FE0,0009) or (7FE0,0010).
    pub has_pixels: bool,
}

impl Header {
    /// The raw value of an element.
    pub fn bytes(&self, tag: Tag) -> Option<&[u8]> {
        self.values.get(&tag).map(Vec::as_slice)
    }

    /// An element in the default repertoire: `UI`, `CS`, `DA`, `DS`, `IS`, `AE`, …
    pub fn ascii(&self, tag: Tag) -> Option<&str> {
        let text = std::str::from_utf8(self.bytes(tag)?).ok()?;
        // A zero inside is no character of the default repertoire.
        Some(text.trim_matches(['\0', ' '])).filter(|it| !it.is_empty() && !it.contains('\0'))
    }

    /// An element in the character set of the data set: `LO`, `PN`, `SH`, … (DIN-71).
    pub fn text(&self, tag: Tag) -> Option<DecodedText> {
        self.decoded(self.bytes(tag)?)
    }

    /// An element of the first item of the Request Attributes Sequence (0040,0275), decoded.
    pub fn request_text(&self, tag: Tag) -> Option<DecodedText> {
        self.decoded(self.first_items.get(&REQUEST_ATTRIBUTES)?.get(&tag)?)
    }

    /// The accession numbers of all items of the Request Attributes Sequence, decoded.
    pub fn requested_accessions(&self) -> Vec<DecodedText> {
        let first = self.request_text(ACCESSION_NUMBER);
        let further = self.further_accessions.iter().filter_map(|it| self.decoded(it));
        first.into_iter().chain(further).collect()
    }

    /// The Universal Entity ID in the first item of the Issuer of Patient ID Qualifiers Sequence,
    /// decoded: the OID of the authority that assigned the Patient ID.
    pub fn universal_issuer(&self) -> Option<DecodedText> {
        self.decoded(self.first_items.get(&ISSUER_QUALIFIERS)?.get(&UNIVERSAL_ENTITY_ID)?)
    }

    /// The authority in the first item of one of [`RETAINED_SEQUENCES`], decoded: its name, or its
    /// universal ID where it has no name.
    pub fn authority(&self, sequence: Tag) -> Option<DecodedText> {
        let item = self.first_items.get(&sequence)?;
        let part = |tag| self.decoded(item.get(&tag)?);
        part(LOCAL_NAMESPACE_ENTITY_ID).or_else(|| part(UNIVERSAL_ENTITY_ID))
    }

    /// An element of the first item of one of [`RETAINED_SEQUENCES`], decoded.
    pub fn nested_text(&self, sequence: Tag, tag: Tag) -> Option<DecodedText> {
        self.decoded(self.first_items.get(&sequence)?.get(&tag)?)
    }

    fn decoded(&self, bytes: &[u8]) -> Option<DecodedText> {
        let decoded = self.charset.decode(bytes);
        let trimmed = decoded.text.trim_matches(['\0', ' ']);
        // No database stores a zero inside text, and no character set contains it.
        let is_lossless = decoded.is_lossless && !trimmed.contains('\0');
        let text = trimmed.replace('\0', "\u{FFFD}");
        Some(DecodedText { text, is_lossless }).filter(|it| !it.text.is_empty())
    }

    /// All numbers of an element with VR `DS` or `IS`, or nothing if one of them is no number.
    pub fn decimals(&self, tag: Tag) -> Option<Vec<f64>> {
        let number = |it: &str| it.trim().parse::<f64>().ok().filter(|it| it.is_finite());
        self.ascii(tag)?.split('\\').map(number).collect()
    }

    /// The first number of an element with VR `US`.
    pub fn unsigned_short(&self, tag: Tag) -> Option<u16> {
        let bytes: [u8; 2] = self.bytes(tag)?.get(..2)?.try_into().ok()?;
        Some(if self.is_big_endian { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
    }

    /// Whether the Specific Character Set is one that can be decoded.
    pub const fn has_known_charset(&self) -> bool {
        self.charset.is_known()
    }

    /// How the data set departs from what most senders write.
    pub const fn peculiarities(&self) -> &BTreeSet<Peculiarity> {
        &self.peculiarities
    }

    /// The transfer syntax that the data set claims for itself. It has no place there.
    pub fn claimed_transfer_syntax(&self) -> Option<&str> {
        self.ascii(TRANSFER_SYNTAX)
    }

    /// Where the last element of a data set of `length` bytes ends.
    pub(crate) fn end(&self, length: usize) -> usize {
        let filling_start = self.filling_start.and_then(|it| usize::try_from(it).ok());
        filling_start.unwrap_or(length)
    }

    /// Whether the Specific Character Set can be decoded, but is not named as the standard defines
    /// (DIN-70).
    pub const fn has_misspelt_charset(&self) -> bool {
        self.charset.is_misspelt()
    }

    pub(crate) fn retain(&mut self, tag: Tag, value: Vec<u8>) {
        if tag == Tag(0x0008, 0x0005) {
            let term = String::from_utf8_lossy(&value);
            self.charset = Charset::parse(term.trim_end_matches(['\0', ' ']));
        }
        self.values.insert(tag, value);
    }

    pub(crate) fn retain_further_accession(&mut self, value: Vec<u8>) {
        self.further_accessions.push(value);
    }

    pub(crate) fn retain_nested(&mut self, sequence: Tag, tag: Tag, value: Vec<u8>) {
        self.first_items.entry(sequence).or_default().insert(tag, value);
    }
}

/// Why bytes are not a data set that is accepted.
#[derive(Debug, thiserror::Error)]
pub enum HeaderError {
    /// The bytes end inside an element.
    #[error("the data set ends inside of {at}")]
    Truncated {
        /// The element.
        at: Tag,
    },
    /// An element is longer than what is left of the item, sequence or data set around it.
    #[error("{at} is longer than what holds it")]
    TooLong {
        /// The element.
        at: Tag,
    },
    /// The bytes after a tag are no value representation.
    #[error("{at} has no valid value representation")]
    BadVr {
        /// The element.
        at: Tag,
    },
    /// A delimiter without an open item or sequence, or an element where an item is required.
    #[error("{at} is out of place")]
    OutOfPlace {
        /// The element.
        at: Tag,
    },
    /// Zeros that no element has, with something else after them (DIN-23).
    #[error("{at} does not belong in a data set")]
    ForeignGroup {
        /// The element.
        at: Tag,
    },
    /// The data set is deflated. What came from outside is inflated in a process of its own
    /// ([`inflated_header`]).
    #[error("the data set is deflated")]
    Deflated,
    /// The data set exceeds one of the limits of this module.
    #[error("the data set exceeds the limit on {what}")]
    Limit {
        /// Which limit.
        what: &'static str,
    },
    /// The source of the bytes cannot be read.
    #[error("the data set cannot be read")]
    Io(#[source] std::io::Error),
}

/// Reads the header of a data set of `length` bytes in `encoding`.
///
/// # Errors
///
/// Fails if the data set is invalid or deflated; the sender is at fault unless the error is
/// [`HeaderError::Io`].
pub fn read_encoded<R: Read + Skip>(
    source: R,
    length: u64,
    encoding: Encoding,
) -> Result<Header, HeaderError> {
    if encoding.is_deflated {
        return Err(HeaderError::Deflated);
    }
    read(source, Some(length), encoding)
}

/// Inflates a deflated data set of `length` bytes, checks all of it, and returns what comes before
/// its pixels, and pixels without a value if it has any. It is in [`Encoding::INFLATED`].
///
/// # Errors
///
/// Fails as [`read_encoded`] does, and if what comes before the pixels has more than
/// [`RETAINED_BYTES_MAX`] bytes.
pub fn inflated_header<R: Read>(source: R, length: u64) -> Result<Vec<u8>, HeaderError> {
    let inflated = flate2::read::DeflateDecoder::new(source).take(inflated_bytes_max(length));
    let mut beginning = Beginning { source: inflated, bytes: Vec::new(), count: 0 };
    let starts = walk::starts_of(walk::Forward(&mut beginning), None, Encoding::INFLATED)?;
    let Beginning { mut bytes, count, .. } = beginning;
    let pixels = starts.iter().find(|it| it.0.0 == PIXELS_GROUP && it.0.1 != 0);
    let end = pixels.map_or(count, |it| it.1);
    if end > RETAINED_BYTES_MAX {
        return Err(HeaderError::Limit { what: "bytes of its header" });
    }
    bytes.truncate(usize::try_from(end).unwrap_or(usize::MAX));
    if let Some((Tag(group, element), _)) = pixels {
        bytes.extend(group.to_le_bytes());
        bytes.extend(element.to_le_bytes());
        bytes.extend(b"OB\0\0\0\0\0\0");
    }
    Ok(bytes)
}

/// A source of which the first [`RETAINED_BYTES_MAX`] bytes are kept as they are read.
struct Beginning<R> {
    source: R,
    bytes: Vec<u8>,
    /// Bytes read so far.
    count: u64,
}

impl<R: Read> Read for Beginning<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.source.read(buffer)?;
        self.count += count as u64;
        if self.count <= RETAINED_BYTES_MAX {
            self.bytes.extend(buffer.iter().take(count));
        }
        Ok(count)
    }
}

/// How long a deflated data set of `length` bytes may become (SEC-23).
pub(super) fn inflated_bytes_max(length: u64) -> u64 {
    INFLATED_BYTES_MAX.min(length.saturating_mul(INFLATION_RATIO_MAX).max(1 << 16))
}

#[cfg(test)]
mod tests;
