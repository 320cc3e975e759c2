//! Members, their roles, invitations, and their own keys.

use buildit_shared::permission::Role;
use buildit_tests::api::{Api, PASSWORD, answer};
use reqwest::{Method, header};
use serde_json::{Value, json};

/// Invites somebody and returns the path that the link's page asks.
async fn invite(api: &Api, email: &str, role: &str) -> String {
    let (status, invited) = api.post("/api/v1/invitations", json!({ "email": email, "role": role })).await;
    assert_eq!(status, 201, "{invited}");
    let link = invited["url"].as_str().unwrap();
    let token = link.strip_prefix(&format!("{}/join/", api.url)).unwrap();
    format!("/api/v1/join/{token}")
}

async fn members(api: &Api) -> Vec<Value> {
    api.get("/api/v1/members").await.1["items"].as_array().unwrap().clone()
}

#[tokio::test]
async fn an_invited_person_makes_an_account_and_is_in() {
    let api = Api::start().await;
    let path = invite(&api, "Ada@home.example", "developer").await;
    let (_, offer) = answer(api.anonymous(Method::GET, &path)).await;
    assert_eq!((&offer["organization"], &offer["email"]), (&json!("acme"), &json!("ada@home.example")));
    assert_eq!((&offer["role"], &offer["has_account"]), (&json!("developer"), &json!(false)));
    assert_eq!(answer(api.anonymous(Method::POST, &path).json(&json!({}))).await.0, 422, "a password is needed");
    let accept = api.anonymous(Method::POST, &path).json(&json!({ "name": "Ada", "password": PASSWORD }));
    let accepted = accept.send().await.unwrap();
    assert_eq!(accepted.status(), 204);
    let cookie = accepted.headers()[header::SET_COOKIE].to_str().unwrap().split(';').next().unwrap().to_owned();
    let (_, me) = answer(api.as_person(Method::GET, "/api/v1/me", &cookie)).await;
    assert_eq!((&me["user"]["name"], &me["organizations"][0]["role"]), (&json!("Ada"), &json!("developer")));
    assert_eq!(answer(api.anonymous(Method::GET, &path)).await.0, 404, "it serves once");
    assert_eq!(members(&api).await[0]["email"], "ada@home.example");
}

#[tokio::test]
async fn who_has_an_account_joins_with_it_and_nobody_joins_as_another() {
    let api = Api::start().await;
    let ada = api.signed_in("ada@acme.example", Role::Viewer).await;
    let eve = api.signed_in("eve@acme.example", Role::Viewer).await;
    let path = invite(&api, "ada@acme.example", "admin").await;
    let (_, offer) = answer(api.anonymous(Method::GET, &path)).await;
    assert_eq!(offer["has_account"], true);
    let body = json!({ "password": "a stolen account" });
    assert_eq!(answer(api.anonymous(Method::POST, &path).json(&body)).await.0, 401, "a link sets no password anew");
    assert_eq!(answer(api.as_person(Method::POST, &path, &eve).json(&json!({}))).await.0, 403);
    assert_eq!(answer(api.as_person(Method::POST, &path, &ada).json(&json!({}))).await.0, 204);
    let (_, me) = answer(api.as_person(Method::GET, "/api/v1/me", &ada)).await;
    assert_eq!(me["organizations"][0]["role"], "admin");
}

#[tokio::test]
async fn an_invitation_is_withdrawn_replaced_or_too_old() {
    let api = Api::start().await;
    let status = async |path: &str| answer(api.anonymous(Method::GET, path)).await.0;
    let (old, new) = (invite(&api, "a@b.example", "viewer").await, invite(&api, "a@b.example", "viewer").await);
    assert_eq!((status(&old).await, status(&new).await), (404, 200));
    let (_, open) = api.get("/api/v1/invitations").await;
    assert_eq!(open["items"].as_array().unwrap().len(), 1, "{open}");
    assert!(!open.to_string().contains("bii_"));
    let withdraw = format!("/api/v1/invitations/{}", open["items"][0]["id"].as_str().unwrap());
    assert_eq!(answer(api.request(Method::DELETE, &withdraw)).await.0, 204);
    assert_eq!(status(&new).await, 404);
    let path = invite(&api, "a@b.example", "viewer").await;
    sqlx::query("update invitations set expires_at = now()").execute(&api.database.pool).await.unwrap();
    assert_eq!(status(&path).await, 404);
    for wrong in ["", "nobody", "@b.example", "a b@c.example"] {
        let body = json!({ "email": wrong, "role": "viewer" });
        assert_eq!(api.post("/api/v1/invitations", body).await.0, 422, "{wrong:?}");
    }
}

