//! Checks a result that a person edited, and measures again what they changed. Pure.

use std::collections::{BTreeMap, BTreeSet};

use contracts::ReviewRefusal;
use domain::{NodeOutput, Region, Segment, Segmentation};
use imaging::Mask;
use imaging::measurement;

/// Characters of the text of a finding or section, or of the label of a region.
const TEXT_MAX: usize = 100_000;

/// Findings, sections, laboratory rows, segmentations and regions: at most this many of each.
const PARTS_MAX: usize = 10_000;

/// The new content with its measurements.
///
/// Refused are masks of another size, regions outside of their image, images that the run has found
/// nothing in, and texts beyond the limits.
pub(super) fn validated(
    draft: &NodeOutput,
    before: &NodeOutput,
    new: &NodeOutput,
    masks: &BTreeMap<String, Vec<u8>>,
) -> Result<NodeOutput, ReviewRefusal> {
    let mut content = new.clone();
    check_texts(&content)?;
    check_reasoning(&mut content, before)?;
    let known = KnownContent::of([draft, before]);
    let mut tracking_ids = BTreeSet::new();
    for segmentation in &mut content.segmentations {
        known.check_segmentation(segmentation)?;
        for segment in &segmentation.segments {
            if !tracking_ids.insert(segment.tracking_id.clone()) {
                let tracking_id = &segment.tracking_id;
                return Err(invalid(format!("two segments are tracked as `{tracking_id}`")));
            }
        }
        measure(segmentation, draft, before, masks)?;
    }
    content.segmentations.retain(|it| !it.segments.is_empty());
    for region in &content.regions {
        known.check_region(region)?;
    }
    Ok(content)
}

fn invalid(text: String) -> ReviewRefusal {
    ReviewRefusal::Invalid(text)
}

fn check_texts(content: &NodeOutput) -> Result<(), ReviewRefusal> {
    let NodeOutput {
        findings,
        segmentations,
        regions,
        laboratory,
        sections,
        reasoning: _,
        stated_patients,
    } = content;
    if !stated_patients.is_empty() {
        return Err(invalid("a result states no patient: the engine knows whose it is".to_owned()));
    }
    let counts =
        [findings.len(), segmentations.len(), regions.len(), laboratory.len(), sections.len()];
    if counts.iter().any(|it| *it > PARTS_MAX) {
        return Err(invalid(format!("there are more than {PARTS_MAX} parts of a kind")));
    }
    let texts = findings.iter().map(|it| &it.text).chain(sections.iter().map(|it| &it.text));
    for text in texts.chain(regions.iter().map(|it| &it.label)) {
        if text.chars().count() > TEXT_MAX || text.chars().any(is_unprintable) {
            return Err(invalid(format!(
                "a text has more than {TEXT_MAX} characters, or control characters"
            )));
        }
    }
    if regions.iter().any(|it| it.label.trim().is_empty()) {
        return Err(invalid("a region has a label".to_owned()));
    }
    let segments = segmentations.iter().flat_map(|it| &it.segments);
    if segments.clone().any(|it| it.label.is_empty() || it.label.chars().count() > 64) {
        return Err(invalid("a segment has a label of 1 to 64 characters".to_owned()));
    }
    Ok(())
}

/// The reasoning is that of a model: nobody edits it, and content without it keeps it.
fn check_reasoning(content: &mut NodeOutput, before: &NodeOutput) -> Result<(), ReviewRefusal> {
    if !content.reasoning.is_empty() && content.reasoning != before.reasoning {
        return Err(invalid("the reasoning of the model cannot be edited".to_owned()));
    }
    content.reasoning.clone_from(&before.reasoning);
    Ok(())
}

fn is_unprintable(character: char) -> bool {
    character.is_control() && !matches!(character, '\n' | '\t' | '\r')
}

/// What the run found, which an edit may change.
struct KnownContent<'a> {
    segmentations: Vec<&'a Segmentation>,
    regions: Vec<&'a Region>,
}

