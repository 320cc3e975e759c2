//! The document that describes the routes. It is made from the handlers, and completed here by rules, so that each operation
//! tells how to prove who one is, what it answers when it refuses or fails, and shows an example of each body.

mod examples;
#[cfg(test)]
mod tests;

use serde_json::{Map, Value, json};
use utoipa::{
    Modify, OpenApi,
    openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme},
};

use examples::Examples;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "BuildIt",
        description = "Runs software pipelines for a team that keeps its code in git. Lists are paged: ask on with `next_cursor` \
                       as `cursor`. Every answer has an `x-request-id`, by which the server's log knows the request."
    ),
    tags(
        (name = "projects", description = "Git repositories with their settings, and what the clock starts."),
        (name = "pipelines", description = "Definitions of steps."),
        (name = "runs", description = "A pipeline at one commit."),
        (name = "steps", description = "The containers of a run."),
        (name = "artifacts", description = "What a run leaves."),
        (name = "attempts", description = "What the runners of steps ask, each with the token of its attempt."),
        (name = "secrets", description = "Values that go in and never come out."),
        (name = "forges", description = "What forges call, and what they are told."),
        (name = "webhooks", description = "Whom to tell of the ends of runs."),
        (name = "api keys", description = "Keys for programs."),
        (name = "sessions", description = "How people sign in, and who one is."),
        (name = "members", description = "Who is in the organization, and who is invited."),
        (name = "audit", description = "Who changed what, when and from where."),
        (name = "fleet", description = "The installation's jobs, queues and workers, for its operator."),
        (name = "older", description = "The run routes at two older shapes."),
    ),
    components(schemas(crate::error::ErrorBody)),
    modifiers(&Security),
)]
struct Document;

struct Security;

impl Modify for Security {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let key = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("An API key, `bi_…`. A route's scope is the permission that the key must have."))
            .build();
        let token = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("The token of one attempt, `bia_…`, which its runner is given."))
            .build();
        let cookie = "What signing in sets; a person's role in the organization that the session looks at must have the \
                      permission. A browser sends it on its own account, so whatever is not a GET must come from a page of \
                      this site: with `Sec-Fetch-Site: same-origin`, or an `Origin` of this site where the browser does not \
                      send that. What says neither, or another site, is refused with 403 `cross_site`.";
        let cookie = ApiKeyValue::with_description("buildit_session", cookie);
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("api_key", SecurityScheme::Http(key));
        components.add_security_scheme("session", SecurityScheme::ApiKey(ApiKey::Cookie(cookie)));
        components.add_security_scheme("attempt_token", SecurityScheme::Http(token));
    }
}

/// What the handlers' own descriptions are added to.
pub(crate) fn begin() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

/// The document with what all operations have in common.
pub(crate) fn complete(document: &utoipa::openapi::OpenApi) -> Value {
    completed(document).0
}

/// The same, and the properties that want a word for their examples.
fn completed(document: &utoipa::openapi::OpenApi) -> (Value, Vec<String>) {
    let mut document = serde_json::to_value(document).unwrap_or_default();
    // A parameter that takes slashes has a star in the router's language, and none in the document's.
    if let Some(paths) = document.get_mut("paths").and_then(Value::as_object_mut) {
        let all = std::mem::take(paths);
        paths.extend(all.into_iter().map(|(path, item)| (path.replace("{*", "{"), item)));
    }
    let schemas = document["components"]["schemas"].as_object().cloned().unwrap_or_default();
    let mut examples = Examples::new(&schemas);
    let items = document.get_mut("paths").and_then(Value::as_object_mut).into_iter().flat_map(Map::iter_mut);
    for (method, operation) in items.filter_map(|(_, item)| item.as_object_mut()).flatten() {
        complete_operation(method, operation, &mut examples);
    }
    let missing = examples.missing;
    (document, missing)
}

