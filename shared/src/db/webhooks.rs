//! Webhooks: whom to tell of the ends of runs, and what became of it.

use serde_json::Value;
use sqlx::{PgConnection, PgExecutor, PgPool};
use uuid::Uuid;

use super::SealedError;
use crate::{
    domain::RunStatus,
    ids::{DeliveryId, OrganizationId, ProjectId, RunId, WebhookId},
    jobs::DeliverWebhook,
    queue::{NewJob, enqueue_now},
    vault::{self, Sealed, Vault},
    webhook,
};

/// A webhook, without what it signs with.
#[derive(Clone, Debug)]
pub struct Webhook {
    /// Its id.
    pub id: WebhookId,
    /// The one project it is about; none for all.
    pub project_id: Option<ProjectId>,
    /// Where it goes.
    pub url: String,
    /// What it is told of.
    pub events: Vec<String>,
    /// Whether it is told at all.
    pub active: bool,
    /// When it was made.
    pub created_at: jiff_sqlx::Timestamp,
    /// What became of the last message for it; none before the first.
    pub last: Option<DeliveryState>,
}

/// A webhook to make.
#[derive(Clone, Debug)]
pub struct NewWebhook<'a> {
    /// Whose it is.
    pub organization: OrganizationId,
    /// The one project it is about.
    pub project: Option<ProjectId>,
    /// Where it goes.
    pub url: &'a str,
    /// What it is told of.
    pub events: &'a [String],
}

/// What to change of a webhook; `None` leaves it.
#[derive(Clone, Debug, Default)]
pub struct Changes<'a> {
    /// Another address.
    pub url: Option<&'a str>,
    /// Other events.
    pub events: Option<&'a [String]>,
    /// On or off.
    pub active: Option<bool>,
}

/// Where a delivery stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::Type)]
#[sqlx(type_name = "delivery_state", rename_all = "snake_case")]
pub enum DeliveryState {
    /// A job works on it.
    Pending,
    /// The other side took it.
    Delivered,
    /// Given up.
    Failed,
}

impl DeliveryState {
    /// The name used in the database and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
        }
    }
}

/// A delivery's row.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Its id, also the message's.
    pub id: DeliveryId,
    /// The run it tells of.
    pub run_id: RunId,
    /// What it tells.
    pub event: String,
    /// What is sent; none before it was sent first.
    pub body: Option<String>,
    /// Where it stands.
    pub state: DeliveryState,
    /// When the run ended.
    pub created_at: jiff_sqlx::Timestamp,
}

/// One time that it was sent.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// From 1.
    pub number: i32,
    /// When.
    pub at: jiff_sqlx::Timestamp,
    /// How long the answer took.
    pub duration_ms: i32,
    /// The answer's status, or
    pub status: Option<i32>,
    /// the first bytes of it,
    pub answer: Option<String>,
    /// why there was none.
    pub error: Option<String>,
}

/// What is to be sent where.
#[derive(Clone, Debug)]
pub struct ToSend {
    /// Where it goes.
    pub url: String,
    /// Whether somebody wants it still.
    pub active: bool,
    /// What it tells.
    pub event: String,
    /// How the run stood as it ended.
    pub data: Value,
    /// The body, if it was sent before.
    pub body: Option<String>,
    /// When the run ended.
    pub created_at: jiff_sqlx::Timestamp,
    webhook: WebhookId,
    key_id: String,
    sealed: Vec<u8>,
}

impl ToSend {
    /// What it is signed with.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn secret(&self, vault: &Vault) -> Result<String, vault::Error> {
        let sealed = Sealed { key_id: self.key_id.clone(), bytes: self.sealed.clone() };
        vault.open_text(&place(self.webhook), &sealed)
    }
}

fn place(id: WebhookId) -> Vec<u8> {
    [&b"webhook"[..], id.uuid().as_bytes()].concat()
}

