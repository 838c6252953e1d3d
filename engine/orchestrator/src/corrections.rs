//! Corrections that come back from outside (OUT-81): a SEG that tracks what we outlined, an SR that follows ours,
//! a final report from the RIS. Each is kept with its draft, to learn from.

use std::collections::BTreeMap;
use std::path::PathBuf;

use contracts::{Returned, ReturnedPair, ReturnedWhat, ReviewView};
use domain::{Code, ErrorChain, NodeOutput, Section, derived_uid};
use encoding::report_text::ReportText;
use imaging::measurement::measure;
use imaging::{Mask, segmentation_reader};
use tracing::{error, info};

use crate::content::drafted;
use crate::orchestrator::{AFTER_FAILURE, Orchestrator, POLL};
use crate::review::difference;

impl Orchestrator {
    /// Looks at what came back, one after the other.
    pub(crate) async fn take_in_corrections(&self) {
        loop {
            match self.store.next_returned().await {
                Ok(Some(it)) => self.take_in(it).await,
                Ok(None) => tokio::time::sleep(POLL).await,
                Err(error) => {
                    error!(error = %ErrorChain(&error), "corrections cannot be looked for");
                    tokio::time::sleep(AFTER_FAILURE).await;
                }
            }
        }
    }

    async fn take_in(&self, it: Returned) {
        let pairs = match &it.what {
            ReturnedWhat::Message(document) => {
                // What nobody stands for yet is no correction.
                let sections = sections(&document.final_words());
                let runs = it.runs.iter().filter(|_| !sections.is_empty());
                let pair = |run| pair(run, in_words(run, sections.clone()), &BTreeMap::new());
                runs.filter_map(pair).collect()
            }
            ReturnedWhat::Instance { sha256 } => {
                let path = self.archive.path_of(sha256);
                if it.source == "seg" {
                    self.outlined_anew(&it, path).await
                } else {
                    reported_anew(&it, path).await
                }
            }
        };
        if !pairs.is_empty() {
            info!(source = it.source, pairs = pairs.len(), "a correction came back");
        }
        let settled = self.store.settle_returned(&it.source, &it.origin, pairs).await;
        if let Err(error) = settled {
            error!(error = %ErrorChain(&error), "a correction cannot be kept");
            tokio::time::sleep(AFTER_FAILURE).await;
        }
    }

    /// Drafts whose masks a SEG has changed.
    async fn outlined_anew(&self, it: &Returned, path: PathBuf) -> Vec<ReturnedPair> {
        let read = tokio::task::spawn_blocking(move || segmentation_reader::read(&path)).await;
        let Ok(Ok(segments)) = read else { return Vec::new() };
        let mut pairs = Vec::new();
        for run in &it.runs {
            let mut content = draft_of(run);
            let mut masks = BTreeMap::new();
            if self.take_over(run, &mut content, &segments, &mut masks).await {
                pairs.extend(pair(run, content, &masks));
            }
        }
        pairs
    }

    /// Puts the masks of a SEG in the place of those it tracks. False if it tracks none.
    async fn take_over(
        &self,
        run: &ReviewView,
        content: &mut NodeOutput,
        segments: &[segmentation_reader::TrackedSegment],
        masks: &mut BTreeMap<String, Vec<u8>>,
    ) -> bool {
        let mut has_some = false;
        for it in &mut content.segmentations {
            let geometry = it.geometry.clone();
            for segment in &mut it.segments {
                let tracked =
                    derived_uid(&[&run.run.id.to_string(), "tracking", &segment.tracking_id]);
                let Some(found) = segments.iter().find(|it| it.tracking_uid == tracked) else {
                    continue;
                };
                if found.size != [geometry.rows, geometry.columns] {
                    continue;
                }
                let Ok(before) = self.archive.artifact(&segment.mask).await else { continue };
                let empty = vec![false; geometry.pixels()];
                let slices = geometry.instances.iter().map(|it| found.images.get(it.as_str()));
                let voxels = slices.flat_map(|it| it.unwrap_or(&empty).iter().copied()).collect();
                let shape = [geometry.slices(), geometry.rows as usize, geometry.columns as usize];
                let mask = Mask { shape, voxels };
                let packed = mask.packed();
                let Ok(kept) = self.archive.keep_artifact(packed.clone()).await else { continue };
                masks.insert(segment.mask.sha256.clone(), before);
                masks.insert(kept.sha256.clone(), packed);
                segment.is_edited = segment.mask != kept;
                (segment.mask, segment.voxels) = (kept, mask.count());
                segment.measurements = measure(&mask, &geometry);
                has_some = true;
            }
        }
        has_some
    }
}

/// Drafts whose report an SR follows.
async fn reported_anew(it: &Returned, path: PathBuf) -> Vec<ReturnedPair> {
    let read = tokio::task::spawn_blocking(move || report::returned::read(&path)).await;
    let Ok(Some(document)) = read else { return Vec::new() };
    let is_followed = |run: &&ReviewView| {
        let mut ours = it.followed.iter().filter(|(_, id)| *id == run.run.id);
        ours.any(|(instance, _)| document.predecessors.contains(instance))
    };
    let pairs =
        it.runs.iter().filter(is_followed).filter_map(|run| {
            pair(run, in_words(run, document.sections.clone()), &BTreeMap::new())
        });
    pairs.collect()
}

fn sections(text: &str) -> Vec<Section> {
    let ReportText { findings, impression } = ReportText::parse(text);
    let titled = [
        (Code::new("59776-5", "LN", "Procedure Findings"), findings),
        (Code::new("19005-8", "LN", "Impression"), impression),
    ];
    let section = |(title, text): (Code, String)| Section { title, text };
    titled.into_iter().filter(|(_, text)| !text.is_empty()).map(section).collect()
}

fn draft_of(run: &ReviewView) -> NodeOutput {
    drafted(&run.outputs, &run.plugins, &run.run)
}

/// The draft of a run with other words.
fn in_words(run: &ReviewView, sections: Vec<Section>) -> NodeOutput {
    NodeOutput { sections, ..draft_of(run) }
}

/// What differs; nothing, if it is our own that came back, or the run has found nothing.
fn pair(
    run: &ReviewView,
    content: NodeOutput,
    masks: &BTreeMap<String, Vec<u8>>,
) -> Option<ReturnedPair> {
    let draft = draft_of(run);
    if draft == content || draft == NodeOutput::default() {
        return None;
    }
    let difference = difference::between(&draft, &content, masks);
    Some(ReturnedPair { run: run.run.id, draft, content, difference })
}
