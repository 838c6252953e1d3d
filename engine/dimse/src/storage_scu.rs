//! Asks of others: C-ECHO and C-STORE as service class user (PS3.4, Annexes A and B), and storage
//! commitment for what was sent (PS3.4, Annex J; DIN-34).

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use contracts::SopReference;
use contracts::{
    CommitmentResult, Destination, Output, Preferences, ProbeError, SegmentationForm, SendError,
    Sent,
};
use domain::OutputKind;
use encoding::file_meta;
use sha2::{Digest as _, Sha256};
use tokio::sync::Mutex;

use crate::commitment_data::{REQUEST, read_result, write_request};
use crate::conversation::{Conversation, Remote, ScuError, Wanted, check, plainly};
use crate::message::{ACTION, Command, ECHO, EVENT_REPORT, STORE, Status};
use crate::pdu_stream::PduError;
use crate::sop_class::{COMMITMENT, COMMITMENT_INSTANCE, VERIFICATION};

/// How long an association is kept open for the next report.
const KEPT_OPEN: Duration = Duration::from_secs(20);

/// How long we wait on our own association for a PACS to commit. After that it calls us.
const COMMITMENT_WAIT: Duration = Duration::from_secs(5);

/// A DICOM file, split into what the wire needs.
struct Object<'a> {
    sop_class: &'a str,
    sop_instance: &'a str,
    transfer_syntax: String,
    data_set: &'a [u8],
}

impl Object<'_> {
    fn taken(&self) -> Taken {
        (self.sop_instance.to_owned(), Sha256::digest(self.data_set).into())
    }
}

impl Remote {
    /// Asks whether somebody is there.
    ///
    /// # Errors
    ///
    /// Says why nobody answers as should be.
    pub async fn echo(&self) -> Result<(), ScuError> {
        let mut conversation = self.associate(&plainly(VERIFICATION).collect(), &[]).await?;
        let (context, _) = conversation.context(VERIFICATION, None)?;
        let request = Command::request(context, ECHO, 0, VERIFICATION, "");
        let response = conversation.ask(request, &[]).await?;
        conversation.release().await;
        check(&response)
    }

    /// Sends files with one association.
    ///
    /// # Errors
    ///
    /// Stops at the first file that was not taken, and says why.
    pub async fn store(&self, files: &[&[u8]]) -> Result<(), ScuError> {
        let objects: Option<Vec<_>> = files.iter().map(|it| object(it)).collect();
        let objects = objects.ok_or(ScuError::NotAFile)?;
        let mut conversation = self.associate(&wanted(&objects), &[]).await?;
        for object in &objects {
            conversation.store(object).await?;
        }
        conversation.release().await;
        Ok(())
    }

    /// Asks for storage commitment, and waits for the answer on the same association at most as
    /// long as `wait`.
    ///
    /// # Errors
    ///
    /// Says why the request was not taken.
    pub async fn commit(
        &self,
        transaction: &str,
        references: &[SopReference],
        wait: Duration,
    ) -> Result<Option<CommitmentResult>, ScuError> {
        let mut conversation = self.associate(&plainly(COMMITMENT).collect(), &[]).await?;
        let result = conversation.commit(transaction, references, wait).await?;
        conversation.release().await;
        Ok(result)
    }
}