/// Makes a webhook; returns its signing secret with it.
pub async fn create(
    db: impl PgExecutor<'_>,
    vault: &Vault,
    new: NewWebhook<'_>,
) -> Result<(String, Webhook), SealedError> {
    let (id, secret) = (WebhookId::new(), webhook::new_secret()?);
    let sealed = vault.seal(&place(id), secret.as_bytes())?;
    let made = sqlx::query_as!(
        Webhook,
        r#"
        insert into webhooks (id, organization_id, project_id, url, events, key_id, sealed)
        values ($1, $2, $3, $4, $5, $6, $7)
        returning id as "id: WebhookId", project_id as "project_id: ProjectId", url, events, active,
                  created_at as "created_at: jiff_sqlx::Timestamp", null::delivery_state as "last: DeliveryState"
        "#,
        id.uuid(),
        new.organization.uuid(),
        new.project.map(ProjectId::uuid),
        new.url,
        new.events,
        sealed.key_id,
        sealed.bytes
    )
    .fetch_one(db)
    .await?;
    Ok((secret, made))
}

/// An organization's webhooks, newest first, from `before` on.
pub async fn list(
    db: impl PgExecutor<'_>,
    organization: OrganizationId,
    before: Option<WebhookId>,
    limit: i64,
) -> Result<Vec<Webhook>, sqlx::Error> {
    sqlx::query_as!(
        Webhook,
        r#"
        select id as "id: WebhookId", project_id as "project_id: ProjectId", url, events, active,
               created_at as "created_at: jiff_sqlx::Timestamp",
               (select d.state from webhook_deliveries d where d.webhook_id = webhooks.id order by d.id desc limit 1) as "last: DeliveryState"
        from webhooks where organization_id = $1 and ($2::uuid is null or id < $2) order by id desc limit $3
        "#,
        organization.uuid(),
        before.map(WebhookId::uuid),
        limit
    )
    .fetch_all(db)
    .await
}

/// One webhook.
pub async fn find(
    db: impl PgExecutor<'_>,
    organization: OrganizationId,
    id: WebhookId,
) -> Result<Option<Webhook>, sqlx::Error> {
    sqlx::query_as!(
        Webhook,
        r#"
        select id as "id: WebhookId", project_id as "project_id: ProjectId", url, events, active,
               created_at as "created_at: jiff_sqlx::Timestamp",
               (select d.state from webhook_deliveries d where d.webhook_id = webhooks.id order by d.id desc limit 1) as "last: DeliveryState"
        from webhooks where organization_id = $1 and id = $2
        "#,
        organization.uuid(),
        id.uuid()
    )
    .fetch_optional(db)
    .await
}

/// Changes a webhook.
pub async fn update(
    db: impl PgExecutor<'_>,
    organization: OrganizationId,
    id: WebhookId,
    changes: Changes<'_>,
) -> Result<Option<Webhook>, sqlx::Error> {
    sqlx::query_as!(
        Webhook,
        r#"
        update webhooks
        set url = coalesce($3, url), events = coalesce($4, events), active = coalesce($5, active)
        where organization_id = $1 and id = $2
        returning id as "id: WebhookId", project_id as "project_id: ProjectId", url, events, active,
                  created_at as "created_at: jiff_sqlx::Timestamp",
                  (select d.state from webhook_deliveries d where d.webhook_id = webhooks.id order by d.id desc limit 1) as "last: DeliveryState"
        "#,
        organization.uuid(),
        id.uuid(),
        changes.url,
        changes.events,
        changes.active
    )
    .fetch_optional(db)
    .await
}

/// Deletes a webhook with its deliveries; `false` if there is none.
pub async fn delete(db: impl PgExecutor<'_>, organization: OrganizationId, id: WebhookId) -> Result<bool, sqlx::Error> {
    let deleted =
        sqlx::query!("delete from webhooks where organization_id = $1 and id = $2", organization.uuid(), id.uuid())
            .execute(db)
            .await?;
    Ok(deleted.rows_affected() > 0)
}

