//! Settings in layers: defaults, `buildit.toml`, the environment, flags.

mod oidc;
mod storage;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow};
use buildit_shared::{
    jobs::{DeliverWebhook, JobArgs, RunPipeline, RunStep, UploadArtifacts},
    vault::Vault,
};
use buildit_worker::{
    Egress,
    executor::{docker, kubernetes},
};
use figment::Figment;
use figment::providers::{Env, Format, Serialized, Toml};
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgConnectOptions;
use url::Url;

use crate::exit::Problem;

pub(crate) use oidc::OidcSettings;
pub(crate) use storage::{StorageKind, StorageSettings};

/// Read from the working directory when no other file is named.
const FILE: &str = "buildit.toml";

/// Variables with our prefix that are no settings: where a client finds the server, and which file
/// the settings are read from.
const RESERVED: &[&str] = &["URL", "TOKEN", "CONFIG"];

/// Values for `${secrets.NAME}` in `buildit run`, which have no names that we could know.
const SECRETS: &str = "SECRET_";

/// Tables of the file: `[storage] bucket` is `BUILDIT_STORAGE_BUCKET`.
const TABLES: &[&str] = &["docker", "kubernetes", "oidc", "storage"];

/// Taken as they are: never read as a number, which an error would then repeat.
const VERBATIM: &[&str] =
    &["signing_key", "secrets_key", "storage.access_key", "storage.secret_key", "oidc.client_id", "oidc.client_secret"];

/// Every setting there is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Settings {
    /// `postgres://user:password@host:port/name`. A direct connection: workers live on session locks and LISTEN.
    pub(crate) database_url: Option<String>,
    /// Folder of objects, mirrors, steps, and of `up`'s database.
    pub(crate) data_dir: Option<PathBuf>,
    /// Where the API listens.
    pub(crate) listen: String,
    /// Where a worker tells how it is, or `off`; without it `buildit worker` chooses, and `up` does not.
    pub(crate) worker_listen: Option<String>,
    /// The address that people and programs reach the API at; `http://` and `listen` without it.
    pub(crate) public_url: Option<Url>,
    /// How many proxies of our own a request passes before the API; each adds its client's address to `X-Forwarded-For`.
    pub(crate) trusted_proxies: u8,
    /// What links to objects are signed with; the same for all API processes and workers.
    pub(crate) signing_key: Option<String>,
    /// What secrets are sealed under: 64 hexadecimal digits, the same for all API processes and workers.
    pub(crate) secrets_key: Option<String>,
    /// Keys that sealed before, until `buildit secrets rotate` has been through.
    pub(crate) secrets_old_keys: Vec<String>,
    /// The provider of OpenID Connect that people may sign in by.
    pub(crate) oidc: OidcSettings,
    /// Where objects are.
    pub(crate) storage: StorageSettings,
    /// Projects' repositories may be paths below these folders.
    pub(crate) repository_roots: Vec<PathBuf>,
    /// The image registry that deployments name.
    pub(crate) registry: String,
    /// Where steps run; without it `up` chooses, and a worker takes `local`.
    pub(crate) executor: Option<ExecutorKind>,
    /// How they run on a Docker engine.
    pub(crate) docker: docker::Settings,
    /// How they run on a cluster.
    pub(crate) kubernetes: kubernetes::Settings,
    /// The program that carries out steps on this machine; the one beside this program without it.
    pub(crate) runner: Option<PathBuf>,
    /// Runs that one worker plans at once.
    pub(crate) pipeline_slots: usize,
    /// Steps that one worker drives at once; without it twice the cores, or 100 where steps are pods.
    pub(crate) step_slots: Option<usize>,
    /// Runs whose artifacts one worker publishes at once.
    pub(crate) artifact_slots: usize,
    /// Webhooks that one worker delivers at once.
    pub(crate) webhook_slots: usize,
    /// Networks of the installation's own that webhooks may go to, such as `10.2.0.0/16`.
    pub(crate) webhook_networks: Vec<String>,
    /// MiB of each attempt's log that are kept; what comes after is counted and dropped.
    pub(crate) log_limit_mib: u32,
    /// MiB that the runner of one attempt may store straight in the object store: log, outputs and artifacts together.
    pub(crate) upload_limit_mib: u32,
    /// Days that ended jobs are kept.
    pub(crate) history_days: i32,
    /// Days after its end that a run's steps can be retried: their outputs and the packed commit are kept so long.
    pub(crate) outputs_days: u16,
    /// What is logged, such as `info` or `buildit_worker=debug`.
    pub(crate) log: Option<String>,
    /// `text` or `json`.
    pub(crate) log_format: LogFormat,
}

