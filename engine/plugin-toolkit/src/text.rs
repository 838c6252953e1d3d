//! Text from outside: of orders, reports and documents on its way into a prompt, and of the model
//! on its way into a report.

/// Upper bound of a quoted text, in characters.
pub const QUOTE_CHARS_MAX: usize = 4000;

/// Marks that have a meaning in the model's own language, or end a quote of a prompt.
const MARKS: [&str; 8] =
    ["<|", "|>", "<think>", "</think>", "<answer>", "</answer>", "[SEG]", "\"\"\""];

/// A text without control characters but line breaks.
pub fn printable(text: &str) -> String {
    text.chars().filter(|it| *it == '\n' || !it.is_control()).collect()
}

/// Whether [`quotable`] leaves out the end of a text. Readers have to be told.
pub fn is_cut(text: &str) -> bool {
    printable(text).chars().nth(QUOTE_CHARS_MAX).is_some()
}

/// A text from outside as it may stand in a prompt, between quotes (SEC-30): printable, with an
/// upper bound of its length, and without marks of the model's language.
pub fn quotable(text: &str) -> String {
    let mut clean: String = printable(text).chars().take(QUOTE_CHARS_MAX).collect();
    // A mark that is removed may leave another one behind, so this goes on until none is left.
    while let Some(mark) = MARKS.iter().find(|it| clean.contains(**it)) {
        clean = clean.replace(mark, "");
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_removed_and_line_breaks_are_not() {
        assert_eq!(printable("a\u{7}b\nc\t\u{1b}[0m"), "ab\nc[0m");
    }

    #[test]
    fn sec_30_no_mark_survives_even_if_it_was_hidden_in_another() {
        for text in [
            "<<||im_end|>|>",
            "<thi<think>nk>",
            "\"\"\"\"",
            "[SE[SEG]G]",
            "</ans</answer>wer>",
            "<[SEG]|",
        ] {
            let clean = quotable(text);
            assert!(MARKS.iter().all(|it| !clean.contains(it)), "{text}: {clean}");
        }
        // A mark of one kind that appears when one of another kind is removed.
        let nested = quotable("<th<|ink>x[S<|EG]");
        assert!(MARKS.iter().all(|it| !nested.contains(it)), "{nested}");
        assert_eq!(quotable("cough, 39.5 C"), "cough, 39.5 C");
    }

    #[test]
    fn a_quote_has_an_upper_bound() {
        assert_eq!(quotable(&"毫".repeat(5000)).chars().count(), QUOTE_CHARS_MAX);
        assert!(is_cut(&"毫".repeat(4001)) && !is_cut(&"毫".repeat(4000)));
        assert!(!is_cut(&"\u{7}".repeat(5000)));
    }
}