/// Notes the end of a run for everybody who wants to be told; returns the jobs that tell them.
pub(super) async fn announce(
    db: &mut PgConnection,
    organization: OrganizationId,
    project: ProjectId,
    run: RunId,
    status: RunStatus,
) -> Result<Vec<NewJob>, sqlx::Error> {
    let Some(event) = webhook::event(status) else { return Ok(Vec::new()) };
    let hooks: Vec<Uuid> = sqlx::query_scalar!(
        r#"
        select id from webhooks
        where organization_id = $1 and active and (project_id is null or project_id = $2) and $3 = any(events)
        order by id
        "#,
        organization.uuid(),
        project.uuid(),
        event
    )
    .fetch_all(&mut *db)
    .await?;
    if hooks.is_empty() {
        return Ok(Vec::new());
    }
    let deliveries: Vec<DeliveryId> = hooks.iter().map(|_| DeliveryId::new()).collect();
    let ids: Vec<Uuid> = deliveries.iter().map(|id| id.uuid()).collect();
    sqlx::query!(
        r#"
        insert into webhook_deliveries (id, organization_id, webhook_id, run_id, event, data)
        select d.id, r.organization_id, d.webhook_id, r.id, $3,
               jsonb_build_object(
                   'run', jsonb_build_object(
                       'id', r.id, 'number', r.number, 'status', r.status, 'reason', r.reason, 'trigger', r.trigger,
                       'ref', r.git_ref, 'branch', r.branch, 'commit', r.commit_sha, 'message', r.commit_message,
                       'author', r.commit_author, 'created_by', r.created_by, 'created_at', r.created_at,
                       'started_at', r.started_at, 'finished_at', r.finished_at),
                   'project', jsonb_build_object('id', p.id, 'name', p.name),
                   'pipeline', jsonb_build_object('id', l.id, 'name', l.name))
        from unnest($1::uuid[], $2::uuid[]) as d (id, webhook_id),
             pipeline_runs r join projects p on p.id = r.project_id join pipelines l on l.id = r.pipeline_id
        where r.id = $4
        "#,
        &ids,
        &hooks,
        event,
        run.uuid()
    )
    .execute(db)
    .await?;
    Ok(deliveries.into_iter().map(job).collect())
}

/// The job that delivers it.
fn job(delivery: DeliveryId) -> NewJob {
    NewJob::new(&DeliverWebhook { delivery_id: delivery }).unique(format!("DeliverWebhook/{delivery}"))
}

/// What a delivery sends; none if its webhook was deleted.
pub async fn to_send(db: impl PgExecutor<'_>, id: DeliveryId) -> Result<Option<ToSend>, sqlx::Error> {
    sqlx::query_as!(
        ToSend,
        r#"
        select w.url, w.active, d.event, d.data, d.body, d.created_at as "created_at: jiff_sqlx::Timestamp",
               w.id as "webhook: WebhookId", w.key_id, w.sealed
        from webhook_deliveries d join webhooks w on w.id = d.webhook_id where d.id = $1
        "#,
        id.uuid()
    )
    .fetch_optional(db)
    .await
}

/// Keeps the body that is sent from now on; the one that is there stays. Returns it.
pub async fn keep_body(db: impl PgExecutor<'_>, id: DeliveryId, body: &str) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"update webhook_deliveries set body = coalesce(body, $2) where id = $1 returning body as "body!""#,
        id.uuid(),
        body
    )
    .fetch_optional(db)
    .await
}

/// What came of sending it once.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// How long it took.
    pub duration_ms: i32,
    /// The answer's status and first bytes, or why there was none.
    pub answer: Result<(u16, String), String>,
}

/// Notes it, and where the delivery stands now.
pub async fn note_attempt(
    db: impl PgExecutor<'_>,
    id: DeliveryId,
    outcome: &Outcome,
    state: DeliveryState,
) -> Result<(), sqlx::Error> {
    let (status, answer, error) = match &outcome.answer {
        Ok((status, answer)) => (Some(i32::from(*status)), Some(answer.as_str()), None),
        Err(error) => (None, None, Some(error.as_str())),
    };
    sqlx::query!(
        r#"
        with delivery as (
            update webhook_deliveries set state = $2 where id = $1 returning id
        )
        insert into webhook_attempts (delivery_id, number, duration_ms, status, answer, error)
        select id, 1 + coalesce((select max(number) from webhook_attempts where delivery_id = $1), 0), $3, $4, $5, $6
        from delivery
        "#,
        id.uuid(),
        state as DeliveryState,
        outcome.duration_ms,
        status,
        answer,
        error
    )
    .execute(db)
    .await?;
    Ok(())
}

