//! `buildit account`: how the first person gets into an installation.

use std::process::{Command, Output};

use buildit_tests::{
    api::{Api, answer},
    installation::programs,
};
use reqwest::{Method, header};
use serde_json::json;

fn account(api: &Api, arguments: &[&str]) -> Output {
    Command::new(programs().join("buildit"))
        .arg("account")
        .args(arguments)
        .env_clear()
        .env("DATABASE_URL", &api.database.url)
        .env("BUILDIT_PUBLIC_URL", "https://ci.example/")
        .output()
        .unwrap()
}

#[tokio::test]
async fn the_first_account_comes_with_its_organization_and_a_link() {
    let api = Api::start().await;
    let output = account(&api, &["Ada@home.example", "--organization", "first", "--operator"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let link = String::from_utf8(output.stdout).unwrap();
    let token = link.trim().strip_prefix("https://ci.example/welcome/").unwrap();
    let path = format!("/api/v1/welcome/{token}");
    let chosen = api.anonymous(Method::POST, &path).json(&json!({ "password": "correct horse battery" }));
    let cookie = chosen.send().await.unwrap().headers()[header::SET_COOKIE].to_str().unwrap().to_owned();
    let me = api.anonymous(Method::GET, "/api/v1/me").header(header::COOKIE, cookie.split(';').next().unwrap());
    let (_, me) = answer(me).await;
    assert_eq!(me["user"]["name"], "Ada");
    assert_eq!(me["user"]["email"], "ada@home.example");
    assert_eq!((&me["organizations"][0]["name"], &me["organizations"][0]["role"]), (&json!("first"), &json!("owner")));
    assert!(me["permissions"].as_array().unwrap().contains(&json!("fleet:admin")), "{me}");
}

#[tokio::test]
async fn what_cannot_be_an_account_is_refused() {
    let api = Api::start().await;
    for (wrong, said) in [
        (&["nobody"][..], "nobody is no e-mail address"),
        (&["a@b.example", "--role", "king"], "there are owner, admin, developer, viewer"),
        (&["a@b.example", "--organization", "No Name"], "cannot make the organization No Name"),
    ] {
        let output = account(&api, wrong);
        assert!(!output.status.success() && output.stdout.is_empty(), "{wrong:?}: {output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(said), "{wrong:?}: {output:?}");
    }
    let (accounts,): (i64,) = sqlx::query_as("select count(*) from users").fetch_one(&api.database.pool).await.unwrap();
    assert_eq!(accounts, 0);
}
