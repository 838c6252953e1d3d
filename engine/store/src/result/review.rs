//! Review: who may decide about a result, what they see, and the versions they create (OUT-80..83).

use async_trait::async_trait;
use contracts::{
    DecideReview, LockChange, NewVersion, OpenReview, ReviewChange, ReviewLock, ReviewRefusal,
    ReviewStore, ReviewVersion, ReviewView, Reviewer, WorkKind,
};
use domain::event::{
    ResultAmended, ResultEdited, ResultRejected, ResultSigned, ResultWithdrawn, ReviewClaimed,
    ReviewRead, ReviewReleased, ReviewerFacts, VersionFacts,
};
use domain::{Actor, Attestation, BlockReason, Event, Meaning, Person, ReviewState};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::database::decode;
use crate::database::pg_store::{PgStore, commit};
use crate::database::wakeups::notify;
use crate::error::{Error, Result, StoreResult, inconsistent};
use crate::patient::identity;
use crate::result::pair::{self, LabelledPair};
use crate::run::{chain, record, snapshot};
use crate::trail::append::append;
use crate::vault::keys::Keys;
use crate::vault::payload;

#[async_trait]
impl ReviewStore for PgStore {
    async fn find_reviewer(&self, digest: &[u8; 32]) -> StoreResult<Option<Reviewer>> {
        let row: Option<PersonRow> = sqlx::query_as(
            "select id as token, name, organization, role from token
             where hash = $1 and revoked_at is null and expires_at > clock_timestamp()",
        )
        .bind(digest.as_slice())
        .fetch_optional(&self.pool)
        .await
        .map_err(Error::from)?;
        Ok(row.map(PersonRow::reviewer))
    }

    async fn open_reviews(&self) -> StoreResult<Vec<OpenReview>> {
        let mut connection = self.pool.acquire().await.map_err(Error::from)?;
        let rows: Vec<OpenReviewRow> = sqlx::query_as(
            "select n.run, n.node, r.workflow, w.definition, r.study,
                (select accession from study s where s.uid = r.study) as accession,
                r.amends is not null as is_later, micros(n.changed_at) as since, micros(n.due_at) as due,
                (select t.name from review_lock l join token t on t.id = l.token
                    where l.run = n.run and l.until > clock_timestamp()) as locked_by
             from node n join run r on r.id = n.run
                join workflow_version w on w.name = r.workflow and w.digest = r.digest
             where n.state = 'in_review' and r.status = 'running'
             order by n.changed_at limit 100000",
        )
        .fetch_all(&mut *connection)
        .await
        .map_err(Error::from)?;
        let mut reviews = Vec::new();
        for row in rows {
            let standing =
                if row.is_later { chain::standing(&mut connection, row.run).await? } else { None };
            reviews.push(OpenReview { signed_before: standing.map(|it| it.run), ..row.review()? });
        }
        Ok(reviews)
    }

    async fn view_review(&self, run: Uuid, reviewer: &Reviewer) -> StoreResult<Option<ReviewView>> {
        let mut tx = identity::begin_shared(&self.pool).await?;
        let Some(view) = view_in_tx(&mut tx, &self.keys, run).await? else { return Ok(None) };
        let event = Event::new(record::subject(&view.run), ReviewRead {});
        append(&mut tx, &event.by(actor(reviewer))).await?;
        commit(tx).await?;
        Ok(Some(view))
    }

    async fn change_review(
        &self,
        run: Uuid,
        reviewer: &Reviewer,
        decide: DecideReview<'_>,
    ) -> StoreResult<std::result::Result<(), ReviewRefusal>> {
        let mut tx = identity::begin_shared(&self.pool).await?;
        sqlx::query("select 1 from run where id = $1 for update")
            .bind(run)
            .execute(&mut *tx)
            .await
            .map_err(Error::from)?;
        let Some(view) = view_in_tx(&mut tx, &self.keys, run).await? else {
            return Ok(Err(ReviewRefusal::Unknown("there is no such run".to_owned())));
        };
        let step = match decide(&view) {
            Ok(step) => step,
            Err(refusal) => return Ok(Err(refusal)),
        };
        change_lock(&mut tx, run, reviewer, step.lock).await?;
        let version = match &step.version {
            Some(new) => Some(store_version(&mut tx, &self.keys, &view, reviewer, new).await?),
            None => None,
        };
        append(&mut tx, &event_of(&view, reviewer, step.change, version)?).await?;
        if let Some(step) = step.run {
            let run = record::RunToChange::of(&mut tx, &view.run).await?;
            record::apply_step(&mut tx, &self.keys, &run, step).await?;
        }
        notify(&mut tx, WorkKind::Node).await?;
        notify(&mut tx, WorkKind::Delivery).await?;
        commit(tx).await?;
        Ok(Ok(()))
    }
}

/// The person behind a token.
#[derive(sqlx::FromRow)]
struct PersonRow {
    token: Uuid,
    name: String,
    organization: String,
    role: String,
}

impl PersonRow {
    fn reviewer(self) -> Reviewer {
        let person = Person { name: self.name, organization: self.organization, role: self.role };
        Reviewer { token: self.token, person }
    }
}

