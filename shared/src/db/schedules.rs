//! Schedules: what the clock starts. They are those of the newest commit of a project's default branch that was planned, and
//! those that somebody added by hand.

use jiff::Timestamp;
use sqlx::{PgConnection, PgExecutor, Postgres, Transaction};
use uuid::Uuid;

use super::{
    Scope,
    create_run::{self, Created, NewRun},
};
use crate::{
    domain::RunTrigger,
    ids::{OrganizationId, PipelineId, ProjectId, ScheduleId},
    pipeline::Schedule,
    queue::Wake,
};

/// A schedule's row.
#[derive(Clone, Debug)]
pub struct Scheduled {
    /// Its id.
    pub id: ScheduleId,
    /// Its pipeline.
    pub pipeline_id: PipelineId,
    /// The pipeline's name.
    pub pipeline: String,
    /// Five fields.
    pub cron: String,
    /// The time zone that they are about.
    pub timezone: String,
    /// When it is due.
    pub next_at: jiff_sqlx::Timestamp,
    /// When it was due last.
    pub last_at: Option<jiff_sqlx::Timestamp>,
    /// Who added it by hand; none where a file has it.
    pub added_by: Option<String>,
    /// Since when it starts nothing,
    pub paused_at: Option<jiff_sqlx::Timestamp>,
    /// and by whom.
    pub paused_by: Option<String>,
}

/// What the deliveries of those begin with that somebody added by hand: no file has to admit their runs.
pub(super) const ADDED: &str = "added";

/// Takes over the schedules of a commit of the default branch, unless those of a later run are there.
pub async fn take_over(
    db: &mut PgConnection,
    pipeline: PipelineId,
    run_number: i32,
    branch: &str,
    schedules: &[Schedule],
) -> Result<(), sqlx::Error> {
    let newest = sqlx::query!(
        r#"
        update pipelines l set schedules_of = $2 from projects p
        where l.id = $1 and p.id = l.project_id and p.default_branch = $3 and l.schedules_of < $2
        "#,
        pipeline.uuid(),
        run_number,
        branch
    )
    .execute(&mut *db)
    .await?;
    match newest.rows_affected() {
        0 => Ok(()),
        _ => replace(db, pipeline, schedules).await,
    }
}

