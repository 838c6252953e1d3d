//! The intake of a simulated PACS or EHR: stores everything that arrives, and judges nothing.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use archive::DiskArchive;
use async_trait::async_trait;
use contracts::{
    Admission, Answers, Archive, CommitmentAnswer, CommitmentIntake, CommitmentRequest,
    CommitmentResult, EventSink, InstanceArrival, InstanceIntake, InstanceOutcome, MessageArrival,
    MessageIntake, Quarantined, Refusal, RefusalReason,
};
use domain::Event;

/// An instance that a PACS received.
#[derive(Clone, Debug)]
pub struct ReceivedInstance {
    /// Its SOP Class UID.
    pub sop_class: String,
    /// Its SOP Instance UID.
    pub sop_instance: String,
    /// Path of its file.
    pub path: PathBuf,
}

/// How many arrivals are accepted before some are refused for lack of room.
#[derive(Clone, Copy, Default)]
struct Capacity {
    accepted_before: usize,
    refused: usize,
}

/// What has arrived so far.
pub(crate) struct Inbox {
    archive: Arc<dyn Archive>,
    instances: Mutex<Vec<ReceivedInstance>>,
    messages: Mutex<Vec<Vec<u8>>>,
    /// Requests for storage commitment that were not answered yet.
    requests: Mutex<Vec<CommitmentRequest>>,
    /// Results of own requests for storage commitment.
    results: Mutex<Vec<CommitmentResult>>,
    capacity: Mutex<Capacity>,
}

impl Inbox {
    pub(crate) fn open(folder: &Path) -> io::Result<Arc<Self>> {
        let archive: Arc<dyn Archive> = Arc::new(DiskArchive::open(folder)?);
        Ok(Arc::new(Self {
            archive,
            instances: Mutex::default(),
            messages: Mutex::default(),
            requests: Mutex::default(),
            results: Mutex::default(),
            capacity: Mutex::default(),
        }))
    }

    /// Accepts `accepted_before` more arrivals, then refuses `refused`, then accepts all.
    pub(crate) fn refuse(&self, accepted_before: usize, refused: usize) {
        *locked(&self.capacity) = Capacity { accepted_before, refused };
    }

    pub(crate) fn instances(&self) -> Vec<ReceivedInstance> {
        locked(&self.instances).clone()
    }

    pub(crate) fn messages(&self) -> Vec<Vec<u8>> {
        locked(&self.messages).clone()
    }

    pub(crate) fn results(&self) -> Vec<CommitmentResult> {
        locked(&self.results).clone()
    }

    /// Removes all requests for storage commitment, to answer them.
    pub(crate) fn take_requests(&self) -> Vec<CommitmentRequest> {
        locked(&self.requests).drain(..).collect()
    }

    fn check_capacity(&self) -> Result<(), Refusal> {
        let mut capacity = locked(&self.capacity);
        if capacity.accepted_before > 0 {
            capacity.accepted_before -= 1;
            return Ok(());
        }
        if capacity.refused > 0 {
            capacity.refused -= 1;
            return Err(Refusal::new(RefusalReason::OutOfResources, "no room"));
        }
        Ok(())
    }
}

fn locked<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Admission for Inbox {
    fn check_open(&self) -> Result<(), Refusal> {
        Ok(())
    }
}

#[async_trait]
impl InstanceIntake for Inbox {
    fn archive(&self) -> &Arc<dyn Archive> {
        &self.archive
    }

    async fn accept_instance(
        &self,
        arrival: InstanceArrival,
        file: Quarantined,
    ) -> Result<InstanceOutcome, Refusal> {
        self.check_capacity()?;
        let path = self.archive.path_of(&file.sha256);
        self.archive
            .store(file)
            .await
            .map_err(|error| Refusal::new(RefusalReason::OutOfResources, error.to_string()))?;
        let InstanceArrival { sop_class, sop_instance, .. } = arrival;
        locked(&self.instances).push(ReceivedInstance { sop_class, sop_instance, path });
        Ok(InstanceOutcome::New)
    }
}

#[async_trait]
impl MessageIntake for Inbox {
    async fn accept_message(&self, arrival: MessageArrival) -> Result<Answers, Refusal> {
        self.check_capacity()?;
        locked(&self.messages).push(arrival.raw);
        Ok(arrival.answers)
    }
}

#[async_trait]
impl CommitmentIntake for Inbox {
    async fn accept_commitment_request(&self, request: CommitmentRequest) -> Result<(), Refusal> {
        locked(&self.requests).push(request);
        Ok(())
    }

    async fn accept_commitment_answer(
        &self,
        answer: CommitmentAnswer,
        _: &str,
        _: &str,
    ) -> Result<(), Refusal> {
        locked(&self.results).push(answer.result);
        Ok(())
    }
}

#[async_trait]
impl EventSink for Inbox {
    async fn record_event(&self, _: Event) {}
}