#[tokio::test]
async fn only_owners_make_owners_and_the_last_one_stays() {
    let api = Api::start().await;
    let owner = api.signed_in("owner@acme.example", Role::Owner).await;
    let admin = api.signed_in("admin@acme.example", Role::Admin).await;
    let found = members(&api).await;
    let path = |email: &str| {
        let member = found.iter().find(|member| member["email"] == email).unwrap();
        format!("/api/v1/members/{}", member["id"].as_str().unwrap())
    };
    let (owners, admins) = (path("owner@acme.example"), path("admin@acme.example"));
    let change = async |cookie: &str, path: &str, role: &str| {
        answer(api.as_person(Method::PATCH, path, cookie).json(&json!({ "role": role }))).await.0
    };
    assert_eq!(change(&admin, &admins, "owner").await, 403);
    assert_eq!(change(&admin, &owners, "viewer").await, 403);
    assert_eq!(answer(api.as_person(Method::DELETE, &owners, &admin)).await.0, 403);
    assert_eq!(answer(api.request(Method::DELETE, &owners)).await.0, 403, "a key is no owner");
    let body = json!({ "email": "more@acme.example", "role": "owner" });
    assert_eq!(answer(api.as_person(Method::POST, "/api/v1/invitations", &admin).json(&body)).await.0, 403);
    assert_eq!(change(&owner, &owners, "viewer").await, 409, "the only owner");
    assert_eq!(change(&owner, &admins, "owner").await, 200);
    assert_eq!(change(&owner, &owners, "viewer").await, 200);
    assert_eq!(answer(api.as_person(Method::GET, "/api/v1/members", &owner)).await.0, 403, "at once");
    assert_eq!(answer(api.as_person(Method::DELETE, &owners, &admin)).await.0, 204);
    assert_eq!(members(&api).await.len(), 1);
}

#[tokio::test]
async fn two_owners_who_demote_each_other_at_the_same_time_leave_one() {
    let api = Api::start().await;
    let one = api.signed_in("one@acme.example", Role::Owner).await;
    let two = api.signed_in("two@acme.example", Role::Owner).await;
    let found = members(&api).await;
    let demote = |cookie: &str, email: &str| {
        let member = found.iter().find(|member| member["email"] == email).unwrap();
        let path = format!("/api/v1/members/{}", member["id"].as_str().unwrap());
        answer(api.as_person(Method::PATCH, &path, cookie).json(&json!({ "role": "viewer" })))
    };
    tokio::join!(demote(&one, "two@acme.example"), demote(&two, "one@acme.example"));
    assert!(members(&api).await.iter().any(|member| member["role"] == "owner"));
}

#[tokio::test]
async fn a_members_own_key_may_what_they_may_and_goes_with_them() {
    let api = Api::start().await;
    let cookie = api.signed_in("ada@acme.example", Role::Developer).await;
    let make = async |permissions: &[&str]| {
        let body = json!({ "name": "laptop", "permissions": permissions });
        answer(api.as_person(Method::POST, "/api/v1/me/api-keys", &cookie).json(&body)).await
    };
    assert_eq!(make(&["org:admin"]).await.0, 403);
    let (status, made) = make(&["project:read", "project:write"]).await;
    assert_eq!(status, 201, "{made}");
    let token = made["token"].as_str().unwrap();
    let create = async |name: &str| {
        let body = json!({ "name": name, "repository": "https://git.example/a" });
        answer(api.anonymous(Method::POST, "/api/v1/projects").bearer_auth(token).json(&body)).await.0
    };
    assert_eq!(create("one").await, 201);
    let (_, own) = answer(api.as_person(Method::GET, "/api/v1/me/api-keys", &cookie)).await;
    assert_eq!(own["items"].as_array().unwrap().len(), 1, "the organization's are not theirs: {own}");
    let user = own["items"][0]["user_id"].as_str().unwrap();
    let member = format!("/api/v1/members/{user}");
    assert_eq!(answer(api.request(Method::PATCH, &member).json(&json!({ "role": "viewer" }))).await.0, 200);
    assert_eq!(create("two").await, 403, "no more than its owner");
    assert_eq!(answer(api.request(Method::DELETE, &member)).await.0, 204);
    assert_eq!(create("three").await, 401, "no member, no key");
}

#[tokio::test]
async fn one_revokes_ones_own_keys_and_no_others() {
    let api = Api::start().await;
    let cookie = api.signed_in("ada@acme.example", Role::Developer).await;
    let eve = api.signed_in("eve@acme.example", Role::Developer).await;
    let body = json!({ "name": "laptop", "permissions": ["project:read"] });
    let (_, made) = answer(api.as_person(Method::POST, "/api/v1/me/api-keys", &cookie).json(&body)).await;
    let path = format!("/api/v1/me/api-keys/{}", made["id"].as_str().unwrap());
    assert_eq!(answer(api.as_person(Method::DELETE, &path, &eve)).await.0, 404);
    assert_eq!(answer(api.as_person(Method::DELETE, &path, &cookie)).await.0, 204);
    let read = api.anonymous(Method::GET, "/api/v1/projects").bearer_auth(made["token"].as_str().unwrap());
    assert_eq!(answer(read).await.0, 401);
}
