//! People: signing in and out, first passwords, and what other sites cannot do in their name.

use buildit_shared::{
    db::{organizations, users, welcome_links},
    ids::UserId,
    permission::Role,
};
use buildit_tests::api::{Api, PASSWORD, answer};
use reqwest::{Method, RequestBuilder, header};
use serde_json::{Value, json};

#[tokio::test]
async fn a_link_serves_once_to_choose_a_password_and_signs_in() {
    let api = Api::start().await;
    let ada = api.account("ada@acme.example", Some(Role::Developer)).await;
    let token = link(&api, ada).await;
    let path = format!("/api/v1/welcome/{token}");
    let (status, whom) = answer(api.anonymous(Method::GET, &path)).await;
    assert_eq!((status, whom), (200, json!({ "email": "ada@acme.example", "name": "ada" })));
    let choose = async |password: &str| {
        api.anonymous(Method::POST, &path).json(&json!({ "password": password })).send().await.unwrap()
    };
    assert_eq!(choose("short").await.status(), 422, "and the link still serves");
    let chosen = choose(PASSWORD).await;
    assert_eq!(chosen.status(), 204);
    let set = chosen.headers()[header::SET_COOKIE].to_str().unwrap().to_owned();
    assert!(set.starts_with("buildit_session=bis_") && set.contains("; HttpOnly; SameSite=Lax; "), "{set}");
    let cookie = set.split(';').next().unwrap();
    let (status, me) = answer(api.anonymous(Method::GET, "/api/v1/me").header(header::COOKIE, cookie)).await;
    assert_eq!((status, &me["user"]["email"]), (200, &json!("ada@acme.example")), "{me}");
    assert_eq!(me["organizations"], json!([{ "id": api.organization.uuid(), "name": "acme", "role": "developer" }]));
    assert_eq!(me["permissions"], json!(["project:read", "project:write", "run:trigger", "deploy:read"]));
    assert_eq!(choose("another password").await.status(), 404, "it has been used");
    for stored in ["users", "sessions", "welcome_links"] {
        let sql = format!("select count(*) from {stored} t where t::text like any ($1)");
        let needles = [PASSWORD, &token, cookie.trim_start_matches("buildit_session=")].map(|text| format!("%{text}%"));
        let found: (i64,) =
            sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(&needles[..]).fetch_one(&api.database.pool).await.unwrap();
        assert_eq!(found.0, 0, "{stored} holds a secret in the clear");
    }
}

#[tokio::test]
async fn a_newer_link_takes_the_place_of_an_older_one_and_none_serves_for_longer_than_a_day() {
    let api = Api::start().await;
    let ada = api.account("ada@acme.example", None).await;
    let status = async |token: &str| answer(api.anonymous(Method::GET, &format!("/api/v1/welcome/{token}"))).await.0;
    let (old, new) = (link(&api, ada).await, link(&api, ada).await);
    assert_eq!((status(&old).await, status(&new).await), (404, 200));
    sqlx::query("update welcome_links set expires_at = now()").execute(&api.database.pool).await.unwrap();
    assert_eq!(status(&new).await, 404);
}

#[tokio::test]
async fn an_account_and_a_password_open_a_session_until_it_is_ended() {
    let api = Api::start().await;
    let cookie = api.signed_in("ada@acme.example", Role::Viewer).await;
    let (status, sessions) = answer(api.as_person(Method::GET, "/api/v1/sessions", &cookie)).await;
    assert_eq!(status, 200, "{sessions}");
    let session = &sessions["items"][0];
    assert_eq!((&session["current"], &session["address"]), (&json!(true), &json!("127.0.0.1")));
    assert_eq!(answer(api.as_person(Method::GET, "/api/v1/projects", &cookie)).await.0, 200);
    let out = api.as_person(Method::DELETE, "/api/v1/session", &cookie).send().await.unwrap();
    assert_eq!(out.status(), 204);
    assert!(out.headers()[header::SET_COOKIE].to_str().unwrap().contains("Max-Age=0"));
    let (status, said) = answer(api.as_person(Method::GET, "/api/v1/me", &cookie)).await;
    assert_eq!((status, &said["error"]["code"]), (401, &json!("unauthenticated")));
}

