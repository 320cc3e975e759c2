//! What all handlers share.

use std::{
    ops::Deref,
    path::PathBuf,
    sync::{Arc, atomic::AtomicBool},
};

use buildit_shared::{
    attempt_token::AttemptTokens,
    link_token::LinkTokens,
    queue::{Notifier, Signals},
    storage::Storage,
    vault::Vault,
};
use metrics_exporter_prometheus::PrometheusHandle;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::{
    error::{ApiError, Result},
    logs::Tails,
    oidc::{Oidc, Settings as OidcSettings},
    routes::metrics::Cache,
};

/// What the API needs to run.
#[derive(Clone, Debug)]
pub struct Config {
    /// Connections for requests; see [`buildit_shared::db::Use::Api`].
    pub pool: PgPool,
    /// Connections for what runners ask; see [`buildit_shared::db::Use::Runners`].
    pub runners: PgPool,
    /// What the processes tell each other.
    pub signals: Signals,
    /// Logs and artifacts.
    pub storage: Storage,
    /// What runners show for their attempts.
    pub attempt_tokens: AttemptTokens,
    /// What secrets are sealed by; without it none can be set.
    pub vault: Option<Vault>,
    /// The provider of OpenID Connect that people may sign in by, if there is one.
    pub oidc: Option<OidcSettings>,
    /// What addresses show that are their own permission.
    pub link_tokens: LinkTokens,
    /// Bytes of one attempt's log that are kept.
    pub log_limit: u64,
    /// Bytes that the runner of one attempt may store by itself, altogether.
    pub upload_limit: u64,
    /// The address people and programs reach this API at.
    pub public_url: Url,
    /// Folders below which a project's repository may be a path; none means no paths at all.
    pub repository_roots: Vec<PathBuf>,
    /// How many proxies of our own each request passes, which add to `X-Forwarded-For`; 0 means that the header is anybody's.
    pub trusted_proxies: u8,
    /// Where this process's metrics are, for `/metrics`; without it only what the database knows is shown.
    pub metrics: Option<PrometheusHandle>,
}

/// The state of the API; cheap to clone.
#[derive(Clone, Debug)]
pub struct App(Arc<Inner>);

/// What is behind an [`App`].
#[derive(Debug)]
pub struct Inner {
    pub(crate) config: Config,
    pub(crate) notifier: Notifier,
    pub(crate) oidc: Option<Oidc>,
    /// Ends streams, which would hold up the end of the process.
    pub(crate) shutdown: CancellationToken,
    pub(crate) fleet_metrics: Cache,
    /// The logs that are followed.
    pub(crate) tails: Tails,
    /// The object store answered to this process, so its settings are right.
    pub(crate) storage_answered: AtomicBool,
}

impl App {
    /// The state of a process with that configuration.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(config: Config, shutdown: CancellationToken) -> std::io::Result<Self> {
        let oidc = config.oidc.clone().map(Oidc::new).transpose().map_err(std::io::Error::other)?;
        let notifier = Notifier::new(config.pool.clone());
        Ok(Self(Arc::new(Inner {
            config,
            notifier,
            oidc,
            shutdown,
            fleet_metrics: Cache::default(),
            tails: Tails::default(),
            storage_answered: AtomicBool::new(false),
        })))
    }

    pub(crate) fn pool(&self) -> &PgPool {
        &self.config.pool
    }

    /// For handlers of attempts.
    pub(crate) fn runners(&self) -> &PgPool {
        &self.config.runners
    }

    pub(crate) fn signals(&self) -> &Signals {
        &self.config.signals
    }

    pub(crate) fn storage(&self) -> &Storage {
        &self.config.storage
    }

    /// What secrets are sealed by.
    pub(crate) fn vault(&self) -> Result<&Vault> {
        self.config.vault.as_ref().ok_or_else(|| {
            let message = "this installation has no key to keep secrets under: its operator sets `secrets_key`";
            ApiError::conflict("no_secrets_key", message)
        })
    }

    /// The full address of a path of this API.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.config.public_url.as_str().trim_end_matches('/'))
    }
}

impl Deref for App {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}
