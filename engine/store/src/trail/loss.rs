//! A part of the trail that is lost, and the person who accepts it (AUD-03).
//!
//! After an older database was restored, or files of the trail were lost, nothing is sealed: the
//! engine cannot tell a restored backup from a trail that was cut. A named person decides, and the
//! decision is an event in the trail. Sealing goes on with the next numbers that were never used.

use contracts::StoreError;
use domain::event::TrailLossAccepted;
use domain::{Event, Subject, TokenHolder, TrailFault};
use uuid::Uuid;

use crate::database::pg_store::commit;
use crate::error::Result;
use crate::trail::append::append_with_id;
use crate::trail::count::{Checkpoint, Mark};
use crate::trail::sealer::{Head, Sealer, file_error, lock};

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
