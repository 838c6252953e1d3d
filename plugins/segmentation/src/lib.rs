//! Outlines structures in CT volumes and measures them.
//!
//! ```yaml
//! bones: { plugin: segmentation, with: { method: threshold, targets: [bone] } }
//! ```
//!
//! `method: threshold` works on Hounsfield units alone. Each target is defined here, and nowhere
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
//! Every CT series that is a regular stack is worked on. If none is, the input is rejected as
//! `geometry_inconsistent` (or `pixels_undecodable`), and the reason names what is wrong with which
//! series: nothing is measured on a guess.

use std::collections::BTreeMap;

use domain::{
    Algorithm, Code, Finding, Measurement, NodeInput, NodeOutput, Presence, Segment, Segmentation,
    SeriesInput, SeriesInstanceUid,
};
use imaging::Mask;
use imaging::components::{Connectivity, components, fill_holes, keep, keep_large};
use plugin_api::{Context, HostError, Level, NodeError, Plugin, VolumeRef, export_plugin};
use serde::Deserialize;

/// CT Image Storage. Other classes of the modality CT are localizers or multi-frame.
const CT_IMAGE_STORAGE: &str = "1.2.840.10008.5.1.4.1.1.2";

/// Smallest part of bone, in voxels.
const BONE_VOXELS_MIN: usize = 64;

/// Smallest part of lung, in mL.
const LUNG_MILLILITRES_MIN: f64 = 1.0;

/// Outlines structures.
pub struct Outline;

/// What a workflow sets under `with:`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// How to outline.
    pub method: Method,
    /// What to outline.
    pub targets: Vec<Target>,
}

/// How to outline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// By Hounsfield units.
    Threshold,
}

/// What to outline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// Bone.
    Bone,
    /// Air-filled lung.
    Lung,
    /// The patient.
    Body,
}

impl Target {
    const fn name(self) -> &'static str {
        match self {
            Self::Bone => "bone",
            Self::Lung => "lung",
            Self::Body => "body",
        }
    }

    /// Category and type, CID 7150 and 7151 and wider (OUT-14).
    fn codes(self) -> (Code, Code) {
        let tissue = Code::new("85756007", "SCT", "Tissue");
        let structure = Code::new("91723000", "SCT", "Anatomical Structure");
        match self {
            Self::Bone => (tissue, Code::new("272673000", "SCT", "Bone")),
            Self::Lung => (structure, Code::new("39607008", "SCT", "Lung")),
            Self::Body => (structure, Code::new("38266002", "SCT", "Entire body")),
        }
    }

    const fn range(self) -> (f32, f32) {
        match self {
            Self::Bone => (300.0, f32::MAX),
            Self::Lung => (-950.0, -400.0),
            Self::Body => (-300.0, f32::MAX),
        }
    }

    fn mask(self, volume: &VolumeRef<'_>) -> Mask {
        let (low, high) = self.range();
        let all = Mask::of(&volume.geometry, volume.values, |hu| low <= hu && hu <= high);
        let parts = match self {
            Self::Bone => keep_large(&all, Connectivity::TwentySix, BONE_VOXELS_MIN),
            Self::Lung => {
                let [rows, columns] = volume.geometry.pixel_spacing;
                let voxel = rows * columns * volume.geometry.slice_spacing / 1000.0;
                let parts = components(&all, Connectivity::TwentySix);
                let is_lung = |part: &&imaging::components::Component| {
                    !part.touches_edge && part.voxels.len() as f64 * voxel >= LUNG_MILLILITRES_MIN
                };
                keep(&all, parts.iter().filter(is_lung))
            }
            Self::Body => {
                let parts = components(&all, Connectivity::TwentySix);
                keep(&all, parts.iter().max_by_key(|it| it.voxels.len()).into_iter())
            }
        };
        fill_holes(&parts)
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
        let is_ct = |it: &&SeriesInput| {
            it.instances.iter().any(|it| it.sop_class.as_str() == CT_IMAGE_STORAGE)
        };
        let series: Vec<&SeriesInput> = study.series.iter().filter(is_ct).collect();
        if series.is_empty() {
            let reason = format!("none of {} series is a CT", study.series.len());
            return Err(NodeError::rejected("no_ct_series", reason));
        }
        let mut output = NodeOutput::default();
        let mut problems = Problems::default();
        for (index, series) in series.iter().enumerate() {
            context.progress(index as f64 / series_count(&study.series));
            match context.read_volume(&series.series) {
                Ok(volume) => outline(context, settings, &series.series, &volume, &mut output)?,
                Err(HostError::Rejected(reason)) => problems.add(&series.series, &reason),
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

fn series_count(series: &[SeriesInput]) -> f64 {
    series.len().max(1) as f64
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

fn outline(
    context: &Context<'_>,
    settings: &Settings,
    series: &SeriesInstanceUid,
    volume: &VolumeRef<'_>,
    output: &mut NodeOutput,
) -> Result<(), NodeError> {
    let mut segments = Vec::new();
    for target in &settings.targets {
        let mask = target.mask(volume);
        let (category, kind) = target.codes();
        output.findings.push(finding(*target, &kind, &mask, volume));
        if mask.count() == 0 {
            continue;
        }
        let kept = context.put_artifact(&mask.packed());
        segments.push(Segment {
            label: target.name().to_owned(),
            category,
            kind,
            tracking_id: format!("{} {series}", target.name()),
            mask: kept.map_err(|it| it.into_node_error("mask_too_large"))?,
            voxels: mask.count(),
            measurements: vec![volume_of(mask.millilitres(&volume.geometry))],
        });
    }
    if !segments.is_empty() {
        let (series, geometry) = (series.clone(), volume.geometry.clone());
        let algorithm = algorithm(settings);
        output.segmentations.push(Segmentation { series, geometry, segments, algorithm });
    }
    Ok(())
}

fn volume_of(millilitres: f64) -> Measurement {
    Measurement {
        code: Code::new("118565006", "SCT", "Volume"),
        value: millilitres,
        unit: Code::new("mL", "UCUM", "milliliter"),
    }
}

fn finding(target: Target, kind: &Code, mask: &Mask, volume: &VolumeRef<'_>) -> Finding {
    let name = target.name();
    let (presence, text) = if mask.count() == 0 {
        (Presence::Absent, format!("No {name} found by threshold."))
    } else {
        let millilitres = mask.millilitres(&volume.geometry);
        (Presence::Present, format!("Volume of {name}: {millilitres:.1} mL."))
    };
    Finding { code: kind.clone(), site: None, presence, text }
}

fn algorithm(settings: &Settings) -> Algorithm {
    let ranges = settings.targets.iter().map(|target| {
        let (low, high) = target.range();
        let range = if high > 1e9 { format!(">= {low} HU") } else { format!("{low} to {high} HU") };
        (target.name().to_owned(), range)
    });
    Algorithm {
        name: "Isocenter threshold segmentation".to_owned(),
        version: Outline::VERSION.to_owned(),
        parameters: ranges.collect::<BTreeMap<_, _>>(),
    }
}

export_plugin!(Outline);
