//! The settings of a node: the method, its targets, and how the model is asked.

use imaging::window::Window;
use serde::Deserialize;

use crate::target::Target;

/// Upper bound of `tokens_max`.
const TOKENS_MAX: usize = 32_768;

/// Upper bound of `objects_max`: a label map has 255 segments for all targets together.
const OBJECTS_MAX: usize = 100;

/// The settings of a node, under `with:` of a workflow, after they were checked.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Method")]
pub struct Settings(Method);

impl Settings {
    /// The method.
    pub const fn method(&self) -> &Method {
        &self.0
    }
}

/// How targets are outlined.
#[derive(Debug, Deserialize)]
#[serde(tag = "method", rename_all = "lowercase", deny_unknown_fields)]
pub enum Method {
    /// By Hounsfield units.
    Threshold {
        /// What is outlined.
        targets: Vec<ThresholdTarget>,
    },
    /// By the shared model.
    Network(NetworkSettings),
}

/// How the shared model is asked.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkSettings {
    /// What is outlined.
    pub targets: Vec<Target>,
    /// The window in which CT is shown, if not the one of the target.
    #[serde(default)]
    pub window: Option<Window>,
    /// The prompt, with `{target}` for the target, if not the one of the model's release.
    #[serde(default)]
    pub prompt: Option<String>,
    /// Upper bound of an answer, in tokens.
    #[serde(default)]
    pub tokens_max: Option<usize>,
    /// Lower bound of the Dice coefficient with `method: threshold`, below which a finding is
    /// flagged.
    #[serde(default)]
    pub agree: Option<f64>,
    /// Parts of a countable target of less than this volume in mL are noise, if not as the target
    /// states.
    #[serde(default)]
    pub smallest_ml: Option<f64>,
    /// In a single image, parts of less than this percentage of its pixels are noise.
    #[serde(default)]
    pub smallest_percent: Option<f64>,
    /// Upper bound of the objects of a target that are reported one by one, the largest first.
    #[serde(default)]
    pub objects_max: Option<usize>,
    /// What becomes of outlines in radiographs.
    #[serde(default)]
    pub radiographs: Radiographs,
}

/// What becomes of outlines in radiographs, of which the model is known to draw poor ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Radiographs {
    /// They are for research: kept with the run, and in no finding, report or review.
    #[default]
    Hidden,
    /// They are findings like any other.
    Shown,
}

/// A target that Hounsfield units alone distinguish.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "Target")]
pub struct ThresholdTarget(Target);

impl TryFrom<Target> for ThresholdTarget {
    type Error = String;

    fn try_from(target: Target) -> Result<Self, String> {
        if target.hounsfield().is_none() {
            let name = target.name();
            return Err(format!(
                "Hounsfield units do not distinguish `{name}`: use `method: network`"
            ));
        }
        Ok(Self(target))
    }
}

impl Method {
    /// The targets, in the order of the workflow.
    pub fn targets(&self) -> Vec<Target> {
        match self {
            Self::Threshold { targets } => targets.iter().map(|it| it.0.clone()).collect(),
            Self::Network(network) => network.targets.clone(),
        }
    }
}

impl TryFrom<Method> for Settings {
    type Error = String;

    fn try_from(method: Method) -> Result<Self, String> {
        let targets = method.targets();
        let is_repeated = targets.iter().enumerate().any(|(index, target)| {
            targets.iter().skip(index + 1).any(|it| it.name() == target.name())
        });
        if targets.is_empty() || is_repeated {
            return Err("`targets` names at least one target, and none twice".to_owned());
        }
        if let Method::Network(network) = &method {
            network.check()?;
        }
        Ok(Self(method))
    }
}

impl NetworkSettings {
    /// Checks values that their types do not exclude. The error names the setting.
    fn check(&self) -> Result<(), String> {
        if self.agree.is_some_and(|it| !(0.0..=1.0).contains(&it)) {
            return Err("`agree` is a Dice coefficient, from 0 to 1".to_owned());
        }
        if self.agree.is_some() && self.targets.iter().all(|it| it.hounsfield().is_none()) {
            let text =
                "`agree` needs a target that Hounsfield units distinguish: bone, lung or body";
            return Err(text.to_owned());
        }
        let is_fixed = self.prompt.as_ref().is_some_and(|it| !it.contains("{target}"));
        if self.targets.len() > 1 && is_fixed {
            let text = "`prompt` asks the same for all targets: put {target} into it";
            return Err(text.to_owned());
        }
        if self.tokens_max.is_some_and(|it| !(1..=TOKENS_MAX).contains(&it)) {
            return Err(format!("`tokens_max` is from 1 to {TOKENS_MAX}"));
        }
        if self.objects_max.is_some_and(|it| !(1..=OBJECTS_MAX).contains(&it)) {
            return Err(format!("`objects_max` is from 1 to {OBJECTS_MAX}"));
        }
        if self.smallest_ml.is_some_and(|it| !(0.0..=f64::MAX).contains(&it)) {
            return Err("`smallest_ml` is a volume in mL, 0 or more".to_owned());
        }
        if self.smallest_percent.is_some_and(|it| !(0.0..=100.0).contains(&it)) {
            return Err("`smallest_percent` is from 0 to 100".to_owned());
        }
        let is_degenerate = |it: &Window| !it.center.is_finite() || it.width < 1.0;
        if self.window.as_ref().is_some_and(is_degenerate) {
            return Err("`window` has a width of 1 or more".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_cannot_be_right_are_refused() {
        let read = |it: serde_json::Value| serde_json::from_value::<Settings>(it);
        let network = |more: serde_json::Value| {
            let mut all = serde_json::json!({"method": "network", "targets": ["liver", "spleen"]});
            all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            read(all)
        };
        assert!(network(serde_json::json!({})).is_ok());
        assert!(network(serde_json::json!({"prompt": "where is the {target}?"})).is_ok());
        for (more, reason) in [
            (serde_json::json!({"prompt": "where is it?"}), "{target}"),
            (serde_json::json!({"targets": []}), "at least one"),
            (serde_json::json!({"targets": ["liver", "liver"]}), "none twice"),
            (serde_json::json!({"tokens_max": 0}), "from 1 to"),
            (serde_json::json!({"window": {"center": 40, "width": 0}}), "width"),
            (serde_json::json!({"windows": 3}), "unknown"),
            (serde_json::json!({"objects_max": 0}), "objects_max"),
            (serde_json::json!({"radiographs": "maybe"}), "shown"),
            (serde_json::json!({"smallest_ml": -1}), "smallest_ml"),
            (serde_json::json!({"smallest_percent": 101}), "smallest_percent"),
            (serde_json::json!({"targets": ["[SEG]"]}), "brackets"),
            (serde_json::json!({"agree": 0.8}), "bone, lung or body"),
            (serde_json::json!({"agree": 1.2, "targets": ["bone"]}), "from 0 to 1"),
            (serde_json::json!({"method": "threshold", "targets": ["liver"]}), "method: network"),
        ] {
            let error = network(more).unwrap_err().to_string();
            assert!(error.contains(reason), "{reason}: {error}");
        }
    }
}
