//! One delivery to the server, within a bounded time.

use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use reqwest::StatusCode;
use reqwest::redirect::Policy;
use serde::Deserialize;

use super::repository::Target;
use super::spool::Delivery;

const CONNECT_LIMIT: Duration = Duration::from_secs(1);
const LIMIT: Duration = Duration::from_secs(3);

/// Of an answer, in bytes; more is cut off.
const ANSWER_LIMIT: usize = 64 << 10;

/// What the server said to a delivery.
#[derive(Debug)]
pub(crate) enum Answer {
    /// It has it.
    Taken(Vec<Run>),
    /// It will never take it.
    Refused(String),
    /// It may take it later.
    Unavailable(String),
}

/// A run that the delivery started, or had started before.
#[derive(Debug, Deserialize)]
pub(crate) struct Run {
    pub(crate) number: i64,
    pub(crate) status: String,
    pub(crate) url: String,
}

#[derive(Deserialize)]
struct Taken {
    #[serde(default)]
    runs: Vec<Run>,
}

/// Where deliveries go.
#[derive(Debug)]
pub(crate) struct Server {
    client: reqwest::Client,
    address: url::Url,
    key: String,
}

impl Server {
    pub(crate) fn new(target: &Target, key: String) -> Result<Server> {
        let client = client()?;
        let mut address = target.url.clone();
        address
            .path_segments_mut()
            .map_err(|()| anyhow!("{} is not the address of a server", target.url))?
            .pop_if_empty()
            .extend(["api", "v1", "projects", &target.project, "deliveries"]);
        Ok(Server { client, address, key })
    }

    pub(crate) async fn send(&self, delivery: &Delivery) -> Answer {
        let request = self.client.post(self.address.clone()).bearer_auth(&self.key).json(delivery);
        let (status, body) = match exchange(request).await {
            Ok(answer) => answer,
            Err(error) => {
                return Answer::Unavailable(format!("{} does not answer: {}", self.address, innermost(&error)));
            }
        };
        let said = format!("{status}: {}", message(&body));
        if status == StatusCode::OK || status == StatusCode::CREATED {
            return match serde_json::from_slice::<Taken>(&body) {
                Ok(taken) => Answer::Taken(taken.runs),
                Err(error) => {
                    Answer::Unavailable(format!("{} does not speak BuildIt's language: {error}", self.address))
                }
            };
        }
        // These pass.
        let later = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_EARLY, StatusCode::TOO_MANY_REQUESTS];
        if status.is_client_error() && !later.contains(&status) {
            return Answer::Refused(said);
        }
        Answer::Unavailable(said)
    }
}

/// Short limits: a person waits, or git does.
pub(super) fn client() -> Result<reqwest::Client> {
    // The second one of a process changes nothing.
    rustls::crypto::ring::default_provider().install_default().ok();
    reqwest::Client::builder()
        .connect_timeout(CONNECT_LIMIT)
        .timeout(LIMIT)
        // Elsewhere the key has no business.
        .redirect(Policy::none())
        .build()
        .context("cannot set up the connection")
}

pub(super) async fn exchange(request: reqwest::RequestBuilder) -> reqwest::Result<(StatusCode, Vec<u8>)> {
    let mut response = request.send().await?;
    let status = response.status();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        body.extend_from_slice(&chunk);
        if body.len() > ANSWER_LIMIT {
            body.truncate(ANSWER_LIMIT);
            break;
        }
    }
    Ok((status, body))
}

/// The message of an error answer, or its text.
pub(super) fn message(body: &[u8]) -> String {
    let json: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let message = json.as_ref().and_then(|json| json.pointer("/error/message").or(json.get("message")));
    match message.and_then(|message| message.as_str()) {
        Some(message) => message.to_owned(),
        None => String::from_utf8_lossy(body).chars().take(200).collect(),
    }
}

/// The outer ones only repeat the address.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
