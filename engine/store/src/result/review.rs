use async_trait::async_trait;
use contracts::{
    CorrectionCandidate, CorrectionPair, CorrectionStore, DecideReview, LockChange, NewVersion,
    OpenReview, ReviewChange, ReviewLock, ReviewRefusal, ReviewStore, ReviewVersion, ReviewView,
    Reviewer, StoreError,
};
use domain::event::EventKind;
use domain::{
    Action, Actor, Attestation, CorrectionSource, Event, Meaning, NodeOutput, Person, ReviewState,
};
use jiff::Timestamp;
use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::database::pg_store::PgStore;
use crate::database::wakeups::announce;
use crate::error::{Result, inconsistent};
use crate::patient::identity;
use crate::run::record;
use crate::run::snapshot::{plugins, time};
use crate::trail::append::append;
use crate::vault::payload;

type OpenRow = (
    Uuid,
    String,
    String,
    String,
    Option<String>,
    Option<String>,
    i64,
    Option<i64>,
    Option<String>,
);

type VersionRow =
    (i32, String, i32, Option<i32>, Uuid, String, Option<String>, String, String, String, i64);

type ReviewerRow = (Uuid, String, String, String);

fn reviewer((token, name, organization, role): ReviewerRow) -> Reviewer {
    Reviewer { token, person: Person { name, organization, role } }
}

#[async_trait]
impl ReviewStore for PgStore {
    async fn find_reviewer(
        &self,
        digest: &[u8; 32],
    ) -> std::result::Result<Option<Reviewer>, StoreError> {
        Ok(self.reviewer_row(digest).await?)
    }

    async fn open_reviews(&self) -> std::result::Result<Vec<OpenReview>, StoreError> {
        Ok(self.open_review_rows().await?)
    }

    async fn view_review(
        &self,
        run: Uuid,
        by: &Reviewer,
    ) -> std::result::Result<Option<ReviewView>, StoreError> {
        Ok(self.view_review_rows(run, by).await?)
    }

    async fn change_review(
        &self,
        run: Uuid,
        by: &Reviewer,
        decide: DecideReview<'_>,
    ) -> std::result::Result<std::result::Result<(), ReviewRefusal>, StoreError> {
        Ok(self.change_review_rows(run, by, decide).await?)
    }
}

#[async_trait]
impl CorrectionStore for PgStore {
    async fn next_correction(
        &self,
    ) -> std::result::Result<Option<CorrectionCandidate>, StoreError> {
        Ok(self.next_returned_row().await?)
    }

    async fn settle_correction(
        &self,
        source: CorrectionSource,
        origin: &str,
        pairs: Vec<CorrectionPair>,
    ) -> std::result::Result<(), StoreError> {
        Ok(self.settle_returned_row(source.name(), origin, pairs).await?)
    }
}

/// Who did something, for the trail.
fn actor(by: &Reviewer) -> Actor {
    Actor::person(&by.person.name)
}

impl PgStore {
    async fn reviewer_row(&self, digest: &[u8; 32]) -> Result<Option<Reviewer>> {
        let row: Option<ReviewerRow> = sqlx::query_as(
            "select id, name, organization, role from token
             where hash = $1 and revoked_at is null and expires_at > clock_timestamp()",
        )
        .bind(digest.as_slice())
        .fetch_optional(&self.pool)
        .await?;
        Ok(row.map(reviewer))
    }

    async fn open_review_rows(&self) -> Result<Vec<OpenReview>> {
        let rows: Vec<OpenRow> = sqlx::query_as(
            "select n.run, n.node, r.workflow, w.definition, r.study,
                (select accession from study s where s.uid = r.study), micros(n.changed_at),
                micros(n.due_at),
                (select t.name from review_lock l join token t on t.id = l.token
                    where l.run = n.run and l.until > clock_timestamp())
             from node n join run r on r.id = n.run
                join workflow_version w on w.name = r.workflow and w.digest = r.digest
             where n.state = 'in_review' and r.status = 'running' order by n.changed_at limit 100000",
        )
        .fetch_all(&self.pool)
        .await?;
        let open = |row: OpenRow| {
            let (run, node, workflow, definition, study, accession, since, due, locked_by) = row;
            let accession = accession.unwrap_or_default();
            let (since, due) = (time(since)?, due.map(time).transpose()?);
            let open = OpenReview {
                run,
                node,
                workflow,
                definition,
                study,
                accession,
                since,
                due,
                locked_by,
            };
            Ok(open)
        };
        rows.into_iter().map(open).collect()
    }

    async fn view_review_rows(&self, run: Uuid, by: &Reviewer) -> Result<Option<ReviewView>> {
        let mut tx = identity::begin_shared(&self.pool).await?;
        let Some(view) = self.review(&mut tx, run, false).await? else { return Ok(None) };
        let subject = record::subject(&view.run, "");
        let event = Event::engine("review_read", Action::R, subject, json!({}));
        append(&mut tx, &event.by(actor(by))).await?;
        tx.commit().await?;
        Ok(Some(view))
    }

