//! Reading a step's log while it is written and afterwards.

use std::time::Duration;

use buildit_tests::api::{Api, RunningStep, answer};
use reqwest::{Method, Response, header};
use serde_json::{Value, json};

/// One server-sent event.
#[derive(Debug)]
struct Event {
    name: String,
    id: String,
    data: Value,
}

/// The events of an answer, as they come.
struct Events {
    response: Response,
    text: String,
}

impl Events {
    async fn of(api: &Api, at: RunningStep, last: Option<&str>) -> Self {
        let mut request = api.request(Method::GET, &path(at));
        if let Some(last) = last {
            request = request.header("last-event-id", last).header(header::ACCEPT, "text/event-stream");
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
        Self { response, text: String::new() }
    }

    /// The next one; `None` when the answer ended.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let mut parsed = Event { name: "message".into(), id: String::new(), data: Value::Null };
                for line in event.lines() {
                    match line.split_once(": ") {
                        Some(("event", name)) => parsed.name = name.into(),
                        Some(("id", id)) => parsed.id = id.into(),
                        Some(("data", data)) => parsed.data = serde_json::from_str(data).unwrap(),
                        _ => {}
                    }
                }
                self.text = rest.to_owned();
                return Some(parsed);
            }
            let piece = tokio::time::timeout(Duration::from_secs(20), self.response.chunk());
            self.text.push_str(std::str::from_utf8(&piece.await.expect("an event in time").unwrap()?).unwrap());
        }
    }

    /// All until the answer ends: the text, the ids, and the last event.
    async fn rest(&mut self) -> (String, Vec<String>, Event) {
        let (mut text, mut ids) = (String::new(), Vec::new());
        loop {
            let event = self.next().await.expect("an event `end`");
            if event.name == "end" {
                assert!(self.next().await.is_none());
                return (text, ids, event);
            }
            text.push_str(event.data["text"].as_str().unwrap_or_default());
            ids.push(event.id);
        }
    }
}

fn path(at: RunningStep) -> String {
    format!("/api/v1/runs/{}/steps/test/logs", at.run)
}

async fn running(api: &Api) -> RunningStep {
    api.project("web").await;
    api.running_step("web").await
}

async fn body(api: &Api, path: &str) -> String {
    api.request(Method::GET, path).send().await.unwrap().text().await.unwrap()
}

#[tokio::test]
async fn readers_that_come_at_any_time_all_see_every_byte_once() {
    let api = Api::start().await;
    let at = running(&api).await;
    let (mut readers, mut whole) = (Vec::new(), String::new());
    for number in 0..40 {
        let line = format!("line {number}\n");
        api.append(at.attempt, line.as_bytes()).await;
        whole.push_str(&line);
        let mut events = Events::of(&api, at, None).await;
        readers.push(tokio::spawn(async move { events.rest().await }));
    }
    api.end_attempt(at.attempt, "failure").await;
    let second = api.attempt(at.step, 2).await;
    api.append(second, b"once more\n").await;
    whole.push_str("once more\n");
    api.end_attempt(second, "success").await;
    api.end_step(at, "success").await;
    for reader in readers {
        let (text, ids, end) = reader.await.unwrap();
        assert_eq!(text, whole);
        assert_eq!((ids.last().map(String::as_str), &end.data["status"]), (Some("2:10"), &json!("success")));
    }
}

#[tokio::test]
async fn a_running_steps_log_is_followed_live_to_its_end() {
    let api = Api::start().await;
    let at = running(&api).await;
    api.append(at.attempt, b"one\n").await;
    let mut events = Events::of(&api, at, None).await;
    let first = events.next().await.unwrap();
    assert_eq!((first.data, first.id.as_str()), (json!({ "offset": 0, "text": "one\n" }), "4"));
    api.append(at.attempt, b"two\n").await;
    let second = events.next().await.unwrap();
    assert_eq!((second.data, second.id.as_str()), (json!({ "offset": 4, "text": "two\n" }), "8"));
    // The chunks go, the object comes, and the reader notices nothing.
    api.append(at.attempt, b"three\n").await;
    api.end_attempt(at.attempt, "success").await;
    api.end_step(at, "success").await;
    let (text, _, end) = events.rest().await;
    assert_eq!((text.as_str(), end.data), ("three\n", json!({ "status": "success" })));
}

