//! PP-OCR: reads the print on a picture of a level page, by two models in ONNX format.
//!
//! - [`detection`]: where text is. A model gives each pixel a probability of text; connected pixels
//!   become boxes (differentiable binarization).
//! - [`recognition`]: what a line says. A model gives each step along the line a probability of each
//!   character; the best path becomes letters (CTC).
//!
//! The same page gives the same lines each time. Memory is bounded whatever the page: the picture
//! in which text is found, the number of lines, and the length of a line are.

pub mod detection;
mod part;
pub mod recognition;

use std::sync::Arc;

use image::GrayImage;
use rten::{LoadError, Model, RunError, RunOptions, ThreadPool, TryFromValueError, Value};
use rten_tensor::NdTensor;

pub use crate::part::Bounds;

/// Upper bound of the threads of one reader: several work side by side on a machine.
const THREADS_MAX: usize = 2;

/// The key of the recogniser's metadata that has its characters, one a line.
const CHARACTERS: &str = "character";

/// A line of text on a page.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// The letters, spaces among them.
    pub letters: Vec<Letter>,
    /// The box around it, in pixels of the page.
    pub bounds: Bounds,
}

/// A letter of a line.
#[derive(Clone, Debug, PartialEq)]
pub struct Letter {
    /// The character.
    pub text: String,
    /// Its horizontal middle, in pixels of the page. It is exact to about a quarter of its height.
    pub middle: f32,
    /// Its probability.
    pub confidence: f32,
}

impl Line {
    /// The text.
    pub fn text(&self) -> String {
        self.letters.iter().map(|it| it.text.as_str()).collect()
    }

    /// The mean probability of the letters; 0 if there are none.
    pub fn confidence(&self) -> f32 {
        let count = self.letters.len().max(1) as f32;
        self.letters.iter().map(|it| it.confidence).sum::<f32>() / count
    }
}

/// Why a page cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A file is not a model.
    #[error("the models cannot be loaded")]
    Load(#[from] LoadError),
    /// The recogniser does not state its characters.
    #[error("the recogniser does not state the characters it knows")]
    NoCharacters,
    /// A model failed.
    #[error("a model failed")]
    Run(#[from] RunError),
    /// A model gives something else than probabilities.
    #[error("a model gives an output of an unexpected kind")]
    Output(#[from] TryFromValueError),
    /// A model gives another number of probabilities than expected.
    #[error("a model gives an output of an unexpected shape")]
    Shape,
}

/// The two models.
pub struct PageReader {
    detector: Model,
    recogniser: Model,
    /// The characters of the recogniser's classes, after the first class, which is no character.
    characters: Vec<String>,
    threads: Arc<ThreadPool>,
}

impl PageReader {
    /// Loads the models from the bytes of their files.
    ///
    /// # Errors
    ///
    /// Fails if one of them is no such model.
    pub fn load(detector: Vec<u8>, recogniser: Vec<u8>) -> Result<Self, ReadError> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self::load_for(detector, recogniser, cores.min(THREADS_MAX))
    }

    fn load_for(detector: Vec<u8>, recogniser: Vec<u8>, threads: usize) -> Result<Self, ReadError> {
        let detector = Model::load(detector)?;
        let recogniser = Model::load(recogniser)?;
        let listed = recogniser.metadata().get(CHARACTERS).ok_or(ReadError::NoCharacters)?;
        // The last class is the space.
        let characters = listed.lines().chain([" "]).map(str::to_owned).collect();
        let threads = Arc::new(ThreadPool::with_num_threads(threads));
        Ok(Self { detector, recogniser, characters, threads })
    }

    /// Reads a page whose lines are level, and whose capital letters are about `letter_height`
    /// pixels high. The lines are in no particular order; a line without a letter is among them.
    ///
    /// # Errors
    ///
    /// Fails if a model does.
    pub fn read(&self, page: &GrayImage, letter_height: f32) -> Result<Vec<Line>, ReadError> {
        let scaled = detection::Input::new(page, letter_height);
        let map = self.run(&self.detector, scaled.tensor())?;
        let ([_, _, height, width], probabilities) = map.into_shape_vec::<f32, 4>()?;
        let map = detection::Map::new(width, height, probabilities).ok_or(ReadError::Shape)?;
        let boxes = detection::boxes(&map);
        boxes.iter().map(|it| self.line(page, scaled.on_page(*it))).collect()
    }

    /// Reads one line of a page.
    fn line(&self, page: &GrayImage, bounds: Bounds) -> Result<Line, ReadError> {
        let input = recognition::Input::new(page, bounds);
        let steps = self.run(&self.recogniser, input.tensor())?;
        let ([_, count, classes], probabilities) = steps.into_shape_vec::<f32, 3>()?;
        if classes != self.characters.len() + 1 {
            return Err(ReadError::Shape);
        }
        let decoded = recognition::decoded(&probabilities, classes);
        let letter = |it: &recognition::Decoded| Letter {
            text: self.characters.get(it.class - 1).cloned().unwrap_or_default(),
            middle: input.place(it.step, count),
            confidence: it.probability,
        };
        Ok(Line { letters: decoded.iter().map(letter).collect(), bounds })
    }

    fn run(&self, model: &Model, input: NdTensor<f32, 4>) -> Result<Value, ReadError> {
        let threads = Arc::clone(&self.threads);
        let options = RunOptions::default().with_thread_pool(Some(threads));
        Ok(model.run_one(input.into(), Some(options))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_model_is_refused() {
        let loaded = PageReader::load(b"no model".to_vec(), Vec::new());
        assert!(matches!(loaded.err(), Some(ReadError::Load(_))));
    }
}
