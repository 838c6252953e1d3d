//! Outlines all targets in one subject, by threshold or by network, and measures each object.

use domain::{
    Algorithm, Code, Finding, Laterality, Measurement, NodeOutput, Presence, Section, Segment,
    Segmentation,
};
use imaging::Mask;
use imaging::components::{Connectivity, components};
use imaging::measurement::measure;
use imaging::objects::objects;
use imaging::window::Window;
use plugin_api::{Context, NodeError, Plugin as _, VolumeRef};
use plugin_toolkit::progress::ProgressSpan;

use crate::Outline;
use crate::agreement::Agreement;
use crate::known_target::Parts;
use crate::network::{self, NetworkOutline, ShownPages};
use crate::object::{Bounds, TargetObject, TargetObjects, midplane, sides_apart};
use crate::rejection::Reason;
use crate::settings::{Method, NetworkSettings};
use crate::subject::{Pixels, Subject};
use crate::target::Target;
use crate::threshold;

/// Share of the range of values above which a voxel of MR counts as tissue.
const TISSUE_SHARE: f32 = 0.1;

/// Findings and segments of one subject.
#[derive(Default)]
struct Outlines {
    findings: Vec<Finding>,
    segments: Vec<Segment>,
    /// What a reader must know beside the findings.
    remarks: Vec<String>,
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
                is_hidden: false,
            });
        }
        if !self.remarks.is_empty() {
            let title = Code::new("121106", "DCM", "Comment");
            output.sections.push(Section { title, text: self.remarks.join("\n") });
        }
        output
    }

    /// Adds the objects of a target, each with a finding and a segment.
    fn add(
        &mut self,
        context: &Context<'_>,
        outlined: &Outlined<'_>,
        subject: &Subject<'_>,
    ) -> Result<(), NodeError> {
        let Outlined { target, mask, found, presence, attribution } = outlined;
        for object in &found.objects {
            let mask = object.mask(mask);
            let measurements = measure(&mask, &subject.geometry);
            let text = size_text(object, &measurements, target.parts());
            self.findings.push(Finding {
                code: target.codes().kind,
                site: None,
                laterality: object.laterality,
                presence: *presence,
                change: None,
                text: format!("{text}{attribution}"),
            });
            self.segments.push(segment(context, target, object, &mask, measurements, subject)?);
        }
        self.remarks.extend(found.omissions.iter().cloned());
        if !target.is_coded() && !found.objects.is_empty() {
            let name = target.name();
            self.remarks.push(format!("{name}: not a coded term here, it carries a local code."));
        }
        Ok(())
    }
}

/// The objects of a target, as they are reported.
struct Outlined<'a> {
    target: &'a Target,
    /// The mask of the whole target.
    mask: &'a Mask,
    found: &'a TargetObjects,
    presence: Presence,
    /// The end of the text of each finding; empty, or a sentence after a blank.
    attribution: String,
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
            let Some(hounsfield) = target.hounsfield() else { continue };
            let mask = threshold::mask(hounsfield, volume);
            let found = threshold_objects(target, &mask, volume);
            if found.objects.is_empty() {
                outlines.findings.push(empty_finding(
                    target,
                    Presence::Absent,
                    &format!("No {} found by threshold.", target.name()),
                ));
            }
            let presence = Presence::Present;
            let attribution = String::new();
            let outlined = Outlined { target, mask: &mask, found: &found, presence, attribution };
            outlines.add(context, &outlined, subject)?;
        }
    }
    Ok(outlines.into_output(threshold::algorithm(targets, Outline::VERSION), subject))
}

/// The objects of a target by threshold: its connected parts, where it is countable.
fn threshold_objects(target: &Target, mask: &Mask, volume: &VolumeRef<'_>) -> TargetObjects {
    let bounds = Bounds::default();
    let Some(smallest) = bounds.smallest(target, &volume.geometry) else {
        return TargetObjects::whole(target, mask);
    };
    let parts = components(mask, Connectivity::TwentySix);
    let tissue = || threshold::tissue(volume);
    let midplane = midplane(target, &volume.geometry, tissue, mask);
    let side = |it: &[usize]| midplane.and_then(|plane| plane.side(&volume.geometry, it));
    let parts = sides_apart(parts, mask, &volume.geometry, midplane);
    TargetObjects::parts(target, parts, bounds, smallest, side)
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
        let pages = shown_pages(settings, target, subject);
        let mut outline =
            network::outline(context, target, settings, &subject.geometry, &pages, step)?;
        outline.mask = subject.without_padding(outline.mask);
        let found = network_objects(&outline, Bounds::of(settings), subject);
        let agreement = agreement(settings, target, &outline.mask, subject);
        add_network_outline(context, &mut outlines, &outline, &found, agreement.as_ref(), subject)?;
        agreements.extend(agreement);
        if drawn.last().is_some_and(|it| it.model != outline.model) {
            let reason = "the model was exchanged for another between two targets";
            return Err(NodeError::Unavailable(reason.to_owned()));
        }
        // The pixels are in the segments: only what names the algorithm is left to keep.
        outline.drawn.clear();
        drawn.push(outline);
    }
    let mut algorithm = network::algorithm(&drawn, Outline::VERSION);
    for target in &settings.targets {
        if let Some(smallest) = Bounds::of(settings).smallest(target, &subject.geometry) {
            let name = format!("{} smallest", target.name());
            algorithm.parameters.insert(name, smallest.text());
        }
    }
    for agreement in &agreements {
        agreement.add_to(&mut algorithm);
    }
    Ok(outlines.into_output(algorithm, subject))
}

