//! Keeps what arrives. Only when this has returned may a listener say that all is well.

use std::fs::File;
use std::io::{BufReader, Cursor, Seek as _, SeekFrom};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use contracts::{
    Admission, Answers, Archive, CommitmentIntake, CommitmentRequest, CommitmentResult, EventSink,
    InstanceArrival, InstanceIntake, Kept, MessageArrival, MessageIntake, MessageKept,
    MessageRecord, Quarantined, Refusal, RefusalReason, ReportEnd, Store, StoreError,
    VersionPolicy,
};
use domain::{Action, Actor, ErrorChain, Event, Outcome, Subject};
use encoding::dicom_header::{Encoding, Header, HeaderError, read_encoded};
use serde_json::json;
use tracing::{error, info, warn};
use uuid::Uuid;

use crate::record::record;
use crate::turns::Turns;

/// How long an association may take to give an answer before somebody else may.
const REPLY_LEASE: Duration = Duration::from_mins(1);

/// How long to wait for a database that did not answer.
const AFTER_FAILURE: Duration = Duration::from_millis(500);

/// Most instances that are made durable at once, and most messages. Who comes then waits for its turn.
const INSTANCES_MAX: usize = 64;
const MESSAGES_MAX: usize = 64;

/// What is taken just now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Taking {
    /// Everything.
    #[default]
    All,
    /// Only from those who are inside already, and why.
    Inside(Refusal),
    /// Nothing, and why.
    Nothing(Refusal),
}

/// The way into the engine for everything that arrives.
pub struct IntakeService {
    store: Arc<dyn Store>,
    archive: Arc<dyn Archive>,
    versions: VersionPolicy,
    taking: Mutex<Taking>,
    instance_turns: Turns,
    message_turns: Turns,
}

impl IntakeService {
    /// An open intake.
    pub fn new(store: Arc<dyn Store>, archive: Arc<dyn Archive>, versions: VersionPolicy) -> Self {
        let (instance_turns, message_turns) = (Turns::new(INSTANCES_MAX), Turns::new(MESSAGES_MAX));
        Self { store, archive, versions, taking: Mutex::default(), instance_turns, message_turns }
    }

    /// What is taken from now on. Gives what was taken before.
    pub fn set_taking(&self, what: Taking) -> Taking {
        let mut taking = self.taking.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut taking, what)
    }

    fn taking(&self) -> Taking {
        self.taking.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn try_keep(&self, arrival: InstanceArrival, file: Quarantined) -> Result<Kept, Refusal> {
        let _place = self.instance_turns.take(&arrival.calling_ae).await;
        // It may have been closed meanwhile.
        self.check_open()?;
        let header = read_header(&file, &arrival.transfer_syntax).await?;
        let record = record(arrival, self.versions, &file, &header)?;
        self.archive.keep(file).await.map_err(|error| {
            error!(%error, "the archive cannot be written");
            Refusal::new(RefusalReason::OutOfResources, "the archive cannot be written")
        })?;
        let (instance, bytes) = (record.instance.clone(), record.bytes);
        let kept = self.store.keep_instance(record).await.map_err(|error| unavailable(&error))?;
        info!(%instance, bytes, ?kept, "instance kept");
        Ok(kept)
    }
}

/// Reads the header of a file in quarantine, with limits, before any library does.
async fn read_header(file: &Quarantined, transfer_syntax: &str) -> Result<Header, Refusal> {
    let (path, start, length) = (file.path.clone(), file.meta_bytes, file.bytes);
    let encoding = Encoding::of(transfer_syntax);
    // Mostly all of it is at hand. What is wrong with it is found where the whole is read; and what is
    // compressed does not say where it ends.
    if !encoding.is_deflated
        && let Ok(header) = read_encoded(Cursor::new(file.head.as_slice()), length, encoding)
    {
        return Ok(header);
    }
    let read = move || header_at(&path, start, length, encoding);
    let outcome = tokio::task::spawn_blocking(read).await;
    let broken = |error: &dyn std::error::Error| {
        error!(error = %ErrorChain(error), "the quarantine cannot be read");
        Refusal::new(RefusalReason::OutOfResources, "the disk cannot be read")
    };
    match outcome {
        Ok(Ok(header)) => Ok(header),
        Ok(Err(HeaderError::Io(error))) => Err(broken(&error)),
        Ok(Err(error)) => Err(Refusal::new(RefusalReason::CannotUnderstand, error.to_string())),
        Err(error) => Err(broken(&error)),
    }
}

/// Reads the header of a file whose data set starts after `start` bytes.
pub(crate) fn header_at(
    path: &Path,
    start: u64,
    length: u64,
    encoding: Encoding,
) -> Result<Header, HeaderError> {
    let mut file = File::open(path).map_err(HeaderError::Io)?;
    file.seek(SeekFrom::Start(start)).map_err(HeaderError::Io)?;
    read_encoded(BufReader::new(file), length, encoding)
}

