use contracts::RunRecord;
use domain::{ExchangedDocument, KnownReport, NodeOutput};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::database::pg_store::PgStore;
use crate::error::Result;
use crate::vault::payload;

/// Most reports a plugin is given.
const REPORTS_MAX: usize = 5;

impl PgStore {
    /// What people have reported of the patient of a run, the newest first: what was signed here, and what the
    /// RIS has sent. Nobody's, if it is not known whose the run is.
    pub(crate) async fn known_reports(
        &self,
        tx: &mut PgConnection,
        run: &RunRecord,
    ) -> Result<Vec<KnownReport>> {
        let (Some(patient), Some(study)) = (run.patient, &run.study) else { return Ok(Vec::new()) };
        let signed: Vec<(Uuid, Uuid, bool, String)> = sqlx::query_as(
            "select v.content, k.id, r.study = $2, s.study_date
             from run_version v join run r on r.id = v.run join study s on s.uid = r.study
                join payload p on p.id = v.content join payload_key k on k.id = p.key
             where v.state in ('signed', 'amended') and p.removed_at is null
                and k.destroyed_at is null and r.id <> $3
                and s.patient in (select patient_family($1))
                and v.version = (select max(version) from run_version w where w.run = v.run)
             order by v.at desc limit 5",
        )
        .bind(patient)
        .bind(study.as_str())
        .bind(run.id)
        .fetch_all(&mut *tx)
        .await?;
        let sent: Vec<(Uuid, bool, String)> = sqlx::query_as(
            "select m.document, s.uid = $2, s.study_date
             from message m join study s on s.accession = m.accession and m.accession <> ''
                join payload p on p.id = m.document join payload_key k on k.id = p.key
             where (m.message_code = 'ORU' and m.trigger_event = 'R01' or m.message_code = 'MDM')
                and p.removed_at is null and k.destroyed_at is null
                and m.patient in (select patient_family($1))
                and s.patient in (select patient_family($1))
             order by m.received_at desc limit 5",
        )
        .bind(patient)
        .bind(study.as_str())
        .fetch_all(&mut *tx)
        .await?;
        let mut reports = Vec::new();
        for (document, is_of_study, date) in sent {
            let Some(content) = payload::read(tx, &self.keys, document).await? else { continue };
            let document: ExchangedDocument = serde_json::from_slice(&content)?;
            reports.push(KnownReport { is_of_study, date, text: document.final_words() });
        }
        for (content, _, is_of_study, date) in signed {
            let Some(content) = payload::read(tx, &self.keys, content).await? else { continue };
            let content: NodeOutput = serde_json::from_slice(&content)?;
            reports.push(KnownReport { is_of_study, date, text: told(&content) });
        }
        reports.retain(|it| !it.text.trim().is_empty());
        reports.truncate(REPORTS_MAX);
        Ok(reports)
    }
}

/// What a result says in words.
fn told(content: &NodeOutput) -> String {
    let findings = content.findings.iter().map(|it| it.text.clone());
    let sections = content.sections.iter().map(|it| format!("{}:\n{}", it.title.meaning, it.text));
    findings.chain(sections).collect::<Vec<_>>().join("\n")
}
