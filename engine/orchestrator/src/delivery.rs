//! Composes reports with the identity of the moment, and sends them until they are acknowledged.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use contracts::{
    Block, ClaimedDelivery, DeliveryEnd, DeliveryView, Output, OutputKind, SendError, Sent,
    SentBefore, SeriesSnapshot, StoreError, WorkKind,
};
use domain::{
    Algorithm, BlockReason, ErrorChain, InputInstance, NodeOutput, PatientId, ResultSet,
    ResultStatus, Segment, SopInstanceUid,
};
use encoding::dicom_header::{Encoding, Header};
use encoding::file_meta;
use imaging::Picture;
use report::status::words;
use report::{About, Before, ReportError, SentObject, StudyAbout, Writing, compose, overlay};
use tracing::{error, info, warn};

use crate::content::drafted;
use crate::intake::header_at;
use crate::orchestrator::{AFTER_FAILURE, LEASE, Orchestrator, POLL, RENEWAL, SiteDestination};
use crate::record;
use crate::step::unverified;

/// Most tries before a person is asked: about six hours with the waits between them.
const ATTEMPTS_MAX: i32 = 80;

/// Most tries of what a destination reads and does not apply (HL7-14).
const NOT_APPLIED_MAX: i32 = 5;

/// Longest wait between two tries.
const BACKOFF_MAX: Duration = Duration::from_mins(5);

impl Orchestrator {
    /// Makes one delivery after the other.
    pub(crate) async fn deliver(&self) {
        loop {
            match self.store.claim_delivery(LEASE, &self.deliveries_in_hand.all()).await {
                Ok(Some(delivery)) => {
                    let _held = self.deliveries_in_hand.take(delivery.id);
                    self.make(delivery).await;
                }
                Ok(None) => self.store.wait_for(WorkKind::Delivery, POLL).await,
                Err(error) => {
                    error!(error = %ErrorChain(&error), "no delivery can be claimed");
                    tokio::time::sleep(AFTER_FAILURE).await;
                }
            }
        }
    }

    async fn make(&self, delivery: ClaimedDelivery) {
        // Both go on at once: a renewal that waited for the attempt, while the attempt holds the row
        // that the renewal needs, would wait for ever.
        let end = tokio::select! {
            end = self.attempt_delivery(&delivery) => end,
            () = self.until_superseded(&delivery) => return,
        };
        let (run, destination) = (delivery.run, delivery.destination.as_str());
        let label = match &end {
            DeliveryEnd::Delivered => "delivered",
            DeliveryEnd::Promised => "promised",
            DeliveryEnd::Again { .. } => "postponed",
            DeliveryEnd::Failed { .. } => "failed",
            DeliveryEnd::Blocked(_) => "blocked",
        };
        metrics::counter!("orchestrator_deliveries_total", "outcome" => label).increment(1);
        match &end {
            DeliveryEnd::Delivered => info!(%run, destination, "delivered"),
            DeliveryEnd::Promised => info!(%run, destination, "taken, not committed yet"),
            DeliveryEnd::Again { reason, .. }
            | DeliveryEnd::Failed { reason, .. }
            | DeliveryEnd::Blocked(Block { reason, .. }) => {
                // What a peer says may name a patient: it is shown to who asks, not logged.
                warn!(%run, destination, label, reason_bytes = reason.len(), "not delivered");
            }
        }
        // The destination has it: that must not be forgotten because the database is down.
        while let Err(error) = self.store.finish_delivery(&delivery, end.clone()).await {
            if matches!(error, StoreError::Superseded) {
                return;
            }
            error!(error = %ErrorChain(&error), "the end of a delivery cannot be put on record");
            tokio::time::sleep(AFTER_FAILURE).await;
        }
    }

    /// Keeps the lease of a delivery, until somebody else has it.
    async fn until_superseded(&self, delivery: &ClaimedDelivery) {
        loop {
            tokio::time::sleep(RENEWAL).await;
            let renewed = self.store.renew_delivery(delivery, LEASE).await;
            if matches!(renewed, Err(StoreError::Superseded)) {
                return;
            }
        }
    }

