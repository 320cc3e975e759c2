//! Who may ask what: every route of the OpenAPI document, for nobody, a stranger, each role, an operator, and for keys that
//! lack the permission or are bound to another project. A route without a row here fails.

use buildit_shared::{
    db::users,
    permission::{Permission, Role},
};
use buildit_tests::api::{Api, answer};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

/// What a stranger's key, with all permissions in its own organization, gets.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Stranger {
    /// What the path names is not there.
    NotFound,
    /// The route names nothing; it shows and changes what is the stranger's own.
    Own,
    /// It is about the installation, for its operator alone.
    Forbidden,
    /// It is for the runner of an attempt alone; no key opens it.
    Unknown,
    /// It is for a person who signed in.
    Person,
    /// It is for somebody who is not signed in yet, but knows something: 401 for a wrong password, 404 for a link that is none.
    Entrance(u16),
}
use Stranger::{Entrance, Forbidden, NotFound, Own, Person, Unknown};

/// The person who may the least of those that are let in.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Least {
    /// Nobody needs to be signed in.
    Anybody,
    /// Every member, and what is one's own.
    Viewer,
    Developer,
    Admin,
    /// No role is enough.
    Operator,
    /// No person at all.
    Nobody,
}
use Least::{Admin, Anybody, Developer, Nobody, Operator, Viewer};

impl Least {
    fn lets_in(self, role: Role, operator: bool) -> bool {
        match self {
            Anybody | Viewer => true,
            Developer => role <= Role::Developer,
            Admin => role <= Role::Admin,
            Operator => operator,
            Nobody => false,
        }
    }
}

