//! Signing in by a real provider of OpenID Connect: with one's account at the forge.

use std::process::Command;

use buildit_tests::{
    gitea::{EMAIL, Gitea, PASSWORD, USER},
    installation::Installation,
    remote::ApiProcess,
    visitor::{Seen, Visitor},
};
use reqwest::Method;
use serde_json::{Value, json};

/// What the forge and the installation know of each other.
async fn introduced(gitea: &Gitea, url: &str) -> Vec<(&'static str, String)> {
    let callback = format!("{url}/login/oidc/callback");
    let application = json!({ "name": "buildit", "confidential_client": true, "redirect_uris": [callback] });
    let (status, made) = gitea.ask(Method::POST, "/user/applications/oauth2", &application).await;
    assert_eq!(status, 201, "{made}");
    let field = |name: &str| made[name].as_str().unwrap().to_owned();
    vec![
        ("BUILDIT_OIDC_ISSUER", gitea.url.clone()),
        ("BUILDIT_OIDC_CLIENT_ID", field("client_id")),
        ("BUILDIT_OIDC_CLIENT_SECRET", field("client_secret")),
        ("BUILDIT_OIDC_LABEL", "Gitea".into()),
        ("SSL_CERT_FILE", gitea.certificate.to_string_lossy().into_owned()),
    ]
}

/// From the button to the forge, where one signs in and agrees, and back.
async fn at_the_forge(visitor: &mut Visitor, begin: &str) -> Seen {
    let asked = visitor.open(begin).await;
    assert!(asked.status == 200 && asked.text.contains("name=\"password\""), "{asked:?}");
    let agreed = visitor.send(&asked, "/user/login", &[("user_name", USER), ("password", PASSWORD)]).await;
    assert!(agreed.status == 200 && agreed.text.contains("authorize-app"), "{agreed:?}");
    visitor.send(&agreed, "/login/oauth/grant", &[("granted", "true")]).await
}

async fn me(visitor: &mut Visitor, url: &str) -> Value {
    let seen = visitor.open(&format!("{url}/api/v1/me")).await;
    serde_json::from_str(&seen.text).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn people_come_in_with_their_account_at_the_forge_once_they_are_invited() {
    let (gitea, installation) = (Gitea::start().await, Installation::start().await);
    let mut secret = String::new();
    let api = ApiProcess::start_with(&installation, async |url| {
        let variables = introduced(&gitea, url).await;
        secret.clone_from(&variables[2].1);
        variables
    })
    .await;
    let mut visitor = Visitor::new(gitea.client());
    let page = visitor.open(&format!("{}/login?next=/fleet", api.url)).await;
    assert!(page.text.contains("Sign in with Gitea"), "{page:?}");

    let refused = at_the_forge(&mut visitor, &format!("{}/login/oidc?next=/fleet", api.url)).await;
    assert_eq!((refused.status, refused.url.path()), (403, "/login/oidc/callback"), "{refused:?} {}", api.said());
    assert!(refused.text.contains(&format!("nobody has invited {EMAIL}")), "{refused:?}");

    let invitation = json!({ "email": EMAIL, "role": "developer" });
    let (status, invited) = installation.post("/api/v1/invitations", invitation).await;
    assert_eq!(status, 201, "{invited}");
    let link = invited["url"].as_str().unwrap().replace(&installation.url, &api.url);
    let offer = visitor.open(&link).await;
    assert!(offer.text.contains("Join with Gitea"), "{offer:?}");
    // The forge remembers what was agreed to.
    let path = link.strip_prefix(&api.url).unwrap();
    let joined = visitor.open(&format!("{}/login/oidc?next={path}", api.url)).await;
    assert_eq!((joined.status, joined.url.path()), (200, "/"), "{joined:?}");
    let known = me(&mut visitor, &api.url).await;
    assert_eq!((&known["user"]["email"], &known["organizations"][0]["role"]), (&json!(EMAIL), &json!("developer")));

    // From another browser it is the same account, and the page that was asked for.
    let mut elsewhere = Visitor::new(gitea.client());
    let asked = elsewhere.open(&format!("{}/login/oidc?next=/fleet", api.url)).await;
    let back = elsewhere.send(&asked, "/user/login", &[("user_name", USER), ("password", PASSWORD)]).await;
    assert_eq!((back.status, back.url.path()), (200, "/fleet"), "{back:?}");
    assert_eq!(me(&mut elsewhere, &api.url).await["user"]["id"], known["user"]["id"]);
    let at = api.url.parse().unwrap();
    assert!(elsewhere.has_cookie(&at, "buildit_session") && !elsewhere.has_cookie(&at, "buildit_sign_in"));

    assert!(!api.said().contains(&secret), "the log shows the secret");
    let found = Command::new("grep").args(["-rlF", &secret]).arg(installation.folder.path()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&found.stdout), "", "a file of ours has the secret");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forge_that_is_away_is_said_to_be_and_all_else_goes_on() {
    let (mut gitea, installation) = (Gitea::start().await, Installation::start().await);
    let api = ApiProcess::start_with(&installation, async |url| introduced(&gitea, url).await).await;
    gitea.stop();
    let mut visitor = Visitor::new(gitea.client());
    let page = visitor.open(&format!("{}/login/oidc", api.url)).await;
    assert_eq!(page.status, 503, "{page:?}");
    assert!(page.text.contains("Gitea does not answer at the moment") && page.text.contains("name=\"password\""));
    assert_eq!(visitor.open(&format!("{}/readyz", api.url)).await.status, 200);
    assert!(api.said().contains("the provider does not answer"), "{}", api.said());
}
