//! The defined terms of Specific Character Set (PS3.3, C.12.1.1.2), and how senders misspell them.

use std::borrow::Cow;

/// Terms that other standards use, without what is no letter or digit, and the defined term of the
/// same set.
const SYNONYMS: &[(&str, &str)] = &[
    ("UTF8", "ISO_IR 192"),
    ("ISO2022IR192", "ISO_IR 192"),
    ("GB18030", "GB18030"),
    ("GBK", "GBK"),
    ("GB2312", "ISO_IR 58"),
    ("ISO88591", "ISO_IR 100"),
    ("ISO88592", "ISO_IR 101"),
    ("ISO88593", "ISO_IR 109"),
    ("ISO88594", "ISO_IR 110"),
    ("ISO88595", "ISO_IR 144"),
    ("ISO88596", "ISO_IR 127"),
    ("ISO88597", "ISO_IR 126"),
    ("ISO88598", "ISO_IR 138"),
    ("ISO88599", "ISO_IR 148"),
    ("ISO885915", "ISO_IR 203"),
];

/// A value of Specific Character Set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DefinedTerm<'a> {
    /// The defined term that it means, or itself, if that is not known.
    pub(super) name: Cow<'a, str>,
    /// Whether it is spelt in another way than the standard defines.
    pub(super) is_misspelt: bool,
}

impl<'a> DefinedTerm<'a> {
    pub(super) fn parse(value: &'a str) -> Self {
        let value = value.trim();
        match meant(value) {
            Some(name) if name != value => Self { name: Cow::Owned(name), is_misspelt: true },
            _ => Self { name: Cow::Borrowed(value), is_misspelt: false },
        }
    }
}

/// The defined term that a value means, if it leaves no doubt.
fn meant(value: &str) -> Option<String> {
    let is_separator = |it: char| matches!(it, ' ' | '_' | '-' | '.');
    let compact: String = value.chars().filter(|it| !is_separator(*it)).collect();
    let compact = compact.to_ascii_uppercase();
    if let Some(synonym) = SYNONYMS.iter().find(|it| it.0 == compact) {
        return Some(synonym.1.to_owned());
    }
    let extended = compact.strip_prefix("ISO2022IR").map(|it| ("ISO 2022 IR", it));
    let plain = || compact.strip_prefix("ISOIR").map(|it| ("ISO_IR", it));
    let (kind, number) = extended.or_else(plain)?;
    // Two numbers in one value are no misspelling of either.
    let is_number = !number.is_empty() && number.bytes().all(|it| it.is_ascii_digit());
    let written = value.bytes().rev().take_while(u8::is_ascii_digit).count();
    (is_number && written == number.len()).then(|| format!("{kind} {number}"))
}