#[tokio::test]
async fn a_log_comes_byte_for_byte_where_that_is_asked_for_and_as_far_as_it_is_there() {
    let api = Api::start().await;
    let at = running(&api).await;
    api.append(at.attempt, b"\xff\xe2\x82").await;
    let events = async |query: &str| {
        let request = api.request(Method::GET, &format!("{}?{query}", path(at)));
        let request = request.header("last-event-id", "1:1").header(header::ACCEPT, "text/event-stream");
        Events { response: request.send().await.unwrap(), text: String::new() }
    };
    let mut there = events("encoding=base64&follow=false").await;
    let first = there.next().await.unwrap();
    assert_eq!((first.data, first.id.as_str()), (json!({ "offset": 1, "base64": "4oI=" }), "3"));
    let last = there.next().await.unwrap();
    assert_eq!((last.name.as_str(), last.id.as_str()), ("pause", "3"));
    assert!(there.next().await.is_none());
    let mut text = events("follow=false").await;
    assert_eq!(text.next().await.unwrap().data, json!({ "offset": 1, "text": "\u{fffd}" }), "half a character");
    assert_eq!(text.next().await.unwrap().name, "pause");
    api.end_attempt(at.attempt, "success").await;
    api.end_step(at, "success").await;
    let mut ended = events("encoding=base64&follow=false").await;
    assert_eq!(ended.next().await.unwrap().data["base64"], "4oI=");
    assert_eq!(ended.next().await.unwrap().name, "end");
}

#[tokio::test]
async fn a_line_is_seen_within_a_tenth_of_a_second() {
    let api = Api::start().await;
    let at = running(&api).await;
    api.append(at.attempt, b"0\n").await;
    let mut events = Events::of(&api, at, None).await;
    events.next().await.unwrap();
    let mut took = Vec::new();
    for n in 1..20 {
        let began = std::time::Instant::now();
        api.append(at.attempt, format!("{n}\n").as_bytes()).await;
        assert_eq!(events.next().await.unwrap().data["text"], format!("{n}\n"));
        took.push(began.elapsed());
    }
    took.sort();
    assert!(took[took.len() / 2] < Duration::from_millis(100), "{took:?}");
}

#[tokio::test]
async fn a_reader_goes_on_where_it_broke_off() {
    let api = Api::start().await;
    let at = running(&api).await;
    for line in ["one\n", "two\n", "three\n"] {
        api.append(at.attempt, line.as_bytes()).await;
    }
    let mut events = Events::of(&api, at, Some("4")).await;
    assert_eq!(events.next().await.unwrap().data, json!({ "offset": 4, "text": "two\n" }));
    drop(events);
    // In the middle of a chunk, and when all has ended meanwhile.
    api.end_attempt(at.attempt, "failure").await;
    api.end_step(at, "failure").await;
    let (text, _, end) = Events::of(&api, at, Some("6")).await.rest().await;
    assert_eq!((text.as_str(), end.data), ("o\nthree\n", json!({ "status": "failure" })));
    let (text, _, _) = Events::of(&api, at, Some("14")).await.rest().await;
    assert_eq!(text, "");
}

