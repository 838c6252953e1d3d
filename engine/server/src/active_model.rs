//! The model that plugins ask, as the site file names it: started with the engine, and exchanged
//! while the engine runs when the file names another.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use contracts::Model;
use domain::event::ModelChange;
use inference::{
    Compute, LaunchConfig, ModelCard, ModelClient, ModelEndpoint, ModelStore, RemoteConfig,
    RemoteModel, SiteModel, memory,
};
use plugin_host::PluginHost;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::output::Failure;

/// `model:` of the site file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ModelConfig {
    /// Its name in the store (`isocenter model list`), or, with `url`, on another machine.
    pub(crate) name: String,
    /// The digest it must have in the store (`isocenter model show`). Default: any.
    #[serde(default)]
    pub(crate) digest: Option<String>,
    /// The device on this machine: `auto` (a GPU, if there is one), `cpu` or `cuda`.
    #[serde(default)]
    pub(crate) device: Compute,
    /// The base address of another machine that has the model, such as `https://models.example/v1`.
    #[serde(default)]
    pub(crate) url: Option<String>,
    /// A file with the key that the other machine asks for.
    #[serde(default)]
    pub(crate) key_file: Option<PathBuf>,
    /// The lower and the upper bound of pixels of a picture as that machine shows it to the model.
    /// Without them, boxes that the model cites are not placed on the image.
    #[serde(default)]
    pub(crate) pixels: Option<[u64; 2]>,
    /// Who of the site decided that a model of another machine may be used for patients.
    #[serde(default)]
    pub(crate) for_clinical_use: Option<String>,
}

impl ModelConfig {
    /// Keys that would have no effect, for the person who wrote the site file.
    pub(crate) fn problem(&self) -> Option<String> {
        let has_local_keys = self.digest.is_some() || self.device != Compute::Auto;
        let has_remote_keys =
            self.key_file.is_some() || self.pixels.is_some() || self.for_clinical_use.is_some();
        match self.url {
            Some(_) if has_local_keys => Some(
                "model: `digest` and `device` are for a model of this machine, not for one with \
                 `url`"
                    .to_owned(),
            ),
            None if has_remote_keys => Some(
                "model: `key_file`, `pixels` and `for_clinical_use` are for a model with `url`; \
                 for one of this machine see `isocenter model import --for-clinical-use`"
                    .to_owned(),
            ),
            Some(_) | None => None,
        }
    }
}

/// The model that is active, and where it came from.
#[derive(Clone, Default)]
struct State {
    config: Option<ModelConfig>,
    /// How the trail names it.
    about: Value,
    card: Option<ModelCard>,
    model: Option<Arc<SiteModel>>,
}

/// The model that plugins are lent.
pub(crate) struct ActiveModel {
    host: Arc<PluginHost>,
    data: PathBuf,
    state: Mutex<State>,
    /// Held during an exchange: there is one at a time.
    exchange: tokio::sync::Mutex<()>,
}

/// What became of an exchange of the model for another, as the trail records it.
#[derive(Debug)]
pub(crate) enum Exchange {
    /// The model of the site file is active.
    Done(ModelChange),
    /// The former model stays active.
    Refused(ModelChange),
}

impl Exchange {
    fn new(from: &Value, to: &Value, outcome: Result<(), String>) -> Self {
        let from = from.clone();
        let to = to.clone();
        match outcome {
            Ok(()) => Self::Done(ModelChange { from, to, reason: String::new() }),
            Err(reason) => Self::Refused(ModelChange { from, to, reason }),
        }
    }
}

/// A model that the site file names, and how the trail names it.
struct NamedModel {
    served: ModelEndpoint,
    about: Value,
}

impl ActiveModel {
    /// Activates the model of the site file: in a process that starts with the first request, or on
    /// another machine.
    pub(crate) fn start(
        config: Option<&ModelConfig>,
        data: &Path,
        host: &Arc<PluginHost>,
    ) -> Result<Self, Failure> {
        let active = Self {
            host: Arc::clone(host),
            data: data.to_owned(),
            state: Mutex::default(),
            exchange: tokio::sync::Mutex::default(),
        };
        if let Some(model) = config {
            let named = active.endpoint(model)?;
            active.lend(model, named.about, SiteModel::new(named.served));
        }
        Ok(active)
    }

    /// How the trail names it.
    pub(crate) fn about(&self) -> Value {
        self.lock().about.clone()
    }

