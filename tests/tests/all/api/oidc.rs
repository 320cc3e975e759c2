//! Signing in by a provider of OpenID Connect that says what no real one would. A real one is in the tests of the cluster.

use buildit_api::{Newcomers, OidcSettings};
use buildit_shared::permission::Role;
use buildit_tests::{
    api::{Api, PASSWORD, answer},
    provider::{CLIENT_SECRET, Key, Provider},
};
use reqwest::{Method, StatusCode, header};
use serde_json::{Value, json};

/// A browser in the middle of a sign-in.
struct Begun {
    /// Its cookie.
    cookie: String,
    /// Where the provider sends it back to.
    back: String,
}

/// How a sign-in ended.
#[derive(Debug)]
struct Ended {
    status: u16,
    /// Where it led to.
    location: Option<String>,
    /// The cookie of the session, where somebody was signed in.
    session: Option<String>,
    page: String,
}

async fn started() -> (Api, Provider) {
    started_with(|_| ()).await
}

async fn started_with(change: impl FnOnce(&mut OidcSettings)) -> (Api, Provider) {
    let provider = Provider::start().await;
    let mut settings = provider.settings();
    change(&mut settings);
    (Api::with_oidc(settings).await, provider)
}

fn cookie(answer: &reqwest::Response, name: &str) -> Option<String> {
    let cookies = answer.headers().get_all(header::SET_COOKIE).iter().map(|cookie| cookie.to_str().unwrap());
    let found = cookies.filter_map(|cookie| cookie.split(';').next()).find(|cookie| cookie.starts_with(name));
    found.filter(|cookie| !cookie.ends_with('=')).map(str::to_owned)
}

fn location(answer: &reqwest::Response) -> Option<String> {
    answer.headers().get(header::LOCATION).map(|location| location.to_str().unwrap().to_owned())
}

/// Begins a sign-in and goes to the provider, which lets everybody in.
async fn begin(api: &Api, next: &str) -> Begun {
    let answer = api.anonymous(Method::GET, &format!("/login/oidc?next={next}")).send().await.unwrap();
    assert_eq!(answer.status(), 303, "{}", answer.text().await.unwrap());
    let cookie = cookie(&answer, "buildit_sign_in=").unwrap();
    let answer = api.anonymous(Method::GET, &location(&answer).unwrap()).send().await.unwrap();
    assert_eq!(answer.status(), 303, "{}", answer.text().await.unwrap());
    Begun { cookie, back: location(&answer).unwrap() }
}

async fn finish(api: &Api, cookie_sent: &str, back: &str) -> Ended {
    let request = api.anonymous(Method::GET, back).header(header::COOKIE, cookie_sent);
    let answer = request.send().await.unwrap();
    let (status, location, session) = (answer.status(), location(&answer), cookie(&answer, "buildit_session="));
    Ended { status: status.as_u16(), location, session, page: answer.text().await.unwrap() }
}

async fn sign_in(api: &Api) -> Ended {
    let begun = begin(api, "/").await;
    finish(api, &begun.cookie, &begun.back).await
}

/// Nobody is signed in, and the page says this.
#[track_caller]
fn refused(ended: &Ended, status: u16, said: &str) {
    assert!(ended.status == status && ended.session.is_none() && ended.page.contains(said), "{ended:?}");
    assert!(!ended.page.contains(CLIENT_SECRET));
}

async fn me(api: &Api, ended: &Ended) -> Value {
    answer(api.as_person(Method::GET, "/api/v1/me", ended.session.as_ref().unwrap())).await.1
}

async fn actions(api: &Api) -> Vec<Value> {
    let (_, log) = api.get("/api/v1/audit").await;
    log["items"].as_array().unwrap().iter().map(|entry| entry["action"].clone()).collect()
}

#[tokio::test]
async fn somebody_with_an_account_signs_in_and_is_linked_once() {
    let (api, provider) = started().await;
    api.account("ada@acme.example", Some(Role::Developer)).await;
    let begun = begin(&api, "/projects/web?a=b").await;
    let ended = finish(&api, &begun.cookie, &begun.back).await;
    assert_eq!((ended.status, ended.location.as_deref()), (303, Some("/projects/web?a=b")), "{}", ended.page);
    assert_eq!(me(&api, &ended).await["user"]["email"], "ada@acme.example");
    assert_eq!(actions(&api).await, ["session.opened", "identity.linked"]);
    // From now on the subject counts, whatever becomes of the address.
    provider.says(|says| says.claims = json!({ "sub": "ada-1", "email": "countess@acme.example" }));
    assert_eq!(me(&api, &sign_in(&api).await).await["user"]["email"], "ada@acme.example");
    assert_eq!(actions(&api).await, ["session.opened", "session.opened", "identity.linked"]);
    let (_, log) = api.get("/api/v1/audit?action=session.").await;
    assert_eq!(log["items"][0]["after"]["issuer"], provider.issuer);
}