/// Each operation, with a body that is right, what a stranger gets, and who may ask.
const ROUTES: &[(&str, &str, &str, Stranger, Least)] = &[
    ("post", "/api/v1/projects", r#"{"name": "mine", "repository": "https://git.example/a"}"#, Own, Developer),
    ("get", "/api/v1/projects", "", Own, Viewer),
    ("get", "/api/v1/projects/{project}", "", NotFound, Viewer),
    ("patch", "/api/v1/projects/{project}", "{}", NotFound, Developer),
    ("delete", "/api/v1/projects/{project}", "", NotFound, Developer),
    ("post", "/api/v1/projects/{project}/pipelines", r#"{"name": "a", "file": "a.yaml"}"#, NotFound, Developer),
    ("get", "/api/v1/projects/{project}/pipelines", "", NotFound, Viewer),
    ("post", "/api/v1/pipelines/validate", r#"{"config": ""}"#, Own, Viewer),
    ("get", "/api/v1/pipelines/{pipeline}", "", NotFound, Viewer),
    ("patch", "/api/v1/pipelines/{pipeline}", "{}", NotFound, Developer),
    ("delete", "/api/v1/pipelines/{pipeline}", "", NotFound, Developer),
    ("post", "/api/v1/projects/{project}/runs", "{}", NotFound, Developer),
    ("get", "/api/v1/projects/{project}/runs", "", NotFound, Viewer),
    ("post", "/api/v1/projects/{project}/deliveries", DELIVERY, NotFound, Developer),
    ("post", "/api/v1/attempts/{attempt}/begin", r#"{"runner": "0123456789abcdef"}"#, Unknown, Nobody),
    ("post", "/api/v1/attempts/{attempt}/objects/{name}", PROMISE, Unknown, Nobody),
    ("post", "/api/v1/attempts/{attempt}/objects/{name}/parts", PART, Unknown, Nobody),
    ("post", "/api/v1/attempts/{attempt}/objects/{name}/complete", COMPLETE, Unknown, Nobody),
    ("post", "/api/v1/attempts/{attempt}/objects/artifacts/{name}", PROMISE, Unknown, Nobody),
    ("post", "/api/v1/attempts/{attempt}/objects/artifacts/{name}/parts", PART, Unknown, Nobody),
    ("post", "/api/v1/attempts/{attempt}/objects/artifacts/{name}/complete", COMPLETE, Unknown, Nobody),
    ("post", "/api/v1/attempts/{attempt}/report", "{}", Unknown, Nobody),
    ("get", "/api/v1/runs", "", Own, Viewer),
    ("get", "/api/v1/runs/{run}", "", NotFound, Viewer),
    ("get", "/api/v1/runs/{run}/events", "", NotFound, Viewer),
    ("post", "/api/v1/runs/{run}/cancel", "", NotFound, Developer),
    ("post", "/api/v1/runs/{run}/retry", "", NotFound, Developer),
    ("post", "/api/v1/runs/{run}/rerun", "", NotFound, Developer),
    ("get", "/api/v1/runs/{run}/steps/{step}/logs", "", NotFound, Viewer),
    ("get", "/api/v1/runs/{run}/artifacts", "", NotFound, Viewer),
    ("get", "/api/v1/runs/{run}/artifacts/{name}", "", NotFound, Viewer),
    ("get", "/api/v1/runs/{run}/artifacts/{name}/files/{path}", "", NotFound, Viewer),
    ("get", "/api/v1/runs/{run}/artifacts/{name}/archive", "", NotFound, Viewer),
    ("post", "/api/v1/api-keys", r#"{"name": "a", "permissions": ["project:read"]}"#, Own, Admin),
    ("get", "/api/v1/api-keys", "", Own, Admin),
    ("delete", "/api/v1/api-keys/{key}", "", NotFound, Admin),
    ("post", "/api/v1/session", r#"{"email": "a@b.example", "password": "wrong"}"#, Entrance(401), Anybody),
    ("patch", "/api/v1/session", r#"{"organization": "acme"}"#, Person, Viewer),
    ("delete", "/api/v1/session", "", Person, Viewer),
    ("get", "/api/v1/me", "", Own, Viewer),
    ("post", "/api/v1/me/password", r#"{"current": "a", "new": "b"}"#, Person, Viewer),
    ("get", "/api/v1/sessions", "", Person, Viewer),
    ("delete", "/api/v1/sessions/{session}", "", Person, Viewer),
    ("get", "/api/v1/welcome/{token}", "", Entrance(404), Anybody),
    ("post", "/api/v1/welcome/{token}", r#"{"password": "a good password"}"#, Entrance(404), Anybody),
    ("post", "/api/v1/me/api-keys", r#"{"name": "a", "permissions": ["project:read"]}"#, Person, Viewer),
    ("get", "/api/v1/me/api-keys", "", Person, Viewer),
    ("delete", "/api/v1/me/api-keys/{key}", "", Person, Viewer),
    ("get", "/api/v1/sign-in", "", Entrance(200), Anybody),
    ("get", "/api/v1/me/identities", "", Person, Viewer),
    ("delete", "/api/v1/me/identities/{identity}", "", Person, Viewer),
    ("get", "/api/v1/roles", "", Own, Viewer),
    ("get", "/api/v1/projects/{project}/grants", "", NotFound, Admin),
    ("put", "/api/v1/projects/{project}/grants/{user}", r#"{"role": "developer"}"#, NotFound, Admin),
    ("delete", "/api/v1/projects/{project}/grants/{user}", "", NotFound, Admin),
    ("get", "/api/v1/projects/{project}/forge", "", NotFound, Viewer),
    ("put", "/api/v1/projects/{project}/forge", r#"{"forge": "gitea"}"#, NotFound, Developer),
    ("delete", "/api/v1/projects/{project}/forge", "", NotFound, Developer),
    ("post", "/api/v1/forges/{hook}", "", Entrance(401), Anybody),
    ("put", "/api/v1/projects/{project}/forge/statuses", STATUSES, NotFound, Admin),
    ("get", "/api/v1/projects/{project}/forge/statuses", "", NotFound, Viewer),
    ("delete", "/api/v1/projects/{project}/forge/statuses", "", NotFound, Admin),
    ("put", "/api/v1/projects/{project}/credential", r#"{"kind": "token", "token": "a token"}"#, NotFound, Admin),
    ("get", "/api/v1/projects/{project}/credential", "", NotFound, Admin),
    ("delete", "/api/v1/projects/{project}/credential", "", NotFound, Admin),
    ("get", "/api/v1/projects/{project}/schedules", "", NotFound, Viewer),
    ("post", "/api/v1/projects/{project}/schedules", r#"{"cron": "0 3 * * *"}"#, NotFound, Developer),
    ("patch", "/api/v1/projects/{project}/schedules/{schedule}", r#"{"paused": true}"#, NotFound, Developer),
    ("delete", "/api/v1/projects/{project}/schedules/{schedule}", "", NotFound, Developer),
    ("get", "/api/v1/secrets", "", Own, Admin),
    ("put", "/api/v1/secrets/{secret}", r#"{"value": "a value"}"#, Own, Admin),
    ("delete", "/api/v1/secrets/{secret}", "", Own, Admin),
    ("get", "/api/v1/projects/{project}/secrets", "", NotFound, Admin),
    ("put", "/api/v1/projects/{project}/secrets/{secret}", r#"{"value": "a value"}"#, NotFound, Admin),
    ("delete", "/api/v1/projects/{project}/secrets/{secret}", "", NotFound, Admin),
    ("get", "/api/v1/projects/{project}/environments/{environment}/secrets", "", NotFound, Admin),
    ("put", "/api/v1/projects/{project}/environments/{environment}/secrets/{secret}", SECRET, NotFound, Admin),
    ("delete", "/api/v1/projects/{project}/environments/{environment}/secrets/{secret}", "", NotFound, Admin),
    ("post", "/api/v1/webhooks", r#"{"url": "https://receiver.example/"}"#, Own, Admin),
    ("get", "/api/v1/webhooks", "", Own, Admin),
    ("patch", "/api/v1/webhooks/{webhook}", "{}", NotFound, Admin),
    ("get", "/api/v1/webhooks/{webhook}/deliveries", "", NotFound, Admin),
    ("get", "/api/v1/webhooks/{webhook}/deliveries/{delivery}", "", NotFound, Admin),
    ("post", "/api/v1/webhooks/{webhook}/deliveries/{delivery}/repeat", "", NotFound, Admin),
    ("delete", "/api/v1/webhooks/{webhook}", "", NotFound, Admin),
    ("get", "/api/v1/members", "", Own, Admin),
    ("patch", "/api/v1/members/{user}", r#"{"role": "viewer"}"#, NotFound, Admin),
    ("delete", "/api/v1/members/{user}", "", NotFound, Admin),
    ("post", "/api/v1/invitations", r#"{"email": "a@b.example", "role": "viewer"}"#, Own, Admin),
    ("get", "/api/v1/invitations", "", Own, Admin),
    ("delete", "/api/v1/invitations/{invitation}", "", NotFound, Admin),
    ("get", "/api/v1/join/{token}", "", Entrance(404), Anybody),
    ("post", "/api/v1/join/{token}", "{}", Entrance(404), Anybody),
    ("get", "/api/v1/audit", "", Own, Admin),
    ("get", "/api/v1/audit/export", "", Own, Admin),
    ("get", "/api/v1/fleet/jobs", "", Forbidden, Operator),
    ("post", "/api/v1/fleet/jobs/bulk", r#"{"action": "retry", "ids": []}"#, Forbidden, Operator),
    ("get", "/api/v1/fleet/jobs/{job}", "", Forbidden, Operator),
    ("post", "/api/v1/fleet/jobs/{job}/retry", "", Forbidden, Operator),
    ("post", "/api/v1/fleet/jobs/{job}/discard", "", Forbidden, Operator),
    ("post", "/api/v1/fleet/jobs/{job}/cancel", "", Forbidden, Operator),
    ("get", "/api/v1/fleet/queues", "", Forbidden, Operator),
    ("post", "/api/v1/fleet/queues/{queue}/pause", "{}", Forbidden, Operator),
    ("post", "/api/v1/fleet/queues/{queue}/resume", "", Forbidden, Operator),
    ("get", "/api/v1/fleet/workers", "", Forbidden, Operator),
    ("post", "/api/v1/fleet/workers/{worker}/drain", "", Forbidden, Operator),
    ("post", "/api/v1/fleet/workers/{worker}/resume", "", Forbidden, Operator),
    ("post", "/api/projects/{project}/pipelines", "{}", NotFound, Developer),
    ("get", "/api/projects/{project}/pipelines", "", NotFound, Viewer),
    ("get", "/api/projects/{project}/pipelines/{run}", "", NotFound, Viewer),
    ("post", "/api/projects/{project}/pipelines/{run}/cancel", "", NotFound, Developer),
    ("post", "/api/projects/{project}/pipelines/{run}/retry", "", NotFound, Developer),
    ("post", "/api/projects/{project}/pipelines/{run}/rerun", "", NotFound, Developer),
    ("get", "/api/projects/{project}/pipelines/{run}/steps/{step}/logs", "", NotFound, Viewer),
    ("get", "/api/projects/{project}/pipelines/{run}/artifacts", "", NotFound, Viewer),
    ("post", "/api/v1/pipelines/{pipeline}/runs", r#"{"branch": "main"}"#, NotFound, Developer),
    ("get", "/api/v1/pipelines/{pipeline}/runs", "", NotFound, Viewer),
];

const DELIVERY: &str = r#"{"delivery": "0190b7a0-0000-7000-8000-000000000000", "ref": "refs/heads/main",
    "before": "0000000000000000000000000000000000000000", "after": "1111111111111111111111111111111111111111"}"#;

const STATUSES: &str = r#"{"forge": "gitea", "token": "a-token", "api_url": "https://git.example/api/v1",
    "repository": "team/web"}"#;

const SECRET: &str = r#"{"value": "a value"}"#;
const PROMISE: &str = r#"{"size": 0, "sha256": ""}"#;
const PART: &str = r#"{"upload": "", "part": 1, "size": 0}"#;
const COMPLETE: &str = r#"{"upload": "", "parts": [], "size": 0, "sha256": ""}"#;

/// The operations of the document that the API serves, each with the permission that it says it asks for; none where it
/// asks for an attempt's token, for a person, or for nothing.
async fn documented(api: &Api) -> Vec<(String, String, Option<Permission>)> {
    let (_, document) = answer(api.anonymous(Method::GET, "/api/v1/openapi.json")).await;
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let scope = operation["security"][0]["api_key"][0].as_str();
            let permission = scope.and_then(Permission::parse);
            let first = operation["security"][0].as_object().unwrap();
            let otherwise = first.is_empty() || first.contains_key("attempt_token") || first.contains_key("session");
            assert!(permission.is_some() != otherwise, "{method} {path} names no permission: {operation}");
            operations.push((method.clone(), path.clone(), permission));
        }
    }
    operations
}

/// A path with ids that exist, of things with all that the routes ask for.
struct Filled {
    fields: Vec<(&'static str, String)>,
}

impl Filled {
    async fn new(api: &Api) -> Self {
        let project = api.project("web").await;
        let at = api.running_step("web").await;
        let (_, pipelines) = api.get("/api/v1/projects/web/pipelines").await;
        let (_, keys) = api.get("/api/v1/api-keys").await;
        let (_, jobs) = api.get("/api/v1/fleet/jobs").await;
        let (_, invited) = api.post("/api/v1/invitations", json!({ "email": "a@b.example", "role": "viewer" })).await;
        let (_, webhook) = api.post("/api/v1/webhooks", json!({ "url": "https://receiver.example/" })).await;
        let id = |page: &Value| page["items"][0]["id"].as_str().unwrap().to_owned();
        let fields = vec![
            ("project", project),
            ("pipeline", id(&pipelines)),
            ("run", at.run.to_string()),
            ("step", "test".into()),
            ("attempt", at.attempt.to_string()),
            ("name", "results".into()),
            ("path", "a/b.xml".into()),
            ("key", id(&keys)),
            ("job", id(&jobs)),
            ("queue", "steps".into()),
            ("user", api.account("ada@acme.example", Some(Role::Viewer)).await.to_string()),
            ("invitation", invited["id"].as_str().unwrap().to_owned()),
            ("secret", "TOKEN".into()),
            ("environment", "production".into()),
            ("hook", at.run.to_string()),
            ("worker", at.run.to_string()),
            ("schedule", at.run.to_string()),
            ("webhook", webhook["id"].as_str().unwrap().to_owned()),
            ("delivery", at.run.to_string()),
            ("session", at.run.to_string()),
            ("identity", at.run.to_string()),
            ("token", "biw_none".into()),
        ];
        Self { fields }
    }

    fn path(&self, template: &str) -> String {
        let filled = self
            .fields
            .iter()
            .fold(template.to_owned(), |path, (name, value)| path.replace(&format!("{{{name}}}"), value));
        assert!(!filled.contains('{'), "nothing is known to fill {filled} with");
        filled
    }
}

fn with_body(request: RequestBuilder, body: &str) -> RequestBuilder {
    match body {
        "" => request,
        body => request.json(&serde_json::from_str::<Value>(body).unwrap()),
    }
}

#[tokio::test]
async fn every_route_has_a_row_and_every_row_a_route() {
    let api = Api::start().await;
    let mut documented: Vec<_> = documented(&api).await.into_iter().map(|(method, path, _)| (method, path)).collect();
    let mut known: Vec<_> = ROUTES.iter().map(|(method, path, ..)| ((*method).into(), (*path).into())).collect();
    documented.sort();
    known.sort();
    assert_eq!(documented, known);
}

#[tokio::test]
async fn nobody_gets_in_anywhere() {
    let api = Api::start().await;
    let filled = Filled::new(&api).await;
    for (method, path, body, stranger, _) in ROUTES {
        let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
        let (status, answered) = answer(with_body(api.anonymous(method.clone(), &filled.path(path)), body)).await;
        let expected = if let Entrance(expected) = stranger { *expected } else { 401 };
        assert_eq!(status, expected, "{method} {path}: {answered}");
    }
}

#[tokio::test]
async fn an_id_of_another_organization_is_answered_like_one_that_does_not_exist() {
    let api = Api::start().await;
    let filled = Filled::new(&api).await;
    let (_, key) = api.stranger().await;
    for (method, path, body, stranger, _) in ROUTES {
        let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
        let request = api.anonymous(method.clone(), &filled.path(path)).bearer_auth(&key);
        let (status, answered) = answer(with_body(request, body)).await;
        match stranger {
            NotFound => assert_eq!(status, 404, "{method} {path}: {answered}"),
            Forbidden => assert_eq!(status, 403, "{method} {path}: {answered}"),
            Unknown => assert_eq!(status, 401, "{method} {path}: {answered}"),
            Person => assert_eq!(status, 403, "{method} {path}: {answered}"),
            Entrance(expected) => assert_eq!(status, *expected, "{method} {path}: {answered}"),
            Own => {
                assert!((200..300).contains(&status), "{method} {path}: {answered}");
                assert!(!answered.to_string().contains(&filled.fields[0].1), "{method} {path} shows: {answered}");
            }
        }
    }
    // And nothing happened to what is not theirs.
    let (_, runs) = api.get("/api/v1/projects/web/runs").await;
    assert_eq!(runs["items"].as_array().unwrap().len(), 1);
    assert_eq!(runs["items"][0]["status"], "running");
}

#[tokio::test]
async fn a_member_without_the_permission_is_told_so() {
    let api = Api::start().await;
    let filled = Filled::new(&api).await;
    let documented = documented(&api).await;
    for (method, path, body, ..) in ROUTES {
        let (.., needed) = documented.iter().find(|(m, p, _)| m == method && p == path).unwrap();
        let Some(needed) = needed else { continue };
        let others: Vec<_> = Permission::ALL.into_iter().filter(|permission| permission != needed).collect();
        let key = api.key(api.organization, &others).await;
        let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
        let request = api.anonymous(method.clone(), &filled.path(path)).bearer_auth(&key);
        let (status, answered) = answer(with_body(request, body)).await;
        assert_eq!(status, 403, "{method} {path} without {}: {answered}", needed.name());
        assert!(answered["error"]["message"].as_str().unwrap().contains(needed.name()), "{answered}");
    }
}

/// What a person gets everywhere. They are asked in the order of the rows, so some things are gone in the end: what counts is
/// whether they were let in.
async fn walk(role: Role, operator: bool) {
    let api = Api::start().await;
    let filled = Filled::new(&api).await;
    let user = api.account("walker@acme.example", Some(role)).await;
    if operator {
        users::make_operator(&api.database.pool, user).await.unwrap();
    }
    for (method, path, body, stranger, least) in ROUTES {
        // Anew each time: they also sign out.
        let cookie = api.session(user).await;
        let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
        let request = with_body(api.as_person(method.clone(), &filled.path(path), &cookie), body);
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        // What is not refused may be a log that goes on for ever.
        let answered: Value = if status < 400 { Value::Null } else { response.json().await.unwrap() };
        let who = format!("{role:?}, operator: {operator}, {method} {path}: {status} {answered}");
        let code = answered["error"]["code"].as_str().unwrap_or_default();
        match (least.lets_in(role, operator), stranger) {
            (true, Entrance(expected)) => assert_eq!(status, *expected, "{who}"),
            (true, _) => assert!(status < 500 && !matches!(code, "forbidden" | "unauthenticated"), "{who}"),
            (false, Unknown) => assert_eq!(status, 401, "{who}"),
            (false, _) => assert_eq!((status, code), (403, "forbidden"), "{who}"),
        }
    }
}

#[tokio::test]
async fn a_viewer_is_let_in_where_it_says_so() {
    walk(Role::Viewer, false).await;
}

#[tokio::test]
async fn a_developer_is_let_in_where_it_says_so() {
    walk(Role::Developer, false).await;
}

#[tokio::test]
async fn an_admin_is_let_in_where_it_says_so() {
    walk(Role::Admin, false).await;
}

#[tokio::test]
async fn an_owner_is_let_in_where_it_says_so() {
    walk(Role::Owner, false).await;
}

#[tokio::test]
async fn an_operator_is_let_in_to_the_fleet_besides() {
    walk(Role::Viewer, true).await;
}

#[tokio::test]
async fn a_key_bound_to_a_project_sees_no_other() {
    let api = Api::start().await;
    let other = Filled::new(&api).await;
    let bound = api.project("bound").await;
    let key = api.key_for(api.organization, &Permission::ALL, Some(bound.parse().unwrap())).await;
    for (method, path, body, stranger, _) in ROUTES {
        if *stranger != NotFound || path.contains("{key}") {
            continue;
        }
        let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
        let request = api.anonymous(method.clone(), &other.path(path)).bearer_auth(&key);
        // These are about the organization, whichever project it is.
        let of_organization = (method == Method::DELETE && path.ends_with("{project}"))
            || ["/grants", "{user}", "{invitation}", "{webhook}"].iter().any(|field| path.contains(field));
        let expected = if of_organization { 403 } else { 404 };
        let (status, answered) = answer(with_body(request, body)).await;
        assert_eq!(status, expected, "{method} {path}: {answered}");
    }
    let get = async |path: &str| answer(api.anonymous(Method::GET, path).bearer_auth(&key)).await;
    let (_, projects) = get("/api/v1/projects").await;
    assert_eq!(projects["items"].as_array().unwrap().len(), 1);
    assert_eq!(projects["items"][0]["name"], "bound");
    assert_eq!(get("/api/v1/runs").await.1["items"], json!([]));
    let create = api.anonymous(Method::POST, "/api/v1/projects").bearer_auth(&key);
    let (status, _) = answer(create.json(&json!({ "name": "more", "repository": "https://git.example/a" }))).await;
    assert_eq!(status, 403);
}

/// What the paths name a project by, and what is the organization's. Whoever adds a route that names something else says here
/// which of the two it is: a grant counts only where the project is known.
const OF_PROJECT: [&str; 3] = ["{project}", "{pipeline}", "{run}"];
const OF_ORGANIZATION: [&str; 4] = ["{key}", "{user}", "{invitation}", "{webhook}"];

#[test]
fn each_thing_of_a_path_is_a_projects_or_the_organizations() {
    for (method, path, _, stranger, _) in ROUTES {
        let is_of = |fields: &[&str]| fields.iter().any(|field| path.contains(field));
        assert!(*stranger != NotFound || is_of(&OF_PROJECT) || is_of(&OF_ORGANIZATION), "{method} {path}");
    }
}

/// Asks everything as somebody with `role` in the organization and `granted` on one project: of that project, or of another.
async fn walk_with_grant(role: Role, granted: Role, of_another: bool) {
    let api = Api::start().await;
    let filled = Filled::new(&api).await;
    let user = api.account("walker@acme.example", Some(role)).await;
    let project = if of_another { api.project("another").await } else { filled.fields[0].1.clone() };
    let grant = format!("/api/v1/projects/{project}/grants/{user}");
    let (status, said) = answer(api.request(Method::PUT, &grant).json(&json!({ "role": granted }))).await;
    assert_eq!(status, 200, "{said}");
    let cookie = api.session(user).await;
    for (method, path, body, stranger, least) in ROUTES {
        if !matches!(stranger, NotFound | Own) {
            continue;
        }
        let counts = !of_another && OF_PROJECT.iter().any(|field| path.contains(field)) && !path.contains("/grants");
        let role = match (*method, *path) {
            // To end a project takes both.
            ("delete", "/api/v1/projects/{project}") if counts => role.max(granted),
            _ if counts => granted,
            _ => role,
        };
        let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
        let request = with_body(api.as_person(method.clone(), &filled.path(path), &cookie), body);
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let answered: Value = if status < 400 { Value::Null } else { response.json().await.unwrap() };
        let who = format!("{role:?} by {granted:?}, of another: {of_another}, {method} {path}: {status} {answered}");
        let code = answered["error"]["code"].as_str().unwrap_or_default();
        match least.lets_in(role, false) {
            true => assert!(status < 500 && !matches!(code, "forbidden" | "unauthenticated"), "{who}"),
            false => assert_eq!((status, code), (403, "forbidden"), "{who}"),
        }
    }
}

#[tokio::test]
async fn a_grant_opens_its_project_and_nothing_of_the_organization() {
    walk_with_grant(Role::Viewer, Role::Admin, false).await;
    walk_with_grant(Role::Viewer, Role::Developer, false).await;
}

#[tokio::test]
async fn a_grant_of_less_closes_its_project_and_nothing_else() {
    walk_with_grant(Role::Developer, Role::Viewer, false).await;
}

#[tokio::test]
async fn a_grant_on_a_project_counts_on_no_other() {
    walk_with_grant(Role::Viewer, Role::Admin, true).await;
    walk_with_grant(Role::Developer, Role::Viewer, true).await;
}
