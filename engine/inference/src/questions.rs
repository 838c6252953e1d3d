//! Questions that wait for an answer of the model's process, and who hears it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use citrus_v::Compute;
use domain::{ErrorChain, InferAnswer, InferRequest};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

use crate::model_store::ModelCard;
use crate::wire::InferFault;

/// A question that waits for its answer.
pub(crate) struct Open {
    pub(crate) request: Box<InferRequest>,
    pub(crate) tries: u32,
    pub(crate) reply: oneshot::Sender<Result<InferAnswer, InferFault>>,
    pub(crate) heard: Option<Heard>,
    /// Which process was asked last, by its number.
    pub(crate) asked_of: u32,
}

/// Who hears an answer word by word.
pub(crate) struct Heard {
    listener: mpsc::Sender<String>,
    /// What was said so far by the process that is at it now.
    said: String,
    /// What was passed on, perhaps of a process before.
    passed: String,
}

impl Heard {
    pub(crate) const fn new(listener: mpsc::Sender<String>) -> Self {
        Self { listener, said: String::new(), passed: String::new() }
    }

    /// Words of a process.
    pub(crate) fn hear(&mut self, text: &str) {
        self.said.push_str(text);
        let said = std::mem::take(&mut self.said);
        // A process that says something else than the one before is not heard; the end will show.
        self.pass(&said);
        self.said = said;
    }

    /// Passes on what is new; says whether all that was passed on is the beginning of this.
    pub(crate) fn pass(&mut self, all: &str) -> bool {
        let Some(fresh) = all.strip_prefix(self.passed.as_str()) else { return false };
        if fresh.is_empty() {
            return true;
        }
        // Whoever listens may have gone: then it does not matter what they hear.
        let is_full =
            matches!(self.listener.try_send(fresh.to_owned()), Err(TrySendError::Full(_)));
        if !is_full {
            self.passed.push_str(fresh);
        }
        !is_full
    }

    /// Another process begins with the question.
    pub(crate) fn begin_again(&mut self) {
        self.said.clear();
    }
}

/// All that wait for an answer.
#[derive(Clone, Default)]
pub(crate) struct Questions(Arc<Mutex<BTreeMap<u64, Open>>>);

impl Questions {
    pub(crate) fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Open>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which checkpoint, and the program that can be its process.
#[derive(Clone, Debug)]
pub struct Start {
    /// The program.
    pub engine: PathBuf,
    /// The folder of the checkpoint.
    pub checkpoint: PathBuf,
    /// What is known of it.
    pub card: ModelCard,
    /// Where it is to compute.
    pub compute: Compute,
}

impl Start {
    /// What answers is known to the byte: all files are read.
    pub(crate) async fn verify(&self) -> Result<(), String> {
        let Self { card, checkpoint, .. } = self.clone();
        let outcome = tokio::task::spawn_blocking(move || card.verify(&checkpoint)).await;
        let told = |error: &dyn std::error::Error| ErrorChain(error).to_string();
        outcome.map_err(|it| told(&it))?.map_err(|it| told(&it))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_heard_once_is_not_heard_again_from_the_next_process() {
        let (listener, mut words) = mpsc::channel(8);
        let mut heard = Heard::new(listener);
        for text in ["one ", "two "] {
            heard.hear(text);
        }
        heard.begin_again();
        for text in ["one", " two thr", "ee"] {
            heard.hear(text);
        }
        assert!(heard.pass("one two three four"));
        assert!(!heard.pass("one two, but"));
        let mut all = Vec::new();
        while let Ok(word) = words.try_recv() {
            all.push(word);
        }
        assert_eq!(all, ["one ", "two ", "thr", "ee", " four"]);
    }
}
