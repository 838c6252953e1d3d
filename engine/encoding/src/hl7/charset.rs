//! Character sets of HL7 messages (MSH-18, table 0211; HL7-23).
//!
//! MSH-18 repeats: the message begins in the set of the first repetition (ASCII, if it is empty),
//! and escape sequences switch to the others (ISO/IEC 2022). Senders write the names in many ways:
//! a name that leaves no doubt is read, and [`NamedCharset::is_by_the_table`] says that it is not
//! the one of the table.

use encoding_rs as rs;

use crate::decoded_text::DecodedText;
use crate::dicom::charset::iso_2022::{self, Half};
use crate::dicom::charset::single_byte::SingleByte;

mod names;

use names::Known;

/// A character set a message or a destination may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hl7Charset {
    /// `UNICODE UTF-8`, also read for `ASCII`.
    Utf8,
    /// `8859/1`.
    Latin1,
    /// A set of the Encoding Standard.
    Other(&'static rs::Encoding),
    /// ASCII, with sets that escape sequences switch to.
    Extended(CodeExtensions),
}

/// How a message with code extensions begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodeExtensions {
    /// The upper half of the code table before any escape sequence.
    above: Half,
}

/// The character set that MSH-18 names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamedCharset {
    /// The set.
    pub charset: Hl7Charset,
    /// Whether it is named as in table 0211.
    pub is_by_the_table: bool,
}

/// Why a character set cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CharsetError {
    /// MSH-18 names a set that is not supported.
    #[error("MSH-18 names the character set `{0}`, which is not supported")]
    Unknown(String),
    /// A character does not exist in the set of the destination.
    #[error("a character does not exist in the character set of the destination")]
    DoesNotFit,
}

impl Hl7Charset {
    /// The set that a name stands for; `default` for an empty one.
    ///
    /// # Errors
    ///
    /// Fails on an unknown name: guessing would corrupt names of patients.
    pub fn parse(name: &str, default: Self) -> Result<Self, CharsetError> {
        Self::parse_repetitions(&[name], default).map(|it| it.charset)
    }

    /// The set that the repetitions of MSH-18 name; `default` if all are empty.
    ///
    /// # Errors
    ///
    /// Fails if any of them is unknown.
    pub fn parse_repetitions(names: &[&str], default: Self) -> Result<NamedCharset, CharsetError> {
        let mut is_by_the_table = true;
        let mut found = Vec::with_capacity(names.len());
        for name in names.iter().map(|it| it.trim()) {
            if name.is_empty() {
                found.push(None);
                continue;
            }
            let known = Known::find(name);
            let known = known.ok_or_else(|| CharsetError::Unknown(name.to_owned()))?;
            is_by_the_table &= known.is_named_by_the_table(name);
            found.push(Some(known));
        }
        let mut found = found.into_iter();
        let first = found.next().flatten();
        let others: Vec<&Known> = found.flatten().collect();
        let charset = match first {
            first if others.is_empty() => first.map_or(default, |it| it.charset),
            Some(first) if !first.is_ascii => first.charset.extended(),
            _ => {
                let charset = above_ascii(&others);
                // Escape sequences lead there, but senders write its bytes without any.
                is_by_the_table &= charset == Self::ASCII_EXTENDED;
                charset
            }
        };
        Ok(NamedCharset { charset, is_by_the_table })
    }

    /// ASCII, with escape sequences.
    const ASCII_EXTENDED: Self =
        Self::Extended(CodeExtensions { above: Half::Single(SingleByte::Ascii) });

    /// This set, with escape sequences that switch to others, where its bytes allow them.
    fn extended(self) -> Self {
        let above = match self {
            Self::Latin1 => Half::Single(SingleByte::Latin1),
            Self::Other(table) if table.is_single_byte() => Half::Single(SingleByte::Table(table)),
            Self::Other(table) if table == rs::EUC_KR => Half::Double(table, &[]),
            Self::Utf8 | Self::Other(_) | Self::Extended(_) => return self,
        };
        Self::Extended(CodeExtensions { above })
    }

    /// Decodes bytes: a whole message, so that its delimiters are known, or a text.
    pub fn decode(self, bytes: &[u8]) -> DecodedText {
        match self {
            Self::Utf8 => {
                let (text, is_lossy) = rs::UTF_8.decode_without_bom_handling(bytes);
                DecodedText { text: text.into_owned(), is_lossless: !is_lossy }
            }
            Self::Latin1 => {
                let text = bytes.iter().map(|byte| char::from(*byte)).collect();
                DecodedText { text, is_lossless: true }
            }
            Self::Other(encoding) => {
                let (text, is_lossy) = encoding.decode_without_bom_handling(bytes);
                DecodedText { text: text.into_owned(), is_lossless: !is_lossy }
            }
            Self::Extended(CodeExtensions { above }) => {
                iso_2022::decode(above, &delimiters(bytes), bytes)
            }
        }
    }