/// Sets a pipeline's schedules. One that was there stays as it is.
pub async fn replace(db: &mut PgConnection, pipeline: PipelineId, schedules: &[Schedule]) -> Result<(), sqlx::Error> {
    let now = Timestamp::now();
    let mut columns: (Vec<Uuid>, Vec<String>, Vec<String>, Vec<jiff_sqlx::Timestamp>) = Default::default();
    for schedule in schedules {
        let Some(next) = schedule.next_after(now) else { continue };
        columns.0.push(ScheduleId::new().uuid());
        columns.1.push(schedule.cron.clone());
        columns.2.push(schedule.timezone.clone());
        columns.3.push(next.into());
    }
    let (ids, crons, timezones, next) = columns;
    sqlx::query!(
        r#"
        delete from schedules
        where pipeline_id = $1 and added_by is null
          and (cron, timezone) not in (select * from unnest($2::text[], $3::text[]))
        "#,
        pipeline.uuid(),
        &crons,
        &timezones
    )
    .execute(&mut *db)
    .await?;
    sqlx::query!(
        r#"
        insert into schedules (id, organization_id, project_id, pipeline_id, cron, timezone, next_at)
        select s.id, l.organization_id, l.project_id, l.id, s.cron, s.timezone, s.next_at
        from pipelines l,
             unnest($2::uuid[], $3::text[], $4::text[], $5::timestamptz[]) as s (id, cron, timezone, next_at)
        where l.id = $1
        on conflict on constraint schedules_are_unique do nothing
        "#,
        pipeline.uuid(),
        &ids,
        &crons,
        &timezones,
        &next as &[jiff_sqlx::Timestamp]
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Starts the run of a schedule that is due and sets when it is due again, after now: what was missed comes once. None when
/// nothing is due that nobody else is at. The caller commits and then tells `wake`, made for the queue `pipelines`.
pub async fn fire(tx: &mut Transaction<'_, Postgres>, wake: &Wake) -> Result<Option<Created>, sqlx::Error> {
    let due = sqlx::query!(
        r#"
        select s.id as "id: ScheduleId", s.organization_id as "organization_id: OrganizationId",
               s.project_id as "project_id: ProjectId", s.pipeline_id as "pipeline_id: PipelineId", s.cron, s.timezone,
               s.next_at as "next_at: jiff_sqlx::Timestamp", p.default_branch, s.added_by,
               now() as "now!: jiff_sqlx::Timestamp"
        from schedules s join projects p on p.id = s.project_id
        where s.next_at <= now() and s.paused_at is null order by s.next_at limit 1 for update of s skip locked
        "#
    )
    .fetch_optional(&mut **tx)
    .await?;
    let Some(due) = due else { return Ok(None) };
    let schedule = Schedule { cron: due.cron, timezone: due.timezone };
    match schedule.next_after(due.now.to_jiff()) {
        Some(next) => {
            sqlx::query!(
                "update schedules set last_at = next_at, next_at = $2 where id = $1",
                due.id.uuid(),
                jiff_sqlx::Timestamp::from(next) as jiff_sqlx::Timestamp
            )
            .execute(&mut **tx)
            .await?
        }
        None => sqlx::query!("delete from schedules where id = $1", due.id.uuid()).execute(&mut **tx).await?,
    };
    let run = NewRun {
        organization_id: due.organization_id,
        project_id: due.project_id,
        pipeline_id: due.pipeline_id,
        trigger: RunTrigger::Schedule,
        git_ref: format!("refs/heads/{}", due.default_branch),
        branch: Some(due.default_branch),
        commit_sha: None,
        delivery: Some(format!(
            "{}/{}/{}",
            if due.added_by.is_some() { ADDED } else { "schedule" },
            due.id,
            due.next_at.to_jiff()
        )),
        created_by: format!("schedule {}", schedule.cron),
        merge_request: None,
        variables: Default::default(),
    };
    create_run::create(tx, &run, wake).await.map(Some)
}

/// Milliseconds until the next one is due; none without any.
pub async fn wait_ms(db: impl PgExecutor<'_>) -> Result<Option<i64>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select (extract(epoch from min(next_at) - clock_timestamp()) * 1000)::bigint from schedules
           where paused_at is null"#
    )
    .fetch_one(db)
    .await
}

/// A project's schedules, from `after` on.
pub async fn list(
    db: impl PgExecutor<'_>,
    scope: Scope,
    project: ProjectId,
    after: Option<ScheduleId>,
    limit: i64,
) -> Result<Vec<Scheduled>, sqlx::Error> {
    sqlx::query_as!(
        Scheduled,
        r#"
        select s.id as "id: ScheduleId", s.pipeline_id as "pipeline_id: PipelineId", l.name as pipeline, s.cron,
               s.timezone, s.next_at as "next_at: jiff_sqlx::Timestamp", s.last_at as "last_at: jiff_sqlx::Timestamp",
               s.added_by, s.paused_at as "paused_at: jiff_sqlx::Timestamp", s.paused_by
        from schedules s join pipelines l on l.id = s.pipeline_id
        where s.organization_id = $1 and s.project_id = $2 and ($3::uuid is null or s.id > $3)
        order by s.id limit $4
        "#,
        scope.organization.uuid(),
        project.uuid(),
        after.map(ScheduleId::uuid),
        limit
    )
    .fetch_all(db)
    .await
}

/// One of a project's schedules.
pub async fn find(
    db: impl PgExecutor<'_>,
    project: ProjectId,
    id: ScheduleId,
) -> Result<Option<Scheduled>, sqlx::Error> {
    sqlx::query_as!(
        Scheduled,
        r#"
        select s.id as "id: ScheduleId", s.pipeline_id as "pipeline_id: PipelineId", l.name as pipeline, s.cron,
               s.timezone, s.next_at as "next_at: jiff_sqlx::Timestamp", s.last_at as "last_at: jiff_sqlx::Timestamp",
               s.added_by, s.paused_at as "paused_at: jiff_sqlx::Timestamp", s.paused_by
        from schedules s join pipelines l on l.id = s.pipeline_id
        where s.project_id = $1 and s.id = $2
        "#,
        project.uuid(),
        id.uuid()
    )
    .fetch_optional(db)
    .await
}

/// Adds one by hand; none where the pipeline has the same already.
pub async fn add(
    db: impl PgExecutor<'_>,
    pipeline: PipelineId,
    schedule: &Schedule,
    next: Timestamp,
    by: &str,
) -> Result<Option<ScheduleId>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"
        insert into schedules (id, organization_id, project_id, pipeline_id, cron, timezone, next_at, added_by)
        select $2, organization_id, project_id, id, $3, $4, $5, $6 from pipelines where id = $1
        on conflict on constraint schedules_are_unique do nothing
        returning id as "id: ScheduleId"
        "#,
        pipeline.uuid(),
        ScheduleId::new().uuid(),
        schedule.cron,
        schedule.timezone,
        jiff_sqlx::Timestamp::from(next) as jiff_sqlx::Timestamp,
        by
    )
    .fetch_optional(db)
    .await
}

