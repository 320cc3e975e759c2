//! Removes pods and Secrets that nobody wants any more.

use std::time::Duration;

use futures::FutureExt;
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::ObjectMeta, jiff::Timestamp};
use kube::api::{DeleteParams, ListParams};

use super::{Error, Handle, Inner, Swept, UPLOAD_GRACE, cluster, pod, selector, status};

impl Inner {
    pub(super) async fn sweep(
        &self,
        keep: &(dyn Fn(&str) -> bool + Send + Sync),
        older_than: Duration,
    ) -> Result<Swept, Error> {
        let mut swept = Swept::default();
        let ours = ListParams::default().labels(&selector(&self.settings));
        let pods = cluster::ask("the pods cannot be listed", || self.api.list(&ours).boxed()).await?;
        for found in pods.into_iter().flatten() {
            let Some(name) = found.metadata.name.clone() else { continue };
            if keep(&name) || !is_older(&found.metadata, older_than) {
                continue;
            }
            let handle = Handle::new(&name);
            // The kubelet tells of a start a second late, the runner at once.
            let known = self.known(&handle).await?;
            if known.running && known.report.is_none() && status::look(&found).end.is_none() {
                self.stop(&handle, UPLOAD_GRACE).await?;
                swept.stopped.push(name);
            } else {
                self.clean(&handle).await?;
                swept.cleaned.push(name);
            }
        }
        // Somebody may have tidied them away.
        self.parts.ensure(&self.maps).await?;
        self.sweep_secrets(keep, older_than, &ours).await?;
        Ok(swept)
    }

    /// Those without an owner, whose pod a crash kept from being made.
    async fn sweep_secrets(
        &self,
        keep: &(dyn Fn(&str) -> bool + Send + Sync),
        older_than: Duration,
        ours: &ListParams,
    ) -> Result<(), Error> {
        let list = || self.secrets.list_metadata(ours).boxed();
        let secrets = cluster::ask("the Secrets cannot be listed", list).await?;
        for secret in secrets.into_iter().flatten() {
            let Some(name) = &secret.metadata.name else { continue };
            let attempt = name.strip_prefix("step-").unwrap_or(name);
            let owned = secret.metadata.owner_references.as_ref().is_some_and(|owners| !owners.is_empty());
            if owned || keep(attempt) || attempt != name && pod::secret_name(attempt) != *name {
                continue;
            }
            if is_older(&secret.metadata, older_than) {
                let how = DeleteParams::default();
                cluster::ask("a Secret cannot be deleted", || self.secrets.delete(name, &how).boxed()).await?;
            }
        }
        Ok(())
    }
}

fn is_older(metadata: &ObjectMeta, age: Duration) -> bool {
    let Some(created) = &metadata.creation_timestamp else { return false };
    let seconds = Timestamp::now().as_second() - created.0.as_second();
    u64::try_from(seconds).is_ok_and(|seconds| seconds >= age.as_secs())
}
