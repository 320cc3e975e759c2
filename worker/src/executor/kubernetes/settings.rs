//! What the operator decides about pods. Nothing here comes from a repository.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use buildit_shared::db::attempts_ahead::Limits;
use k8s_openapi::api::core::v1::Toleration;
use serde::{Deserialize, Serialize};

/// How steps run on a cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Where pods and their Secrets are made.
    pub namespace: String,
    /// Tells this installation's pods from those of another one in the same namespace.
    pub installation: String,
    /// The API's base URL as pods reach it.
    pub api_url: String,
    /// Folder with the static `buildit-runner` and `buildit-start` of this version; by default `pod` beside this program.
    pub runner: Option<PathBuf>,
    /// PEM of a private certificate authority that the API and the storage are signed by.
    pub ca: Option<String>,
    /// The pods' service account; its token is never mounted.
    pub service_account: Option<String>,
    /// Secrets of the namespace that pull images.
    pub image_pull_secrets: Vec<String>,
    /// Nodes that steps may run on.
    pub node_selector: BTreeMap<String, String>,
    /// Taints that steps tolerate.
    pub tolerations: Vec<Toleration>,
    /// More labels for each pod.
    pub labels: BTreeMap<String, String>,
    /// Thousandths of a core of a step that names none: what is reserved for it.
    pub default_cpu_millis: u64,
    /// Bytes of memory of a step that names none: reserved, and its limit.
    pub default_memory_bytes: u64,
    /// The most a step may ask for, in thousandths of a core.
    pub max_cpu_millis: Option<u64>,
    /// The most a step may ask for, in bytes.
    pub max_memory_bytes: Option<u64>,
    /// Seconds that a step's image may fail to be pulled.
    pub pull_limit_s: u64,
    /// Seconds that a pod may wait for a node.
    pub schedule_limit_s: u64,
    /// Pods of one run that may be up before their steps' turn; 0 for none.
    pub ahead_of_a_run: u32,
    /// The same, of all runs.
    pub ahead_in_all: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            namespace: "default".into(),
            installation: "buildit".into(),
            api_url: String::new(),
            runner: None,
            ca: None,
            service_account: None,
            image_pull_secrets: Vec::new(),
            node_selector: BTreeMap::new(),
            tolerations: Vec::new(),
            labels: BTreeMap::new(),
            default_cpu_millis: 100,
            default_memory_bytes: 1 << 30,
            max_cpu_millis: None,
            max_memory_bytes: None,
            pull_limit_s: 600,
            schedule_limit_s: 3600,
            ahead_of_a_run: 0,
            ahead_in_all: 20,
        }
    }
}

impl Settings {
    /// What is missing for pods to run at all, for people.
    pub fn problem(&self) -> Option<String> {
        let missing = "kubernetes.api_url is not set: the address of BuildIt's API as pods reach it";
        self.api_url.is_empty().then(|| missing.to_owned())
    }

    pub(super) fn runner_folder(&self) -> std::io::Result<PathBuf> {
        match &self.runner {
            Some(folder) => Ok(folder.clone()),
            None => Ok(std::env::current_exe()?.with_file_name("pod")),
        }
    }

    pub(super) fn pull_limit(&self) -> Duration {
        Duration::from_secs(self.pull_limit_s)
    }

    pub(super) fn ahead(&self) -> Limits {
        Limits { of_a_run: self.ahead_of_a_run, in_all: self.ahead_in_all }
    }

    pub(super) fn schedule_limit(&self) -> Duration {
        Duration::from_secs(self.schedule_limit_s)
    }
}
