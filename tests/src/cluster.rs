//! The Kubernetes of `./dev cluster up`, with a namespace for each test.

use std::{env, path::PathBuf, time::Duration};

use k8s_openapi::api::core::v1::{Namespace, Pod, ResourceQuota, ServiceAccount};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, PostParams},
};
use uuid::Uuid;

use crate::{daemons, eventually};

/// The quota of [`Cluster::limit_pods`].
const LIMIT: &str = "limit";

/// A namespace; deleted when dropped.
pub struct Cluster {
    /// Its name.
    pub namespace: String,
    /// With the administrator's rights.
    pub client: Client,
    _use: daemons::Use,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

impl Cluster {
    /// A new namespace, ready for pods.
    ///
    /// # Panics
    /// When there is no cluster, or the variables of `./dev cluster env` are not set.
    pub async fn new(cluster: daemons::Use) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::try_default().await.expect("a cluster: run `./dev cluster up`, then set its `env`");
        let namespace = format!("test-{}", Uuid::new_v4());
        let new = Self { namespace, client, _use: cluster };
        new.make_namespace().await;
        new
    }

    /// Makes the namespace, and makes it anew after a test has deleted it.
    ///
    /// # Panics
    /// When it is there, or the cluster does not answer.
    pub async fn make_namespace(&self) {
        let named = serde_json::json!({ "metadata": { "name": self.namespace } });
        let named: Namespace = serde_json::from_value(named).expect("a namespace");
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        namespaces.create(&PostParams::default(), &named).await.expect("a namespace");
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), &self.namespace);
        eventually("the namespace has its service account", Duration::from_secs(30), async || {
            accounts.get_opt("default").await.is_ok_and(|account| account.is_some())
        })
        .await;
    }

    /// The address of this machine as pods reach it.
    ///
    /// # Panics
    /// When `./dev cluster env` was not set.
    pub fn host(&self) -> String {
        variable("BUILDIT_TEST_HOST")
    }

    /// The pods of the namespace.
    pub fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Lets the namespace have so many pods at most, from when it returns until [`Cluster::lift_limit`].
    ///
    /// # Panics
    /// When there is a limit already, or the cluster does not answer.
    pub async fn limit_pods(&self, most: u32) {
        let quota =
            serde_json::json!({ "metadata": { "name": LIMIT }, "spec": { "hard": { "pods": most.to_string() } } });
        let quota: ResourceQuota = serde_json::from_value(quota).expect("a quota");
        self.quotas().create(&PostParams::default(), &quota).await.expect("a quota");
        // The admission controller counts once the status is there.
        eventually("the quota counts", crate::PATIENCE, async || {
            self.quotas().get(LIMIT).await.is_ok_and(|quota| quota.status.is_some_and(|status| status.hard.is_some()))
        })
        .await;
    }

    /// Lets it have any number of pods again.
    ///
    /// # Panics
    /// When there was no limit, or the cluster does not answer.
    pub async fn lift_limit(&self) {
        self.quotas().delete(LIMIT, &DeleteParams::default()).await.expect("a quota");
    }

    fn quotas(&self) -> Api<ResourceQuota> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Waits until the namespace has no pod.
    pub async fn is_empty(&self) {
        eventually("no pod is left", crate::PATIENCE, async || {
            self.pods().list(&ListParams::default()).await.is_ok_and(|pods| pods.items.is_empty())
        })
        .await;
    }

    /// Waits until no pod of the namespace is at work. Those that a dead worker left are swept after ten minutes.
    pub async fn is_idle(&self) {
        let at_work = |pod: &Pod| !matches!(phase(pod), Some("Succeeded" | "Failed"));
        eventually("no pod is at work", crate::PATIENCE, async || {
            self.pods().list(&ListParams::default()).await.is_ok_and(|pods| !pods.items.iter().any(at_work))
        })
        .await;
    }

    /// Settings of a worker that makes pods here, for an API at `api`.
    pub fn variables(&self, api: &str) -> Vec<(&'static str, String)> {
        vec![
            ("BUILDIT_EXECUTOR", "kubernetes".into()),
            ("KUBECONFIG", variable("KUBECONFIG")),
            ("BUILDIT_KUBERNETES_NAMESPACE", self.namespace.clone()),
            ("BUILDIT_KUBERNETES_API_URL", api.to_owned()),
            ("BUILDIT_KUBERNETES_RUNNER", PathBuf::from(variable("BUILDIT_TEST_POD_PROGRAMS")).display().to_string()),
            ("BUILDIT_KUBERNETES_DEFAULT_MEMORY_BYTES", (64 << 20).to_string()),
        ]
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let (client, name) = (self.client.clone(), self.namespace.clone());
        // The test's own runtime is about to end.
        let delete = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
            let namespaces: Api<Namespace> = Api::all(client);
            runtime.block_on(async { namespaces.delete(&name, &DeleteParams::default()).await.ok() })
        });
        let _ = delete.join();
    }
}

fn phase(pod: &Pod) -> Option<&str> {
    pod.status.as_ref()?.phase.as_deref()
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("no {name}: run `./dev test --all`, or see docs/test-cluster.md"))
}
