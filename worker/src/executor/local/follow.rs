//! Gives out an attempt's log as it grows.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use buildit_runner::layout::AttemptFolder;
use futures::future::BoxFuture;
use futures::{StreamExt, stream};
use tokio_util::bytes::Bytes;

use super::changes::{Changes, Interest, Watcher};
use super::{Error, LogStream, State, Tried, blocking, if_there, open_plain};
use crate::executor::{LogChunk, MAX_CHUNK};

/// Tells the attempt's state.
type Look = Box<dyn Fn() -> BoxFuture<'static, Result<State, Error>> + Send + Sync>;

struct Follower {
    folder: AttemptFolder,
    look: Look,
    at: u64,
    log: Option<Arc<File>>,
    changes: Changes,
    /// Nothing is written any more.
    complete: bool,
}

/// The log in `folder` from byte `from` on, until `look` says that nothing more is written.
pub(in crate::executor) fn follow(
    folder: AttemptFolder,
    watcher: Option<Arc<Watcher>>,
    from: u64,
    look: Look,
) -> LogStream {
    let start = async move {
        let changes = Watcher::changes(watcher.as_ref(), &folder, Interest::Log);
        let follower = Follower { folder, look, at: from, log: None, changes, complete: false };
        stream::try_unfold(
            follower,
            |mut follower| async move { Ok(follower.next().await?.map(|chunk| (chunk, follower))) },
        )
    };
    stream::once(start).flatten().boxed()
}

impl Follower {
    async fn next(&mut self) -> Result<Option<LogChunk>, Error> {
        loop {
            let chunk = self.read().await?;
            if !chunk.is_empty() {
                let start = self.at;
                self.at += chunk.len() as u64;
                return Ok(Some(LogChunk { start, bytes: chunk }));
            }
            if self.complete {
                return Ok(None);
            }
            match (self.look)().await? {
                State::Starting | State::Running => self.changes.next().await,
                State::Absent { .. } if self.log.is_none() => return Err(Error::NotStarted),
                // What was written since the last look is still to be read.
                State::Ended(_) | State::Lost { .. } | State::Absent { .. } => {
                    self.complete = true;
                }
            }
        }
    }

    /// The next bytes there are, if any.
    async fn read(&mut self) -> Result<Bytes, Error> {
        let (log, at, path) = (self.log.clone(), self.at, self.folder.log());
        let read = move || {
            let what = || "the log cannot be read".to_owned();
            let opened = match log {
                Some(log) => Some(log),
                None => if_there(open_plain(&path)).tried(what)?.map(Arc::new),
            };
            let Some(log) = opened else {
                return Ok((None, Bytes::new()));
            };
            let chunk = read_chunk(&log, at).tried(what)?;
            Ok((Some(log), chunk))
        };
        let (log, chunk) = blocking(read).await?;
        self.log = log;
        Ok(chunk)
    }
}

fn read_chunk(log: &File, at: u64) -> io::Result<Bytes> {
    let left = log.metadata()?.len().saturating_sub(at);
    let size = usize::try_from(left).unwrap_or(MAX_CHUNK).min(MAX_CHUNK);
    let mut chunk = vec![0; size];
    let mut filled = 0;
    while filled < size {
        match log.read_at(&mut chunk[filled..], at + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    chunk.truncate(filled);
    Ok(Bytes::from(chunk))
}
