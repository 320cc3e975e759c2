//! Waits for an attempt's end: the runner's report, or what the cluster says without one.

use std::time::{Duration, Instant};

use buildit_runner::{
    Outcome, Report,
    pod::{Frame, FrameReader},
};
use futures::{
    FutureExt, StreamExt,
    stream::{self, BoxStream},
};
use kube::api::LogParams;

use super::{
    End, Error, Handle, Inner, LOOK_AGAIN, Notice, cluster,
    pod::STEP,
    status::{self, Trouble},
};

/// How long after a pod was stopped the cluster may take to say why.
const CAUSE: Duration = Duration::from_secs(5);

impl Inner {
    pub(super) async fn wait(&self, handle: &Handle) -> Result<End, Error> {
        let name = handle.attempt_id();
        let mut changes = self.pods.changes(name);
        let mut reported = self.clone().reported(handle.clone()).boxed();
        let mut since: Option<(std::mem::Discriminant<Trouble>, Instant)> = None;
        loop {
            let Some(pod) = self.pod(name).await? else { return self.gone(handle).await };
            let look = status::look(&pod);
            if let Some(end) = look.end {
                return match self.without_report(handle, end).await? {
                    End::Reported(report) => self.with_cause(handle, report).await.map(End::Reported),
                    end => Ok(end),
                };
            }
            if let Some(trouble) = look.trouble {
                let kind = std::mem::discriminant(&trouble);
                let begun = since.filter(|(before, _)| *before == kind).map_or_else(Instant::now, |(_, begun)| begun);
                since = Some((kind, begun));
                if let Some(end) = self.given_up(&trouble, begun)
                    && self.forbid(handle).await?
                {
                    return Ok(end);
                }
            } else {
                since = None;
            }
            tokio::select! {
                report = &mut reported => return self.with_cause(handle, report?).await.map(End::Reported),
                () = changes.next() => {}
                () = tokio::time::sleep(LOOK_AGAIN) => {}
            }
        }
    }

    /// The runner knows that it was told to stop, and the cluster why: the kubelet says so at about the same time.
    async fn with_cause(&self, handle: &Handle, mut report: Box<Report>) -> Result<Box<Report>, Error> {
        if report.outcome == Outcome::Stopped {
            let mut changes = self.pods.changes(handle.attempt_id());
            let cause = async {
                loop {
                    let Some(pod) = self.pod(handle.attempt_id()).await? else { return Ok("its pod is gone".into()) };
                    if let Some(cause) = status::stopped_by(&pod) {
                        return Ok::<String, Error>(cause);
                    }
                    changes.next().await;
                }
            };
            let cause = tokio::time::timeout(CAUSE, cause).await;
            report.stopped_by = Some(cause.unwrap_or_else(|_| Ok("its node told it to stop".into()))?);
        }
        Ok(report)
    }

    /// The end of an attempt that has been in trouble since `begun`, if that is too long.
    fn given_up(&self, trouble: &Trouble, begun: Instant) -> Option<End> {
        let lost = |limit: Duration| {
            let reason = format!("{}; given up after {} s", trouble.text(), limit.as_secs());
            (begun.elapsed() >= limit).then_some(End::Lost { reason })
        };
        match trouble {
            Trouble::NoSuchImage(reason) => Some(End::Failed { reason: reason.clone(), exit_code: None }),
            Trouble::Pull(_) | Trouble::Create(_) => lost(self.settings.pull_limit()),
            Trouble::Unschedulable(_) => lost(self.settings.schedule_limit()),
            // Its processes may be at work: only the kubelet's word, or its node's end, ends it.
            Trouble::Node(_) => None,
        }
    }

    /// The end of an attempt whose pod is not there.
    async fn gone(&self, handle: &Handle) -> Result<End, Error> {
        let known = self.known(handle).await?;
        match known.report {
            Some(report) => Ok(End::Reported(report)),
            None if known.begun => Ok(End::Lost { reason: "its pod is gone".into() }),
            None => Err(Error::NotStarted),
        }
    }

    /// The kubelet says that it is over. The runner's word may have come another way.
    async fn without_report(&self, handle: &Handle, end: End) -> Result<End, Error> {
        if matches!(end, End::Reported(_)) {
            return Ok(end);
        }
        if let Some(report) = self.report(handle).await? {
            return Ok(End::Reported(report));
        }
        let last = LogParams { container: Some(STEP.into()), tail_lines: Some(1), ..LogParams::default() };
        let log = cluster::attempt("the log cannot be read", || self.api.logs(handle.attempt_id(), &last).boxed());
        // No log is no news.
        let Ok(Ok(line)) = log.await else { return Ok(end) };
        let word = FrameReader::new().feed(line.as_bytes()).into_iter().find_map(|frame| match frame {
            Frame::End(report) => Some(report),
            Frame::Log { .. } => None,
        });
        Ok(word.map_or(end, End::Reported))
    }
}

/// Why the pod does not get on, each time that changes.
pub(super) fn notices(inner: Inner, handle: Handle) -> BoxStream<'static, Notice> {
    let changes = inner.pods.changes(handle.attempt_id());
    let told = Notice::default();
    stream::unfold((inner, handle, changes, told), |(inner, handle, mut changes, told)| async move {
        loop {
            let look = inner.pods.get(handle.attempt_id()).map(|pod| status::look(&pod));
            let now = look.and_then(|look| look.trouble).map_or_else(Notice::default, |trouble| Notice {
                text: trouble.text().to_owned(),
                wants_room: matches!(trouble, Trouble::Unschedulable(_)),
            });
            if now != told {
                return Some((now.clone(), (inner, handle, changes, now)));
            }
            changes.next().await;
        }
    })
    .boxed()
}
