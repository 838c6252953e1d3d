//! The whole network: a question about pictures in, an answer and masks out.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use candle_core::{DType, Device, Module, Tensor};
use imaging::{FlatMask, Picture, PictureError};

use crate::config::{Config, ConfigError, SegConfig};
use crate::decoding::Decoding;
use crate::layout::layout;
use crate::ops::Linear;
use crate::plan::{Plan, WeightsError};
use crate::positions::{Grid, PlacesError};
use crate::preprocess::{PixelBounds, fitted, patches, square};
use crate::recall::{Recall, digest};
use crate::sam::prompt::Prompt;
use crate::sam::{Sam, Seen};
use crate::session::Need;
use crate::text::Text;
use crate::tokens::{Message, Tokens, TokensError, expanded, rendered};
use crate::vision::Vision;
use crate::weights::{Precision, Weights};

/// Why the model cannot be had, or does not answer.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A file cannot be read.
    #[error("cannot read `{}`", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Its description.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Its weights.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// Its tokenizer.
    #[error(transparent)]
    Tokens(#[from] TokensError),
    /// A picture.
    #[error(transparent)]
    Picture(#[from] PictureError),
    /// Pictures and text.
    #[error(transparent)]
    Places(#[from] PlacesError),
    /// A mask is asked of a model that draws none.
    #[error("this model draws no masks: it has no [SEG] projector and no SAM2")]
    NoMasks,
    /// The device.
    #[error("the device failed")]
    Candle(#[from] candle_core::Error),
}

/// What turns hidden states into prompts.
enum Projector {
    /// `linear, ReLU, linear`.
    Plain(Linear, Linear),
    /// The same with a way around both.
    Residual(Linear, Linear, Linear),
}

/// The half that draws.
struct Drawer {
    projector: Projector,
    sam: Sam,
}

impl Drawer {
    fn load(weights: &Weights, config: &SegConfig) -> Result<Self, WeightsError> {
        let linear = |it: &str| Linear::load(weights, &format!("seg_projector.{it}"));
        let projector = if config.is_residual {
            let (first, second) = (linear("linear1")?, linear("linear2")?);
            Projector::Residual(first, second, linear("residual_mapping")?)
        } else {
            Projector::Plain(linear("0")?, linear("2")?)
        };
        Ok(Self { projector, sam: Sam::load(weights, &config.sam)? })
    }

    fn project(&self, hidden: &Tensor) -> candle_core::Result<Tensor> {
        match &self.projector {
            Projector::Plain(first, second) => second.forward(&first.forward(hidden)?.relu()?),
            Projector::Residual(first, second, around) => {
                second.forward(&first.forward(hidden)?.relu()?)? + around.forward(hidden)?
            }
        }
    }
}

/// The network with its weights.
pub struct CitrusV {
    config: Config,
    tokens: Tokens,
    vision: Vision,
    text: Text,
    drawer: Option<Drawer>,
    device: Device,
    dtype: DType,
    recall: Mutex<Recall>,
}

/// A question, as the network reads it.
#[derive(Clone, Debug)]
pub struct Question {
    /// Its tokens, a place of a picture for each of its pieces.
    pub ids: Vec<u32>,
    /// The pictures in patches; nothing without any.
    pub patches: Option<Tensor>,
    /// Their shapes.
    pub grids: Vec<Grid>,
    /// As the vision tower sees them: boxes of an answer are in their pixels.
    pub fitted: Vec<Picture>,
}

impl Question {
    /// One without pictures.
    pub const fn of_words(ids: Vec<u32>) -> Self {
        Self { ids, patches: None, grids: Vec::new(), fitted: Vec::new() }
    }
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The model said that it is done.
    Said,
    /// It was as long as it may be.
    Length,
    /// Whoever asked did not want more.
    Cancelled,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its tokens, without the one that ended it.
    pub ids: Vec<u32>,
    /// Why it ended.
    pub ending: Ending,
    /// Where `[SEG]` stands in question and answer.
    pub seg_positions: Vec<usize>,
    /// The hidden states there, `[n, hidden]`.
    pub seg_hidden: Option<Tensor>,
}

/// What was drawn for a `[SEG]`.
#[derive(Clone, Debug)]
pub struct Segmentation {
    /// Logits, `[1, S/4, S/4]`.
    pub logits: Tensor,
    /// How good the network thinks it is.
    pub iou: f32,
    /// Which of the three was taken.
    pub which: u32,
    /// Where the logit is positive.
    pub mask: FlatMask,
}

impl CitrusV {
    /// Loads a checkpoint from a folder: `config.json`, `tokenizer.json`, and weights. The headers are
    /// compared with what the model needs before anything is mapped.
    ///
    /// # Errors
    ///
    /// Says what is missing or does not fit.
    pub fn load(
        folder: &Path,
        precision: impl Into<Precision>,
        device: &Device,
    ) -> Result<Self, ModelError> {
        let path = folder.join("config.json");
        let text = std::fs::read_to_string(&path)
            .map_err(|source| ModelError::Io { path: path.clone(), source })?;
        let config = Config::parse(&text)?;
        let plan = Plan::read(folder)?;
        plan.check(&layout(&config))?;
        let tokens = Tokens::open(folder, config.seg.as_ref().map(|it| it.token))?;
        Self::of(config, tokens, &Weights::open(plan, precision, device)?)
    }

    /// A model of these weights.
    ///
    /// # Errors
    ///
    /// Fails if a tensor is not there.
    pub fn of(config: Config, tokens: Tokens, weights: &Weights) -> Result<Self, ModelError> {
        let drawer = config.seg.as_ref().map(|it| Drawer::load(weights, it)).transpose()?;
        Ok(Self {
            vision: Vision::load(weights, &config.vision)?,
            text: Text::load(weights, &config.text)?,
            drawer,
            tokens,
            device: weights.device().clone(),
            dtype: weights.dtype(),
            recall: Mutex::default(),
            config,
        })
    }

    /// The same, remembering what it saw and read of late, up to so many bytes.
    #[must_use]
    pub fn remembering(self, bytes: usize) -> Self {
        Self { recall: Mutex::new(Recall::new(bytes)), ..self }
    }

    /// Forgets what it remembers.
    pub fn forget_all(&self) {
        self.recall().forget_all();
    }

    /// Bytes that keys and values of a token take.
    pub fn bytes_of_token(&self) -> usize {
        let text = &self.config.text;
        2 * text.layers * text.kv_heads * text.head() * self.dtype.size_in_bytes()
    }

    /// What it remembers.
    pub(crate) fn recall(&self) -> MutexGuard<'_, Recall> {
        self.recall.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The half that draws.
    ///
    /// # Errors
    ///
    /// Fails if this model draws no masks.
    pub fn sam(&self) -> Result<&Sam, ModelError> {
        self.drawer.as_ref().map(|it| &it.sam).ok_or(ModelError::NoMasks)
    }

    /// Its sizes.
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Its tokenizer.
    pub const fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// Where it computes.
    pub const fn device(&self) -> &Device {
        &self.device
    }

    /// What kind of numbers it computes with.
    pub const fn dtype(&self) -> DType {
        self.dtype
    }

    /// Its vision tower.
    pub const fn vision(&self) -> &Vision {
        &self.vision
    }

    /// Its language model.
    pub const fn text(&self) -> &Text {
        &self.text
    }

    /// Puts a conversation and its pictures into numbers.
    ///
    /// # Errors
    ///
    /// Fails if a picture is of no use, or there are more or fewer than the text has places for.
    pub fn question(
        &self,
        messages: &[Message],
        pictures: &[Picture],
        bounds: PixelBounds,
    ) -> Result<Question, ModelError> {
        let shown = pictures.iter().map(|it| self.fitted(it, bounds));
        self.question_of(messages, shown.collect::<Result<_, _>>()?)
    }

    /// A picture as the vision tower sees it.
    ///
    /// # Errors
    ///
    /// Fails if it is of no use.
    pub fn fitted(&self, picture: &Picture, bounds: PixelBounds) -> Result<Picture, ModelError> {
        Ok(fitted(picture, &self.config.vision, bounds)?)
    }

    /// The same as [`question`](Self::question), of pictures that are [`fitted`](Self::fitted).
    ///
    /// # Errors
    ///
    /// Fails if there are more or fewer than the text has places for.
    pub fn question_of(
        &self,
        messages: &[Message],
        shown: Vec<Picture>,
    ) -> Result<Question, ModelError> {
        let vision = &self.config.vision;
        let (mut all, mut grids) = (Vec::new(), Vec::new());
        for picture in &shown {
            let (tensor, grid) = patches(picture, vision, &self.device)?;
            all.push(tensor);
            grids.push(grid);
        }
        let ids = self.tokens.encode(&rendered(messages))?;
        let ids = expanded(&ids, self.config.tokens.image, &grids, vision.merge)?;
        let patches = if all.is_empty() { None } else { Some(Tensor::cat(&all, 0)?) };
        Ok(Question { ids, patches, grids, fitted: shown })
    }

    /// Embeddings of a question, `[L, hidden]`: features of the pictures in their places.
    ///
    /// # Errors
    ///
    /// Fails if there are more or fewer pieces than places.
    pub fn embedded(&self, question: &Question) -> Result<Tensor, ModelError> {
        let Some(patches) = &question.patches else { return self.placed(&question.ids, &[]) };
        let features = self.vision.forward(&patches.to_dtype(self.dtype)?, &question.grids)?;
        self.placed(&question.ids, &[features])
    }

    /// Answers a question in one pass that keeps the hidden state of every `[SEG]`. The release
    /// generates twice to get them; that gives the same, where the second pass says the same.
    ///
    /// Each token is shown to `seen`, which may stop it.
    ///
    /// # Errors
    ///
    /// Fails if the question does not fit together, or the device fails.
    pub fn answer(
        &self,
        question: &Question,
        decoding: &Decoding,
        seen: &mut dyn FnMut(u32, &[f32]) -> ControlFlow<()>,
    ) -> Result<Answer, ModelError> {
        let mut session = self.begin(question.clone(), decoding)?;
        loop {
            match session.need() {
                Need::See => self.see(&mut session)?,
                Need::Read => self.read(&mut session, usize::MAX)?,
                Need::Draw | Need::Nothing => return session.into_answer(),
                Need::Say => {
                    let mut is_over = false;
                    let mut shown = |_: usize, token: u32, logits: &[f32]| {
                        is_over = seen(token, logits).is_break();
                    };
                    self.say(&mut [&mut session], &mut shown)?;
                    if is_over {
                        session.cancel();
                    }
                }
            }
        }
    }

    /// Hidden states of `[SEG]` as prompts for SAM2, `[n, D]`.
    ///
    /// # Errors
    ///
    /// Fails if this model draws no masks.
    pub fn project(&self, seg_hidden: &Tensor) -> Result<Tensor, ModelError> {
        let drawer = self.drawer.as_ref().ok_or(ModelError::NoMasks)?;
        Ok(drawer.project(seg_hidden)?)
    }

    /// Draws what each `[SEG]` means into one picture, which is as the vision tower saw it.
    ///
    /// # Errors
    ///
    /// Fails if this model draws no masks.
    pub fn segment(
        &self,
        fitted: &Picture,
        seg_hidden: &Tensor,
    ) -> Result<Vec<Segmentation>, ModelError> {
        let drawer = self.drawer.as_ref().ok_or(ModelError::NoMasks)?;
        let vectors = drawer.project(seg_hidden)?;
        let seen = self.seen(&drawer.sam, fitted)?;
        let prompt = Prompt { vectors: Some(vectors), ..Prompt::default() };
        let drawn = drawer.sam.draw(&seen, &prompt)?;
        let (best, which) = drawn.best()?;
        let (_, ious) = drawn.several()?;
        let ious = ious.to_dtype(DType::F32)?.to_vec2::<f32>()?;
        let mut all = Vec::new();
        for (object, which) in which.into_iter().enumerate() {
            let logits = best.get(object)?.to_dtype(DType::F32)?;
            let iou = ious.get(object).and_then(|it| it.get(which as usize)).copied();
            let mask = positive(&logits)?;
            all.push(Segmentation { logits, iou: iou.unwrap_or_default(), which, mask });
        }
        Ok(all)
    }

    /// What SAM2 sees in a picture, or has seen.
    fn seen(&self, sam: &Sam, fitted: &Picture) -> Result<Seen, ModelError> {
        let key = self.recall().is_on().then(|| digest(fitted));
        if let Some(seen) = key.and_then(|it| self.recall().maps(&it)) {
            return Ok(seen);
        }
        let picture = square(fitted, sam.config(), &self.device)?.to_dtype(self.dtype)?;
        let seen = sam.see(&picture)?;
        if let Some(key) = key {
            self.recall().keep_maps(key, &seen);
        }
        Ok(seen)
    }
}

/// Where the logits `[1, H, W]` are positive: the sigmoid is over a half there.
fn positive(logits: &Tensor) -> candle_core::Result<FlatMask> {
    let (_, height, width) = logits.dims3()?;
    let pixels = logits.flatten_all()?.to_vec1::<f32>()?.into_iter().map(|it| it > 0.0).collect();
    let side = |it: usize| u32::try_from(it).unwrap_or(u32::MAX);
    Ok(FlatMask { height: side(height), width: side(width), pixels })
}
