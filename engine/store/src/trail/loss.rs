//! A part of the trail that is lost, and the person who accepts it (AUD-03).
//!
//! After an older database was restored, or files of the trail were lost, nothing is sealed: the
//! engine cannot tell a restored backup from a trail that was cut. A named person decides, and the
//! decision is an event in the trail. Sealing goes on with the next numbers that were never used.

use contracts::StoreError;
use domain::event::TrailLossAccepted;
use domain::{Event, Subject, TokenHolder, TrailFault};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::database::pg_store::commit;
use crate::error::{Error, Result, inconsistent};
use crate::trail::append::append_with_id;
use crate::trail::count::{Checkpoint, Mark};
use crate::trail::sealer::{Head, SEALER_LOCK, Sealer, file_error};

/// A loss that a person accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptedLoss {
    /// What did not fit.
    pub fault: TrailFault,
    /// How many numbers of batches are left out.
    pub batches: u64,
    /// How many numbers of events are left out.
    pub events: u64,
}

impl Sealer {
    /// Accepts that a part of the trail, or of the files beside it, is lost. Nothing if all of it
    /// fits. The event comes first: if the engine ends before the files are written, the person
    /// repeats the command.
    ///
    /// # Errors
    ///
    /// Fails if the database or the files do.
    pub async fn accept_loss(
        &self,
        holder: &TokenHolder,
        reason: &str,
    ) -> std::result::Result<Option<AcceptedLoss>, StoreError> {
        let mut locked = self.store.begin().await?;
        lock(&mut locked).await?;
        let compared = self.compare(&mut locked).await?;
        let Err(fault) = compared.next else { return Ok(None) };
        let mark = self.mark_after(&compared.head)?;
        let event = Uuid::now_v7();
        let body = TrailLossAccepted {
            fault,
            kept_batch: compared.head.batch,
            kept_events: compared.head.seq,
            counted_batches: mark.batches,
            counted_events: mark.events,
            token: holder.token,
            issued_by: holder.issued_by.clone(),
            reason: reason.to_owned(),
        };
        let mut tx = self.store.begin().await?;
        let event_of_person = Event::new(Subject::default(), body).by(holder.actor());
        append_with_id(&mut tx, event, &event_of_person).await?;
        commit(tx).await?;
        let count = self.signed_count(&mark, event)?;
        self.files.add(&Checkpoint::Loss(count.clone())).map_err(file_error)?;
        self.files.replace_count(&count).map_err(file_error)?;
        Ok(Some(AcceptedLoss {
            fault,
            batches: mark.batches.saturating_sub(compared.head.batch),
            events: mark.events.saturating_sub(compared.head.seq),
        }))
    }

    /// From where sealing goes on: no number that was signed is used again.
    fn mark_after(&self, head: &Head) -> Result<Mark> {
        let highest = self.files.highest(&self.store.trail_key()).map_err(file_error)?;
        let at_head = head.mark();
        Ok(Mark {
            batches: at_head.batches.max(highest.batches),
            events: at_head.events.max(highest.events),
            ..at_head
        })
    }
}

/// The error for a trail that does not fit what was signed and counted.
pub(super) fn unfit(fault: TrailFault) -> Error {
    inconsistent(fault_text(fault))
}

/// What a fault means, for people.
pub fn fault_text(fault: TrailFault) -> &'static str {
    match fault {
        TrailFault::CheckpointsMissing => "the file with the signed batches is missing",
        TrailFault::CheckpointsAltered => {
            "the last line of the file with the signed batches was not signed by this site"
        }
        TrailFault::CountMissing => "the file with the count of the trail is missing",
        TrailFault::CountAltered => "the count of the trail was not signed by this site",
        TrailFault::FilesDisagree => {
            "the count of the trail and the file with the signed batches are not of the same time"
        }
        TrailFault::BatchesMissing => {
            "batches that were signed and exported are missing from the trail"
        }
        TrailFault::BatchDiffers => "the last batch of the trail is not the one that was signed",
        TrailFault::FilesOlder => {
            "the trail is longer than its count and signed batches: these files are from earlier"
        }
    }
}

/// Waits until no other sealer works.
pub(super) async fn lock(tx: &mut PgConnection) -> Result<()> {
    sqlx::query("select pg_advisory_xact_lock($1)").bind(SEALER_LOCK).execute(tx).await?;
    Ok(())
}

/// Whether the trail says that its batches are counted.
pub(super) async fn is_count_begun(tx: &mut PgConnection) -> Result<bool> {
    let kinds = "select exists(select from audit.event e
        where e.kind in ('trail_count_begun', 'trail_loss_accepted'))";
    Ok(sqlx::query_scalar(kinds).fetch_one(tx).await?)
}
