//! Imports corrections that people made outside of the engine (OUT-81).
//!
//! A radiologist may correct a draft in another system. The correction comes back as a SEG that
//! tracks segments of ours, as an SR that names ours as its predecessor, or as a final report from
//! the RIS. Each is stored as a pair with its draft, to learn from.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

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

/// Attempts at an object that takes too long to decode.
const SLOW_ATTEMPTS_MAX: u32 = 5;

/// Why a correction was not compared.
#[derive(Clone, Debug, PartialEq, Eq)]
enum ImportFailure {
    /// It cannot be read, now or later: a person has to look.
    Unreadable(String),
    /// Decoding it takes too long: attempts have to end.
    Slow(String),
    /// Decoder, disk or archive fails just now: it waits.
    Waiting(String),
}

impl From<DecodeError> for ImportFailure {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::Undecodable { reason } => Self::Unreadable(reason),
            DecodeError::OutOfTime { reason } => Self::Slow(reason),
            DecodeError::Unavailable { reason } => Self::Waiting(reason),
        }
    }
}

impl ImportFailure {
    /// What follows if the mask of the draft cannot be read: without it, nothing can be compared.
    fn of_mask(error: &io::Error) -> Self {
        let lost = match error.kind() {
            io::ErrorKind::NotFound => "the mask of the draft is not in the archive any more",
            io::ErrorKind::InvalidData => "the mask of the draft is damaged in the archive",
            _ => return Self::Waiting(format!("the mask of the draft cannot be read: {error}")),
        };
        Self::Unreadable(lost.to_owned())
    }
}

/// Compares what came back with the drafts it may correct.
pub(crate) struct CorrectionImport {
    store: Arc<dyn CorrectionStore>,
    archive: Arc<dyn Archive>,
    decoder: Arc<dyn Decoder>,
    /// The object that takes too long to decode, and how often it was tried.
    slow: Mutex<Option<SlowObject>>,
}

/// An object that took too long to decode.
struct SlowObject {
    origin: String,
    attempts: u32,
}

impl CorrectionImport {
    pub(crate) fn new(
        store: Arc<dyn CorrectionStore>,
        archive: Arc<dyn Archive>,
        decoder: Arc<dyn Decoder>,
    ) -> Self {
        Self { store, archive, decoder, slow: Mutex::default() }
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

    /// Imports one correction. False if none is waiting, or it has to be tried again later.
    async fn import_next(&self) -> Result<bool, StoreError> {
        let Some(correction) = self.store.next_correction().await? else { return Ok(false) };
        let pairs = match self.pairs(&correction).await {
            Ok(pairs) => pairs,
            Err(ImportFailure::Waiting(reason)) => {
                warn!(source = %correction.source, reason, "a correction waits to be read");
                return Ok(false);
            }
            Err(ImportFailure::Slow(_)) if self.may_try_again(&correction.origin) => {
                return Ok(false);
            }
            Err(ImportFailure::Unreadable(reason) | ImportFailure::Slow(reason)) => {
                self.give_up(&correction, &reason).await?;
                return Ok(true);
            }
        };
        if !pairs.is_empty() {
            info!(source = %correction.source, pairs = pairs.len(), "a correction came back");
        }
        self.store.settle_correction(correction.source, &correction.origin, pairs).await?;
        Ok(true)
    }

    /// Whether an object that took too long may be tried again.
    fn may_try_again(&self, origin: &str) -> bool {
        let mut slow = self.slow.lock().unwrap_or_else(PoisonError::into_inner);
        let before = slow.take().filter(|it| it.origin == origin).map_or(0, |it| it.attempts);
        let attempts = before + 1;
        if attempts >= SLOW_ATTEMPTS_MAX {
            return false;
        }
        *slow = Some(SlowObject { origin: origin.to_owned(), attempts });
        true
    }

    /// Gives up a correction. A person is told if there is a draft that it may correct.
    async fn give_up(
        &self,
        correction: &CorrectionCandidate,
        reason: &str,
    ) -> Result<(), StoreError> {
        let CorrectionCandidate { source, origin, .. } = correction;
        // The text may quote the object: it is not logged.
        warn!(%source, reason_bytes = reason.len(), "a correction cannot be read");
        if correction.runs.is_empty() {
            return self.store.settle_correction(*source, origin, Vec::new()).await;
        }
        let reason = format!("what may correct a draft of its study cannot be read: {reason}");
        self.store.give_up_correction(*source, origin, &reason).await
    }

    /// The drafts that a correction belongs to, each with what became of it.
    async fn pairs(
        &self,
        correction: &CorrectionCandidate,
    ) -> Result<Vec<CorrectionPair>, ImportFailure> {
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
    ) -> Result<Vec<CorrectionPair>, ImportFailure> {
        let returned_segments = self.decoder.segments(path).await?;
        let mut pairs = Vec::new();
        for run in &correction.runs {
            let mut content = draft_of(&run.outputs, &run.plugins, &run.run);
            let mut masks = Masks::new();
            if self.replace_masks(run, &mut content, &returned_segments, &mut masks).await? {
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
    ) -> Result<Vec<CorrectionPair>, ImportFailure> {
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
    ) -> Result<bool, ImportFailure> {
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
                self.replace_mask(segment, &mask, &geometry, masks).await?;
                has_replaced = true;
            }
        }
        Ok(has_replaced)
    }

    /// Stores a mask and gives it to a segment.
    async fn replace_mask(
        &self,
        segment: &mut Segment,
        mask: &Mask,
        geometry: &VolumeGeometry,
        masks: &mut Masks,
    ) -> Result<(), ImportFailure> {
        let drafted = self.archive.artifact(&segment.mask).await;
        let drafted = drafted.map_err(|error| ImportFailure::of_mask(&error))?;
        let packed = mask.packed();
        let stored = self.archive.store_artifact(packed.clone()).await;
        let stored = stored.map_err(|error| {
            ImportFailure::Waiting(format!("the returned mask cannot be stored: {error}"))
        })?;
        masks.insert(segment.mask.sha256.clone(), drafted);
        masks.insert(stored.sha256.clone(), packed);
        segment.is_edited = segment.mask != stored;
        segment.mask = stored;
        segment.voxels = mask.count();
        segment.measurements = measure(mask, geometry);
        Ok(())
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

    #[test]
    fn out_81_what_passes_is_waited_for_and_what_does_not_goes_to_a_person() {
        let of_mask = |kind: io::ErrorKind| ImportFailure::of_mask(&kind.into());
        assert!(matches!(of_mask(io::ErrorKind::NotFound), ImportFailure::Unreadable(_)));
        assert!(matches!(of_mask(io::ErrorKind::InvalidData), ImportFailure::Unreadable(_)));
        assert!(matches!(of_mask(io::ErrorKind::PermissionDenied), ImportFailure::Waiting(_)));
        let reason = || "why".to_owned();
        for (error, expected) in [
            (DecodeError::Undecodable { reason: reason() }, ImportFailure::Unreadable(reason())),
            (DecodeError::OutOfTime { reason: reason() }, ImportFailure::Slow(reason())),
            (DecodeError::Unavailable { reason: reason() }, ImportFailure::Waiting(reason())),
        ] {
            assert_eq!(ImportFailure::from(error), expected);
        }
    }
}