#[tokio::test]
async fn one_ends_ones_own_sessions_and_nobody_elses() {
    let api = Api::start().await;
    let (one, two) = (api.signed_in("ada@acme.example", Role::Viewer).await, api.sign_in("ada@acme.example").await);
    let (_, sessions) = answer(api.as_person(Method::GET, "/api/v1/sessions", &one)).await;
    let other = sessions["items"].as_array().unwrap().iter().find(|session| session["current"] == false).unwrap();
    let path = format!("/api/v1/sessions/{}", other["id"].as_str().unwrap());
    let stranger = api.signed_in("eve@acme.example", Role::Owner).await;
    assert_eq!(answer(api.as_person(Method::DELETE, &path, &stranger)).await.0, 404);
    assert_eq!(answer(api.as_person(Method::DELETE, &path, &one)).await.0, 204);
    assert_eq!(answer(api.as_person(Method::GET, "/api/v1/me", &two)).await.0, 401);
    assert_eq!(answer(api.as_person(Method::GET, "/api/v1/me", &one)).await.0, 200);
}

#[tokio::test]
async fn a_session_ends_after_a_month_or_a_week_without_use() {
    let api = Api::start().await;
    let cookie = api.signed_in("ada@acme.example", Role::Viewer).await;
    let status = async || answer(api.as_person(Method::GET, "/api/v1/me", &cookie)).await.0;
    for (change, expected) in [
        ("last_used_at = now() - interval '6 days'", 200),
        ("last_used_at = now() - interval '8 days'", 401),
        ("last_used_at = now(), expires_at = now()", 401),
    ] {
        let sql = format!("update sessions set {change}");
        sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&api.database.pool).await.unwrap();
        assert_eq!(status().await, expected, "{change}");
    }
}

#[tokio::test]
async fn who_does_not_know_the_password_learns_nothing_about_the_account() {
    let api = Api::start().await;
    api.signed_in("ada@acme.example", Role::Viewer).await;
    api.account("new@acme.example", Some(Role::Viewer)).await;
    let mut answers = Vec::new();
    for email in ["ada@acme.example", "new@acme.example", "nobody@acme.example", "", "a\u{0}b"] {
        let (status, said) = answer(credentials(&api, email, "a wrong password")).await;
        if email.contains('\0') {
            assert_eq!(status, 422, "no text has such a character");
        } else {
            answers.push((status, said));
        }
    }
    assert_eq!(answers[0].0, 401);
    assert_eq!(answers[0].1["error"]["code"], "wrong_credentials");
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    assert_eq!(answer(credentials(&api, "ADA@acme.example", PASSWORD)).await.0, 204, "an address has no case");
}

#[tokio::test]
async fn passwords_cannot_be_tried_for_long() {
    let api = Api::start().await;
    api.signed_in("ada@acme.example", Role::Viewer).await;
    for _ in 0..10 {
        assert_eq!(answer(credentials(&api, "ada@acme.example", "a wrong password")).await.0, 401);
    }
    let refused = credentials(&api, "ada@acme.example", PASSWORD).send().await.unwrap();
    assert_eq!((refused.status().as_u16(), &refused.headers()[header::RETRY_AFTER]), (429, &"900".parse().unwrap()));
    api.signed_in("eve@acme.example", Role::Viewer).await;
    sqlx::query("update sign_in_failures set since = since - interval '16 minutes'")
        .execute(&api.database.pool)
        .await
        .unwrap();
    assert_eq!(answer(credentials(&api, "ada@acme.example", PASSWORD)).await.0, 204);
}

#[tokio::test]
async fn a_changed_password_ends_the_other_sessions() {
    let api = Api::start().await;
    let (one, two) = (api.signed_in("ada@acme.example", Role::Viewer).await, api.sign_in("ada@acme.example").await);
    let change = async |current: &str, new: &str| {
        let body = json!({ "current": current, "new": new });
        answer(api.as_person(Method::POST, "/api/v1/me/password", &one).json(&body)).await.0
    };
    assert_eq!(change("a wrong password", "another password").await, 401);
    assert_eq!(change(PASSWORD, "ada@acme.example").await, 422);
    assert_eq!(change(PASSWORD, "another password").await, 204);
    assert_eq!(answer(api.as_person(Method::GET, "/api/v1/me", &one)).await.0, 200);
    assert_eq!(answer(api.as_person(Method::GET, "/api/v1/me", &two)).await.0, 401);
    assert_eq!(answer(credentials(&api, "ada@acme.example", PASSWORD)).await.0, 401);
    assert_eq!(answer(credentials(&api, "ada@acme.example", "another password")).await.0, 204);
}

