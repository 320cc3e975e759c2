//! What the operator decides about containers. Nothing here comes from a repository.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use bollard::auth::DockerCredentials;
use serde::{Deserialize, Serialize};

use super::credentials;

/// How steps run on a Docker engine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The engine, `unix://PATH` or `tcp://HOST:PORT`; by default what `DOCKER_HOST` says, else `/var/run/docker.sock`.
    pub host: Option<String>,
    /// Folder with the static `buildit-runner` of this version; by default `pod` beside this program.
    pub runner: Option<PathBuf>,
    /// The network that steps are in; the engine's own default without it.
    pub network: Option<String>,
    /// When images are pulled.
    pub pull: Pull,
    /// File with the registries' credentials, as `docker login` writes it; by default `config.json` in `DOCKER_CONFIG`,
    /// else in `~/.docker`.
    pub credentials: Option<PathBuf>,
    /// More labels for each container.
    pub labels: BTreeMap<String, String>,
    /// Thousandths of a core that a step which names none may use; without it all there are.
    pub default_cpu_millis: Option<u64>,
    /// Bytes of memory that a step which names none may use; without it all there is.
    pub default_memory_bytes: Option<u64>,
    /// The most a step may ask for, in thousandths of a core.
    pub max_cpu_millis: Option<u64>,
    /// The most a step may ask for, in bytes.
    pub max_memory_bytes: Option<u64>,
    /// Processes and threads that a step may have at once.
    pub pids_limit: i64,
    /// Seconds that a step's image may fail to be pulled, as long as it may still come.
    pub pull_limit_s: u64,
}

/// When a step's image is pulled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pull {
    /// When the engine has none of that name.
    Missing,
    /// For each step.
    Always,
    /// Not at all.
    Never,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            host: None,
            runner: None,
            network: None,
            pull: Pull::Missing,
            credentials: None,
            labels: BTreeMap::new(),
            default_cpu_millis: None,
            default_memory_bytes: None,
            max_cpu_millis: None,
            max_memory_bytes: None,
            pids_limit: 16384,
            pull_limit_s: 600,
        }
    }
}

impl Settings {
    /// The engine's address.
    pub fn address(&self) -> String {
        let said = || std::env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty());
        self.host.clone().or_else(said).unwrap_or_else(|| "unix:///var/run/docker.sock".to_owned())
    }

    /// The program that is the first process of each container. It has to be static to run in any image.
    ///
    /// # Errors
    /// When it is not there.
    pub fn runner(&self) -> std::io::Result<PathBuf> {
        let folder = match &self.runner {
            Some(folder) => std::path::absolute(folder)?,
            None => std::env::current_exe()?.with_file_name("pod"),
        };
        let runner = folder.join("buildit-runner");
        match runner.is_file() {
            true => Ok(runner),
            false => Err(std::io::Error::other(format!("{} is missing, which runs in containers", runner.display()))),
        }
    }

    /// For the registry of this image, as they are now.
    pub(super) fn credentials(&self, image: &str) -> Option<DockerCredentials> {
        let folder = || std::env::var_os("DOCKER_CONFIG").map(PathBuf::from);
        let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".docker"));
        let file = self.credentials.clone().or_else(|| Some(folder().or_else(home)?.join("config.json")))?;
        credentials::credentials(&file, image)
    }

    pub(super) fn pull_limit(&self) -> Duration {
        Duration::from_secs(self.pull_limit_s)
    }
}
