//! Gathers what a report needs, and composes it.
//!
//! Masks, pictures and the header of an image are read from the archive first. Then the report is
//! composed in the transaction that records it, from rows read in that transaction: the identity
//! in a report is that of the moment at which the report is recorded (HL7-33).

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use contracts::{
    Archive, Block, ClaimedDelivery, ComposeFailure, ComposedReport, DecodeError, DecodedPicture,
    Decoder, DeliveryStore, DeliveryView, Output, OutputKind, StoreError,
};
use domain::event::OmittedPicture;
use domain::{BlockReason, ErrorChain, NodeOutput, ResultStatus, Segment, SopInstanceUid};
use encoding::dicom::header::Header;
use imaging::Picture;
use report::status::StatusCodes;
use report::{Engine, ReportError, ReportInput, StudyDescription, Templates, compose};

use super::content::{
    content, has_lost_orders, is_withdrawn, report_context, result_set, study_description,
    unreadable_identity,
};
use crate::configuration::SiteDestination;
use crate::header::{self, HeaderReadError};
use crate::run::step::unsigned;

/// Why a report for an EHR needs a person if there is no patient: an EHR files by identifier, and
/// may file an empty one under anybody (HL7-33).
const WITHOUT_PATIENT: &str = "the study or message names no patient, whom an EHR would file it under; \
    it can be sent again once the patient is known";

/// Why a report that was sent needs a person once its message is removed: its receivers know it by
/// the orders that the message names (HL7-53).
const WITHOUT_ORDERS: &str = "the message of the laboratory is not kept any more (retention), so the \
    orders that the report was sent under are not known; its receivers have to be told";

/// Attempts at a delivery in which an image may take too long to decode. In a later one the image
/// goes without its findings drawn in, and the delivery says so.
const SLOW_ATTEMPTS_MAX: i32 = 8;

/// The contents of masks, packed, by SHA-256.
type Masks = BTreeMap<String, Vec<u8>>;

/// Images that something is drawn into, by instance.
#[derive(Default)]
struct Pictures {
    decoded: BTreeMap<SopInstanceUid, Picture>,
    /// Those that cannot be decoded, each with the reason.
    undecodable: BTreeMap<SopInstanceUid, String>,
}

/// Composes deliveries.
pub(crate) struct Composer {
    store: Arc<dyn DeliveryStore>,
    archive: Arc<dyn Archive>,
    decoder: Arc<dyn Decoder>,
    templates: Templates,
    engine: Engine,
}

impl Composer {
    pub(crate) fn new(
        store: Arc<dyn DeliveryStore>,
        archive: Arc<dyn Archive>,
        decoder: Arc<dyn Decoder>,
        templates: Templates,
        engine: Engine,
    ) -> Self {
        Self { store, archive, decoder, templates, engine }
    }

    /// What a delivery sends: composed now, or earlier under the same identity.
    pub(super) async fn compose(
        &self,
        delivery: &ClaimedDelivery,
        site: &SiteDestination,
    ) -> Result<Vec<Output>, ComposeFailure> {
        let view = self.store.view_delivery(delivery).await.map_err(|error| retryable(&error))?;
        let masks = self.masks(&view).await?;
        let pictures = self.pictures(delivery, &view, &masks).await?;
        let header = self.header(&view).await?;
        let composition = Composition { composer: self, delivery, site, masks, pictures, header };
        let compose = |view: &DeliveryView| composition.report(view);
        let composed = self.store.compose_delivery(delivery, Box::new(compose)).await;
        composed.map_err(|error| retryable(&error))?
    }

    async fn masks(&self, view: &DeliveryView) -> Result<Masks, ComposeFailure> {
        let mut masks = Masks::new();
        // A withdrawal shows no mask: it goes out whatever happened to them.
        if is_withdrawn(view) {
            return Ok(masks);
        }
        for segment in segments(&content(view)) {
            let mask = self.archive.artifact(&segment.mask).await;
            let mask = mask.map_err(|error| unread_mask(&error))?;
            masks.insert(segment.mask.sha256.clone(), mask);
        }
        Ok(masks)
    }

