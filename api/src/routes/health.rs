//! Whether this process lives, and whether it can serve.

use std::{sync::atomic::Ordering, time::Duration};

use axum::extract::State;
use buildit_shared::{db, storage};
use serde_json::{Value, json};

use crate::{
    App,
    error::{ApiError, Result},
    extract::Json,
};

/// How long the object store may take to answer.
const STORAGE_CHECK: Duration = Duration::from_secs(3);

/// The process lives. It says nothing about the database: restarting this process would not bring that back.
pub(crate) async fn healthz() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

/// The database answers and has the schema that this program was built for, and the object store has answered since
/// this process began: its settings are right. One that is away later takes no API out of service; pushes, lists and live
/// logs do without it.
pub(crate) async fn readyz(State(app): State<App>) -> Result<Json<Value>> {
    let pending = db::pending_migrations(app.pool()).await?;
    if pending > 0 {
        return Err(ApiError::unavailable(
            "migrations_pending",
            format!("the database lacks {pending} migrations; run `buildit migrate`"),
        ));
    }
    if !app.storage_answered.load(Ordering::Relaxed) {
        let checked = tokio::time::timeout(STORAGE_CHECK, app.storage().check()).await;
        if let Err(error) = checked.unwrap_or_else(|_| Err(storage::Error::Unavailable("no answer in time".into()))) {
            tracing::warn!(%error, "not ready");
            let message = "the object store does not answer or cannot be used; this process's log says why";
            return Err(ApiError::unavailable("storage_unavailable", message));
        }
        app.storage_answered.store(true, Ordering::Relaxed);
    }
    Ok(Json(json!({ "status": "ok" })))
}
