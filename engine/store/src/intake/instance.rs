//! Single instances: where each belongs, what it contradicts, and what becomes of it (DIN-22,
//! DIN-61).

use contracts::{InstanceOutcome, InstanceRecord, NewTask, VersionPolicy};
use domain::event::{
    DuplicateReceived, InstanceFacts, InstanceFlagged, InstanceReceived, InstanceVersionReceived,
    InstanceVersionRefused,
};
use domain::{Actor, CorrectionSource, Event, Outcome, QualityFlag, Subject, TaskKind};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::database::pg_store::{PgStore, commit};
use crate::error::Result;
use crate::patient::identity::{self, IdentityDomains, Sender};
use crate::result::corrections;
use crate::run::task;
use crate::trail::append::append;

/// Inserts one instance in a transaction of its own.
pub(crate) async fn insert_one(
    store: &PgStore,
    domains: &IdentityDomains,
    record: &InstanceRecord,
) -> Result<InstanceOutcome> {
    let mut tx = identity::begin_shared(&store.pool).await?;
    let patient = find_patient_in_tx(&mut tx, domains, record).await?;
    let inserted = insert_in_tx(&mut tx, domains, record, patient).await?;
    report_in_tx(&mut tx, record, patient.map(|it| it.root), &inserted).await?;
    commit(tx).await?;
    Ok(inserted.outcome)
}

/// The patient an instance names.
#[derive(Clone, Copy)]
struct NamedPatient {
    /// The patient the identifier was first used for.
    named: Uuid,
    /// The patient that one is now, after all merges.
    root: Uuid,
}

/// The system that sent an instance.
pub(crate) fn sender(record: &InstanceRecord) -> Sender<'_> {
    Sender::Dicom { calling_ae: &record.arrival.calling_ae }
}

async fn find_patient_in_tx(
    tx: &mut PgConnection,
    domains: &IdentityDomains,
    record: &InstanceRecord,
) -> Result<Option<NamedPatient>> {
    let Some(id) = &record.patient else { return Ok(None) };
    let domains = domains.of(sender(record));
    let named = identity::find_or_add(tx, domains, id, &record.demographics).await?;
    let root = identity::root_of(tx, named).await?;
    Ok(Some(NamedPatient { named, root }))
}

/// What became of an instance.
struct Inserted {
    outcome: InstanceOutcome,
    /// Every defect that it has.
    flags: Vec<QualityFlag>,
    /// What is wrong with its identity, for people.
    conflicts: Vec<String>,
}

/// A version of an instance that is stored.
#[derive(sqlx::FromRow)]
struct StoredVersion {
    sha256: String,
    is_current: bool,
}