#[tokio::test]
async fn an_answer_counts_once_and_in_the_browser_that_asked() {
    let (api, _provider) = started().await;
    api.account("ada@acme.example", Some(Role::Developer)).await;
    let (one, two) = (begin(&api, "/").await, begin(&api, "/").await);
    refused(&finish(&api, "", &one.back).await, 400, "begin again");
    refused(&finish(&api, &two.cookie, &one.back).await, 400, "begin again");
    let forged = one.back.replace("state=", "state=a");
    refused(&finish(&api, &one.cookie, &forged).await, 400, "begin again");
    assert_eq!(finish(&api, &one.cookie, &one.back).await.status, 303, "none of that has ended it");
    refused(&finish(&api, &one.cookie, &one.back).await, 400, "begin again");
    sqlx::query("update provider_sign_ins set expires_at = now()").execute(&api.database.pool).await.unwrap();
    refused(&finish(&api, &two.cookie, &two.back).await, 400, "too long ago");
}

#[tokio::test]
async fn a_code_of_another_sign_in_serves_nobody() {
    let (api, _provider) = started().await;
    api.account("ada@acme.example", Some(Role::Developer)).await;
    let (one, two) = (begin(&api, "/").await, begin(&api, "/").await);
    let code = |back: &str| back.split(['?', '&']).find(|part| part.starts_with("code=")).unwrap().to_owned();
    let mixed = two.back.replace(&code(&two.back), &code(&one.back));
    refused(&finish(&api, &two.cookie, &mixed).await, 502, "failed");
}

#[tokio::test]
async fn a_token_that_proves_nothing_signs_nobody_in() {
    let (api, provider) = started().await;
    api.account("ada@acme.example", Some(Role::Developer)).await;
    let right = json!({ "sub": "ada-1", "email": "ada@acme.example", "email_verified": true });
    for wrong in [
        json!({ "nonce": "another" }),
        json!({ "nonce": null }),
        json!({ "aud": "another" }),
        json!({ "aud": null }),
        json!({ "aud": ["buildit", "another"] }),
        json!({ "aud": ["buildit", "another"], "azp": "another" }),
        json!({ "azp": "another" }),
        json!({ "iss": "https://another.example" }),
        json!({ "iss": null }),
        json!({ "exp": 1_700_000_000 }),
        json!({ "exp": "never" }),
        json!({ "exp": null }),
        json!({ "nbf": 4_000_000_000_u64 }),
        json!({ "sub": null }),
        json!({ "sub": "" }),
    ] {
        provider.says(|says| {
            says.claims = right.clone();
            says.claims.as_object_mut().unwrap().extend(wrong.as_object().unwrap().clone());
        });
        refused(&sign_in(&api).await, 502, "operator finds the cause in its log");
    }
    provider.says(|says| says.claims = right.clone());
    for header in [
        json!({ "alg": "none" }),
        json!({ "alg": "HS256" }),
        json!({ "alg": "RS256" }),
        json!({ "alg": "ES384" }),
        json!({ "kid": "unknown" }),
        json!({ "kid": "future" }),
    ] {
        provider.says(|says| says.header = header);
        refused(&sign_in(&api).await, 502, "failed");
    }
    provider.says(|says| {
        says.header = json!({});
        says.signing = Key::new("first");
    });
    refused(&sign_in(&api).await, 502, "failed");
    assert_eq!(actions(&api).await, [""; 0]);
}

#[tokio::test]
async fn other_ways_to_say_the_same_are_understood() {
    let (api, provider) = started().await;
    api.account("ada@acme.example", Some(Role::Developer)).await;
    for claims in [
        json!({ "sub": "ada-1", "email": "Ada@Acme.Example", "email_verified": "true" }),
        json!({ "sub": "ada-1", "aud": ["buildit"] }),
        json!({ "sub": "ada-1", "aud": ["buildit", "another"], "azp": "buildit" }),
    ] {
        provider.says(|says| says.claims = claims);
        assert_eq!(sign_in(&api).await.status, 303);
    }
    provider.says(|says| says.header = json!({ "kid": null }));
    assert_eq!(sign_in(&api).await.status, 303, "a token may name no key");
}

