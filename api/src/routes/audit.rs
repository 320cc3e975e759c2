//! The audit log.

use axum::{body::Body, extract::State, http::header, response::IntoResponse};
use buildit_shared::{
    db::{
        Scope,
        audit::{self, Filter, Row},
    },
    ids::{ApiKeyId, ProjectId, UserId},
    permission::Permission,
};
use futures::{Stream, stream};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::{
    App,
    auth::{Allowed, Caller, OrgAdmin},
    error::{ApiError, ErrorBody, Result},
    extract::{Json, Query},
    page::{Page, PageParams},
};

/// A change that somebody made.
#[derive(Serialize, ToSchema)]
pub(crate) struct AuditEntry {
    id: Uuid,
    at: Timestamp,
    /// Such as `project.updated`.
    action: String,
    /// Who, as they were called then.
    actor: String,
    user_id: Option<Uuid>,
    key_id: Option<Uuid>,
    /// Where the request came from.
    address: Option<String>,
    /// What was changed, as it was called then.
    subject: String,
    subject_id: Option<Uuid>,
    project_id: Option<Uuid>,
    /// What changed of it, where that is short and no secret.
    before: Option<Value>,
    after: Option<Value>,
}

impl From<Row> for AuditEntry {
    fn from(row: Row) -> Self {
        Self {
            id: row.id.uuid(),
            at: row.at.to_jiff(),
            action: row.action,
            actor: row.actor,
            user_id: row.user_id.map(|id| id.uuid()),
            key_id: row.key_id.map(|id| id.uuid()),
            address: row.address,
            subject: row.subject,
            subject_id: row.subject_id,
            project_id: row.project_id.map(|id| id.uuid()),
            before: row.before,
            after: row.after,
        }
    }
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct AuditFilter {
    /// What actions begin with, such as `project.` or `project.updated`.
    action: Option<String>,
    /// By this person.
    user: Option<Uuid>,
    /// By this API key.
    key: Option<Uuid>,
    /// About this project, by its id: it may be gone.
    project: Option<Uuid>,
    /// About what has this id.
    subject: Option<Uuid>,
    /// Not earlier than this.
    since: Option<Timestamp>,
    /// Earlier than this.
    until: Option<Timestamp>,
    /// What was done to the installation instead of the organization; needs `fleet:admin`.
    #[serde(default)]
    installation: bool,
}

impl AuditFilter {
    fn parse(self, caller: &Caller) -> Result<Filter> {
        caller.require_whole_organization()?;
        if self.installation && !caller.has(Permission::FleetAdmin) {
            return Err(ApiError::forbidden("the installation's entries need the permission `fleet:admin`"));
        }
        Ok(Filter {
            installation: self.installation,
            action: self.action,
            user: self.user.map(UserId::from),
            key: self.key.map(ApiKeyId::from),
            project: self.project.map(ProjectId::from),
            subject: self.subject,
            since: self.since,
            until: self.until,
        })
    }
}

/// What was changed, newest first.
#[utoipa::path(get, path = "/api/v1/audit", tag = "audit",
    operation_id = "list_audit_entries", security(("api_key" = ["org:admin"])), params(AuditFilter, PageParams),
    responses((status = 200, body = Page<AuditEntry>), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn list(
    State(app): State<App>,
    caller: Allowed<OrgAdmin>,
    Query(filter): Query<AuditFilter>,
    Query(page): Query<PageParams>,
) -> Result<Json<Page<AuditEntry>>> {
    let filter = filter.parse(&caller)?;
    let found = audit::list(app.pool(), caller.scope(), &filter, page.after()?, page.fetch()?).await?;
    Ok(Json(page.page(found, |row| row.id)?))
}

/// All that matches as CSV, newest first.
#[utoipa::path(get, path = "/api/v1/audit/export", tag = "audit",
    operation_id = "export_audit_entries", security(("api_key" = ["org:admin"])), params(AuditFilter),
    responses((status = 200, content_type = "text/csv", body = String), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn export(
    State(app): State<App>,
    caller: Allowed<OrgAdmin>,
    Query(filter): Query<AuditFilter>,
) -> Result<impl IntoResponse> {
    let filter = filter.parse(&caller)?;
    let headers = [
        (header::CONTENT_TYPE, "text/csv; charset=utf-8"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"audit.csv\""),
    ];
    Ok((headers, Body::from_stream(csv(app, caller.scope(), filter))))
}

const HEAD: &str = "at,action,actor,user_id,key_id,address,subject,subject_id,project_id,before,after\r\n";
/// Rows that are read at once.
const PAGE: i64 = 1000;

/// Read page by page, so that neither the memory nor a connection is held for long.
fn csv(app: App, scope: Scope, filter: Filter) -> impl Stream<Item = Result<String>> {
    enum At {
        Begin,
        After(buildit_shared::ids::AuditId),
        End,
    }
    stream::try_unfold((At::Begin, app, filter), move |(at, app, filter)| async move {
        let (before, mut text) = match at {
            At::Begin => (None, HEAD.to_owned()),
            At::After(id) => (Some(id), String::new()),
            At::End => return Ok(None),
        };
        let rows = audit::list(app.pool(), scope, &filter, before, PAGE).await?;
        let next = match rows.last() {
            Some(last) if rows.len() == usize::try_from(PAGE).unwrap_or(usize::MAX) => At::After(last.id),
            _ => At::End,
        };
        for row in rows {
            line(&mut text, row);
        }
        Ok(Some((text, (next, app, filter))))
    })
}

fn line(text: &mut String, row: Row) {
    let id = |id: Option<Uuid>| id.map(|id| id.to_string()).unwrap_or_default();
    let value = |value: Option<Value>| value.map(|value| value.to_string()).unwrap_or_default();
    let cells = [
        row.at.to_jiff().to_string(),
        row.action,
        row.actor,
        id(row.user_id.map(|id| id.uuid())),
        id(row.key_id.map(|id| id.uuid())),
        row.address.unwrap_or_default(),
        row.subject,
        id(row.subject_id),
        id(row.project_id.map(|id| id.uuid())),
        value(row.before),
        value(row.after),
    ];
    text.push_str(&cells.map(|cell| quoted(&cell)).join(","));
    text.push_str("\r\n");
}

/// A cell. What a spreadsheet would take for a formula gets an apostrophe before it.
fn quoted(cell: &str) -> String {
    let guard = if cell.starts_with(['=', '+', '-', '@', '\t', '\r']) { "'" } else { "" };
    if guard.is_empty() && !cell.contains(['"', ',', '\n', '\r']) {
        return cell.to_owned();
    }
    format!("\"{guard}{}\"", cell.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn no_cell_leaves_its_place_or_becomes_a_formula() {
        assert_eq!(quoted("plain text"), "plain text");
        assert_eq!(quoted("a,\"b\"\n"), "\"a,\"\"b\"\"\n\"");
        assert_eq!(quoted("=cmd()"), "\"'=cmd()\"");
    }
}