async fn insert_in_tx(
    tx: &mut PgConnection,
    domains: &IdentityDomains,
    record: &InstanceRecord,
    patient: Option<NamedPatient>,
) -> Result<Inserted> {
    // The study stores the patient as named: the root is resolved anew each time (HL7-37).
    let is_new = add_study(tx, domains, record, patient.map(|it| it.named)).await?;
    // Locked before its series, whose foreign key would take a weaker lock that two may hold.
    // Serialises the versions of one instance, and everything else of its study.
    let study_patient: Option<Uuid> =
        sqlx::query_scalar("select patient_root(patient) from study where uid = $1 for update")
            .bind(&record.study)
            .fetch_one(&mut *tx)
            .await?;
    add_series(tx, record).await?;
    let versions: Vec<StoredVersion> =
        sqlx::query_as("select sha256, is_current from instance where uid = $1")
            .bind(&record.instance)
            .fetch_all(&mut *tx)
            .await?;
    let is_stored = versions.iter().any(|it| it.sha256 == record.sha256);
    let has_current = versions.iter().any(|it| it.is_current);
    if is_stored {
        restore_removed(tx, &record.instance, &record.sha256).await?;
    }
    if is_stored && has_current {
        let outcome = InstanceOutcome::Identical;
        return Ok(Inserted {
            outcome,
            flags: record.quality_flags.clone(),
            conflicts: Vec::new(),
        });
    }
    let root = patient.map(|it| it.root);
    let contradictions = contradictions(tx, record, root, study_patient).await?;
    let mut flags = record.quality_flags.clone();
    flags.extend(contradictions.iter().map(|it| it.flag));
    let conflicts =
        malformed_uids(record).into_iter().chain(contradictions.into_iter().map(|it| it.text));
    let conflicts: Vec<String> = conflicts.collect();
    let has_conflict = flags.iter().any(|it| it.is_identity_conflict());
    // What is kept and not used gives way to what can be: its sender has mended it, or the conflict
    // was resolved.
    let outcome = match record.versions {
        VersionPolicy::Reject if has_current => {
            let outcome = InstanceOutcome::VersionRefused;
            return Ok(Inserted { outcome, flags, conflicts });
        }
        _ if has_conflict => {
            let conflicts = flags.iter().copied().filter(|it| it.is_identity_conflict());
            InstanceOutcome::Flagged(conflicts.collect())
        }
        _ if has_current => InstanceOutcome::OtherVersion,
        _ => InstanceOutcome::New,
    };
    // What is of another patient says nothing about the orders of the study.
    let is_of_study = !flags.contains(&QualityFlag::PatientDiffersFromStudy)
        && !flags.contains(&QualityFlag::SeriesOfAnotherStudy);
    if is_new || is_of_study {
        add_accessions(tx, domains, record).await?;
    }
    let replaces =
        outcome == InstanceOutcome::OtherVersion && record.versions == VersionPolicy::Replace;
    if replaces {
        sqlx::query("update instance set is_current = false where uid = $1")
            .bind(&record.instance)
            .execute(&mut *tx)
            .await?;
    }
    let is_current = outcome == InstanceOutcome::New || replaces;
    write_row(tx, record, is_current, &flags).await?;
    if is_current {
        schedule_study(tx, record).await?;
        note_correction(tx, record).await?;
    }
    Ok(Inserted { outcome, flags, conflicts })
}

/// Notes an instance that may be a correction of a draft of ours.
async fn note_correction(tx: &mut PgConnection, record: &InstanceRecord) -> Result<()> {
    let source = match record.modality.as_str() {
        "SEG" => CorrectionSource::Seg,
        "SR" => CorrectionSource::Sr,
        _ => return Ok(()),
    };
    corrections::note_instance(tx, source, &record.instance, &record.sha256, &record.study).await
}

/// Restores an instance that retention removed and that has come again. Does nothing to others.
async fn restore_removed(tx: &mut PgConnection, instance: &str, sha256: &str) -> Result<()> {
    let restored = sqlx::query(
        "update instance set removed_at = null, is_file_gone = false, committed_at = null,
            received_at = clock_timestamp()
         where uid = $1 and sha256 = $2 and removed_at is not null",
    );
    let restored = restored.bind(instance).bind(sha256).execute(&mut *tx).await?;
    if restored.rows_affected() > 0 {
        sqlx::query(
            "update study set last_received = clock_timestamp()
             where uid = (select study from instance where uid = $1 and sha256 = $2)",
        )
        .bind(instance)
        .bind(sha256)
        .execute(tx)
        .await?;
    }
    Ok(())
}

/// Schedules a decision about the study, and records which association brought the instance.
async fn schedule_study(tx: &mut PgConnection, record: &InstanceRecord) -> Result<()> {
    sqlx::query(
        "insert into study_association (study, association) values ($1, $2)
         on conflict do nothing",
    )
    .bind(&record.study)
    .bind(record.arrival.association)
    .execute(&mut *tx)
    .await?;
    // A decision that is due already will see this instance too.
    sqlx::query(
        "update study set last_received = clock_timestamp(),
            decide_at = coalesce(decide_at, clock_timestamp() + interval '200 milliseconds')
         where uid = $1",
    )
    .bind(&record.study)
    .execute(tx)
    .await?;
    Ok(())
}