    /// Encodes text.
    ///
    /// # Errors
    ///
    /// Fails if the set lacks a character: a `?` in a name is worse than a message that waits.
    pub fn encode(self, text: &str) -> Result<Vec<u8>, CharsetError> {
        let table = match self {
            Self::Utf8 => return Ok(text.as_bytes().to_vec()),
            Self::Latin1 => return encoded_as_latin1(text),
            Self::Other(table) => table,
            Self::Extended(CodeExtensions { above }) => match above {
                Half::Single(SingleByte::Latin1) => return encoded_as_latin1(text),
                Half::Single(SingleByte::Table(table)) | Half::Double(table, _) => table,
                Half::Single(_) | Half::Lowered(_) => rs::ISO_2022_JP,
            },
        };
        match table.encode(text) {
            (bytes, _, false) => Ok(bytes.into_owned()),
            (_, _, true) => Err(CharsetError::DoesNotFit),
        }
    }
}

fn encoded_as_latin1(text: &str) -> Result<Vec<u8>, CharsetError> {
    let byte = |it: char| u8::try_from(u32::from(it)).map_err(|_| CharsetError::DoesNotFit);
    text.chars().map(byte).collect()
}

/// The set of a message in ASCII that names `others` beside it. Where one of them has an upper
/// half, bytes beyond ASCII are read as its own, since ASCII has none.
fn above_ascii(others: &[&Known]) -> Hl7Charset {
    let mut found = None;
    for other in others.iter().filter(|it| !it.is_ascii) {
        let charset = other.charset.extended();
        if charset == Hl7Charset::ASCII_EXTENDED || found == Some(charset) {
            continue;
        }
        if found.replace(charset).is_some() {
            return Hl7Charset::ASCII_EXTENDED;
        }
    }
    found.unwrap_or(Hl7Charset::ASCII_EXTENDED)
}

