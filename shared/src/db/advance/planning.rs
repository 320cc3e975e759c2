//! A run gets its plan, or ends for want of one.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Run, Tx, activate, finish, lock, lock_group};
use crate::{
    db::cancel,
    domain::RunStatus,
    ids::{JobId, RunId, StepId},
    queue::NewJob,
};

/// Why a run of a group ended that wants only its newest one.
const SUPERSEDED: &str = "superseded by a newer run of its group";

/// A step to be made.
#[derive(Clone, Debug)]
pub struct NewStep {
    /// Its name, unique in the run.
    pub name: String,
    /// Its image, variables resolved.
    pub image: String,
    /// The planned step.
    pub plan: Value,
    /// Positions of the steps it depends on.
    pub depends_on: Vec<usize>,
    /// Its failure is not the run's.
    pub allow_failure: bool,
    /// How often the user wants it tried again.
    pub retries: i32,
    /// Why a filter leaves it out.
    pub left_out: Option<String>,
}

/// A run as planned.
#[derive(Clone, Debug)]
pub struct Planned {
    /// The pinned commit.
    pub commit_sha: String,
    /// Its message.
    pub commit_message: String,
    /// Its author.
    pub commit_author: String,
    /// Object: the packed commit.
    pub checkout_key: String,
    /// The file's artifact declarations.
    pub artifacts: Value,
    /// The resolved concurrency group, and whether a newer run cancels an older one.
    pub concurrency: Option<(String, bool)>,
    /// The steps, in order.
    pub steps: Vec<NewStep>,
}

/// What became of the attempt to plan.
#[derive(Debug)]
pub struct Advanced {
    /// Jobs to enqueue in this transaction.
    pub jobs: Vec<NewJob>,
    /// Jobs of other workers whose end was asked for; to be told after the commit.
    pub cancelled: Vec<JobId>,
}

impl Advanced {
    fn with(jobs: Vec<NewJob>) -> Self {
        Self { jobs, cancelled: Vec::new() }
    }
}

/// Writes the plan of a pending run and starts it, unless another run of its concurrency group is active.
pub async fn plan_run(tx: &mut Tx<'_>, id: RunId, planned: &Planned) -> Result<Advanced, sqlx::Error> {
    let Some(mut run) = lock(tx, id).await?.filter(|run| run.status == RunStatus::Pending) else {
        return Ok(Advanced::with(Vec::new()));
    };
    if run.cancelling {
        let reason = "cancelled before its first step";
        return finish(tx, &run, RunStatus::Cancelled, Some(reason)).await.map(Advanced::with);
    }
    run.group = planned.concurrency.as_ref().map(|(group, _)| group.clone());
    if let Some((group, newest_only)) = &planned.concurrency {
        // Runs that are planned at the same moment see each other from here on.
        lock_group(tx, run.pipeline_id, group).await?;
        if *newest_only && is_superseded(tx, &run, group).await? {
            let jobs = finish(tx, &run, RunStatus::Cancelled, Some(SUPERSEDED)).await?;
            return Ok(Advanced::with(jobs));
        }
    }
    let open = insert_steps(tx, &run, &planned.steps).await?;
    sqlx::query!(
        r#"
        update pipeline_runs
        set commit_sha = $2, commit_message = $3, commit_author = $4, checkout_key = $5, artifacts = $6,
            concurrency_group = $7, open_steps = $8
        where id = $1
        "#,
        id.uuid(),
        planned.commit_sha,
        planned.commit_message,
        planned.commit_author,
        planned.checkout_key,
        planned.artifacts,
        run.group,
        open,
    )
    .execute(&mut **tx)
    .await?;
    if open == 0 {
        let reason = "no step's `when` matches what started this run";
        return finish(tx, &run, RunStatus::Skipped, Some(reason)).await.map(Advanced::with);
    }
    let mut cancelled = Vec::new();
    if let Some((group, true)) = &planned.concurrency {
        for older in older_in_group(tx, &run, group).await? {
            cancelled.extend(cancel::request(tx, older, SUPERSEDED).await?);
        }
    }
    let jobs = activate(tx, &run).await?;
    Ok(Advanced { jobs, cancelled })
}

/// A newer run of the group was planned first.
async fn is_superseded(tx: &mut Tx<'_>, run: &Run, group: &str) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select exists (
               select from pipeline_runs
               where pipeline_id = $1 and concurrency_group = $2 and status in ('pending', 'running') and id > $3
           ) as "superseded!""#,
        run.pipeline_id.uuid(),
        group,
        run.id.uuid()
    )
    .fetch_one(&mut **tx)
    .await
}

