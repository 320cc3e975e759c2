//! A runner that stores what its attempt leaves.

use buildit_shared::{ids::AttemptId, storage::Checksum};
use reqwest::Method;
use serde_json::{Value, json};

use crate::api::{Api, RunningStep};

/// The runner of an attempt.
#[derive(Debug)]
pub struct Runner<'a> {
    api: &'a Api,
    /// The attempt.
    pub attempt: AttemptId,
    /// The word that it begins by.
    pub word: String,
}

impl<'a> Runner<'a> {
    /// One that has begun the attempt of a step with outputs, in a run with an artifact `results`.
    pub async fn begun(api: &'a Api, at: RunningStep) -> Self {
        for statement in [
            "update pipeline_steps set plan = '{\"outputs\": [\"target/\"]}' where run_id = $1",
            "update pipeline_runs set artifacts = '[{\"name\": \"results\"}]' where id = $1",
        ] {
            sqlx::query(statement).bind(at.run).execute(&api.database.pool).await.expect("a changed row");
        }
        let runner = Self { api, attempt: at.attempt, word: format!("runner-{}", at.attempt) };
        let (status, begun) = runner.post("begin", json!({ "runner": runner.word })).await;
        assert_eq!(status, 200, "{begun}");
        runner
    }

    /// Asks the API.
    pub async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        self.api.post_as_runner(self.attempt, &self.word, path, body).await
    }

    /// Promises an object.
    pub async fn promise(&self, name: &str, bytes: &[u8]) -> (u16, Value) {
        self.post(&format!("objects/{name}"), promised(bytes)).await
    }

    /// Sends a part to the address that the API gives; the status and the ETag.
    pub async fn send(&self, name: &str, upload: &Value, part: usize, bytes: &[u8]) -> (u16, String) {
        let body = json!({ "upload": upload, "part": part, "size": bytes.len() });
        let (status, address) = self.post(&format!("objects/{name}/parts"), body).await;
        assert_eq!(status, 200, "{address}");
        let url = address["url"].as_str().expect("an address");
        let answer = self.api.anonymous(Method::PUT, url).body(bytes.to_vec()).send().await.expect("an answer");
        let etag = answer.headers().get("etag").and_then(|etag| etag.to_str().ok()).unwrap_or_default().to_owned();
        (answer.status().as_u16(), etag)
    }

    /// Completes an object.
    pub async fn complete(&self, name: &str, upload: &Value, etags: &[String], bytes: &[u8]) -> (u16, Value) {
        let mut body = promised(bytes);
        body["upload"] = upload.clone();
        body["parts"] = json!(etags);
        self.post(&format!("objects/{name}/complete"), body).await
    }

    /// Stores an object from the promise to the end.
    pub async fn store(&self, name: &str, bytes: &[u8]) {
        let (status, promise) = self.promise(name, bytes).await;
        assert_eq!((status, &promise["exists"]), (200, &json!(false)), "{promise}");
        let size = usize::try_from(promise["part_size"].as_u64().expect("a length")).expect("a length");
        let mut parts: Vec<&[u8]> = bytes.chunks(size).collect();
        if parts.is_empty() {
            parts.push(b"");
        }
        assert_eq!(promise["parts"], parts.len());
        let mut etags = Vec::new();
        for (index, part) in parts.into_iter().enumerate() {
            let (status, etag) = self.send(name, &promise["upload"], index + 1, part).await;
            assert_eq!(status, 200);
            etags.push(etag);
        }
        let (status, completed) = self.complete(name, &promise["upload"], &etags, bytes).await;
        assert_eq!((status, &completed), (200, &json!({})));
    }
}

fn promised(bytes: &[u8]) -> Value {
    json!({ "size": bytes.len(), "sha256": Checksum::of(bytes).to_string() })
}