    /// A run with everything that a person needs; locked, if something is to be changed.
    pub(crate) async fn review(
        &self,
        tx: &mut PgConnection,
        id: Uuid,
        is_to_change: bool,
    ) -> Result<Option<ReviewView>> {
        let (is_there,): (bool,) = sqlx::query_as("select exists (select from run where id = $1)")
            .bind(id)
            .fetch_one(&mut *tx)
            .await?;
        if !is_there {
            return Ok(None);
        }
        let run = record::load(tx, id, is_to_change).await?;
        let open: Vec<String> = sqlx::query_scalar(
            "select node from node where run = $1 and state = 'in_review' order by node",
        )
        .bind(id)
        .fetch_all(&mut *tx)
        .await?;
        let lock: Option<(Uuid, String, String, String, i64)> = sqlx::query_as(
            "select t.id, t.name, t.organization, t.role, micros(l.until)
             from review_lock l join token t on t.id = l.token
             where l.run = $1 and l.until > clock_timestamp()",
        )
        .bind(id)
        .fetch_optional(&mut *tx)
        .await?;
        let lock = match lock {
            Some((id, name, organization, role, until)) => {
                let holder = reviewer((id, name, organization, role));
                Some(ReviewLock { holder, until: time(until)? })
            }
            None => None,
        };
        let (is_replaced,): (bool,) = sqlx::query_as(
            "select exists (select from run where amends ->> 'run' = $1::text
                and (amends ->> 'is_replaced')::boolean)",
        )
        .bind(id)
        .fetch_one(&mut *tx)
        .await?;
        let outputs = self.outputs(tx, id).await?;
        let plugins = plugins(tx, id).await?;
        let versions = self.versions(tx, id, false).await?;
        Ok(Some(ReviewView { run, open, outputs, plugins, versions, lock, is_replaced }))
    }

    /// The states that people gave a run's result, in order; with `only_last`, the last one.
    pub(crate) async fn versions(
        &self,
        tx: &mut PgConnection,
        run: Uuid,
        only_last: bool,
    ) -> Result<Vec<ReviewVersion>> {
        let rows: Vec<VersionRow> = sqlx::query_as(
            "select v.version, v.state, v.document, v.replaces, v.content, v.digest, v.meaning,
                t.name, t.organization, t.role, micros(v.at)
             from run_version v join token t on t.id = v.token
             where v.run = $1 and (not $2 or v.version =
                (select max(version) from run_version where run = $1))
             order by v.version",
        )
        .bind(run)
        .bind(only_last)
        .fetch_all(&mut *tx)
        .await?;
        let mut versions = Vec::new();
        for row in rows {
            let content = payload::read_there(tx, &self.keys, row.4).await?;
            versions.push(version(row, &content)?);
        }
        Ok(versions)
    }

    async fn change_review_rows(
        &self,
        id: Uuid,
        by: &Reviewer,
        decide: DecideReview<'_>,
    ) -> Result<std::result::Result<(), ReviewRefusal>> {
        let mut tx = identity::begin_shared(&self.pool).await?;
        let Some(view) = self.review(&mut tx, id, true).await? else {
            return Ok(Err(ReviewRefusal::Unknown("there is no such run".to_owned())));
        };
        let step = match decide(&view) {
            Ok(step) => step,
            Err(refusal) => return Ok(Err(refusal)),
        };
        change_lock(&mut tx, id, by, step.lock).await?;
        let mut detail = serde_json::Map::new();
        detail.insert("role".to_owned(), json!(by.person.role));
        detail.insert("token".to_owned(), json!(by.token));
        if let Some(new) = step.version {
            detail.extend(self.keep_version(&mut tx, &view, by, &new).await?);
        }
        let kind = match step.change {
            ReviewChange::Claimed => EventKind::ReviewClaimed,
            ReviewChange::Released => EventKind::ReviewReleased,
            ReviewChange::Edited => EventKind::ResultEdited,
            ReviewChange::Signed => EventKind::ResultSigned,
            ReviewChange::Rejected => EventKind::ResultRejected,
            ReviewChange::Amended => EventKind::ResultAmended,
            ReviewChange::Withdrawn => EventKind::ResultWithdrawn,
        };
        let subject = record::subject(&view.run, "");
        let event = Event::engine(kind.name(), Action::U, subject, detail.into());
        append(&mut tx, &event.by(actor(by))).await?;
        if let Some(step) = step.run {
            let (priority,): (i16,) = sqlx::query_as("select priority from run where id = $1")
                .bind(id)
                .fetch_one(&mut *tx)
                .await?;
            record::apply(&mut tx, &self.keys, id, view.run.patient, priority, step).await?;
        }
        announce(&mut tx, "node").await?;
        announce(&mut tx, "delivery").await?;
        tx.commit().await?;
        Ok(Ok(()))
    }

    /// Keeps a state of a result, and queues it for everybody who has an earlier one. Gives what the trail is to
    /// say of it.
    async fn keep_version(
        &self,
        tx: &mut PgConnection,
        view: &ReviewView,
        by: &Reviewer,
        new: &NewVersion,
    ) -> Result<serde_json::Map<String, serde_json::Value>> {
        let (run, patient) = (view.run.id, view.run.patient);
        let number = i32::try_from(view.versions.len() + 1)
            .map_err(|_| inconsistent("too many versions"))?;
        let content = serde_json::to_vec(&new.content)?;
        let kept = payload::keep(tx, &self.keys, patient, "run_version", &content).await?;
        let artifacts: Vec<&str> = new.content.artifacts().map(|it| it.sha256.as_str()).collect();
        payload::use_artifacts(tx, kept.id, &artifacts).await?;
        let difference = serde_json::to_vec(&new.difference)?;
        let difference = payload::keep(tx, &self.keys, patient, "difference", &difference).await?;
        let small = |it: u32| i32::try_from(it).unwrap_or(i32::MAX);
        sqlx::query(
            "insert into run_version (run, version, state, document, replaces, content, difference,
                digest, meaning, token, at)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, clock_timestamp())",
        )
        .bind(run)
        .bind(number)
        .bind(new.state.name())
        .bind(small(new.document))
        .bind(new.replaces.map(small))
        .bind(kept.id)
        .bind(difference.id)
        .bind(&new.digest)
        .bind(new.meaning.map(Meaning::name))
        .bind(by.token)
        .execute(&mut *tx)
        .await?;
        if let Some(draft) = &new.draft {
            let origin = number.to_string();
            self.keep_pair(tx, (run, patient), draft, ("review", &origin, kept.id, difference.id))
                .await?;
        }
        sqlx::query(
            "update delivery set state = 'queued', run_after = now(), ended_at = null, blocked_by = null,
                reason = 'sent anew: ' || $2
             where run = $1 and sent is not null
                and state in ('delivered', 'promised', 'blocked', 'failed')",
        )
        .bind(run)
        .bind(new.state.name())
        .execute(&mut *tx)
        .await?;
        let detail = json!({
            "version": number, "state": new.state, "payload": kept.id, "salted_sha256": kept.digest,
            "difference": difference.id, "meaning": new.meaning,
        });
        Ok(detail.as_object().cloned().unwrap_or_default())
    }

    /// Keeps a draft and what became of it, to learn from.
    pub(crate) async fn keep_pair(
        &self,
        tx: &mut PgConnection,
        (run, patient): (Uuid, Option<Uuid>),
        draft: &NodeOutput,
        (source, origin, kept, difference): (&str, &str, Uuid, Uuid),
    ) -> Result<()> {
        let draft = serde_json::to_vec(draft)?;
        let draft = payload::keep(tx, &self.keys, patient, "draft", &draft).await?;
        sqlx::query(
            "insert into labelled_pair (id, run, source, origin, draft, final, difference)
             values ($1, $2, $3, $4, $5, $6, $7) on conflict do nothing",
        )
        .bind(Uuid::now_v7())
        .bind(run)
        .bind(source)
        .bind(origin)
        .bind(draft.id)
        .bind(kept)
        .bind(difference)
        .execute(tx)
        .await?;
        Ok(())
    }
}

