//! What is other in a result than in its draft (OUT-80): texts, findings, masks by Dice, boxes by how much of
//! them is the same. Pure.

use std::collections::BTreeMap;

use domain::NodeOutput;
use evaluation::overlap::{dice, iou};
use serde_json::{Value, json};

use super::change::find;

/// What was changed, part by part; parts that are the same are left out.
pub(crate) fn between(
    draft: &NodeOutput,
    now: &NodeOutput,
    masks: &BTreeMap<String, Vec<u8>>,
) -> Value {
    json!({
        "sections": sections(draft, now),
        "findings": listed(&draft.findings, &now.findings),
        "laboratory": listed(&draft.laboratory, &now.laboratory),
        "segments": segments(draft, now, masks),
        "regions": regions(draft, now),
    })
}

fn sections(draft: &NodeOutput, now: &NodeOutput) -> Vec<Value> {
    let mut titles: Vec<_> = draft.sections.iter().map(|it| &it.title).collect();
    for it in &now.sections {
        if !titles.contains(&&it.title) {
            titles.push(&it.title);
        }
    }
    let text = |content: &NodeOutput, title: &domain::Code| {
        let texts = content.sections.iter().filter(|it| it.title == *title);
        let texts: Vec<&str> = texts.map(|it| it.text.as_str()).collect();
        (!texts.is_empty()).then(|| texts.join("\n"))
    };
    let one = |title: &domain::Code| {
        let (before, after) = (text(draft, title), text(now, title));
        (before != after).then(|| json!({"title": title, "before": before, "after": after}))
    };
    titles.into_iter().filter_map(one).collect()
}

/// What was added and what was taken away; what was changed is both.
fn listed<T: PartialEq + serde::Serialize>(draft: &[T], now: &[T]) -> Value {
    let without = |all: &[T], other: &[T]| -> Vec<Value> {
        all.iter().filter(|it| !other.contains(it)).map(|it| json!(it)).collect()
    };
    json!({"removed": without(draft, now), "added": without(now, draft)})
}

fn segments(draft: &NodeOutput, now: &NodeOutput, masks: &BTreeMap<String, Vec<u8>>) -> Vec<Value> {
    let names = |content: &NodeOutput| -> Vec<String> {
        let segments = content.segmentations.iter().flat_map(|it| &it.segments);
        segments.map(|it| it.tracking_id.clone()).collect()
    };
    let mut all = names(draft);
    all.extend(names(now).into_iter().filter(|it| find(draft, it).is_none()));
    let bits = |it: &domain::Segment| masks.get(&it.mask.sha256).cloned().unwrap_or_default();
    let one = |name: &String| {
        let (before, after) = (find(draft, name), find(now, name));
        if before.map(|it| (&it.mask, &it.label)) == after.map(|it| (&it.mask, &it.label)) {
            return None;
        }
        let dice = before.zip(after).map_or(0.0, |(a, b)| dice(&bits(a), &bits(b)));
        let count = |it: Option<&domain::Segment>| it.map(|it| it.voxels);
        Some(json!({
            "tracking_id": name, "dice": dice,
            "voxels_before": count(before), "voxels_after": count(after),
        }))
    };
    all.iter().filter_map(one).collect()
}

/// Each box of either, with the most that a box of the other has in common with it.
fn regions(draft: &NodeOutput, now: &NodeOutput) -> Vec<Value> {
    let best = |of: &domain::Region, among: &NodeOutput| {
        let same = among.regions.iter().filter(|it| it.instance == of.instance);
        let shares = same.map(|it| iou(it.corners.map(f64::from), of.corners.map(f64::from)));
        shares.fold(0.0, f64::max)
    };
    let removed = draft.regions.iter().filter(|it| !now.regions.contains(it));
    let added = now.regions.iter().filter(|it| !draft.regions.contains(it));
    let removed = removed.map(|it| json!({"removed": it, "iou": best(it, now)}));
    removed.chain(added.map(|it| json!({"added": it, "iou": best(it, draft)}))).collect()
}
