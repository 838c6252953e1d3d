//! Outlines structures in volumes and measures them.
//!
//! ```yaml
//! bones: { plugin: segmentation, with: { method: threshold, targets: [bone] } }
//! liver: { plugin: segmentation, with: { method: network, targets: [liver, spleen] } }
//! ```
//!
//! `method: threshold` works on Hounsfield units of CT alone. Each target is defined here, and nowhere
//! else:
//!
//! | target | Hounsfield units | parts (26-connected) | then |
//! |---|---|---|---|
//! | `bone` | 300 and more | of 64 voxels and more | holes filled |
//! | `lung` | -950 to -400 | of 1 mL and more that do not touch the edge of a slice | holes filled |
//! | `body` | -300 and more | the largest | holes filled |
//!
//! Holes are background that no way through voxel faces leads out of the volume from; the first
//! and the last slice are open. Volumes are voxels x row spacing x column spacing x distance of
//! slices along their normal (DIN-82). Arms of a table count as body if they touch it.
//!
//! `method: network` shows the shared model every slice of CT and MR, in the order of the patient, and asks
//! for each target; what it draws is the outline (PAP-05). CT is shown in a window that suits the target, or
//! in `window: { center: 40, width: 400 }`; MR between its darkest and brightest hundredth. `prompt` is
//! what is asked, `{target}` in it the target; `tokens_max` how long an answer may be. What is drawn is told as
//! possible; where nothing is drawn, the result says so, and not that there is none (PAP-06). Radiographs,
//! ultrasound and photographs are shown as their files say, each image by itself. An answer that
//! is cut off, or has not a mask for every `[SEG]`, is rejected. Every slice is a question for every target: give
//! the node a `timeout` that suits (10 minutes, if not said).
//!
//! `agree: 0.8` holds what the network draws on CT against `method: threshold`, for the targets that knows. Where the
//! Dice coefficient is less, the finding says so; it is always kept with what outlined the target.
//!
//! Every series that is a regular stack is worked on. If none is, the input is rejected as
//! `geometry_inconsistent` (or `pixels_undecodable`), and the reason names what is wrong with which
//! series: nothing is measured on a guess.

mod agreement;
mod network;
mod target;
mod threshold;

use domain::{
    Algorithm, Finding, NodeInput, NodeOutput, Presence, Segment, Segmentation, SeriesInput,
    SeriesInstanceUid, SopInstanceUid, VolumeGeometry,
};
use imaging::Mask;
use imaging::display::{grid, shown};
use imaging::quantity::measured;
use imaging::window::Window;
use plugin_api::{Context, HostError, Level, NodeError, Plugin, VolumeRef, export_plugin};
use serde::Deserialize;

use crate::agreement::Agreement;
use crate::network::{Asked, PROMPT, Pages, View};
pub use crate::target::Target;

/// CT Image Storage. Other classes of the modality CT are localizers or multi-frame.
const CT_IMAGE_STORAGE: &str = "1.2.840.10008.5.1.4.1.1.2";

/// MR Image Storage.
const MR_IMAGE_STORAGE: &str = "1.2.840.10008.5.1.4.1.1.4";

/// Equipment whose images are looked at one by one, as their files say they are to be shown.
const FLAT: [&str; 12] = ["CR", "DX", "MG", "US", "SC", "XC", "ES", "OP", "DMS", "GM", "RF", "XA"];

/// Outlines structures.
pub struct Outline;

/// What a workflow sets under `with:`, once it was checked.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Method")]
pub struct Settings(Method);

/// How to outline, and what.
#[derive(Debug, Deserialize)]
#[serde(tag = "method", rename_all = "lowercase", deny_unknown_fields)]
pub enum Method {
    /// By Hounsfield units.
    Threshold {
        /// What to outline.
        targets: Vec<OfThreshold>,
    },
    /// By the shared model.
    Network {
        /// What to outline.
        targets: Vec<Target>,
        /// How CT is shown, if not as suits the target.
        #[serde(default)]
        window: Option<Window>,
        /// What is asked, if not as the release is.
        #[serde(default)]
        prompt: Option<String>,
        /// Most tokens of an answer.
        #[serde(default)]
        tokens_max: Option<usize>,
        /// Least Dice coefficient of this and Hounsfield units that nobody need hear of.
        #[serde(default)]
        agree: Option<f64>,
    },
}

/// A target that Hounsfield units tell.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "Target")]
pub struct OfThreshold(Target);

/// Most tokens of an answer that may be asked for.
const TOKENS_MAX: usize = 32_768;

impl TryFrom<Method> for Settings {
    type Error = String;

