//! Text that was decoded from the character set of a message or a data set.

/// Decoded text, and whether all of it could be decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodedText {
    /// The text, with U+FFFD for each character that could not be decoded.
    pub text: String,
    /// Whether nothing was lost. If something was, the text must not identify a patient (DIN-74).
    pub is_lossless: bool,
}

impl DecodedText {
    /// Appends a character; nothing stands for one that could not be decoded.
    pub(crate) fn push(&mut self, character: Option<char>) {
        self.is_lossless &= character.is_some();
        self.text.push(character.unwrap_or('\u{fffd}'));
    }
}
