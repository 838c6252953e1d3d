//! The tokenizer of Qwen2.5 with the special tokens of Citrus-V, and its chat template (ChatML).

use std::path::{Path, PathBuf};

use tokenizers::{AddedToken, Tokenizer as BpeTokenizer};

use crate::positions::Grid;

/// The tokens that the release adds when it loads a tokenizer, in the order of their ids.
const ADDED_TOKENS: [&str; 3] = ["[SEG]", "<bbox>", "</bbox>"];

/// The system message if the conversation has none.
pub const DEFAULT_SYSTEM_MESSAGE: &str = "You are a helpful assistant.";

/// Why a text cannot be tokenized.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// The file is missing.
    #[error("`{}` is missing: copy it from where the weights are from", path.display())]
    Missing {
        /// Where the file is expected.
        path: PathBuf,
    },
    /// The file cannot be used.
    #[error("`{}` is no tokenizer: {reason}", path.display())]
    Unusable {
        /// The malformed file.
        path: PathBuf,
        /// The reason that the tokenizer library reports.
        reason: String,
    },
    /// A token has another id than the model was trained with.
    #[error("the tokenizer gives {token} the id {found}, config.json says {expected}")]
    TokenId {
        /// The special token whose id differs.
        token: &'static str,
        /// Its id in the tokenizer.
        found: u32,
        /// Its id in `config.json`.
        expected: u32,
    },
    /// The tokenizer fails for a text or for token ids.
    #[error("a text cannot be tokenized: {0}")]
    Text(String),
    /// A text has more or fewer image placeholders than there are pictures.
    #[error("the text has places for {found} pictures, {expected} were given")]
    Pictures {
        /// The number of placeholders in the text.
        found: usize,
        /// The number of pictures given.
        expected: usize,
    },
}

/// The author of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageRole {
    /// The author of the instructions for the whole conversation.
    System,
    /// The person or plugin that asks.
    User,
    /// The model itself, in earlier turns of the conversation.
    Assistant,
}

impl MessageRole {
    /// The name in the chat template.
    pub const fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

/// A message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The author of the message.
    pub role: MessageRole,
    /// The number of pictures before the text.
    pub pictures: usize,
    /// The text, which follows the pictures.
    pub text: String,
}

impl Message {
    /// A message of the user about this number of pictures.
    pub fn user(pictures: usize, text: &str) -> Self {
        Self { role: MessageRole::User, pictures, text: text.to_owned() }
    }
}

/// Applies the chat template. The text ends where the model continues as assistant.
pub fn apply_chat_template(messages: &[Message]) -> String {
    let mut text = String::new();
    if messages.first().is_none_or(|it| it.role != MessageRole::System) {
        text = format!("<|im_start|>system\n{DEFAULT_SYSTEM_MESSAGE}<|im_end|>\n");
    }
    for message in messages {
        let role = message.role.name();
        let pictures = "<|vision_start|><|image_pad|><|vision_end|>".repeat(message.pictures);
        text = format!("{text}<|im_start|>{role}\n{pictures}{}<|im_end|>\n", message.text);
    }
    text + "<|im_start|>assistant\n"
}

/// The tokenizer of a checkpoint.
pub struct Tokenizer {
    tokenizer: BpeTokenizer,
}

impl Tokenizer {
    /// Opens `tokenizer.json` in a folder. `seg_token` is the id of `[SEG]` if the model segments;
    /// if the file lacks the tokens of Citrus-V they are added, as in the release.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be used, or gives `[SEG]` another id.
    pub fn open(folder: &Path, seg_token: Option<u32>) -> Result<Self, TokenizerError> {
        let path = folder.join("tokenizer.json");
        if !path.exists() {
            return Err(TokenizerError::Missing { path });
        }
        let unusable = |reason: String| TokenizerError::Unusable { path: path.clone(), reason };
        let mut tokenizer =
            BpeTokenizer::from_file(&path).map_err(|error| unusable(error.to_string()))?;
        if let Some(expected) = seg_token {
            let missing: Vec<AddedToken> = ADDED_TOKENS
                .iter()
                .filter(|it| tokenizer.token_to_id(it).is_none())
                .map(|it| AddedToken::from((*it).to_owned(), true))
                .collect();
            tokenizer.add_special_tokens(missing).map_err(|error| unusable(error.to_string()))?;
            let found = tokenizer.token_to_id("[SEG]").unwrap_or_default();
            if found != expected {
                return Err(TokenizerError::TokenId { token: "[SEG]", found, expected });
            }
        }
        Ok(Self { tokenizer })
    }

    /// The id of a token, if the vocabulary has it.
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.tokenizer.token_to_id(token)
    }

    /// The token ids of a text.
    ///
    /// # Errors
    ///
    /// Fails if the text cannot be tokenized.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        let encoding = self.tokenizer.encode_fast(text, false);
        let encoding = encoding.map_err(|it| TokenizerError::Text(it.to_string()))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of token ids, special tokens included.
    ///
    /// # Errors
    ///
    /// Fails if an id is not in the vocabulary.
    pub fn decode(&self, token_ids: &[u32]) -> Result<String, TokenizerError> {
        self.tokenizer.decode(token_ids, false).map_err(|it| TokenizerError::Text(it.to_string()))
    }
}

/// Repeats each image placeholder as often as its picture has merged patches.
///
/// # Errors
///
/// Fails if there are more or fewer placeholders than pictures.
pub fn expand_image_tokens(
    token_ids: &[u32],
    image_token: u32,
    grids: &[Grid],
    merge: usize,
) -> Result<Vec<u32>, TokenizerError> {
    let found = token_ids.iter().filter(|it| **it == image_token).count();
    if found != grids.len() {
        return Err(TokenizerError::Pictures { found, expected: grids.len() });
    }
    let mut grids = grids.iter();
    let mut expanded = Vec::with_capacity(token_ids.len());
    for token in token_ids {
        let count = if *token == image_token {
            grids.next().map_or(0, |grid| grid.iter().product::<usize>() / (merge * merge))
        } else {
            1
        };
        expanded.extend(std::iter::repeat_n(*token, count));
    }
    Ok(expanded)
}