/// A webhook's deliveries, newest first, from `before` on.
pub async fn deliveries(
    db: impl PgExecutor<'_>,
    webhook: WebhookId,
    before: Option<DeliveryId>,
    limit: i64,
) -> Result<Vec<Delivery>, sqlx::Error> {
    sqlx::query_as!(
        Delivery,
        r#"
        select id as "id: DeliveryId", run_id as "run_id: RunId", event, body, state as "state: DeliveryState",
               created_at as "created_at: jiff_sqlx::Timestamp"
        from webhook_deliveries where webhook_id = $1 and ($2::uuid is null or id < $2) order by id desc limit $3
        "#,
        webhook.uuid(),
        before.map(DeliveryId::uuid),
        limit
    )
    .fetch_all(db)
    .await
}

/// One delivery.
pub async fn delivery(
    db: impl PgExecutor<'_>,
    webhook: WebhookId,
    id: DeliveryId,
) -> Result<Option<Delivery>, sqlx::Error> {
    sqlx::query_as!(
        Delivery,
        r#"
        select id as "id: DeliveryId", run_id as "run_id: RunId", event, body, state as "state: DeliveryState",
               created_at as "created_at: jiff_sqlx::Timestamp"
        from webhook_deliveries where webhook_id = $1 and id = $2
        "#,
        webhook.uuid(),
        id.uuid()
    )
    .fetch_optional(db)
    .await
}

/// Each time that it was sent, in order.
pub async fn attempts(db: impl PgExecutor<'_>, id: DeliveryId) -> Result<Vec<Attempt>, sqlx::Error> {
    sqlx::query_as!(
        Attempt,
        r#"
        select number, at as "at: jiff_sqlx::Timestamp", duration_ms, status, answer, error
        from webhook_attempts where delivery_id = $1 order by number
        "#,
        id.uuid()
    )
    .fetch_all(db)
    .await
}

/// Has it sent once more, now, also where its next try was planned for later.
pub async fn again(db: &mut PgConnection, id: DeliveryId) -> Result<(), sqlx::Error> {
    sqlx::query!("update webhook_deliveries set state = 'pending' where id = $1", id.uuid()).execute(&mut *db).await?;
    enqueue_now(db, &job(id)).await
}

/// Deletes deliveries that are older than that.
pub async fn prune(pool: &PgPool, days: i32) -> Result<(), sqlx::Error> {
    sqlx::query!("delete from webhook_deliveries where created_at < now() - make_interval(days => $1)", days)
        .execute(pool)
        .await?;
    Ok(())
}

/// Seals anew, under the vault's first key, up to `most` signing secrets that are sealed under others; tells how many.
pub async fn rotate(pool: &PgPool, vault: &Vault, most: i64) -> Result<usize, SealedError> {
    let mut tx = pool.begin().await?;
    let rows = sqlx::query!(
        r#"select id as "id: WebhookId", key_id, sealed from webhooks where key_id <> $1 order by id limit $2 for update"#,
        vault.key_id(),
        most
    )
    .fetch_all(&mut *tx)
    .await?;
    let count = rows.len();
    for row in rows {
        let sealed = vault.seal_anew(&place(row.id), &Sealed { key_id: row.key_id, bytes: row.sealed })?;
        sqlx::query!(
            "update webhooks set key_id = $2, sealed = $3 where id = $1",
            row.id.uuid(),
            sealed.key_id,
            sealed.bytes
        )
        .execute(&mut *tx)
        .await?;
    }
    tx.commit().await?;
    Ok(count)
}
