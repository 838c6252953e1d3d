//! Conversations to tokens and labels: the model learns what the assistant says, `[SEG]` and the
//! end of the turn included, and neither questions nor pictures.

use citrus_v::positions::Grid;
use citrus_v::tokenizer::{DEFAULT_SYSTEM_MESSAGE, MessageRole, Tokenizer, TokenizerError};

use crate::losses::IGNORED;
use crate::sample::{Sample, SamplePicture, SegTarget};

/// What stands for a picture in the text of a turn.
pub const IMAGE_TAG: &str = "<image>";

/// What ends a turn.
const TURN_END: &str = "<|im_end|>";

/// What a picture is in the text of the model; the middle token is repeated.
const IMAGE_TOKENS: &str = "<|vision_start|><|image_pad|><|vision_end|>";

/// The tokens with which a text could end its own turn, or claim a picture.
const CONTROL_TOKENS: [&str; 5] =
    ["<|im_start|>", TURN_END, "<|vision_start|>", "<|image_pad|>", "<|vision_end|>"];

/// A turn of a conversation. Its text has [`IMAGE_TAG`] in the place of each picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Who speaks.
    pub role: MessageRole,
    /// What is said.
    pub text: String,
}

/// The pictures of a conversation, and which of them each `[SEG]` refers to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pictures {
    /// The patches of each picture, in the order of their tags.
    pub grids: Vec<Grid>,
    /// For each `[SEG]`, in the order of the text, the index of its picture. Its mask has the index
    /// of the `[SEG]`.
    pub of_masks: Vec<usize>,
}

/// Why a conversation cannot be learnt from.
#[derive(Debug, thiserror::Error)]
pub enum LabelError {
    /// The tags are not as many as the pictures.
    #[error("the text has places for {found} pictures, {expected} were given")]
    Pictures {
        /// The tags in the text.
        found: usize,
        /// The pictures given.
        expected: usize,
    },
    /// The `[SEG]` are not as many as the masks.
    #[error("the text has {found} [SEG], {expected} masks were given")]
    Masks {
        /// The `[SEG]` in the text.
        found: usize,
        /// The masks given.
        expected: usize,
    },
    /// A mask is of a picture that does not exist.
    #[error("a mask is of picture {picture}, and there are {count}")]
    NoSuchPicture {
        /// The index of the picture.
        picture: usize,
        /// The number of pictures.
        count: usize,
    },
    /// A text has a token that structures the conversation.
    #[error("a text has {0}, which only the template may write")]
    ControlToken(&'static str),
    /// The tokenizer lacks a token of the template.
    #[error("the tokenizer has no {0}")]
    MissingToken(&'static str),
    /// The text cannot be tokenized.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
}

/// A piece of the text that is tokenized by itself.
struct Piece {
    text: String,
    is_learnt: bool,
}

/// The pieces of a conversation in the chat template.
#[derive(Default)]
struct Pieces(Vec<Piece>);

impl Pieces {
    fn of(turns: &[Turn]) -> Self {
        let mut pieces = Self::default();
        if turns.first().is_none_or(|it| it.role != MessageRole::System) {
            let text = format!("<|im_start|>system\n{DEFAULT_SYSTEM_MESSAGE}{TURN_END}\n");
            pieces.add(&text, false);
        }
        for (index, turn) in turns.iter().enumerate() {
            let is_learnt = turn.role == MessageRole::Assistant;
            pieces.add(&format!("<|im_start|>{}\n", turn.role.name()), false);
            for (part, text) in turn.text.split(IMAGE_TAG).enumerate() {
                if part > 0 {
                    pieces.add(IMAGE_TOKENS, false);
                }
                pieces.add(text, is_learnt);
            }
            pieces.add(TURN_END, is_learnt);
            if index + 1 < turns.len() {
                pieces.add("\n", false);
            }
        }
        pieces
    }

    /// Adds a text to the last piece, if it is learnt alike.
    fn add(&mut self, text: &str, is_learnt: bool) {
        match self.0.last_mut() {
            Some(last) if last.is_learnt == is_learnt => last.text += text,
            _ => self.0.push(Piece { text: text.to_owned(), is_learnt }),
        }
    }
}

/// Turns a conversation into tokens and labels.
///
/// # Errors
///
/// Fails if tags and pictures or `[SEG]` and masks do not fit together, or a text has tokens of the
/// template.
pub fn encode(
    tokenizer: &Tokenizer,
    merge: usize,
    turns: &[Turn],
    pictures: &Pictures,
) -> Result<Sample, LabelError> {
    for token in CONTROL_TOKENS {
        if turns.iter().any(|it| it.text.contains(token)) {
            return Err(LabelError::ControlToken(token));
        }
    }
    let tags: usize = turns.iter().map(|it| it.text.matches(IMAGE_TAG).count()).sum();
    if tags != pictures.grids.len() {
        return Err(LabelError::Pictures { found: tags, expected: pictures.grids.len() });
    }
    let image_token = tokenizer.token_id("<|image_pad|>");
    let image_token = image_token.ok_or(LabelError::MissingToken("<|image_pad|>"))?;
    let seg_token = tokenizer.token_id("[SEG]");
    let mut sample = Sample::default();
    for piece in Pieces::of(turns).0 {
        for token in tokenizer.encode(&piece.text)? {
            if token == image_token {
                add_picture(&mut sample, token, merge, &pictures.grids);
                continue;
            }
            if Some(token) == seg_token {
                add_target(&mut sample, pictures)?;
            }
            sample.token_ids.push(token);
            sample.labels.push(if piece.is_learnt { i64::from(token) } else { IGNORED });
        }
    }
    if sample.targets.len() != pictures.of_masks.len() {
        let found = sample.targets.len();
        return Err(LabelError::Masks { found, expected: pictures.of_masks.len() });
    }
    Ok(sample)
}

/// Adds the tokens of the next picture. The one before them starts it, the one after them ends it.
fn add_picture(sample: &mut Sample, token: u32, merge: usize, grids: &[Grid]) {
    let index = sample.pictures.len();
    let Some(grid) = grids.get(index) else { return };
    let count = grid.iter().product::<usize>() / (merge * merge);
    let start = sample.len().saturating_sub(1);
    let span = start..start + count + 2;
    sample.pictures.push(SamplePicture { index, grid: *grid, span });
    sample.token_ids.extend(std::iter::repeat_n(token, count));
    sample.labels.extend(std::iter::repeat_n(IGNORED, count));
}

/// Notes that the next token is a `[SEG]`.
fn add_target(sample: &mut Sample, pictures: &Pictures) -> Result<(), LabelError> {
    let mask = sample.targets.len();
    let count = pictures.grids.len();
    let Some(picture) = pictures.of_masks.get(mask).copied() else {
        return Err(LabelError::Masks { found: mask + 1, expected: pictures.of_masks.len() });
    };
    if picture >= count {
        return Err(LabelError::NoSuchPicture { picture, count });
    }
    sample.targets.push(SegTarget { position: sample.len(), picture, mask });
    Ok(())
}