#[tokio::test]
async fn characters_cut_in_two_come_whole_and_only_nonsense_is_replaced() {
    let api = Api::start().await;
    let at = running(&api).await;
    let crab = "🦀".as_bytes();
    api.append(at.attempt, &crab[..1]).await;
    let mut events = Events::of(&api, at, None).await;
    api.append(at.attempt, &crab[1..3]).await;
    api.append(at.attempt, &[&crab[3..], b"\xff.", &crab[..2]].concat()).await;
    let first = events.next().await.unwrap();
    assert_eq!((first.data, first.id.as_str()), (json!({ "offset": 0, "text": "🦀\u{fffd}." }), "6"));
    api.end_attempt(at.attempt, "success").await;
    api.end_step(at, "success").await;
    let (text, _, _) = events.rest().await;
    assert_eq!(text, "\u{fffd}");
    assert_eq!(Events::of(&api, at, Some("0")).await.rest().await.0, "🦀\u{fffd}.\u{fffd}");
}

#[tokio::test]
async fn a_step_that_got_another_attempt_is_followed_into_it() {
    let api = Api::start().await;
    let at = running(&api).await;
    api.append(at.attempt, b"first\n").await;
    let mut events = Events::of(&api, at, None).await;
    assert_eq!(events.next().await.unwrap().data["text"], "first\n");
    api.end_attempt(at.attempt, "lost").await;
    let second = api.attempt(at.step, 2).await;
    api.append(second, b"again\n").await;
    let event = events.next().await.unwrap();
    assert_eq!((event.name.as_str(), event.data), ("attempt", json!({ "attempt": 2 })));
    let event = events.next().await.unwrap();
    assert_eq!((event.data, event.id.as_str()), (json!({ "offset": 0, "text": "again\n" }), "2:6"));
    drop(events);
    api.end_attempt(second, "success").await;
    api.end_step(at, "success").await;
    // What was read of the first attempt says nothing of the second.
    let (text, ids, _) = Events::of(&api, at, Some("3")).await.rest().await;
    assert_eq!((text.as_str(), ids.last().unwrap().as_str()), ("st\nagain\n", "2:6"));
    let (text, ..) = Events::of(&api, at, Some("2:3")).await.rest().await;
    assert_eq!(text, "in\n");
    assert_eq!(body(&api, &format!("{}?attempt=1&follow=true", path(at))).await, "first\n");
    assert_eq!(body(&api, &format!("{}?follow=true", path(at))).await, "again\n");
    assert_eq!(api.get(&format!("{}?attempt=3", path(at))).await.0, 404);
}

#[tokio::test]
async fn an_ended_steps_log_is_a_redirect_to_a_link_that_needs_no_key() {
    let api = Api::start().await;
    let at = running(&api).await;
    api.append(at.attempt, b"one\ntwo\n").await;
    api.end_attempt(at.attempt, "success").await;
    api.end_step(at, "success").await;
    for step in ["test".to_owned(), at.step.to_string()] {
        let request = api.request(Method::GET, &format!("/api/v1/runs/{}/steps/{step}/logs", at.run));
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 307);
        let link = response.headers()[header::LOCATION].to_str().unwrap();
        let stored = api.anonymous(Method::GET, link).send().await.unwrap();
        assert_eq!(stored.headers()[header::CONTENT_TYPE], "text/plain; charset=utf-8");
        assert_eq!(stored.headers()["x-content-type-options"], "nosniff");
        assert_eq!(stored.text().await.unwrap(), "one\ntwo\n");
    }
}

#[tokio::test]
async fn plain_text_follows_to_the_end() {
    let api = Api::start().await;
    let at = running(&api).await;
    api.append(at.attempt, b"one\n").await;
    let mut follow = api.request(Method::GET, &path(at)).header(header::ACCEPT, "text/plain").send().await.unwrap();
    assert_eq!(follow.headers()[header::CONTENT_TYPE], "text/plain; charset=utf-8");
    assert_eq!(follow.chunk().await.unwrap().unwrap(), "one\n");
    api.append(at.attempt, b"two\n").await;
    assert_eq!(follow.chunk().await.unwrap().unwrap(), "two\n");
    assert_eq!(body(&api, &format!("{}?follow=false", path(at))).await, "one\ntwo\n");
    assert_eq!(body(&api, &format!("{}?follow=false&offset=5", path(at))).await, "wo\n");
    api.end_attempt(at.attempt, "success").await;
    api.end_step(at, "success").await;
    assert!(follow.chunk().await.unwrap().is_none());
    assert_eq!(body(&api, &format!("{}?follow=true", path(at))).await, "one\ntwo\n");
}

