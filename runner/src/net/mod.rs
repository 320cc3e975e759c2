//! HTTP for a runner in a pod: names, TLS, requests, and trying again.
//!
//! Nothing of it depends on the image the step runs in but `/etc/hosts` and `/etc/resolv.conf`,
//! and no proxy of the environment is used: that is the step's.

mod dns;
mod patience;
mod tls;

use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use ureq::unversioned::transport::{Connector, TcpConnector};
use ureq::{Agent, Body, SendBody, http};

use dns::StubResolver;
use tls::TlsConnector;

pub(crate) use patience::{GivenUp, Patience, Refusals};

/// How long a connection may be silent. The API holds a request for at most half of it.
const SILENCE: Duration = Duration::from_secs(60);

/// Bytes of an answer that are read: those of the API are short, and errors of the storage too.
const LONGEST_ANSWER: u64 = 16 << 20;

/// Makes requests. Clones share their connections.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    agent: Agent,
}

/// Why a request brought nothing.
#[derive(Debug)]
pub(crate) enum Failed {
    /// Another try may bring more.
    Again(String),
    /// The server has understood, and refuses.
    Refused {
        /// The HTTP status.
        status: u16,
        /// What the server says, for people.
        message: String,
    },
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failed::Again(message) => f.write_str(message),
            Failed::Refused { status, message } => write!(f, "status {status}: {message}"),
        }
    }
}

impl Client {
    /// `ca` is PEM. `Err` says what is wrong with it.
    pub(crate) fn new(ca: Option<&str>) -> Result<Client, String> {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("buildit-runner/", env!("CARGO_PKG_VERSION")))
            .timeout_resolve(Some(Duration::from_secs(15)))
            .timeout_connect(Some(Duration::from_secs(15)))
            .timeout_per_read(Some(SILENCE))
            .timeout_per_write(Some(SILENCE))
            .build();
        let connector = ().chain(TcpConnector::default()).chain(TlsConnector::new(ca)?);
        Ok(Client { agent: Agent::with_parts(config, connector, StubResolver::new()) })
    }

    /// Breaks off all requests of this client and its clones, and makes them useless.
    pub(crate) fn shut_down(self) {
        self.agent.shutdown();
    }

    /// Posts `body` as JSON, for at most `limit`, and returns the status, below 300, and what came.
    pub(crate) fn post(
        &self,
        url: &str,
        headers: &[(&str, &str)],
        body: &impl Serialize,
        limit: Duration,
    ) -> Result<(u16, Vec<u8>), Failed> {
        let body = serde_json::to_vec(body).map_err(|error| Failed::Again(error.to_string()))?;
        let request = self.agent.post(url).config().timeout_global(Some(limit)).build();
        let mut request = request.content_type("application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = good(request.send(&body[..]))?;
        let status = answer.status().as_u16();
        let body = answer.into_body().into_with_config().limit(LONGEST_ANSWER).read_to_vec();
        Ok((status, body.map_err(|error| Failed::Again(error.to_string()))?))
    }

    /// Begins to get `url`: the length, if it is told, and the body.
    pub(crate) fn get(&self, url: &str) -> Result<(Option<u64>, impl Read + use<>), Failed> {
        let answer = good(self.agent.get(url).call())?;
        let body = answer.into_body();
        Ok((body.content_length(), body.into_reader()))
    }

    /// Puts the next `size` bytes of `body`, for at most `limit`, and returns the answer's headers.
    pub(crate) fn put(
        &self,
        url: &str,
        body: &mut dyn Read,
        size: u64,
        limit: Duration,
    ) -> Result<http::HeaderMap, Failed> {
        let request = self.agent.put(url).config().timeout_global(Some(limit)).build();
        let request = request.header("content-length", size);
        let mut answer = good(request.send(SendBody::from_reader(body)))?;
        // Read to its end, so that the connection can be used again.
        let _ = io::copy(&mut answer.body_mut().as_reader().take(LONGEST_ANSWER), &mut io::sink());
        Ok(answer.into_parts().0.headers)
    }
}

/// Reads JSON. What cannot be read may have been cut off on its way.
pub(crate) fn from_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failed> {
    serde_json::from_slice(body).map_err(|error| Failed::Again(format!("the answer is not as expected: {error}")))
}

fn good(answer: Result<http::Response<Body>, ureq::Error>) -> Result<http::Response<Body>, Failed> {
    let mut answer = answer.map_err(|error| Failed::Again(error.to_string()))?;
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    let text = answer.body_mut().with_config().limit(64 << 10).lossy_utf8(true).read_to_string().unwrap_or_default();
    let message = said(&text);
    match status.as_u16() {
        408 | 425 | 429 | 500.. => Err(Failed::Again(format!("status {}: {message}", status.as_u16()))),
        status => Err(Failed::Refused { status, message }),
    }
}

/// The beginning of an error's text, on one line.
fn said(text: &str) -> String {
    let mut line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.truncate(line.floor_char_boundary(300));
    line
}

/// Bytes of chance.
pub(crate) fn chance<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [MaybeUninit::uninit(); N];
    let (filled, _) = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    (&*filled).try_into().map_err(|_| io::ErrorKind::UnexpectedEof.into())
}
