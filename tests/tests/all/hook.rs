//! The key beside a repository.

use std::process::Command;

use buildit_shared::{db::api_keys, permission::Permission};
use buildit_tests::installation::{Installation, programs};

#[tokio::test(flavor = "multi_thread")]
async fn installing_a_hook_leaves_a_key_that_can_only_start_runs_of_its_project() {
    let installation = Installation::start().await;
    let project = installation.project("keyed", &[("README", "nothing")]).await;
    let install = Command::new(programs().join("buildit"))
        .args(["hook", "install", "--project", &project.name, "--url", &installation.url])
        .arg(&project.repository)
        .env("BUILDIT_TOKEN", &installation.key)
        .output()
        .unwrap();
    assert!(install.status.success(), "{install:?}");
    let key = std::fs::read_to_string(project.repository.join("buildit/key")).unwrap();
    let principal = api_keys::authenticate(&installation.pool, key.trim()).await.unwrap().unwrap();
    assert_eq!(principal.permissions, [Permission::RunTrigger]);
    assert!(principal.project_id.is_some());
}