    /// The images that the report draws into. Composing fails later if one of them is missing.
    async fn pictures(
        &self,
        delivery: &ClaimedDelivery,
        view: &DeliveryView,
        masks: &Masks,
    ) -> Result<Pictures, ComposeFailure> {
        let mut pictures = Pictures::default();
        if !delivery.what.contains(&OutputKind::Sc) {
            return Ok(pictures);
        }
        let key_images = report::dicom::secondary_capture::key_images(&result_set(view), masks);
        let mut files: Vec<(SopInstanceUid, PathBuf)> = Vec::new();
        for stored in view.series.iter().flat_map(|it| &it.instances) {
            if key_images.iter().any(|it| it.instance == stored.instance) {
                files.push((stored.instance.clone(), self.archive.path_of(&stored.sha256)));
            }
        }
        for (instance, path) in files {
            match self.decoder.picture(&path).await {
                Ok(picture) => _ = pictures.decoded.insert(instance, drawable(picture)?),
                Err(DecodeError::Undecodable { reason }) => {
                    pictures.undecodable.insert(instance, reason);
                }
                Err(DecodeError::OutOfTime { reason }) if delivery.attempt >= SLOW_ATTEMPTS_MAX => {
                    pictures.undecodable.insert(instance, reason);
                }
                Err(error @ (DecodeError::Unavailable { .. } | DecodeError::OutOfTime { .. })) => {
                    return Err(ComposeFailure::Retryable { reason: error.to_string() });
                }
            }
        }
        Ok(pictures)
    }

    /// The header of the first image of the study; an empty one if the run is about a message.
    async fn header(&self, view: &DeliveryView) -> Result<Header, ComposeFailure> {
        let first = view.series.iter().flat_map(|it| &it.instances).next();
        let (Some(first), Some(_)) = (first, &view.run.study) else {
            return Ok(Header::default());
        };
        let path = self.archive.path_of(&first.sha256);
        let read = header::of_stored(path, &*self.decoder).await;
        read.map_err(|error| without_header(&error))
    }
}

/// What follows if an image of the study cannot be read: it is lost, or the disk fails just now.
pub(super) fn unread_image(error: &io::Error) -> ComposeFailure {
    if error.kind() == io::ErrorKind::NotFound {
        let reason = "an image of its study is not in the archive any more".to_owned();
        return ComposeFailure::NeedsPerson { reason };
    }
    ComposeFailure::Retryable { reason: format!("an image of its study cannot be read: {error}") }
}

/// What follows if a mask cannot be read: it is lost or damaged, or the disk fails just now.
fn unread_mask(error: &io::Error) -> ComposeFailure {
    let lost = match error.kind() {
        io::ErrorKind::NotFound => "a mask of its result is not in the archive any more",
        io::ErrorKind::InvalidData => "a mask of its result is damaged in the archive",
        _ => {
            let reason = format!("a mask of its result cannot be read: {error}");
            return ComposeFailure::Retryable { reason };
        }
    };
    ComposeFailure::NeedsPerson { reason: lost.to_owned() }
}

/// One delivery with everything that was read for it.
struct Composition<'a> {
    composer: &'a Composer,
    delivery: &'a ClaimedDelivery,
    site: &'a SiteDestination,
    masks: Masks,
    pictures: Pictures,
    /// Of the first image of the study.
    header: Header,
}

