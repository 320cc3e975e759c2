//! The viewer of long logs.

use super::{one_step, started};

/// Lines that are in the page.
const DRAWN: &str = "document.querySelectorAll('.lines .l').length";

#[tokio::test(flavor = "multi_thread")]
async fn a_long_log_is_searched_scrolled_and_linked_to() {
    let (installation, _worker, _browser, page) = started().await;
    let long = "i=0; while [ $i -lt 500 ]; do seq -f \"line %.0f of a long log with some words in it\" $((i * 1000 + 1)) $((i * 1000 + 1000)); i=$((i + 1)); done";
    let project = installation.project("web", &[(".platform.yaml", &one_step(&[long]))]).await;
    let run = installation.trigger(&project).await;
    installation.ended(&run).await;
    page.open(&format!("/runs/{run}/steps/test")).await;
    page.until("document.querySelector('.lines').innerText.includes('line 7 of')").await;
    assert!(page.eval(DRAWN).await.as_u64().unwrap() < 300, "only what is seen is in the page");

    // What is not loaded is found.
    page.press("/").await;
    page.until("document.activeElement.matches('.find input')").await;
    page.fill(".find input", "LINE 432109 OF").await;
    page.until("document.querySelector('.lines mark')?.innerText === 'line 432109 of'").await;
    assert_eq!(page.text(".find output").await, "1/1");
    page.pictures("log-search").await;
    page.fill(".find input", "000 of").await;
    page.until("document.querySelector('.find output').innerText.endsWith('/500')").await;
    page.press("Enter").await;
    assert!(page.eval(DRAWN).await.as_u64().unwrap() < 300);

    // Any place can be scrolled to.
    page.eval("document.querySelector('.lines').scrollTop = 1e9").await;
    page.until("document.querySelector('.lines').innerText.includes('line 500000 of')").await;
    page.eval("document.querySelector('.lines').scrollTop /= 2").await;
    page.until("/line 2[45]\\d{4} of/.test(document.querySelector('.lines').innerText)").await;

    // A line has an address, which leads to it although nothing of it is loaded at first.
    page.open("/").await;
    page.open(&format!("/runs/{run}/steps/test#L9001")).await;
    page.until("document.querySelector('.chosen')?.innerText.includes('line 9000 of')").await;
    let seen = "(() => { const r = document.querySelector('.chosen').getBoundingClientRect(); return r.top > 0 && r.bottom < innerHeight; })()";
    page.until(seen).await;
    page.click("[data-do=wrap]").await;
    page.until("document.querySelector('.lines').classList.contains('wrap')").await;
    page.until(seen).await;
    assert_eq!(page.errors(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_tells_how_long_it_took_and_each_line_when_it_came() {
    let (installation, _worker, _browser, page) = started().await;
    let go = installation.shared.join("go");
    let wait = format!("echo waits; while [ ! -e {} ]; do sleep 0.05; done; echo waited", go.display());
    let project = installation.project("web", &[(".platform.yaml", &one_step(&["true", "sleep 1.2", &wait]))]).await;
    let run = installation.trigger(&project).await;
    page.open(&format!("/runs/{run}")).await;
    page.until("document.querySelector('.lines')?.innerText.includes('waits')").await;
    let took = "[...document.querySelectorAll('.command .took')].map((took) => took.innerText)";
    page.until(&format!("parseFloat({took}[1]) > 0 && {took}[2] === ''")).await;
    std::fs::write(&go, "").unwrap();
    page.until("document.title.includes('success')").await;
    page.open(&format!("/runs/{run}")).await;
    page.until(&format!("{took}.length === 3 && {took}.every((took) => /^\\d+\\.\\d s$/.test(took))")).await;
    let seconds = page.eval(&format!("{took}.map(parseFloat)")).await;
    let seconds: Vec<f64> = seconds.as_array().unwrap().iter().map(|took| took.as_f64().unwrap()).collect();
    assert!(seconds[0] < seconds[1] && seconds[1] >= 1.2, "{seconds:?}");

    page.eval("for (let fold; (fold = document.querySelector('.fold[aria-expanded=false]')); ) fold.click()").await;
    assert_eq!(page.eval("document.querySelectorAll('.lines time').length").await, 0);
    page.click("[data-do=times]").await;
    let times = "[...document.querySelectorAll('.lines time')].map((time) => Date.parse(time.dateTime))";
    page.until(&format!("{times}.length >= 5 && {times}.every((at, i, all) => !i || at >= all[i - 1])")).await;
    let apart = page.eval(&format!("{times}.at(-1) - {times}[0]")).await.as_i64().unwrap();
    assert!(apart >= 1200, "{apart} ms");
    page.pictures("log-times").await;
    page.open(&format!("/runs/{run}")).await;
    page.until("document.querySelectorAll('.lines time').length > 0").await;
    assert_eq!(page.errors(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_log_is_followed_until_its_reader_scrolls_up() {
    let (installation, _worker, _browser, page) = started().await;
    let more = installation.shared.join("more");
    let go = installation.shared.join("go");
    let wait = |file: &std::path::Path| format!("while [ ! -e {} ]; do sleep 0.05; done", file.display());
    let print = |word: &str| format!("seq -f '{word} %.0f' 500");
    let command = [print("first"), wait(&more), print("second"), wait(&go), print("third")].join("; ");
    let project = installation.project("web", &[(".platform.yaml", &one_step(&[&command]))]).await;
    let run = installation.trigger(&project).await;
    page.open(&format!("/runs/{run}")).await;
    let pressed = "document.querySelector('[data-do=follow]')?.getAttribute('aria-pressed')";
    page.until("document.querySelector('.lines')?.innerText.includes('first 500')").await;
    std::fs::write(&more, "").unwrap();
    page.until("document.querySelector('.lines').innerText.includes('second 500')").await;
    assert_eq!(page.eval(pressed).await, "true");

    page.eval("document.querySelector('.lines').scrollTop -= 3000").await;
    page.until(&format!("{pressed} === 'false'")).await;
    let top = "document.querySelector('.lines').scrollTop";
    let before = page.eval(top).await;
    std::fs::write(&go, "").unwrap();
    page.until("document.title.includes('success')").await;
    assert_eq!(page.eval(top).await, before, "what one reads stays where it is");
    page.eval("document.querySelector('.lines').scrollTop = 1e9").await;
    page.until("document.querySelector('.lines').innerText.includes('third 500')").await;
    assert_eq!(page.errors(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_is_open_while_the_api_restarts_misses_nothing() {
    let (mut installation, _worker, _browser, page) = started().await;
    let [more, go] = ["more", "go"].map(|name| installation.shared.join(name));
    let wait = |file: &std::path::Path| format!("while [ ! -e {} ]; do sleep 0.05; done", file.display());
    let print = |word: &str| format!("seq -f '{word} %.0f' 40");
    let command = [print("before"), wait(&more), print("meanwhile"), wait(&go), print("after")].join("; ");
    let project = installation.project("web", &[(".platform.yaml", &one_step(&[&command]))]).await;
    let run = installation.trigger(&project).await;
    page.open(&format!("/runs/{run}")).await;
    page.until("document.querySelector('.lines')?.innerText.includes('before 40')").await;

    installation.stop_api().await;
    page.until("document.getElementById('lost').hidden === false").await;
    page.pictures("run-lost").await;
    std::fs::write(&more, "").unwrap();
    let stored = "select coalesce(convert_from(string_agg(bytes, ''::bytea order by start), 'UTF8') like '%meanwhile 40%', false)
                  from step_log_chunks c join step_attempts a on a.id = c.attempt_id where a.run_id = $1::uuid";
    while !sqlx::query_scalar::<_, bool>(stored).bind(&run).fetch_one(&installation.pool).await.unwrap() {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    installation.start_api().await;
    page.until("document.getElementById('lost').hidden").await;
    page.until("document.querySelector('.lines').innerText.includes('meanwhile 40')").await;
    std::fs::write(&go, "").unwrap();
    page.until("document.title.includes('success')").await;
    page.until("document.querySelector('.lines').innerText.includes('after 40')").await;
    let lines = page.eval("[...document.querySelectorAll('.lines .l')].map((l) => /(before|meanwhile|after) \\d+$/.exec(l.innerText)?.[0]).filter(Boolean)").await;
    let lines: Vec<String> = serde_json::from_value(lines).unwrap();
    let wanted: Vec<String> = ["before", "meanwhile", "after"]
        .iter()
        .flat_map(|word| (1..=40).map(move |number| format!("{word} {number}")))
        .collect();
    let end = lines.last_chunk::<60>().expect("what fits the window and more");
    assert!(wanted.ends_with(end), "{lines:?}");
}