#[tokio::test]
async fn another_site_can_have_a_browser_do_nothing() {
    let api = Api::start().await;
    let cookie = api.signed_in("ada@acme.example", Role::Owner).await;
    let create = |name: &str| {
        let body = json!({ "name": name, "repository": "https://git.example/a" });
        api.anonymous(Method::POST, "/api/v1/projects").header(header::COOKIE, &cookie).json(&body)
    };
    let refused = [
        create("a"),
        create("a").header("sec-fetch-site", "cross-site"),
        create("a").header("sec-fetch-site", "same-site").header(header::ORIGIN, &api.url),
        create("a").header(header::ORIGIN, "https://evil.example"),
        create("a").header(header::ORIGIN, "null"),
    ];
    for request in refused {
        let (status, said) = answer(request).await;
        assert_eq!((status, &said["error"]["code"]), (403, &json!("cross_site")), "{said}");
    }
    assert_eq!(answer(create("a").header("sec-fetch-site", "same-origin")).await.0, 201);
    assert_eq!(answer(create("b").header(header::ORIGIN, &api.url)).await.0, 201);
    let sign_in = credentials(&api, "ada@acme.example", PASSWORD).header("sec-fetch-site", "cross-site");
    assert_eq!(answer(sign_in).await.0, 403);
}

#[tokio::test]
async fn a_person_sees_one_organization_at_a_time_and_only_their_own() {
    let api = Api::start().await;
    let (other, key) = api.stranger().await;
    let cookie = api.signed_in("ada@acme.example", Role::Viewer).await;
    let body = json!({ "name": "theirs", "repository": "https://git.example/a" });
    answer(api.anonymous(Method::POST, "/api/v1/projects").bearer_auth(&key).json(&body)).await;
    api.project("ours").await;
    let names = async || {
        let (_, page) = answer(api.as_person(Method::GET, "/api/v1/projects", &cookie)).await;
        page["items"].as_array().unwrap().iter().map(|project| project["name"].clone()).collect::<Vec<_>>()
    };
    let switch = async |to: &str| {
        answer(api.as_person(Method::PATCH, "/api/v1/session", &cookie).json(&json!({ "organization": to }))).await.0
    };
    assert_eq!(names().await, ["ours"]);
    assert_eq!(switch("strangers").await, 404);
    let mut db = api.database.pool.acquire().await.unwrap();
    let ada = users::ensure(&mut *db, "ada@acme.example", "").await.unwrap();
    organizations::ensure_member(&mut *db, other, ada, Role::Admin).await.unwrap();
    assert_eq!(switch("strangers").await, 204);
    assert_eq!(names().await, ["theirs"]);
    assert_eq!(switch(&api.organization.to_string()).await, 204);
    assert_eq!(names().await, ["ours"]);
    sqlx::query("delete from org_memberships where organization_id = $1")
        .bind(api.organization)
        .execute(&mut *db)
        .await
        .unwrap();
    assert_eq!(names().await, ["theirs"], "what is left to see");
    sqlx::query("delete from org_memberships").execute(&mut *db).await.unwrap();
    let (status, said) = answer(api.as_person(Method::GET, "/api/v1/projects", &cookie)).await;
    assert_eq!((status, &said["error"]["code"]), (403, &json!("no_organization")));
    assert_eq!(answer(api.as_person(Method::GET, "/api/v1/me", &cookie)).await.1["organization"], Value::Null);
}

#[tokio::test]
async fn only_an_operator_sees_the_fleet_whatever_the_role() {
    let api = Api::start().await;
    let cookie = api.signed_in("ada@acme.example", Role::Owner).await;
    let status = async || answer(api.as_person(Method::GET, "/api/v1/fleet/queues", &cookie)).await.0;
    assert_eq!(status().await, 403);
    let ada = users::ensure(&api.database.pool, "ada@acme.example", "").await.unwrap();
    users::make_operator(&api.database.pool, ada).await.unwrap();
    assert_eq!(status().await, 200);
}

async fn link(api: &Api, user: UserId) -> String {
    let mut db = api.database.pool.acquire().await.unwrap();
    welcome_links::create(&mut db, user).await.unwrap()
}

fn credentials(api: &Api, email: &str, password: &str) -> RequestBuilder {
    api.anonymous(Method::POST, "/api/v1/session").json(&json!({ "email": email, "password": password }))
}
