//! The place where a worker's steps run, as the settings choose it.

use std::{path::Path, sync::Arc};

use anyhow::Context;
use buildit_shared::{attempt_token::AttemptTokens, queue::Signals};
use buildit_worker::executor::{DockerExecutor, Executor, KubernetesExecutor, LocalExecutor};
use sqlx::PgPool;

use super::steps_folder;
use crate::{
    config::{ExecutorKind, Settings},
    exit::Problem,
};

/// The folder of the attempts that run in containers, in the data folder.
const CONTAINERS: &str = "containers";

/// The executor of a worker with this data folder.
pub(super) async fn executor(
    settings: &Settings,
    data: &Path,
    pool: &PgPool,
    signals: &Signals,
) -> Result<Arc<dyn Executor>, Problem> {
    match settings.executor.unwrap_or(ExecutorKind::Local) {
        ExecutorKind::Local => {
            let steps = steps_folder(data);
            std::fs::create_dir_all(&steps).with_context(|| format!("cannot make {}", steps.display()))?;
            Ok(Arc::new(LocalExecutor::new(steps, settings.runner()?)))
        }
        ExecutorKind::Docker => {
            settings.docker.runner().map_err(Problem::usage)?;
            Ok(Arc::new(DockerExecutor::new(data.join(CONTAINERS), settings.docker.clone())))
        }
        ExecutorKind::Kubernetes => {
            if let Some(problem) = settings.kubernetes.problem() {
                return Err(Problem::usage(anyhow::anyhow!(problem)));
            }
            let client = buildit_worker::executor::kubernetes::connect()
                .await
                .context("cannot find a cluster: neither KUBECONFIG nor a pod's service account")
                .map_err(Problem::usage)?;
            let tokens = AttemptTokens::new(settings.signing_key()?.as_bytes());
            let executor =
                KubernetesExecutor::new(client, settings.kubernetes.clone(), pool.clone(), tokens, signals.clone());
            Ok(Arc::new(executor.context("the programs for pods cannot be read (kubernetes.runner)")?))
        }
    }
}
