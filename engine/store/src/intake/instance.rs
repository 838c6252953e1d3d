use contracts::{InstanceOutcome, InstanceRecord, NewTask, OutputKind, VersionPolicy};
use domain::{Action, Actor, Event, Outcome, QualityFlag, Subject, TaskKind};
use serde_json::json;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::error::Result;
use crate::patient::identity;
use crate::patient::identity::IdentityDomains;
use crate::result::corrections;
use crate::run::task;
use crate::trail::append::append;

/// Keeps an instance in a transaction of its own.
pub(crate) async fn keep_alone(
    pool: &PgPool,
    domains: &IdentityDomains,
    record: &InstanceRecord,
) -> Result<InstanceOutcome> {
    let mut tx = identity::begin_shared(pool).await?;
    let kept = keep_within(&mut tx, domains, record).await?;
    tx.commit().await?;
    Ok(kept)
}

async fn keep_within(
    tx: &mut PgConnection,
    domains: &IdentityDomains,
    record: &InstanceRecord,
) -> Result<InstanceOutcome> {
    let patient = match &record.patient {
        Some(id) => {
            let found = identity::find_or_add(tx, domains, id, &record.demographics).await?;
            Some((found, identity::root_of(tx, found).await?))
        }
        None => None,
    };
    let kept = keep(tx, record, patient).await?;
    tell(tx, record, patient.map(|it| it.1), kept).await?;
    Ok(kept)
}

async fn keep(
    tx: &mut PgConnection,
    record: &InstanceRecord,
    patient: Option<(Uuid, Uuid)>,
) -> Result<InstanceOutcome> {
    // As whom it came: who that turned out to be is worked out anew each time (HL7-37).
    add_study(tx, record, patient.map(|it| it.0)).await?;
    let patient = patient.map(|it| it.1);
    // Before its series, whose foreign key would take a weaker lock that two may hold. Serialises
    // the versions of one instance, and everything else of its study.
    let (study_patient,): (Option<Uuid>,) =
        sqlx::query_as("select patient_root(patient) from study where uid = $1 for update")
            .bind(&record.study)
            .fetch_one(&mut *tx)
            .await?;
    add_series(tx, record).await?;
    let versions: Vec<(String,)> = sqlx::query_as("select sha256 from instance where uid = $1")
        .bind(&record.instance)
        .fetch_all(&mut *tx)
        .await?;
    if versions.iter().any(|(sha256,)| *sha256 == record.sha256) {
        restore(tx, record.instance.as_ref(), &record.sha256).await?;
        return Ok(InstanceOutcome::Identical);
    }
    let mut flags = record.quality_flags.clone();
    flags.extend(contradictions(tx, record, patient, study_patient).await?);
    let is_flagged = flags.iter().any(|it| it.is_identity_conflict());
    let kept = if !versions.is_empty() && record.versions == VersionPolicy::Reject {
        return Ok(InstanceOutcome::VersionRefused);
    } else if !versions.is_empty() {
        InstanceOutcome::OtherVersion
    } else if is_flagged {
        InstanceOutcome::Flagged
    } else {
        InstanceOutcome::New
    };
    let replaces = kept == InstanceOutcome::OtherVersion
        && record.versions == VersionPolicy::Replace
        && !is_flagged;
    if replaces {
        sqlx::query("update instance set is_current = false where uid = $1")
            .bind(&record.instance)
            .execute(&mut *tx)
            .await?;
    }
    insert(tx, record, kept == InstanceOutcome::New || replaces, &flags).await?;
    if kept == InstanceOutcome::New || replaces {
        wake(tx, record).await?;
        let kind = match record.modality.as_str() {
            "SEG" => Some(OutputKind::Seg),
            "SR" => Some(OutputKind::Sr),
            _ => None,
        };
        if let Some(kind) = kind {
            let (instance, sha256) = (&record.instance, &record.sha256);
            corrections::note_instance(tx, instance, sha256, &record.study, kind).await?;
        }
    }
    Ok(kept)
}

/// Takes an instance back in that was removed before and comes again. True if it was one.
async fn restore(tx: &mut PgConnection, instance: &str, sha256: &str) -> Result<bool> {
    let restored = sqlx::query(
        "update instance set removed_at = null, is_file_gone = false, committed_at = null,
            received_at = clock_timestamp()
         where uid = $1 and sha256 = $2 and removed_at is not null",
    );
    let restored = restored.bind(instance).bind(sha256).execute(&mut *tx).await?;
    let is_restored = restored.rows_affected() > 0;
    if is_restored {
        sqlx::query(
            "update study set last_received = clock_timestamp()
             where uid = (select study from instance where uid = $1 and sha256 = $2)",
        )
        .bind(instance)
        .bind(sha256)
        .execute(tx)
        .await?;
    }
    Ok(is_restored)
}

/// Has the study decided on again.
async fn wake(tx: &mut PgConnection, record: &InstanceRecord) -> Result<()> {
    sqlx::query(
        "insert into study_association (study, association) values ($1, $2)
         on conflict do nothing",
    )
    .bind(&record.study)
    .bind(record.arrival.association)
    .execute(&mut *tx)
    .await?;
    // If a look is due already, it will see this instance too.
    sqlx::query(
        "update study set last_received = clock_timestamp(),
            look_at = coalesce(look_at, clock_timestamp() + interval '200 milliseconds')
         where uid = $1",
    )
    .bind(&record.study)
    .execute(tx)
    .await?;
    Ok(())
}

