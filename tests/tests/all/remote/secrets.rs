//! Secrets of the server, whose values come by standard input alone.

use buildit_shared::permission::Permission;
use buildit_tests::{installation::Installation, remote::User};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::key;

const VALUE: &str = "hush-hush-4711\nsecond line";

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_set_listed_and_deleted_and_their_values_never_shown() {
    let installation = Installation::start().await;
    let _worker = installation.worker();
    let file =
        "pipeline: { steps: [{ name: a, image: debian, commands: ['printf %s \"${secrets.TOKEN}\" | sha256sum'] }] }";
    installation.project("web", &[(".platform.yaml", file)]).await;
    let user = User::of(&installation);
    let mut said = vec![
        user.says_to(&["secrets", "set", "TOKEN", "--project", "web"], &format!("{VALUE}\n")).await,
        user.says_to(&["secrets", "set", "SHARED", "--json"], VALUE).await,
        user.says(&["secrets", "list"]).await,
        user.says(&["secrets", "list", "--project", "web", "--json"]).await,
    ];
    assert_eq!(said[1].json(), json!({ "name": "SHARED", "project": null, "environment": null, "done": "set" }));
    assert!(said[2].out.contains("SHARED") && !said[2].out.contains("TOKEN"), "{:?}", said[2]);
    assert_eq!(said[3].json()[0]["name"], "TOKEN");

    let production = ["--project", "web", "--environment", "production"];
    let with = |words: &[&'static str]| [words, &production].concat();
    for words in [with(&["secrets", "set", "KEY"]), with(&["secrets", "list", "--json"])] {
        let said = user.says_to(&words, VALUE).await;
        assert!(said.code == 0 && !format!("{said:?}").contains("hush-hush"), "{said:?}");
    }
    let all = user.says(&["secrets", "list", "--project", "web"]).await.out;
    let lines: Vec<Vec<&str>> = all.lines().map(|line| line.split_whitespace().take(2).collect()).collect();
    assert_eq!(
        (lines[0][1], lines[1][0], &lines[2][..]),
        ("ENVIRONMENT", "TOKEN", &["KEY", "production"][..]),
        "{all}"
    );
    let deleted = user.says(&with(&["secrets", "delete", "KEY"])).await;
    assert_eq!(deleted.out, "KEY of web for production is deleted\n");
    let alone = user.says(&["secrets", "list", "--environment", "production"]).await;
    assert_eq!(alone.code, 2, "an environment is of a project: {alone:?}");

    said.push(user.says(&["trigger", "web", "--watch"]).await);
    // Of the value without the line break that a shell's `echo` puts behind it.
    let hash: String = Sha256::digest(VALUE).iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(said[4].out.contains(&hash), "{:?}", said[4]);
    said.push(user.says(&["secrets", "delete", "SHARED"]).await);
    assert!(said.iter().all(|said| said.code == 0), "{said:?}");
    assert!(!format!("{said:?}").contains("hush-hush"), "{said:?}");
    assert_eq!(user.says(&["secrets", "list", "--json"]).await.json(), json!([]));

    let gone = user.says(&["secrets", "delete", "SHARED"]).await;
    assert!(gone.code == 1 && gone.err.contains("no secret"), "{gone:?}");
    let argument = user.says(&["secrets", "set", "TOKEN", VALUE]).await;
    assert_eq!(argument.code, 2, "a value is no argument: {argument:?}");
    let short = user.says_to(&["secrets", "set", "SHORT"], "abc").await;
    assert!(short.code == 1 && short.err.contains("masked"), "{short:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_without_the_permission_is_told_so() {
    let installation = Installation::start().await;
    let small = key(&installation, &[Permission::RunTrigger]).await;
    let user = User::at(&installation, &installation.url, &small);
    let said = user.says_to(&["secrets", "set", "TOKEN"], VALUE).await;
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.err.contains("secrets:write") && said.err.contains("log in with a key that may"), "{said:?}");
}
