//! Calls to the cluster's API: what passes by itself is tried again for a while, and refusals are told apart.

use std::time::Duration;

use futures::future::BoxFuture;
use kube::core::Status;

use crate::executor::Error;

/// How long a cluster may be away before the job goes to a worker that may reach it.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long one call may take.
const ANSWER: Duration = Duration::from_secs(10);

/// Calls `call` until it is answered, for as long as the cluster may be away; `None` is its 404.
pub(super) async fn ask<'a, T>(
    what: &str,
    call: impl Fn() -> BoxFuture<'a, kube::Result<T>>,
) -> Result<Option<T>, Error> {
    match attempt(what, call).await? {
        Ok(answer) => Ok(Some(answer)),
        Err(status) if status.code == 404 => Ok(None),
        Err(status) => Err(refused(what, &status)),
    }
}

/// The answer, or the refusal.
pub(super) async fn attempt<'a, T>(
    what: &str,
    call: impl Fn() -> BoxFuture<'a, kube::Result<T>>,
) -> Result<Result<T, Box<Status>>, Error> {
    let begun = tokio::time::Instant::now();
    let mut pause = Duration::from_millis(100);
    loop {
        let reason = match tokio::time::timeout(ANSWER, call()).await {
            Ok(Ok(answer)) => return Ok(Ok(answer)),
            Ok(Err(kube::Error::Api(status))) if !passes(status.code) => return Ok(Err(status)),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer".to_owned(),
        };
        if begun.elapsed() + pause > PATIENCE {
            return Err(Error::Away { what: what.to_owned(), reason });
        }
        tracing::warn!(what, reason, "the cluster did not answer as expected; trying again");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(3));
    }
}

/// Whether a refusal is over by itself.
fn passes(code: u16) -> bool {
    code == 429 || code >= 500
}

/// An error for a refusal nobody expected.
pub(super) fn refused(what: &str, status: &Status) -> Error {
    Error::Away { what: what.to_owned(), reason: format!("{} ({})", status.message, status.code) }
}

/// What a refusal to create something means for the attempt.
pub(super) fn not_created(status: &Status) -> Error {
    let reason = status.message.clone();
    let waits = status.code == 404 // the namespace
        || reason.contains("exceeded quota")
        || reason.contains("being terminated")
        // Made a moment after its namespace, or by whoever installs.
        || reason.contains("error looking up service account")
        || reason.contains("unable to create new content");
    if waits {
        Error::Busy { reason: format!("the cluster takes no pod now: {reason}") }
    } else {
        Error::Denied { reason: format!("the cluster refuses its pod: {reason}") }
    }
}
