//! Following a step's log: chunks while an attempt runs, its object afterwards, then the attempt that comes next.
//!
//! Every byte comes once and in order, at the offset where it is stored. A reader joins the step's [`tail`] before it reads, so
//! nothing falls between; it holds a few hundred kilobytes, however long the log is. Bytes that a running step's worker
//! could not get hold of are a gap; they are in the object that the step leaves.

mod tail;
mod text;

use std::{collections::VecDeque, time::Duration};

use buildit_shared::{
    db::{
        log_queries::{self, LogAttempt},
        logs,
    },
    domain::StepStatus,
    ids::{AttemptId, RunId, StepId},
    queue::{Signal, listen::Subscription},
    storage,
};
use bytes::Bytes;
use futures::{FutureExt, StreamExt, stream::BoxStream};
use tokio::sync::broadcast::{Receiver, error::RecvError};

use crate::{
    App,
    error::{ApiError, Result},
};
use tail::News;

pub(crate) use tail::Tails;
pub(crate) use text::Decoder;

/// Bytes of chunks that are read at once.
const PIECE: i64 = 256 * 1024;
/// How long a notification that was lost can delay a reader.
const POLL: Duration = Duration::from_secs(2);

/// What a reader comes upon.
pub(crate) enum Piece {
    /// Bytes of attempt `attempt`, the first of them at `start`.
    Bytes { attempt: i32, start: u64, bytes: Bytes },
    /// The next `length` bytes, from `start` on, are not there while the step runs.
    Gap { attempt: i32, start: u64, length: u64 },
    /// The step has another attempt; what follows is its log, from its first byte on.
    Attempt(i32),
    /// All there is, and it will not become more.
    End(Option<StepStatus>),
    /// All there is now.
    Pause,
}

/// Where to read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct From {
    /// The attempt to begin with; the last one without it.
    pub(crate) attempt: Option<i32>,
    /// Its byte to begin with.
    pub(crate) offset: u64,
    /// Whether to go on to later attempts.
    pub(crate) later_attempts: bool,
}

/// A reader of one step's log.
pub(crate) struct Reader {
    app: App,
    run: RunId,
    step: StepId,
    from: From,
    /// The attempt whose log is read.
    reading: Option<AttemptId>,
    object: Option<BoxStream<'static, std::result::Result<Bytes, storage::Error>>>,
    chunks: VecDeque<(u64, Vec<u8>)>,
    /// All of the attempt's log was read.
    drained: bool,
    /// What others find out about this log.
    news: Option<Receiver<News>>,
    /// All that was there was read since then, so that the news go on from here.
    caught_up: bool,
}

impl Reader {
    pub(crate) fn new(app: &App, run: RunId, step: StepId, from: From) -> Self {
        Self {
            app: app.clone(),
            run,
            step,
            from,
            reading: None,
            object: None,
            chunks: VecDeque::new(),
            drained: false,
            news: None,
            caught_up: false,
        }
    }

    /// Where it stands.
    pub(crate) fn from(&self) -> From {
        self.from
    }

    /// The next piece of what is stored.
    pub(crate) async fn read(&mut self) -> Result<Piece> {
        loop {
            if let Some(piece) = self.piece().await? {
                return Ok(piece);
            }
            // The state before the chunks: an attempt that had ended by then had all its bytes stored.
            let Some(state) = log_queries::state(self.app.pool(), self.step, self.from.attempt).await? else {
                return Ok(Piece::End(None));
            };
            let Some(attempt) = state.attempt else {
                return Ok(if state.step.is_ended() { Piece::End(Some(state.step)) } else { Piece::Pause });
            };
            self.from.attempt = Some(attempt.number);
            self.reading = Some(attempt.id);
            if !self.drained {
                self.fill(&attempt).await?;
                if !self.drained && self.object.is_none() && self.chunks.is_empty() {
                    return Ok(Piece::Pause);
                }
                continue;
            }
            if !self.from.later_attempts {
                return Ok(Piece::End(Some(state.step)));
            }
            if attempt.is_followed {
                self.drained = false;
                self.from.offset = 0;
                self.from.attempt = Some(attempt.number + 1);
                return Ok(Piece::Attempt(attempt.number + 1));
            }
            return Ok(if state.step.is_ended() { Piece::End(Some(state.step)) } else { Piece::Pause });
        }
    }

    /// The next piece, waiting for it while the step is at work. Breaks off when the process stops.
    pub(crate) async fn follow(&mut self) -> Result<Piece> {
        loop {
            if !self.caught_up {
                match self.read().await {
                    Ok(Piece::Pause) if self.news.is_none() => {
                        self.news = Some(self.app.tails.join(&self.app, self.run, self.step, self.from));
                        continue;
                    }
                    Ok(Piece::Pause) => self.caught_up = true,
                    // A restart of the database is a pause for readers too.
                    Err(error) if error.is_passing() => {
                        tracing::debug!(%error, "a log's reader waits");
                        until(&self.app, tokio::time::sleep(POLL)).await?;
                        continue;
                    }
                    read => return read,
                }
            }
            if let Some(piece) = self.hear().await? {
                return Ok(piece);
            }
            self.caught_up = false;
        }
    }

