//! Outlines all targets in one subject, by threshold or by network, and measures them.

use domain::{
    Algorithm, Finding, Measurement, NodeOutput, Presence, Segment, Segmentation, VolumeGeometry,
};
use imaging::Mask;
use imaging::measurement::measure;
use imaging::window::Window;
use plugin_api::{Context, NodeError, Plugin as _};
use plugin_toolkit::progress::ProgressSpan;

use crate::Outline;
use crate::agreement::Agreement;
use crate::network::{self, NetworkOutline, ShownPages};
use crate::rejection::Reason;
use crate::settings::{Method, NetworkSettings};
use crate::subject::{Pixels, Subject};
use crate::target::Target;
use crate::threshold;

/// Findings and segments of one subject.
#[derive(Default)]
struct Outlines {
    findings: Vec<Finding>,
    segments: Vec<Segment>,
}

impl Outlines {
    fn into_output(self, algorithm: Algorithm, subject: &Subject<'_>) -> NodeOutput {
        let mut output = NodeOutput { findings: self.findings, ..NodeOutput::default() };
        if !self.segments.is_empty() {
            output.segmentations.push(Segmentation {
                series: subject.series.series.clone(),
                geometry: subject.geometry.clone(),
                segments: self.segments,
                algorithm,
            });
        }
        output
    }
}

/// Outlines all targets in a subject. `span` is the part of the work that this is.
pub(crate) fn outline(
    context: &Context<'_>,
    method: &Method,
    subject: &Subject<'_>,
    span: ProgressSpan,
) -> Result<NodeOutput, NodeError> {
    match method {
        Method::Threshold { .. } => by_threshold(context, &method.targets(), subject),
        Method::Network(settings) => by_network(context, settings, subject, span),
    }
}

/// Outlines targets by Hounsfield units. A single image has none, so nothing is outlined in it.
fn by_threshold(
    context: &Context<'_>,
    targets: &[Target],
    subject: &Subject<'_>,
) -> Result<NodeOutput, NodeError> {
    let mut outlines = Outlines::default();
    if let Pixels::Volume(volume) = &subject.pixels {
        for target in targets {
            let mask = threshold::mask(*target, volume);
            outlines.findings.push(threshold_finding(*target, &mask, &subject.geometry));
            outlines.segments.extend(segment(context, *target, &mask, subject)?);
        }
    }
    Ok(outlines.into_output(threshold::algorithm(targets, Outline::VERSION), subject))
}

fn by_network(
    context: &Context<'_>,
    settings: &NetworkSettings,
    subject: &Subject<'_>,
    span: ProgressSpan,
) -> Result<NodeOutput, NodeError> {
    let mut outlines = Outlines::default();
    let mut drawn: Vec<NetworkOutline> = Vec::new();
    let mut agreements: Vec<Agreement> = Vec::new();
    for (index, target) in settings.targets.iter().enumerate() {
        let step = span.step(index, settings.targets.len());
        let pages = shown_pages(settings, *target, subject);
        let mut outline =
            network::outline(context, *target, settings, &subject.geometry, &pages, step)?;
        outline.mask = subject.without_padding(outline.mask);
        let mut finding = network_finding(&outline, &subject.geometry);
        if let Some(agreement) = agreement(settings, *target, &outline.mask, subject) {
            finding.text.extend(agreement.doubt());
            agreements.push(agreement);
        }
        outlines.findings.push(finding);
        outlines.segments.extend(segment(context, *target, &outline.mask, subject)?);
        if drawn.last().is_some_and(|it| it.model != outline.model) {
            let reason = "the model was exchanged for another between two targets";
            return Err(NodeError::Unavailable(reason.to_owned()));
        }
        drawn.push(outline);
    }
    let mut algorithm = network::algorithm(&drawn, Outline::VERSION);
    for agreement in &agreements {
        agreement.add_to(&mut algorithm);
    }
    Ok(outlines.into_output(algorithm, subject))
}

/// How a subject is shown to the model: CT in a window that suits the target, other slices from
/// their darkest to their brightest hundredth, images as their files state.
fn shown_pages<'a>(
    settings: &NetworkSettings,
    target: Target,
    subject: &'a Subject<'a>,
) -> ShownPages<'a> {
    match &subject.pixels {
        Pixels::Image { picture, .. } => ShownPages::Image(picture),
        Pixels::Volume(volume) if subject.is_ct() => ShownPages::Slices {
            values: volume.values,
            window: settings.window.unwrap_or_else(|| target.window()),
        },
        Pixels::Volume(volume) => {
            ShownPages::Slices { values: volume.values, window: Window::over(volume.values) }
        }
    }
}

/// The agreement with Hounsfield units, if the workflow asks for it and they distinguish the
/// target.
fn agreement(
    settings: &NetworkSettings,
    target: Target,
    mask: &Mask,
    subject: &Subject<'_>,
) -> Option<Agreement> {
    let dice_min = settings.agree?;
    let Pixels::Volume(volume) = &subject.pixels else { return None };
    if !subject.is_ct() {
        return None;
    }
    Agreement::of(target, mask, volume, dice_min)
}

/// The segment of a target; nothing if its mask is empty.
fn segment(
    context: &Context<'_>,
    target: Target,
    mask: &Mask,
    subject: &Subject<'_>,
) -> Result<Option<Segment>, NodeError> {
    if mask.count() == 0 {
        return Ok(None);
    }
    let codes = target.codes();
    let reference = context
        .put_artifact(&mask.packed())
        .map_err(|error| error.into_node_error(Reason::MaskTooLarge))?;
    Ok(Some(Segment {
        label: target.name().to_owned(),
        category: codes.category,
        kind: codes.kind,
        tracking_id: format!("{} {}", target.name(), subject.uid()),
        mask: reference,
        voxels: mask.count(),
        is_edited: false,
        measurements: measure(mask, &subject.geometry),
        key: 0,
    }))
}

/// The finding of a target by threshold: an empty mask means that the target is absent.
fn threshold_finding(target: Target, mask: &Mask, geometry: &VolumeGeometry) -> Finding {
    let name = target.name();
    let is_absent = mask.count() == 0;
    Finding {
        code: target.codes().kind,
        site: None,
        laterality: None,
        presence: if is_absent { Presence::Absent } else { Presence::Present },
        text: if is_absent {
            format!("No {name} found by threshold.")
        } else {
            size_text(name, mask, geometry)
        },
    }
}

/// The finding of a target by network: what was drawn may be the target, and an empty mask says
/// nothing about what is there (PAP-06).
fn network_finding(outline: &NetworkOutline, geometry: &VolumeGeometry) -> Finding {
    let name = outline.target.name();
    let is_empty = outline.mask.count() == 0;
    let text = if is_empty {
        format!("{name} not segmented: the network drew nothing. There may be one.")
    } else {
        size_text(name, &outline.mask, geometry)
    };
    Finding {
        code: outline.target.codes().kind,
        site: None,
        laterality: None,
        presence: if is_empty { Presence::Unknown } else { Presence::Possible },
        text: format!("{text} {}", outline.attribution()),
    }
}

/// The first measurement of a mask as a sentence: its volume or area.
fn size_text(name: &str, mask: &Mask, geometry: &VolumeGeometry) -> String {
    let Some(Measurement { code, value, unit }) = measure(mask, geometry).into_iter().next() else {
        return String::new();
    };
    let unit = unit.value.trim_matches(['{', '}']);
    format!("{} of {name}: {value:.1} {unit}.", code.meaning)
}