impl Composition<'_> {
    /// Composes from the rows of the transaction.
    fn report(&self, view: &DeliveryView) -> Result<ComposedReport, ComposeFailure> {
        self.check(view)?;
        let results = result_set(view);
        if let Some(block) = self.signature_block(results.status) {
            return Err(ComposeFailure::Blocked(block));
        }
        let study = view.run.study.as_ref();
        let study: Option<StudyDescription> =
            study.map(|it| study_description(it, &self.header, view));
        let context = report_context(view, study, &self.composer.engine);
        let templates = &self.composer.templates;
        let input = ReportInput {
            results: &results,
            context: &context,
            status: StatusCodes::of(results.status),
            masks: &self.masks,
            pictures: &self.pictures.decoded,
            undecodable: &self.pictures.undecodable,
            fonts: templates.fonts(),
            recipient: &self.site.recipient,
        };
        let outputs = compose(&self.delivery.what, &input, templates)
            .map_err(|error| compose_failure(&error))?;
        let omitted = if is_withdrawn(view) { Vec::new() } else { self.omitted() };
        Ok(ComposedReport { outputs, omitted })
    }

    /// The images that it has no picture of.
    fn omitted(&self) -> Vec<OmittedPicture> {
        let undecodable = self.pictures.undecodable.iter();
        undecodable
            .map(|(instance, reason)| OmittedPicture {
                instance: instance.to_string(),
                reason: reason.clone(),
            })
            .collect()
    }

    /// Whether the report may be composed from these rows.
    fn check(&self, view: &DeliveryView) -> Result<(), ComposeFailure> {
        // A forwarded image and a withdrawal are sent whatever happened to order and patient.
        let is_routing = self.delivery.what == [OutputKind::Images];
        if !is_routing
            && !is_withdrawn(view)
            && let Some(block) =
                replaced_block(view).or_else(|| order_block(view)).or_else(|| mixed_block(view))
        {
            return Err(ComposeFailure::Blocked(block));
        }
        if !is_routing && let Some(block) = self.run_block(view) {
            return Err(ComposeFailure::Blocked(block));
        }
        // A folder that takes images and messages alike files by no identifier.
        let is_only_for_ehr = self.delivery.what.iter().all(|it| it.is_for_ehr());
        if !is_withdrawn(view) && is_only_for_ehr && view.patient.is_none() {
            return Err(ComposeFailure::NeedsPerson { reason: WITHOUT_PATIENT.to_owned() });
        }
        if !is_routing
            && !is_withdrawn(view)
            && let Some(reason) = unreadable_identity(&self.header, view)
        {
            return Err(ComposeFailure::NeedsPerson { reason });
        }
        if !is_routing && has_lost_orders(view) {
            return Err(ComposeFailure::NeedsPerson { reason: WITHOUT_ORDERS.to_owned() });
        }
        // A node may have ended after the masks were read.
        if !is_withdrawn(view)
            && segments(&content(view)).any(|it| !self.masks.contains_key(&it.mask.sha256))
        {
            let reason = "another node ended meanwhile".to_owned();
            return Err(ComposeFailure::Retryable { reason });
        }
        Ok(())
    }

    fn is_for_ehr(&self) -> bool {
        self.delivery.what.iter().any(|it| it.is_for_ehr())
    }

    /// Blocks what gives way to the result of another run: a signed result stands until a person
    /// signs the later one, and is never sent again once that has happened (DIN-52). Objects of a
    /// rejected proposal are withdrawn all the same; messages would withdraw the signed result with
    /// it.
    fn run_block(&self, view: &DeliveryView) -> Option<Block> {
        let is_void = is_withdrawn(view);
        if view.is_proposal() && (!is_void || self.is_for_ehr()) {
            let reason = "an earlier result is signed and stands until somebody signs this one";
            return Some(Block { by: BlockReason::SignedResult, reason: reason.to_owned() });
        }
        let reason = "a later result was signed in its place";
        (view.is_replaced && !is_void)
            .then(|| Block { by: BlockReason::Replaced, reason: reason.to_owned() })
    }

    /// Blocks reports for an EHR that nobody has signed, if the site wants that (HL7-52).
    fn signature_block(&self, status: ResultStatus) -> Option<Block> {
        let codes = StatusCodes::of(status);
        let is_unsigned = codes.needs_banner && !codes.is_withdrawn;
        (self.is_for_ehr() && is_unsigned && !self.site.allow_unverified)
            .then(|| unsigned(&self.delivery.destination))
    }
}

/// Blocks a draft in whose place a later run or message holds: what it states may be withdrawn.
/// What a person has signed is theirs to take back.
fn replaced_block(view: &DeliveryView) -> Option<Block> {
    let is_signed = view.reviewed.as_ref().is_some_and(|it| it.state.is_signed());
    (view.is_superseded && !is_signed).then(|| Block {
        by: BlockReason::Replaced,
        reason: "a later result holds in its place".to_owned(),
    })
}

/// Blocks everything that was concluded while the order is cancelled (HL7-43), or while images and
/// order belong to two patients (HL7-44).
fn order_block(view: &DeliveryView) -> Option<Block> {
    if !view.orders.is_empty() && view.orders.iter().all(|it| it.is_cancelled) {
        let reason = "the order was cancelled".to_owned();
        return Some(Block { by: BlockReason::OrderCancelled, reason });
    }
    let is_conflict = view.orders.iter().any(|it| it.is_of_other_patient(view.run.patient));
    is_conflict.then(|| Block {
        by: BlockReason::IdentityConflict,
        reason: "images and order are of two patients".to_owned(),
    })
}

/// Blocks what was concluded from results of two patients, until the two are one again (HL7-37).
fn mixed_block(view: &DeliveryView) -> Option<Block> {
    view.is_mixed.then(|| Block {
        by: BlockReason::IdentityConflict,
        reason: "results of another patient were combined with these before a merge was reversed"
            .to_owned(),
    })
}