/// Where steps run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ExecutorKind {
    /// As processes of the worker's machine, without isolation.
    Local,
    /// As containers of the worker's machine.
    Docker,
    /// As pods of a cluster.
    Kubernetes,
}

impl ExecutorKind {
    /// As it is written in settings.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Docker => "docker",
            Self::Kubernetes => "kubernetes",
        }
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// For programs.
    Json,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            database_url: None,
            data_dir: None,
            listen: "127.0.0.1:30080".into(),
            worker_listen: None,
            public_url: None,
            trusted_proxies: 0,
            signing_key: None,
            secrets_key: None,
            secrets_old_keys: Vec::new(),
            oidc: OidcSettings::default(),
            storage: StorageSettings::default(),
            repository_roots: Vec::new(),
            registry: "localhost:5000".into(),
            executor: None,
            docker: docker::Settings::default(),
            kubernetes: kubernetes::Settings::default(),
            runner: None,
            pipeline_slots: 4,
            step_slots: None,
            artifact_slots: 4,
            webhook_slots: 4,
            webhook_networks: Vec::new(),
            log_limit_mib: 200,
            upload_limit_mib: 10 << 10,
            history_days: 14,
            outputs_days: 7,
            log: None,
            log_format: LogFormat::Text,
        }
    }
}

/// The setting that a variable of this name, less our prefix, is about.
fn setting(variable: &str) -> String {
    let name = variable.to_ascii_lowercase();
    let in_table = |table: &&str| name.strip_prefix(table).and_then(|rest| rest.strip_prefix('_'));
    match TABLES.iter().find_map(|table| Some((table, in_table(table)?))) {
        Some((table, rest)) => format!("{table}.{rest}"),
        None => name,
    }
}

impl Settings {
    /// Reads all layers; `flags` holds those that were given on the command line, as a map.
    ///
    /// # Errors
    /// When a layer cannot be read or names a setting that does not exist.
    pub(crate) fn load(file: Option<&Path>, flags: impl Serialize) -> Result<Settings, Problem> {
        let file = file.or(Some(Path::new(FILE)).filter(|file| file.exists()));
        let mut figment = Figment::from(Serialized::defaults(Settings::default()));
        if let Some(file) = file {
            std::fs::metadata(file)
                .with_context(|| format!("cannot read the configuration file {}", file.display()))
                .map_err(Problem::usage)?;
            figment = figment.merge(Toml::file_exact(file));
        }
        let ours = Env::prefixed("BUILDIT_")
            .filter(|key| !key.starts_with(SECRETS) && !RESERVED.contains(&key.as_str()))
            .map(|key| setting(key.as_str()).into())
            .filter(|key| !VERBATIM.contains(&key.as_str()));
        let verbatim = std::env::vars_os().filter_map(|(name, value)| {
            let name = setting(name.to_str()?.strip_prefix("BUILDIT_")?);
            VERBATIM.contains(&name.as_str()).then(|| (name, value.to_string_lossy().into_owned()))
        });
        for (name, value) in verbatim {
            figment = figment.merge((name, value));
        }
        figment
            // The name that every other program takes it from.
            .merge(Env::raw().only(&["DATABASE_URL"]))
            .merge(ours)
            .merge(Serialized::defaults(flags))
            .extract()
            .map_err(|error| Problem::usage(anyhow!("{error:#}")))
    }

    /// Where the database is.
    ///
    /// # Errors
    /// When no layer names one, or what it names is no address.
    pub(crate) fn database_url(&self) -> Result<&str, Problem> {
        let Some(url) = self.database_url.as_deref() else {
            return Err(Problem::usage(anyhow!(
                "no database is given: set DATABASE_URL, `database_url` in {FILE}, or --database-url"
            )));
        };
        // The address holds a password, so it is not repeated.
        url.parse::<PgConnectOptions>().context("the address of the database is wrong").map_err(Problem::usage)?;
        Ok(url)
    }

