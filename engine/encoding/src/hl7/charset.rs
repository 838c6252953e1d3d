//! Character sets of HL7 messages (MSH-18, table 0211; HL7-23).

use encoding_rs as rs;

use crate::decoded_text::DecodedText;

/// A character set a message or a destination may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hl7Charset {
    /// `UNICODE UTF-8`, also read for `ASCII`.
    Utf8,
    /// `8859/1`.
    Latin1,
    /// A set of the Encoding Standard.
    Other(&'static rs::Encoding),
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
    /// The set a term of table 0211 names; an empty one is `default`.
    ///
    /// # Errors
    ///
    /// Fails on an unknown term: guessing would corrupt names.
    pub fn parse(term: &str, default: Self) -> Result<Self, CharsetError> {
        let term = term.trim();
        Ok(match term.to_ascii_uppercase().as_str() {
            "" => default,
            "ASCII" | "UNICODE UTF-8" | "UTF-8" | "UTF8" | "UNICODE" => Self::Utf8,
            "8859/1" | "ISO IR100" | "ISO-8859-1" => Self::Latin1,
            "8859/2" => Self::Other(rs::ISO_8859_2),
            "8859/3" => Self::Other(rs::ISO_8859_3),
            "8859/4" => Self::Other(rs::ISO_8859_4),
            "8859/5" => Self::Other(rs::ISO_8859_5),
            "8859/6" => Self::Other(rs::ISO_8859_6),
            "8859/7" => Self::Other(rs::ISO_8859_7),
            "8859/8" => Self::Other(rs::ISO_8859_8),
            "8859/9" => Self::Other(rs::WINDOWS_1254),
            "8859/15" => Self::Other(rs::ISO_8859_15),
            "GB 18030-2000" | "GB18030" => Self::Other(rs::GB18030),
            "BIG-5" | "BIG5" => Self::Other(rs::BIG5),
            "ISO IR87" | "ISO IR159" => Self::Other(rs::ISO_2022_JP),
            "KS X 1001" => Self::Other(rs::EUC_KR),
            _ => return Err(CharsetError::Unknown(term.to_owned())),
        })
    }

    /// Decodes bytes.
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
        }
    }

    /// Encodes text.
    ///
    /// # Errors
    ///
    /// Fails if the set lacks a character: a `?` in a name is worse than a message that waits.
    pub fn encode(self, text: &str) -> Result<Vec<u8>, CharsetError> {
        match self {
            Self::Utf8 => Ok(text.as_bytes().to_vec()),
            Self::Latin1 => text
                .chars()
                .map(|it| u8::try_from(u32::from(it)).map_err(|_| CharsetError::DoesNotFit))
                .collect(),
            Self::Other(encoding) => match encoding.encode(text) {
                (bytes, _, false) => Ok(bytes.into_owned()),
                (_, _, true) => Err(CharsetError::DoesNotFit),
            },
        }
    }
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