fn compose_failure(error: &ReportError) -> ComposeFailure {
    let reason = ErrorChain(error).to_string();
    if matches!(error, ReportError::Invalid(_) | ReportError::Identity { .. }) {
        return ComposeFailure::NeedsPerson { reason };
    }
    ComposeFailure::Blocked(Block { by: BlockReason::NotComposed, reason })
}

fn retryable(error: &StoreError) -> ComposeFailure {
    ComposeFailure::Retryable { reason: ErrorChain(error).to_string() }
}

/// Why nothing is composed without the header of an image. Disk and decoder may recover; the rest
/// stays so.
fn without_header(error: &HeaderReadError) -> ComposeFailure {
    match error {
        HeaderReadError::Unreadable(error) => unread_image(error),
        HeaderReadError::NoDecoder { .. } => {
            ComposeFailure::Retryable { reason: error.to_string() }
        }
        HeaderReadError::Malformed(_)
        | HeaderReadError::NotInflated { .. }
        | HeaderReadError::NoFileMeta => {
            let reason = format!("the header of an image of its study: {}", ErrorChain(error));
            ComposeFailure::NeedsPerson { reason }
        }
    }
}

/// A decoded picture, to draw into.
fn drawable(picture: DecodedPicture) -> Result<Picture, ComposeFailure> {
    let DecodedPicture { width, height, rgb } = picture;
    let picture = Picture::new(width, height, rgb);
    picture.map_err(|error| ComposeFailure::Retryable { reason: error.to_string() })
}

fn segments(content: &NodeOutput) -> impl Iterator<Item = &Segment> {
    content.segmentations.iter().flat_map(|it| &it.segments)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use contracts::{ReceivedDocument, ReceivedSegment};

    use super::*;

    /// A decoder that does not work. Files that are not deflated need none.
    struct NoDecoder;

    #[async_trait::async_trait]
    impl Decoder for NoDecoder {
        async fn picture(&self, _: &Path) -> Result<DecodedPicture, DecodeError> {
            Err(DecodeError::Unavailable { reason: "none".to_owned() })
        }

        async fn segments(&self, _: &Path) -> Result<Vec<ReceivedSegment>, DecodeError> {
            Err(DecodeError::Unavailable { reason: "none".to_owned() })
        }

        async fn document(&self, _: &Path) -> Result<ReceivedDocument, DecodeError> {
            Err(DecodeError::Unavailable { reason: "none".to_owned() })
        }

        async fn inflated_header(&self, _: &Path) -> Result<Vec<u8>, DecodeError> {
            Err(DecodeError::Unavailable { reason: "none".to_owned() })
        }

        async fn inflated(&self, _: &Path) -> Result<Vec<u8>, DecodeError> {
            Err(DecodeError::Unavailable { reason: "none".to_owned() })
        }
    }

    async fn failure(path: PathBuf) -> ComposeFailure {
        without_header(&header::of_stored(path, &NoDecoder).await.unwrap_err())
    }

    #[test]
    fn out_34_a_damaged_mask_goes_to_a_person_and_a_failing_disk_is_waited_for() {
        for (kind, expected) in [
            (io::ErrorKind::NotFound, "not in the archive any more"),
            (io::ErrorKind::InvalidData, "is damaged"),
        ] {
            let ComposeFailure::NeedsPerson { reason } = unread_mask(&kind.into()) else {
                panic!()
            };
            assert!(reason.contains(expected), "{reason}");
        }
        // EIO, which has no kind of its own.
        let failing = io::Error::from_raw_os_error(5);
        let ComposeFailure::Retryable { reason } = unread_mask(&failing) else { panic!() };
        assert!(reason.contains("cannot be read"), "{reason}");
    }

    #[tokio::test]
    async fn hl7_33_an_image_that_cannot_be_read_is_told_from_one_that_is_gone() {
        let folder = std::env::temp_dir().join(format!("isocenter-header-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let damaged = folder.join("damaged");
        std::fs::write(&damaged, "no DICOM").unwrap();

        let ComposeFailure::NeedsPerson { reason } = failure(folder.join("gone")).await else {
            panic!()
        };
        assert_eq!(reason, "an image of its study is not in the archive any more");
        let ComposeFailure::NeedsPerson { reason } = failure(damaged).await else { panic!() };
        assert!(reason.contains("no file meta information"), "{reason}");
        // What can be opened and not be read may be read later.
        let ComposeFailure::Retryable { reason } = failure(folder.clone()).await else { panic!() };
        assert!(reason.contains("cannot be read"), "{reason}");
        std::fs::remove_dir_all(folder).unwrap();
    }
}