/// The bytes that return to the first set: the delimiters of a message (MSH-1 and MSH-2 without the
/// escape character), and line ends.
fn delimiters(bytes: &[u8]) -> Vec<u8> {
    let own = bytes.strip_prefix(b"MSH").and_then(|it| it.get(..5)).unwrap_or(b"|^~\\&");
    let escape = own.get(3).copied();
    own.iter().copied().filter(|it| Some(*it) != escape).chain(*b"\r\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hl7_23_a_second_byte_that_looks_like_a_delimiter_is_text() {
        let charset = Hl7Charset::parse("GB 18030-2000", Hl7Charset::Utf8).unwrap();
        let decoded = charset.decode(b"PID|1||7||\x96\x7c\xd4\x5e^A");
        let text = "PID|1||7||東証^A".to_owned();
        assert_eq!(decoded, DecodedText { text, is_lossless: true });
        assert_eq!(charset.encode("東").unwrap(), b"\x96\x7c");
    }

    #[track_caller]
    fn check_names(names: &[&str], expected: Hl7Charset, is_by_the_table: bool) {
        let found = Hl7Charset::parse_repetitions(names, Hl7Charset::Latin1).unwrap();
        assert_eq!(found, NamedCharset { charset: expected, is_by_the_table }, "{names:?}");
    }

    #[test]
    fn hl7_23_names_that_leave_no_doubt_are_read_and_told_from_those_of_the_table() {
        check_names(&[""], Hl7Charset::Latin1, true);
        check_names(&["", ""], Hl7Charset::Latin1, true);
        check_names(&["8859/1"], Hl7Charset::Latin1, true);
        check_names(&[" UNICODE UTF-8 "], Hl7Charset::Utf8, true);
        check_names(&["ISO IR6"], Hl7Charset::Utf8, true);
        check_names(&["8859/15"], Hl7Charset::Other(rs::ISO_8859_15), true);
        for name in ["ISO-8859-1", "8859-1", "ISO8859-1", "ISO_8859-1", "LATIN1", "iso_ir 100"] {
            check_names(&[name], Hl7Charset::Latin1, false);
        }
        for name in ["WINDOWS-1252", "windows-1252", "CP1252"] {
            check_names(&[name], Hl7Charset::Other(rs::WINDOWS_1252), false);
        }
        check_names(&["ISO-8859-15"], Hl7Charset::Other(rs::ISO_8859_15), false);
        check_names(&["utf8"], Hl7Charset::Utf8, false);
        check_names(&["GBK"], Hl7Charset::Other(rs::GBK), false);
        check_names(&["GB2312"], Hl7Charset::Other(rs::GBK), false);
        check_names(&["gb18030"], Hl7Charset::Other(rs::GB18030), false);
        for name in ["KLINGON", "8859/1x", "8859/12", "-", "8859", "CNS 11643-1992", "MÜLLER^JÖRG"]
        {
            let error = Hl7Charset::parse_repetitions(&["", name], Hl7Charset::Utf8).unwrap_err();
            assert_eq!(error, CharsetError::Unknown(name.to_owned()));
        }
    }

    #[test]
    fn hl7_23_every_repetition_is_read() {
        let extended = |above| Hl7Charset::Extended(CodeExtensions { above });
        let latin1 = extended(Half::Single(SingleByte::Latin1));
        check_names(&["", "ISO IR87"], Hl7Charset::ASCII_EXTENDED, true);
        check_names(&["ASCII", "ISO IR87", "ISO IR159"], Hl7Charset::ASCII_EXTENDED, true);
        check_names(&["8859/1", "ISO IR87"], latin1, true);
        check_names(&["8859/1", "UNICODE UTF-8"], latin1, true);
        check_names(&["UNICODE UTF-8", "8859/1"], Hl7Charset::Utf8, true);
        // Bytes beyond ASCII can be of one set only.
        check_names(&["", "8859/1"], latin1, false);
        check_names(&["", "8859/1", "ISO IR87"], latin1, false);
        check_names(&["", "UNICODE UTF-8"], Hl7Charset::Utf8, false);
        check_names(&["", "8859/1", "8859/2"], Hl7Charset::ASCII_EXTENDED, true);
    }

    #[track_caller]
    fn check_decoded(names: &[&str], bytes: &[u8], expected: &str) {
        let named = Hl7Charset::parse_repetitions(names, Hl7Charset::Utf8).unwrap();
        let decoded = named.charset.decode(bytes);
        assert_eq!(decoded, DecodedText { text: expected.to_owned(), is_lossless: true });
    }

    #[test]
    fn hl7_23_escape_sequences_switch_the_set_and_delimiters_switch_back() {
        // The second byte of a character is that of a delimiter: no field ends there.
        check_decoded(
            &["", "ISO IR87"],
            b"MSH|^~\\&|A\rOBX|1|ST|^\x1b$B\x45\x7c\x1b(B|^\x1b$B5\\K\\\x1b(B^L",
            "MSH|^~\\&|A\rOBX|1|ST|^糖|^宮本^L",
        );
        check_decoded(&["", "ISO IR87"], b"PID|\x1b$B;3ED\x1b(J^\x1b$@B@O:\x1b(B", "PID|山田^太郎");
        check_decoded(&["ISO IR14", "ISO IR87"], b"\xd4\xcf\xc0\xde^\x1b(I4_\x1b(B", "ﾔﾏﾀﾞ^ｴﾟ");
        check_decoded(&["", "ISO IR159"], b"\x1b$(D\x30\x21\x1b(B", "丂");
        check_decoded(&["8859/1", "8859/5"], b"\xc4|\x1b-L\xbb|\xc4", "Ä|Л|Ä");
        check_decoded(&["", "8859/1"], b"M\xdcLLER", "MÜLLER");
        check_decoded(&["", "KS X 1001"], b"\xc8\xab^\xb1\xe6\xb5\xbf", "홍^길동");
        let ascii = Hl7Charset::ASCII_EXTENDED.decode(b"M\xdcLLER");
        assert!(!ascii.is_lossless && ascii.text == "M\u{fffd}LLER");
        for name in ["ISO IR87", "8859/5", "KS X 1001"] {
            let set = Hl7Charset::parse_repetitions(&["", name], Hl7Charset::Utf8).unwrap().charset;
            let text = if name == "ISO IR87" { "山田" } else { "A" };
            assert_eq!(set.decode(&set.encode(text).unwrap()).text, text, "{name}");
        }
    }

    #[test]
    fn din_75_what_does_not_fit_is_refused_not_replaced() {
        assert_eq!(Hl7Charset::Latin1.encode("王"), Err(CharsetError::DoesNotFit));
        assert_eq!(Hl7Charset::Latin1.encode("é").unwrap(), [0xE9]);
    }

    #[test]
    fn an_unknown_set_is_named() {
        let error = Hl7Charset::parse("KLINGON", Hl7Charset::Utf8).unwrap_err();
        assert_eq!(error, CharsetError::Unknown("KLINGON".to_owned()));
    }
}