fn unavailable(error: &StoreError) -> Refusal {
    error!(error = %ErrorChain(error), "the database cannot be written");
    Refusal::new(RefusalReason::OutOfResources, "the database cannot be written")
}

impl Admission for IntakeService {
    fn check_open(&self) -> Result<(), Refusal> {
        match self.taking() {
            Taking::All | Taking::Inside(_) => Ok(()),
            Taking::Nothing(why) => Err(why),
        }
    }

    fn check_admitting(&self) -> Result<(), Refusal> {
        match self.taking() {
            Taking::All => Ok(()),
            Taking::Inside(why) | Taking::Nothing(why) => Err(why),
        }
    }
}

#[async_trait]
impl InstanceIntake for IntakeService {
    fn archive(&self) -> &Arc<dyn Archive> {
        &self.archive
    }

    async fn keep(&self, arrival: InstanceArrival, file: Quarantined) -> Result<Kept, Refusal> {
        let (calling, address) = (arrival.calling_ae.clone(), arrival.address.clone());
        let instance = arrival.sop_instance.clone();
        let outcome = self.try_keep(arrival, file).await;
        let label = match &outcome {
            Ok(_) => "kept",
            Err(_) => "refused",
        };
        metrics::counter!("dimse_instances_total", "outcome" => label).increment(1);
        if let Err(refusal) = &outcome {
            warn!(%instance, reason = refusal.comment, "instance refused");
            let subject = Subject { instance: Some(instance), ..Subject::default() };
            let detail = json!({"reason": refusal.comment});
            let event = Event::engine("instance_refused", Action::C, subject, detail)
                .by(Actor::peer(&calling, &address))
                .ended(Outcome::MinorFailure);
            self.record_event(event).await;
        }
        outcome
    }

    async fn association_ended(&self, association: Uuid) {
        let Err(error) = self.store.end_association(Some(association)).await else { return };
        error!(error = %ErrorChain(&error), "the end of an association cannot be put on record yet");
        // Its studies would wait for it. If the engine ends first, its next start ends them all.
        let store = Arc::clone(&self.store);
        tokio::spawn(async move {
            while store.end_association(Some(association)).await.is_err() {
                tokio::time::sleep(AFTER_FAILURE).await;
            }
        });
    }
}

#[async_trait]
impl MessageIntake for IntakeService {
    async fn accept_message(&self, arrival: MessageArrival) -> Result<Answers, Refusal> {
        let _place = self.message_turns.take(&arrival.address).await;
        self.check_open()?;
        let answers = arrival.answers.clone();
        let (kind, code) = (arrival.message_type.to_string(), arrival.acknowledgement_code.clone());
        let record = MessageRecord { id: Uuid::now_v7(), arrival };
        let id = record.id;
        match self.store.keep_message(record).await.map_err(|error| unavailable(&error))? {
            MessageKept::New => {
                info!(message = %id, kind, code, "message kept");
                Ok(answers)
            }
            MessageKept::Repeated(first) => {
                info!(kind, "message repeated");
                Ok(first)
            }
        }
    }
}

#[async_trait]
impl CommitmentIntake for IntakeService {
    async fn accept_commitment_request(&self, request: CommitmentRequest) -> Result<(), Refusal> {
        self.check_open()?;
        self.store.keep_commitment(request).await.map_err(|error| unavailable(&error))
    }

    async fn claim_commitment_reply(
        &self,
        peer: &str,
        transaction: &str,
    ) -> Option<CommitmentResult> {
        let reply = self.store.claim_commitment_reply(peer, transaction, REPLY_LEASE).await;
        // Without the database there is nothing to say yet; the association asks again.
        reply.unwrap_or_default()
    }

    async fn finish_commitment_reply(&self, peer: &str, transaction: &str, end: ReportEnd) {
        let ended = self.store.finish_commitment_report(peer, transaction, end).await;
        if let Err(error) = ended {
            // Its lease runs out, and the answer is given again: the peer knows its transaction.
            error!(error = %ErrorChain(&error), "the end of an answer cannot be put on record");
        }
    }

    async fn accept_commitment_result(
        &self,
        result: CommitmentResult,
        peer: &str,
        address: &str,
    ) -> Result<(), Refusal> {
        let noted = self.store.note_commitment(result, peer, address).await;
        if noted.map_err(|error| unavailable(&error))? {
            return Ok(());
        }
        Err(Refusal::new(RefusalReason::InvalidInstance, "we never asked for this transaction"))
    }
}

#[async_trait]
impl EventSink for IntakeService {
    async fn record_event(&self, event: Event) {
        if let Err(error) = self.store.append(vec![event]).await {
            error!(error = %ErrorChain(&error), "an event cannot be put on record");
        }
    }
}
