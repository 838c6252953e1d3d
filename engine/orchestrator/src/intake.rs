//! The intake: stores what listeners receive.
//!
//! A listener acknowledges only what a function of this module has returned `Ok` for: by then it
//! is in the archive and in the database, and survives a loss of power.
//!
//! The way of an instance, forward only: permit, header ([`crate::header`]), record ([`record`]),
//! archive, database.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use contracts::{
    Admission, Answers, Archive, CommitmentAnswer, CommitmentIntake, CommitmentRequest,
    CommitmentResult, CommitmentStore, Decoder, DeliveryStore, EventSink, InstanceArrival,
    InstanceIntake, InstanceOutcome, InstanceStore, MessageArrival, MessageIntake, MessageOutcome,
    MessageRecord, MessageStore, Quarantined, Refusal, RefusalReason, ReportEnd, StoreError,
    TrailStore, VersionPolicy,
};
use domain::event::InstanceRefused;
use domain::{Actor, ErrorChain, Event, Outcome, Subject};
use tracing::{error, info, warn};
use uuid::Uuid;

use crate::fair_queue::FairQueue;
use crate::header::{self, HeaderReadError};

mod record;

/// How long an association may take to deliver a commitment result before the engine calls back.
const REPLY_LEASE: Duration = Duration::from_mins(1);

/// How long to wait before the end of an association is stored again after the database failed.
const RETRY_DELAY: Duration = Duration::from_millis(500);

/// Instances that are made durable at once. More wait in the fair queue.
const INSTANCES_MAX: usize = 64;

/// Messages that are made durable at once. More wait in the fair queue.
const MESSAGES_MAX: usize = 64;

/// What the intake accepts at the moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AdmissionPolicy {
    /// Everything.
    #[default]
    Open,
    /// Only what peers send on connections that are open already; new ones get the refusal.
    EstablishedOnly(Refusal),
    /// Nothing.
    Closed(Refusal),
}

/// The parts of the database that the intake writes to.
#[derive(Clone)]
pub struct IntakeStores {
    /// Instances and their associations.
    pub instances: Arc<dyn InstanceStore>,
    /// Messages.
    pub messages: Arc<dyn MessageStore>,
    /// Requests of peers for storage commitment.
    pub commitment: Arc<dyn CommitmentStore>,
    /// Deliveries, for the commitment of what we sent.
    pub deliveries: Arc<dyn DeliveryStore>,
    /// The trail.
    pub trail: Arc<dyn TrailStore>,
}

/// Stores everything that listeners receive.
pub struct IntakeService {
    stores: IntakeStores,
    archive: Arc<dyn Archive>,
    decoder: Arc<dyn Decoder>,
    version_policy: VersionPolicy,
    admission: Mutex<AdmissionPolicy>,
    instance_queue: FairQueue,
    message_queue: FairQueue,
}

impl IntakeService {
    /// An intake that accepts everything. `version_policy` decides about instances whose UID is
    /// known with other content (DIN-22).
    pub fn new(
        stores: IntakeStores,
        archive: Arc<dyn Archive>,
        decoder: Arc<dyn Decoder>,
        version_policy: VersionPolicy,
    ) -> Self {
        Self {
            stores,
            archive,
            decoder,
            version_policy,
            admission: Mutex::default(),
            instance_queue: FairQueue::new(INSTANCES_MAX),
            message_queue: FairQueue::new(MESSAGES_MAX),
        }
    }

    /// Changes what is accepted from now on, and returns the policy before.
    pub fn set_admission(&self, policy: AdmissionPolicy) -> AdmissionPolicy {
        let mut admission = self.admission.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut admission, policy)
    }

    fn admission(&self) -> AdmissionPolicy {
        self.admission.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn store_instance(
        &self,
        arrival: InstanceArrival,
        file: Quarantined,
    ) -> Result<InstanceOutcome, Refusal> {
        let _permit = self.instance_queue.acquire(&arrival.calling_ae).await;
        // The intake may have been closed while this waited.
        self.check_open()?;
        let header = header::of_quarantined(&file, &arrival.transfer_syntax, &*self.decoder).await;
        let header = header.map_err(|error| unreadable(&error))?;
        let record = record::instance_record(arrival, self.version_policy, &file, &header)?;
        self.archive.store(file).await.map_err(|error| {
            error!(%error, "the archive cannot be written");
            Refusal::new(RefusalReason::OutOfResources, "the archive cannot be written")
        })?;
        let instance = record.instance.clone();
        let bytes = record.bytes;
        let stored = self.stores.instances.store_instance(record).await;
        let outcome = stored.map_err(|error| unavailable(&error))?;
        info!(%instance, bytes, ?outcome, "instance stored");
        Ok(outcome)
    }
}

fn unreadable(error: &HeaderReadError) -> Refusal {
    match error {
        HeaderReadError::Unreadable(_) => {
            error!(error = %ErrorChain(error), "the quarantine cannot be read");
            Refusal::new(RefusalReason::OutOfResources, "the disk cannot be read")
        }
        HeaderReadError::NoDecoder { .. } => {
            error!(%error, "a deflated instance cannot be inflated");
            Refusal::new(RefusalReason::OutOfResources, "the decoder does not work")
        }
        HeaderReadError::Malformed(_)
        | HeaderReadError::NotInflated { .. }
        | HeaderReadError::NoFileMeta => {
            Refusal::new(RefusalReason::CannotUnderstand, error.to_string())
        }
    }
}

