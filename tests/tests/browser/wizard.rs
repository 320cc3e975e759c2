//! From a repository to its first run, by pages alone.

use buildit_shared::permission::Role;
use buildit_tests::{
    browser::{Browser, Page},
    installation::{Installation, git},
};

use super::started;

/// A bare repository with these files on `main`: its path.
fn repository(installation: &Installation, name: &str, files: &[(&str, &str)]) -> String {
    let bare = installation.folder.path().join("repositories").join(format!("{name}.git"));
    let work = installation.folder.path().join("work").join(name);
    let bare_name = bare.to_string_lossy().into_owned();
    git(installation.folder.path(), &["init", "-q", "--bare", "--initial-branch=main", &bare_name]);
    git(installation.folder.path(), &["init", "-q", "--initial-branch=main", &work.to_string_lossy()]);
    for (file, text) in files {
        std::fs::write(work.join(file), text).unwrap();
    }
    push(installation, name);
    bare_name
}

fn push(installation: &Installation, name: &str) {
    let work = installation.folder.path().join("work").join(name);
    let bare = installation.folder.path().join("repositories").join(format!("{name}.git"));
    git(&work, &["add", "-A"]);
    git(&work, &["commit", "-q", "--allow-empty", "-m", "a change"]);
    git(&work, &["push", "-q", &bare.to_string_lossy(), "main"]);
}

async fn type_into(page: &Page, text: &str) {
    page.fill("textarea[name=config]", text).await;
}

const GREEN: &str = "pipeline:\n  steps:\n    - name: hello\n      image: debian:bookworm-slim\n      commands:\n        - echo it is green\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_becomes_a_project_whose_first_run_is_followed() {
    let (installation, _worker, _browser, page) = started().await;
    let path = repository(&installation, "billing", &[("Cargo.toml", ""), ("Cargo.lock", ""), ("main.rs", "")]);
    page.open("/").await;
    page.follow("a[href='/new']").await;
    page.pictures("wizard-new").await;
    page.fill("input[name=repository]", "/etc").await;
    page.follow("main form button").await;
    page.shows("this path is not below a folder that the operator allows").await;
    page.fill("input[name=repository]", "https://user:secret@git.example/web").await;
    page.follow("main form button").await;
    page.shows("addresses hold no credentials").await;

    page.fill("input[name=repository]", &path).await;
    page.follow("main form button").await;
    assert_eq!(page.eval("location.pathname").await, "/projects/billing/pipelines/default/setup");
    // A worker looks while the page is open.
    page.shows("looks like Rust").await;
    page.until("document.querySelector('textarea')?.value.includes('cargo test --locked')").await;
    page.shows("It is right: one step, started by each push of a branch.").await;
    page.pictures("wizard-setup").await;
    page.eval("document.querySelector('select[name=pushes]').value = 'default'").await;
    page.click("input[name=mr]").await;
    page.fill("input[name=cron]", "0 3 * * *").await;
    page.fill("input[name=timezone]", "Europe/Berlin").await;
    page.follow("#proposal form button").await;
    page.shows("started by pushes, merge requests, the clock at 0 3 * * * Europe/Berlin").await;

    // What is typed is checked as it is typed.
    type_into(&page, &GREEN.replace("commands", "comands")).await;
    page.shows("are wrong with it").await;
    page.shows(".platform.yaml:5:").await;
    page.eval("scrollTo(0, document.body.scrollHeight)").await;
    page.pictures("wizard-broken").await;
    page.size(360, 740).await;
    page.pictures("wizard-broken-phone").await;
    assert_eq!(page.eval("document.documentElement.scrollWidth").await, 360);
    page.size(1280, 800).await;
    page.follow("button[value=store]").await;
    page.shows("are wrong with it").await;
    type_into(&page, GREEN).await;
    page.shows("It is right").await;
    page.follow("button[value=store]").await;
    page.shows("The first run").await;
    page.shows("buildit hook install").await;
    page.pictures("wizard-start").await;
    page.follow("#run").await;
    page.until("location.pathname.startsWith('/runs/')").await;
    page.until("document.title.includes('success')").await;
    page.until("document.querySelector('.lines').innerText.includes('it is green')").await;
    let errors = page.errors();
    assert!(errors.iter().all(|error| error.contains("status of 422")), "{errors:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_its_owner_commits_is_shown_with_the_lines_to_paste_and_needs_no_script() {
    let (installation, _worker, _browser, page) = started().await;
    let path = repository(&installation, "shop", &[("package.json", "{}")]);
    page.scripts(false).await;
    page.open("/new").await;
    page.fill("input[name=repository]", &path).await;
    page.fill("input[name=name]", "web").await;
    page.follow("main form button").await;
    while page.count("textarea").await == 0 {
        page.open("/projects/web/pipelines/default/setup").await;
    }
    assert!(page.text("#look").await.contains("looks like Node.js"));
    type_into(&page, &GREEN.replace("image", "imgae")).await;
    page.follow("button[formaction]").await;
    page.shows("are wrong with it").await;
    type_into(&page, GREEN).await;
    page.follow("button[value=commit]").await;
    assert_eq!(page.text("#file").await.trim(), GREEN.trim());
    assert!(page.text("#lines").await.contains("git add .platform.yaml"));
    page.pictures("wizard-commit").await;

    std::fs::write(installation.folder.path().join("work/shop/.platform.yaml"), GREEN).unwrap();
    push(&installation, "shop");
    page.open("/projects/web/pipelines/default/setup/start").await;
    page.follow("#run").await;
    let run = page.eval("location.pathname").await;
    let run = installation.ended(run.as_str().unwrap().trim_start_matches("/runs/")).await;
    assert_eq!(run["status"], "success", "{run}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_git_cannot_read_is_said_and_looked_at_again() {
    let (installation, _worker, _browser, page) = started().await;
    let path = repository(&installation, "web", &[("go.mod", "")]);
    page.open("/new").await;
    page.fill("input[name=repository]", &path).await;
    page.fill("input[name=branch]", "trunk").await;
    page.follow("main form button").await;
    page.shows("BuildIt cannot read this repository").await;
    page.shows("refs/heads/trunk is not in").await;
    // Nothing waits for it.
    page.until("document.querySelector('textarea') !== null").await;
    page.pictures("wizard-problem").await;
    page.fill("#look input[name=branch]", "main").await;
    page.follow("#look button").await;
    page.shows("looks like Go").await;
    let (_, project) = installation.get("/api/v1/projects/web").await;
    assert_eq!(project["default_branch"], "main");

    page.open("/projects/web/new").await;
    page.fill("input[name=name]", "nightly").await;
    page.pictures("wizard-pipeline").await;
    page.follow("main form button").await;
    page.shows(".platform/nightly.yaml").await;
    page.open("/projects/web").await;
    page.shows("nightly").await;
    assert_eq!(page.errors(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_makes_no_project() {
    let installation = Installation::start().await;
    let browser = Browser::start().await;
    let session = installation.session(Role::Viewer, false).await;
    let page = browser.page(&installation.url, Some(&session)).await;
    page.open("/").await;
    page.shows("Whoever may change projects").await;
    assert_eq!(page.count("a[href='/new']").await, 0);
    let path = repository(&installation, "web", &[("go.mod", "")]);
    let body = serde_json::json!({ "name": "web", "repository": path });
    assert_eq!(installation.post("/api/v1/projects", body).await.0, 201);
    for path in ["/new", "/projects/web/new", "/projects/web/pipelines/default/setup"] {
        page.open(path).await;
        page.shows("You may not do that").await;
    }
}