    /// Activates the model the site file names now. Loading may take minutes; meanwhile requests
    /// are answered by the former model, or wait where there is memory for one model only. Returns
    /// nothing if it is the same model as before.
    pub(crate) async fn replace(&self, config: Option<&ModelConfig>) -> Option<Exchange> {
        let _exchange = self.exchange.lock().await;
        let before = self.lock().clone();
        if before.config.as_ref() == config && config.is_none_or(|it| self.card(it) == before.card)
        {
            return None;
        }
        let Some(config) = config else {
            *self.lock() = State::default();
            self.host.lend(None);
            return Some(Exchange::new(&before.about, &Value::Null, Ok(())));
        };
        let NamedModel { served, about } = match self.endpoint(config) {
            Ok(named) => named,
            Err(failure) => {
                let to = json!({"name": config.name});
                return Some(Exchange::new(&before.about, &to, Err(failure.text().to_owned())));
            }
        };
        let Some(model) = before.model else {
            self.lend(config, about.clone(), SiteModel::new(served));
            return Some(Exchange::new(&before.about, &about, Ok(())));
        };
        let outcome = model.exchange(served, memory::available()).await.map_err(|it| it.reason);
        if outcome.is_ok() {
            self.lend(config, about.clone(), model);
        }
        Some(Exchange::new(&before.about, &about, outcome))
    }

    fn lend(&self, config: &ModelConfig, about: Value, model: Arc<SiteModel>) {
        let lent: Arc<dyn Model> = Arc::<SiteModel>::clone(&model);
        self.host.lend(Some(lent));
        *self.lock() = State {
            config: Some(config.clone()),
            about,
            card: self.card(config),
            model: Some(model),
        };
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The card of a model of this machine.
    fn card(&self, model: &ModelConfig) -> Option<ModelCard> {
        let store = ModelStore::new(self.data.join("models"));
        store.card(&model.name).ok().filter(|_| model.url.is_none())
    }

    /// The model that the site file names. It is not loaded yet.
    fn endpoint(&self, model: &ModelConfig) -> Result<NamedModel, Failure> {
        match &model.url {
            Some(url) => Self::remote(url, model),
            None => self.local(model),
        }
    }

    /// A model of another machine.
    fn remote(url: &str, model: &ModelConfig) -> Result<NamedModel, Failure> {
        let key = model.key_file.as_ref().map(std::fs::read_to_string).transpose();
        let key = key.map_err(|error| unusable(&error))?;
        let remote = RemoteModel::new(RemoteConfig {
            url: url.to_owned(),
            name: model.name.clone(),
            key: key.map(|it| it.trim().to_owned()),
            pixels: model.pixels,
            clinical_use_decided_by: model.for_clinical_use.clone(),
        });
        let served = ModelEndpoint::Remote(remote.map_err(|error| unusable(&error))?);
        Ok(NamedModel { served, about: json!({"name": model.name, "url": url}) })
    }

    /// A model of this machine, in a process of its own.
    fn local(&self, model: &ModelConfig) -> Result<NamedModel, Failure> {
        let store = ModelStore::new(self.data.join("models"));
        let card = store.language_card(&model.name).map_err(|error| unusable(&error))?;
        if let Some(digest) = model.digest.as_ref().filter(|it| **it != card.digest) {
            let text = format!(
                "`model`: `{}` has the digest {}, the site file names {digest}",
                model.name, card.digest
            );
            return Err(Failure::new(text));
        }
        let program = std::env::current_exe().map_err(|error| unusable(&error))?;
        let about = json!({
            "name": card.name, "digest": card.digest, "is_eight_bit": card.is_eight_bit,
            "clinical_use_decided_by": card.clinical_use_decided_by,
        });
        let checkpoint = store.checkpoint(&model.name);
        let start = LaunchConfig { program, checkpoint, card, compute: model.device };
        Ok(NamedModel { served: ModelEndpoint::Local(ModelClient::start(start)), about })
    }
}

fn unusable(error: &dyn std::error::Error) -> Failure {
    Failure::from_error("`model`", error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> Option<String> {
        serde_saphyr::from_str::<ModelConfig>(text).unwrap().problem()
    }

    #[test]
    fn a_key_that_would_have_no_effect_is_a_problem() {
        assert_eq!(problem("{ name: m, device: cpu, digest: ab }"), None);
        assert_eq!(problem("{ name: m, url: \"https://x/v1\", pixels: [1, 2] }"), None);
        assert!(problem("{ name: m, url: \"https://x/v1\", device: cpu }").is_some());
        assert!(problem("{ name: m, key_file: /k }").unwrap().contains("key_file"));
        assert!(problem("{ name: m, for_clinical_use: Dr. X }").is_some());
    }

    #[test]
    fn a_failed_exchange_says_why_and_a_successful_one_nothing() {
        let done = Exchange::new(&json!("a"), &json!("b"), Ok(()));
        assert!(matches!(done, Exchange::Done(change) if change.reason.is_empty()));
        let refused = Exchange::new(&json!("a"), &json!("b"), Err("no memory".to_owned()));
        let expected =
            ModelChange { from: json!("a"), to: json!("b"), reason: "no memory".to_owned() };
        assert!(matches!(refused, Exchange::Refused(change) if change == expected));
    }
}
