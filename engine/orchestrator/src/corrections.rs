//! Imports corrections that people made outside of the engine (OUT-81).
//!
//! A radiologist may correct a draft in another system. The correction comes back as a SEG that
//! tracks segments of ours, as an SR that names ours as its predecessor, or as a final report from
//! the RIS. Each is stored as a pair with its draft, to learn from.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use contracts::{
    Archive, CorrectionCandidate, CorrectionContent, CorrectionPair, CorrectionStore, DecodeError,
    Decoder, ReceivedSegment, ReviewView, StoreError,
};
use domain::{
    Code, CorrectionSource, ErrorChain, NodeOutput, Section, Segment, VolumeGeometry, derived_uid,
};
use encoding::bits;
use encoding::report_text::ReportText;
use imaging::Mask;
use imaging::measurement::measure;
use tracing::{error, info, warn};

use crate::draft::draft_of;
use crate::review::difference;
use crate::timing::{DATABASE_RETRY_DELAY, POLL_INTERVAL};

/// The contents of masks, packed, by SHA-256.
type Masks = BTreeMap<String, Vec<u8>>;

/// Compares what came back with the drafts it may correct.
pub(crate) struct CorrectionImport {
    store: Arc<dyn CorrectionStore>,
    archive: Arc<dyn Archive>,
    decoder: Arc<dyn Decoder>,
}

impl CorrectionImport {
    pub(crate) fn new(
        store: Arc<dyn CorrectionStore>,
        archive: Arc<dyn Archive>,
        decoder: Arc<dyn Decoder>,
    ) -> Self {
        Self { store, archive, decoder }
    }

    /// Imports one correction after the other, forever.
    pub(crate) async fn run_worker(self: Arc<Self>) {
        loop {
            match self.import_next().await {
                Ok(true) => {}
                Ok(false) => tokio::time::sleep(POLL_INTERVAL).await,
                Err(error) => {
                    error!(error = %ErrorChain(&error), "corrections cannot be imported");
                    tokio::time::sleep(DATABASE_RETRY_DELAY).await;
                }
            }
        }
    }

    /// Imports one correction. False if none is waiting, or the decoder does not work.
    async fn import_next(&self) -> Result<bool, StoreError> {
        let Some(correction) = self.store.next_correction().await? else { return Ok(false) };
        let pairs = match self.pairs(&correction).await {
            Ok(pairs) => pairs,
            Err(error @ DecodeError::Unavailable { .. }) => {
                warn!(source = %correction.source, %error, "a correction waits to be read");
                return Ok(false);
            }
            Err(DecodeError::Undecodable { reason }) => {
                // The text may quote the object: it is not logged.
                let source = correction.source;
                warn!(%source, reason_bytes = reason.len(), "a correction cannot be read");
                Vec::new()
            }
        };
        if !pairs.is_empty() {
            info!(source = %correction.source, pairs = pairs.len(), "a correction came back");
        }
        self.store.settle_correction(correction.source, &correction.origin, pairs).await?;
        Ok(true)
    }

    /// The drafts that a correction belongs to, each with what became of it.
    async fn pairs(
        &self,
        correction: &CorrectionCandidate,
    ) -> Result<Vec<CorrectionPair>, DecodeError> {
        match &correction.content {
            CorrectionContent::Message(document) => {
                // Preliminary text that nobody has signed is no correction.
                let sections = sections(&document.final_words());
                if sections.is_empty() {
                    return Ok(Vec::new());
                }
                let runs = correction.runs.iter();
                Ok(runs.filter_map(|run| text_pair(run, sections.clone())).collect())
            }
            CorrectionContent::Instance { sha256 } => {
                let path = self.archive.path_of(sha256);
                match correction.source {
                    CorrectionSource::Seg => self.segmentation_pairs(correction, &path).await,
                    CorrectionSource::Sr => self.report_pairs(correction, &path).await,
                    CorrectionSource::Review | CorrectionSource::Oru | CorrectionSource::Mdm => {
                        Ok(Vec::new())
                    }
                }
            }
        }
    }

    /// Drafts whose masks a SEG changed.
    async fn segmentation_pairs(
        &self,
        correction: &CorrectionCandidate,
        path: &Path,
    ) -> Result<Vec<CorrectionPair>, DecodeError> {
        let returned_segments = self.decoder.segments(path).await?;
        let mut pairs = Vec::new();
        for run in &correction.runs {
            let mut content = draft_of(&run.outputs, &run.plugins, &run.run);
            let mut masks = Masks::new();
            if self.replace_masks(run, &mut content, &returned_segments, &mut masks).await {
                pairs.extend(pair(run, content, &masks));
            }
        }
        Ok(pairs)
    }

