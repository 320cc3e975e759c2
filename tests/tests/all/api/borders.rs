//! Who may ask what: every route of the OpenAPI document, for nobody, for a stranger, and for a key that lacks the
//! permission. A route without a row here fails.

use buildit_shared::permission::{Permission, Role};
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

/// Each operation, with a body that is right, and what a stranger gets.
const ROUTES: &[(&str, &str, &str, Stranger)] = &[
    ("post", "/api/v1/projects", r#"{"name": "mine", "repository": "https://git.example/a"}"#, Own),
    ("get", "/api/v1/projects", "", Own),
    ("get", "/api/v1/projects/{project}", "", NotFound),
    ("patch", "/api/v1/projects/{project}", "{}", NotFound),
    ("delete", "/api/v1/projects/{project}", "", NotFound),
    ("post", "/api/v1/projects/{project}/pipelines", r#"{"name": "a", "file": "a.yaml"}"#, NotFound),
    ("get", "/api/v1/projects/{project}/pipelines", "", NotFound),
    ("post", "/api/v1/pipelines/validate", r#"{"config": ""}"#, Own),
    ("get", "/api/v1/pipelines/{pipeline}", "", NotFound),
    ("patch", "/api/v1/pipelines/{pipeline}", "{}", NotFound),
    ("delete", "/api/v1/pipelines/{pipeline}", "", NotFound),
    ("post", "/api/v1/projects/{project}/runs", "{}", NotFound),
    ("get", "/api/v1/projects/{project}/runs", "", NotFound),
    ("post", "/api/v1/projects/{project}/deliveries", DELIVERY, NotFound),
    ("post", "/api/v1/attempts/{attempt}/begin", r#"{"runner": "0123456789abcdef"}"#, Unknown),
    ("post", "/api/v1/attempts/{attempt}/objects/{name}", PROMISE, Unknown),
    ("post", "/api/v1/attempts/{attempt}/objects/{name}/parts", PART, Unknown),
    ("post", "/api/v1/attempts/{attempt}/objects/{name}/complete", COMPLETE, Unknown),
    ("post", "/api/v1/attempts/{attempt}/objects/artifacts/{name}", PROMISE, Unknown),
    ("post", "/api/v1/attempts/{attempt}/objects/artifacts/{name}/parts", PART, Unknown),
    ("post", "/api/v1/attempts/{attempt}/objects/artifacts/{name}/complete", COMPLETE, Unknown),
    ("post", "/api/v1/attempts/{attempt}/report", "{}", Unknown),
    ("get", "/api/v1/runs", "", Own),
    ("get", "/api/v1/runs/{run}", "", NotFound),
    ("post", "/api/v1/runs/{run}/cancel", "", NotFound),
    ("post", "/api/v1/runs/{run}/retry", "", NotFound),
    ("post", "/api/v1/runs/{run}/rerun", "", NotFound),
    ("get", "/api/v1/runs/{run}/steps/{step}/logs", "", NotFound),
    ("get", "/api/v1/runs/{run}/artifacts", "", NotFound),
    ("get", "/api/v1/runs/{run}/artifacts/{name}", "", NotFound),
    ("get", "/api/v1/runs/{run}/artifacts/{name}/files/{path}", "", NotFound),
    ("get", "/api/v1/runs/{run}/artifacts/{name}/archive", "", NotFound),
    ("post", "/api/v1/api-keys", r#"{"name": "a", "permissions": ["project:read"]}"#, Own),
    ("get", "/api/v1/api-keys", "", Own),
    ("delete", "/api/v1/api-keys/{key}", "", NotFound),
    ("post", "/api/v1/session", r#"{"email": "a@b.example", "password": "wrong"}"#, Entrance(401)),
    ("patch", "/api/v1/session", r#"{"organization": "acme"}"#, Person),
    ("delete", "/api/v1/session", "", Person),
    ("get", "/api/v1/me", "", Own),
    ("post", "/api/v1/me/password", r#"{"current": "a", "new": "b"}"#, Person),
    ("get", "/api/v1/sessions", "", Person),
    ("delete", "/api/v1/sessions/{session}", "", Person),
    ("get", "/api/v1/welcome/{token}", "", Entrance(404)),
    ("post", "/api/v1/welcome/{token}", r#"{"password": "a good password"}"#, Entrance(404)),
    ("post", "/api/v1/me/api-keys", r#"{"name": "a", "permissions": ["project:read"]}"#, Person),
    ("get", "/api/v1/me/api-keys", "", Person),
    ("delete", "/api/v1/me/api-keys/{key}", "", Person),
    ("get", "/api/v1/roles", "", Own),
    ("get", "/api/v1/secrets", "", Own),
    ("put", "/api/v1/secrets/{secret}", r#"{"value": "a value"}"#, Own),
    ("delete", "/api/v1/secrets/{secret}", "", Own),
    ("get", "/api/v1/projects/{project}/secrets", "", NotFound),
    ("put", "/api/v1/projects/{project}/secrets/{secret}", r#"{"value": "a value"}"#, NotFound),
    ("delete", "/api/v1/projects/{project}/secrets/{secret}", "", NotFound),
    ("post", "/api/v1/webhooks", r#"{"url": "https://receiver.example/"}"#, Own),
    ("get", "/api/v1/webhooks", "", Own),
    ("patch", "/api/v1/webhooks/{webhook}", "{}", NotFound),
    ("get", "/api/v1/webhooks/{webhook}/deliveries", "", NotFound),
    ("get", "/api/v1/webhooks/{webhook}/deliveries/{delivery}", "", NotFound),
    ("post", "/api/v1/webhooks/{webhook}/deliveries/{delivery}/repeat", "", NotFound),
    ("delete", "/api/v1/webhooks/{webhook}", "", NotFound),
    ("get", "/api/v1/members", "", Own),
    ("patch", "/api/v1/members/{user}", r#"{"role": "viewer"}"#, NotFound),
    ("delete", "/api/v1/members/{user}", "", NotFound),
    ("post", "/api/v1/invitations", r#"{"email": "a@b.example", "role": "viewer"}"#, Own),
    ("get", "/api/v1/invitations", "", Own),
    ("delete", "/api/v1/invitations/{invitation}", "", NotFound),
    ("get", "/api/v1/join/{token}", "", Entrance(404)),
    ("post", "/api/v1/join/{token}", "{}", Entrance(404)),
    ("get", "/api/v1/audit", "", Own),
    ("get", "/api/v1/audit/export", "", Own),
    ("get", "/api/v1/fleet/jobs", "", Forbidden),
    ("post", "/api/v1/fleet/jobs/bulk", r#"{"action": "retry", "ids": []}"#, Forbidden),
    ("get", "/api/v1/fleet/jobs/{job}", "", Forbidden),
    ("post", "/api/v1/fleet/jobs/{job}/retry", "", Forbidden),
    ("post", "/api/v1/fleet/jobs/{job}/discard", "", Forbidden),
    ("post", "/api/v1/fleet/jobs/{job}/cancel", "", Forbidden),
    ("get", "/api/v1/fleet/queues", "", Forbidden),
    ("post", "/api/v1/fleet/queues/{queue}/pause", "{}", Forbidden),
    ("post", "/api/v1/fleet/queues/{queue}/resume", "", Forbidden),
    ("get", "/api/v1/fleet/workers", "", Forbidden),
    ("post", "/api/projects/{project}/pipelines", "{}", NotFound),
    ("get", "/api/projects/{project}/pipelines", "", NotFound),
    ("get", "/api/projects/{project}/pipelines/{run}", "", NotFound),
    ("post", "/api/projects/{project}/pipelines/{run}/cancel", "", NotFound),
    ("post", "/api/projects/{project}/pipelines/{run}/retry", "", NotFound),
    ("post", "/api/projects/{project}/pipelines/{run}/rerun", "", NotFound),
    ("get", "/api/projects/{project}/pipelines/{run}/steps/{step}/logs", "", NotFound),
    ("get", "/api/projects/{project}/pipelines/{run}/artifacts", "", NotFound),
    ("post", "/api/v1/pipelines/{pipeline}/runs", r#"{"branch": "main"}"#, NotFound),
    ("get", "/api/v1/pipelines/{pipeline}/runs", "", NotFound),
];

const DELIVERY: &str = r#"{"delivery": "0190b7a0-0000-7000-8000-000000000000", "ref": "refs/heads/main",
    "before": "0000000000000000000000000000000000000000", "after": "1111111111111111111111111111111111111111"}"#;

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
            ("webhook", webhook["id"].as_str().unwrap().to_owned()),
            ("delivery", at.run.to_string()),
            ("session", at.run.to_string()),
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
    for (method, path, body, stranger) in ROUTES {
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
    for (method, path, body, stranger) in ROUTES {
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
    for (method, path, body, _) in ROUTES {
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

#[tokio::test]
async fn a_key_bound_to_a_project_sees_no_other() {
    let api = Api::start().await;
    let other = Filled::new(&api).await;
    let bound = api.project("bound").await;
    let key = api.key_for(api.organization, &Permission::ALL, Some(bound.parse().unwrap())).await;
    for (method, path, body, stranger) in ROUTES {
        if *stranger != NotFound || path.contains("{key}") {
            continue;
        }
        let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
        let request = api.anonymous(method.clone(), &other.path(path)).bearer_auth(&key);
        // These are about the organization, whichever project it is.
        let of_organization = (method == Method::DELETE && path.ends_with("{project}"))
            || ["{user}", "{invitation}", "{webhook}"].iter().any(|field| path.contains(field));
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