fn wanted(objects: &[Object<'_>]) -> Wanted {
    objects.iter().map(|it| (it.sop_class.to_owned(), it.transfer_syntax.clone())).collect()
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

impl Conversation {
    async fn store(&mut self, object: &Object<'_>) -> Result<(), ScuError> {
        let (context, _) = self.context(object.sop_class, Some(&object.transfer_syntax))?;
        let request = Command::request(context, STORE, 0, object.sop_class, object.sop_instance);
        check(&self.ask(request, object.data_set).await?)
    }

    /// Asks for commitment. The answer, if it comes on this association.
    async fn commit(
        &mut self,
        transaction: &str,
        references: &[SopReference],
        wait: Duration,
    ) -> Result<Option<CommitmentResult>, ScuError> {
        let (context, syntax) = self.context(COMMITMENT, None)?;
        let data_set = write_request(transaction, references, &syntax);
        let request = Command::request(context, ACTION, 0, COMMITMENT, COMMITMENT_INSTANCE);
        check(&self.ask(request.of_kind(REQUEST), &data_set).await?)?;
        let (report, data_set) = match self.hear(wait).await {
            Ok(heard) => heard,
            Err(ScuError::Pdu(PduError::Silent)) => return Ok(None),
            Err(error) => return Err(error),
        };
        let result = read_result(&data_set, &syntax).ok();
        let result = result.filter(|_| report.field == EVENT_REPORT);
        let is_ours = result.as_ref().is_some_and(|it| it.transaction == transaction);
        let status = if is_ours { Status::SUCCESS } else { Status::INVALID_ARGUMENT };
        self.say(&report.answer(status, ""), &[]).await?;
        Ok(result.filter(|_| is_ours))
    }
}

/// A PACS that takes reports. Keeps its association open for the next one.
pub struct DicomDestination {
    remote: Remote,
    /// Whether reports have arrived only once the PACS has committed them (DIN-34).
    is_to_commit: bool,
    segmentation: SegmentationForm,
    open: Mutex<Option<Conversation>>,
    /// What was taken of deliveries that are not whole yet: another try leaves it out.
    taken: Mutex<BTreeSet<Taken>>,
}

/// SOP Instance UID of an object, and SHA-256 of its data set.
type Taken = (String, [u8; 32]);

/// Most of them kept, deliveries that never became whole. Without them, more is sent again than has to be.
const TAKEN_MAX: usize = 10_000;

impl DicomDestination {
    /// A destination at `remote` that accepts segmentations in this form; with `is_to_commit`, it is
    /// asked for storage commitment.
    pub fn new(remote: Remote, is_to_commit: bool, segmentation: SegmentationForm) -> Self {
        Self { remote, is_to_commit, segmentation, open: Mutex::default(), taken: Mutex::default() }
    }

    async fn conversation(&self, objects: &[Object<'_>]) -> Result<Conversation, ScuError> {
        let kept = self.open.lock().await.take();
        if let Some(kept) = kept {
            let fits =
                |it: &Object<'_>| kept.context(it.sop_class, Some(&it.transfer_syntax)).is_ok();
            if kept.used.elapsed() < KEPT_OPEN && objects.iter().all(fits) {
                return Ok(kept);
            }
            kept.release().await;
        }
        let mut wanted = wanted(objects);
        if self.is_to_commit {
            wanted.extend(plainly(COMMITMENT));
        }
        self.remote.associate(&wanted, &[]).await
    }

    async fn note_taken(&self, one: Taken) {
        let mut taken = self.taken.lock().await;
        if taken.len() >= TAKEN_MAX {
            taken.clear();
        }
        taken.insert(one);
    }

    /// Asks for commitment of what was just sent.
    async fn commit(
        &self,
        mut conversation: Conversation,
        transaction: &str,
        objects: &[Object<'_>],
    ) -> Result<Sent, SendError> {
        let reference = |it: &Object<'_>| SopReference {
            sop_class: it.sop_class.to_owned(),
            sop_instance: it.sop_instance.to_owned(),
        };
        let references: Vec<SopReference> = objects.iter().map(reference).collect();
        let result = conversation.commit(transaction, &references, COMMITMENT_WAIT).await?;
        // The answer may still come, on an association of the PACS's own.
        conversation.release().await;
        match result {
            None => Ok(Sent::AwaitingCommitment),
            Some(result) if result.failed.is_empty() => Ok(Sent::Acknowledged),
            Some(result) => {
                let count = result.failed.len();
                let reason = result.failed.first().map_or(0, |(_, it)| it.0);
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
        let mut conversation = self.conversation(&objects).await?;
        let all: Vec<Taken> = objects.iter().map(Object::taken).collect();
        for (object, taken) in objects.iter().zip(&all) {
            if !self.taken.lock().await.contains(taken) {
                conversation.store(object).await?;
                self.note_taken(taken.clone()).await;
            }
        }
        self.taken.lock().await.retain(|it| !all.contains(it));
        if self.is_to_commit {
            return self.commit(conversation, transaction, &objects).await;
        }
        // Deliveries go side by side: one association is kept, the others are released.
        let before = self.open.lock().await.replace(conversation);
        if let Some(before) = before {
            before.release().await;
        }
        Ok(Sent::Acknowledged)
    }
}
