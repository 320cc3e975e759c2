//! Signing in by a provider of OpenID Connect, with the authorization code flow. It promises:
//!
//! - an answer of the provider counts once, in the browser that asked, within ten minutes: `state`, `nonce` and the code's verifier
//!   (PKCE) are derived from a random token in that browser's cookie;
//! - what the provider says of a person counts only with a signature by one of its keys, for this client, and not expired;
//! - a person is an issuer and a subject. An address leads to an account or an invitation once, and only where the provider has
//!   verified it;
//! - the client's secret goes to the provider's token address alone, and no token is kept or logged;
//! - a provider that is away delays nobody else: it is asked only when somebody signs in by it, for a bounded time.

mod crypto;
mod http;
mod id_token;
mod person;
mod provider;
mod settings;
mod sign_in;

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::Mutex;

pub use settings::{Newcomers, Settings};
pub(crate) use sign_in::{Answer, begin, finish};

use http::Http;
use provider::Provider;

/// How long what the provider says of itself is believed without asking again.
const FRESH: Duration = Duration::from_secs(60 * 60);
/// How long it serves while the provider does not answer.
const USABLE: Duration = Duration::from_secs(24 * 60 * 60);
/// Whoever comes so soon after a failure gets the same one, and is not kept waiting.
const PAUSE: Duration = Duration::from_secs(5);

/// Why nobody was signed in; the cause is for the log.
#[derive(Debug, thiserror::Error)]
enum Error {
    /// It may go by itself.
    #[error("the provider does not answer: {0}")]
    Away(String),
    /// What the provider says cannot be believed, or it does not want this client.
    #[error("{0}")]
    Refused(String),
    /// The key that a token names is none of those that are known.
    #[error("the ID token is signed by a key that the provider does not publish")]
    UnknownKey,
}

/// The provider as this process knows it.
pub(crate) struct Oidc {
    settings: Settings,
    http: Http,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    provider: Option<(Instant, Arc<Provider>)>,
    failed: Option<(Instant, String)>,
}

impl fmt::Debug for Oidc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.settings.fmt(f)
    }
}

impl Oidc {
    /// Asks the provider nothing yet.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub(crate) fn new(settings: Settings) -> Result<Self, reqwest::Error> {
        crypto::install();
        Ok(Self { http: Http::new(settings.is_local())?, settings, known: Mutex::default() })
    }

    /// What people know the provider by.
    pub(crate) fn label(&self) -> &str {
        &self.settings.label
    }

    /// The provider as it was at most `age` ago; an older state where it does not answer. Of many who ask at once, one asks it.
    async fn provider(&self, age: Duration) -> Result<Arc<Provider>, Error> {
        let mut known = self.known.lock().await;
        let usable = match &known.provider {
            Some((at, provider)) if at.elapsed() < age => return Ok(Arc::clone(provider)),
            Some((at, provider)) if at.elapsed() < USABLE => Some(Arc::clone(provider)),
            _ => None,
        };
        if let Some((at, cause)) = &known.failed
            && at.elapsed() < PAUSE
        {
            return usable.ok_or_else(|| Error::Away(cause.clone()));
        }
        match Provider::discover(&self.http, &self.settings).await {
            Ok(provider) => {
                let provider = Arc::new(provider);
                *known = Known { provider: Some((Instant::now(), Arc::clone(&provider))), failed: None };
                Ok(provider)
            }
            Err(error) => {
                if let Error::Away(cause) = &error {
                    known.failed = Some((Instant::now(), cause.clone()));
                }
                tracing::warn!(%error, issuer = self.settings.issuer, "the provider of OpenID Connect cannot be used");
                usable.ok_or(error)
            }
        }
    }
}
