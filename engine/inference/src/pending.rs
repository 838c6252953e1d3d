//! The requests that wait for their response from the host process, and the streams of those whose
//! callers receive the text as it is generated.
//!
//! They outlive the host process: after a crash the supervisor sends them to the next one. A stream
//! must not repeat text that its subscriber has received already, and must not continue with text
//! of another generation; [`TextStream`] sees to both.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use domain::{InferRequest, InferResponse};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

use crate::wire::InferFault;

/// A request that waits for its response.
pub(crate) struct PendingRequest {
    pub(crate) request: Box<InferRequest>,
    /// How often it was sent to a host process.
    pub(crate) attempts: u32,
    /// The number of the host process it was sent to last; 0 before the first.
    pub(crate) sent_to: u32,
    /// Receives the response.
    pub(crate) reply: oneshot::Sender<Result<InferResponse, InferFault>>,
    /// The stream of the generated text, if the caller asked for one.
    pub(crate) stream: Option<TextStream>,
}

/// Passes generated text on to a subscriber, each piece once, across restarts of the host process.
pub(crate) struct TextStream {
    subscriber: mpsc::Sender<String>,
    /// The text that the current host process has generated so far.
    generated: String,
    /// The text that the subscriber has received, perhaps from an earlier host process.
    delivered: String,
}

impl TextStream {
    pub(crate) const fn new(subscriber: mpsc::Sender<String>) -> Self {
        Self { subscriber, generated: String::new(), delivered: String::new() }
    }

    /// Appends text of the current host process and delivers what is new.
    pub(crate) fn append(&mut self, text: &str) {
        self.generated.push_str(text);
        let generated = std::mem::take(&mut self.generated);
        // A process that generates another text than the one before delivers nothing; the final
        // response shows the difference.
        self.deliver_up_to(&generated);
        self.generated = generated;
    }

    /// Delivers the part of `text` that the subscriber has not received. Returns whether all that
    /// was delivered is a prefix of `text`.
    pub(crate) fn deliver_up_to(&mut self, text: &str) -> bool {
        let Some(new_text) = text.strip_prefix(self.delivered.as_str()) else { return false };
        if new_text.is_empty() {
            return true;
        }
        // A subscriber that has gone does not matter; one that is full has missed text.
        let sent = self.subscriber.try_send(new_text.to_owned());
        if matches!(sent, Err(TrySendError::Full(_))) {
            return false;
        }
        self.delivered.push_str(new_text);
        true
    }

    /// Prepares for another host process, which generates from the beginning.
    pub(crate) fn restart(&mut self) {
        self.generated.clear();
    }
}

/// All requests that wait for a response, by their number; shared by client and supervisor.
#[derive(Clone, Default)]
pub(crate) struct PendingRequests(Arc<Mutex<BTreeMap<u64, PendingRequest>>>);

impl PendingRequests {
    pub(crate) fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, PendingRequest>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_was_delivered_once_is_not_delivered_again_by_the_next_process() {
        let (subscriber, mut received) = mpsc::channel(8);
        let mut stream = TextStream::new(subscriber);
        for text in ["one ", "two "] {
            stream.append(text);
        }
        stream.restart();
        for text in ["one", " two thr", "ee"] {
            stream.append(text);
        }
        assert!(stream.deliver_up_to("one two three four"));
        assert!(!stream.deliver_up_to("one two, but"));
        let mut all = Vec::new();
        while let Ok(text) = received.try_recv() {
            all.push(text);
        }
        assert_eq!(all, ["one ", "two ", "thr", "ee", " four"]);
    }

    #[test]
    fn a_subscriber_that_is_full_makes_the_stream_incomplete_and_one_that_has_gone_does_not() {
        let (subscriber, received) = mpsc::channel(1);
        let mut stream = TextStream::new(subscriber);
        stream.append("one ");
        assert!(!stream.deliver_up_to("one two"));
        drop(received);
        assert!(stream.deliver_up_to("one two"));
    }
}
