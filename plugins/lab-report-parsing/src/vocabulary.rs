//! Words with a meaning of their own: headings of columns, units, Chinese characters.

pub(crate) mod roles;
pub(crate) mod units;

/// Whether a character is Chinese, or a full-width mark.
pub(crate) fn is_han(character: char) -> bool {
    matches!(character, '\u{2e80}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{ff01}'..='\u{ff60}')
}
