//! Code extensions: several character sets in one text, switched by escape sequences (ISO/IEC 2022
//! as PS3.5, 6.1.2.5 uses it; DIN-73). Messages of HL7 use them, too ([`crate::hl7::charset`]).

use encoding_rs as rs;

use super::single_byte::{SingleByte, single_char};
use crate::decoded_text::DecodedText;

/// Begins an escape sequence.
pub(super) const ESCAPE: u8 = 0x1B;

/// Bytes that reset both halves to the sets of the first value of (0008,0005) (PS3.5, 6.1.2.5.3).
pub(super) const DELIMITERS: &[u8] = b"\\^=\r\n\x0c\t";

/// The set that the lower or the upper half of the code table stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Half {
    Single(SingleByte),
    /// The upper half of a set in the lower half of the table.
    Lowered(SingleByte),
    /// Two bytes for each character: the encoding in which both have the high bit, and its prefix.
    Double(&'static rs::Encoding, &'static [u8]),
}

/// An escape sequence that designates a set to one half of the code table.
struct Designation {
    sequence: &'static [u8],
    /// Whether it is G1, the upper half, and not G0, the lower.
    is_upper: bool,
    half: Half,
}

const fn lower(sequence: &'static [u8], half: Half) -> Designation {
    Designation { sequence, is_upper: false, half }
}

const fn upper(sequence: &'static [u8], half: Half) -> Designation {
    Designation { sequence, is_upper: true, half }
}

/// The escape sequences of PS3.3, Tables C.12-3 and C.12-4, and others of Japan's 7-bit text.
const DESIGNATIONS: &[Designation] = &[
    lower(b"(B", Half::Single(SingleByte::Ascii)),
    lower(b"(J", Half::Single(SingleByte::Ascii)),
    upper(b")I", Half::Single(SingleByte::Katakana)),
    upper(b"-A", Half::Single(SingleByte::Latin1)),
    upper(b"-B", Half::Single(SingleByte::Table(rs::ISO_8859_2))),
    upper(b"-C", Half::Single(SingleByte::Table(rs::ISO_8859_3))),
    upper(b"-D", Half::Single(SingleByte::Table(rs::ISO_8859_4))),
    upper(b"-L", Half::Single(SingleByte::Table(rs::ISO_8859_5))),
    upper(b"-G", Half::Single(SingleByte::Table(rs::ISO_8859_6))),
    upper(b"-F", Half::Single(SingleByte::Table(rs::ISO_8859_7))),
    upper(b"-H", Half::Single(SingleByte::Table(rs::ISO_8859_8))),
    upper(b"-M", Half::Single(SingleByte::Table(rs::WINDOWS_1254))),
    upper(b"-T", Half::Single(SingleByte::Table(rs::WINDOWS_874))),
    upper(b"-b", Half::Single(SingleByte::Table(rs::ISO_8859_15))),
    lower(b"(I", Half::Lowered(SingleByte::Katakana)),
    // The edition of 1978 differs in the form of some characters.
    lower(b"$@", Half::Double(rs::EUC_JP, &[])),
    lower(b"$B", Half::Double(rs::EUC_JP, &[])),
    // JIS X 0212 is the third plane of EUC-JP.
    lower(b"$(D", Half::Double(rs::EUC_JP, &[0x8F])),
    upper(b"$)C", Half::Double(rs::EUC_KR, &[])),
    upper(b"$)A", Half::Double(rs::GBK, &[])),
];

/// Whether `term` is a defined term for a set with code extensions.
pub(super) fn is_known(term: &str) -> bool {
    let numbers = ["6", "13", "58", "87", "100", "101", "109", "110", "126", "127", "138"];
    let more = ["144", "148", "149", "159", "166", "203"];
    let number = term.strip_prefix("ISO 2022 IR ").or_else(|| term.strip_prefix("ISO_IR "));
    number.is_some_and(|it| numbers.contains(&it) || more.contains(&it)) || term.is_empty()
}

/// Decodes `bytes`, which begin in ASCII with the set `above` in the upper half. Each byte of
/// `delimiters` returns to them.
pub(crate) fn decode(above: Half, delimiters: &[u8], bytes: &[u8]) -> DecodedText {
    let initial = [Half::Single(SingleByte::Ascii), above];
    let [mut lower, mut upper] = initial;
    let mut decoded = DecodedText { text: String::with_capacity(bytes.len()), is_lossless: true };
    let mut rest = bytes;
    while let Some((&byte, after)) = rest.split_first() {
        if byte == ESCAPE {
            if let Some(found) = DESIGNATIONS.iter().find(|it| after.starts_with(it.sequence)) {
                *(if found.is_upper { &mut upper } else { &mut lower }) = found.half;
                rest = after.get(found.sequence.len()..).unwrap_or_default();
            } else {
                decoded.push(None);
                rest = after;
            }
            continue;
        }
        let half = if byte.is_ascii() { lower } else { upper };
        let is_control = byte <= 0x20;
        let is_one = is_control || !matches!(half, Half::Double(..));
        let is_plain = is_control || matches!(half, Half::Single(_));
        if is_plain && delimiters.contains(&byte) {
            [lower, upper] = initial;
        }
        let length = if is_one { 1 } else { 2.min(rest.len()) };
        let (character, after) = rest.split_at(length);
        decoded.push(character_of(half, character, is_control));
        rest = after;
    }
    decoded
}

fn character_of(half: Half, bytes: &[u8], is_control: bool) -> Option<char> {
    match half {
        Half::Single(set) => bytes.first().and_then(|byte| set.decode(*byte)),
        Half::Lowered(_) | Half::Double(..) if is_control => {
            bytes.first().map(|byte| char::from(*byte))
        }
        Half::Lowered(set) => bytes.first().and_then(|byte| set.decode(byte | 0x80)),
        Half::Double(encoding, prefix) => {
            let raised = bytes.iter().map(|byte| byte | 0x80);
            let coded: Vec<u8> = prefix.iter().copied().chain(raised).collect();
            single_char(encoding, &coded).filter(|_| bytes.len() == 2)
        }
    }
}
