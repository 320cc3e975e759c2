//! The audit log: who changed what, when and from where.

use askama::Template;
use axum::{extract::State, response::Response};
use buildit_shared::{
    db::{
        api_keys,
        audit::{self, Filter, Row},
        members, projects,
    },
    ids::{ApiKeyId, AuditId, UserId},
    permission::Permission,
};
use jiff::{Timestamp, ToSpan, civil::Date, tz::TimeZone};
use serde::Deserialize;
use url::form_urlencoded;
use uuid::Uuid;

use super::{
    super::{
        error::{Result, Visitor},
        layout::{Layout, page},
        text::When,
    },
    MOST, Tabs,
};
use crate::{App, auth::OrgAdmin, error::ApiError, extract::Query};

/// How many entries are on a page.
const PAGE: i64 = 50;

/// Which entries, as the form says it.
#[derive(Deserialize)]
pub(in crate::pages) struct Wanted {
    /// `user:ID` or `key:ID`.
    #[serde(default)]
    who: String,
    /// What actions begin with.
    #[serde(default)]
    what: String,
    /// A project's name.
    #[serde(default)]
    project: String,
    /// Days, of which the last one is included.
    #[serde(default)]
    since: String,
    #[serde(default)]
    until: String,
    /// The installation's entries instead of the organization's.
    #[serde(default)]
    installation: bool,
    before: Option<AuditId>,
}

#[derive(Template)]
#[template(path = "settings_audit.html")]
struct AuditPage {
    layout: Layout,
    tabs: Tabs,
    rows: Vec<EntryRow>,
    wanted: Wanted,
    /// Who there is to choose from: the value and the name.
    people: Vec<(String, String)>,
    actions: [&'static str; 18],
    is_operator: bool,
    is_filtered: bool,
    export: String,
    next: Option<String>,
}

struct EntryRow {
    at: When,
    actor: String,
    address: String,
    action: String,
    subject: String,
    before: Option<String>,
    after: Option<String>,
}

impl From<Row> for EntryRow {
    fn from(row: Row) -> Self {
        let shown =
            |value: Option<serde_json::Value>| value.and_then(|value| serde_json::to_string_pretty(&value).ok());
        Self {
            at: When::of(row.at),
            actor: row.actor,
            address: row.address.unwrap_or_default(),
            action: row.action,
            subject: row.subject,
            before: shown(row.before),
            after: shown(row.after),
        }
    }
}

/// What actions are about, as far as their names begin with it.
const ABOUT: [&str; 18] = [
    "account.",
    "api_key.",
    "forge.",
    "grant.",
    "identity.",
    "invitation.",
    "job.",
    "member.",
    "password.",
    "pipeline.",
    "project.",
    "queue.",
    "run.",
    "schedule.",
    "secret.",
    "session.",
    "webhook.",
    "worker.",
];

impl Wanted {
    async fn filter(&self, app: &App, caller: &Visitor<OrgAdmin>) -> Result<Filter> {
        let text = |text: &str| (!text.trim().is_empty()).then(|| text.trim().to_owned());
        let id = |kind: &str| self.who.strip_prefix(kind).and_then(|id| id.parse::<Uuid>().ok());
        if self.installation && !caller.has(Permission::FleetAdmin) {
            return Err(ApiError::forbidden("the installation's entries are for its operators").into());
        }
        let project = match text(&self.project) {
            None => None,
            Some(name) => {
                let found = projects::find(app.pool(), caller.scope(), &name).await?;
                Some(found.ok_or_else(|| ApiError::not_found("project", name))?.id)
            }
        };
        Ok(Filter {
            installation: self.installation,
            action: text(&self.what),
            user: id("user:").map(UserId::from),
            key: id("key:").map(ApiKeyId::from),
            project,
            subject: None,
            since: day("since", &self.since)?.map(start),
            until: day("until", &self.until)?.map(|day| start(day.saturating_add(1.day()))),
        })
    }

    fn is(&self, who: &str) -> bool {
        self.who == who
    }
}

fn day(field: &str, text: &str) -> Result<Option<Date>> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    let day = text.trim().parse();
    Ok(Some(day.map_err(|_| ApiError::invalid(field, format!("{text:?} is no day such as 2026-03-29")))?))
}

fn start(day: Date) -> Timestamp {
    day.to_zoned(TimeZone::UTC).map_or(Timestamp::MAX, |day| day.timestamp())
}

/// The same entries, as the query of an address.
fn query(pairs: &[(&str, Option<String>)]) -> String {
    let given =
        pairs.iter().filter_map(|(name, value)| Some((name, value.as_ref().filter(|value| !value.is_empty())?)));
    form_urlencoded::Serializer::new(String::new()).extend_pairs(given).finish()
}

/// `GET /settings/audit`
pub(in crate::pages) async fn show(
    State(app): State<App>,
    caller: Visitor<OrgAdmin>,
    Query(wanted): Query<Wanted>,
) -> Result<Response> {
    caller.require_whole_organization()?;
    let filter = wanted.filter(&app, &caller).await?;
    let mut found = audit::list(app.pool(), caller.scope(), &filter, wanted.before, PAGE + 1).await?;
    let more = found.len() > PAGE as usize;
    found.truncate(PAGE as usize);
    let installation = filter.installation.then(|| "true".to_owned());
    let here = query(&[
        ("who", Some(wanted.who.clone())),
        ("what", Some(wanted.what.clone())),
        ("project", Some(wanted.project.clone())),
        ("since", Some(wanted.since.clone())),
        ("until", Some(wanted.until.clone())),
        ("installation", installation.clone()),
    ]);
    let export = query(&[
        ("action", filter.action.clone()),
        ("user", filter.user.map(|id| id.to_string())),
        ("key", filter.key.map(|id| id.to_string())),
        ("project", filter.project.map(|id| id.to_string())),
        ("since", filter.since.map(|at| at.to_string())),
        ("until", filter.until.map(|at| at.to_string())),
        ("installation", installation),
    ]);
    let mut people = Vec::new();
    for member in members::list(app.pool(), caller.scope().organization, None, MOST).await? {
        people.push((format!("user:{}", member.user_id), member.email));
    }
    for key in api_keys::list(app.pool(), caller.scope(), None, None, MOST).await? {
        people.push((format!("key:{}", key.id), format!("key {}", key.name)));
    }
    Ok(page(&AuditPage {
        layout: Layout::of(&caller, "settings", "Audit log"),
        tabs: Tabs::of(&caller, "audit"),
        next: found.last().filter(|_| more).map(|last| format!("/settings/audit?{here}&before={}", last.id)),
        rows: found.into_iter().map(EntryRow::from).collect(),
        people,
        actions: ABOUT,
        is_operator: caller.has(Permission::FleetAdmin),
        is_filtered: !here.is_empty(),
        export: format!("/api/v1/audit/export?{export}"),
        wanted,
    }))
}
