//! Webhooks of the organization, and what became of each delivery.

use axum::{extract::State, http::StatusCode};
use buildit_shared::{
    db::{
        audit::{self, Entry},
        webhooks::{self, Changes, NewWebhook},
    },
    ids::{DeliveryId, WebhookId},
    jobs::{DeliverWebhook, JobArgs},
    webhook::EVENTS,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use url::Url;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::projects;
use crate::{
    App,
    auth::{Allowed, Caller, OrgAdmin},
    error::{ApiError, ErrorBody, Result},
    extract::{Json, Path, Query},
    page::{Page, PageParams},
};

/// Somebody who is told of the ends of runs.
#[derive(Serialize, ToSchema)]
pub(crate) struct Webhook {
    id: Uuid,
    /// The one project whose runs it is about; null for all.
    project_id: Option<Uuid>,
    /// Where it goes.
    url: String,
    /// `build.success`, `build.failure`, `build.cancelled`, `build.error`.
    events: Vec<String>,
    /// Switched off it is told of nothing.
    active: bool,
    /// What became of the last message: `pending`, `delivered` or `failed`; null before the first.
    last_delivery: Option<&'static str>,
    created_at: Timestamp,
}

impl From<webhooks::Webhook> for Webhook {
    fn from(webhook: webhooks::Webhook) -> Self {
        Self {
            id: webhook.id.uuid(),
            project_id: webhook.project_id.map(|id| id.uuid()),
            url: webhook.url,
            events: webhook.events,
            active: webhook.active,
            last_delivery: webhook.last.map(webhooks::DeliveryState::name),
            created_at: webhook.created_at.to_jiff(),
        }
    }
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateWebhook {
    /// `https://…` or `http://…`, without a password.
    pub(crate) url: String,
    /// All of them without it.
    pub(crate) events: Option<Vec<String>>,
    /// A project's id or name, to be told of its runs alone.
    pub(crate) project: Option<String>,
}

/// A webhook that was just made.
#[derive(Serialize, ToSchema)]
pub(crate) struct NewWebhookView {
    /// What deliveries are signed with, `whsec_…`. It is shown this once and never again.
    secret: String,
    #[serde(flatten)]
    webhook: Webhook,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WebhookChanges {
    pub(crate) url: Option<String>,
    pub(crate) events: Option<Vec<String>>,
    pub(crate) active: Option<bool>,
}

/// One message to one receiver.
#[derive(Serialize, ToSchema)]
pub(crate) struct WebhookDelivery {
    /// Also the message's id, `webhook-id`.
    id: Uuid,
    /// The run that ended; it may be gone.
    run_id: Uuid,
    event: String,
    /// `pending`, `delivered` or `failed`.
    state: &'static str,
    created_at: Timestamp,
}

impl From<webhooks::Delivery> for WebhookDelivery {
    fn from(delivery: webhooks::Delivery) -> Self {
        Self {
            id: delivery.id.uuid(),
            run_id: delivery.run_id.uuid(),
            event: delivery.event,
            state: delivery.state.name(),
            created_at: delivery.created_at.to_jiff(),
        }
    }
}

/// One message with all that was said.
#[derive(Serialize, ToSchema)]
pub(crate) struct WebhookDeliveryWithAttempts {
    #[serde(flatten)]
    delivery: WebhookDelivery,
    /// What is sent; null before it was sent first.
    body: Option<String>,
    attempts: Vec<WebhookAttempt>,
}

/// One time that a message was sent.
#[derive(Serialize, ToSchema)]
struct WebhookAttempt {
    number: i32,
    at: Timestamp,
    duration_ms: i32,
    /// The answer's, unless there was none.
    status: Option<i32>,
    /// The first bytes of the answer.
    answer: Option<String>,
    /// Why there was none.
    error: Option<String>,
}

impl From<webhooks::Attempt> for WebhookAttempt {
    fn from(attempt: webhooks::Attempt) -> Self {
        Self {
            number: attempt.number,
            at: attempt.at.to_jiff(),
            duration_ms: attempt.duration_ms,
            status: attempt.status,
            answer: attempt.answer,
            error: attempt.error,
        }
    }
}

/// A webhook by its id.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct WebhookPath {
    /// Its id.
    pub(crate) webhook: Uuid,
}

/// A delivery by its id.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct DeliveryPath {
    /// The webhook's id.
    pub(crate) webhook: Uuid,
    /// The delivery's id.
    pub(crate) delivery: Uuid,
}

/// Make a webhook. It is signed by the Standard Webhooks convention.
#[utoipa::path(post, path = "/api/v1/webhooks", tag = "webhooks",
    operation_id = "create_webhook", security(("api_key" = ["org:admin"])),
    request_body = CreateWebhook, responses((status = 201, body = NewWebhookView), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn create(
    State(app): State<App>,
    caller: Allowed<OrgAdmin>,
    Json(new): Json<CreateWebhook>,
) -> Result<(StatusCode, Json<NewWebhookView>)> {
    let (secret, webhook) = make(&app, &caller, new).await?;
    Ok((StatusCode::CREATED, Json(NewWebhookView { secret, webhook: webhook.into() })))
}

/// Makes a webhook; returns its signing secret with it.
pub(crate) async fn make(app: &App, caller: &Caller, new: CreateWebhook) -> Result<(String, webhooks::Webhook)> {
    caller.require_whole_organization()?;
    check_url(&new.url)?;
    let events = new.events.unwrap_or_else(|| EVENTS.map(str::to_owned).into());
    check_events(&events)?;
    let project = match &new.project {
        Some(project) => Some(projects::find(app, caller, project).await?.id),
        None => None,
    };
    let new = NewWebhook { organization: caller.scope().organization, project, url: &new.url, events: &events };
    let mut tx = app.pool().begin().await?;
    let (secret, webhook) = webhooks::create(&mut *tx, app.vault()?, new).await?;
    audit::write(&mut *tx, caller.actor(), entry("webhook.created", &webhook).after(shown(&webhook))).await?;
    tx.commit().await?;
    Ok((secret, webhook))
}

/// The organization's webhooks, newest first.
#[utoipa::path(get, path = "/api/v1/webhooks", tag = "webhooks",
    operation_id = "list_webhooks", security(("api_key" = ["org:admin"])),
    params(PageParams), responses((status = 200, body = Page<Webhook>), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn list(
    State(app): State<App>,
    caller: Allowed<OrgAdmin>,
    Query(page): Query<PageParams>,
) -> Result<Json<Page<Webhook>>> {
    caller.require_whole_organization()?;
    let found = webhooks::list(app.pool(), caller.scope().organization, page.after()?, page.fetch()?).await?;
    Ok(Json(page.page(found, |webhook| webhook.id)?))
}

/// Change a webhook; what is not named stays.
#[utoipa::path(patch, path = "/api/v1/webhooks/{webhook}", tag = "webhooks",
    operation_id = "update_webhook", security(("api_key" = ["org:admin"])),
    params(WebhookPath), request_body = WebhookChanges,
    responses((status = 200, body = Webhook), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn update(
    State(app): State<App>,
    caller: Allowed<OrgAdmin>,
    Path(path): Path<WebhookPath>,
    Json(new): Json<WebhookChanges>,
) -> Result<Json<Webhook>> {
    let before = find(&app, &caller, path.webhook).await?;
    new.url.as_deref().map_or(Ok(()), check_url)?;
    new.events.as_deref().map_or(Ok(()), check_events)?;
    let changes = Changes { url: new.url.as_deref(), events: new.events.as_deref(), active: new.active };
    let mut tx = app.pool().begin().await?;
    let webhook = webhooks::update(&mut *tx, caller.scope().organization, before.id, changes)
        .await?
        .ok_or_else(|| ApiError::not_found("webhook", path.webhook))?;
    let entry = entry("webhook.updated", &webhook).before(shown(&before)).after(shown(&webhook));
    audit::write(&mut *tx, caller.actor(), entry).await?;
    tx.commit().await?;
    Ok(Json(webhook.into()))
}

/// Delete a webhook with its deliveries.
#[utoipa::path(delete, path = "/api/v1/webhooks/{webhook}", tag = "webhooks",
    operation_id = "delete_webhook", security(("api_key" = ["org:admin"])),
    params(WebhookPath), responses((status = 204), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn delete(
    State(app): State<App>,
    caller: Allowed<OrgAdmin>,
    Path(path): Path<WebhookPath>,
) -> Result<StatusCode> {
    let webhook = find(&app, &caller, path.webhook).await?;
    let mut tx = app.pool().begin().await?;
    if !webhooks::delete(&mut *tx, caller.scope().organization, webhook.id).await? {
        return Err(ApiError::not_found("webhook", path.webhook));
    }
    audit::write(&mut *tx, caller.actor(), entry("webhook.deleted", &webhook).before(shown(&webhook))).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A webhook's deliveries, newest first.
#[utoipa::path(get, path = "/api/v1/webhooks/{webhook}/deliveries", tag = "webhooks", operation_id = "list_deliveries",
    security(("api_key" = ["org:admin"])), params(WebhookPath, PageParams),
    responses((status = 200, body = Page<WebhookDelivery>), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn deliveries(
    State(app): State<App>,
    caller: Allowed<OrgAdmin>,
    Path(path): Path<WebhookPath>,
    Query(page): Query<PageParams>,
) -> Result<Json<Page<WebhookDelivery>>> {
    let webhook = find(&app, &caller, path.webhook).await?;
    let found = webhooks::deliveries(app.pool(), webhook.id, page.after()?, page.fetch()?).await?;
    Ok(Json(page.page(found, |delivery| delivery.id)?))
}

/// One delivery with what was sent and answered.
#[utoipa::path(get, path = "/api/v1/webhooks/{webhook}/deliveries/{delivery}", tag = "webhooks",
    operation_id = "read_delivery", security(("api_key" = ["org:admin"])), params(DeliveryPath),
    responses((status = 200, body = WebhookDeliveryWithAttempts), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn delivery(
    State(app): State<App>,
    caller: Allowed<OrgAdmin>,
    Path(path): Path<DeliveryPath>,
) -> Result<Json<WebhookDeliveryWithAttempts>> {
    Ok(Json(read(&app, &caller, &path).await?))
}

/// Send a delivery once more, as it was.
#[utoipa::path(post, path = "/api/v1/webhooks/{webhook}/deliveries/{delivery}/repeat", tag = "webhooks",
    operation_id = "repeat_delivery", security(("api_key" = ["org:admin"])), params(DeliveryPath),
    responses((status = 202, body = WebhookDeliveryWithAttempts), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn repeat(
    State(app): State<App>,
    caller: Allowed<OrgAdmin>,
    Path(path): Path<DeliveryPath>,
) -> Result<(StatusCode, Json<WebhookDeliveryWithAttempts>)> {
    let webhook = find(&app, &caller, path.webhook).await?;
    let before = read(&app, &caller, &path).await?;
    let mut tx = app.pool().begin().await?;
    webhooks::again(&mut tx, DeliveryId::from(before.delivery.id)).await?;
    audit::write(&mut *tx, caller.actor(), entry("webhook.repeated", &webhook)).await?;
    tx.commit().await?;
    app.notifier.jobs(DeliverWebhook::QUEUE);
    Ok((StatusCode::ACCEPTED, Json(read(&app, &caller, &path).await?)))
}

async fn find(app: &App, caller: &Caller, id: Uuid) -> Result<webhooks::Webhook> {
    caller.require_whole_organization()?;
    webhooks::find(app.pool(), caller.scope().organization, WebhookId::from(id))
        .await?
        .ok_or_else(|| ApiError::not_found("webhook", id))
}

async fn read(app: &App, caller: &Caller, path: &DeliveryPath) -> Result<WebhookDeliveryWithAttempts> {
    let webhook = find(app, caller, path.webhook).await?;
    let delivery = webhooks::delivery(app.pool(), webhook.id, DeliveryId::from(path.delivery))
        .await?
        .ok_or_else(|| ApiError::not_found("delivery", path.delivery))?;
    let attempts = webhooks::attempts(app.pool(), delivery.id).await?;
    Ok(WebhookDeliveryWithAttempts {
        body: delivery.body.clone(),
        delivery: delivery.into(),
        attempts: attempts.into_iter().map(WebhookAttempt::from).collect(),
    })
}

fn entry(action: &'static str, webhook: &webhooks::Webhook) -> Entry {
    let entry = Entry::new(action, &webhook.url).id(webhook.id);
    match webhook.project_id {
        Some(project) => entry.project(project),
        None => entry,
    }
}

/// What the audit log shows of it.
fn shown(webhook: &webhooks::Webhook) -> Value {
    json!({ "url": webhook.url, "events": webhook.events, "active": webhook.active })
}

pub(crate) fn check_url(url: &str) -> Result<()> {
    let parsed = Url::parse(url).ok().filter(|parsed| {
        matches!(parsed.scheme(), "http" | "https")
            && parsed.has_host()
            && parsed.username().is_empty()
            && parsed.password().is_none()
    });
    match parsed.filter(|_| url.len() <= 2000) {
        Some(_) => Ok(()),
        None => Err(ApiError::invalid("url", "this is no address of the form https://…, without a password")),
    }
}

fn check_events(events: &[String]) -> Result<()> {
    if events.is_empty() {
        return Err(ApiError::invalid("events", "a webhook without any event would be told of nothing"));
    }
    match events.iter().find(|event| !EVENTS.contains(&event.as_str())) {
        None => Ok(()),
        Some(event) => {
            let known = EVENTS.join("`, `");
            Err(ApiError::invalid("events", format!("there is no event {event:?}; there are `{known}`")))
        }
    }
}
