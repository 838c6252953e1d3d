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
//! what is asked, `{target}` in it the target; `tokens_max` how long an answer may be. Where nothing is
//! drawn, the result says so, and not that there is none (PAP-06).
//!
//! Every series that is a regular stack is worked on. If none is, the input is rejected as
//! `geometry_inconsistent` (or `pixels_undecodable`), and the reason names what is wrong with which
//! series: nothing is measured on a guess.

mod network;
mod target;
mod threshold;

use domain::{
    Algorithm, Code, Finding, Measurement, NodeInput, NodeOutput, Presence, Segment, Segmentation,
    SeriesInput, SeriesInstanceUid,
};
use imaging::Mask;
use plugin_api::{Context, HostError, Level, NodeError, Plugin, VolumeRef, export_plugin};
use serde::Deserialize;

use crate::network::{Asked, PROMPT, View};
pub use crate::target::{Target, Window};

/// CT Image Storage. Other classes of the modality CT are localizers or multi-frame.
const CT_IMAGE_STORAGE: &str = "1.2.840.10008.5.1.4.1.1.2";

/// MR Image Storage.
const MR_IMAGE_STORAGE: &str = "1.2.840.10008.5.1.4.1.1.4";

/// Outlines structures.
pub struct Outline;

/// What a workflow sets under `with:`.
#[derive(Debug, Deserialize)]
#[serde(tag = "method", rename_all = "lowercase", deny_unknown_fields)]
pub enum Settings {
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
    },
}

/// A target that Hounsfield units tell.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "Target")]
pub struct OfThreshold(Target);

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
        let study =
            input.study.ok_or_else(|| NodeError::rejected("no_study", "there is no study"))?;
        let series: Vec<&SeriesInput> =
            study.series.iter().filter(|it| settings.takes(it)).collect();
        if series.is_empty() {
            let reason = format!("none of {} series is {}", study.series.len(), settings.wanted());
            return Err(NodeError::rejected(settings.lacking(), reason));
        }
        let mut output = NodeOutput::default();
        let mut problems = Problems::default();
        for (index, it) in series.iter().enumerate() {
            let at = |share: f64| (index as f64 + share) / series.len() as f64;
            context.progress(at(0.0));
            match context.read_volume(&it.series) {
                Ok(volume) => {
                    let seen = Seen { series: it, volume: &volume };
                    outline(context, settings, &seen, &at, &mut output)?;
                }
                Err(HostError::Rejected(reason)) => problems.add(&it.series, &reason),
                Err(HostError::Unavailable(reason)) => return Err(NodeError::Unavailable(reason)),
            }
            if context.is_cancelled() {
                return Err(NodeError::Unavailable("the run was cancelled".to_owned()));
            }
        }
        problems.log(context);
        if output.findings.is_empty() { Err(problems.into_error()) } else { Ok(output) }
    }
}

impl Settings {
    /// Whether it works on such a series.
    fn takes(&self, series: &SeriesInput) -> bool {
        let has = |class: &str| series.instances.iter().any(|it| it.sop_class.as_str() == class);
        has(CT_IMAGE_STORAGE) || matches!(self, Self::Network { .. }) && has(MR_IMAGE_STORAGE)
    }

    const fn wanted(&self) -> &'static str {
        match self {
            Self::Threshold { .. } => "a CT",
            Self::Network { .. } => "a CT or MR",
        }
    }

    const fn lacking(&self) -> &'static str {
        match self {
            Self::Threshold { .. } => "no_ct_series",
            Self::Network { .. } => "no_volume_series",
        }
    }
}