/// Has it start nothing until it is resumed.
pub async fn pause(db: impl PgExecutor<'_>, id: ScheduleId, by: &str) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "update schedules set paused_at = now(), paused_by = $2 where id = $1 and paused_at is null",
        id.uuid(),
        by
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Has it start runs again, first at `next`: what was due meanwhile does not come.
pub async fn resume(db: impl PgExecutor<'_>, id: ScheduleId, next: Timestamp) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "update schedules set paused_at = null, paused_by = null, next_at = $2 where id = $1 and paused_at is not null",
        id.uuid(),
        jiff_sqlx::Timestamp::from(next) as jiff_sqlx::Timestamp
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Deletes one that somebody added; `false` if there is none such.
pub async fn delete(db: impl PgExecutor<'_>, id: ScheduleId) -> Result<bool, sqlx::Error> {
    let deleted = sqlx::query!("delete from schedules where id = $1 and added_by is not null", id.uuid()).execute(db);
    Ok(deleted.await?.rows_affected() > 0)
}

/// A schedule with whose it is.
#[derive(Clone, Debug)]
pub struct OfFleet {
    /// The organization's name.
    pub organization: String,
    /// The project's name.
    pub project: String,
    /// The pipeline's name.
    pub pipeline: String,
    /// Five fields.
    pub cron: String,
    /// The time zone that they are about.
    pub timezone: String,
    /// When it is due.
    pub next_at: jiff_sqlx::Timestamp,
    /// Since when it starts nothing.
    pub paused_at: Option<jiff_sqlx::Timestamp>,
}

/// Schedules of an organization, or of all, those due next first.
pub async fn upcoming(db: impl PgExecutor<'_>, scope: Option<Scope>, limit: i64) -> Result<Vec<OfFleet>, sqlx::Error> {
    sqlx::query_as!(
        OfFleet,
        r#"
        select o.name as organization, p.name as project, l.name as pipeline, s.cron, s.timezone,
               s.next_at as "next_at: jiff_sqlx::Timestamp", s.paused_at as "paused_at: jiff_sqlx::Timestamp"
        from schedules s join pipelines l on l.id = s.pipeline_id join projects p on p.id = s.project_id
             join organizations o on o.id = s.organization_id
        where ($1::uuid is null or s.organization_id = $1) and ($2::uuid is null or s.project_id = $2)
        order by s.paused_at is not null, s.next_at limit $3
        "#,
        scope.map(|scope| scope.organization.uuid()),
        scope.and_then(|scope| scope.project_uuid()),
        limit
    )
    .fetch_all(db)
    .await
}
