//! What a project's people set: which forge calls, and what the clock starts.

use buildit_shared::permission::Role;
use buildit_tests::{browser::Page, eventually, installation::Installation};
use std::time::Duration;

use super::{one_step, started};

const LIMIT: Duration = Duration::from_secs(60);

/// A page of a viewer.
async fn viewer(installation: &Installation, browser: &buildit_tests::browser::Browser) -> Page {
    let session = installation.session(Role::Viewer, false).await;
    browser.page(&installation.url, Some(&session)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forge_is_set_up_with_the_exact_lines_to_paste() {
    let (installation, _worker, browser, page) = started().await;
    let body = serde_json::json!({ "name": "web", "repository": "https://git.example:3000/team/web.git" });
    let (status, project) = installation.post("/api/v1/projects", body).await;
    assert_eq!(status, 201, "{project}");
    let url = format!("{}/api/v1/forges/{}", installation.url, project["id"].as_str().unwrap());
    page.open("/projects/web/forge").await;
    page.shows("No forge calls for this project").await;
    for (forge, there) in [
        ("github", "gh api repos/team/web/hooks"),
        ("gitlab", "https://git.example:3000/api/v4/projects/team%2Fweb/hooks"),
        ("gitea", "https://git.example:3000/api/v1/repos/team/web/hooks"),
    ] {
        page.eval(&format!(
            "window.confirm = () => true; document.querySelector('select[name=forge]').value = '{forge}'"
        ))
        .await;
        page.follow("#set").await;
        let secret = page.text("#made").await;
        assert!(secret.starts_with("bif_"), "{secret}");
        let lines = page.text("#lines").await;
        assert!(lines.contains(there) && lines.contains(&url) && lines.contains(&secret), "{lines}");
    }
    page.pictures("project-forge").await;
    page.size(360, 740).await;
    page.picture("project-forge-phone").await;
    assert_eq!(page.eval("document.documentElement.scrollWidth").await, 360);
    page.size(1280, 800).await;
    page.open("/projects/web/forge").await;
    page.shows("Gitea or Forgejo calls for this project").await;
    assert_eq!(page.text("#made").await, "", "the secret was shown once");

    let viewer = viewer(&installation, &browser).await;
    viewer.open("/projects/web/forge").await;
    viewer.shows("calls for this project").await;
    assert_eq!(viewer.count("main form").await, 0);
    let sent = "(async () => {
        const body = new URLSearchParams(new FormData(document.querySelector('header form')));
        return (await fetch('/projects/web/forge/delete', { method: 'POST', body })).status;
    })()";
    assert_eq!(viewer.eval(sent).await, 403);
    page.eval("window.confirm = () => true").await;
    page.follow("#remove").await;
    page.shows("No forge calls for this project").await;
    assert_eq!(page.errors(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_repository_is_opened_and_its_forge_told() {
    let (installation, _worker, browser, page) = started().await;
    for (name, repository) in [("web", "https://git.example/team/web.git"), ("app", "git@git.example:team/app.git")] {
        let body = serde_json::json!({ "name": name, "repository": repository });
        assert_eq!(installation.post("/api/v1/projects", body).await.0, 201);
    }
    page.open("/projects/web/repository").await;
    page.shows("The repository is read without a credential").await;
    page.fill("#credential input[name=token]", "a-token-of-ours").await;
    page.fill("#credential input[name=username]", "deploy").await;
    page.follow("#set-credential").await;
    page.shows("A token opens the repository").await;
    page.shows("Set by owner@example.org").await;
    page.fill("#statuses input[name=token]", "another token").await;
    page.follow("#set-statuses").await;
    page.shows("it is a line of up to").await;
    page.eval("document.querySelector('#statuses select').value = 'gitea'").await;
    page.fill("#statuses input[name=token]", "another-token").await;
    page.follow("#set-statuses").await;
    page.shows("team/web is told how runs stand").await;
    page.shows("https://git.example/api/v1").await;
    assert!(!page.eval("document.documentElement.outerHTML").await.as_str().unwrap().contains("-token\""));
    page.pictures("project-repository").await;
    assert_eq!(page.barriers().await, [""; 0]);
    let project = installation.get("/api/v1/projects/web").await.1;
    let moved = installation.send(|client| {
        let url = format!("{}/api/v1/projects/{}", installation.url, project["id"].as_str().unwrap());
        client.patch(url).json(&serde_json::json!({ "repository": "https://other.example/team/web.git" }))
    });
    assert_eq!(moved.await.status(), 200);
    page.reload().await;
    page.shows("goes to no other address: set it anew").await;
    page.eval("window.confirm = () => true").await;
    page.follow("#delete-credential").await;
    page.shows("The repository is read without a credential").await;
    page.eval("window.confirm = () => true").await;
    page.follow("#delete-statuses").await;
    page.shows("The forge is told nothing of runs").await;

    page.open("/projects/app/repository").await;
    page.fill("textarea[name=private_key]", "no key").await;
    page.fill("textarea[name=known_hosts]", "git.example ssh-ed25519 AAAA").await;
    page.follow("#set-credential").await;
    page.shows("this is no private key").await;
    page.pictures("project-repository-ssh").await;
    page.size(360, 740).await;
    page.picture("project-repository-phone").await;
    assert_eq!(page.eval("document.documentElement.scrollWidth").await, 360);

    let viewer = viewer(&installation, &browser).await;
    viewer.open("/projects/web/forge").await;
    assert_eq!(viewer.count("a[href$='/repository']").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_is_added_fires_and_is_paused() {
    let (installation, _worker, browser, page) = started().await;
    let file = one_step(&["true"]) + "  on: { schedule: \"0 4 * * *\" }\n";
    let project = installation.project("web", &[(".platform.yaml", &file)]).await;
    let run = installation.trigger(&project).await;
    installation.ended(&run).await;
    page.open("/projects/web/schedules").await;
    page.shows("the pipeline file").await;
    page.fill("input[name=cron]", "0 3 * * 1-5").await;
    page.fill("input[name=timezone]", "Europe/Berln").await;
    page.follow("form[action$='/schedules'] button").await;
    page.shows("is no time zone").await;
    page.fill("input[name=timezone]", "Europe/Berlin").await;
    page.follow("form[action$='/schedules'] button").await;
    page.shows("owner@example.org").await;
    page.shows(" 03:00 CE").await;
    page.pictures("project-schedules").await;
    page.size(360, 740).await;
    page.picture("project-schedules-phone").await;
    assert_eq!(page.eval("document.documentElement.scrollWidth").await, 360);
    page.size(1280, 800).await;

    // Added by hand it starts a run whatever the file says of events; paused it starts none.
    project.commit(&[(".platform.yaml", &(one_step(&["true"]) + "  on: { push: {} }\n"))]);
    let due = "update schedules set next_at = now() - interval '1 hour' where added_by is not null";
    sqlx::query(due).execute(&installation.pool).await.unwrap();
    let scheduled = async || {
        let (_, runs) = installation.get("/api/v1/runs?trigger=schedule").await;
        runs["items"].as_array().unwrap().clone()
    };
    eventually("the clock starts a run", LIMIT, async || scheduled().await.len() == 1).await;
    let run = installation.ended(scheduled().await[0]["id"].as_str().unwrap()).await;
    assert_eq!(run["status"], "success", "{run}");
    page.reload().await;
    // The file's went with the file: it said nothing of a clock any more.
    page.until("document.querySelectorAll('#schedules tbody tr').length === 1").await;
    page.follow("form[action$='/pause'] button").await;
    page.shows("Paused by owner@example.org").await;
    sqlx::query(due).execute(&installation.pool).await.unwrap();
    page.follow("form[action$='/resume'] button").await;
    page.shows("03:00 CE").await;
    let (_, listed) = installation.get("/api/v1/projects/web/schedules").await;
    assert_eq!(listed["items"][0]["paused"], false);
    assert_eq!(scheduled().await.len(), 1, "what was due while it was paused does not come");

    let viewer = viewer(&installation, &browser).await;
    viewer.open("/projects/web/schedules").await;
    viewer.shows("0 3 * * 1-5").await;
    assert_eq!(viewer.count("main form").await, 0);
    page.open("/fleet").await;
    page.shows("0 3 * * 1-5").await;
    page.open("/projects/web/schedules").await;
    page.eval("window.confirm = () => true").await;
    page.follow("form[action$='/delete'] button").await;
    page.shows("The clock starts nothing here").await;
    let (_, log) = installation.get("/api/v1/audit?action=schedule.").await;
    let actions: Vec<_> = log["items"].as_array().unwrap().iter().map(|entry| entry["action"].clone()).collect();
    assert_eq!(actions, ["schedule.deleted", "schedule.resumed", "schedule.paused", "schedule.added"]);
}