#[tokio::test]
async fn ranges_are_those_of_the_bytes_that_are_stored() {
    let api = Api::start().await;
    let at = running(&api).await;
    api.append(at.attempt, b"01234").await;
    api.append(at.attempt, b"56789").await;
    let range = async |range: &str| {
        let response = api.request(Method::GET, &path(at)).header(header::RANGE, range).send().await.unwrap();
        let of = response.headers().get(header::CONTENT_RANGE).map(|value| value.to_str().unwrap().to_owned());
        (response.status().as_u16(), of.unwrap_or_default(), response.text().await.unwrap())
    };
    assert_eq!(range("bytes=3-6").await, (206, "bytes 3-6/*".into(), "3456".into()));
    assert_eq!(range("bytes=8-").await, (206, "bytes 8-9/*".into(), "89".into()));
    assert_eq!(range("bytes=10-").await.0, 416);
    api.end_attempt(at.attempt, "success").await;
    api.end_step(at, "success").await;
    assert_eq!(range("bytes=3-6").await, (206, "bytes 3-6/10".into(), "3456".into()));
    assert_eq!(range("bytes=-2").await, (206, "bytes 8-9/10".into(), "89".into()));
    let (status, of, _) = range("bytes=10-").await;
    assert_eq!((status, of.as_str()), (416, "bytes */10"));
}

#[tokio::test]
async fn a_step_that_never_began_has_no_log() {
    let api = Api::start().await;
    let at = running(&api).await;
    sqlx::query("delete from step_attempts").execute(&api.database.pool).await.unwrap();
    api.end_step(at, "skipped").await;
    let (status, error) = api.get(&path(at)).await;
    assert_eq!((status, &error["error"]["code"]), (404, &json!("no_log")));
    assert_eq!(api.get(&format!("/api/v1/runs/{}/steps/none/logs", at.run)).await.0, 404);
}

#[tokio::test]
async fn a_shutdown_breaks_streams_off_so_that_nobody_takes_them_for_ended() {
    let mut api = Api::start().await;
    let at = running(&api).await;
    api.append(at.attempt, b"one\n").await;
    let mut events = Events::of(&api, at, None).await;
    events.next().await.unwrap();
    let mut text = api.request(Method::GET, &format!("{}?follow=true", path(at))).send().await.unwrap();
    assert_eq!(text.chunk().await.unwrap().unwrap(), "one\n");
    api.shutdown.cancel();
    assert!(events.next().await.is_none());
    assert!(text.chunk().await.is_err());
    let served = tokio::time::timeout(Duration::from_secs(5), api.served.take().unwrap());
    served.await.expect("it stops in time").unwrap().unwrap();
}

#[tokio::test]
async fn connections_that_break_are_a_pause_for_readers() {
    let api = Api::start().await;
    let at = running(&api).await;
    api.append(at.attempt, b"one\n").await;
    let mut events = Events::of(&api, at, None).await;
    events.next().await.unwrap();
    // All but the one that says so; the pool tests a connection before it hands it out.
    sqlx::query(
        "select pg_terminate_backend(pid) from pg_stat_activity
         where datname = current_database() and pid <> pg_backend_pid()",
    )
    .execute(&api.database.pool)
    .await
    .unwrap();
    api.append(at.attempt, b"two\n").await;
    assert_eq!(events.next().await.unwrap().data, json!({ "offset": 4, "text": "two\n" }));
}