async fn add_study(
    tx: &mut PgConnection,
    record: &InstanceRecord,
    patient: Option<Uuid>,
) -> Result<()> {
    sqlx::query(
        "insert into study (uid, patient, accession, description, study_date, study_time, study_id,
            placer, filler, requested_procedure)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) on conflict do nothing",
    )
    .bind(&record.study)
    .bind(patient)
    .bind(&record.accession)
    .bind(&record.study_description)
    .bind(&record.study_date)
    .bind(&record.study_time)
    .bind(&record.study_id)
    .bind(&record.placer)
    .bind(&record.filler)
    .bind(&record.requested_procedure)
    .execute(tx)
    .await?;
    Ok(())
}

async fn add_series(tx: &mut PgConnection, record: &InstanceRecord) -> Result<()> {
    sqlx::query(
        "insert into series (uid, study, modality, body_part, description, frame_of_reference)
         values ($1, $2, $3, $4, $5, $6) on conflict (uid) do update
            set frame_of_reference = excluded.frame_of_reference
            where series.frame_of_reference = '' and series.study = excluded.study",
    )
    .bind(&record.series)
    .bind(&record.study)
    .bind(&record.modality)
    .bind(&record.body_part)
    .bind(&record.series_description)
    .bind(&record.frame_of_reference)
    .execute(tx)
    .await?;
    Ok(())
}

/// Where an instance contradicts its study or series (DIN-61).
async fn contradictions(
    tx: &mut PgConnection,
    record: &InstanceRecord,
    patient: Option<Uuid>,
    study_patient: Option<Uuid>,
) -> Result<Vec<QualityFlag>> {
    let mut flags = Vec::new();
    if patient != study_patient {
        flags.push(QualityFlag::PatientDiffersFromStudy);
    }
    let (study, modality, frame): (String, String, String) =
        sqlx::query_as("select study, modality, frame_of_reference from series where uid = $1")
            .bind(&record.series)
            .fetch_one(tx)
            .await?;
    if study != record.study {
        flags.push(QualityFlag::SeriesOfAnotherStudy);
    }
    if modality != record.modality {
        flags.push(QualityFlag::ModalityDiffersFromSeries);
    }
    if !record.frame_of_reference.is_empty() && frame != record.frame_of_reference {
        flags.push(QualityFlag::FrameOfReferenceDiffersFromSeries);
    }
    Ok(flags)
}

async fn insert(
    tx: &mut PgConnection,
    record: &InstanceRecord,
    is_current: bool,
    flags: &[QualityFlag],
) -> Result<()> {
    sqlx::query(
        "insert into instance (uid, sha256, series, study, sop_class, transfer_syntax, bytes,
            calling_ae, is_current, flags, has_identity_conflict, is_own)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
    )
    .bind(&record.instance)
    .bind(&record.sha256)
    .bind(&record.series)
    .bind(&record.study)
    .bind(record.sop_class.as_str())
    .bind(&record.arrival.transfer_syntax)
    .bind(i64::try_from(record.bytes).unwrap_or(i64::MAX))
    .bind(&record.arrival.calling_ae)
    .bind(is_current)
    .bind(flags.iter().map(|it| it.name()).collect::<Vec<_>>())
    .bind(flags.iter().any(|it| it.is_identity_conflict()))
    .bind(record.is_own)
    .execute(tx)
    .await?;
    Ok(())
}

/// What the trail says of it.
pub(crate) fn event_of(
    record: &InstanceRecord,
    patient: Option<Uuid>,
    kept: InstanceOutcome,
) -> Event {
    let (kind, action) = match kept {
        InstanceOutcome::New => ("instance_received", Action::C),
        InstanceOutcome::Identical => ("duplicate_received", Action::R),
        InstanceOutcome::OtherVersion => ("instance_version_received", Action::C),
        InstanceOutcome::Flagged => ("instance_flagged", Action::C),
        InstanceOutcome::VersionRefused => ("instance_version_refused", Action::R),
    };
    let subject = Subject {
        patient,
        study: Some(record.study.clone()),
        accession: Some(record.accession.clone()).filter(|it| !it.is_empty()),
        instance: Some(record.instance.clone()),
        ..Subject::default()
    };
    let detail = json!({
        "sha256": record.sha256, "bytes": record.bytes, "sop_class": record.sop_class,
        "transfer_syntax": record.arrival.transfer_syntax, "called_ae": record.arrival.called_ae,
        "flags": record.quality_flags,
    });
    let actor = Actor::peer(&record.arrival.calling_ae, &record.arrival.address);
    let is_bad = matches!(kept, InstanceOutcome::Flagged | InstanceOutcome::VersionRefused);
    let outcome = if is_bad { Outcome::MinorFailure } else { Outcome::Success };
    Event::engine(kind, action, subject, detail).by(actor).ended(outcome)
}

async fn tell(
    tx: &mut PgConnection,
    record: &InstanceRecord,
    patient: Option<Uuid>,
    kept: InstanceOutcome,
) -> Result<()> {
    let event = event_of(record, patient, kept);
    append(tx, &event).await?;
    let (kind, reason) = match kept {
        InstanceOutcome::New | InstanceOutcome::Identical => return Ok(()),
        InstanceOutcome::OtherVersion => {
            let reason = if record.versions == VersionPolicy::Replace {
                "instances came again with other content; the new ones count"
            } else {
                "instances came again with other content; the first ones count"
            };
            (TaskKind::InstanceVersionReceived, reason)
        }
        InstanceOutcome::VersionRefused => {
            let reason = "instances came again with other content, and were refused";
            (TaskKind::InstanceVersionRefused, reason)
        }
        InstanceOutcome::Flagged => {
            let reason = "instances contradict their study or series; they are kept and not used";
            (TaskKind::InstanceFlagged, reason)
        }
    };
    // One for a study, however many instances: a modality that repeats a series makes hundreds.
    let subject = Subject { instance: None, ..event.subject };
    let new = NewTask { kind, subject, reason: reason.to_owned() };
    task::open_once(tx, &new).await
}
