//! Makes the Secret and the pod of an attempt, or finds them made.

use futures::FutureExt;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams, PostParams};

use super::{Error, Handle, Inner, Launch, attempt_id, cluster, pod};

impl Inner {
    pub(super) async fn start(&self, launch: &Launch) -> Result<Handle, Error> {
        let handle = Handle::new(&launch.spec.attempt_id);
        let id = attempt_id(&handle)?;
        let known = self.known(&handle).await?;
        if known.begun || known.report.is_some() || self.pods.get(handle.attempt_id()).is_some() {
            return Ok(handle);
        }
        let spec = pod::runner_spec(&self.settings, launch, self.tokens.token(id));
        let secret = pod::secret(&self.settings, launch, &spec)?;
        let create = PostParams::default();
        self.runner_is_there.get_or_try_init(|| self.parts.ensure(&self.maps)).await?;
        crate::crash_point!("step: before its Secret is made");
        // The Secret first: a pod without it waits for the kubelet's next try.
        let made = || self.secrets.create(&create, &secret).boxed();
        match cluster::attempt("the step's Secret cannot be made", made).await? {
            Err(status) if status.code != 409 => return Err(cluster::not_created(&status)),
            _ => {}
        }
        crate::crash_point!("step: before its pod is made");
        let wanted = pod::pod(&self.settings, launch, &self.parts);
        let made = || self.api.create(&create, &wanted).boxed();
        match cluster::attempt("the step's pod cannot be made", made).await? {
            Ok(pod) => self.hand_over_secret(&handle, &pod),
            // It is there: made before a crash, by a call whose answer was lost, or by another worker.
            Err(status) if status.code == 409 && status.reason == "AlreadyExists" => self.adopt(&handle).await?,
            Err(status) => return Err(cluster::not_created(&status)),
        }
        Ok(handle)
    }

    /// A pod of that name has to be ours.
    async fn adopt(&self, handle: &Handle) -> Result<(), Error> {
        let Some(pod) = self.pod(handle.attempt_id()).await? else { return Ok(()) };
        let ours = pod.metadata.labels.as_ref().and_then(|labels| labels.get(pod::INSTALLATION));
        if ours != Some(&self.settings.installation) {
            return Err(Error::Denied {
                reason: format!("a pod named {} is there that is not this installation's", handle.attempt_id()),
            });
        }
        self.hand_over_secret(handle, &pod);
        Ok(())
    }

    /// From here on the Secret goes with its pod, whoever deletes that. Nobody waits for it: what a crash leaves is swept.
    fn hand_over_secret(&self, handle: &Handle, pod: &Pod) {
        let Some(patch) = pod::owned_by(pod) else { return };
        let (secrets, name) = (self.secrets.clone(), pod::secret_name(handle.attempt_id()));
        tokio::spawn(async move {
            let patched = secrets.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await;
            match patched {
                Ok(_) => {}
                // Its step is over already.
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => {
                    tracing::warn!(%error, name, "a Secret has no owner, and goes with its step's end or by the sweep")
                }
            }
        });
    }
}