fn unavailable(error: &StoreError) -> Refusal {
    error!(error = %ErrorChain(error), "the database cannot be written");
    Refusal::new(RefusalReason::OutOfResources, "the database cannot be written")
}

impl Admission for IntakeService {
    fn check_open(&self) -> Result<(), Refusal> {
        match self.admission() {
            AdmissionPolicy::Open | AdmissionPolicy::EstablishedOnly(_) => Ok(()),
            AdmissionPolicy::Closed(refusal) => Err(refusal),
        }
    }

    fn check_admitting(&self) -> Result<(), Refusal> {
        match self.admission() {
            AdmissionPolicy::Open => Ok(()),
            AdmissionPolicy::EstablishedOnly(refusal) | AdmissionPolicy::Closed(refusal) => {
                Err(refusal)
            }
        }
    }
}

#[async_trait]
impl InstanceIntake for IntakeService {
    fn archive(&self) -> &Arc<dyn Archive> {
        &self.archive
    }

    async fn accept_instance(
        &self,
        arrival: InstanceArrival,
        file: Quarantined,
    ) -> Result<InstanceOutcome, Refusal> {
        let sender = Actor::peer(&arrival.calling_ae, &arrival.address);
        let instance = arrival.sop_instance.clone();
        let outcome = self.store_instance(arrival, file).await;
        let label = if outcome.is_ok() { "stored" } else { "refused" };
        metrics::counter!("dimse_instances_total", "outcome" => label).increment(1);
        if let Err(refusal) = &outcome {
            warn!(%instance, reason = refusal.comment, "instance refused");
            let subject = Subject { instance: Some(instance), ..Subject::default() };
            let reason = refusal.comment.clone();
            let event = Event::new(subject, InstanceRefused { reason, status: None });
            self.record_event(event.by(sender).ended(Outcome::MinorFailure)).await;
        }
        outcome
    }

    async fn association_ended(&self, association: Uuid) {
        let ended = self.stores.instances.end_association(Some(association)).await;
        let Err(error) = ended else { return };
        error!(error = %ErrorChain(&error), "the end of an association cannot be stored yet");
        // Its studies would wait for it. If the engine stops first, its next start ends them all.
        let instances = Arc::clone(&self.stores.instances);
        tokio::spawn(async move {
            while instances.end_association(Some(association)).await.is_err() {
                tokio::time::sleep(RETRY_DELAY).await;
            }
        });
    }
}

#[async_trait]
impl MessageIntake for IntakeService {
    async fn accept_message(&self, arrival: MessageArrival) -> Result<Answers, Refusal> {
        let _permit = self.message_queue.acquire(&arrival.address).await;
        self.check_open()?;
        let answers = arrival.answers.clone();
        let message_type = arrival.message_type.to_string();
        let acknowledgement = arrival.acknowledgement_code.clone();
        let record = MessageRecord { id: Uuid::now_v7(), arrival };
        let id = record.id;
        let stored = self.stores.messages.store_message(record).await;
        match stored.map_err(|error| unavailable(&error))? {
            MessageOutcome::New => {
                info!(message = %id, message_type, acknowledgement, "message stored");
                Ok(answers)
            }
            MessageOutcome::Repeated(first_answers) => {
                info!(message_type, "message repeated");
                Ok(first_answers)
            }
        }
    }
}

#[async_trait]
impl CommitmentIntake for IntakeService {
    async fn accept_commitment_request(&self, request: CommitmentRequest) -> Result<(), Refusal> {
        self.check_open()?;
        let stored = self.stores.commitment.store_commitment_request(request).await;
        stored.map_err(|error| unavailable(&error))
    }

    async fn claim_commitment_reply(
        &self,
        peer: &str,
        transaction: &str,
    ) -> Option<CommitmentResult> {
        let commitment = &self.stores.commitment;
        let reply = commitment.claim_commitment_reply(peer, transaction, REPLY_LEASE).await;
        // While the database is away there is no reply yet. The association asks again.
        reply.unwrap_or_default()
    }

    async fn finish_commitment_reply(&self, peer: &str, transaction: &str, end: ReportEnd) {
        let commitment = &self.stores.commitment;
        let finished = commitment.finish_commitment_report(peer, transaction, end).await;
        if let Err(error) = finished {
            // The lease expires and the reply is sent again. The peer recognises its transaction.
            error!(error = %ErrorChain(&error), "the end of a commitment reply cannot be stored");
        }
    }

    async fn accept_commitment_answer(
        &self,
        answer: CommitmentAnswer,
        peer: &str,
        address: &str,
    ) -> Result<(), Refusal> {
        let known = self.stores.deliveries.record_commitment_answer(answer, peer, address).await;
        if known.map_err(|error| unavailable(&error))? {
            return Ok(());
        }
        let comment = "we never asked for this transaction";
        Err(Refusal::new(RefusalReason::InvalidInstance, comment))
    }
}

#[async_trait]
impl EventSink for IntakeService {
    async fn record_event(&self, event: Event) {
        if let Err(error) = self.stores.trail.append_events(vec![event]).await {
            error!(error = %ErrorChain(&error), "an event cannot be recorded");
        }
    }
}
