//! Requests to the provider: for a bounded time, of a bounded length, and never led elsewhere.

use std::time::Duration;

use reqwest::{Client, RequestBuilder, redirect::Policy};
use serde::de::DeserializeOwned;
use url::Url;

use super::Error;

/// From the begin of a request to the end of its answer. A sign-in asks three times at most, and is to end within the time
/// of one request to us.
const LIMIT: Duration = Duration::from_secs(6);
/// Bytes of an answer.
const LONGEST: usize = 1 << 20;

pub(super) struct Http(Client);

/// What the provider answered.
pub(super) struct Answered {
    status: reqwest::StatusCode,
    body: Vec<u8>,
}

impl Http {
    /// On this machine no proxy is asked.
    pub(super) fn new(is_local: bool) -> Result<Self, reqwest::Error> {
        let builder = Client::builder()
            .redirect(Policy::none())
            .timeout(LIMIT)
            .user_agent(concat!("BuildIt/", env!("CARGO_PKG_VERSION")));
        let builder = if is_local { builder.no_proxy() } else { builder };
        Ok(Self(builder.build()?))
    }

    /// What is at that address.
    pub(super) async fn get<T: DeserializeOwned>(&self, url: &Url) -> Result<T, Error> {
        let answered = send(self.0.get(url.clone())).await?;
        if !answered.status.is_success() {
            return Err(Error::Away(format!("{url} answers {}", answered.status)));
        }
        answered.json(url)
    }

    /// A form for that address.
    pub(super) fn post(&self, url: &Url, form: String) -> RequestBuilder {
        self.0.post(url.clone()).header("content-type", "application/x-www-form-urlencoded").body(form)
    }
}

/// Sends a request.
pub(super) async fn send(request: RequestBuilder) -> Result<Answered, Error> {
    // The address of an error is left out where a request could have a secret in it; none of ours has.
    let away = |error: reqwest::Error| Error::Away(chain(&error));
    let mut response = request.header("accept", "application/json").send().await.map_err(away)?;
    let status = response.status();
    if status.is_server_error() {
        return Err(Error::Away(format!("{} answers {status}", response.url())));
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(away)? {
        if body.len() + chunk.len() > LONGEST {
            return Err(Error::Refused(format!("{} answers with more than {LONGEST} bytes", response.url())));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Answered { status, body })
}

impl Answered {
    pub(super) fn is_success(&self) -> bool {
        self.status.is_success()
    }

    /// Its body, of which nothing is repeated where it cannot be read: it may hold tokens.
    pub(super) fn json<T: DeserializeOwned>(&self, url: &Url) -> Result<T, Error> {
        serde_json::from_slice(&self.body).map_err(|error| {
            let (line, column, status) = (error.line(), error.column(), self.status);
            Error::Refused(format!("what {url} answers ({status}) is not what it should be at {line}:{column}"))
        })
    }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
