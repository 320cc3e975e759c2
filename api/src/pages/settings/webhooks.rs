//! Webhooks: who is told of the ends of runs, and what became of each message.

use askama::Template;
use axum::{extract::State, http::StatusCode, response::Response};
use buildit_shared::{
    db::{
        projects as project_rows,
        webhooks::{self as rows, DeliveryState},
    },
    ids::{DeliveryId, WebhookId},
    webhook::EVENTS,
};
use serde::Deserialize;
use uuid::Uuid;

use super::{
    super::{
        account::Nothing,
        error::{Result, Visitor},
        layout::{Layout, page, page_with},
        status::Status,
        text::{When, duration},
    },
    MOST, Tabs, to,
};
use crate::{
    App,
    auth::{OrgAdmin, form::Form},
    error::ApiError,
    extract::{Json, Path, Query},
    routes::webhooks::{self, CreateWebhook, DeliveryPath, WebhookChanges, WebhookPath},
};

/// How many deliveries are on a page.
const PAGE: i64 = 50;

#[derive(Template)]
#[template(path = "settings_webhooks.html")]
struct WebhooksPage {
    layout: Layout,
    tabs: Tabs,
    webhooks: Vec<WebhookRow>,
    events: [&'static str; 4],
    given: Given,
    /// The secret that was just made, shown once.
    made: Option<String>,
    problem: Option<String>,
}

/// What somebody wrote into the form.
#[derive(Default)]
struct Given {
    url: String,
    project: String,
}

struct WebhookRow {
    id: Uuid,
    url: String,
    events: String,
    /// The one project that it is about.
    project: Option<String>,
    is_active: bool,
    /// What became of the last message, with its word.
    last: Option<(Status, &'static str)>,
}

#[derive(Template)]
#[template(path = "settings_webhook.html")]
struct WebhookPage {
    layout: Layout,
    tabs: Tabs,
    webhook: WebhookRow,
    deliveries: Vec<DeliveryRow>,
    next: Option<String>,
}

struct DeliveryRow {
    id: Uuid,
    run: String,
    event: String,
    status: Status,
    state: &'static str,
    at: When,
}

#[derive(Template)]
#[template(path = "settings_delivery.html")]
struct DeliveryPage {
    layout: Layout,
    tabs: Tabs,
    webhook: WebhookRow,
    delivery: DeliveryRow,
    /// What is sent; none before it was sent first.
    body: Option<String>,
    attempts: Vec<AttemptRow>,
}

struct AttemptRow {
    number: i32,
    at: When,
    took: String,
    status: Status,
    /// The answer's status, or why there was none.
    outcome: String,
    answer: String,
}

#[derive(Deserialize)]
pub(in crate::pages) struct Older {
    before: Option<DeliveryId>,
}

impl WebhookRow {
    async fn of(app: &App, caller: &Visitor<OrgAdmin>, webhook: rows::Webhook) -> Result<Self> {
        let project = match webhook.project_id {
            Some(id) => project_rows::find(app.pool(), caller.scope(), &id.to_string()).await?,
            None => None,
        };
        Ok(Self {
            id: webhook.id.uuid(),
            url: webhook.url,
            events: webhook.events.join(", "),
            project: project.map(|project| project.name),
            is_active: webhook.active,
            last: webhook.last.map(|state| (status(state), state.name())),
        })
    }
}

impl From<rows::Delivery> for DeliveryRow {
    fn from(delivery: rows::Delivery) -> Self {
        Self {
            id: delivery.id.uuid(),
            run: delivery.run_id.to_string(),
            event: delivery.event,
            status: status(delivery.state),
            state: delivery.state.name(),
            at: When::of(delivery.created_at),
        }
    }
}

fn status(state: DeliveryState) -> Status {
    Status(match state {
        DeliveryState::Pending => "running",
        DeliveryState::Delivered => "success",
        DeliveryState::Failed => "failure",
    })
}

impl From<rows::Attempt> for AttemptRow {
    fn from(attempt: rows::Attempt) -> Self {
        let is_taken = attempt.status.is_some_and(|status| (200..300).contains(&status));
        Self {
            number: attempt.number,
            at: When::of(attempt.at),
            took: duration(attempt.duration_ms.into()),
            status: Status(if is_taken { "success" } else { "failure" }),
            outcome: match attempt.status {
                Some(status) => status.to_string(),
                None => attempt.error.unwrap_or_default(),
            },
            answer: attempt.answer.unwrap_or_default(),
        }
    }
}

/// `GET /settings/webhooks`
pub(in crate::pages) async fn show(State(app): State<App>, caller: Visitor<OrgAdmin>) -> Result<Response> {
    render(&app, &caller, Given::default(), Ok(None)).await
}

/// `outcome` is the secret that was made, or why none was.
async fn render(
    app: &App,
    caller: &Visitor<OrgAdmin>,
    given: Given,
    outcome: std::result::Result<Option<String>, ApiError>,
) -> Result<Response> {
    caller.require_whole_organization()?;
    let found = rows::list(app.pool(), caller.scope().organization, None, MOST).await?;
    let mut webhooks = Vec::with_capacity(found.len());
    for webhook in found {
        webhooks.push(WebhookRow::of(app, caller, webhook).await?);
    }
    let status = outcome.as_ref().err().map_or(StatusCode::OK, ApiError::status);
    let (made, problem) = match outcome {
        Ok(made) => (made, None),
        Err(error) => (None, Some(error.to_string())),
    };
    let layout = Layout::of(caller, "settings", "Webhooks");
    let tabs = Tabs::of(caller, "webhooks");
    Ok(page_with(status, &WebhooksPage { layout, tabs, webhooks, events: EVENTS, given, made, problem }))
}

/// `POST /settings/webhooks`
pub(in crate::pages) async fn create(
    State(app): State<App>,
    caller: Visitor<OrgAdmin>,
    Form(fields): Form<Vec<(String, String)>>,
) -> Result<Response> {
    let all = |wanted: &str| {
        fields.iter().filter(|(name, _)| name == wanted).map(|(_, value)| value.trim().to_owned()).collect::<Vec<_>>()
    };
    let given = Given { url: all("url").pop().unwrap_or_default(), project: all("project").pop().unwrap_or_default() };
    let new = CreateWebhook {
        url: given.url.clone(),
        events: Some(all("event")),
        project: Some(given.project.clone()).filter(|project| !project.is_empty()),
    };
    match webhooks::make(&app, &caller, new).await {
        Ok((secret, _)) => render(&app, &caller, Given::default(), Ok(Some(secret))).await,
        Err(error) if error.status().is_client_error() => render(&app, &caller, given, Err(error)).await,
        Err(error) => Err(error.into()),
    }
}

/// `POST /settings/webhooks/{webhook}/on` and `…/off`
pub(in crate::pages) async fn turn(
    state: State<App>,
    caller: Visitor<OrgAdmin>,
    Path((webhook, to_what)): Path<(Uuid, Turn)>,
    _form: Form<Nothing>,
) -> Result<Response> {
    let changes = WebhookChanges { url: None, events: None, active: Some(matches!(to_what, Turn::On)) };
    webhooks::update(state, caller.0, Path(WebhookPath { webhook }), Json(changes)).await?;
    Ok(to("/settings/webhooks"))
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::pages) enum Turn {
    On,
    Off,
}

/// `POST /settings/webhooks/{webhook}/delete`
pub(in crate::pages) async fn delete(
    state: State<App>,
    caller: Visitor<OrgAdmin>,
    path: Path<WebhookPath>,
    _form: Form<Nothing>,
) -> Result<Response> {
    webhooks::delete(state, caller.0, path).await?;
    Ok(to("/settings/webhooks"))
}

async fn find(app: &App, caller: &Visitor<OrgAdmin>, id: Uuid) -> Result<rows::Webhook> {
    caller.require_whole_organization()?;
    let found = rows::find(app.pool(), caller.scope().organization, WebhookId::from(id)).await?;
    Ok(found.ok_or_else(|| ApiError::not_found("webhook", id))?)
}

/// `GET /settings/webhooks/{webhook}`
pub(in crate::pages) async fn deliveries(
    State(app): State<App>,
    caller: Visitor<OrgAdmin>,
    Path(path): Path<WebhookPath>,
    Query(older): Query<Older>,
) -> Result<Response> {
    let webhook = find(&app, &caller, path.webhook).await?;
    let mut found = rows::deliveries(app.pool(), webhook.id, older.before, PAGE + 1).await?;
    let more = found.len() > PAGE as usize;
    found.truncate(PAGE as usize);
    let next =
        found.last().filter(|_| more).map(|last| format!("/settings/webhooks/{}?before={}", path.webhook, last.id));
    Ok(page(&WebhookPage {
        layout: Layout::of(&caller, "settings", "Webhook").live("/live/fleet".into()),
        tabs: Tabs::of(&caller, "webhooks"),
        webhook: WebhookRow::of(&app, &caller, webhook).await?,
        deliveries: found.into_iter().map(DeliveryRow::from).collect(),
        next,
    }))
}

/// `GET /settings/webhooks/{webhook}/deliveries/{delivery}`
pub(in crate::pages) async fn delivery(
    State(app): State<App>,
    caller: Visitor<OrgAdmin>,
    Path(path): Path<DeliveryPath>,
) -> Result<Response> {
    let webhook = find(&app, &caller, path.webhook).await?;
    let delivery = rows::delivery(app.pool(), webhook.id, DeliveryId::from(path.delivery))
        .await?
        .ok_or_else(|| ApiError::not_found("delivery", path.delivery))?;
    let attempts = rows::attempts(app.pool(), delivery.id).await?;
    let body = delivery.body.as_deref().map(|body| {
        let read = serde_json::from_str::<serde_json::Value>(body);
        read.and_then(|value| serde_json::to_string_pretty(&value)).unwrap_or_else(|_| body.to_owned())
    });
    Ok(page(&DeliveryPage {
        layout: Layout::of(&caller, "settings", "Delivery").live("/live/fleet".into()),
        tabs: Tabs::of(&caller, "webhooks"),
        webhook: WebhookRow::of(&app, &caller, webhook).await?,
        delivery: delivery.into(),
        body,
        attempts: attempts.into_iter().rev().map(AttemptRow::from).collect(),
    }))
}

/// `POST /settings/webhooks/{webhook}/deliveries/{delivery}/repeat`
pub(in crate::pages) async fn repeat(
    state: State<App>,
    caller: Visitor<OrgAdmin>,
    Path(path): Path<DeliveryPath>,
    _form: Form<Nothing>,
) -> Result<Response> {
    let address = format!("/settings/webhooks/{}/deliveries/{}", path.webhook, path.delivery);
    webhooks::repeat(state, caller.0, Path(path)).await?;
    Ok(to(&address))
}
