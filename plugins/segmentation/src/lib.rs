//! Outlines structures in volumes and images, and measures them.
//!
//! ```yaml
//! bones: { plugin: segmentation, with: { method: threshold, targets: [bone] } }
//! liver: { plugin: segmentation, with: { method: network, targets: [liver, spleen] } }
//! ```
//!
//! **`method: threshold`** works on the Hounsfield units of CT. Each target is defined here, and
//! nowhere else:
//!
//! | target | Hounsfield units | connected parts (26 neighbours) | then |
//! |---|---|---|---|
//! | `bone` | at least 300 | of at least 64 voxels | holes filled |
//! | `lung` | -950 to -400 | of at least 1 mL that do not touch the edge of a slice | holes filled |
//! | `body` | at least -300 | the largest | holes filled |
//!
//! **Objects.** Whether a target is countable is a property of the target (`known_target.rs`): bone or
//! liver is one structure, lesions and kidneys are several. Each object of a countable target is a
//! finding and a segment of its own, with its own measurements and tracking UID: each `[SEG]` of the
//! network, and each connected part of it (`imaging::objects`). Lungs, kidneys and femurs are named by
//! their side, which comes from the coordinates of the patient (`imaging::laterality`); objects of one
//! name are numbered, the largest first. Long and short axis are of one slice (RECIST 1.1;
//! `imaging::measurement`).
//!
//! A hole is background from which no path through voxel faces leads out of the volume; the first
//! and the last slice are open. A volume is the number of voxels x row spacing x column spacing x
//! distance of slices along their normal (DIN-82). Arms of a table count as body if they touch it.
//!
//! **`method: network`** shows the shared model every slice of CT and MR, in the order of the
//! patient, and asks for each target; the masks of its answers are the outline (PAP-05).
//! Radiographs, ultrasound and photographs are shown one by one, as their files state.
//!
//! - **Radiographs** (CR, DX, MG, RF, XA) are outlined for research, and hidden: the outlines stay with
//!   the run (`isocenter run show`), and are in no finding, report or review; a comment says so.
//!   `radiographs: shown` makes them findings. The published Dice of the model on them is below 0.15.
//! - CT is shown in a window that suits the target, or in `window: { center: 40, width: 400 }`; a slice
//!   of MR in the first window or table of its file, and one whose file states none from the darkest to
//!   the brightest hundredth of the volume.
//! - `prompt` replaces the prompt of the model's release; `{target}` in it stands for the target.
//!   `tokens_max` is the upper bound of an answer.
//! - A target is a known name (`known_target.rs`), any other text of up to 40 characters, which carries
//!   a local code, or `{ name: polyp, countable: true, sides: false }`.
//! - Parts of a countable target that are smaller than `smallest_ml` (default 0.01 mL for lesions, 1 mL
//!   for organs), in a single image than `smallest_percent` of its pixels (default 0.01), are noise. At
//!   most `objects_max` objects of a target (default 20) are reported. A comment tells what was left
//!   out.
//! - A target that was drawn is reported as possible. A target that was not drawn is reported as
//!   unknown, and never as absent (PAP-06).
//! - A truncated answer, or one without a mask for every `[SEG]`, is rejected.
//! - Every slice is one question per target: give the node a `timeout` that suits (default 10
//!   minutes).
//! - `agree: 0.8` compares the outline on CT with `method: threshold`, for the targets that it
//!   knows. The Dice coefficient is recorded with the algorithm; below the bound, the finding says
//!   so.
//!
//! Every series that is a regular stack is worked on. If none is, the input is rejected as
//! `geometry_inconsistent`, `pixels_undecodable` (a CT without Hounsfield units too) or
//! `several_frames` (or `no_series_to_outline`, if it has only images of another kind, such as PET,
//! OCT or slides of pathology; the table in `plugins/README.md` has every class), and the reason names the problems of each series: nothing is measured
//! on a guess. If some are, a comment names the series that were not looked at, but for localizers.
//! Padding is in no outline.

mod agreement;
mod known_target;
mod network;
mod object;
mod outline;
mod rejection;
mod series_problem;
mod settings;
mod subject;
mod target;
mod threshold;

