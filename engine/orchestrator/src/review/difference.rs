//! What a person changed in a draft (OUT-80): texts, findings, masks with their Dice coefficient,
//! regions with their intersection over union. Pure.

use std::collections::BTreeMap;

use domain::{Code, NodeOutput, Region, Segment};
use evaluation::overlap::{dice, iou};
use serde_json::{Value, json};

use super::validation::find_segment;

/// The contents of masks, packed, by SHA-256.
type Masks = BTreeMap<String, Vec<u8>>;

/// The parts that differ. Parts that are the same are left out.
pub(crate) fn between(draft: &NodeOutput, current: &NodeOutput, masks: &Masks) -> Value {
    json!({
        "sections": sections(draft, current),
        "findings": removed_and_added(&draft.findings, &current.findings),
        "laboratory": removed_and_added(&draft.laboratory, &current.laboratory),
        "segments": segments(draft, current, masks),
        "regions": regions(draft, current),
    })
}

fn sections(draft: &NodeOutput, current: &NodeOutput) -> Vec<Value> {
    let mut titles: Vec<&Code> = draft.sections.iter().map(|it| &it.title).collect();
    for section in &current.sections {
        if !titles.contains(&&section.title) {
            titles.push(&section.title);
        }
    }
    let mut changes = Vec::new();
    for title in titles {
        let before = section_text(draft, title);
        let after = section_text(current, title);
        if before != after {
            changes.push(json!({"title": title, "before": before, "after": after}));
        }
    }
    changes
}

/// The text of all sections with this title, or `None` if there is none.
fn section_text(content: &NodeOutput, title: &Code) -> Option<String> {
    let sections = content.sections.iter().filter(|it| it.title == *title);
    let texts: Vec<&str> = sections.map(|it| it.text.as_str()).collect();
    (!texts.is_empty()).then(|| texts.join("\n"))
}

/// The entries of only one of two lists. A changed entry is in both.
fn removed_and_added<T: PartialEq + serde::Serialize>(draft: &[T], current: &[T]) -> Value {
    json!({"removed": without(draft, current), "added": without(current, draft)})
}

fn without<T: PartialEq + serde::Serialize>(entries: &[T], excluded: &[T]) -> Vec<Value> {
    entries.iter().filter(|it| !excluded.contains(it)).map(|it| json!(it)).collect()
}

fn segments(draft: &NodeOutput, current: &NodeOutput, masks: &Masks) -> Vec<Value> {
    let only_in_current =
        tracking_ids(current).into_iter().filter(|it| find_segment(draft, it).is_none());
    let mut changes = Vec::new();
    for tracking_id in tracking_ids(draft).into_iter().chain(only_in_current) {
        let before = find_segment(draft, tracking_id);
        let after = find_segment(current, tracking_id);
        if before.map(|it| (&it.mask, &it.label)) == after.map(|it| (&it.mask, &it.label)) {
            continue;
        }
        let overlap = before.zip(after);
        changes.push(json!({
            "tracking_id": tracking_id,
            "dice": overlap.map_or(0.0, |(a, b)| dice(bits(a, masks), bits(b, masks))),
            "voxels_before": before.map(|it| it.voxels),
            "voxels_after": after.map(|it| it.voxels),
        }));
    }
    changes
}

fn tracking_ids(content: &NodeOutput) -> Vec<&String> {
    content.segmentations.iter().flat_map(|it| &it.segments).map(|it| &it.tracking_id).collect()
}

fn bits<'a>(segment: &Segment, masks: &'a Masks) -> &'a [u8] {
    masks.get(&segment.mask.sha256).map(Vec::as_slice).unwrap_or_default()
}

/// Each region of only one of the two contents, with its largest overlap with a region of the
/// other.
fn regions(draft: &NodeOutput, current: &NodeOutput) -> Vec<Value> {
    let removed = draft.regions.iter().filter(|it| !current.regions.contains(it));
    let added = current.regions.iter().filter(|it| !draft.regions.contains(it));
    let removed = removed.map(|it| json!({"removed": it, "iou": best_overlap(it, current)}));
    let added = added.map(|it| json!({"added": it, "iou": best_overlap(it, draft)}));
    removed.chain(added).collect()
}

fn best_overlap(region: &Region, content: &NodeOutput) -> f64 {
    let same_image = content.regions.iter().filter(|it| it.instance == region.instance);
    let overlaps =
        same_image.map(|it| iou(it.corners.map(f64::from), region.corners.map(f64::from)));
    overlaps.fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_entry_is_both_removed_and_added() {
        let difference = removed_and_added(&["a", "b"], &["b", "c"]);
        assert_eq!(difference, json!({"removed": ["a"], "added": ["c"]}));
    }
}