/// A series and its voxels.
struct Seen<'a> {
    series: &'a SeriesInput,
    volume: &'a VolumeRef<'a>,
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
    settings: &Settings,
    seen: &Seen<'_>,
    at: &dyn Fn(f64) -> f64,
    output: &mut NodeOutput,
) -> Result<(), NodeError> {
    let mut segments = Vec::new();
    let algorithm = match settings {
        Settings::Threshold { targets } => {
            let targets: Vec<Target> = targets.iter().map(|it| it.0).collect();
            for target in &targets {
                let mask = threshold::mask(*target, seen.volume);
                output.findings.push(finding(*target, &mask, seen.volume, absent(*target)));
                segments.extend(segment(context, *target, &mask, seen)?);
            }
            threshold::algorithm(&targets, Outline::VERSION)
        }
        Settings::Network { targets, .. } => {
            let mut all = Vec::new();
            for (index, target) in targets.iter().enumerate() {
                let part = |share: f64| at((index as f64 + share) / targets.len() as f64);
                let (mask, asked) = by_network(context, settings, *target, seen, &part)?;
                let said = finding(*target, &mask, seen.volume, not_segmented(*target));
                output.findings.push(said);
                segments.extend(segment(context, *target, &mask, seen)?);
                all.push(asked);
            }
            network::algorithm(&all, Outline::VERSION)
        }
    };
    put(segments, algorithm, seen, output);
    Ok(())
}

fn by_network(
    context: &Context<'_>,
    settings: &Settings,
    target: Target,
    seen: &Seen<'_>,
    part: &dyn Fn(f64) -> f64,
) -> Result<(Mask, Asked), NodeError> {
    let (window, prompt, tokens_max) = match settings {
        Settings::Network { window, prompt, tokens_max, .. } => {
            (*window, prompt.as_deref(), *tokens_max)
        }
        Settings::Threshold { .. } => (None, None, None),
    };
    let is_ct = seen.series.instances.iter().any(|it| it.sop_class.as_str() == CT_IMAGE_STORAGE);
    let window = match window {
        _ if !is_ct => network::spread(seen.volume.values),
        Some(window) => window,
        None => target.window(),
    };
    let view = View { prompt: prompt.unwrap_or(PROMPT), tokens_max, window };
    network::drawn(context, target, &view, seen.volume, &|share| context.progress(part(share)))
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
        tracking_id: format!("{} {}", target.name(), seen.series.series),
        mask: kept.map_err(|it| it.into_node_error("mask_too_large"))?,
        voxels: mask.count(),
        measurements: vec![volume_of(mask.millilitres(&seen.volume.geometry))],
    }))
}

fn put(segments: Vec<Segment>, algorithm: Algorithm, seen: &Seen<'_>, output: &mut NodeOutput) {
    if !segments.is_empty() {
        let (series, geometry) = (seen.series.series.clone(), seen.volume.geometry.clone());
        output.segmentations.push(Segmentation { series, geometry, segments, algorithm });
    }
}

fn volume_of(millilitres: f64) -> Measurement {
    Measurement {
        code: Code::new("118565006", "SCT", "Volume"),
        value: millilitres,
        unit: Code::new("mL", "UCUM", "milliliter"),
    }
}

/// What is said of a target: `otherwise`, if nothing was outlined.
fn finding(
    target: Target,
    mask: &Mask,
    volume: &VolumeRef<'_>,
    otherwise: (Presence, String),
) -> Finding {
    let (name, (_, code)) = (target.name(), target.codes());
    let (presence, text) = if mask.count() == 0 {
        otherwise
    } else {
        let millilitres = mask.millilitres(&volume.geometry);
        (Presence::Present, format!("Volume of {name}: {millilitres:.1} mL."))
    };
    Finding { code, site: None, presence, text }
}

/// Where no Hounsfield units are those of a target, there is none.
fn absent(target: Target) -> (Presence, String) {
    (Presence::Absent, format!("No {} found by threshold.", target.name()))
}

/// That a network draws nothing says nothing of what is there (PAP-06).
fn not_segmented(target: Target) -> (Presence, String) {
    let name = target.name();
    let text = format!("{name} not segmented: the network drew nothing. There may be one.");
    (Presence::Unknown, text)
}

export_plugin!(Outline);