    fn try_from(method: Method) -> Result<Self, String> {
        let targets = method.targets();
        let is_doubled =
            targets.iter().enumerate().any(|(at, it)| targets.iter().skip(at + 1).any(|b| b == it));
        if targets.is_empty() || is_doubled {
            return Err("`targets` names at least one target, and none twice".to_owned());
        }
        if let Method::Network { window, prompt, tokens_max, agree, .. } = &method {
            if agree.is_some_and(|it| !(0.0..=1.0).contains(&it)) {
                return Err("`agree` is a Dice coefficient, from 0 to 1".to_owned());
            }
            if agree.is_some() && targets.iter().all(|it| it.range().is_none()) {
                let text = "`agree` needs a target that Hounsfield units tell: bone, lung or body";
                return Err(text.to_owned());
            }
            if targets.len() > 1 && prompt.as_ref().is_some_and(|it| !it.contains("{target}")) {
                let text = "`prompt` asks the same for all targets: put {target} into it";
                return Err(text.to_owned());
            }
            if tokens_max.is_some_and(|it| !(1..=TOKENS_MAX).contains(&it)) {
                return Err(format!("`tokens_max` is from 1 to {TOKENS_MAX}"));
            }
            let is_usable = |it: &Window| it.center.is_finite() && it.width >= 1.0;
            if window.as_ref().is_some_and(|it| !is_usable(it)) {
                return Err("`window` has a width of 1 or more".to_owned());
            }
        }
        Ok(Self(method))
    }
}

impl TryFrom<Target> for OfThreshold {
    type Error = String;

    fn try_from(target: Target) -> Result<Self, String> {
        let name = target.name();
        let told = || format!("Hounsfield units do not tell `{name}`: use `method: network`");
        target.range().map(|_| Self(target)).ok_or_else(told)
    }
}

impl Plugin for Outline {
    const NAME: &'static str = "segmentation";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    type Settings = Settings;

    fn process(
        context: &Context<'_>,
        settings: &Settings,
        input: NodeInput,
    ) -> Result<NodeOutput, NodeError> {
        let method = &settings.0;
        let study =
            input.study.ok_or_else(|| NodeError::rejected("no_study", "there is no study"))?;
        let series: Vec<&SeriesInput> = study.series.iter().filter(|it| method.takes(it)).collect();
        if series.is_empty() {
            let reason = format!("none of {} series is {}", study.series.len(), method.wanted());
            return Err(NodeError::rejected(method.lacking(), reason));
        }
        let mut output = NodeOutput::default();
        let mut problems = Problems::default();
        for (index, it) in series.iter().enumerate() {
            let at = |share: f64| (index as f64 + share) / series.len() as f64;
            context.progress(at(0.0));
            if is_flat(it) {
                images(context, method, it, &at, (&mut output, &mut problems))?;
            } else {
                volume(context, method, it, &at, (&mut output, &mut problems))?;
            }
            if context.is_cancelled() {
                return Err(NodeError::Unavailable("the run was cancelled".to_owned()));
            }
        }
        problems.log(context);
        if output.findings.is_empty() { Err(problems.into_error()) } else { Ok(output) }
    }
}

impl Method {
    fn targets(&self) -> Vec<Target> {
        match self {
            Self::Threshold { targets } => targets.iter().map(|it| it.0).collect(),
            Self::Network { targets, .. } => targets.clone(),
        }
    }

    /// Whether it works on such a series.
    fn takes(&self, series: &SeriesInput) -> bool {
        let has = |class: &str| series.instances.iter().any(|it| it.sop_class.as_str() == class);
        let is_network = matches!(self, Self::Network { .. });
        has(CT_IMAGE_STORAGE) || is_network && (has(MR_IMAGE_STORAGE) || is_flat(series))
    }

    const fn wanted(&self) -> &'static str {
        match self {
            Self::Threshold { .. } => "a CT",
            Self::Network { .. } => "CT, MR or of images that stand by themselves",
        }
    }

    const fn lacking(&self) -> &'static str {
        match self {
            Self::Threshold { .. } => "no_ct_series",
            Self::Network { .. } => "no_series_to_outline",
        }
    }
}

fn is_flat(series: &SeriesInput) -> bool {
    FLAT.contains(&series.modality.as_str())
}

/// What is outlined: a series as a volume, or one of its images.
struct Seen<'a> {
    series: &'a SeriesInput,
    geometry: VolumeGeometry,
    of: Of<'a>,
}

enum Of<'a> {
    Volume(&'a VolumeRef<'a>),
    Image { instance: &'a SopInstanceUid, png: Vec<u8> },
}

impl Seen<'_> {
    /// Whether its numbers are Hounsfield units.
    fn is_ct(&self) -> bool {
        self.series.instances.iter().any(|it| it.sop_class.as_str() == CT_IMAGE_STORAGE)
    }

    /// By what things in it are tracked.
    fn name(&self) -> &str {
        match &self.of {
            Of::Volume(_) => self.series.series.as_str(),
            Of::Image { instance, .. } => instance.as_str(),
        }
    }
}

