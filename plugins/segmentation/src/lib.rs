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
//! - CT is shown in a window that suits the target, or in `window: { center: 40, width: 400 }`; MR
//!   from its darkest to its brightest hundredth.
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
//! `several_frames`, and the reason names the problems of each series: nothing is measured on a
//! guess. If some are, a comment names the series that were not looked at, but for localizers.
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

use domain::{NodeInput, NodeOutput, SeriesInput};
use plugin_api::{Context, HostError, NodeError, Plugin, export_plugin};
use plugin_toolkit::progress::ProgressSpan;
use plugin_toolkit::selection::images_in_order;

use crate::outline::outline;
use crate::rejection::Reason;
use crate::series_problem::{ProblemKind, SeriesProblems};
pub use crate::settings::{Method, NetworkSettings, Settings, ThresholdTarget};
use crate::subject::{Subject, is_of_single_images};
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
            if let Some(name) = method.multi_frame_name(series) {
                let reason = format!("{name}, several frames: not outlined yet");
                problems.add(&series.series, ProblemKind::SeveralFrames, &reason);
            }
        }
        if accepted.is_empty() && problems.is_empty() {
            return Err(no_series(method, study.series.len()));
        }
        for (index, series) in accepted.iter().enumerate() {
            let span = ProgressSpan::WHOLE.step(index, accepted.len());
            span.report(context, 0.0);
            output.add(outline_series(context, method, series, span, &mut problems)?);
            if context.is_cancelled() {
                return Err(NodeError::Unavailable("the run was cancelled".to_owned()));
            }
        }
        problems.log(context);
        if output.findings.is_empty() {
            return Err(problems.into_rejection());
        }
        output.sections.extend(problems.remarks());
        Ok(output)
    }
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
                problems.add(&series.series, ProblemKind::Undecodable, &reason);
            }
        }
    }
    Ok(output)
}

export_plugin!(Outline);
