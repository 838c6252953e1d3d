//! Specific Character Sets of DICOM (PS3.3, C.12.1.1.2; PS3.5, 6.1; DIN-70 to DIN-75).
//!
//! Values are decoded first and split afterwards: in GB18030 the second byte of a character may be
//! the backslash that separates values (DIN-72).

use encoding_rs as rs;

use crate::decoded_text::DecodedText;

mod defined_term;
pub(crate) mod iso_2022;
pub(crate) mod single_byte;

use defined_term::DefinedTerm;
use iso_2022::Half;
use single_byte::SingleByte;

/// How the text of a data set is encoded: Specific Character Set (0008,0005).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charset {
    kind: Kind,
    is_known: bool,
    is_misspelt: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Single(SingleByte),
    Whole(&'static rs::Encoding),
    Extended(SingleByte),
    /// A set of two bytes for a character that is named without code extensions.
    WithoutEscapes(&'static rs::Encoding),
}

impl Default for Charset {
    fn default() -> Self {
        Self { kind: Kind::Single(SingleByte::Ascii), is_known: true, is_misspelt: false }
    }
}

impl Charset {
    /// Parses the value of (0008,0005). Usual misspellings that leave no doubt are read as what
    /// they mean, and are [misspelt](Self::is_misspelt). An unknown set is decoded as ASCII and is
    /// not [known](Self::is_known).
    pub fn parse(value: &str) -> Self {
        let terms: Vec<DefinedTerm> = value.split('\\').map(DefinedTerm::parse).collect();
        let is_misspelt = terms.iter().any(|it| it.is_misspelt);
        let first = terms.first().map(|it| it.name.as_ref()).unwrap_or_default();
        if let Some(kind) = whole(first) {
            return Self { kind, is_known: true, is_misspelt };
        }
        if terms.len() == 1
            && let Some(kind) = alone(first)
        {
            return Self { kind, is_known: true, is_misspelt: true };
        }
        let base = SingleByte::parse(&first.replace("ISO 2022 IR", "ISO_IR"));
        let others_known = terms.iter().skip(1).all(|it| iso_2022::is_known(&it.name));
        let is_extended = terms.len() > 1 || first.starts_with("ISO 2022");
        let is_known = base.is_some() && others_known;
        let base = base.unwrap_or(SingleByte::Ascii);
        let kind = if is_extended { Kind::Extended(base) } else { Kind::Single(base) };
        Self { kind, is_known, is_misspelt }
    }

    /// Whether the set is one of PS3.3, C.12.1.1.2, however it is spelt.
    pub const fn is_known(&self) -> bool {
        self.is_known
    }

    /// Whether the name of a known set is not the one that PS3.3, C.12.1.1.2 defines.
    pub const fn is_misspelt(&self) -> bool {
        self.is_misspelt && self.is_known
    }

    /// Decodes one value field. Split the result, not the bytes.
    pub fn decode(&self, bytes: &[u8]) -> DecodedText {
        let mut text = match &self.kind {
            Kind::Single(set) => by_byte(*set, bytes),
            Kind::Extended(base) => in_code_extensions(*base, bytes),
            Kind::WithoutEscapes(_) if bytes.contains(&iso_2022::ESCAPE) => {
                in_code_extensions(SingleByte::Ascii, bytes)
            }
            Kind::Whole(encoding) | Kind::WithoutEscapes(encoding) => by_encoding(encoding, bytes),
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

/// The sets that are not switched by escape sequences, and stand alone (PS3.3, Table C.12-5).
fn whole(term: &str) -> Option<Kind> {
    let encoding = match term {
        "ISO_IR 192" => rs::UTF_8,
        "GB18030" => rs::GB18030,
        "GBK" => rs::GBK,
        _ => return None,
    };
    Some(Kind::Whole(encoding))
}

/// The sets of two bytes for each character, which the standard has after another only. In Japanese
/// ones, every character stands after an escape sequence.
fn alone(term: &str) -> Option<Kind> {
    match term {
        "ISO_IR 58" | "ISO 2022 IR 58" => Some(Kind::WithoutEscapes(rs::GBK)),
        "ISO_IR 149" | "ISO 2022 IR 149" => Some(Kind::WithoutEscapes(rs::EUC_KR)),
        "ISO_IR 87" | "ISO 2022 IR 87" | "ISO_IR 159" | "ISO 2022 IR 159" => {
            Some(Kind::Extended(SingleByte::Ascii))
        }
        _ => None,
    }
}

fn in_code_extensions(base: SingleByte, bytes: &[u8]) -> DecodedText {
    iso_2022::decode(Half::Single(base), iso_2022::DELIMITERS, bytes)
}

fn by_encoding(encoding: &'static rs::Encoding, bytes: &[u8]) -> DecodedText {
    let (text, lossy) = encoding.decode_without_bom_handling(bytes);
    DecodedText { text: text.into_owned(), is_lossless: !lossy }
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
    fn din_70_a_usual_misspelling_is_read_as_what_it_means_and_flagged() {
        let latin = "ISO_IR 100|ISO-IR 100|ISO IR 100|ISO_IR_100|iso_ir 100|ISO-8859-1|ISO_IR100";
        for (index, name) in latin.split('|').enumerate() {
            check(name, b"M\xdcLLER^J\xd6RG", "M\u{dc}LLER^J\u{d6}RG");
            let set = Charset::parse(name);
            assert_eq!([set.is_known(), set.is_misspelt()], [true, index > 0], "{name}");
        }
        for name in ["UTF-8", "utf8", "ISO IR 192", "ISO 2022 IR 192"] {
            check(name, "M\u{dc}LLER^J\u{d6}RG".as_bytes(), "M\u{dc}LLER^J\u{d6}RG");
            assert!(Charset::parse(name).is_misspelt(), "{name}");
        }
        for name in ["GB2312", "ISO_IR 58", "ISO 2022 IR 58"] {
            check(name, b"\xcd\xf5^\xd0\xa1\xb6\xab", "王^小东");
            check(name, b"\x1b$)A\xcd\xf5^\x1b$)A\xd0\xa1\xb6\xab", "王^小东");
            assert!(Charset::parse(name).is_misspelt(), "{name}");
        }
        check("ISO_IR 149", b"\xfb\xf3^\xd1\xce\xd4\xd7", "洪^吉洞");
        check("iso-ir 13\\iso-2022-ir 87", b"\xd4\xcf\xc0\xde=\x1b$B;3ED\x1b(J", "ﾔﾏﾀﾞ=山田");
        check("ISO_IR 87", b"Yamada=\x1b$B;3ED\x1b(B", "Yamada=山田");
        assert!(!Charset::parse("\\ISO 2022 IR 87").is_misspelt());
    }

    /// What is in doubt is no spelling of anything.
    #[test]
    fn din_74_an_unknown_set_is_not_guessed() {
        for name in ["KLINGON", "ISO_IR 999", "ISO_IR", "100", "ISO_IR 1O0", "ISO_IR 100 192"] {
            let set = Charset::parse(name);
            assert_eq!([set.is_known(), set.is_misspelt()], [false, false], "{name}");
            assert!(!set.decode(b"M\xdcLLER").is_lossless, "{name}");
            assert!(set.decode(b"DOE^JANE").is_lossless, "{name}");
        }
    }

    #[test]
    fn din_74_what_cannot_be_decoded_is_said_so() {
        assert!(!Charset::default().decode(b"M\xfcller").is_lossless);
        assert!(!Charset::parse("ISO_IR 192").decode(b"M\xfcller").is_lossless);
        assert!(!Charset::parse("ISO_IR 999").decode(b"M\xfcller").is_lossless);
        assert!(!Charset::parse("\\ISO 2022 IR 87").decode(b"\x1b$B;").is_lossless);
    }
}
