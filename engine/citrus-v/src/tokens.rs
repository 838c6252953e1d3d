//! Text as tokens, and a conversation as text (`ChatML`).

use std::path::{Path, PathBuf};

use tokenizers::{AddedToken, Tokenizer};

use crate::positions::Grid;

/// Tokens that the release adds when it loads, in the order of their numbers.
const ADDED: [&str; 3] = ["[SEG]", "<bbox>", "</bbox>"];

/// What is said first, if nobody says otherwise.
pub const SYSTEM: &str = "You are a helpful assistant.";

/// Why there are no tokens.
#[derive(Debug, thiserror::Error)]
pub enum TokensError {
    /// The file is not there.
    #[error("`{}` is missing: copy it from where the weights are from", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The file is of no use.
    #[error("`{}` is no tokenizer: {reason}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A token has another number than the model was trained with.
    #[error("the tokenizer calls {token} number {found}, config.json says {expected}")]
    Number {
        /// The token.
        token: &'static str,
        /// Its number here.
        found: u32,
        /// What it should be.
        expected: u32,
    },
    /// A text cannot be taken apart.
    #[error("a text cannot be made into tokens: {0}")]
    Text(String),
    /// A text has more or fewer pictures than were given.
    #[error("the text has places for {found} pictures, {expected} were given")]
    Pictures {
        /// Places.
        found: usize,
        /// Pictures.
        expected: usize,
    },
}

/// Who says something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaker {
    /// Whoever set it up.
    System,
    /// Whoever asks.
    User,
    /// The model.
    Assistant,
}

/// Something that was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// By whom.
    pub speaker: Speaker,
    /// How many pictures come before the text.
    pub pictures: usize,
    /// The text.
    pub text: String,
}

impl Message {
    /// A question about this many pictures.
    pub fn question(pictures: usize, text: &str) -> Self {
        Self { speaker: Speaker::User, pictures, text: text.to_owned() }
    }
}

/// A conversation as the model was taught to read it. It ends where the model is to go on.
pub fn rendered(messages: &[Message]) -> String {
    let mut text = String::new();
    if messages.first().is_none_or(|it| it.speaker != Speaker::System) {
        text = format!("<|im_start|>system\n{SYSTEM}<|im_end|>\n");
    }
    for message in messages {
        let speaker = match message.speaker {
            Speaker::System => "system",
            Speaker::User => "user",
            Speaker::Assistant => "assistant",
        };
        let pictures = "<|vision_start|><|image_pad|><|vision_end|>".repeat(message.pictures);
        text = format!("{text}<|im_start|>{speaker}\n{pictures}{}<|im_end|>\n", message.text);
    }
    text + "<|im_start|>assistant\n"
}

/// The tokenizer of a checkpoint.
pub struct Tokens {
    tokenizer: Tokenizer,
}

impl Tokens {
    /// Reads `tokenizer.json` of a folder. `seg` is the number of `[SEG]`, if the model has one; where
    /// the file lacks it and those that go with it, they are added, as the release does.
    ///
    /// # Errors
    ///
    /// Fails if the file is of no use, or numbers `[SEG]` otherwise.
    pub fn open(folder: &Path, seg: Option<u32>) -> Result<Self, TokensError> {
        let path = folder.join("tokenizer.json");
        if !path.exists() {
            return Err(TokensError::Missing { path });
        }
        let mut tokenizer = Tokenizer::from_file(&path)
            .map_err(|it| TokensError::Unusable { path, reason: it.to_string() })?;
        if let Some(expected) = seg {
            let missing = ADDED.iter().filter(|it| tokenizer.token_to_id(it).is_none());
            let missing: Vec<AddedToken> =
                missing.map(|it| AddedToken::from((*it).to_owned(), true)).collect();
            tokenizer.add_special_tokens(&missing);
            let found = tokenizer.token_to_id("[SEG]").unwrap_or_default();
            if found != expected {
                return Err(TokensError::Number { token: "[SEG]", found, expected });
            }
        }
        Ok(Self { tokenizer })
    }

    /// The number of a token, if there is one of this text.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.tokenizer.token_to_id(token)
    }

    /// A text as tokens.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be taken apart.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TokensError> {
        let encoded = self.tokenizer.encode_fast(text, false);
        let encoded = encoded.map_err(|it| TokensError::Text(it.to_string()))?;
        Ok(encoded.get_ids().to_vec())
    }

    /// Tokens as text, those with a meaning of their own included.
    ///
    /// # Errors
    ///
    /// Fails if one is not in the vocabulary.
    pub fn decode(&self, ids: &[u32]) -> Result<String, TokensError> {
        self.tokenizer.decode(ids, false).map_err(|it| TokensError::Text(it.to_string()))
    }
}

/// Each place of a picture, `image`, as often as the picture has pieces.
///
/// # Errors
///
/// Fails if there are more or fewer places than pictures.
pub fn expanded(
    ids: &[u32],
    image: u32,
    grids: &[Grid],
    merge: usize,
) -> Result<Vec<u32>, TokensError> {
    let found = ids.iter().filter(|it| **it == image).count();
    if found != grids.len() {
        return Err(TokensError::Pictures { found, expected: grids.len() });
    }
    let mut pieces = grids.iter().map(|it| it.iter().product::<usize>() / (merge * merge));
    let times = |id: u32| if id == image { pieces.next().unwrap_or_default() } else { 1 };
    let times: Vec<usize> = ids.iter().copied().map(times).collect();
    Ok(ids.iter().zip(times).flat_map(|(id, times)| std::iter::repeat_n(*id, times)).collect())
}
