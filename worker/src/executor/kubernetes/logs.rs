//! An attempt's log as its pod prints it.
//!
//! The stream may break off, repeat itself, or lack what the kubelet has rotated away: frames carry their offsets, so
//! that nothing is given out twice, and a gap shows. The whole log is an object once the runner has reported.

use std::time::Duration;

use buildit_runner::{
    Report,
    pod::{Frame, FrameReader},
};
use futures::{AsyncReadExt, FutureExt, StreamExt, TryStreamExt, future::BoxFuture, stream};
use kube::api::LogParams;
use tokio_util::bytes::Bytes;

use super::{Inner, pod::STEP, status};
use crate::executor::{Error, Handle, LogChunk, LogStream, MAX_CHUNK};

/// How often a stream that broke off is opened again.
const AGAIN: Duration = Duration::from_millis(500);

struct Follower {
    inner: Inner,
    handle: Handle,
    at: u64,
    open: Option<Open>,
    reported: BoxFuture<'static, Result<Box<Report>, Error>>,
}

struct Open {
    stream: std::pin::Pin<Box<dyn futures::AsyncBufRead + Send>>,
    frames: FrameReader,
    buffer: Vec<u8>,
}

pub(super) fn follow(inner: Inner, handle: Handle, from: u64) -> LogStream {
    let reported = inner.clone().reported(handle.clone()).boxed();
    let follower = Follower { inner, handle, at: from, open: None, reported };
    let chunks = stream::try_unfold(follower, |mut follower| async move {
        Ok::<_, Error>(follower.next().await?.map(|chunks| (stream::iter(chunks.into_iter().map(Ok)), follower)))
    });
    chunks.try_flatten().boxed()
}

impl Follower {
    /// The next chunks; none after the last.
    async fn next(&mut self) -> Result<Option<Vec<LogChunk>>, Error> {
        loop {
            let Some(open) = &mut self.open else {
                if !self.begin().await? {
                    return Ok(None);
                }
                continue;
            };
            let read = tokio::select! {
                read = open.stream.read(&mut open.buffer) => read,
                // All of it is an object by then.
                report = &mut self.reported => {
                    report?;
                    return Ok(None);
                }
            };
            match read {
                Ok(n @ 1..) => {
                    let (chunks, end) = take(&mut open.frames, &open.buffer[..n], &mut self.at);
                    if !chunks.is_empty() {
                        return Ok(Some(chunks));
                    }
                    if end {
                        return Ok(None);
                    }
                }
                end => {
                    if let Err(error) = end {
                        tracing::info!(%error, attempt = self.handle.attempt_id(), "the log stream broke off");
                    }
                    self.open = None;
                    if self.is_over() {
                        return Ok(None);
                    }
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }

    fn is_over(&self) -> bool {
        let pod = self.inner.pods.get(self.handle.attempt_id());
        pod.is_none_or(|pod| status::look(&pod).end.is_some())
    }

    /// Waits for the container and opens its log; false when there is none to come.
    async fn begin(&mut self) -> Result<bool, Error> {
        let name = self.handle.attempt_id();
        let mut changes = self.inner.pods.changes(name);
        loop {
            let look = match self.inner.pod(name).await? {
                Some(pod) => status::look(&pod),
                None => return Ok(false),
            };
            if look.started {
                let params = LogParams { container: Some(STEP.into()), follow: true, ..LogParams::default() };
                match self.inner.api.log_stream(name, &params).await {
                    Ok(stream) => {
                        let buffer = vec![0; MAX_CHUNK];
                        self.open = Some(Open { stream: Box::pin(stream), frames: FrameReader::default(), buffer });
                        return Ok(true);
                    }
                    Err(error) => tracing::info!(%error, attempt = name, "its log cannot be read yet"),
                }
            }
            if look.end.is_some() {
                return Ok(false);
            }
            tokio::select! {
                () = changes.next() => {}
                () = tokio::time::sleep(if look.started { AGAIN } else { super::LOOK_AGAIN }) => {}
                report = &mut self.reported => {
                    report?;
                    return Ok(false);
                }
            }
        }
    }
}

/// The bytes from `at` on that `read` brought, and whether the log has ended.
fn take(frames: &mut FrameReader, read: &[u8], at: &mut u64) -> (Vec<LogChunk>, bool) {
    let mut chunks = Vec::new();
    for frame in frames.feed(read) {
        let Frame::Log { offset, bytes } = frame else { return (chunks, true) };
        let end = offset + bytes.len() as u64;
        if end <= *at {
            continue;
        }
        let known = usize::try_from(at.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut rest = Bytes::from(bytes).slice(known..);
        let mut start = offset.max(*at);
        while !rest.is_empty() {
            let piece = rest.split_to(rest.len().min(MAX_CHUNK));
            let length = piece.len() as u64;
            chunks.push(LogChunk { start, bytes: piece });
            start += length;
        }
        *at = end;
    }
    (chunks, false)
}
