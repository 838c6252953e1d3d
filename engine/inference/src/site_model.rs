//! The model that a site has in use, which can be exchanged for another while requests are in
//! flight.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use citrus_v::Compute;
use contracts::{Model, ModelFault};
use domain::{InferRequest, InferResponse, TokenUsage};
use tokio::sync::RwLock;

use crate::client::ModelClient;
use crate::remote::RemoteModel;
use crate::wire::{self, InferFault};

/// A model that serves requests.
#[derive(Clone)]
pub enum ModelEndpoint {
    /// In a host process of this machine.
    Local(Arc<ModelClient>),
    /// On another machine.
    Remote(Arc<RemoteModel>),
}

impl ModelEndpoint {
    async fn infer(&self, request: InferRequest) -> Result<InferResponse, InferFault> {
        match self {
            Self::Local(model) => model.infer(request).await,
            Self::Remote(model) => model.infer(&request).await,
        }
    }

    /// Loads a local model.
    async fn load(&self) -> Result<(), InferFault> {
        match self {
            Self::Local(model) => model.load().await,
            Self::Remote(_) => Ok(()),
        }
    }

    /// Compares the files of a local model with the digests of its card.
    async fn verify(&self) -> Result<(), InferFault> {
        match self {
            Self::Local(model) => model.verify().await,
            Self::Remote(_) => Ok(()),
        }
    }

    /// The memory of this machine that it needs, in bytes. The memory of a GPU is not known before
    /// the model is loaded.
    fn memory_bytes(&self) -> u64 {
        match self {
            Self::Local(model) if model.config().compute != Compute::Cuda => {
                model.card().cpu_memory_bytes
            }
            Self::Local(_) | Self::Remote(_) => 0,
        }
    }
}

/// The model in use, behind which endpoints are exchanged.
pub struct SiteModel {
    /// None only while the previous model is ended before the next one is loaded.
    current: RwLock<Option<ModelEndpoint>>,
}

impl SiteModel {
    /// Begins with this model.
    pub fn new(first: ModelEndpoint) -> Arc<Self> {
        Arc::new(Self { current: RwLock::new(Some(first)) })
    }

    /// Sends a request to the current model. During an exchange that ends the previous model first,
    /// the request waits; the waiting counts towards its deadline.
    ///
    /// # Errors
    ///
    /// Returns the reason if there is no response, and whether a retry could help.
    pub async fn infer(&self, request: InferRequest) -> Result<InferResponse, InferFault> {
        let started = Instant::now();
        let limit = request.deadline_ms.map(Duration::from_millis);
        let current = match limit {
            Some(limit) => tokio::time::timeout(limit, self.current())
                .await
                .map_err(|_| InferFault::deadline_exceeded())?,
            None => self.current().await,
        };
        let current = current.ok_or_else(|| InferFault::unavailable("no model is in use"))?;
        let remaining = limit.map(|it| it.saturating_sub(started.elapsed()));
        let deadline_ms = remaining.map(|it| u64::try_from(it.as_millis()).unwrap_or(u64::MAX));
        let response = current.infer(InferRequest { deadline_ms, ..request }).await?;
        let usage = TokenUsage { cached_tokens: 0, ..response.usage };
        Ok(InferResponse { usage, ..response })
    }

    async fn current(&self) -> Option<ModelEndpoint> {
        self.current.read().await.clone()
    }

    /// Exchanges the model. Requests in flight are answered by the model they were sent to.
    ///
    /// If the `available` memory suffices for both models, no request waits. Otherwise the previous
    /// model finishes its requests and ends before the next one is loaded.
    ///
    /// # Errors
    ///
    /// Returns the reason if the next model cannot be loaded. The previous one stays in use then.
    pub async fn exchange(
        &self,
        next: ModelEndpoint,
        available: Option<u64>,
    ) -> Result<(), InferFault> {
        let has_room = available.is_none_or(|it| it >= next.memory_bytes());
        if has_room || matches!(&*self.current.read().await, Some(ModelEndpoint::Remote(_))) {
            next.load().await?;
            *self.current.write().await = Some(next);
            return Ok(());
        }
        // Verification takes long and needs no memory: it is done before requests have to wait.
        next.verify().await?;
        let mut current = self.current.write().await;
        let Some(ModelEndpoint::Local(previous)) = current.take() else { return Ok(()) };
        let previous_config = previous.config().clone();
        previous.shut_down().await;
        let outcome = next.load().await;
        *current = Some(match outcome {
            Ok(()) => next,
            Err(_) => ModelEndpoint::Local(ModelClient::start(previous_config)),
        });
        outcome
    }
}

#[async_trait]
impl Model for SiteModel {
    async fn infer(&self, request: &[u8]) -> Result<String, ModelFault> {
        let request = wire::parse_request(request)?;
        Ok(wire::write_response(&Self::infer(self, request).await?)?)
    }
}
