//! What a run left, in place and for other places.

use buildit_tests::api::client;

use super::started;

const FILE: &str = r#"
pipeline:
  steps:
    - name: test
      image: debian:bookworm-slim
      commands:
        - mkdir -p report/assets
        - "echo 'body { background: rgb(1, 2, 3) }' > report/assets/style.css"
        - "echo 'document.title = `drawn`; document.body.append(`38 tests`); try { parent.document.title = `broken out` } catch { document.body.append(` shut in`) }' > report/assets/report.js"
        - "echo '<!doctype html><link rel=stylesheet href=assets/style.css><body><script src=assets/report.js></script>' > report/index.html"
  artifacts:
    - { name: report, path: report/ }
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_report_is_shown_in_place_and_shut_in() {
    let (installation, _worker, browser, page) = started().await;
    let project = installation.project("web", &[(".platform.yaml", FILE)]).await;
    let run = installation.trigger(&project).await;
    installation.ended(&run).await;
    page.open(&format!("/runs/{run}")).await;
    page.follow("#left a").await;
    page.shows("index.html").await;
    page.pictures("artifact").await;
    let href = "[...document.querySelectorAll('main a')].find((a) => a.innerText.endsWith('index.html')).id = 'report'";
    page.eval(href).await;
    page.follow("#report").await;
    let frame = page.eval("document.querySelector('iframe').src").await;
    let frame = frame.as_str().unwrap().to_owned();
    page.picture("report-light").await;

    // Its address opens it without a session, as the frame does, and says what it may do.
    let answer = client().get(&frame).send().await.unwrap();
    let policy = answer.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.starts_with("sandbox allow-scripts;") && policy.contains("default-src 'none'"), "{policy}");
    let guest = browser.page(&installation.url, None).await;
    guest.open(&frame).await;
    guest.shows("38 tests").await;
    guest.until("getComputedStyle(document.body).backgroundColor === 'rgb(1, 2, 3)'").await;
    guest.until("window.origin === 'null'").await;
    let (begin, end) = frame.split_at(frame.find("/report/").unwrap());
    assert_eq!(client().get(format!("{}x{end}", &begin[..begin.len() - 1])).send().await.unwrap().status(), 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_badge_and_a_feed_tell_how_a_pipeline_stands() {
    let (installation, _worker, browser, page) = started().await;
    let project = installation.project("web", &[(".platform.yaml", FILE)]).await;
    page.open("/projects/web/pipelines/default").await;
    let badge = page.eval("document.querySelector('#elsewhere img').getAttribute('src')").await;
    let badge = badge.as_str().unwrap().to_owned();
    let text = async |url: &str| client().get(url).send().await.unwrap().text().await.unwrap();
    assert!(text(&badge).await.contains("no run"));
    let run = installation.trigger(&project).await;
    installation.ended(&run).await;
    assert!(text(&badge).await.contains("passing"));
    let feed = text(&badge.replace(".svg", ".xml")).await;
    assert!(feed.contains("name=\"web/default\" activity=\"Sleeping\" lastBuildStatus=\"Success\""), "{feed}");
    let forged = badge.replace(".svg", "A.svg");
    assert_eq!(client().get(forged).send().await.unwrap().status(), 404);
    let guest = browser.page(&installation.url, None).await;
    guest.size(200, 40).await;
    guest.open(&badge).await;
    guest.picture("badge").await;
}