    async fn attempt_delivery(&self, delivery: &ClaimedDelivery) -> DeliveryEnd {
        let destinations = self.destinations.get();
        let Some(site) = destinations.get(&delivery.destination) else {
            let reason = "the site file has no such destination any more".to_owned();
            return DeliveryEnd::Failed { reason, pauses: false };
        };
        let outputs = match self.outputs(delivery, site).await {
            Ok(outputs) => outputs,
            Err(end) => return end,
        };
        let failed = |reason| DeliveryEnd::Failed { reason, pauses: site.pauses_on_failure };
        let (run, transaction) = (delivery.run.to_string(), &delivery.transaction);
        match self.send(site, (&run, transaction), outputs).await {
            Ok(Sent::Acknowledged) => DeliveryEnd::Delivered,
            Ok(Sent::AwaitingCommitment) => DeliveryEnd::Promised,
            Err(SendError::Refused(reason)) => failed(reason),
            Err(SendError::NotApplied(reason)) if delivery.attempt >= NOT_APPLIED_MAX => {
                failed(format!("{NOT_APPLIED_MAX} tries were not applied: {reason}"))
            }
            Err(SendError::Retryable(reason)) if delivery.attempt >= ATTEMPTS_MAX => {
                failed(format!("{ATTEMPTS_MAX} tries failed: {reason}"))
            }
            Err(SendError::Retryable(reason) | SendError::NotApplied(reason)) => {
                again(delivery.attempt, reason)
            }
        }
    }

    /// Sends what was composed at once, and images one after the other as they are read.
    async fn send(
        &self,
        site: &SiteDestination,
        (run, transaction): (&str, &str),
        outputs: Vec<Output>,
    ) -> Result<Sent, SendError> {
        let (images, composed): (Vec<Output>, Vec<Output>) =
            outputs.into_iter().partition(|it| it.stored.is_some());
        for (index, mut image) in images.into_iter().enumerate() {
            let path = self.archive.path_of(image.stored.as_deref().unwrap_or_default());
            let read = tokio::task::spawn_blocking(move || std::fs::read(path)).await;
            let gone = "an image of its study is not in the archive any more";
            image.bytes = match read {
                Ok(Ok(bytes)) => bytes,
                _ => return Err(SendError::Refused(gone.to_owned())),
            };
            // A transaction is of one request.
            let number = format!("{transaction}.{index}");
            let own = domain::derived_uid(&["image", &number]);
            let sent = site.destination.send_part(run, &own, &image, index).await?;
            if sent == Sent::AwaitingCommitment {
                tracing::debug!(run, "an image was taken and not committed yet");
            }
        }
        if composed.is_empty() {
            return Ok(Sent::Acknowledged);
        }
        site.destination.send(run, transaction, &composed).await
    }

    /// What to send: composed now, or before with the same identity.
    async fn outputs(
        &self,
        delivery: &ClaimedDelivery,
        site: &SiteDestination,
    ) -> Result<Vec<Output>, DeliveryEnd> {
        let attempt = delivery.attempt;
        let lost = |error: StoreError| again(attempt, ErrorChain(&error).to_string());
        let view = self.store.view_delivery(delivery).await.map_err(lost)?;
        let masks = self.masks(&view).await.map_err(|reason| again(attempt, reason))?;
        let pictures = self.pictures(delivery, &view, &masks).await;
        let study = self.study_about(&view).await?;
        let (mut is_stale, mut is_unsound) = (false, false);
        let (stale, unsound) = (&mut is_stale, &mut is_unsound);
        let mut block = None;
        let blocked_by = &mut block;
        let composed = |view: &DeliveryView| {
            // Images between a modality and a PACS are held up by nothing.
            let is_routing = delivery.what == [OutputKind::Images];
            // That something is not to be used is told whatever became of order and patient since.
            let is_taken_back =
                view.reviewed.as_ref().is_some_and(|it| words(it.state.status()).is_void);
            if let Some(found) = blocked(view).filter(|_| !is_routing && !is_taken_back) {
                *blocked_by = Some(found.by);
                return Err(found.reason);
            }
            // Another node may have ended since the masks were read.
            let content = content(view);
            *stale = segments(&content).any(|it| !masks.contains_key(&it.mask.sha256));
            if *stale {
                return Err("another node ended meanwhile".to_owned());
            }
            let (about, results) = (self.about(view, study), results(view));
            let words = words(results.status);
            let is_for_ehr = delivery.what.iter().any(|it| it.is_for_ehr());
            if is_for_ehr && words.needs_banner && !words.is_void && !site.allow_unverified {
                *blocked_by = Some(BlockReason::Unverified);
                return Err(unverified(&delivery.destination).reason);
            }
            let writing = Writing {
                results: &results,
                about: &about,
                words,
                masks: &masks,
                pictures: &pictures,
                fonts: self.templates.fonts(),
                recipient: &site.recipient,
            };
            compose(&delivery.what, &writing, &self.templates).map_err(|error| {
                *unsound = matches!(error, ReportError::Unsound(_));
                ErrorChain(&error).to_string()
            })
        };
        match self.store.compose_delivery(delivery, Box::new(composed)).await {
            Ok(Ok(outputs)) => Ok(outputs),
            Ok(Err(reason)) if is_stale => Err(again(attempt, reason)),
            // Somebody has to look: a template of the site, or a mistake of ours.
            Ok(Err(reason)) if is_unsound => Err(DeliveryEnd::Failed { reason, pauses: false }),
            Ok(Err(reason)) => {
                let by = block.unwrap_or(BlockReason::NotComposed);
                Err(DeliveryEnd::Blocked(Block { by, reason }))
            }
            Err(error) => Err(lost(error)),
        }
    }

