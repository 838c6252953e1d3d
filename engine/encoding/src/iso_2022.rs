//! Code extensions: several character sets in one value, switched by escape sequences
//! (ISO/IEC 2022 as PS3.5, 6.1.2.5 uses it; requirement DIN-73).

use encoding_rs as rs;

use crate::dicom_charset::{SingleByte, Text, one};

const ESCAPE: u8 = 0x1B;

/// Bytes at which the sets of the first value of (0008,0005) come back (PS3.5, 6.1.2.5.3).
const DELIMITERS: &[u8] = b"\\^=\r\n\x0c\t";

/// What the lower or the upper half of the code table means just now.
#[derive(Clone, Copy)]
enum Half {
    Single(SingleByte),
    /// Two bytes a character; the encoding in which both have the high bit, and what goes before.
    Double(&'static rs::Encoding, &'static [u8]),
}

/// An escape sequence, and which half of the code table it changes to what.
type Designation = (&'static [u8], bool, Half);

/// PS3.3, Tables C.12-3 and C.12-4. `true` is for G1, the upper half.
const DESIGNATIONS: &[Designation] = &[
    (b"(B", false, Half::Single(SingleByte::Ascii)),
    (b"(J", false, Half::Single(SingleByte::Ascii)),
    (b")I", true, Half::Single(SingleByte::Katakana)),
    (b"-A", true, Half::Single(SingleByte::Latin1)),
    (b"-B", true, Half::Single(SingleByte::Table(rs::ISO_8859_2))),
    (b"-C", true, Half::Single(SingleByte::Table(rs::ISO_8859_3))),
    (b"-D", true, Half::Single(SingleByte::Table(rs::ISO_8859_4))),
    (b"-L", true, Half::Single(SingleByte::Table(rs::ISO_8859_5))),
    (b"-G", true, Half::Single(SingleByte::Table(rs::ISO_8859_6))),
    (b"-F", true, Half::Single(SingleByte::Table(rs::ISO_8859_7))),
    (b"-H", true, Half::Single(SingleByte::Table(rs::ISO_8859_8))),
    (b"-M", true, Half::Single(SingleByte::Table(rs::WINDOWS_1254))),
    (b"-T", true, Half::Single(SingleByte::Table(rs::WINDOWS_874))),
    (b"-b", true, Half::Single(SingleByte::Table(rs::ISO_8859_15))),
    (b"$B", false, Half::Double(rs::EUC_JP, &[])),
    // JIS X 0212 is the third plane of EUC-JP.
    (b"$(D", false, Half::Double(rs::EUC_JP, &[0x8F])),
    (b"$)C", true, Half::Double(rs::EUC_KR, &[])),
    (b"$)A", true, Half::Double(rs::GBK, &[])),
];

/// Whether `term` is a defined term for a set with code extensions.
pub(crate) fn is_known(term: &str) -> bool {
    let numbers = ["6", "13", "58", "87", "100", "101", "109", "110", "126", "127", "138"];
    let more = ["144", "148", "149", "159", "166", "203"];
    let number = term.strip_prefix("ISO 2022 IR ").or_else(|| term.strip_prefix("ISO_IR "));
    number.is_some_and(|it| numbers.contains(&it) || more.contains(&it)) || term.is_empty()
}

/// Decodes `bytes`, which begin in the set `base`.
pub(crate) fn decode(base: SingleByte, bytes: &[u8]) -> Text {
    let initial = [Half::Single(SingleByte::Ascii), Half::Single(base)];
    let [mut lower, mut upper] = initial;
    let mut decoded = Text { text: String::with_capacity(bytes.len()), is_whole: true };
    let mut rest = bytes;
    while let Some((&byte, after)) = rest.split_first() {
        if byte == ESCAPE {
            if let Some((sequence, is_upper, half)) =
                DESIGNATIONS.iter().find(|(sequence, ..)| after.starts_with(sequence))
            {
                *(if *is_upper { &mut upper } else { &mut lower }) = *half;
                rest = after.get(sequence.len()..).unwrap_or_default();
            } else {
                decoded.push(None);
                rest = after;
            }
            continue;
        }
        let half = if byte.is_ascii() { lower } else { upper };
        let is_one = byte <= 0x20 || matches!(half, Half::Single(_));
        if is_one && DELIMITERS.contains(&byte) {
            [lower, upper] = initial;
        }
        let length = if is_one { 1 } else { 2.min(rest.len()) };
        let (character, after) = rest.split_at(length);
        decoded.push(character_of(half, character, is_one));
        rest = after;
    }
    decoded
}

fn character_of(half: Half, bytes: &[u8], is_one: bool) -> Option<char> {
    match half {
        Half::Single(set) => bytes.first().and_then(|byte| set.decode(*byte)),
        Half::Double(..) if is_one => bytes.first().map(|byte| char::from(*byte)),
        Half::Double(encoding, prefix) => {
            let raised = bytes.iter().map(|byte| byte | 0x80);
            let coded: Vec<u8> = prefix.iter().copied().chain(raised).collect();
            one(encoding, &coded).filter(|_| bytes.len() == 2)
        }
    }
}

impl Text {
    fn push(&mut self, character: Option<char>) {
        self.is_whole &= character.is_some();
        self.text.push(character.unwrap_or('\u{fffd}'));
    }
}
