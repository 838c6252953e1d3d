//! What a person may make of a result. Pure.

use std::collections::{BTreeMap, BTreeSet};

use contracts::ReviewRefusal;
use domain::{NodeOutput, Region, Segment, Segmentation};
use imaging::Mask;
use imaging::measurement;

/// Longest text of a finding or section.
const TEXT_MAX: usize = 100_000;

/// Most findings, sections, rows and regions.
const PARTS_MAX: usize = 10_000;

/// The new content, measured anew, or why it cannot be one: masks of another size, boxes beyond their
/// image, images the run has nothing of.
pub(super) fn checked(
    draft: &NodeOutput,
    before: &NodeOutput,
    new: &NodeOutput,
    masks: &BTreeMap<String, Vec<u8>>,
) -> Result<NodeOutput, ReviewRefusal> {
    let mut content = new.clone();
    check_texts(&content)?;
    let known = Known::of([draft, before]);
    let mut names = BTreeSet::new();
    for it in &mut content.segmentations {
        known.check(it)?;
        for segment in &mut it.segments {
            if !names.insert(segment.tracking_id.clone()) {
                return Err(invalid(format!(
                    "two segments are tracked as `{}`",
                    segment.tracking_id
                )));
            }
        }
        measure(it, draft, before, masks)?;
    }
    content.segmentations.retain(|it| !it.segments.is_empty());
    for it in &content.regions {
        known.check_region(it)?;
    }
    Ok(content)
}

fn invalid(text: String) -> ReviewRefusal {
    ReviewRefusal::Invalid(text)
}

fn check_texts(content: &NodeOutput) -> Result<(), ReviewRefusal> {
    let NodeOutput { findings, segmentations, regions, laboratory, sections } = content;
    let counts =
        [findings.len(), segmentations.len(), regions.len(), laboratory.len(), sections.len()];
    if counts.iter().any(|it| *it > PARTS_MAX) {
        return Err(invalid(format!("there are more than {PARTS_MAX} parts of a kind")));
    }
    let texts = findings.iter().map(|it| &it.text).chain(sections.iter().map(|it| &it.text));
    for text in texts.chain(regions.iter().map(|it| &it.label)) {
        let is_odd = |it: char| it.is_control() && !matches!(it, '\n' | '\t' | '\r');
        if text.chars().count() > TEXT_MAX || text.chars().any(is_odd) {
            return Err(invalid(format!(
                "a text has more than {TEXT_MAX} letters, or characters that are not for reading"
            )));
        }
    }
    if regions.iter().any(|it| it.label.trim().is_empty()) {
        return Err(invalid("a region has a label".to_owned()));
    }
    let segments = segmentations.iter().flat_map(|it| &it.segments);
    if segments.clone().any(|it| it.label.is_empty() || it.label.chars().count() > 64) {
        return Err(invalid("a segment has a label of 1 to 64 letters".to_owned()));
    }
    Ok(())
}

/// What a run has looked at.
struct Known<'a> {
    segmentations: Vec<&'a Segmentation>,
    regions: Vec<&'a Region>,
}

impl<'a> Known<'a> {
    fn of(contents: [&'a NodeOutput; 2]) -> Self {
        Self {
            segmentations: contents.iter().flat_map(|it| &it.segmentations).collect(),
            regions: contents.iter().flat_map(|it| &it.regions).collect(),
        }
    }

    /// Where voxels lie is no matter of opinion.
    fn check(&self, new: &Segmentation) -> Result<(), ReviewRefusal> {
        let same = |it: &&&Segmentation| it.series == new.series && it.geometry == new.geometry;
        if self.segmentations.iter().any(|it| same(&it)) {
            return Ok(());
        }
        let series = &new.series;
        Err(invalid(format!("a segmentation of series {series} is on a grid the run has not")))
    }

    fn check_region(&self, new: &Region) -> Result<(), ReviewRefusal> {
        let is_seen = self.regions.iter().any(|it| {
            (&it.instance, &it.series, it.size) == (&new.instance, &new.series, new.size)
        }) || self.segmentations.iter().any(|it| {
            it.geometry.instances.contains(&new.instance)
                && it.series == new.series
                && [it.geometry.columns, it.geometry.rows] == new.size
        });
        if !is_seen {
            return Err(invalid(format!("the run has found nothing in image {}", new.instance)));
        }
        let ([columns, rows], [left, top, right, bottom]) = (new.size, new.corners);
        if left < right && top < bottom && right <= columns && bottom <= rows {
            return Ok(());
        }
        Err(invalid(format!("`{}` is a box of nothing, or beyond its image", new.label)))
    }
}

/// Counts and measures what has changed, and says that a person changed it.
fn measure(
    segmentation: &mut Segmentation,
    draft: &NodeOutput,
    before: &NodeOutput,
    masks: &BTreeMap<String, Vec<u8>>,
) -> Result<(), ReviewRefusal> {
    let (geometry, segments) = (segmentation.geometry.clone(), &mut segmentation.segments);
    for segment in segments.iter_mut() {
        let as_it_was = |content: &NodeOutput| find(content, &segment.tracking_id).cloned();
        if let Some(known) = as_it_was(before).filter(|it| it.mask == segment.mask) {
            let Segment { voxels, measurements, is_edited, .. } = known;
            (segment.voxels, segment.measurements) = (voxels, measurements);
            segment.is_edited = is_edited;
            continue;
        }
        let bits = masks.get(&segment.mask.sha256).map(Vec::as_slice).unwrap_or_default();
        let mask = Mask::unpacked(&geometry, bits).ok_or_else(|| {
            let (slices, rows, columns) = (geometry.slices(), geometry.rows, geometry.columns);
            invalid(format!(
                "the mask of `{}` is not of {slices} x {rows} x {columns} bits",
                segment.label
            ))
        })?;
        segment.voxels = mask.count();
        segment.measurements = measurement::measure(&mask, &geometry);
        segment.is_edited = as_it_was(draft).is_none_or(|it| it.mask != segment.mask);
    }
    segments.retain(|it| it.voxels > 0);
    Ok(())
}

/// The segment that is tracked by this name.
pub(super) fn find<'a>(content: &'a NodeOutput, tracking_id: &str) -> Option<&'a Segment> {
    let mut segments = content.segmentations.iter().flat_map(|it| &it.segments);
    segments.find(|it| it.tracking_id == tracking_id)
}
