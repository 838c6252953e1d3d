//! The names of character sets: those of table 0211, and others that leave no doubt.

use encoding_rs as rs;

use super::{CodeExtensions, Hl7Charset};
use crate::dicom::charset::iso_2022::Half;
use crate::dicom::charset::single_byte::SingleByte;

/// A character set with its names. Case, blanks, `_`, `-`, `/` and `.` make no difference.
pub(super) struct Known {
    /// The set, for a message that names no other.
    pub(super) charset: Hl7Charset,
    /// Whether it has nothing beyond ASCII. Other bytes are read as UTF-8, if no set is named for
    /// them.
    pub(super) is_ascii: bool,
    /// Its names in table 0211.
    table: &'static [&'static str],
    /// Its names elsewhere.
    others: &'static [&'static str],
}

const fn ascii(table: &'static [&'static str], others: &'static [&'static str]) -> Known {
    Known { charset: Hl7Charset::Utf8, is_ascii: true, table, others }
}

const fn known(
    charset: Hl7Charset,
    table: &'static [&'static str],
    others: &'static [&'static str],
) -> Known {
    Known { charset, is_ascii: false, table, others }
}

const fn other(
    encoding: &'static rs::Encoding,
    table: &'static [&'static str],
    others: &'static [&'static str],
) -> Known {
    known(Hl7Charset::Other(encoding), table, others)
}

const fn extended(above: SingleByte) -> Hl7Charset {
    Hl7Charset::Extended(CodeExtensions { above: Half::Single(above) })
}

const KNOWN: &[Known] = &[
    known(Hl7Charset::Utf8, &["UNICODE UTF-8", "UNICODE"], &["UTF-8", "ISO IR192"]),
    ascii(&["ASCII", "ISO IR6"], &["US-ASCII", "ISO 646"]),
    known(Hl7Charset::Latin1, &["8859/1"], &["ISO 8859-1", "LATIN-1", "ISO IR100", "CP819"]),
    other(rs::ISO_8859_2, &["8859/2"], &["ISO 8859-2", "LATIN-2", "ISO IR101"]),
    other(rs::ISO_8859_3, &["8859/3"], &["ISO 8859-3", "LATIN-3", "ISO IR109"]),
    other(rs::ISO_8859_4, &["8859/4"], &["ISO 8859-4", "LATIN-4", "ISO IR110"]),
    other(rs::ISO_8859_5, &["8859/5"], &["ISO 8859-5", "ISO IR144"]),
    other(rs::ISO_8859_6, &["8859/6"], &["ISO 8859-6", "ISO IR127"]),
    other(rs::ISO_8859_7, &["8859/7"], &["ISO 8859-7", "ISO IR126"]),
    other(rs::ISO_8859_8, &["8859/8"], &["ISO 8859-8", "ISO IR138"]),
    // Equal to ISO 8859-9 but for control characters.
    other(
        rs::WINDOWS_1254,
        &["8859/9"],
        &["ISO 8859-9", "LATIN-5", "ISO IR148", "WINDOWS-1254", "CP1254"],
    ),
    other(rs::ISO_8859_15, &["8859/15"], &["ISO 8859-15", "LATIN-9", "ISO IR203"]),
    other(rs::ISO_8859_10, &[], &["8859/10", "ISO 8859-10", "LATIN-6"]),
    other(rs::WINDOWS_874, &[], &["8859/11", "ISO 8859-11", "ISO IR166", "TIS-620", "CP874"]),
    other(rs::ISO_8859_13, &[], &["8859/13", "ISO 8859-13", "LATIN-7"]),
    other(rs::ISO_8859_14, &[], &["8859/14", "ISO 8859-14", "LATIN-8"]),
    other(rs::ISO_8859_16, &[], &["8859/16", "ISO 8859-16", "LATIN-10"]),
    other(rs::WINDOWS_1250, &[], &["WINDOWS-1250", "CP1250"]),
    other(rs::WINDOWS_1251, &[], &["WINDOWS-1251", "CP1251"]),
    other(rs::WINDOWS_1252, &[], &["WINDOWS-1252", "CP1252"]),
    other(rs::WINDOWS_1253, &[], &["WINDOWS-1253", "CP1253"]),
    other(rs::WINDOWS_1255, &[], &["WINDOWS-1255", "CP1255"]),
    other(rs::WINDOWS_1256, &[], &["WINDOWS-1256", "CP1256"]),
    other(rs::WINDOWS_1257, &[], &["WINDOWS-1257", "CP1257"]),
    other(rs::WINDOWS_1258, &[], &["WINDOWS-1258", "CP1258"]),
    other(rs::KOI8_R, &[], &["KOI8-R"]),
    other(rs::GB18030, &["GB 18030-2000"], &["GB 18030", "GB 18030-2005", "GB 18030-2022"]),
    other(rs::GBK, &[], &["GBK", "CP936", "GB 2312", "GB 2312-80", "EUC-CN", "ISO IR58"]),
    other(rs::BIG5, &["BIG-5"], &["CP950"]),
    other(rs::EUC_KR, &["KS X 1001"], &["EUC-KR", "KS C 5601", "CP949", "ISO IR149"]),
    known(
        extended(SingleByte::Ascii),
        &["ISO IR87", "ISO IR159", "JIS X 0202", "JAS2020"],
        &["ISO 2022 IR87", "ISO 2022 IR159", "ISO-2022-JP", "JIS X 0208", "JIS X 0212"],
    ),
    known(extended(SingleByte::Katakana), &["ISO IR14"], &["ISO IR13", "JIS X 0201"]),
    other(rs::SHIFT_JIS, &[], &["SHIFT-JIS", "SJIS", "WINDOWS-31J", "CP932"]),
    other(rs::EUC_JP, &[], &["EUC-JP"]),
];

impl Known {
    /// The set with this name, however it is written.
    pub(super) fn find(name: &str) -> Option<&'static Self> {
        KNOWN.iter().find(|it| it.table.iter().chain(it.others).any(|other| is_same(other, name)))
    }

    /// Whether table 0211 has this very name for it.
    pub(super) fn is_named_by_the_table(&self, name: &str) -> bool {
        self.table.contains(&name)
    }
}

fn is_same(one: &str, other: &str) -> bool {
    characters(one).eq(characters(other))
}

fn characters(name: &str) -> impl Iterator<Item = char> {
    let is_meant = |it: &char| !matches!(it, ' ' | '_' | '-' | '/' | '.');
    name.chars().filter(is_meant).map(|it| it.to_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of two sets with one name the second would never be found.
    #[test]
    fn every_name_is_of_one_set() {
        for known in KNOWN {
            for name in known.table.iter().chain(known.others) {
                let found = Known::find(name).unwrap();
                assert_eq!(found.charset, known.charset, "{name}");
                assert_eq!(found.is_ascii, known.is_ascii, "{name}");
            }
        }
    }
}
