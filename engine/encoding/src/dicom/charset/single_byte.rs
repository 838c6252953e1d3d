//! Character sets of one byte for each character (PS3.3, Table C.12-2).

use encoding_rs as rs;

/// A set of at most 256 characters whose lower half is ASCII.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SingleByte {
    /// ISO 646: the lower half only.
    Ascii,
    /// ISO 8859-1: each byte is the code point.
    Latin1,
    /// JIS X 0201: half-width katakana in the upper half.
    Katakana,
    /// A table of the Encoding Standard.
    Table(&'static rs::Encoding),
}

impl SingleByte {
    /// The set that a defined term without code extensions names (PS3.3, Table C.12-2).
    pub(super) fn parse(term: &str) -> Option<Self> {
        let table = match term {
            "" | "ISO_IR 6" => return Some(Self::Ascii),
            "ISO_IR 100" => return Some(Self::Latin1),
            "ISO_IR 13" => return Some(Self::Katakana),
            "ISO_IR 101" => rs::ISO_8859_2,
            "ISO_IR 109" => rs::ISO_8859_3,
            "ISO_IR 110" => rs::ISO_8859_4,
            "ISO_IR 144" => rs::ISO_8859_5,
            "ISO_IR 127" => rs::ISO_8859_6,
            "ISO_IR 126" => rs::ISO_8859_7,
            "ISO_IR 138" => rs::ISO_8859_8,
            // Equal to ISO 8859-9 but for control characters.
            "ISO_IR 148" => rs::WINDOWS_1254,
            "ISO_IR 203" => rs::ISO_8859_15,
            "ISO_IR 166" => rs::WINDOWS_874,
            _ => return None,
        };
        Some(Self::Table(table))
    }

    /// The character that `byte` encodes, if it encodes one.
    pub(super) fn decode(self, byte: u8) -> Option<char> {
        match self {
            _ if byte.is_ascii() => Some(char::from(byte)),
            Self::Ascii => None,
            Self::Latin1 => Some(char::from(byte)),
            Self::Katakana => single_char(rs::SHIFT_JIS, &[byte]),
            Self::Table(table) => single_char(table, &[byte]),
        }
    }
}

/// The character that `bytes` encode, if they encode exactly one.
pub(super) fn single_char(encoding: &'static rs::Encoding, bytes: &[u8]) -> Option<char> {
    let text = encoding.decode_without_bom_handling_and_without_replacement(bytes)?;
    let mut characters = text.chars();
    characters.next().filter(|_| characters.next().is_none())
}