fn version(row: VersionRow, content: &[u8]) -> Result<ReviewVersion> {
    let (number, state, document, replaces, _, digest, meaning, name, organization, role, at) = row;
    let word = |it: String| serde_json::Value::String(it);
    let state: ReviewState = serde_json::from_value(word(state))?;
    let meaning: Option<Meaning> =
        meaning.map(|it| serde_json::from_value(word(it))).transpose()?;
    let whole = |it: i32| u32::try_from(it).unwrap_or_default();
    let at: Timestamp = time(at)?;
    let content: NodeOutput = serde_json::from_slice(content)?;
    let attestation = Attestation {
        by: Person { name, organization, role },
        version: whole(number),
        document: whole(document),
        replaces: replaces.map(whole),
        at,
        meaning,
        digest,
    };
    Ok(ReviewVersion { state, attestation, content })
}

async fn change_lock(
    tx: &mut PgConnection,
    run: Uuid,
    by: &Reviewer,
    change: LockChange,
) -> Result<()> {
    match change {
        LockChange::Keep => {}
        LockChange::Take(until) => {
            sqlx::query(
                "insert into review_lock (run, token, until) values ($1, $2, at_micros($3))
                 on conflict (run) do update set token = excluded.token, until = excluded.until",
            )
            .bind(run)
            .bind(by.token)
            .bind(until.as_microsecond())
            .execute(tx)
            .await?;
        }
        LockChange::Release => {
            sqlx::query("delete from review_lock where run = $1").bind(run).execute(tx).await?;
        }
    }
    Ok(())
}
