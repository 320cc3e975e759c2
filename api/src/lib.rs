//! The HTTP API. It reads, changes rows and enqueues; it runs nothing itself. It promises:
//!
//! - every route asks for a permission, of a key or of a person who signed in, and every question is bound to the caller's
//!   organization: a stranger's id is answered like one that does not exist. Runners' routes ask for the token of the
//!   attempt they name;
//! - what changes something by a browser's cookie comes from a page of our own;
//! - every error has one JSON shape with a code that does not change;
//! - what is long (logs, downloads, archives) is streamed with bounded memory;
//! - the OpenAPI document at `/api/v1/openapi.json` is made from the handlers that answer.

mod archive;
mod auth;
mod error;
mod extract;
mod forge;
mod git_ref;
mod invitations;
mod logs;
mod middleware;
mod oidc;
mod openapi;
mod page;
mod pages;
mod range;
mod repository;
mod router;
mod routes;
mod serve;
mod sessions;
mod stack;
mod state;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use oidc::{Newcomers, Settings as OidcSettings};
pub use router::router;
pub use state::{App, Config};

/// Answers requests on `listener` until `shutdown`; then ends the streams, whose readers go on elsewhere where they
/// broke off, and waits up to 10 s for the other requests.
pub async fn serve(listener: TcpListener, config: Config, shutdown: CancellationToken) -> std::io::Result<()> {
    let app = App::new(config, shutdown.clone())?;
    serve::serve(listener, router(app), serve::Limits::default(), shutdown).await;
    Ok(())
}