use domain::{Code, NodeInput, NodeOutput, Section, SeriesInput};
use imaging::SliceError;
use plugin_api::{Context, HostError, NodeError, Plugin, export_plugin};
use plugin_toolkit::picture::QuestionPictureError;
use plugin_toolkit::progress::ProgressSpan;
use plugin_toolkit::selection::images_in_order;

use crate::outline::outline;
use crate::rejection::Reason;
use crate::series_problem::{ProblemKind, SeriesProblems};
pub use crate::settings::{Method, NetworkSettings, Radiographs, Settings, ThresholdTarget};
use crate::subject::{Refusal, Subject, is_of_radiographs, is_of_single_images};
pub use crate::target::{SegmentCodes, Target};

/// The plugin.
pub struct Outline;

impl Plugin for Outline {
    const NAME: &'static str = "segmentation";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    type Settings = Settings;

    fn process(
        context: &Context<'_>,
        settings: &Settings,
        input: NodeInput,
    ) -> Result<NodeOutput, NodeError> {
        let method = settings.method();
        let study =
            input.study.ok_or_else(|| NodeError::rejected(Reason::NoStudy, "there is no study"))?;
        let accepted: Vec<&SeriesInput> =
            study.series.iter().filter(|it| method.accepts(it)).collect();
        let mut output = NodeOutput::default();
        let mut problems = SeriesProblems::default();
        for series in study.series.iter().filter(|it| !method.accepts(it)) {
            if let Some(refusal) = method.refusal(series) {
                problems.add(&series.series, refusal.kind, &refusal.reason);
            }
        }
        if accepted.is_empty() && problems.is_empty() {
            return Err(no_series(method, study.series.len()));
        }
        for (index, series) in accepted.iter().enumerate() {
            let span = ProgressSpan::WHOLE.step(index, accepted.len());
            span.report(context, 0.0);
            let mut outlined = outline_series(context, method, series, span, &mut problems)?;
            if is_hidden(method, series) {
                outlined = hidden(outlined, series);
            }
            output.add(outlined);
            if context.is_cancelled() {
                return Err(NodeError::Unavailable("the run was cancelled".to_owned()));
            }
        }
        problems.log(context);
        if output.findings.is_empty() && output.sections.is_empty() {
            return Err(problems.into_rejection());
        }
        output.sections.extend(problems.remarks());
        Ok(output)
    }
}

/// Whether outlines in a series are for research only.
fn is_hidden(method: &Method, series: &SeriesInput) -> bool {
    match method {
        Method::Threshold { .. } => false,
        Method::Network(settings) => match settings.radiographs {
            Radiographs::Hidden => is_of_radiographs(series),
            Radiographs::Shown => false,
        },
    }
}

/// The outlines of a series without findings: they stay with the run, and a comment says so. Nothing,
/// if none of its images could be looked at.
fn hidden(outlined: NodeOutput, series: &SeriesInput) -> NodeOutput {
    let mut output = NodeOutput::default();
    if outlined.findings.is_empty() {
        return output;
    }
    output.segmentations = outlined.segmentations;
    output.segmentations.iter_mut().for_each(|it| it.is_hidden = true);
    let text = format!(
        "Outlined for research only, and not shown: series {}, radiographs ({}).",
        series.series, series.modality
    );
    output.sections.push(Section { title: Code::new("121106", "DCM", "Comment"), text });
    output
}

/// The rejection of a study of which the method accepts no series.
fn no_series(method: &Method, series_count: usize) -> NodeError {
    match method {
        Method::Threshold { .. } => NodeError::rejected(
            Reason::NoCtSeries,
            format!("none of {series_count} series is a CT"),
        ),
        Method::Network(_) => NodeError::rejected(
            Reason::NoSeriesToOutline,
            format!("none of {series_count} series is CT, MR or of single images"),
        ),
    }
}

/// Outlines all targets in a series: as a volume, or in each of its images.
fn outline_series(
    context: &Context<'_>,
    method: &Method,
    series: &SeriesInput,
    span: ProgressSpan,
    problems: &mut SeriesProblems,
) -> Result<NodeOutput, NodeError> {
    let is_network = matches!(method, Method::Network(_));
    if is_network && is_of_single_images(series) {
        return outline_images(context, method, series, span, problems);
    }
    match context.read_volume(&series.series) {
        Ok(volume) => outline(context, method, &Subject::of_volume(series, volume), span),
        Err(HostError::Rejected { kind, reason }) => {
            problems.add(&series.series, kind.into(), &reason);
            Ok(NodeOutput::default())
        }
        Err(HostError::Unavailable(reason)) => Err(NodeError::Unavailable(reason)),
    }
}

