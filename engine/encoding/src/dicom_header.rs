//! The bounded reader of DICOM data sets: what stands between the network and every other reader.
//!
//! It walks a whole data set once, keeps the small values of its top level and of the first request
//! it answers, and checks that every
//! length it meets fits into what has arrived (SEC-21, SEC-22, SEC-24). Libraries that allocate
//! what a length field says may read the data set only after this has.
//!
//! **Invariants**
//!
//! - Memory grows with what is kept, never with what is declared.
//! - Sequences are followed on a list, not on the stack of the program.

use std::collections::BTreeMap;
use std::io::Read;

mod walk;

pub use walk::{Skip, Tag, read, starts};

use crate::dicom_charset::{Charset, Text};

/// Longest value that is kept. Longer ones are stepped over.
pub const VALUE_BYTES_MAX: u64 = 64 * 1024;

/// Most bytes kept of one data set.
pub const KEPT_BYTES_MAX: u64 = 64 << 20;

/// Deepest nesting of sequences and items (SEC-22).
pub const DEPTH_MAX: usize = 64;

/// Most elements of one data set, nested ones included (SEC-22).
pub const ELEMENTS_MAX: u64 = 1_000_000;

/// A deflated data set may grow by this factor (SEC-23) …
pub const INFLATION_RATIO_MAX: u64 = 200;

/// … and to this size.
pub const INFLATED_BYTES_MAX: u64 = 4 << 30;

/// Deflated Explicit VR Little Endian (PS3.5, A.5).
const DEFLATED: &str = "1.2.840.10008.1.2.1.99";

/// Implicit VR Little Endian (PS3.5, A.1).
const IMPLICIT_LITTLE_ENDIAN: &str = "1.2.840.10008.1.2";

/// Explicit VR Big Endian (PS3.5, A.3; retired, still sent).
const EXPLICIT_BIG_ENDIAN: &str = "1.2.840.10008.1.2.2";

/// How the elements of a data set are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encoding {
    /// Whether each element says its value representation.
    pub is_explicit: bool,
    /// Whether the highest byte comes first.
    pub is_big_endian: bool,
    /// Whether all of it is deflated.
    pub is_deflated: bool,
}

impl Encoding {
    /// The encoding a transfer syntax stands for. All compressed ones are explicit, little endian.
    pub fn of(transfer_syntax: &str) -> Self {
        Self {
            is_explicit: transfer_syntax != IMPLICIT_LITTLE_ENDIAN,
            is_big_endian: transfer_syntax == EXPLICIT_BIG_ENDIAN,
            is_deflated: transfer_syntax == DEFLATED,
        }
    }
}

/// The small values of the top level of a data set, and of the request it answers.
#[derive(Clone, Debug, Default)]
pub struct Header {
    values: BTreeMap<Tag, Vec<u8>>,
    request: BTreeMap<Tag, Vec<u8>>,
    charset: Charset,
    is_big_endian: bool,
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
    pub fn text(&self, tag: Tag) -> Option<Text> {
        self.decoded(self.bytes(tag)?)
    }

    /// The same of the first item of the Request Attributes Sequence (0040,0275).
    pub fn request_text(&self, tag: Tag) -> Option<Text> {
        self.decoded(self.request.get(&tag)?)
    }

    fn decoded(&self, bytes: &[u8]) -> Option<Text> {
        let decoded = self.charset.decode(bytes);
        let trimmed = decoded.text.trim_matches(['\0', ' ']);
        // No database takes a zero inside of a text, and no character set has it.
        let is_whole = decoded.is_whole && !trimmed.contains('\0');
        let text = trimmed.replace('\0', "\u{FFFD}");
        Some(Text { text, is_whole }).filter(|it| !it.text.is_empty())
    }

    /// All numbers of an element with VR `DS` or `IS`, or nothing if one is none.
    pub fn decimals(&self, tag: Tag) -> Option<Vec<f64>> {
        let number = |it: &str| it.trim().parse::<f64>().ok().filter(|it| it.is_finite());
        self.ascii(tag)?.split('\\').map(number).collect()
    }

    /// The first number of an element with VR `US`.
    pub fn unsigned_short(&self, tag: Tag) -> Option<u16> {
        let bytes: [u8; 2] = self.bytes(tag)?.get(..2)?.try_into().ok()?;
        Some(if self.is_big_endian { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
    }

    /// Whether the character set is one we know.
    pub const fn has_known_charset(&self) -> bool {
        self.charset.is_known()
    }

    pub(crate) fn keep(&mut self, tag: Tag, value: Vec<u8>) {
        if tag == Tag(0x0008, 0x0005) {
            let term = String::from_utf8_lossy(&value);
            self.charset = Charset::parse(term.trim_end_matches(['\0', ' ']));
        }
        self.values.insert(tag, value);
    }

    pub(crate) fn keep_of_request(&mut self, tag: Tag, value: Vec<u8>) {
        self.request.insert(tag, value);
    }
}

/// Why bytes are not a data set we take.
#[derive(Debug, thiserror::Error)]
pub enum HeaderError {
    /// The bytes end inside of an element.
    #[error("the data set ends inside of {at}")]
    Truncated {
        /// The element.
        at: Tag,
    },
    /// An element is longer than what is left of its surroundings.
    #[error("{at} is longer than what holds it")]
    TooLong {
        /// The element.
        at: Tag,
    },
    /// Something that is no value representation.
    #[error("{at} has no valid value representation")]
    BadVr {
        /// The element.
        at: Tag,
    },
    /// A delimiter without its beginning, or an element where an item must be.
    #[error("{at} is out of place")]
    OutOfPlace {
        /// The element.
        at: Tag,
    },
    /// An element of a group that has no place in a data set: 0000, 0002 (DIN-23).
    #[error("{at} does not belong in a data set")]
    ForeignGroup {
        /// The element.
        at: Tag,
    },
    /// More than we are ready to follow.
    #[error("the data set exceeds the limit on {what}")]
    Limit {
        /// Which limit.
        what: &'static str,
    },
    /// The source of the bytes failed.
    #[error("the data set cannot be read")]
    Io(#[source] std::io::Error),
}

/// Reads `length` bytes of a data set written as `encoding`.
///
/// # Errors
///
/// Says what is wrong with the data set; the sender is at fault unless it is
/// [`HeaderError::Io`].
pub fn read_encoded<R: Read + Skip>(
    source: R,
    length: u64,
    encoding: Encoding,
) -> Result<Header, HeaderError> {
    if !encoding.is_deflated {
        return read(source, Some(length), encoding);
    }
    let limit = INFLATED_BYTES_MAX.min(length.saturating_mul(INFLATION_RATIO_MAX).max(1 << 16));
    let inflated = flate2::read::DeflateDecoder::new(source).take(limit);
    read(walk::Forward(inflated), None, encoding)
}

#[cfg(test)]
mod tests;