    /// Where data lives: as said, or `/var/lib/buildit` for root, else `~/.local/share/buildit`.
    ///
    /// # Errors
    /// When nothing says it and there is no home either.
    pub(crate) fn data_dir(&self) -> Result<PathBuf, Problem> {
        if let Some(folder) = &self.data_dir {
            return Ok(std::path::absolute(folder)?);
        }
        if rustix::process::geteuid().is_root() {
            return Ok("/var/lib/buildit".into());
        }
        let share = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from);
        let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".local/share"));
        let folder = share.or_else(home).ok_or_else(|| {
            Problem::usage(anyhow!("no data folder is given: use --data-dir or set BUILDIT_DATA_DIR"))
        })?;
        Ok(folder.join("buildit"))
    }

    /// The address that links name.
    ///
    /// # Errors
    /// When `listen` cannot be part of one.
    pub(crate) fn public_url(&self) -> Result<Url, Problem> {
        match &self.public_url {
            Some(url) => Ok(url.clone()),
            None => format!("http://{}", self.listen)
                .parse()
                .with_context(|| format!("`listen` is {}, which is not HOST:PORT", self.listen))
                .map_err(Problem::usage),
        }
    }

    /// The key that links are signed with.
    ///
    /// # Errors
    /// When there is none: two processes with keys of their own would not accept each other's links.
    pub(crate) fn signing_key(&self) -> Result<&str, Problem> {
        self.signing_key.as_deref().filter(|key| key.len() >= 32).ok_or_else(|| {
            Problem::usage(anyhow!(
                "no signing key of at least 32 characters is given: set BUILDIT_SIGNING_KEY, the same for the API and all workers"
            ))
        })
    }

    /// What secrets are sealed and opened by, if a key is given.
    ///
    /// # Errors
    /// When what is given is no key.
    pub(crate) fn vault(&self) -> Result<Option<Vault>, Problem> {
        let Some(current) = &self.secrets_key else { return Ok(None) };
        Vault::new(current, self.secrets_old_keys.iter().map(String::as_str))
            .context("`secrets_key` or `secrets_old_keys` is wrong")
            .map(Some)
            .map_err(Problem::usage)
    }

    /// Where webhooks go.
    ///
    /// # Errors
    /// When `webhook_networks` names something else, or TLS cannot be set up.
    pub(crate) fn egress(&self) -> Result<Egress, Problem> {
        let networks: Result<Vec<_>, String> = self.webhook_networks.iter().map(|network| network.parse()).collect();
        let networks = networks.map_err(|error| Problem::usage(anyhow!("`webhook_networks`: {error}")))?;
        Ok(Egress::new(networks).context("TLS cannot be set up")?)
    }

    /// The program that carries out steps.
    ///
    /// # Errors
    /// When it is not there.
    pub(crate) fn runner(&self) -> Result<PathBuf, Problem> {
        let runner = match &self.runner {
            Some(runner) => runner.clone(),
            None => std::env::current_exe()?.with_file_name("buildit-runner"),
        };
        if runner.is_file() {
            return Ok(runner);
        }
        Err(Problem::usage(anyhow!(
            "{} is missing, which carries out the steps; install it there, or name it by `runner` in {FILE} or BUILDIT_RUNNER",
            runner.display()
        )))
    }

    /// Concurrency of each queue.
    pub(crate) fn slots(&self) -> BTreeMap<&'static str, usize> {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let steps = match self.executor {
            // They take nothing of this machine but a little memory.
            Some(ExecutorKind::Kubernetes) => 100,
            Some(ExecutorKind::Local | ExecutorKind::Docker) | None => cores.max(2) * 2,
        };
        [
            (RunPipeline::QUEUE, self.pipeline_slots),
            (RunStep::QUEUE, self.step_slots.unwrap_or(steps)),
            (UploadArtifacts::QUEUE, self.artifact_slots),
            (DeliverWebhook::QUEUE, self.webhook_slots),
        ]
        .into()
    }
}
