//! Removes attempts.

use std::{
    collections::{BTreeSet, HashMap},
    fs,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bollard::query_parameters::{
    ListContainersOptionsBuilder, RemoveContainerOptionsBuilder, WaitContainerOptionsBuilder,
};
use futures::StreamExt;

use super::{Container, Error, Handle, Inner, State, Swept, container::OWNER, engine::status, place::Place};
use crate::executor::local::{MARKERS_KEPT, ORPHAN_GRACE, Tried, blocking, if_there, old_names, remove_all};

/// A container ends a moment after its runner's report is there.
const RUNNER_EXIT: Duration = Duration::from_secs(5);

impl Inner {
    pub(super) async fn clean(&self, handle: &Handle) -> Result<(), Error> {
        self.place.folder(handle)?;
        self.refuse_while_it_runs(handle).await?;
        // From here on nobody starts it any more. Who began it just before is seen now.
        self.forbid(handle).await?;
        self.refuse_while_it_runs(handle).await?;
        self.pulls.end(handle);
        let how = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        match self.engine.client().await?.remove_container(handle.attempt_id(), Some(how)).await {
            // There is none, or somebody is at it.
            Err(error) if matches!(status(&error), Some(404 | 409)) => {}
            removed => removed.map_err(|error| self.engine.failed("a container cannot be removed", error))?,
        }
        let (place, handle) = (self.place.clone(), handle.clone());
        blocking(move || remove_folder(&place, &handle)).await
    }

    async fn refuse_while_it_runs(&self, handle: &Handle) -> Result<(), Error> {
        if self.engine.container(handle.attempt_id()).await? != Container::Running {
            return Ok(());
        }
        let reported = self.place.folder(handle)?.result().exists();
        if reported && self.ends_soon(handle).await? { Ok(()) } else { Err(Error::StillRunning) }
    }

    async fn ends_soon(&self, handle: &Handle) -> Result<bool, Error> {
        let condition = WaitContainerOptionsBuilder::default().condition("not-running").build();
        let client = self.engine.client().await?;
        let mut ended = client.wait_container(handle.attempt_id(), Some(condition)).boxed();
        // Whatever it says, the state is asked for.
        let _ = tokio::time::timeout(RUNNER_EXIT, ended.next()).await;
        Ok(self.engine.container(handle.attempt_id()).await? != Container::Running)
    }

    pub(super) async fn sweep(
        &self,
        keep: &(dyn Fn(&str) -> bool + Send + Sync),
        older_than: Duration,
    ) -> Result<Swept, Error> {
        let mut swept = Swept::default();
        let attempts = self.place.attempts();
        let mut found: BTreeSet<String> =
            blocking(move || old_names(&attempts, older_than)).await?.into_iter().collect();
        found.extend(self.containers(older_than).await?);
        for attempt_id in found.into_iter().filter(|attempt_id| !keep(attempt_id)) {
            let handle = Handle::new(&attempt_id);
            if matches!(self.state(&handle).await?, State::Starting | State::Running) {
                self.stop(&handle, ORPHAN_GRACE).await?;
                swept.stopped.push(attempt_id);
            } else {
                self.clean(&handle).await?;
                swept.cleaned.push(attempt_id);
            }
        }
        let marks = self.place.marks();
        let old = blocking(move || old_names(&marks, MARKERS_KEPT)).await?;
        let old: Vec<_> = old.into_iter().filter(|attempt_id| !keep(attempt_id)).collect();
        let place = self.place.clone();
        blocking(move || empty_trash(&place, &old)).await?;
        Ok(swept)
    }

    /// This executor's containers that were made that long ago, as attempt ids.
    async fn containers(&self, older_than: Duration) -> Result<Vec<String>, Error> {
        let ours = HashMap::from([("label", vec![format!("{OWNER}={}", self.place.owner())])]);
        let list = ListContainersOptionsBuilder::default().all(true).filters(&ours).build();
        let containers = self.engine.client().await?.list_containers(Some(list)).await;
        let containers = containers.map_err(|error| self.engine.failed("the containers cannot be listed", error))?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let old = |created: Option<i64>| {
            let created = Duration::from_secs(created.and_then(|created| created.try_into().ok()).unwrap_or_default());
            now.saturating_sub(created) >= older_than
        };
        let name = |names: Option<Vec<String>>| Some(names?.into_iter().next()?.trim_start_matches('/').to_owned());
        Ok(containers.into_iter().filter(|found| old(found.created)).filter_map(|found| name(found.names)).collect())
    }
}

fn remove_folder(place: &Place, handle: &Handle) -> Result<(), Error> {
    let folder = place.folder(handle)?;
    let cannot = || format!("{} cannot be removed", folder.path().display());
    let trash = place.trash();
    fs::create_dir_all(&trash).tried(cannot)?;
    static CLEANED: AtomicU64 = AtomicU64::new(0);
    let number = CLEANED.fetch_add(1, Ordering::Relaxed);
    // Gone at once for everybody else, however much there is to remove.
    let aside = trash.join(format!("{}.{}.{number}", handle.attempt_id(), std::process::id()));
    if if_there(fs::rename(folder.path(), &aside)).tried(cannot)?.is_some() {
        remove_all(&aside).tried(cannot)?;
    }
    Ok(())
}

/// Removes what interrupted cleanings have left, and the given markers.
fn empty_trash(place: &Place, marks: &[String]) -> Result<(), Error> {
    let cannot = || "what was removed before cannot be removed for good".to_owned();
    for mark in marks {
        remove_all(&place.marks().join(mark)).tried(cannot)?;
    }
    for name in old_names(&place.trash(), Duration::ZERO)? {
        remove_all(&place.trash().join(name)).tried(cannot)?;
    }
    Ok(())
}
