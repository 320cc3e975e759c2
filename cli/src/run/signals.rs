//! Ctrl-C: the first asks the steps to end, the second ends them.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// How urgently the run is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cancel {
    No,
    /// Steps may clean up.
    Asked,
    /// At once.
    Demanded,
}

pub(super) fn listen() -> io::Result<watch::Receiver<Cancel>> {
    let (sender, receiver) = watch::channel(Cancel::No);
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        for urgency in [Cancel::Asked, Cancel::Demanded] {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hang_up.recv() => {}
            }
            sender.send_replace(urgency);
        }
        // Later ones change nothing any more, but must not end this process either.
        std::future::pending::<()>().await;
    });
    Ok(receiver)
}