/// Outlines all targets in a series of slices.
fn volume(
    context: &Context<'_>,
    method: &Method,
    series: &SeriesInput,
    at: &dyn Fn(f64) -> f64,
    (output, problems): (&mut NodeOutput, &mut Problems),
) -> Result<(), NodeError> {
    match context.read_volume(&series.series) {
        Ok(volume) => {
            let geometry = volume.geometry.clone();
            let seen = Seen { series, geometry, of: Of::Volume(&volume) };
            outline(context, method, &seen, at, output)
        }
        Err(HostError::Rejected(reason)) => {
            problems.add(&series.series, &reason);
            Ok(())
        }
        Err(HostError::Unavailable(reason)) => Err(NodeError::Unavailable(reason)),
    }
}

/// Outlines all targets in each image of a series.
fn images(
    context: &Context<'_>,
    method: &Method,
    series: &SeriesInput,
    at: &dyn Fn(f64) -> f64,
    (output, problems): (&mut NodeOutput, &mut Problems),
) -> Result<(), NodeError> {
    let mut instances: Vec<&SopInstanceUid> =
        series.instances.iter().map(|it| &it.instance).collect();
    instances.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    for (index, instance) in instances.iter().enumerate() {
        let part = |share: f64| at((index as f64 + share) / instances.len() as f64);
        let file = context.read_instance(instance).map_err(|it| it.into_node_error("no_image"))?;
        match image(file) {
            Ok((geometry, png)) => {
                let seen = Seen { series, geometry, of: Of::Image { instance, png } };
                outline(context, method, &seen, &part, output)?;
            }
            Err(reason) => problems.add(&series.series, &reason),
        }
    }
    Ok(())
}

/// The grid of an image and its picture as PNG.
fn image(file: &[u8]) -> Result<(VolumeGeometry, Vec<u8>), String> {
    let undecodable =
        |reason: &dyn std::fmt::Display| format!("an image cannot be decoded: {reason}");
    let geometry = grid(file).map_err(|it| undecodable(&it))?;
    let picture = shown(file).map_err(|it| undecodable(&it))?;
    Ok((geometry, picture.to_png().map_err(|it| undecodable(&it))?))
}

/// Why series were not worked on.
#[derive(Default)]
struct Problems(Vec<String>);

impl Problems {
    fn add(&mut self, series: &SeriesInstanceUid, reason: &str) {
        self.0.push(format!("series {series}: {reason}"));
    }

    fn log(&self, context: &Context<'_>) {
        for problem in &self.0 {
            context.log(Level::Warning, problem);
        }
    }

    fn into_error(self) -> NodeError {
        let is_geometry = self.0.iter().any(|it| !it.contains("cannot be decoded"));
        let code = if is_geometry { "geometry_inconsistent" } else { "pixels_undecodable" };
        NodeError::rejected(code, self.0.join("; "))
    }
}

/// Outlines all targets in a series. `at` says how far the work is, from how much of the series is done.
fn outline(
    context: &Context<'_>,
    method: &Method,
    seen: &Seen<'_>,
    at: &dyn Fn(f64) -> f64,
    output: &mut NodeOutput,
) -> Result<(), NodeError> {
    let (targets, mut segments) = (method.targets(), Vec::new());
    let algorithm = if let (Method::Threshold { .. }, Of::Volume(volume)) = (method, &seen.of) {
        for target in &targets {
            let mask = threshold::mask(*target, volume);
            output.findings.push(by_threshold(*target, &mask, &seen.geometry));
            segments.extend(segment(context, *target, &mask, seen)?);
        }
        threshold::algorithm(&targets, Outline::VERSION)
    } else {
        let (mut all, mut agreements): (Vec<Asked>, Vec<Agreement>) = (Vec::new(), Vec::new());
        for (index, target) in targets.iter().enumerate() {
            let part = |share: f64| at((index as f64 + share) / targets.len() as f64);
            let (mask, asked) = drawn(context, method, *target, seen, &part)?;
            let mut finding = by_network(*target, &mask, &seen.geometry, &asked);
            if let Some(agreement) = agreement(method, *target, &mask, seen) {
                finding.text.extend(agreement.doubt());
                agreements.push(agreement);
            }
            output.findings.push(finding);
            segments.extend(segment(context, *target, &mask, seen)?);
            if all.last().is_some_and(|it| !it.is_by_the_same(&asked)) {
                let reason = "the model was exchanged for another between two targets";
                return Err(NodeError::Unavailable(reason.to_owned()));
            }
            all.push(asked);
        }
        let mut algorithm = network::algorithm(&all, Outline::VERSION);
        for it in &agreements {
            it.put(&mut algorithm);
        }
        algorithm
    };
    put(segments, algorithm, seen, output);
    Ok(())
}

