//! Text of a DICOM data set (PS3.3, C.12.1.1.2; PS3.5, 6.1; requirements DIN-70..75).
//!
//! Values are decoded first and split after: in GB18030 the second byte of a character may be the
//! backslash that separates values (DIN-72).

use encoding_rs as rs;

use crate::iso_2022;

/// Text, and whether all of it could be decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// What it says; what could not be decoded shows as U+FFFD.
    pub text: String,
    /// Whether nothing was lost. If not, it must not identify anybody (DIN-74).
    pub is_whole: bool,
}

/// How the text of a data set is encoded: Specific Character Set (0008,0005).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charset {
    kind: Kind,
    is_known: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Single(SingleByte),
    Whole(&'static rs::Encoding),
    Extended(SingleByte),
}

/// A set of at most 256 characters whose lower half is ASCII.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SingleByte {
    Ascii,
    Latin1,
    /// JIS X 0201: half-width katakana in the upper half.
    Katakana,
    Table(&'static rs::Encoding),
}

impl SingleByte {
    pub(crate) fn decode(self, byte: u8) -> Option<char> {
        match self {
            _ if byte.is_ascii() => Some(char::from(byte)),
            Self::Ascii => None,
            Self::Latin1 => Some(char::from(byte)),
            Self::Katakana => one(rs::SHIFT_JIS, &[byte]),
            Self::Table(table) => one(table, &[byte]),
        }
    }
}

/// The one character that `bytes` are, if they are one.
pub(crate) fn one(encoding: &'static rs::Encoding, bytes: &[u8]) -> Option<char> {
    let text = encoding.decode_without_bom_handling_and_without_replacement(bytes)?;
    let mut characters = text.chars();
    characters.next().filter(|_| characters.next().is_none())
}

impl Default for Charset {
    fn default() -> Self {
        Self { kind: Kind::Single(SingleByte::Ascii), is_known: true }
    }
}

impl Charset {
    /// Reads the value of (0008,0005). A set nobody knows is read as ASCII and not
    /// [known](Self::is_known).
    pub fn parse(value: &str) -> Self {
        let terms: Vec<&str> = value.split('\\').map(str::trim).collect();
        let first = terms.first().copied().unwrap_or_default();
        let is_extended = terms.len() > 1 || first.starts_with("ISO 2022");
        if is_extended && !matches!(first, "ISO_IR 192" | "GB18030" | "GBK") {
            let others_known = terms.iter().skip(1).all(|term| iso_2022::is_known(term));
            let base = single_byte(&first.replace("ISO 2022 IR", "ISO_IR"));
            let is_known = base.is_some() && others_known;
            return Self { kind: Kind::Extended(base.unwrap_or(SingleByte::Ascii)), is_known };
        }
        let kind = match first {
            "ISO_IR 192" => Some(Kind::Whole(rs::UTF_8)),
            "GB18030" => Some(Kind::Whole(rs::GB18030)),
            "GBK" => Some(Kind::Whole(rs::GBK)),
            other => single_byte(other).map(Kind::Single),
        };
        let is_known = kind.is_some();
        Self { kind: kind.unwrap_or(Kind::Single(SingleByte::Ascii)), is_known }
    }

    /// Whether the set is one of PS3.3, C.12.1.1.2.
    pub const fn is_known(&self) -> bool {
        self.is_known
    }

    /// Decodes one value field. Split what it gives, not what it is given.
    pub fn decode(&self, bytes: &[u8]) -> Text {
        let mut text = match &self.kind {
            Kind::Single(set) => by_byte(*set, bytes),
            Kind::Whole(encoding) => {
                let (text, lossy) = encoding.decode_without_bom_handling(bytes);
                Text { text: text.into_owned(), is_whole: !lossy }
            }
            Kind::Extended(base) => iso_2022::decode(*base, bytes),
        };
        text.is_whole &= self.is_known || bytes.is_ascii();
        text
    }
}