impl<'a> KnownContent<'a> {
    fn of(contents: [&'a NodeOutput; 2]) -> Self {
        Self {
            segmentations: contents.iter().flat_map(|it| &it.segmentations).collect(),
            regions: contents.iter().flat_map(|it| &it.regions).collect(),
        }
    }

    /// A person may change masks, not the grid they lie on.
    fn check_segmentation(&self, new: &Segmentation) -> Result<(), ReviewRefusal> {
        let mut known = self.segmentations.iter();
        if known.any(|it| it.series == new.series && it.geometry == new.geometry) {
            return Ok(());
        }
        let series = &new.series;
        Err(invalid(format!("a segmentation of series {series} is on a grid the run has not")))
    }

    fn check_region(&self, new: &Region) -> Result<(), ReviewRefusal> {
        let is_known_region = self.regions.iter().any(|it| {
            it.instance == new.instance && it.series == new.series && it.size == new.size
        });
        let is_known_slice = self.segmentations.iter().any(|it| {
            it.geometry.instances.contains(&new.instance)
                && it.series == new.series
                && [it.geometry.columns, it.geometry.rows] == new.size
        });
        if !is_known_region && !is_known_slice {
            return Err(invalid(format!("the run has found nothing in image {}", new.instance)));
        }
        let [columns, rows] = new.size;
        let [left, top, right, bottom] = new.corners;
        if left < right && top < bottom && right <= columns && bottom <= rows {
            return Ok(());
        }
        Err(invalid(format!("`{}` is an empty box, or outside of its image", new.label)))
    }
}

/// Counts and measures the segments that changed, and marks them as edited by a person. Empty
/// segments are removed.
fn measure(
    segmentation: &mut Segmentation,
    draft: &NodeOutput,
    before: &NodeOutput,
    masks: &BTreeMap<String, Vec<u8>>,
) -> Result<(), ReviewRefusal> {
    let geometry = segmentation.geometry.clone();
    for segment in &mut segmentation.segments {
        let known = find_segment(before, &segment.tracking_id);
        if let Some(known) = known.filter(|it| it.mask == segment.mask) {
            segment.voxels = known.voxels;
            segment.measurements = known.measurements.clone();
            segment.is_edited = known.is_edited;
            continue;
        }
        let bits = masks.get(&segment.mask.sha256).map(Vec::as_slice).unwrap_or_default();
        let mask = Mask::unpacked(&geometry, bits).ok_or_else(|| {
            invalid(format!(
                "the mask of `{}` is not of {} x {} x {} bits",
                segment.label,
                geometry.slices(),
                geometry.rows,
                geometry.columns
            ))
        })?;
        segment.voxels = mask.count();
        segment.measurements = measurement::measure(&mask, &geometry);
        let drafted = find_segment(draft, &segment.tracking_id);
        segment.is_edited = drafted.is_none_or(|it| it.mask != segment.mask);
    }
    segmentation.segments.retain(|it| it.voxels > 0);
    Ok(())
}

/// The segment with this tracking ID.
pub(super) fn find_segment<'a>(content: &'a NodeOutput, tracking_id: &str) -> Option<&'a Segment> {
    let mut segments = content.segmentations.iter().flat_map(|it| &it.segments);
    segments.find(|it| it.tracking_id == tracking_id)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A result of two segments on an image of eight pixels, whose masks have these names.
    fn result(masks: [&str; 2]) -> NodeOutput {
        let segment = |index: usize| {
            json!({
                "label": format!("lesion {index}"), "tracking_id": format!("lesion {index} 1.2"),
                "category": {"value": "49755003", "scheme": "SCT", "meaning": "x"},
                "kind": {"value": "52988006", "scheme": "SCT", "meaning": "Lesion"},
                "mask": {"sha256": masks[index - 1], "bytes": 1}, "voxels": 2, "key": index,
                "measurements": [],
            })
        };
        let segmentation = json!({
            "series": "1.2", "segments": [segment(1), segment(2)],
            "geometry": {"rows": 2, "columns": 4, "instances": ["1.2.1"], "sop_class": "1.2.3",
                "lossy": false},
            "algorithm": {"name": "a", "version": "1", "parameters": {}},
        });
        let segmentations = vec![serde_json::from_value(segmentation).unwrap()];
        NodeOutput { segmentations, ..NodeOutput::default() }
    }

    #[test]
    fn out_41_the_reasoning_of_the_model_outlives_an_edit_and_is_not_edited() {
        let step = |text: &str| -> NodeOutput {
            let reasoning = json!([{
                "algorithm": {"name": "a", "version": "1", "parameters": {}},
                "steps": [{"text": text}],
            }]);
            NodeOutput {
                reasoning: serde_json::from_value(reasoning).unwrap(),
                ..result(["a", "b"])
            }
        };
        let draft = step("Ribs are intact.");
        let masks = BTreeMap::new();
        for new in [result(["a", "b"]), draft.clone()] {
            let edited = validated(&draft, &draft, &new, &masks).unwrap();
            assert_eq!(edited.reasoning, draft.reasoning);
        }
        assert!(validated(&draft, &draft, &step("Ribs are broken."), &masks).is_err());
        let without = result(["a", "b"]);
        assert!(validated(&without, &without, &draft, &masks).is_err());
    }

    #[test]
    fn out_80_an_edit_of_one_object_measures_that_one_again_and_leaves_the_other() {
        let draft = result(["a", "b"]);
        let masks = BTreeMap::from([("c".to_owned(), vec![0b0000_0111_u8])]);
        let edited = validated(&draft, &draft, &result(["a", "c"]), &masks).unwrap();
        let [first, second] = edited.segmentations[0].segments.as_slice() else { panic!() };
        assert_eq!(*first, draft.segmentations[0].segments[0]);
        assert!(second.is_edited && second.voxels == 3 && second.key == 2);
        assert_eq!(second.measurements.len(), 3, "area, long axis and short axis");

        let twice = {
            let mut new = result(["a", "b"]);
            new.segmentations[0].segments[1].tracking_id = "lesion 1 1.2".to_owned();
            new
        };
        assert!(validated(&draft, &draft, &twice, &masks).is_err());
    }
}
