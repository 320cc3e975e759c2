//! What the tests of the whole system share.

pub mod api;
pub mod browser;
pub mod cluster;
pub mod daemons;
pub mod database;
pub mod fleet;
pub mod forwarder;
pub mod gitea;
pub mod installation;
pub mod places;
pub mod ports;
pub mod provider;
pub mod queue;
pub mod remote;
pub mod runs;
pub mod s3;
pub mod uploads;
pub mod visitor;

use std::time::Duration;

/// Longest wait for anything that is to happen, on a machine that does ten other things.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// Asks until the answer is yes.
///
/// # Panics
/// When it has not been for `limit`.
pub async fn eventually(what: &str, limit: Duration, mut holds: impl AsyncFnMut() -> bool) {
    let asked = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(limit, asked).await.unwrap_or_else(|_| panic!("not within {limit:?}: {what}"));
}