#[derive(sqlx::FromRow)]
struct OpenReviewRow {
    run: Uuid,
    node: String,
    workflow: String,
    definition: String,
    study: Option<String>,
    accession: Option<String>,
    /// Whether its run adds to or replaces an earlier one.
    is_later: bool,
    since: i64,
    due: Option<i64>,
    locked_by: Option<String>,
}

impl OpenReviewRow {
    fn review(self) -> Result<OpenReview> {
        Ok(OpenReview {
            run: self.run,
            node: self.node,
            workflow: self.workflow,
            definition: self.definition,
            study: self.study,
            accession: self.accession.unwrap_or_default(),
            since: decode::timestamp(self.since)?,
            due: decode::timestamp_or_none(self.due)?,
            locked_by: self.locked_by,
            signed_before: None,
        })
    }
}

/// The reviewer as the actor of an event.
fn actor(reviewer: &Reviewer) -> Actor {
    Actor::person(&reviewer.person.name)
}

/// A run with everything that a reviewer needs. `None` if there is no such run.
pub(crate) async fn view_in_tx(
    tx: &mut PgConnection,
    keys: &Keys,
    id: Uuid,
) -> Result<Option<ReviewView>> {
    let exists: bool = sqlx::query_scalar("select exists (select from run where id = $1)")
        .bind(id)
        .fetch_one(&mut *tx)
        .await?;
    if !exists {
        return Ok(None);
    }
    let run = record::load(tx, id).await?;
    let open: Vec<String> = sqlx::query_scalar(
        "select node from node where run = $1 and state = 'in_review' order by node",
    )
    .bind(id)
    .fetch_all(&mut *tx)
    .await?;
    Ok(Some(ReviewView {
        lock: lock_of(tx, id).await?,
        outputs: snapshot::outputs(tx, keys, id).await?,
        plugins: snapshot::plugins(tx, id).await?,
        versions: versions(tx, keys, id).await?,
        is_replaced: chain::is_replaced(tx, id).await?,
        standing: chain::standing(tx, id).await?,
        run,
        open,
    }))
}

#[derive(sqlx::FromRow)]
struct LockRow {
    #[sqlx(flatten)]
    holder: PersonRow,
    until: i64,
}

/// The lock on a run that has not expired.
async fn lock_of(tx: &mut PgConnection, run: Uuid) -> Result<Option<ReviewLock>> {
    let row: Option<LockRow> = sqlx::query_as(
        "select t.id as token, t.name, t.organization, t.role, micros(l.until) as until
         from review_lock l join token t on t.id = l.token
         where l.run = $1 and l.until > clock_timestamp()",
    )
    .bind(run)
    .fetch_optional(tx)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let until = decode::timestamp(row.until)?;
    Ok(Some(ReviewLock { holder: row.holder.reviewer(), until }))
}

