//! Waits for an attempt's end: the runner's report once its container has ended, or what the engine says without one.

use std::time::Duration;

use bollard::query_parameters::{LogsOptionsBuilder, WaitContainerOptionsBuilder};
use futures::{
    StreamExt,
    stream::{self, BoxStream},
};

use super::{Container, End, Error, Handle, Inner, Notice, Said, engine};
use crate::executor::local::{Interest, Watcher, is_locked, read_report};

/// How often somebody who waits for a container's end looks by himself.
const LOOK_AGAIN: Duration = Duration::from_secs(20);
/// Between two questions that the engine does not answer as it should.
const ASK_AGAIN: Duration = Duration::from_millis(200);

impl Inner {
    pub(super) async fn wait(&self, handle: &Handle) -> Result<End, Error> {
        let folder = self.place.folder(handle)?;
        let mut changes = None;
        loop {
            if let Some(end) = self.pulled(handle).await? {
                return Ok(end);
            }
            if is_locked(&folder)? {
                // Its runner lives, whether the engine answers or not.
                let watch = || Watcher::changes(self.watcher.as_ref(), &folder, Interest::End);
                changes.get_or_insert_with(watch).next().await;
                continue;
            }
            let container = self.engine.container(handle.attempt_id()).await?;
            if container == Container::Running {
                self.changed(handle).await?;
                continue;
            }
            if let Some(report) = read_report(&folder, handle)? {
                return Ok(match self.place.holds(&folder, &report) {
                    true => End::Reported(report),
                    false => End::Failed {
                        reason: "its report names files that its runner has not made".into(),
                        exit_code: None,
                    },
                });
            }
            let begun = self.place.has_begun(handle)?;
            let Container::Exited { code, oom, error } = container else {
                let reason = "its container is gone: it was removed by somebody else".to_owned();
                return if begun { Ok(End::Lost { reason }) } else { Err(Error::NotStarted) };
            };
            if !begun && !self.forbid(handle).await? {
                continue;
            }
            return Ok(self.without_report(handle, code, oom, &error).await);
        }
    }

    /// Waits for the attempt's image, if it is being pulled here. The end, if it does not come.
    async fn pulled(&self, handle: &Handle) -> Result<Option<End>, Error> {
        let Some(mut pull) = self.pulls.get(handle) else { return Ok(None) };
        let said = match pull.said.wait_for(|said| !matches!(said, Said::Working(_))).await {
            Ok(said) => said.clone(),
            // It was ended, by a stop or a clean.
            Err(_) => Said::Done,
        };
        let end = match said {
            Said::Working(_) | Said::Done => None,
            Said::NoSuchImage(reason) => Some(End::Failed { reason, exit_code: None }),
            Said::GivenUp(reason) | Said::NotStarted(reason) => Some(End::Lost { reason }),
            Said::Away(reason) => {
                self.pulls.end(handle);
                return Err(Error::Away { what: "its image cannot be pulled".into(), reason });
            }
        };
        // Another worker's container may have begun all the same.
        if end.is_some() && self.forbid(handle).await? {
            return Ok(end);
        }
        self.pulls.end(handle);
        Ok(None)
    }

    /// Returns when the container may have ended.
    async fn changed(&self, handle: &Handle) -> Result<(), Error> {
        let condition = WaitContainerOptionsBuilder::default().condition("not-running").build();
        let client = self.engine.client().await?;
        let mut ended = client.wait_container(handle.attempt_id(), Some(condition)).boxed();
        match tokio::time::timeout(LOOK_AGAIN, ended.next()).await {
            // An exit code other than 0 comes as an error.
            Ok(Some(Ok(_) | Err(bollard::errors::Error::DockerContainerWaitError { .. }))) | Err(_) => {}
            Ok(_) => tokio::time::sleep(ASK_AGAIN).await,
        }
        Ok(())
    }

    /// What to make of a container that ended without a report.
    pub(super) async fn without_report(&self, handle: &Handle, code: i64, oom: bool, error: &str) -> End {
        if oom {
            let reason = "ran out of memory; raise `resources: memory` if it needs more".into();
            return End::Failed { reason, exit_code: Some(137) };
        }
        let said = if error.is_empty() { self.last_words(handle).await } else { error.to_owned() };
        End::Lost { reason: ended_without_report(code, &said) }
    }

    /// The runner's own last complaint.
    async fn last_words(&self, handle: &Handle) -> String {
        let last = LogsOptionsBuilder::default().stderr(true).stdout(true).tail("1").build();
        // No log is no news.
        let Ok(client) = self.engine.client().await else { return String::new() };
        let mut lines = client.logs(handle.attempt_id(), Some(last)).boxed();
        match tokio::time::timeout(engine::LOOK_LIMIT, lines.next()).await {
            Ok(Some(Ok(line))) => line.to_string().trim().to_owned(),
            _ => String::new(),
        }
    }
}

fn ended_without_report(code: i64, said: &str) -> String {
    match (code, said) {
        (137, _) => "its container was killed".to_owned(),
        (code, "") => format!("its container ended with exit code {code} and no report"),
        (code, said) => format!("its container ended with exit code {code} and no report: {said}"),
    }
}

/// Why the step does not get on, each time that changes.
pub(super) fn notices(inner: Inner, handle: Handle) -> BoxStream<'static, Notice> {
    let Some(pull) = inner.pulls.get(&handle) else { return stream::pending().boxed() };
    stream::unfold((pull.said, None::<String>), |(mut said, told)| async move {
        loop {
            let now = match &*said.borrow_and_update() {
                Said::Working(text) => text.clone(),
                _ => String::new(),
            };
            if told.as_ref() != Some(&now) {
                return Some((Notice { text: now.clone(), wants_room: false }, (said, Some(now))));
            }
            if said.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    })
    .boxed()
}
