//! What the run page costs its reader, in a real browser: `./dev bench browser`.
//!
//! Prints one JSON object a line: the first paint and the first log line of a page that nothing is cached of, what came
//! over the wire for it, and how a log of 500,000 lines scrolls and is searched. Usage: `bench-browser [TIMES]`, by default 10.

use buildit_shared::permission::Role;
use buildit_tests::{
    browser::{Browser, Page},
    installation::Installation,
};
use serde_json::{Value, json};

const LINES: u32 = 500_000;

/// When the first line of a log was in the page, in milliseconds after the page was asked for.
const FIRST_LINE: &str = "new MutationObserver((_, observer) => {
        if (document.querySelector('.lines .l')) { window.firstLine = performance.now(); observer.disconnect(); }
    }).observe(document, { childList: true, subtree: true })";

/// Jumps to a hundred places of the log; milliseconds until each shows its lines.
const JUMPS: &str = "(async () => {
        const lines = document.querySelector('.lines'), took = [];
        const box = lines.getBoundingClientRect();
        const seen = () => document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2)?.closest('.l')?.innerText;
        for (let i = 0; i < 100; i++) {
            const from = performance.now();
            lines.scrollTop = (lines.scrollHeight - lines.clientHeight) * ((i * 37) % 100) / 100;
            do await new Promise(requestAnimationFrame); while (!seen());
            took.push(performance.now() - from);
        }
        return took;
    })()";

/// Scrolls 240 pixels a frame for 600 frames; milliseconds from frame to frame.
const FRAMES: &str = "(async () => {
        const lines = document.querySelector('.lines'), took = [];
        lines.scrollTop = 0;
        let last = await new Promise(requestAnimationFrame);
        for (let i = 0; i < 600; i++) {
            lines.scrollTop += 240;
            const now = await new Promise(requestAnimationFrame);
            took.push(now - last);
            last = now;
        }
        return took;
    })()";

#[tokio::main]
async fn main() {
    let times = std::env::args().nth(1).map_or(10, |times| times.parse::<usize>().expect("a number"));
    let installation = Installation::start().await;
    let _worker = installation.worker();
    let session = installation.session(Role::Owner, true).await;
    let short = ended(&installation, "short", "seq 300").await;
    let long = format!("seq -f 'line %.0f of a long log with some words in it' {LINES}");
    let long = ended(&installation, "long", &long).await;
    let browser = Browser::start().await;

    let (mut paints, mut firsts, mut bytes) = (Vec::new(), Vec::new(), Value::Null);
    for _ in 0..times {
        // A tab of its own has a cache of its own.
        let page = browser.page(&installation.url, Some(&session)).await;
        page.before_each_page(FIRST_LINE).await;
        page.open(&format!("/runs/{short}")).await;
        page.until("window.firstLine > 0 && performance.getEntriesByName('first-contentful-paint').length > 0").await;
        paints.push(number(&page, "performance.getEntriesByName('first-contentful-paint')[0].startTime").await);
        firsts.push(number(&page, "window.firstLine").await);
        let loaded = "[...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')]";
        bytes = page.eval(&format!("{loaded}.reduce((sum, e) => sum + e.transferSize, 0)")).await;
    }
    print("first paint, nothing cached", &spread(paints));
    print("first log line, nothing cached", &spread(firsts));
    print("bytes of the page with all it loads, headers included", &bytes);

    let page = browser.page(&installation.url, Some(&session)).await;
    page.before_each_page(FIRST_LINE).await;
    page.open(&format!("/runs/{long}/steps/test")).await;
    page.until("window.firstLine > 0").await;
    print("first line of 500,000", &json!(number(&page, "window.firstLine").await));
    print("jump to any place of 500,000 lines", &spread(list(&page, JUMPS).await));
    print("from frame to frame while scrolling", &spread(list(&page, FRAMES).await));
    print("lines in the page", &page.eval("document.querySelectorAll('.lines .l').length").await);
    print("found among 500,000 lines", &spread(searches(&page).await));
}

/// The run of one step, ended.
async fn ended(installation: &Installation, name: &str, command: &str) -> String {
    let file = format!(
        "pipeline:\n  steps:\n    - name: test\n      image: debian:bookworm-slim\n      commands: [{}]\n",
        json!(command)
    );
    let project = installation.project(name, &[(".platform.yaml", &file)]).await;
    let run = installation.trigger(&project).await;
    assert_eq!(installation.ended(&run).await["status"], "success");
    run
}

/// Looks for twenty lines; milliseconds from the last key to the mark.
async fn searches(page: &Page) -> Vec<f64> {
    let mut took = Vec::new();
    page.press("/").await;
    for i in 1..=20 {
        let text = format!("line {} of", i * LINES / 21);
        let search = format!(
            "(async () => {{
                const field = document.querySelector('.find input');
                field.value = {0};
                const from = performance.now();
                field.dispatchEvent(new Event('input', {{ bubbles: true }}));
                do await new Promise(requestAnimationFrame);
                while (document.querySelector('.lines mark')?.innerText !== {0});
                return performance.now() - from;
            }})()",
            json!(text)
        );
        took.push(number(page, &search).await);
    }
    took
}

async fn number(page: &Page, script: &str) -> f64 {
    page.eval(script).await.as_f64().expect("a number")
}

async fn list(page: &Page, script: &str) -> Vec<f64> {
    serde_json::from_value(page.eval(script).await).expect("numbers")
}

/// Milliseconds: the middle one, that which one in a hundred exceeds, the greatest.
fn spread(mut ms: Vec<f64>) -> Value {
    ms.sort_by(f64::total_cmp);
    json!({ "n": ms.len(), "p50": ms.get(ms.len() / 2), "p99": ms.get(ms.len() * 99 / 100), "max": ms.last() })
}

fn print(what: &str, result: &Value) {
    println!("{}", json!({ "what": what, "result": result }));
}