async fn change_lock(
    tx: &mut PgConnection,
    run: Uuid,
    reviewer: &Reviewer,
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
            .bind(reviewer.token)
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

#[derive(sqlx::FromRow)]
struct VersionRow {
    version: i32,
    state: String,
    document: i32,
    replaces: Option<i32>,
    content: Uuid,
    digest: String,
    meaning: Option<String>,
    #[sqlx(flatten)]
    reviewer: PersonRow,
    at: i64,
}

const VERSION_COLUMNS: &str = "select v.version, v.state, v.document, v.replaces, v.content,
        v.digest, v.meaning, t.id as token, t.name, t.organization, t.role, micros(v.at) as at
     from run_version v join token t on t.id = v.token";

/// The versions that reviewers gave the result of a run, oldest first.
async fn versions(tx: &mut PgConnection, keys: &Keys, run: Uuid) -> Result<Vec<ReviewVersion>> {
    let mut versions = Vec::new();
    for row in version_rows(tx, run).await? {
        versions.push(version(tx, keys, row).await?);
    }
    Ok(versions)
}

async fn version_rows(tx: &mut PgConnection, run: Uuid) -> Result<Vec<VersionRow>> {
    let query = format!("{VERSION_COLUMNS} where v.run = $1 order by v.version");
    Ok(sqlx::query_as(sqlx::AssertSqlSafe(query)).bind(run).fetch_all(tx).await?)
}

/// The version of the result of a run that is in force, if a reviewer gave it one.
pub(crate) async fn version_in_force(
    tx: &mut PgConnection,
    keys: &Keys,
    run: Uuid,
) -> Result<Option<ReviewVersion>> {
    let rows = version_rows(tx, run).await?;
    let states: Vec<ReviewState> = rows
        .iter()
        .map(|row| decode::named(&row.state, ReviewState::parse))
        .collect::<Result<_>>()?;
    let row = ReviewState::in_force(&states).and_then(|at| rows.into_iter().nth(at));
    match row {
        Some(row) => Ok(Some(version(tx, keys, row).await?)),
        None => Ok(None),
    }
}

async fn version(tx: &mut PgConnection, keys: &Keys, row: VersionRow) -> Result<ReviewVersion> {
    let content = payload::read_existing(tx, keys, row.content).await?;
    let meaning = row.meaning.map(|it| decode::named(&it, Meaning::parse)).transpose()?;
    let attestation = Attestation {
        by: row.reviewer.reviewer().person,
        version: number(row.version),
        document: number(row.document),
        replaces: row.replaces.map(number),
        at: decode::timestamp(row.at)?,
        meaning,
        digest: row.digest,
    };
    Ok(ReviewVersion {
        state: decode::named(&row.state, ReviewState::parse)?,
        attestation,
        content: serde_json::from_slice(&content)?,
    })
}

/// A number that the schema keeps from being negative.
fn number(column: i32) -> u32 {
    u32::try_from(column).unwrap_or_default()
}

fn column(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// Stores a version of a result, and queues it for every destination that has an earlier one.
/// Returns what the trail records of it.
async fn store_version(
    tx: &mut PgConnection,
    keys: &Keys,
    view: &ReviewView,
    reviewer: &Reviewer,
    new: &NewVersion,
) -> Result<VersionFacts> {
    let run = view.run.id;
    let patient = view.run.patient;
    let version =
        i32::try_from(view.versions.len() + 1).map_err(|_| inconsistent("too many versions"))?;
    let content = serde_json::to_vec(&new.content)?;
    let content = payload::store(tx, keys, patient, "run_version", &content).await?;
    let artifacts: Vec<&str> = new.content.artifacts().map(|it| it.sha256.as_str()).collect();
    payload::link_artifacts(tx, content.id, &artifacts).await?;
    let difference = serde_json::to_vec(&new.difference)?;
    let difference = payload::store(tx, keys, patient, "difference", &difference).await?;
    sqlx::query(
        "insert into run_version (run, version, state, document, replaces, content, difference,
            digest, meaning, token, at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, clock_timestamp())",
    )
    .bind(run)
    .bind(version)
    .bind(new.state.name())
    .bind(column(new.document))
    .bind(new.replaces.map(column))
    .bind(content.id)
    .bind(difference.id)
    .bind(&new.digest)
    .bind(new.meaning.map(Meaning::name))
    .bind(reviewer.token)
    .execute(&mut *tx)
    .await?;
    if let Some(draft) = &new.draft {
        let pair = LabelledPair {
            run,
            patient,
            source: domain::CorrectionSource::Review,
            origin: &version.to_string(),
            draft,
            content: content.id,
            difference: difference.id,
        };
        pair::store_in_tx(tx, keys, &pair).await?;
    }
    let mut states: Vec<ReviewState> = view.versions.iter().map(|it| it.state).collect();
    states.push(new.state);
    // What is not in force is a proposal, and goes nowhere.
    if ReviewState::in_force(&states) == states.len().checked_sub(1) {
        queue_version(tx, run, new.state).await?;
    }
    if new.state == ReviewState::Withdrawn {
        chain::release_later(tx, run).await?;
    }
    Ok(VersionFacts {
        role: reviewer.person.role.clone(),
        token: reviewer.token,
        version,
        state: new.state,
        payload: content.id,
        salted_sha256: content.digest,
        difference: difference.id,
        meaning: new.meaning,
    })
}

/// Queues a new version for every destination that has an earlier one; one that is signed, also where
/// a proposal waited for the signature.
async fn queue_version(tx: &mut PgConnection, run: Uuid, state: ReviewState) -> Result<()> {
    sqlx::query(
        "update delivery set state = 'queued', blocked_by = null, run_after = now(),
            ended_at = null, reason = 'sent anew: ' || $2
         where run = $1 and (sent is not null
                and state in ('delivered', 'awaiting_commitment', 'blocked', 'failed')
            or $3 and state = 'blocked' and blocked_by = $4)",
    )
    .bind(run)
    .bind(state.name())
    .bind(state.is_signed())
    .bind(BlockReason::SignedResult.name())
    .execute(tx)
    .await?;
    Ok(())
}

/// The event that reports a change. Every change but a claim or release creates a version.
fn event_of(
    view: &ReviewView,
    reviewer: &Reviewer,
    change: ReviewChange,
    version: Option<VersionFacts>,
) -> Result<Event> {
    let subject = record::subject(&view.run);
    let facts = ReviewerFacts { role: reviewer.person.role.clone(), token: reviewer.token };
    let version = version.ok_or_else(|| inconsistent("a decision about a result has no version"));
    let event = match change {
        ReviewChange::Claimed => Event::new(subject, ReviewClaimed(facts)),
        ReviewChange::Released => Event::new(subject, ReviewReleased(facts)),
        ReviewChange::Edited => Event::new(subject, ResultEdited(version?)),
        ReviewChange::Signed => Event::new(subject, ResultSigned(version?)),
        ReviewChange::Rejected => Event::new(subject, ResultRejected(version?)),
        ReviewChange::Amended => Event::new(subject, ResultAmended(version?)),
        ReviewChange::Withdrawn => Event::new(subject, ResultWithdrawn(version?)),
    };
    Ok(event.by(actor(reviewer)))
}
