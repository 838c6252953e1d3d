use async_trait::async_trait;

/// Why the model does not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct ModelFault {
    /// Whether the same question could be answered another time.
    pub is_retryable: bool,
    /// Why.
    pub reason: String,
}

/// The shared model of a site.
#[async_trait]
pub trait Model: Send + Sync {
    /// Answers a question: JSON in, JSON out (`inference::wire`).
    ///
    /// # Errors
    ///
    /// Says why there is no answer, and whether there may be one another time.
    async fn infer(&self, request: &[u8]) -> Result<String, ModelFault>;
}
