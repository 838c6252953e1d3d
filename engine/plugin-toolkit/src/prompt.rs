//! Prompts that results name: each with a version that changes with its text.

use sha2::{Digest as _, Sha256};

/// Bytes of the digest that a version shows.
const DIGEST_BYTES: usize = 6;

/// A prompt before anything of a patient or a page is put into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// What it is for, and its language: `table/zh`.
    pub name: String,
    /// The text, or the template.
    pub text: String,
}

impl Prompt {
    /// A prompt without the white space around its text.
    pub fn new(name: &str, text: &str) -> Self {
        Self { name: name.to_owned(), text: text.trim().to_owned() }
    }

    /// The version, which results are told apart by: the name, and the beginning of the SHA-256 of
    /// the text. A text that a site has changed is another version.
    pub fn version(&self) -> String {
        let digest = Sha256::digest(self.text.as_bytes());
        let digits = digest.iter().take(DIGEST_BYTES).map(|it| format!("{it:02x}"));
        format!("{}-{}", self.name, digits.collect::<String>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pap_01_a_changed_prompt_is_another_version() {
        let prompt = Prompt::new("table/en", " Read it.\n");
        assert_eq!(prompt.version(), Prompt::new("table/en", "Read it.").version());
        assert_ne!(prompt.version(), Prompt::new("table/en", "Read it").version());
        assert_ne!(prompt.version(), Prompt::new("table/zh", "Read it.").version());
        assert!(prompt.version().starts_with("table/en-"), "{}", prompt.version());
    }
}