#[tokio::test]
async fn a_log_of_many_chunks_comes_whole_and_in_order() {
    let api = Api::start().await;
    let at = running(&api).await;
    let line = "x".repeat(1023) + "\n";
    let chunk = line.repeat(64);
    sqlx::query("insert into step_log_chunks select $1, n * $3, $2 from generate_series(0, 319) n")
        .bind(at.attempt)
        .bind(chunk.as_bytes())
        .bind(i64::try_from(chunk.len()).unwrap())
        .execute(&api.database.pool)
        .await
        .unwrap();
    let length = 320 * chunk.len();
    sqlx::query("update step_attempts set log_len = $1")
        .bind(i64::try_from(length).unwrap())
        .execute(&api.database.pool)
        .await
        .unwrap();
    let text = body(&api, &format!("{}?follow=false", path(at))).await;
    assert_eq!(text.len(), length);
    assert!(text == chunk.repeat(320));
}

#[tokio::test]
async fn what_a_running_steps_worker_could_not_get_hold_of_is_marked() {
    let api = Api::start().await;
    let at = running(&api).await;
    sqlx::query("insert into step_log_chunks select $1, n * 1000, convert_to('line' || n || e'\\n', 'UTF8') from generate_series(0, 1) n")
        .bind(at.attempt)
        .execute(&api.database.pool)
        .await
        .unwrap();
    sqlx::query("update step_attempts set log_len = 1006").execute(&api.database.pool).await.unwrap();
    let mut events = Events::of(&api, at, None).await;
    assert_eq!(events.next().await.unwrap().data, json!({ "offset": 0, "text": "line0\n" }));
    let gap = events.next().await.unwrap();
    assert_eq!((gap.name.as_str(), gap.data), ("gap", json!({ "offset": 6, "length": 994 })));
    assert_eq!(events.next().await.unwrap().data, json!({ "offset": 1000, "text": "line1\n" }));
    let text = body(&api, &format!("{}?follow=false", path(at))).await;
    assert_eq!(text, "line0\n\n[buildit: 994 bytes of this log are shown once the step has ended]\nline1\n");
    let part = api.request(Method::GET, &path(at)).header(header::RANGE, "bytes=4-1004").send().await.unwrap();
    assert_eq!(part.status(), 206);
    assert_eq!(part.text().await.unwrap(), format!("0\n{}line1", " ".repeat(994)));
}

#[tokio::test]
async fn a_link_is_refused_when_it_expired_or_was_changed() {
    let api = Api::start().await;
    api.storage.put("logs/a.log", &b"0123456789"[..]).await.unwrap();
    let now = jiff::Timestamp::now();
    let link = async |seconds: i64| {
        api.storage.link("logs/a.log", now + jiff::SignedDuration::from_secs(seconds), None).await.unwrap()
    };
    let get = async |url: &str| answer(api.anonymous(Method::GET, url)).await;
    let (status, error) = get(link(-1).await.as_str()).await;
    assert_eq!((status, &error["error"]["code"]), (403, &json!("link_expired")));
    let changed = link(60).await.as_str().replace("a.log", "b.log");
    let (status, error) = get(&changed).await;
    assert_eq!((status, &error["error"]["code"]), (403, &json!("link_invalid")));
    assert_eq!(get(&format!("{}/objects/logs/a.log", api.url)).await.0, 403);
    assert_eq!(get(&format!("{}/objects/..%2f..%2fetc/passwd?expires=1&signature=x", api.url)).await.0, 403);
    let part =
        api.anonymous(Method::GET, link(60).await.as_str()).header(header::RANGE, "bytes=2-3").send().await.unwrap();
    assert_eq!(
        (part.status().as_u16(), part.headers()[header::CONTENT_RANGE].to_str().unwrap()),
        (206, "bytes 2-3/10")
    );
    assert_eq!(part.text().await.unwrap(), "23");
    let head = api.anonymous(Method::HEAD, link(60).await.as_str()).send().await.unwrap();
    assert_eq!(
        (head.status().as_u16(), &head.headers()[header::CONTENT_LENGTH]),
        (200, &header::HeaderValue::from(10))
    );
}
