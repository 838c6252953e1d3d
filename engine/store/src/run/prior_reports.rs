//! Prior reports of a patient, which nodes are given as context.

use contracts::RunRecord;
use domain::{ExchangedDocument, KnownReport, NodeOutput};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::Result;
use crate::vault::keys::Keys;
use crate::vault::payload;

/// Upper bound of the reports a node is given. The queries have the same limit each.
const REPORTS_MAX: usize = 5;

/// A report that is stored as a payload.
#[derive(sqlx::FromRow)]
struct ReportRow {
    payload: Uuid,
    is_of_study: bool,
    study_date: String,
}

/// Final reports on the patient of a run, newest first: those that the RIS has sent, then those
/// that were signed here. None if the patient of the run is unknown.
pub(crate) async fn of_patient(
    tx: &mut PgConnection,
    keys: &Keys,
    run: &RunRecord,
) -> Result<Vec<KnownReport>> {
    let (Some(patient), Some(study)) = (run.patient, &run.study) else { return Ok(Vec::new()) };
    let received = received(tx, patient, study.as_str()).await?;
    let signed = signed(tx, patient, study.as_str(), run.id).await?;
    let mut reports = Vec::new();
    for row in received {
        let Some(content) = payload::read(tx, keys, row.payload).await? else { continue };
        let document: ExchangedDocument = serde_json::from_slice(&content)?;
        reports.push(report(&row, document.final_words()));
    }
    for row in signed {
        let Some(content) = payload::read(tx, keys, row.payload).await? else { continue };
        let result: NodeOutput = serde_json::from_slice(&content)?;
        reports.push(report(&row, text_of(&result)));
    }
    reports.retain(|it| !it.text.trim().is_empty());
    reports.truncate(REPORTS_MAX);
    Ok(reports)
}

/// The last version of each other run of the patient that was signed.
async fn signed(
    tx: &mut PgConnection,
    patient: Uuid,
    study: &str,
    run: Uuid,
) -> Result<Vec<ReportRow>> {
    let rows = sqlx::query_as(
        "select v.content as payload, r.study = $2 as is_of_study, s.study_date
         from run_version v join run r on r.id = v.run join study s on s.uid = r.study
            join payload p on p.id = v.content join payload_key k on k.id = p.key
         where v.state in ('signed', 'amended') and p.removed_at is null
            and k.destroyed_at is null and r.id <> $3
            and s.patient in (select patient_family($1))
            and v.version = (select max(version) from run_version w where w.run = v.run)
         order by v.at desc limit 5",
    );
    Ok(rows.bind(patient).bind(study).bind(run).fetch_all(tx).await?)
}

/// Reports in messages of the RIS, of studies with their accession number.
async fn received(tx: &mut PgConnection, patient: Uuid, study: &str) -> Result<Vec<ReportRow>> {
    let rows = sqlx::query_as(
        "select p.id as payload, s.uid = $2 as is_of_study, s.study_date
         from message m join study s on s.accession = m.accession and m.accession <> ''
            join payload p on p.id = coalesce(m.in_force, m.document)
            join payload_key k on k.id = p.key
         where m.superseded_by is null and (m.message_code = 'ORU' and m.trigger_event = 'R01' or m.message_code = 'MDM')
            and p.removed_at is null and k.destroyed_at is null
            and m.patient in (select patient_family($1))
            and s.patient in (select patient_family($1))
         order by m.received_at desc limit 5",
    );
    Ok(rows.bind(patient).bind(study).fetch_all(tx).await?)
}

fn report(row: &ReportRow, text: String) -> KnownReport {
    KnownReport { is_of_study: row.is_of_study, date: row.study_date.clone(), text }
}

/// The findings and sections of a result as text.
fn text_of(result: &NodeOutput) -> String {
    let findings = result.findings.iter().map(|it| it.text.clone());
    let sections = result.sections.iter().map(|it| format!("{}:\n{}", it.title.meaning, it.text));
    findings.chain(sections).collect::<Vec<_>>().join("\n")
}
