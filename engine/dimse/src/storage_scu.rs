//! The requests that the engine sends: C-ECHO and C-STORE as service class user (PS3.4, Annexes A
//! and B), and storage commitment for what was stored (PS3.4, Annex J; DIN-34).

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use contracts::{
    CommitmentResult, Destination, Output, Preferences, ProbeError, SegmentationForm, SendError,
    Sent, SopReference,
};
use domain::OutputKind;
use encoding::dicom::file_meta;
use sha2::{Digest as _, Sha256};
use tokio::sync::Mutex;

use crate::client_association::{ClientAssociation, Remote, ScuError, check, uncompressed};
use crate::commitment_data::{REQUEST, read_result, write_request};
use crate::message::{Command, CommandField, Status};
use crate::pdu_stream::PduError;
use crate::presentation_context::{ProposedContext, Role};
use crate::sop_class::{COMMITMENT, COMMITMENT_INSTANCE, VERIFICATION};

/// How long an idle association is held open for the next delivery.
pub(crate) const IDLE_MAX: Duration = Duration::from_secs(20);

/// How long to wait on our own association for the result of storage commitment. After that the
/// PACS opens an association to us.
pub(crate) const COMMITMENT_WAIT: Duration = Duration::from_secs(5);

/// A DICOM file, split into the parts of a C-STORE.
struct Object<'a> {
    sop_class: &'a str,
    sop_instance: &'a str,
    transfer_syntax: String,
    data_set: &'a [u8],
}

impl Object<'_> {
    fn identity(&self) -> ObjectIdentity {
        ObjectIdentity {
            sop_instance: self.sop_instance.to_owned(),
            sha256: Sha256::digest(self.data_set).into(),
        }
    }

    fn context(&self) -> ProposedContext {
        ProposedContext {
            abstract_syntax: self.sop_class.to_owned(),
            transfer_syntax: self.transfer_syntax.clone(),
            role: Role::Scu,
        }
    }

    fn reference(&self) -> SopReference {
        SopReference {
            sop_class: self.sop_class.to_owned(),
            sop_instance: self.sop_instance.to_owned(),
        }
    }
}

impl Remote {
    /// Verifies that the peer answers, by C-ECHO.
    ///
    /// # Errors
    ///
    /// Fails if the peer cannot be reached, refuses the association, or answers with a failure.
    pub async fn echo(&self) -> Result<(), ScuError> {
        let contexts = uncompressed(VERIFICATION, Role::Scu).collect();
        let mut association = self.associate(&contexts).await?;
        let context_id = association.context(VERIFICATION, None)?.id;
        let request = Command::request(context_id, CommandField::C_ECHO, 0, VERIFICATION, "");
        let response = association.request(request, &[]).await?;
        association.release().await;
        check(&response)
    }

    /// Sends DICOM files on one association.
    ///
    /// # Errors
    ///
    /// Stops at the first file that was not stored, with the reason.
    pub async fn store(&self, files: &[&[u8]]) -> Result<(), ScuError> {
        let objects: Option<Vec<_>> = files.iter().map(|it| object(it)).collect();
        let objects = objects.ok_or(ScuError::NotAFile)?;
        let contexts = objects.iter().map(Object::context).collect();
        let mut association = self.associate(&contexts).await?;
        for object in &objects {
            association.store(object).await?;
        }
        association.release().await;
        Ok(())
    }

    /// Requests storage commitment, and waits up to `wait` for the result on the same association.
    ///
    /// # Errors
    ///
    /// Fails if the request was not accepted.
    pub async fn commit(
        &self,
        transaction: &str,
        references: &[SopReference],
        wait: Duration,
    ) -> Result<Option<CommitmentResult>, ScuError> {
        let contexts = uncompressed(COMMITMENT, Role::Scu).collect();
        let mut association = self.associate(&contexts).await?;
        let result = association.commit(transaction, references, wait).await?;
        association.release().await;
        Ok(result)
    }
}

fn object(file: &[u8]) -> Option<Object<'_>> {
    let (start, transfer_syntax) = file_meta::split(file)?;
    let (meta, data_set) = file.split_at_checked(start)?;
    let value = |number: u8| {
        let at = meta.windows(6).position(|it| it == [2, 0, number, 0, b'U', b'I'])?;
        let (length, rest) = meta.get(at + 6..)?.split_first_chunk::<2>()?;
        let text = rest.get(..usize::from(u16::from_le_bytes(*length)))?;
        Some(std::str::from_utf8(text).ok()?.trim_end_matches('\0'))
    };
    Some(Object { sop_class: value(2)?, sop_instance: value(3)?, transfer_syntax, data_set })
}

impl ClientAssociation {
    async fn store(&mut self, object: &Object<'_>) -> Result<(), ScuError> {
        let context_id = self.context(object.sop_class, Some(&object.transfer_syntax))?.id;
        let field = CommandField::C_STORE;
        let request = Command::request(context_id, field, 0, object.sop_class, object.sop_instance);
        check(&self.request(request, object.data_set).await?)
    }