    /// The next piece that comes by itself; `None` where there is something to read.
    async fn hear(&mut self) -> Result<Option<Piece>> {
        while let Some(mut news) = self.news.take() {
            let heard = until(&self.app, news.recv()).await?;
            if !matches!(heard, Err(RecvError::Closed)) {
                self.news = Some(news);
            }
            match heard {
                Ok(News::Bytes { attempt, start, bytes })
                    if self.from.attempt == Some(attempt) && start <= self.from.offset =>
                {
                    if let Some(piece) = self.bytes(attempt, start, bytes) {
                        return Ok(Some(piece));
                    }
                }
                Ok(_) | Err(_) => return Ok(None),
            }
        }
        Ok(None)
    }

    /// The next piece, for the one who looks for all that follow the step.
    async fn next(&mut self, signals: &mut Subscription) -> Result<Piece> {
        loop {
            match self.read().await {
                Ok(Piece::Pause) => {}
                Err(error) if error.is_passing() => tracing::debug!(%error, "a log's tail waits"),
                read => return read,
            }
            self.changed(signals).await?;
        }
    }

    async fn piece(&mut self) -> Result<Option<Piece>> {
        let attempt = self.from.attempt.unwrap_or(1);
        if let Some((start, bytes)) = self.chunks.pop_front() {
            if start > self.from.offset {
                self.chunks.push_front((start, bytes));
                let begin = std::mem::replace(&mut self.from.offset, start);
                return Ok(Some(Piece::Gap { attempt, start: begin, length: start - begin }));
            }
            return Ok(self.bytes(attempt, start, bytes.into()));
        }
        if let Some(object) = &mut self.object {
            match object.next().await.transpose()? {
                Some(bytes) => return Ok(self.bytes(attempt, self.from.offset, bytes)),
                None => {
                    self.object = None;
                    self.drained = true;
                }
            }
        }
        Ok(None)
    }

    /// Cuts off what the reader has seen, and goes on behind the rest.
    fn bytes(&mut self, attempt: i32, start: u64, mut bytes: Bytes) -> Option<Piece> {
        let seen = usize::try_from(self.from.offset.saturating_sub(start)).unwrap_or(usize::MAX);
        let bytes = bytes.split_off(seen.min(bytes.len()));
        if bytes.is_empty() {
            return None;
        }
        let start = start.max(self.from.offset);
        self.from.offset = start + bytes.len() as u64;
        Some(Piece::Bytes { attempt, start, bytes })
    }

    /// Opens what holds the next bytes of the attempt, if any are stored.
    async fn fill(&mut self, attempt: &LogAttempt) -> Result<()> {
        if let Some(key) = &attempt.object {
            let object = self.app.storage().stat(key).await?;
            if self.from.offset < object.size {
                let object = self.app.storage().read(&object, self.from.offset..object.size).await?;
                self.object = Some(Box::pin(object));
            } else {
                self.drained = true;
            }
            return Ok(());
        }
        self.chunks = logs::chunks(self.app.pool(), attempt.id, self.from.offset, PIECE).await?.into();
        // A chunk that ends where this reader stands says nothing new.
        self.chunks.retain(|(start, bytes)| start + bytes.len() as u64 > self.from.offset);
        self.drained = self.chunks.is_empty() && attempt.is_ended();
        Ok(())
    }

    /// Waits until the log may have grown.
    async fn changed(&mut self, signals: &mut Subscription) -> Result<()> {
        let poll = tokio::time::sleep(POLL);
        tokio::pin!(poll);
        loop {
            tokio::select! {
                signal = until(&self.app, signals.next()) => if self.concerns(&signal?) { break },
                () = &mut poll => break,
            }
        }
        // What came meanwhile is answered by the same look at the database.
        while signals.next().now_or_never().is_some() {}
        Ok(())
    }

    fn concerns(&self, signal: &Signal) -> bool {
        match signal {
            Signal::Log(attempt) => self.reading.is_none_or(|reading| reading == *attempt),
            Signal::Run(run) => *run == self.run,
            Signal::Resync => true,
            _ => false,
        }
    }
}

/// What is awaited, unless the process stops before.
async fn until<T>(app: &App, awaited: impl Future<Output = T>) -> Result<T> {
    tokio::select! {
        done = awaited => Ok(done),
        () = app.shutdown.cancelled() => {
            Err(ApiError::unavailable("shutting_down", "this process stops; read on at another one"))
        }
    }
}
