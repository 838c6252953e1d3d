//! The model that plugins ask, as the site file names it: put to work at the start, and exchanged while
//! the engine runs when the file names another.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use contracts::Model;
use inference::{
    ModelCard, ModelStore, RemoteConfig, RemoteModel, Served, SharedModel, SiteModel, Start, memory,
};
use plugin_host::PluginHost;
use serde_json::{Value, json};

use crate::config::{Config, ModelConfig};
use crate::output::Failure;

/// What is at work.
#[derive(Clone, Default)]
struct Now {
    config: Option<ModelConfig>,
    /// What the trail says of it.
    about: Value,
    card: Option<ModelCard>,
    model: Option<Arc<SiteModel>>,
}

/// The model at work.
pub(crate) struct ModelAtWork {
    host: Arc<PluginHost>,
    data: PathBuf,
    now: Mutex<Now>,
    /// One exchange after the other.
    turn: tokio::sync::Mutex<()>,
}

/// A model that was exchanged for another, as the trail says it.
pub(crate) struct Exchange {
    pub(crate) detail: Value,
    pub(crate) outcome: Result<(), String>,
}

impl ModelAtWork {
    /// Puts the model of the site file to work: in a process that begins with the first question, or
    /// elsewhere.
    pub(crate) fn begin(
        config: &Config,
        data: &Path,
        host: &Arc<PluginHost>,
    ) -> Result<Self, Failure> {
        let it = Self {
            host: Arc::clone(host),
            data: data.to_owned(),
            now: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
        };
        if let Some(model) = &config.model {
            let (served, about) = it.served(model)?;
            it.lend(model, about, SiteModel::new(served));
        }
        Ok(it)
    }

    /// What the trail says of it.
    pub(crate) fn about(&self) -> Value {
        self.lock().about.clone()
    }

    /// Takes in what the site file says now. Loading may take minutes; whoever asks meanwhile is answered
    /// by the one that is at work, or waits, where there is memory for one only. Gives nothing, if it is the same as before.
    pub(crate) async fn take(&self, config: Option<&ModelConfig>) -> Option<Exchange> {
        let _turn = self.turn.lock().await;
        let before = self.lock().clone();
        if before.config.as_ref() == config && config.is_none_or(|it| self.card(it) == before.card)
        {
            return None;
        }
        let Some(config) = config else {
            *self.lock() = Now::default();
            self.host.lend(None);
            return Some(exchanged(&before.about, &Value::Null, Ok(())));
        };
        let (served, about) = match self.served(config) {
            Ok(found) => found,
            Err(failure) => {
                let to = json!({"name": config.name});
                return Some(exchanged(&before.about, &to, Err(failure.text().to_owned())));
            }
        };
        let Some(model) = before.model else {
            self.lend(config, about.clone(), SiteModel::new(served));
            return Some(exchanged(&before.about, &about, Ok(())));
        };
        let outcome = model.exchange(served, memory::available()).await.map_err(|it| it.reason);
        if outcome.is_ok() {
            self.lend(config, about.clone(), model);
        }
        Some(exchanged(&before.about, &about, outcome))
    }

    fn lend(&self, config: &ModelConfig, about: Value, model: Arc<SiteModel>) {
        let lent: Arc<dyn Model> = Arc::<SiteModel>::clone(&model);
        self.host.lend(Some(lent));
        let (card, config) = (self.card(config), Some(config.clone()));
        *self.lock() = Now { config, about, card, model: Some(model) };
    }

    fn lock(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the store says of a model of this machine.
    fn card(&self, model: &ModelConfig) -> Option<ModelCard> {
        let store = ModelStore::new(self.data.join("models"));
        store.card(&model.name).ok().filter(|_| model.url.is_none())
    }

    /// A model as the site file names it, with what the trail says of it. It is not loaded yet.
    fn served(&self, model: &ModelConfig) -> Result<(Served, Value), Failure> {
        let unusable = |error: &dyn std::error::Error| Failure::from_error("`model`", error);
        if let Some(url) = model.url.clone() {
            let read =
                |path: &PathBuf| std::fs::read_to_string(path).map(|it| it.trim().to_owned());
            let key = model.key_file.as_ref().map(read).transpose().map_err(|it| unusable(&it))?;
            let about = json!({"name": model.name, "url": url});
            let (name, clinical_use_decided_by) =
                (model.name.clone(), model.for_clinical_use.clone());
            let pixels = model.pixels;
            let remote = RemoteConfig { url, name, key, pixels, clinical_use_decided_by };
            let remote = RemoteModel::new(remote).map_err(|it| unusable(&it))?;
            return Ok((Served::Elsewhere(remote), about));
        }
        let store = ModelStore::new(self.data.join("models"));
        let card = store.card(&model.name).map_err(|it| unusable(&it))?;
        if let Some(digest) = model.digest.as_ref().filter(|it| **it != card.digest) {
            let text = format!(
                "`model`: `{}` has the digest {}, the site file says {digest}",
                model.name, card.digest
            );
            return Err(Failure::new(text));
        }
        let engine = std::env::current_exe().map_err(|it| unusable(&it))?;
        let about = json!({
            "name": card.name, "digest": card.digest, "is_eight_bit": card.is_eight_bit,
            "clinical_use_decided_by": card.clinical_use_decided_by,
        });
        let checkpoint = store.checkpoint(&model.name);
        let start = Start { engine, checkpoint, card, compute: model.device };
        Ok((Served::Here(SharedModel::start(start)), about))
    }
}

fn exchanged(from: &Value, to: &Value, outcome: Result<(), String>) -> Exchange {
    let reason = outcome.as_ref().err().cloned().unwrap_or_default();
    Exchange { detail: json!({"from": from, "to": to, "reason": reason}), outcome }
}
