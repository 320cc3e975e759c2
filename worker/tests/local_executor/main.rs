//! The local executor, with the real runner.

#![allow(clippy::unwrap_used)]

mod conformance;
mod crashes;
mod place;
mod users;

#[tokio::test]
async fn conforms() {
    let place = place::Place::new();
    conformance::all(&place.executor()).await;
}
