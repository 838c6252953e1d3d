//! The model that a site has at work, which can be exchanged for another while it is asked.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use citrus_v::Compute;
use contracts::{Model, ModelFault};
use domain::{InferAnswer, InferRequest};
use tokio::sync::RwLock;

use crate::remote::RemoteModel;
use crate::shared::SharedModel;
use crate::wire::{self, InferFault};

/// A model that can be asked.
#[derive(Clone)]
pub enum Served {
    /// In a process of this machine.
    Here(Arc<SharedModel>),
    /// On another machine.
    Elsewhere(Arc<RemoteModel>),
}

impl Served {
    async fn infer(&self, request: InferRequest) -> Result<InferAnswer, InferFault> {
        match self {
            Self::Here(model) => model.infer(request).await,
            Self::Elsewhere(model) => model.infer(&request).await,
        }
    }

    /// Ready to answer.
    async fn load(&self) -> Result<(), InferFault> {
        match self {
            Self::Here(model) => model.load().await,
            Self::Elsewhere(_) => Ok(()),
        }
    }

    /// As it was taken in.
    async fn verify(&self) -> Result<(), InferFault> {
        match self {
            Self::Here(model) => model.verify().await,
            Self::Elsewhere(_) => Ok(()),
        }
    }

    /// Bytes that it takes of this machine's memory. Of a GPU's, it shows when it is loaded.
    fn bytes(&self) -> u64 {
        match self {
            Self::Here(model) if model.started_with().compute != Compute::Cuda => {
                model.card().bytes_on_cpu
            }
            _ => 0,
        }
    }
}

/// The model at work.
pub struct SiteModel {
    /// There is none only while one makes room for the next.
    now: RwLock<Option<Served>>,
}

impl SiteModel {
    /// Begins with this one.
    pub fn new(first: Served) -> Arc<Self> {
        Arc::new(Self { now: RwLock::new(Some(first)) })
    }

    /// Asks whichever is at work now. While one makes room for the next, the question waits.
    ///
    /// # Errors
    ///
    /// Says why there is no answer, and whether there may be one another time.
    pub async fn infer(&self, request: InferRequest) -> Result<InferAnswer, InferFault> {
        let begun = Instant::now();
        let limit = request.deadline_ms.map(Duration::from_millis);
        let now = async { self.now.read().await.clone() };
        let now = match limit {
            Some(limit) => {
                tokio::time::timeout(limit, now).await.map_err(|_| InferFault::late())?
            }
            None => now.await,
        };
        let now = now.ok_or_else(|| InferFault::unavailable("no model is at work"))?;
        let rest = limit.map(|it| it.saturating_sub(begun.elapsed()));
        let deadline_ms = rest.map(|it| u64::try_from(it.as_millis()).unwrap_or(u64::MAX));
        let answer = now.infer(InferRequest { deadline_ms, ..request }).await?;
        Ok(InferAnswer { recalled: 0, ..answer })
    }

    /// Puts another one to work, one after the other. What was asked before is answered by the one that was
    /// asked. Where `available` memory is enough for both, nobody waits; else the old one answers what it
    /// was asked, and ends before the new one is loaded.
    ///
    /// # Errors
    ///
    /// Says why the new one cannot be loaded. The old one goes on then.
    pub async fn exchange(&self, next: Served, available: Option<u64>) -> Result<(), InferFault> {
        let has_room = available.is_none_or(|it| it >= next.bytes());
        if has_room || matches!(&*self.now.read().await, Some(Served::Elsewhere(_))) {
            next.load().await?;
            *self.now.write().await = Some(next);
            return Ok(());
        }
        // What takes its time without the memory is done first.
        next.verify().await?;
        let mut now = self.now.write().await;
        let Some(Served::Here(old)) = now.take() else { return Ok(()) };
        let before = old.started_with().clone();
        old.ended().await;
        let outcome = next.load().await;
        *now = Some(match outcome {
            Ok(()) => next,
            Err(_) => Served::Here(SharedModel::start(before)),
        });
        outcome
    }
}

#[async_trait]
impl Model for SiteModel {
    async fn infer(&self, request: &[u8]) -> Result<String, ModelFault> {
        let request = wire::question(request)?;
        Ok(wire::written(&Self::infer(self, request).await?)?)
    }
}