#[tokio::test]
async fn a_provider_that_changes_its_keys_is_asked_again() {
    let (api, provider) = started().await;
    api.account("ada@acme.example", Some(Role::Developer)).await;
    assert_eq!(sign_in(&api).await.status, 303);
    let key = Key::new("second");
    provider.says(|says| (says.signing, says.published) = (key.clone(), vec![key]));
    // What it said a moment ago counts for some seconds, so that wrong tokens do not have it asked all the time.
    buildit_tests::eventually("the new key is known", std::time::Duration::from_secs(20), async || {
        sign_in(&api).await.status == 303
    })
    .await;
}

#[tokio::test]
async fn an_address_leads_to_an_account_only_where_the_provider_has_verified_it() {
    let (api, provider) = started().await;
    api.account("ada@acme.example", Some(Role::Owner)).await;
    for unverified in [json!(false), json!("false"), json!(null), json!(1)] {
        provider.says(|says| says.claims["email_verified"] = unverified);
        refused(&sign_in(&api).await, 403, "has not verified your e-mail address");
    }
    assert_eq!(actions(&api).await, [""; 0]);
}

#[tokio::test]
async fn another_person_with_the_same_address_is_not_the_same_person() {
    let (api, provider) = started().await;
    let cookie = api.signed_in("ada@acme.example", Role::Developer).await;
    assert_eq!(sign_in(&api).await.status, 303);
    provider.says(|says| says.claims["sub"] = json!("ada-2"));
    refused(&sign_in(&api).await, 403, "belongs to somebody else");
    // Whoever has the password takes the link away; then the address counts anew.
    let (_, linked) = answer(api.as_person(Method::GET, "/api/v1/me/identities", &cookie)).await;
    assert_eq!(linked["items"][0]["issuer"], provider.issuer);
    let path = format!("/api/v1/me/identities/{}", linked["items"][0]["id"].as_str().unwrap());
    assert_eq!(answer(api.as_person(Method::DELETE, &path, &cookie)).await.0, 204);
    assert_eq!(answer(api.as_person(Method::DELETE, &path, &cookie)).await.0, 404);
    assert_eq!(sign_in(&api).await.status, 303);
    assert!(actions(&api).await.contains(&json!("identity.unlinked")));
}

#[tokio::test]
async fn who_has_no_password_keeps_the_link() {
    let (api, _provider) = started().await;
    api.account("ada@acme.example", Some(Role::Developer)).await;
    let session = sign_in(&api).await.session.unwrap();
    let (_, linked) = answer(api.as_person(Method::GET, "/api/v1/me/identities", &session)).await;
    let path = format!("/api/v1/me/identities/{}", linked["items"][0]["id"].as_str().unwrap());
    let (status, said) = answer(api.as_person(Method::DELETE, &path, &session)).await;
    assert_eq!((status, &said["error"]["code"]), (409, &json!("no_password")));
}

#[tokio::test]
async fn nobody_comes_in_whom_nobody_has_invited() {
    let (api, _provider) = started().await;
    refused(&sign_in(&api).await, 403, "nobody has invited ada@acme.example");
    let (count,): (i64,) = sqlx::query_as("select count(*) from users").fetch_one(&api.database.pool).await.unwrap();
    assert_eq!(count, 0);
}

#[tokio::test]
async fn who_was_invited_joins_by_the_provider() {
    let (api, _provider) = started().await;
    let body = json!({ "email": "Ada@acme.example", "role": "developer" });
    let (_, invited) = api.post("/api/v1/invitations", body).await;
    let link = invited["url"].as_str().unwrap();
    let page = api.anonymous(Method::GET, link).send().await.unwrap().text().await.unwrap();
    assert!(page.contains("Join with Acme"), "{page}");
    let begun = begin(&api, link.strip_prefix(&api.url).unwrap()).await;
    let ended = finish(&api, &begun.cookie, &begun.back).await;
    assert_eq!((ended.status, ended.location.as_deref()), (303, Some("/")), "{}", ended.page);
    let me = me(&api, &ended).await;
    assert_eq!((&me["user"]["name"], &me["organizations"][0]["role"]), (&json!("Ada"), &json!("developer")));
    assert_eq!(api.anonymous(Method::GET, link).send().await.unwrap().status(), 404, "it serves once");
    assert!(actions(&api).await.contains(&json!("member.joined")));

    // An account without a password has an owner all the same: another link lets nobody choose one.
    let (_, again) = api.post("/api/v1/invitations", json!({ "email": "ada@acme.example", "role": "admin" })).await;
    let path = again["url"].as_str().unwrap().replace("/join/", "/api/v1/join/");
    assert_eq!(answer(api.anonymous(Method::GET, &path)).await.1["has_account"], true);
    assert_eq!(answer(api.anonymous(Method::POST, &path).json(&json!({ "password": PASSWORD }))).await.0, 401);
    // Its owner comes back to it after signing in.
    let path = again["url"].as_str().unwrap().strip_prefix(&api.url).unwrap().to_owned();
    let begun = begin(&api, &path).await;
    let ended = finish(&api, &begun.cookie, &begun.back).await;
    assert_eq!((ended.status, ended.location), (303, Some(path)));
}