fn drawn(
    context: &Context<'_>,
    method: &Method,
    target: Target,
    seen: &Seen<'_>,
    part: &dyn Fn(f64) -> f64,
) -> Result<(Mask, Asked), NodeError> {
    let (window, prompt, tokens_max) = match method {
        Method::Network { window, prompt, tokens_max, .. } => {
            (*window, prompt.as_deref(), *tokens_max)
        }
        Method::Threshold { .. } => (None, None, None),
    };
    let pages = match &seen.of {
        Of::Image { png, .. } => Pages::Image(png.clone()),
        Of::Volume(volume) if !seen.is_ct() => Pages::Slices(volume, Window::over(volume.values)),
        Of::Volume(volume) => Pages::Slices(volume, window.unwrap_or_else(|| target.window())),
    };
    let view = View { prompt: prompt.unwrap_or(PROMPT), tokens_max };
    let shown = (&seen.geometry, &pages);
    network::drawn(context, target, &view, shown, &|share| context.progress(part(share)))
}

/// How well the network and Hounsfield units agree, if that is asked for and both can outline it.
fn agreement(method: &Method, target: Target, mask: &Mask, seen: &Seen<'_>) -> Option<Agreement> {
    let Method::Network { agree: Some(least), .. } = method else { return None };
    let Of::Volume(volume) = &seen.of else { return None };
    seen.is_ct().then(|| Agreement::of(target, mask, volume, *least)).flatten()
}

/// A target that was found, as it is kept.
fn segment(
    context: &Context<'_>,
    target: Target,
    mask: &Mask,
    seen: &Seen<'_>,
) -> Result<Option<Segment>, NodeError> {
    if mask.count() == 0 {
        return Ok(None);
    }
    let (category, kind) = target.codes();
    let kept = context.put_artifact(&mask.packed());
    Ok(Some(Segment {
        label: target.name().to_owned(),
        category,
        kind,
        tracking_id: format!("{} {}", target.name(), seen.name()),
        mask: kept.map_err(|it| it.into_node_error("mask_too_large"))?,
        voxels: mask.count(),
        is_edited: false,
        measurements: measured(mask, &seen.geometry),
    }))
}

fn put(segments: Vec<Segment>, algorithm: Algorithm, seen: &Seen<'_>, output: &mut NodeOutput) {
    if !segments.is_empty() {
        let (series, geometry) = (seen.series.series.clone(), seen.geometry.clone());
        output.segmentations.push(Segmentation { series, geometry, segments, algorithm });
    }
}

/// What is said of a target that Hounsfield units tell: where none are its, there is none.
fn by_threshold(target: Target, mask: &Mask, geometry: &VolumeGeometry) -> Finding {
    let (name, (_, code)) = (target.name(), target.codes());
    let (presence, text) = if mask.count() == 0 {
        (Presence::Absent, format!("No {name} found by threshold."))
    } else {
        (Presence::Present, told(name, mask, geometry))
    };
    Finding { code, site: None, presence, text }
}

/// What is said of a target that the network was asked for: what it draws may be it, and that it draws nothing
/// says nothing of what is there (PAP-06).
fn by_network(target: Target, mask: &Mask, geometry: &VolumeGeometry, asked: &Asked) -> Finding {
    let (name, (_, code)) = (target.name(), target.codes());
    let (presence, text) = if mask.count() == 0 {
        let text = format!("{name} not segmented: the network drew nothing. There may be one.");
        (Presence::Unknown, text)
    } else {
        (Presence::Possible, told(name, mask, geometry))
    };
    Finding { code, site: None, presence, text: format!("{text} {}", asked.whose()) }
}

/// The first of what was measured: volume or area.
fn told(name: &str, mask: &Mask, geometry: &VolumeGeometry) -> String {
    let first = measured(mask, geometry).into_iter().next();
    let told = |it: domain::Measurement| {
        let unit = it.unit.value.trim_matches(['{', '}']);
        format!("{} of {name}: {:.1} {unit}.", it.code.meaning, it.value)
    };
    first.map(told).unwrap_or_default()
}

export_plugin!(Outline);

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
            (serde_json::json!({"agree": 0.8}), "bone, lung or body"),
            (serde_json::json!({"agree": 1.2, "targets": ["bone"]}), "from 0 to 1"),
            (serde_json::json!({"method": "threshold", "targets": ["liver"]}), "method: network"),
        ] {
            let told = network(more).unwrap_err().to_string();
            assert!(told.contains(reason), "{reason}: {told}");
        }
    }
}