/// Adds what the network drew of a target. What was drawn may be the target, and an empty mask says
/// nothing about what is there (PAP-06).
fn add_network_outline(
    context: &Context<'_>,
    outlines: &mut Outlines,
    outline: &NetworkOutline,
    found: &TargetObjects,
    agreement: Option<&Agreement>,
    subject: &Subject<'_>,
) -> Result<(), NodeError> {
    let NetworkOutline { target, mask, .. } = outline;
    let first = outlines.findings.len();
    let attribution = format!(" {}", outline.attribution());
    if found.objects.is_empty() {
        let name = target.name();
        let why = if mask.count() == 0 {
            "the network drew nothing"
        } else {
            "all that the network drew is smaller than an object"
        };
        let text = format!("{name} not segmented: {why}. There may be one.{attribution}");
        outlines.findings.push(empty_finding(target, Presence::Unknown, &text));
    }
    let presence = Presence::Possible;
    outlines.add(context, &Outlined { target, mask, found, presence, attribution }, subject)?;
    if let Some(finding) = outlines.findings.get_mut(first) {
        finding.text.extend(agreement.and_then(Agreement::doubt));
    }
    Ok(())
}

/// The objects of a target by network: one for each `[SEG]` and each of its connected parts, where the
/// target is countable.
fn network_objects(
    outline: &NetworkOutline,
    bounds: Bounds,
    subject: &Subject<'_>,
) -> TargetObjects {
    let NetworkOutline { target, mask, drawn, .. } = outline;
    let geometry = &subject.geometry;
    let Some(smallest) = bounds.smallest(target, geometry) else {
        return TargetObjects::whole(target, mask);
    };
    let midplane = match &subject.pixels {
        Pixels::Volume(volume) => midplane(target, geometry, || tissue(subject, volume), mask),
        Pixels::Image { .. } => None,
    };
    let side = |it: &[usize]| -> Option<Laterality> { midplane?.side(geometry, it) };
    let parts = sides_apart(objects(mask, drawn), mask, geometry, midplane);
    TargetObjects::parts(target, parts, bounds, smallest, side)
}

/// The tissue of a volume: by Hounsfield units on CT, what is not dark on MR.
fn tissue(subject: &Subject<'_>, volume: &VolumeRef<'_>) -> Mask {
    if subject.is_ct() {
        return threshold::tissue(volume);
    }
    let Window { center, width } = Window::over(volume.values);
    let darkest = center - width / 2.0;
    Mask::of(&volume.geometry, volume.values, |it| it > darkest + TISSUE_SHARE * width)
}

/// How a subject is shown to the model: CT in a window that suits the target, other slices and images
/// as their files state, and slices whose file states nothing from the darkest to the brightest
/// hundredth of the volume.
fn shown_pages<'a>(
    settings: &NetworkSettings,
    target: &Target,
    subject: &'a Subject<'a>,
) -> ShownPages<'a> {
    match &subject.pixels {
        Pixels::Image { picture, .. } => ShownPages::Image(picture),
        Pixels::Volume(volume) if subject.is_ct() => ShownPages::Slices {
            values: volume.values,
            window: settings.window.unwrap_or_else(|| target.window()),
        },
        Pixels::Volume(volume) => ShownPages::FiledSlices {
            values: volume.values,
            over_values: Window::over(volume.values),
        },
    }
}

/// The agreement with Hounsfield units, if the workflow asks for it and they distinguish the
/// target.
fn agreement(
    settings: &NetworkSettings,
    target: &Target,
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

/// The segment of an object. It is tracked by its label, which is the same in every run that finds the
/// same objects.
fn segment(
    context: &Context<'_>,
    target: &Target,
    object: &TargetObject,
    mask: &Mask,
    measurements: Vec<Measurement>,
    subject: &Subject<'_>,
) -> Result<Segment, NodeError> {
    let codes = target.codes();
    let reference = context
        .put_artifact(&mask.packed())
        .map_err(|error| error.into_node_error(Reason::MaskTooLarge))?;
    Ok(Segment {
        label: object.label.clone(),
        category: codes.category,
        kind: codes.kind,
        laterality: object.laterality,
        tracking_id: format!("{} {}", object.label, subject.uid()),
        mask: reference,
        voxels: mask.count(),
        is_edited: false,
        measurements,
        key: 0,
    })
}

/// The finding of a target of which there is no object.
fn empty_finding(target: &Target, presence: Presence, text: &str) -> Finding {
    let code = target.codes().kind;
    Finding { code, site: None, laterality: None, presence, change: None, text: text.to_owned() }
}

/// The volume or area of an object as a sentence; of a countable target, its axes too.
fn size_text(object: &TargetObject, measurements: &[Measurement], parts: Parts) -> String {
    let mut measurements = measurements.iter();
    let Some(size) = measurements.next() else { return String::new() };
    let label = &object.label;
    let mut amounts = vec![amount(size)];
    if matches!(parts, Parts::Several { .. }) {
        let axis = |it: &Measurement| format!("{} {}", it.code.meaning.to_lowercase(), amount(it));
        amounts.extend(measurements.map(axis));
    }
    format!("{} of {label}: {}.", size.code.meaning, amounts.join(", "))
}

fn amount(measurement: &Measurement) -> String {
    let Measurement { value, unit, .. } = measurement;
    format!("{value:.1} {}", unit.value.trim_matches(['{', '}']))
}
