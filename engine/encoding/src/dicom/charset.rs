//! Specific Character Sets of DICOM (PS3.3, C.12.1.1.2; PS3.5, 6.1; DIN-70 to DIN-75).
//!
//! Values are decoded first and split afterwards: in GB18030 the second byte of a character may be
//! the backslash that separates values (DIN-72).

use encoding_rs as rs;

use crate::decoded_text::DecodedText;

pub(crate) mod iso_2022;
pub(crate) mod single_byte;

use iso_2022::Half;
use single_byte::SingleByte;

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

impl Default for Charset {
    fn default() -> Self {
        Self { kind: Kind::Single(SingleByte::Ascii), is_known: true }
    }
}

impl Charset {
    /// Parses the value of (0008,0005). An unknown set is decoded as ASCII and is not
    /// [known](Self::is_known).
    pub fn parse(value: &str) -> Self {
        let terms: Vec<&str> = value.split('\\').map(str::trim).collect();
        let first = terms.first().copied().unwrap_or_default();
        let is_extended = terms.len() > 1 || first.starts_with("ISO 2022");
        if is_extended && !matches!(first, "ISO_IR 192" | "GB18030" | "GBK") {
            let others_known = terms.iter().skip(1).all(|term| iso_2022::is_known(term));
            let base = SingleByte::parse(&first.replace("ISO 2022 IR", "ISO_IR"));
            let is_known = base.is_some() && others_known;
            return Self { kind: Kind::Extended(base.unwrap_or(SingleByte::Ascii)), is_known };
        }
        let kind = match first {
            "ISO_IR 192" => Some(Kind::Whole(rs::UTF_8)),
            "GB18030" => Some(Kind::Whole(rs::GB18030)),
            "GBK" => Some(Kind::Whole(rs::GBK)),
            other => SingleByte::parse(other).map(Kind::Single),
        };
        let is_known = kind.is_some();
        Self { kind: kind.unwrap_or(Kind::Single(SingleByte::Ascii)), is_known }
    }

    /// Whether the set is one of PS3.3, C.12.1.1.2.
    pub const fn is_known(&self) -> bool {
        self.is_known
    }

    /// Decodes one value field. Split the result, not the bytes.
    pub fn decode(&self, bytes: &[u8]) -> DecodedText {
        let mut text = match &self.kind {
            Kind::Single(set) => by_byte(*set, bytes),
            Kind::Whole(encoding) => {
                let (text, lossy) = encoding.decode_without_bom_handling(bytes);
                DecodedText { text: text.into_owned(), is_lossless: !lossy }
            }
            Kind::Extended(base) => {
                iso_2022::decode(Half::Single(*base), iso_2022::DELIMITERS, bytes)
            }
        };
        text.is_lossless &= self.is_known || bytes.is_ascii();
        text
    }

    /// Encodes text in this set. Nothing, if the set lacks one of its characters, or needs escape
    /// sequences for it.
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

fn by_byte(set: SingleByte, bytes: &[u8]) -> DecodedText {
    let mut decoded = DecodedText { text: String::with_capacity(bytes.len()), is_lossless: true };
    for byte in bytes {
        decoded.push(set.decode(*byte));
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(charset: &str, bytes: &[u8], expected: &str) {
        let decoded = Charset::parse(charset).decode(bytes);
        assert_eq!(decoded, DecodedText { text: expected.to_owned(), is_lossless: true });
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
        assert!(!Charset::default().decode(b"M\xfcller").is_lossless);
        assert!(!Charset::parse("ISO_IR 192").decode(b"M\xfcller").is_lossless);
        assert!(!Charset::parse("ISO_IR 999").decode(b"M\xfcller").is_lossless);
        assert!(!Charset::parse("\\ISO 2022 IR 87").decode(b"\x1b$B;").is_lossless);
    }
}
