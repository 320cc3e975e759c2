//! Readers of one live log share one look at it: for each step that somebody follows there is one task that reads what is
//! new, and all who have caught up get it from there. A thousand of them cost the database what one does.
//!
//! Nothing is kept: whoever is behind, or finds that something was missed, reads for himself and then joins again.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use buildit_shared::ids::{RunId, StepId};
use bytes::Bytes;
use tokio::sync::broadcast;

use super::{From, Piece, Reader};
use crate::App;

/// News that a reader can be behind before it reads for itself.
const BACKLOG: usize = 16;

/// What is new in a log.
#[derive(Clone, Debug)]
pub(super) enum News {
    /// Bytes of attempt `attempt`, the first of them at `start`.
    Bytes { attempt: i32, start: u64, bytes: Bytes },
    /// Something else, which each finds out for itself.
    Look,
}

/// The steps that are followed in this process.
#[derive(Debug, Default)]
pub(crate) struct Tails(Mutex<HashMap<StepId, broadcast::Sender<News>>>);

impl Tails {
    /// What comes after this moment; some of it may have been seen.
    pub(super) fn join(&self, app: &App, run: RunId, step: StepId, from: From) -> broadcast::Receiver<News> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = open.get(&step) {
            return sender.subscribe();
        }
        let (sender, receiver) = broadcast::channel(BACKLOG);
        open.insert(step, sender.clone());
        let reader = Reader::new(app, run, step, From { later_attempts: true, ..from });
        tokio::spawn(follow(app.clone(), reader, step, sender));
        receiver
    }

    /// Ends a tail that nobody follows; `false` if somebody has joined meanwhile.
    fn end_if_left(&self, step: StepId, sender: &broadcast::Sender<News>) -> bool {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if sender.receiver_count() > 0 {
            return false;
        }
        open.remove(&step);
        true
    }

    fn end(&self, step: StepId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&step);
    }
}

/// Reads what is new for as long as somebody wants it.
async fn follow(app: App, mut reader: Reader, step: StepId, sender: broadcast::Sender<News>) {
    let mut signals = app.signals().subscribe();
    loop {
        let piece = tokio::select! {
            piece = reader.next(&mut signals) => piece,
            () = sender.closed() => {
                if app.tails.end_if_left(step, &sender) { return } else { continue }
            }
        };
        let (news, is_last) = match piece {
            Ok(Piece::Bytes { attempt, start, bytes }) => (News::Bytes { attempt, start, bytes }, false),
            Ok(Piece::Gap { .. } | Piece::Attempt(_) | Piece::Pause) => (News::Look, false),
            Ok(Piece::End(_)) => (News::Look, true),
            Err(error) => {
                tracing::debug!(%error, "a log's tail broke off");
                (News::Look, true)
            }
        };
        if is_last {
            // Before the last news: whoever joins from here on finds the end for himself, or makes another tail.
            app.tails.end(step);
        }
        sender.send(news).ok();
        if is_last {
            return;
        }
    }
}