    /// Drafts whose report an SR names as its predecessor.
    async fn report_pairs(
        &self,
        correction: &CorrectionCandidate,
        path: &Path,
    ) -> Result<Vec<CorrectionPair>, DecodeError> {
        let document = self.decoder.document(path).await?;
        let mut pairs = Vec::new();
        for run in &correction.runs {
            let mut of_run = correction.composed.iter().filter(|it| it.run == run.run.id);
            if of_run.any(|it| document.predecessors.contains(&it.id)) {
                pairs.extend(text_pair(run, document.sections.clone()));
            }
        }
        Ok(pairs)
    }

    /// Puts returned masks in the place of those that they track. False if they track none.
    async fn replace_masks(
        &self,
        run: &ReviewView,
        content: &mut NodeOutput,
        returned_segments: &[ReceivedSegment],
        masks: &mut Masks,
    ) -> bool {
        let run_id = run.run.id.to_string();
        let mut has_replaced = false;
        for segmentation in &mut content.segmentations {
            let geometry = segmentation.geometry.clone();
            for segment in &mut segmentation.segments {
                let tracking_uid = derived_uid(&[&run_id, "tracking", &segment.tracking_id]);
                let found = returned_segments.iter().find(|it| it.tracking_uid == tracking_uid);
                let Some(found) = found.filter(|it| it.size == [geometry.rows, geometry.columns])
                else {
                    continue;
                };
                let mask = assembled(found, &geometry);
                has_replaced |= self.replace_mask(segment, &mask, &geometry, masks).await;
            }
        }
        has_replaced
    }

    /// Stores a mask and gives it to a segment. False if the archive fails.
    async fn replace_mask(
        &self,
        segment: &mut Segment,
        mask: &Mask,
        geometry: &VolumeGeometry,
        masks: &mut Masks,
    ) -> bool {
        let Ok(drafted) = self.archive.artifact(&segment.mask).await else { return false };
        let packed = mask.packed();
        let Ok(stored) = self.archive.store_artifact(packed.clone()).await else { return false };
        masks.insert(segment.mask.sha256.clone(), drafted);
        masks.insert(stored.sha256.clone(), packed);
        segment.is_edited = segment.mask != stored;
        segment.mask = stored;
        segment.voxels = mask.count();
        segment.measurements = measure(mask, geometry);
        true
    }
}

/// The mask of a returned segment on the grid of the draft. Slices that came back without an image
/// are empty.
fn assembled(segment: &ReceivedSegment, geometry: &VolumeGeometry) -> Mask {
    let mut voxels = Vec::new();
    for instance in &geometry.instances {
        let mask = segment.images.get(instance.as_str());
        let is_set = |at| mask.is_some_and(|it| bits::is_set(it, at));
        voxels.extend((0..geometry.pixels()).map(is_set));
    }
    let shape = [geometry.slices(), geometry.rows as usize, geometry.columns as usize];
    Mask { shape, voxels }
}

/// The sections of a report that came as plain text.
fn sections(text: &str) -> Vec<Section> {
    let ReportText { findings, impression } = ReportText::parse(text);
    let sections = [
        Section { title: Code::new("59776-5", "LN", "Procedure Findings"), text: findings },
        Section { title: Code::new("19005-8", "LN", "Impression"), text: impression },
    ];
    sections.into_iter().filter(|it| !it.text.is_empty()).collect()
}

/// The draft of a run with other text.
fn text_pair(run: &ReviewView, sections: Vec<Section>) -> Option<CorrectionPair> {
    let draft = draft_of(&run.outputs, &run.plugins, &run.run);
    pair(run, NodeOutput { sections, ..draft }, &Masks::new())
}

/// Draft, correction and their difference; `None` if the draft itself came back, or if the run has
/// found nothing.
fn pair(run: &ReviewView, content: NodeOutput, masks: &Masks) -> Option<CorrectionPair> {
    let draft = draft_of(&run.outputs, &run.plugins, &run.run);
    if draft == content || draft == NodeOutput::default() {
        return None;
    }
    let difference = difference::between(&draft, &content, masks);
    Some(CorrectionPair { run: run.run.id, draft, content, difference })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_in_plain_text_has_the_sections_it_has_text_for() {
        let both = sections("FINDINGS:\nA nodule.\nIMPRESSION:\nBenign.");
        let texts: Vec<&str> = both.iter().map(|it| it.text.as_str()).collect();
        assert_eq!(texts, ["A nodule.", "Benign."]);
        assert!(sections("").is_empty());
    }
}
