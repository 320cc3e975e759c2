//! Whether this process lives, and whether it can serve.

use axum::extract::State;
use buildit_shared::db;
use serde_json::{Value, json};

use crate::{
    App,
    error::{ApiError, Result},
    extract::Json,
};

/// The process lives. It says nothing about the database: restarting this process would not bring that back.
pub(crate) async fn healthz() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

/// The database answers and has the schema that this program was built for.
pub(crate) async fn readyz(State(app): State<App>) -> Result<Json<Value>> {
    match db::pending_migrations(app.pool()).await? {
        0 => Ok(Json(json!({ "status": "ok" }))),
        pending => Err(ApiError::unavailable(
            "migrations_pending",
            format!("the database lacks {pending} migrations; run `buildit migrate`"),
        )),
    }
}
