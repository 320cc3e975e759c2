//! What can go wrong between here and the server.

use reqwest::StatusCode;
use serde_json::Value;
use url::Url;

use crate::exit::{Exit, Problem};

/// A request that was not answered as it should.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// Nobody answered.
    #[error("no BuildIt answers at {url}: {cause}")]
    Away {
        url: Url,
        cause: String,
        /// It got no request.
        unasked: bool,
    },
    /// It answered that it cannot at the moment.
    #[error("BuildIt at {url} cannot answer at the moment: {message}")]
    Busy { url: Url, message: String },
    /// Somebody else answered.
    #[error("what answers at {url} is not BuildIt: {found}")]
    Stranger { url: Url, found: String },
    /// It does not know the key.
    #[error("{url} refused the key: {message}; `buildit login {url}` takes another one")]
    KeyRefused { url: Url, message: String },
    /// The key may not do that.
    #[error("{url} refused this: {message}; log in with a key that may")]
    Forbidden { url: Url, message: String },
    /// It will not do that, or there is no such thing.
    #[error("{message} ({status}, at {url})")]
    Refused { url: Url, status: StatusCode, message: String },
}

impl Error {
    /// Of an answer that is not 2xx.
    pub(super) fn of_answer(url: &Url, status: StatusCode, body: &[u8]) -> Self {
        let url = url.clone();
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let Some(message) = body.pointer("/error/message").and_then(Value::as_str) else {
            let found = format!("it says {status} and no more");
            return if status.is_server_error() {
                // A proxy whose server is away.
                Self::Busy { url, message: status.to_string() }
            } else {
                Self::Stranger { url, found }
            };
        };
        let message = message.to_owned();
        match status {
            StatusCode::UNAUTHORIZED => Self::KeyRefused { url, message },
            StatusCode::FORBIDDEN => Self::Forbidden { url, message },
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => Self::Busy { url, message },
            status if status.is_server_error() => Self::Busy { url, message },
            status => Self::Refused { url, status, message },
        }
    }

    /// Of a request that got no answer, or half of one.
    pub(super) fn away(url: &Url, error: &reqwest::Error) -> Self {
        // The outer ones only repeat the address.
        let mut cause: &dyn std::error::Error = error;
        while let Some(source) = cause.source() {
            cause = source;
        }
        let cause = if error.is_timeout() { "no answer in time".to_owned() } else { cause.to_string() };
        Self::Away { url: url.clone(), cause, unasked: error.is_connect() }
    }

    /// It may go by itself.
    pub(super) fn is_passing(&self) -> bool {
        matches!(self, Self::Away { .. } | Self::Busy { .. })
    }

    /// It may have done what it was asked for.
    pub(super) fn is_open(&self) -> bool {
        matches!(self, Self::Away { unasked: false, .. } | Self::Busy { .. })
    }

    /// How the command ends with it.
    pub(super) fn problem(self) -> Problem {
        let exit = match self {
            Self::Away { .. } | Self::Busy { .. } | Self::Stranger { .. } => Exit::Unreachable,
            Self::KeyRefused { .. } => Exit::Usage,
            Self::Forbidden { .. } | Self::Refused { .. } => Exit::Failure,
        };
        let hint = if matches!(self, Self::Away { .. }) { "; is it up, and is that its address?" } else { "" };
        Problem { exit, error: anyhow::anyhow!("{self}{hint}") }
    }
}