#[tokio::test]
async fn an_operator_may_let_everybody_of_a_domain_in() {
    let (api, provider) = started_with(|settings| {
        settings.domains = vec!["acme.example".into()];
        settings.newcomers = Some(Newcomers { organization: "acme".into(), role: Role::Viewer });
    })
    .await;
    let ended = sign_in(&api).await;
    assert_eq!(ended.status, 303, "{}", ended.page);
    assert_eq!(me(&api, &ended).await["organizations"][0]["role"], "viewer");
    for (email, verified) in [("eve@home.example", true), ("eve@acme.example", false)] {
        provider.says(|says| says.claims = json!({ "sub": "eve", "email": email, "email_verified": verified }));
        refused(&sign_in(&api).await, 403, "only verified addresses at acme.example are admitted");
    }
    provider.says(|says| says.claims = json!({ "sub": "ada-1", "email": "ada@home.example", "email_verified": true }));
    refused(&sign_in(&api).await, 403, "only verified addresses");
}

#[tokio::test]
async fn a_provider_that_is_away_stops_nobody_from_signing_in_otherwise() {
    let (api, provider) = started().await;
    api.signed_in("ada@acme.example", Role::Developer).await;
    provider.says(|says| says.fails = Some(StatusCode::SERVICE_UNAVAILABLE));
    let answer = api.anonymous(Method::GET, "/login/oidc").send().await.unwrap();
    assert_eq!((answer.status().as_u16(), cookie(&answer, "buildit_sign_in=")), (503, None));
    let page = answer.text().await.unwrap();
    assert!(page.contains("Acme does not answer at the moment") && page.contains("type=\"password\""), "{page}");
    api.sign_in("ada@acme.example").await;
    assert_eq!(api.anonymous(Method::GET, "/readyz").send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_provider_that_goes_away_meanwhile_is_said_to() {
    let (api, provider) = started().await;
    api.account("ada@acme.example", Some(Role::Developer)).await;
    let begun = begin(&api, "/").await;
    provider.says(|says| says.fails = Some(StatusCode::BAD_GATEWAY));
    refused(&finish(&api, &begun.cookie, &begun.back).await, 503, "does not answer at the moment");
    provider.says(|says| says.fails = None);
    assert_eq!(sign_in(&api).await.status, 303, "what it says of itself is known");
}

#[tokio::test]
async fn who_does_not_want_to_be_known_is_told_what_to_do() {
    let (api, provider) = started().await;
    provider.says(|says| says.error = Some("access_denied"));
    refused(&sign_in(&api).await, 403, "you did not let Acme tell who you are");
    provider.says(|says| says.error = Some("server_error"));
    refused(&sign_in(&api).await, 403, "Acme ended the sign-in");
}

#[tokio::test]
async fn one_is_led_to_pages_of_ours_alone() {
    let (api, _provider) = started().await;
    api.account("ada@acme.example", Some(Role::Developer)).await;
    for elsewhere in ["https://evil.example", "//evil.example", "/%5Cevil.example"] {
        let begun = begin(&api, elsewhere).await;
        assert_eq!(finish(&api, &begun.cookie, &begun.back).await.location.as_deref(), Some("/"), "{elsewhere}");
    }
}

#[tokio::test]
async fn how_people_sign_in_is_told_and_the_secret_is_not() {
    let (api, _provider) = started().await;
    let (status, ways) = answer(api.anonymous(Method::GET, "/api/v1/sign-in")).await;
    let url = format!("{}/login/oidc", api.url);
    assert_eq!((status, ways), (200, json!({ "password": true, "provider": { "label": "Acme", "url": url } })));
    let page = api.anonymous(Method::GET, "/login?next=/runs").send().await.unwrap().text().await.unwrap();
    assert!(page.contains("Sign in with Acme") && page.contains("/login/oidc?next=%2Fruns"), "{page}");

    let without = Api::start().await;
    let (_, ways) = answer(without.anonymous(Method::GET, "/api/v1/sign-in")).await;
    assert_eq!(ways, json!({ "password": true, "provider": null }));
    for path in ["/login/oidc", "/login/oidc/callback"] {
        assert_eq!(without.anonymous(Method::GET, path).send().await.unwrap().status(), 404);
    }
}
