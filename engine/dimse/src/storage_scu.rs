//! The requests that the engine sends: C-ECHO and C-STORE as service class user (PS3.4, Annexes A
//! and B), and storage commitment for what was stored (PS3.4, Annex J; DIN-34).

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use contracts::{
    CommitmentAnswer, CommitmentResult, Destination, Output, Preferences, ProbeError,
    SegmentationForm, SendError, Sent, SopReference, describe_gaps,
};
use domain::OutputKind;
use tokio::sync::Mutex;

use crate::client_association::{ClientAssociation, Remote, ScuError, check, uncompressed};
use crate::commitment_data::{REQUEST, read_answer, write_request};
use crate::message::{Command, CommandField, Status};
use crate::outgoing_object::{ObjectIdentity, OutgoingObject, contexts};
use crate::pdu_stream::PduError;
use crate::presentation_context::Role;
use crate::sop_class::{COMMITMENT, COMMITMENT_INSTANCE, VERIFICATION};

/// How long an idle association is held open for the next delivery.
pub(crate) const IDLE_MAX: Duration = Duration::from_secs(20);

/// How long to wait on our own association for the result of storage commitment. After that the
/// PACS opens an association to us.
pub(crate) const COMMITMENT_WAIT: Duration = Duration::from_secs(5);

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
        let objects = files.iter().map(|it| OutgoingObject::read(it));
        let objects: Vec<OutgoingObject<'_>> = objects.collect::<Result<_, _>>()?;
        let mut association = self.associate(&contexts(&objects)).await?;
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
        let answer = association.commit(transaction, references, wait).await?;
        association.release().await;
        Ok(answer.map(|it| it.result))
    }
}

impl ClientAssociation {
    async fn store(&mut self, object: &OutgoingObject<'_>) -> Result<(), ScuError> {
        let context = object.context(self)?;
        let data_set = object.data_set_in(&context.transfer_syntax)?;
        let field = CommandField::C_STORE;
        let request = Command::request(context.id, field, 0, object.sop_class, object.sop_instance);
        check(&self.request(request, &data_set).await?)
    }

    /// Requests storage commitment. Returns the answer if it comes on this association in time.
    async fn commit(
        &mut self,
        transaction: &str,
        references: &[SopReference],
        wait: Duration,
    ) -> Result<Option<CommitmentAnswer>, ScuError> {
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
        let event_type = report.command.type_id;
        let answer = read_answer(event_type, &report.data_set, &context.transfer_syntax)
            .ok()
            .filter(|_| report.command.field == CommandField::N_EVENT_REPORT)
            .filter(|it| it.result.transaction == transaction);
        let status = if answer.is_some() { Status::SUCCESS } else { Status::INVALID_ARGUMENT };
        self.send(&report.command.response(status, ""), &[]).await?;
        Ok(answer)
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
    async fn association(
        &self,
        objects: &[OutgoingObject<'_>],
    ) -> Result<ClientAssociation, ScuError> {
        let idle = self.idle.lock().await.take();
        if let Some(idle) = idle {
            let fits = objects.iter().all(|it| it.context(&idle).is_ok());
            if fits && idle.last_used.elapsed() < IDLE_MAX {
                return Ok(idle);
            }
            idle.release().await;
        }
        let mut contexts = contexts(objects);
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
        objects: &[OutgoingObject<'_>],
    ) -> Result<Sent, SendError> {
        let references: Vec<SopReference> = objects.iter().map(OutgoingObject::reference).collect();
        let answer = association.commit(transaction, &references, COMMITMENT_WAIT).await?;
        // The result may still come, on an association that the PACS opens.
        association.release().await;
        let Some(answer) = answer else { return Ok(Sent::AwaitingCommitment) };
        match answer.gaps(&references).as_slice() {
            [] => Ok(Sent::Acknowledged),
            gaps => Err(SendError::NotApplied(describe_gaps(gaps))),
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
        let objects = outputs.iter().map(|it| OutgoingObject::read(&it.bytes));
        let objects: Vec<OutgoingObject<'_>> = objects.collect::<Result<_, _>>()?;
        let mut association = self.association(&objects).await?;
        let identities: Vec<ObjectIdentity> =
            objects.iter().map(OutgoingObject::identity).collect();
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