    async fn masks(&self, view: &DeliveryView) -> Result<BTreeMap<String, Vec<u8>>, String> {
        let mut masks = BTreeMap::new();
        for segment in segments(&content(view)) {
            let content = self.archive.artifact(&segment.mask).await;
            let content = content.map_err(|error| format!("a mask cannot be read: {error}"))?;
            masks.insert(segment.mask.sha256.clone(), content);
        }
        Ok(masks)
    }

    /// The images that something is to be drawn into. One that cannot be shown is missed when it is drawn.
    async fn pictures(
        &self,
        delivery: &ClaimedDelivery,
        view: &DeliveryView,
        masks: &BTreeMap<String, Vec<u8>>,
    ) -> BTreeMap<SopInstanceUid, Picture> {
        if !delivery.what.contains(&OutputKind::Sc) {
            return BTreeMap::new();
        }
        let wanted = overlay::key_images(&results(view), masks);
        let stored = view.series.iter().flat_map(|it| &it.instances);
        let files: Vec<_> = stored
            .filter(|it| wanted.iter().any(|wanted| wanted.instance == it.instance))
            .map(|it| (it.instance.clone(), self.archive.path_of(&it.sha256)))
            .collect();
        let shown = move || {
            let picture = |(instance, path): (SopInstanceUid, std::path::PathBuf)| {
                Some((instance, imaging::rendering::render(&std::fs::read(path).ok()?).ok()?))
            };
            files.into_iter().filter_map(picture).collect()
        };
        tokio::task::spawn_blocking(shown).await.unwrap_or_default()
    }

    /// The study as its first image describes it.
    async fn study_about(&self, view: &DeliveryView) -> Result<Option<StudyAbout>, DeliveryEnd> {
        let Some(uid) = view.run.study.as_ref().map(ToString::to_string) else { return Ok(None) };
        let first = view.series.iter().flat_map(|it| &it.instances).next();
        let path = first.map(|it| self.archive.path_of(&it.sha256));
        let header = match path {
            Some(path) => {
                let read = tokio::task::spawn_blocking(move || header_of(&path)).await;
                let reason = "an image of its study is not in the archive any more".to_owned();
                read.ok().flatten().ok_or(DeliveryEnd::Failed { reason, pauses: false })?
            }
            None => Header::default(),
        };
        let text = |tag| header.text(tag).map(|it| it.text).unwrap_or_default();
        let plain = |tag| header.ascii(tag).unwrap_or_default().to_owned();
        let of_order = view.orders.first().map(|it| it.order.key.accession.clone());
        let accession = Some(view.accession.clone()).filter(|it| !it.is_empty()).or(of_order);
        Ok(Some(StudyAbout {
            uid,
            date: date(&plain(record::STUDY_DATE)),
            time: time(&plain(record::STUDY_TIME)),
            id: text(record::STUDY_ID),
            description: text(record::STUDY_DESCRIPTION),
            accession: accession.unwrap_or_default(),
        }))
    }

    fn about(&self, view: &DeliveryView, study: Option<StudyAbout>) -> About {
        let patient = view.patient.clone();
        let nobody = PatientId { value: String::new(), issuer: String::new() };
        let identifier = patient.as_ref().map_or(nobody, |it| it.identifier.clone());
        let demographics = patient.map(|it| it.demographics).unwrap_or_default();
        let orders = view.orders.iter().filter(|it| !it.is_cancelled).map(|it| it.order.clone());
        About {
            run: view.run.id,
            patient: identifier,
            demographics,
            study,
            orders: orders.collect(),
            engine: self.engine.clone(),
            before: known(view).map(before),
        }
    }
}

/// What a destination has: what it acknowledged. Of what is to be taken back, also what may have arrived.
fn known(view: &DeliveryView) -> Option<&SentBefore> {
    let is_void = view.reviewed.as_ref().is_some_and(|it| words(it.state.status()).is_void);
    view.before.as_ref().filter(|it| is_void || !it.outputs.is_empty())
}