    /// Requests storage commitment. Returns the result if it comes on this association in time.
    async fn commit(
        &mut self,
        transaction: &str,
        references: &[SopReference],
        wait: Duration,
    ) -> Result<Option<CommitmentResult>, ScuError> {
        let context = self.context(COMMITMENT, None)?.clone();
        let data_set = write_request(transaction, references, &context.transfer_syntax);
        let field = CommandField::N_ACTION;
        let request = Command::request(context.id, field, 0, COMMITMENT, COMMITMENT_INSTANCE);
        check(&self.request(request.with_type_id(REQUEST), &data_set).await?)?;
        let report = match self.receive(wait).await {
            Ok(report) => report,
            Err(ScuError::Pdu(PduError::Silent)) => return Ok(None),
            Err(error) => return Err(error),
        };
        let result = read_result(&report.data_set, &context.transfer_syntax)
            .ok()
            .filter(|_| report.command.field == CommandField::N_EVENT_REPORT)
            .filter(|result| result.transaction == transaction);
        let status = if result.is_some() { Status::SUCCESS } else { Status::INVALID_ARGUMENT };
        self.send(&report.command.response(status, ""), &[]).await?;
        Ok(result)
    }
}

/// A PACS that reports are delivered to. Its association is held open for the next delivery.
pub struct DicomDestination {
    remote: Remote,
    /// Whether a delivery is complete only once the PACS has committed it (DIN-34).
    requires_commitment: bool,
    segmentation: SegmentationForm,
    idle: Mutex<Option<ClientAssociation>>,
    /// Objects of incomplete deliveries that the PACS has stored: another attempt omits them.
    stored: Mutex<BTreeSet<ObjectIdentity>>,
}

/// Identifies an object that was sent.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct ObjectIdentity {
    sop_instance: String,
    /// SHA-256 of the data set.
    sha256: [u8; 32],
}

/// Upper bound of the objects remembered for deliveries that never became complete. Beyond it they
/// are forgotten, and more is sent again than necessary.
const STORED_MAX: usize = 10_000;

impl DicomDestination {
    /// A destination at `remote` that accepts segmentations in this form. With
    /// `requires_commitment`, storage commitment is requested for each delivery.
    pub fn new(remote: Remote, requires_commitment: bool, segmentation: SegmentationForm) -> Self {
        Self {
            remote,
            requires_commitment,
            segmentation,
            idle: Mutex::default(),
            stored: Mutex::default(),
        }
    }

    /// The idle association if it fits these objects, else a new one.
    async fn association(&self, objects: &[Object<'_>]) -> Result<ClientAssociation, ScuError> {
        let idle = self.idle.lock().await.take();
        if let Some(idle) = idle {
            let fits = objects
                .iter()
                .all(|it| idle.context(it.sop_class, Some(&it.transfer_syntax)).is_ok());
            if fits && idle.last_used.elapsed() < IDLE_MAX {
                return Ok(idle);
            }
            idle.release().await;
        }
        let mut contexts: BTreeSet<ProposedContext> = objects.iter().map(Object::context).collect();
        if self.requires_commitment {
            contexts.extend(uncompressed(COMMITMENT, Role::Scu));
        }
        self.remote.associate(&contexts).await
    }

    async fn note_stored(&self, object: ObjectIdentity) {
        let mut stored = self.stored.lock().await;
        if stored.len() >= STORED_MAX {
            stored.clear();
        }
        stored.insert(object);
    }

    /// Requests storage commitment of the objects of a delivery.
    async fn commit(
        &self,
        mut association: ClientAssociation,
        transaction: &str,
        objects: &[Object<'_>],
    ) -> Result<Sent, SendError> {
        let references: Vec<SopReference> = objects.iter().map(Object::reference).collect();
        let result = association.commit(transaction, &references, COMMITMENT_WAIT).await?;
        // The result may still come, on an association that the PACS opens.
        association.release().await;
        match result {
            None => Ok(Sent::AwaitingCommitment),
            Some(result) if result.failed.is_empty() => Ok(Sent::Acknowledged),
            Some(result) => {
                let count = result.failed.len();
                let reason = result.failed.first().map_or(0, |(_, reason)| reason.0);
                let text = format!("the PACS did not commit {count} objects: {reason:#06x}");
                Err(SendError::Retryable(text))
            }
        }
    }
}

#[async_trait]
impl Destination for DicomDestination {
    fn takes(&self, kind: OutputKind) -> bool {
        kind.is_dicom()
    }

    fn preferences(&self) -> Preferences {
        Preferences { segmentation: self.segmentation, ..Preferences::default() }
    }

    async fn probe(&self) -> Result<Option<String>, ProbeError> {
        let Remote { address, called, calling, .. } = &self.remote;
        self.remote.echo().await.map_err(|error| ProbeError {
            message: format!(
                "{called} at {address} does not answer C-ECHO; it must know us as {calling}"
            ),
            source: Box::new(error),
        })?;
        Ok(Some(format!("{called} at {address} answers C-ECHO")))
    }

    async fn send(
        &self,
        _: &str,
        transaction: &str,
        outputs: &[Output],
    ) -> Result<Sent, SendError> {
        let objects: Option<Vec<_>> = outputs.iter().map(|it| object(&it.bytes)).collect();
        let objects = objects.ok_or(ScuError::NotAFile)?;
        let mut association = self.association(&objects).await?;
        let identities: Vec<ObjectIdentity> = objects.iter().map(Object::identity).collect();
        for (object, identity) in objects.iter().zip(&identities) {
            if !self.stored.lock().await.contains(identity) {
                association.store(object).await?;
                self.note_stored(identity.clone()).await;
            }
        }
        self.stored.lock().await.retain(|it| !identities.contains(it));
        if self.requires_commitment {
            return self.commit(association, transaction, &objects).await;
        }
        // Deliveries are concurrent: one association is held open, the others are released.
        let previous = self.idle.lock().await.replace(association);
        if let Some(previous) = previous {
            previous.release().await;
        }
        Ok(Sent::Acknowledged)
    }
}