async fn older_in_group(tx: &mut Tx<'_>, run: &Run, group: &str) -> Result<Vec<RunId>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select id as "id: RunId" from pipeline_runs
           where pipeline_id = $1 and concurrency_group = $2 and status in ('pending', 'running') and id < $3
           order by id"#,
        run.pipeline_id.uuid(),
        group,
        run.id.uuid()
    )
    .fetch_all(&mut **tx)
    .await
}

/// The steps that `step` waits for. One that a filter left out holds nobody up, but what it would have waited for does.
fn waits_for(steps: &[NewStep], step: usize) -> BTreeSet<usize> {
    let (mut found, mut seen) = (BTreeSet::new(), BTreeSet::new());
    let mut open = steps[step].depends_on.clone();
    while let Some(on) = open.pop() {
        if steps[on].left_out.is_none() {
            found.insert(on);
        } else if seen.insert(on) {
            open.extend(&steps[on].depends_on);
        }
    }
    found
}

async fn insert_steps(tx: &mut Tx<'_>, run: &Run, steps: &[NewStep]) -> Result<i32, sqlx::Error> {
    let ids: Vec<StepId> = steps.iter().map(|_| StepId::new()).collect();
    let waits_for: Vec<BTreeSet<usize>> = (0..steps.len()).map(|step| waits_for(steps, step)).collect();
    let mut open = 0;
    for (order, (step, id)) in steps.iter().zip(&ids).enumerate() {
        let unmet = waits_for[order].len();
        let depends_on: Vec<String> = step.depends_on.iter().map(|&on| steps[on].name.clone()).collect();
        sqlx::query!(
            r#"
            insert into pipeline_steps (id, organization_id, project_id, run_id, name, step_order, image, plan, depends_on,
                                        unmet, allow_failure, left_out, retries, retries_left, status, reason, finished_at)
            values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $13,
                    case when $12 then 'skipped'::step_status else 'pending' end, $14, case when $12 then now() end)
            "#,
            id.uuid(),
            run.organization_id.uuid(),
            run.project_id.uuid(),
            run.id.uuid(),
            step.name,
            i32::try_from(order).unwrap_or(i32::MAX),
            step.image,
            step.plan,
            &depends_on,
            i32::try_from(unmet).unwrap_or(i32::MAX),
            step.allow_failure,
            step.left_out.is_some(),
            step.retries,
            step.left_out,
        )
        .execute(&mut **tx)
        .await?;
        open += i32::from(step.left_out.is_none());
    }
    let (from, to): (Vec<_>, Vec<_>) =
        waits_for.iter().zip(&ids).flat_map(|(on, id)| on.iter().map(|&on| (id.uuid(), ids[on].uuid()))).unzip();
    sqlx::query!(
        "insert into step_dependencies (step_id, depends_on_id) select * from unnest($1::uuid[], $2::uuid[])",
        &from,
        &to
    )
    .execute(&mut **tx)
    .await?;
    Ok(open)
}

/// Ends a pending run that has no steps: nothing matched, or its file does not parse.
pub async fn end_unplanned(
    tx: &mut Tx<'_>,
    id: RunId,
    status: RunStatus,
    reason: &str,
    diagnostics: Option<&Value>,
) -> Result<Vec<NewJob>, sqlx::Error> {
    let Some(run) = lock(tx, id).await?.filter(|run| run.status == RunStatus::Pending) else {
        return Ok(Vec::new());
    };
    sqlx::query!("update pipeline_runs set diagnostics = $2 where id = $1", id.uuid(), diagnostics)
        .execute(&mut **tx)
        .await?;
    finish(tx, &run, if run.cancelling { RunStatus::Cancelled } else { status }, Some(reason)).await
}

/// Notes what a plan found out about its commit, for runs that end without steps too.
pub async fn note_commit(
    tx: &mut Tx<'_>,
    id: RunId,
    sha: &str,
    message: &str,
    author: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "update pipeline_runs set commit_sha = $2, commit_message = $3, commit_author = $4 where id = $1",
        id.uuid(),
        sha,
        message,
        author
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(depends_on: &[usize], left_out: bool) -> NewStep {
        NewStep {
            name: "a".into(),
            image: String::new(),
            plan: Value::Null,
            depends_on: depends_on.to_vec(),
            allow_failure: false,
            retries: 0,
            left_out: left_out.then(|| "its `when`".into()),
        }
    }

    #[test]
    fn a_step_waits_for_what_a_left_out_one_would_have_waited_for() {
        let steps = [step(&[], false), step(&[0], true), step(&[1], true), step(&[2], false), step(&[0, 1], false)];
        assert_eq!(waits_for(&steps, 3), BTreeSet::from([0]));
        assert_eq!(waits_for(&steps, 4), BTreeSet::from([0]));
        assert_eq!(waits_for(&steps, 0), BTreeSet::new());
    }
}