impl Charset {
    /// A text in this set. Nothing, if the set has not all of its characters, or needs escape sequences
    /// for them.
    pub fn encode(&self, text: &str) -> Option<Vec<u8>> {
        if text.is_ascii() {
            return Some(text.as_bytes().to_vec());
        }
        let table = match &self.kind {
            Kind::Whole(encoding) => encoding,
            Kind::Single(SingleByte::Table(table)) => table,
            Kind::Single(SingleByte::Latin1) => {
                let byte = |it: char| u8::try_from(u32::from(it)).ok();
                return text.chars().map(byte).collect();
            }
            _ => return None,
        };
        let (bytes, _, has_unmappable) = table.encode(text);
        (!has_unmappable && self.is_known).then(|| bytes.into_owned())
    }
}

fn by_byte(set: SingleByte, bytes: &[u8]) -> Text {
    let mut is_whole = true;
    let character = |byte: &u8| {
        set.decode(*byte).unwrap_or_else(|| {
            is_whole = false;
            '\u{fffd}'
        })
    };
    let text = bytes.iter().map(character).collect();
    Text { text, is_whole }
}

/// The defined terms for sets without code extensions (PS3.3, Table C.12-2).
fn single_byte(term: &str) -> Option<SingleByte> {
    let table = match term {
        "" | "ISO_IR 6" => return Some(SingleByte::Ascii),
        "ISO_IR 100" => return Some(SingleByte::Latin1),
        "ISO_IR 13" => return Some(SingleByte::Katakana),
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
    Some(SingleByte::Table(table))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(charset: &str, bytes: &[u8], expected: &str) {
        let decoded = Charset::parse(charset).decode(bytes);
        assert_eq!(decoded, Text { text: expected.to_owned(), is_whole: true });
    }

    #[test]
    fn din_72_a_backslash_or_caret_inside_a_character_does_not_split_it() {
        check("GB18030", b"\xd5\x5c^\xc8\xfd", "誠^三");
        check("GB18030", b"\xd4\x5c\xd0\x5c\x96\x7c\xac\x7c\xd9\x7c", "診衆東瑋質");
        check("GB18030", b"\xd4\x5e\xbd\x5e\xab\x5e", "証絕玘");
    }

    /// The examples of PS3.5, Annexes H, I and K.
    #[test]
    fn din_73_names_of_the_standard_are_read() {
        check(
            "\\ISO 2022 IR 87",
            b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B",
            "Yamada^Tarou=山田^太郎=やまだ^たろう",
        );
        check(
            "ISO 2022 IR 13\\ISO 2022 IR 87",
            b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J",
            "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎",
        );
        check(
            "\\ISO 2022 IR 149",
            b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf",
            "Hong^Gildong=洪^吉洞=홍^길동",
        );
        check(
            "\\ISO 2022 IR 58",
            b"Wang^XiaoDong=\x1b$)A\xcd\xf5^\x1b$)A\xd0\xa1\xb6\xab",
            "Wang^XiaoDong=王^小东",
        );
        check("ISO_IR 192", "Wang^XiaoDong=王^小东".as_bytes(), "Wang^XiaoDong=王^小东");
    }

    #[test]
    fn din_70_single_sets_are_read() {
        check("ISO_IR 100", b"Buc^J\xe9r\xf4me", "Buc^Jérôme");
        check("ISO_IR 144", b"\xbb\xee\xdace\xdc\xd1yp\xd3", "Люкceмбypг");
        check("ISO_IR 126", b"\xc4\xe9\xef\xed\xf5\xf3\xe9\xef\xf2", "Διονυσιος");
        check("ISO_IR 166", b"\xb9\xd2\xc2", "นาย");
        check("", b"DOE^JANE", "DOE^JANE");
    }

    #[test]
    fn din_74_what_cannot_be_decoded_is_said_so() {
        assert!(!Charset::default().decode(b"M\xfcller").is_whole);
        assert!(!Charset::parse("ISO_IR 192").decode(b"M\xfcller").is_whole);
        assert!(!Charset::parse("ISO_IR 999").decode(b"M\xfcller").is_whole);
        assert!(!Charset::parse("\\ISO 2022 IR 87").decode(b"\x1b$B;").is_whole);
    }
}
