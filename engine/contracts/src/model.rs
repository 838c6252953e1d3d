//! The shared model of a site, as plugins reach it.

use async_trait::async_trait;

/// Why the model gave no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct ModelFault {
    /// Whether the same question may be answered later.
    pub is_retryable: bool,
    /// What happened, for people.
    pub reason: String,
}

/// The shared model of a site.
#[async_trait]
pub trait Model: Send + Sync {
    /// Answers a question: JSON in, JSON out (`inference::wire`).
    ///
    /// # Errors
    ///
    /// Fails with why there is no answer, and whether there may be one later.
    async fn infer(&self, request: &[u8]) -> Result<String, ModelFault>;
}