/// Adds the study of an instance. False if it is known.
async fn add_study(
    tx: &mut PgConnection,
    domains: &IdentityDomains,
    record: &InstanceRecord,
    patient: Option<Uuid>,
) -> Result<bool> {
    let added = sqlx::query(
        "insert into study (uid, patient, accession, description, study_date, study_time, study_id,
            placer, filler, requested_procedure, placer_authority, filler_authority)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) on conflict do nothing",
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
    .bind(domains.authority(&record.placer_authority))
    .bind(domains.authority(&record.filler_authority))
    .execute(tx)
    .await?;
    Ok(added.rows_affected() > 0)
}

/// Adds the accession numbers of an instance to those of its study, which may answer several orders
/// (HL7-42).
async fn add_accessions(
    tx: &mut PgConnection,
    domains: &IdentityDomains,
    record: &InstanceRecord,
) -> Result<()> {
    let mut numbers = vec![record.accession.as_str()];
    let mut issuers = vec![domains.authority(&record.accession_issuer)];
    for requested in record.requested_accessions.iter().filter(|it| **it != record.accession) {
        numbers.push(requested);
        issuers.push(String::new());
    }
    sqlx::query(
        "insert into study_accession_number (study, number, issuer)
         select distinct $1, g.number, g.issuer from unnest($2::text[], $3::text[]) g (number, issuer)
         where g.number <> '' on conflict do nothing",
    )
    .bind(&record.study)
    .bind(numbers)
    .bind(issuers)
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

/// A series as it is stored, to compare an instance with.
#[derive(sqlx::FromRow)]
struct StoredSeries {
    study: String,
    modality: String,
    frame_of_reference: String,
}

/// Something in which an instance contradicts its stored study or series.
struct Contradiction {
    flag: QualityFlag,
    /// The attribute with both values, for people. Of a patient, no value: it is personal.
    text: String,
}

/// What names of an instance are no UIDs, by attribute and value.
fn malformed_uids(record: &InstanceRecord) -> Vec<String> {
    let text = |name: &str, uid: &str| Some(format!("{name} is `{uid}`, which is no valid UID"));
    let text_of = |flag: &QualityFlag| match flag {
        QualityFlag::InstanceUidMalformed => text("SOP Instance UID (0008,0018)", &record.instance),
        QualityFlag::SeriesUidMalformed => text("Series Instance UID (0020,000E)", &record.series),
        QualityFlag::StudyUidMalformed => text("Study Instance UID (0020,000D)", &record.study),
        _ => None,
    };
    record.quality_flags.iter().filter_map(text_of).collect()
}

/// In what an instance contradicts its stored study or series (DIN-61).
async fn contradictions(
    tx: &mut PgConnection,
    record: &InstanceRecord,
    patient: Option<Uuid>,
    study_patient: Option<Uuid>,
) -> Result<Vec<Contradiction>> {
    let mut found = Vec::new();
    let mut note = |flag, text| found.push(Contradiction { flag, text });
    if patient != study_patient {
        let text = "Patient ID (0010,0020) or its issuer is not that of the study".to_owned();
        note(QualityFlag::PatientDiffersFromStudy, text);
    }
    let series: StoredSeries =
        sqlx::query_as("select study, modality, frame_of_reference from series where uid = $1")
            .bind(&record.series)
            .fetch_one(tx)
            .await?;
    let differs = |name: &str, own: &str, stored: &str| {
        format!("{name} is `{own}`, and that of its series is `{stored}`")
    };
    if series.study != record.study {
        let text = differs("Study Instance UID (0020,000D)", &record.study, &series.study);
        note(QualityFlag::SeriesOfAnotherStudy, text);
    }
    if series.modality != record.modality {
        let text = differs("Modality (0008,0060)", &record.modality, &series.modality);
        note(QualityFlag::ModalityDiffersFromSeries, text);
    }
    if !record.frame_of_reference.is_empty()
        && series.frame_of_reference != record.frame_of_reference
    {
        let stored = &series.frame_of_reference;
        let text =
            differs("Frame of Reference UID (0020,0052)", &record.frame_of_reference, stored);
        note(QualityFlag::FrameOfReferenceDiffersFromSeries, text);
    }
    Ok(found)
}

/// Inserts the row of an instance, or brings that of the very same one up to date.
async fn write_row(
    tx: &mut PgConnection,
    record: &InstanceRecord,
    is_current: bool,
    flags: &[QualityFlag],
) -> Result<()> {
    sqlx::query(
        "insert into instance (uid, sha256, series, study, sop_class, transfer_syntax, bytes,
            calling_ae, is_current, flags, has_identity_conflict, is_own)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
         on conflict (uid, sha256) do update set is_current = excluded.is_current,
            flags = excluded.flags, has_identity_conflict = excluded.has_identity_conflict",
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

/// The event that reports the outcome for an instance.
pub(crate) fn event_of(
    record: &InstanceRecord,
    patient: Option<Uuid>,
    outcome: &InstanceOutcome,
    flags: &[QualityFlag],
) -> Event {
    let subject = Subject {
        patient,
        study: Some(record.study.clone()),
        accession: Some(record.accession.clone()).filter(|it| !it.is_empty()),
        instance: Some(record.instance.clone()),
        ..Subject::default()
    };
    let facts = InstanceFacts {
        sha256: record.sha256.clone(),
        bytes: record.bytes,
        sop_class: record.sop_class.to_string(),
        transfer_syntax: record.arrival.transfer_syntax.clone(),
        called_ae: record.arrival.called_ae.clone(),
        flags: flags.to_vec(),
    };
    let event = match outcome {
        InstanceOutcome::New => Event::new(subject, InstanceReceived(facts)),
        InstanceOutcome::Identical => Event::new(subject, DuplicateReceived(facts)),
        InstanceOutcome::OtherVersion => Event::new(subject, InstanceVersionReceived(facts)),
        InstanceOutcome::Flagged(_) => {
            Event::new(subject, InstanceFlagged(facts)).ended(Outcome::MinorFailure)
        }
        InstanceOutcome::VersionRefused => {
            Event::new(subject, InstanceVersionRefused(facts)).ended(Outcome::MinorFailure)
        }
    };
    event.by(Actor::peer(&record.arrival.calling_ae, &record.arrival.address))
}

/// Appends the event, and opens a task if a person has to look.
async fn report_in_tx(
    tx: &mut PgConnection,
    record: &InstanceRecord,
    patient: Option<Uuid>,
    inserted: &Inserted,
) -> Result<()> {
    let event = event_of(record, patient, &inserted.outcome, &inserted.flags);
    append(tx, &event).await?;
    // One task for a study, not for each instance: a modality that repeats a series sends hundreds.
    let subject = Subject { instance: None, ..event.subject };
    let (kind, reason) = match inserted.outcome {
        InstanceOutcome::New | InstanceOutcome::Identical => return Ok(()),
        InstanceOutcome::OtherVersion if record.versions == VersionPolicy::Replace => (
            TaskKind::InstanceVersionReceived,
            "instances came again with other content; the new ones count",
        ),
        InstanceOutcome::OtherVersion => (
            TaskKind::InstanceVersionReceived,
            "instances came again with other content; the first ones count",
        ),
        InstanceOutcome::VersionRefused => (
            TaskKind::InstanceVersionRefused,
            "instances came again with other content, and were refused",
        ),
        InstanceOutcome::Flagged(_) => {
            // The first one names itself and its conflict; the trail has those of all others.
            let conflicts = inserted.conflicts.join("; ");
            let first = &record.instance;
            let reason =
                format!("instances are kept and not used, the first of them {first}: {conflicts}");
            let task = NewTask { kind: TaskKind::InstanceFlagged, subject, reason };
            return task::open_first(tx, &task).await;
        }
    };
    task::open_once(tx, &NewTask { kind, subject, reason: reason.to_owned() }).await
}
