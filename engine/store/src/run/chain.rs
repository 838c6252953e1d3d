//! Runs that follow one another on late instances, and which of their results stands (DIN-52).

use contracts::StandingResult;
use domain::{BlockReason, ReviewState};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::database::decode;
use crate::error::Result;

/// A version of the result of an earlier run; a run that nobody reviewed has one row without.
#[derive(sqlx::FromRow)]
struct EarlierRow {
    run: Uuid,
    is_replaced: bool,
    state: Option<String>,
    document: Option<i32>,
}

/// An earlier run, with what people made of its result.
#[derive(Debug)]
struct EarlierRun {
    run: Uuid,
    /// Whether the run after it replaces it; otherwise that one adds to it.
    is_replaced: bool,
    states: Vec<ReviewState>,
    /// Number of the document of each version.
    documents: Vec<u32>,
}

impl EarlierRun {
    /// The state and the document of the version in force.
    fn in_force(&self) -> Option<(ReviewState, u32)> {
        let at = ReviewState::in_force(&self.states)?;
        Some((*self.states.get(at)?, *self.documents.get(at)?))
    }
}

/// The signed result of an earlier run that stands until a person signs the result of this one.
pub(crate) async fn standing(tx: &mut PgConnection, run: Uuid) -> Result<Option<StandingResult>> {
    let rows: Vec<EarlierRow> = sqlx::query_as(
        "with recursive chain (run, is_replaced, depth) as (
            select (amends ->> 'run')::uuid, (amends ->> 'is_replaced')::boolean, 1
                from run where id = $1 and amends is not null
            union all
            select (r.amends ->> 'run')::uuid, (r.amends ->> 'is_replaced')::boolean, c.depth + 1
                from chain c join run r on r.id = c.run where r.amends is not null)
         select c.run, c.is_replaced, v.state, v.document
         from chain c left join run_version v on v.run = c.run order by c.depth, v.version",
    )
    .bind(run)
    .fetch_all(tx)
    .await?;
    Ok(standing_of(&by_run(rows)?))
}

/// Joins rows that are ordered by run into one entry for each run.
fn by_run(rows: Vec<EarlierRow>) -> Result<Vec<EarlierRun>> {
    let mut runs: Vec<EarlierRun> = Vec::new();
    for row in rows {
        if runs.last().is_none_or(|it| it.run != row.run) {
            let EarlierRow { run, is_replaced, .. } = row;
            runs.push(EarlierRun { run, is_replaced, states: Vec::new(), documents: Vec::new() });
        }
        let Some(last) = runs.last_mut() else { continue };
        if let Some(state) = row.state {
            last.states.push(decode::named(&state, ReviewState::parse)?);
            let document = row.document.and_then(|it| u32::try_from(it).ok());
            last.documents.push(document.unwrap_or_default());
        }
    }
    Ok(runs)
}

/// The nearest signed result among earlier runs, the nearest first. What a withdrawn result had
/// replaced does not stand again.
fn standing_of(earlier: &[EarlierRun]) -> Option<StandingResult> {
    let mut is_withdrawn = false;
    let mut is_replaced = true;
    for run in earlier {
        if is_withdrawn && run.is_replaced {
            return None;
        }
        is_withdrawn = false;
        is_replaced &= run.is_replaced;
        let Some((state, document)) = run.in_force() else { continue };
        if state.is_signed() {
            return Some(StandingResult { run: run.run, document, is_replaced });
        }
        is_withdrawn = state == ReviewState::Withdrawn;
    }
    None
}

/// Whether a later run that replaces this one was signed. Its result stays replaced when that one
/// is withdrawn.
pub(crate) async fn is_replaced(tx: &mut PgConnection, run: Uuid) -> Result<bool> {
    let is_replaced = sqlx::query_scalar(
        "with recursive later (run) as (
            select id from run
                where amends ->> 'run' = $1::text and (amends ->> 'is_replaced')::boolean
            union
            select r.id from later l join run r on r.amends ->> 'run' = l.run::text
                where (r.amends ->> 'is_replaced')::boolean)
         select exists (select from later l join run_version v on v.run = l.run
            where v.state = any($2))",
    )
    .bind(run)
    .bind(signed_states())
    .fetch_one(tx)
    .await?;
    Ok(is_replaced)
}

/// The names of the states of signed results.
pub(crate) fn signed_states() -> Vec<&'static str> {
    ReviewState::ALL.iter().filter(|it| it.is_signed()).map(|it| it.name()).collect()
}

/// Lets go what waited for the signature of a later run, because the result before it was
/// withdrawn: it is decided about again.
pub(crate) async fn release_later(tx: &mut PgConnection, run: Uuid) -> Result<()> {
    sqlx::query(
        "with recursive later (run) as (
            select id from run where amends ->> 'run' = $1::text
            union
            select r.id from later l join run r on r.amends ->> 'run' = l.run::text)
         update delivery set state = 'queued', blocked_by = null, run_after = now(),
            ended_at = null, reason = 'the signed result before it was withdrawn'
         where state = 'blocked' and blocked_by = $2 and run in (select run from later)",
    )
    .bind(run)
    .bind(BlockReason::SignedResult.name())
    .execute(tx)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(number: u128, is_replaced: bool, states: &[ReviewState]) -> EarlierRun {
        let documents = (0_u32..).take(states.len()).collect();
        EarlierRun { run: Uuid::from_u128(number), is_replaced, states: states.to_vec(), documents }
    }

    #[test]
    fn din_52_the_nearest_signed_result_stands_behind_proposals() {
        use ReviewState::{Amended, Edited, Rejected, Signed};
        assert_eq!(standing_of(&[]), None);
        assert_eq!(standing_of(&[run(1, true, &[]), run(2, true, &[Edited])]), None);
        let chain = [run(1, true, &[Rejected]), run(2, true, &[Signed, Amended])];
        let standing = standing_of(&chain).unwrap();
        assert_eq!((standing.run, standing.document), (Uuid::from_u128(2), 1));
        assert!(standing.is_replaced);
        let chain = [run(1, false, &[]), run(2, true, &[Signed, Edited])];
        assert!(!standing_of(&chain).unwrap().is_replaced);
    }

    #[test]
    fn din_52_what_a_withdrawn_result_had_replaced_does_not_stand_again() {
        use ReviewState::{Signed, Withdrawn};
        let withdrawn = || run(1, true, &[Signed, Withdrawn]);
        assert_eq!(standing_of(&[withdrawn(), run(2, true, &[Signed])]), None);
        assert!(standing_of(&[withdrawn(), run(2, false, &[Signed])]).is_some());
    }
}
