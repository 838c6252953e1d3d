//! Words that mean something wherever they stand: headings of columns, units, Chinese letters.

pub(crate) mod roles;
pub(crate) mod units;

/// Whether a character is Chinese, or a mark that is set as wide as one.
pub(crate) fn is_han(character: char) -> bool {
    matches!(character, '\u{2e80}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{ff01}'..='\u{ff60}')
}