fn before(sent: &SentBefore) -> Before {
    let object = |it: &Output| SentObject {
        kind: it.kind,
        sop_class: it.sop_class.clone(),
        series: it.series.clone(),
        id: it.id.clone(),
    };
    Before {
        version: sent.version,
        is_own: sent.is_own,
        objects: sent.outputs.iter().map(object).collect(),
        tried: sent.tried.iter().map(object).collect(),
    }
}

/// A date, or nothing: what goes into reports is what its representation says (PS3.5, 6.2).
fn date(text: &str) -> String {
    let is_date = text.len() == 8 && text.bytes().all(|it| it.is_ascii_digit());
    if is_date { text.to_owned() } else { String::new() }
}

/// A time, or nothing.
fn time(text: &str) -> String {
    let begins = text.get(..6).is_some_and(|it| it.bytes().all(|it| it.is_ascii_digit()));
    let is_time = begins && text.bytes().all(|it| it.is_ascii_digit() || it == b'.');
    if is_time { text.to_owned() } else { String::new() }
}

fn segments(content: &NodeOutput) -> impl Iterator<Item = &Segment> {
    content.segmentations.iter().flat_map(|it| &it.segments)
}

/// Why nothing may be sent for this run just now (HL7-43, HL7-44).
fn blocked(view: &DeliveryView) -> Option<Block> {
    if !view.orders.is_empty() && view.orders.iter().all(|it| it.is_cancelled) {
        let reason = "the order was cancelled".to_owned();
        return Some(Block { by: BlockReason::OrderCancelled, reason });
    }
    let patient = view.run.patient;
    let differs =
        |it: &contracts::OrderSnapshot| it.patient.zip(patient).is_some_and(|(a, b)| a != b);
    if view.orders.iter().any(differs) {
        let reason = "identity_conflict: images and order are of two patients".to_owned();
        return Some(Block { by: BlockReason::IdentityConflict, reason });
    }
    None
}

fn header_of(path: &Path) -> Option<Header> {
    use std::io::Read as _;
    let file = std::fs::File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    let mut start = Vec::new();
    file.take(file_meta::META_BYTES_MAX).read_to_end(&mut start).ok()?;
    let (at, syntax) = file_meta::split(&start)?;
    let at = at as u64;
    header_at(path, at, length.checked_sub(at)?, Encoding::of(&syntax)).ok()
}

/// All that a run found, as people left it, or as its nodes drafted it (OUT-01).
fn results(view: &DeliveryView) -> ResultSet {
    let inputs = view.series.iter().flat_map(|it: &SeriesSnapshot| &it.instances);
    let input = |it: &contracts::StoredInstance| InputInstance {
        instance: it.instance.clone(),
        sha256: it.sha256.clone(),
    };
    let content = content(view);
    let drafted = if view.has_failures { ResultStatus::AiPartial } else { ResultStatus::AiDraft };
    ResultSet {
        run: view.run.id,
        workflow: view.run.workflow.clone(),
        status: view.reviewed.as_ref().map_or(drafted, |it| it.state.status()),
        concluded: view.concluded,
        revision: view.revision,
        attested: view.reviewed.as_ref().map(|it| it.attestation.clone()),
        amends: view.run.amends,
        findings: content.findings,
        segmentations: content.segmentations,
        regions: content.regions,
        laboratory: content.laboratory,
        sections: content.sections,
        inputs: inputs.map(input).collect(),
        algorithms: algorithms(view),
    }
}

fn content(view: &DeliveryView) -> NodeOutput {
    match &view.reviewed {
        Some(reviewed) => reviewed.content.clone(),
        None => drafted(&view.outputs, &view.plugins, &view.run),
    }
}

/// What worked on the run, by the libraries that were pinned.
fn algorithms(view: &DeliveryView) -> Vec<Algorithm> {
    let algorithm = |it: &contracts::PluginPin| Algorithm {
        name: it.name.clone(),
        version: it.version.clone(),
        parameters: BTreeMap::from([("plugin_sha256".to_owned(), it.digest.clone())]),
    };
    view.plugins.values().map(algorithm).collect()
}

fn again(attempt: i32, reason: String) -> DeliveryEnd {
    let doublings = u32::try_from(attempt.clamp(1, 12) - 1).unwrap_or_default();
    let after = Duration::from_secs(1 << doublings).min(BACKOFF_MAX);
    DeliveryEnd::Again { reason, after }
}
