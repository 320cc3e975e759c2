//! The server, as its key may see it.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow};
use reqwest::{Method, Response, header, redirect::Policy};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use url::Url;

use super::{credentials::Credentials, error::Error};
use crate::exit::Problem;

const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// For a request whose answer is no stream.
const LIMIT: Duration = Duration::from_secs(60);
/// How long something is asked for again that may have been done, and how often.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(500);
/// Items of a list that are asked for at once; the server gives no more.
const PAGE: usize = 200;

/// A server and the key for it.
pub(super) struct Server {
    client: reqwest::Client,
    credentials: Credentials,
    /// Somebody was told that it does not answer.
    away: AtomicBool,
}

impl Server {
    /// It is not asked for anything yet.
    pub(super) fn new(credentials: Credentials) -> Result<Self, Problem> {
        if !matches!(credentials.url.scheme(), "http" | "https") || !credentials.url.has_host() {
            return Err(Problem::usage(anyhow!(
                "{} is no address of a server, such as https://ci.example.org",
                credentials.url
            )));
        }
        if !credentials.url.username().is_empty() || credentials.url.password().is_some() {
            return Err(Problem::usage(anyhow!(
                "an address holds no user and no password: a key is read from the terminal"
            )));
        }
        // The second one of a process changes nothing.
        rustls::crypto::ring::default_provider().install_default().ok();
        let client = reqwest::Client::builder()
            .user_agent(concat!("buildit/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_LIMIT)
            // Elsewhere the key has no business.
            .redirect(Policy::none())
            .build()
            .context("cannot set up the connection")?;
        Ok(Self { client, credentials, away: AtomicBool::new(false) })
    }

    /// Its address.
    pub(super) fn url(&self) -> &Url {
        &self.credentials.url
    }

    /// What to talk to, and as whom.
    pub(super) fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// `GET`.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &[&str], query: &[(&str, &str)]) -> Result<T, Error> {
        self.json(self.request(Method::GET, path).query(query)).await
    }

    /// `POST` with a JSON body.
    pub(super) async fn post<T: DeserializeOwned>(&self, path: &[&str], body: &impl Serialize) -> Result<T, Error> {
        self.json(self.request(Method::POST, path).json(body)).await
    }

    /// `POST` of something that does no harm when it comes twice: asked again where it is not known whether it was done.
    pub(super) async fn post_again<T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: &impl Serialize,
    ) -> Result<T, Error> {
        let begun = Instant::now();
        let mut open = false;
        loop {
            let error = match self.post(path, body).await {
                Err(error) if error.is_passing() => error,
                answer => {
                    self.answers();
                    return answer;
                }
            };
            open |= error.is_open();
            if !open || begun.elapsed() > PATIENCE {
                return Err(error);
            }
            self.says_nothing(&error);
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// `PUT` with a JSON body, answered by nothing.
    pub(super) async fn put(&self, path: &[&str], body: &impl Serialize) -> Result<(), Error> {
        self.answer(self.request(Method::PUT, path).json(body).timeout(LIMIT)).await.map(|_| ())
    }

    /// `DELETE`.
    pub(super) async fn delete(&self, path: &[&str]) -> Result<(), Error> {
        self.answer(self.request(Method::DELETE, path).timeout(LIMIT)).await.map(|_| ())
    }

    /// The first `most` items of a list.
    pub(super) async fn list(&self, path: &[&str], query: &[(&str, &str)], most: usize) -> Result<Vec<Value>, Error> {
        let mut items: Vec<Value> = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let limit = (most - items.len()).clamp(1, PAGE).to_string();
            let mut query = query.to_vec();
            query.push(("limit", &limit));
            query.extend(cursor.as_deref().map(|cursor| ("cursor", cursor)));
            let mut page: Value = self.get(path, &query).await?;
            items.extend(page["items"].as_array_mut().map(std::mem::take).unwrap_or_default());
            cursor = page["next_cursor"].as_str().map(str::to_owned);
            if cursor.is_none() || items.len() >= most {
                items.truncate(most);
                return Ok(items);
            }
        }
    }

    /// An answer that goes on as server-sent events.
    pub(super) async fn stream(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
        last: Option<&str>,
    ) -> Result<Response, Error> {
        let mut request = self.request(Method::GET, path).query(query).header(header::ACCEPT, "text/event-stream");
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        tokio::time::timeout(LIMIT, self.answer(request)).await.unwrap_or_else(|_| {
            Err(Error::Away { url: self.url().clone(), cause: "no answer in time".into(), unasked: false })
        })
    }

    /// Tells that it does not answer, once for however many streams.
    pub(super) fn says_nothing(&self, error: &Error) {
        if !self.away.swap(true, Ordering::Relaxed) {
            eprintln!("buildit: {error}; trying again");
        }
    }

    /// Tells that it answers again, if somebody was told that it did not.
    pub(super) fn answers(&self) {
        if self.away.swap(false, Ordering::Relaxed) {
            eprintln!("buildit: {} answers again", self.url());
        }
    }

    fn request(&self, method: Method, path: &[&str]) -> reqwest::RequestBuilder {
        let mut url = self.url().clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(["api", "v1"]).extend(path);
        }
        url.set_query(None);
        self.client.request(method, url).bearer_auth(&self.credentials.key)
    }

    async fn json<T: DeserializeOwned>(&self, request: reqwest::RequestBuilder) -> Result<T, Error> {
        let response = self.answer(request.timeout(LIMIT)).await?;
        let body = response.bytes().await.map_err(|error| Error::away(self.url(), &error))?;
        serde_json::from_slice(&body).map_err(|error| Error::Stranger {
            url: self.url().clone(),
            found: format!("its answer cannot be read, {error}"),
        })
    }

    /// The answer, if it is 2xx.
    async fn answer(&self, request: reqwest::RequestBuilder) -> Result<Response, Error> {
        let response = request.send().await.map_err(|error| Error::away(self.url(), &error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        if let Some(location) = response.headers().get(header::LOCATION).filter(|_| status.is_redirection()) {
            let found = format!("it sends one to {}", location.to_str().unwrap_or("another address"));
            return Err(Error::Stranger { url: self.url().clone(), found });
        }
        let body = response.bytes().await.unwrap_or_else(|_| json!({}).to_string().into());
        Err(Error::of_answer(self.url(), status, &body))
    }
}