fn complete_operation(method: &str, operation: &mut Value, examples: &mut Examples<'_>) {
    let_people_in(operation);
    let refusal = refusal(method, operation);
    if let Some(bodies) = operation.pointer_mut("/requestBody/content").and_then(Value::as_object_mut) {
        show(bodies, examples);
    }
    let Some(responses) = operation.get_mut("responses").and_then(Value::as_object_mut) else { return };
    responses.insert("5XX".into(), failure());
    for (status, response) in responses {
        if response["description"].as_str().unwrap_or_default().is_empty() {
            response["description"] = match status.as_str() {
                "4XX" => refusal.as_str(),
                "201" => "It was made.",
                "202" => "It was taken up, and goes on.",
                "204" => "It was done; there is nothing more to say.",
                _ => "What was asked for.",
            }
            .into();
        }
        if let Some(bodies) = response.get_mut("content").and_then(Value::as_object_mut) {
            show(bodies, examples);
        }
    }
}

/// What a key with a permission may do, a person with it may too.
fn let_people_in(operation: &mut Value) {
    let Some(ways) = operation.get_mut("security").and_then(Value::as_array_mut) else { return };
    let scopes = ways.iter().find_map(|way| way.get("api_key")).cloned();
    let has_session = ways.iter().any(|way| way.get("session").is_some());
    if let Some(scopes) = scopes.filter(|_| !has_session) {
        ways.push(json!({ "session": scopes }));
    }
}

/// Why an operation may refuse what it is asked.
fn refusal(method: &str, operation: &Value) -> String {
    let ways: Vec<&Map<String, Value>> =
        operation["security"].as_array().into_iter().flatten().filter_map(Value::as_object).collect();
    let takes = |name: &str| ways.iter().any(|way| way.contains_key(name));
    let parameters = operation["parameters"].as_array().into_iter().flatten();
    let has_in = |place: &str| parameters.clone().any(|parameter| parameter["in"] == place);
    let mut codes = Vec::new();
    if has_in("query") {
        codes.push("400 `invalid_query` or `invalid_cursor`: the query is not as described");
    }
    if !operation["requestBody"].is_null() {
        codes.push("400 `invalid_json`, 413 `too_large`, 415 `unsupported_media_type`: the body cannot be read");
    }
    if ways.iter().any(|way| !way.is_empty()) {
        codes.push("401 `unauthenticated`: nobody has proved who they are");
        codes.push("403 `forbidden`: they may not do this");
    }
    if takes("session") && method != "get" {
        codes.push("403 `cross_site`: a cookie came from a page of another site");
    }
    if has_in("path") {
        codes.push("404 `not_found`: there is no such thing that the caller can see");
    }
    codes.push("408 `request_timeout`: it took more than 30 s");
    if !operation["requestBody"].is_null() || has_in("query") {
        codes.push("422 `invalid_request`: a value cannot be, and `message` says why");
    }
    format!("It is refused. {}. What the operation's own description names has codes of its own.", codes.join("; "))
}

/// What every operation answers when it fails.
fn failure() -> Value {
    json!({
        "description": "It failed. 500 `internal`: the server's log has the cause under `x-request-id`; 503 `database_unavailable`, \
                        `storage_unavailable` or `shutting_down`: it passes, so ask again after `Retry-After` seconds.",
        "content": { "application/json": {
            "schema": { "$ref": "#/components/schemas/ErrorBody" },
            "example": { "error": { "code": "database_unavailable",
                                    "message": "the database does not answer at the moment; try again" } },
        } },
    })
}

fn show(bodies: &mut Map<String, Value>, examples: &mut Examples<'_>) {
    for (kind, body) in bodies {
        if body.get("example").is_some() || body.get("examples").is_some() {
            continue;
        }
        body["example"] = match kind.as_str() {
            "text/event-stream" => json!("id: 6\ndata: {\"offset\":0,\"text\":\"hello\\n\"}\n\n"),
            "text/plain" => json!("hello\n"),
            "text/csv" => {
                json!("at,action,actor,address\n2026-03-01T09:30:00Z,project.updated,ada@example.org,203.0.113.7\n")
            }
            "application/json" => examples.of(&body["schema"].clone()),
            // Of bytes there is nothing to show, and they have no schema.
            _ => {
                *body = json!({});
                continue;
            }
        };
    }
}
