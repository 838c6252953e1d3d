//! Destinations: the systems that results are sent to.

use async_trait::async_trait;
use domain::OutputKind;

use crate::{Output, Preferences};

/// The outcome of a transmission that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// The destination has acknowledged everything.
    Acknowledged,
    /// The destination has accepted everything and has still to commit its storage (DIN-34).
    AwaitingCommitment,
}

/// Why a transmission did not arrive, and whether another attempt could help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// Another attempt may succeed.
    #[error("{0}")]
    Retryable(String),
    /// The destination read it and did not apply it. Another attempt may succeed; the attempts are
    /// limited (HL7 `AE`).
    #[error("{0}")]
    NotApplied(String),
    /// No attempt can succeed before a person changes something.
    #[error("{0}")]
    Refused(String),
}

/// Why a destination failed its test, `isocenter destination test`.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct ProbeError {
    /// What was tried, with the address, and what the other side must have set up.
    pub message: String,
    /// The failure itself.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// A system that results are sent to. One implementation per protocol; all that the engine knows of
/// a kind of destination is in this trait.
#[async_trait]
pub trait Destination: Send + Sync {
    /// Whether outputs of this kind can be sent here. Implementations match on the kind or its
    /// format without a wildcard.
    fn takes(&self, kind: OutputKind) -> bool;

    /// How outputs for this destination are written.
    fn preferences(&self) -> Preferences {
        Preferences::default()
    }

    /// Tests whether the destination answers, without sending a result. Returns a sentence that
    /// describes the answer; `None`, if the protocol has no harmless request.
    ///
    /// # Errors
    ///
    /// Fails if the destination does not answer as it should.
    async fn probe(&self) -> Result<Option<String>, ProbeError> {
        Ok(None)
    }

    /// Sends the outputs in order, and waits until each is acknowledged. `run` names the run for
    /// people, `transaction` is the Transaction UID of a storage commitment, should there be one.
    ///
    /// # Errors
    ///
    /// The error states whether another attempt could help. Some outputs may have arrived: they are
    /// sent again under the same identifiers.
    async fn send(
        &self,
        run: &str,
        transaction: &str,
        outputs: &[Output],
    ) -> Result<Sent, SendError>;

    /// Sends one of several outputs that do not fit into memory together; `number` is its position
    /// among them, from zero.
    ///
    /// # Errors
    ///
    /// As for [`Self::send`].
    async fn send_part(
        &self,
        run: &str,
        transaction: &str,
        output: &Output,
        _number: usize,
    ) -> Result<Sent, SendError> {
        self.send(run, transaction, std::slice::from_ref(output)).await
    }
}