/// Outlines all targets in each image of a series.
fn outline_images(
    context: &Context<'_>,
    method: &Method,
    series: &SeriesInput,
    span: ProgressSpan,
    problems: &mut SeriesProblems,
) -> Result<NodeOutput, NodeError> {
    let images = images_in_order([series]);
    let mut output = NodeOutput::default();
    for (index, image) in images.iter().enumerate() {
        let instance = &image.instance.instance;
        if let Some(refusal) = Refusal::of_image(image.instance.sop_class.as_str()) {
            let reason = format!("instance {instance}: {}", refusal.reason);
            problems.add(&series.series, refusal.kind, &reason);
            continue;
        }
        let file = context
            .read_instance(instance)
            .map_err(|error| error.into_node_error(Reason::NoImage))?;
        match Subject::of_image(series, instance, file) {
            Ok(subject) => {
                let step = span.step(index, images.len());
                output.add(outline(context, method, &subject, step)?);
            }
            Err(error) => {
                let reason = format!("instance {instance}: {error}");
                problems.add(&series.series, problem_kind(&error), &reason);
            }
        }
    }
    Ok(output)
}

/// The fault of an image that cannot be shown.
const fn problem_kind(error: &QuestionPictureError) -> ProblemKind {
    match error {
        QuestionPictureError::Rendering(SliceError::SeveralFrames) => ProblemKind::SeveralFrames,
        QuestionPictureError::Rendering(_) | QuestionPictureError::Encoding(_) => {
            ProblemKind::Undecodable
        }
    }
}

export_plugin!(Outline);

#[cfg(test)]
mod tests {
    use domain::{Algorithm, Finding, Presence, Segmentation, VolumeGeometry};
    use serde_json::json;

    use super::*;

    fn series(modality: &str) -> SeriesInput {
        let modality = modality.to_owned();
        SeriesInput { series: "1.2".parse().unwrap(), modality, instances: Vec::new() }
    }

    fn network(radiographs: Option<&str>) -> Settings {
        let mut settings = json!({"method": "network", "targets": ["lung"]});
        if let Some(radiographs) = radiographs {
            settings["radiographs"] = json!(radiographs);
        }
        serde_json::from_value(settings).unwrap()
    }

    #[test]
    fn pap_05_outlines_in_radiographs_are_hidden_unless_a_workflow_shows_them() {
        let usual = network(None);
        let shown = network(Some("shown"));
        for modality in ["CR", "DX", "MG", "RF", "XA"] {
            assert!(is_hidden(usual.method(), &series(modality)), "{modality}");
            assert!(!is_hidden(shown.method(), &series(modality)), "{modality}");
        }
        for modality in ["CT", "MR", "US", "OP"] {
            assert!(!is_hidden(usual.method(), &series(modality)), "{modality}");
        }
    }

    #[test]
    fn pap_05_what_is_hidden_is_no_finding_and_is_told() {
        let finding = Finding {
            code: Code::new("39607008", "SCT", "Lung"),
            site: None,
            laterality: None,
            presence: Presence::Possible,
            change: None,
            text: "Area of lung: 12.0 pixels.".to_owned(),
        };
        let geometry = VolumeGeometry {
            rows: 2,
            columns: 2,
            pixel_spacing: None,
            space: None,
            instances: vec!["1.2.1".parse().unwrap()],
            sop_class: "1.2.840.10008.5.1.4.1.1.1".parse().unwrap(),
            lossy: false,
        };
        let algorithm =
            Algorithm { name: String::new(), version: String::new(), parameters: [].into() };
        let outlined = NodeOutput {
            findings: vec![finding],
            segmentations: vec![Segmentation {
                series: "1.2".parse().unwrap(),
                geometry,
                segments: Vec::new(),
                algorithm,
                is_hidden: false,
            }],
            ..NodeOutput::default()
        };
        let output = hidden(outlined, &series("CR"));
        assert!(output.findings.is_empty() && output.segmentations[0].is_hidden);
        assert!(output.sections[0].text.contains("for research only"));
        assert_eq!(hidden(NodeOutput::default(), &series("CR")), NodeOutput::default());
    }
}
