//! What members are on single projects. Who may do what by a grant is in `borders`.

use buildit_shared::{ids::UserId, permission::Role};
use buildit_tests::api::{Api, answer};
use reqwest::{Method, header};
use serde_json::{Value, json};

async fn grant(api: &Api, project: &str, user: UserId, role: &str) -> (u16, Value) {
    let path = format!("/api/v1/projects/{project}/grants/{user}");
    answer(api.request(Method::PUT, &path).json(&json!({ "role": role }))).await
}

async fn trigger(api: &Api, cookie: &str, project: &str) -> u16 {
    let path = format!("/api/v1/projects/{project}/runs");
    answer(api.as_person(Method::POST, &path, cookie).json(&json!({ "ref": "main" }))).await.0
}

#[tokio::test]
async fn a_viewer_with_a_grant_triggers_that_project_until_it_is_taken_away() {
    let api = Api::start().await;
    api.project("web").await;
    api.project("other").await;
    let ada = api.account("ada@acme.example", Some(Role::Viewer)).await;
    let cookie = api.session(ada).await;
    assert_eq!(trigger(&api, &cookie, "web").await, 403);
    let (status, given) = grant(&api, "web", ada, "developer").await;
    assert_eq!((status, &given["role"], &given["organization_role"]), (200, &json!("developer"), &json!("viewer")));
    assert_eq!((trigger(&api, &cookie, "web").await, trigger(&api, &cookie, "other").await), (201, 403));
    let (_, listed) = api.get("/api/v1/projects/web/grants").await;
    assert_eq!(listed["items"], json!([given]));

    let path = format!("/api/v1/projects/web/grants/{ada}");
    assert_eq!(answer(api.request(Method::DELETE, &path)).await.0, 204);
    assert_eq!(trigger(&api, &cookie, "web").await, 403);
    assert_eq!(answer(api.request(Method::DELETE, &path)).await.0, 404);

    let (_, log) = api.get("/api/v1/audit?action=grant.").await;
    let actions: Vec<_> = log["items"].as_array().unwrap().iter().map(|entry| entry["action"].clone()).collect();
    assert_eq!(actions, ["grant.deleted", "grant.created"]);
    assert_eq!(log["items"][1]["subject"], "ada@acme.example");
    assert_eq!(log["items"][1]["after"], json!({ "role": "developer" }));
}

#[tokio::test]
async fn a_grant_goes_with_the_membership_and_with_the_project() {
    let api = Api::start().await;
    api.project("web").await;
    let ada = api.account("ada@acme.example", Some(Role::Viewer)).await;
    let cookie = api.session(ada).await;
    grant(&api, "web", ada, "admin").await;
    assert_eq!(answer(api.request(Method::DELETE, &format!("/api/v1/members/{ada}"))).await.0, 204);
    api.account("ada@acme.example", Some(Role::Viewer)).await;
    assert_eq!(trigger(&api, &cookie, "web").await, 403, "who comes back has nothing left of before");
    grant(&api, "web", ada, "developer").await;
    assert_eq!(answer(api.request(Method::DELETE, "/api/v1/projects/web")).await.0, 204);
    api.project("web").await;
    assert_eq!(trigger(&api, &cookie, "web").await, 403, "another project of the same name");
}

#[tokio::test]
async fn only_members_get_grants_and_those_who_may_everything_need_none() {
    let api = Api::start().await;
    api.project("web").await;
    let stranger = api.account("eve@home.example", None).await;
    assert_eq!(grant(&api, "web", stranger, "developer").await.0, 404);
    let viewer = api.account("ada@acme.example", Some(Role::Viewer)).await;
    assert_eq!(grant(&api, "web", viewer, "owner").await.0, 422);
    assert_eq!(grant(&api, "none", viewer, "viewer").await.0, 404);
    for role in [Role::Owner, Role::Admin] {
        let admin = api.account(&format!("{}@acme.example", role.name()), Some(role)).await;
        let (status, said) = grant(&api, "web", admin, "viewer").await;
        assert_eq!((status, &said["error"]["code"]), (409, &json!("is_admin")));
    }
    // A grant of less from before counts no more.
    grant(&api, "web", viewer, "viewer").await;
    let member = format!("/api/v1/members/{viewer}");
    assert_eq!(answer(api.request(Method::PATCH, &member).json(&json!({ "role": "admin" }))).await.0, 200);
    assert_eq!(trigger(&api, &api.session(viewer).await, "web").await, 201);
}

#[tokio::test]
async fn ones_own_key_may_no_more_than_a_grant_of_less_and_no_more_than_ones_role() {
    let api = Api::start().await;
    api.project("web").await;
    api.project("other").await;
    let ada = api.account("ada@acme.example", Some(Role::Developer)).await;
    let cookie = api.session(ada).await;
    let body = json!({ "name": "laptop", "permissions": ["project:read", "run:trigger"] });
    let (status, made) = answer(api.as_person(Method::POST, "/api/v1/me/api-keys", &cookie).json(&body)).await;
    assert_eq!(status, 201, "{made}");
    let trigger = async |project: &str| {
        let path = format!("/api/v1/projects/{project}/runs");
        let request = api.anonymous(Method::POST, &path).bearer_auth(made["token"].as_str().unwrap());
        answer(request.json(&json!({ "ref": "main" }))).await.0
    };
    grant(&api, "web", ada, "viewer").await;
    assert_eq!((trigger("web").await, trigger("other").await), (403, 201));
    grant(&api, "web", ada, "developer").await;
    assert_eq!(trigger("web").await, 201);
    let member = format!("/api/v1/members/{ada}");
    assert_eq!(answer(api.request(Method::PATCH, &member).json(&json!({ "role": "viewer" }))).await.0, 200);
    assert_eq!(trigger("web").await, 403, "a grant gives keys nothing");
}

#[tokio::test]
async fn the_pages_show_what_a_grant_opens() {
    let api = Api::start().await;
    api.project("web").await;
    api.project("other").await;
    let ada = api.account("ada@acme.example", Some(Role::Viewer)).await;
    let cookie = api.session(ada).await;
    grant(&api, "web", ada, "developer").await;
    let page = async |path: &str| {
        let request = api.as_person(Method::GET, path, &cookie).header(header::ACCEPT, "text/html");
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    assert!(page("/projects/web/pipelines/default").await.1.contains("Run now"));
    assert!(!page("/projects/other/pipelines/default").await.1.contains("Run now"));
    assert_eq!(page("/projects/web/access").await.0, 403, "the organization's admins decide about grants");
}
