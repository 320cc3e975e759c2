//! Checking a pipeline's text without storing it.

use buildit_shared::pipeline::{self, Diagnostic};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use crate::{
    auth::{Allowed, ProjectRead},
    error::{ApiError, ErrorBody, Result},
    extract::Json,
};

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Text {
    /// The text of a pipeline file.
    config: String,
    /// What the diagnostics call it; `.platform.yaml` without it.
    file: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct Verdict {
    valid: bool,
    /// Everything that is wrong with it: `rule`, `message`, `file`, `line`, `column`, `source_line`, `help`.
    #[schema(value_type = Vec<Object>)]
    diagnostics: Vec<Diagnostic>,
}

/// Check a pipeline's text. The answer is 200 for a broken one too; `valid` tells.
#[utoipa::path(post, path = "/api/v1/pipelines/validate", tag = "pipelines", operation_id = "validate_pipeline",
    security(("api_key" = ["project:read"])), request_body = Text,
    responses((status = 200, body = Verdict), (status = "4XX", body = ErrorBody)))]
pub(crate) async fn validate(_caller: Allowed<ProjectRead>, Json(text): Json<Text>) -> Json<Verdict> {
    let file = text.file.as_deref().unwrap_or(buildit_shared::db::projects::DEFAULT_FILE);
    let diagnostics = pipeline::parse(file, &text.config).err().unwrap_or_default();
    Json(Verdict { valid: diagnostics.is_empty(), diagnostics })
}

/// Refuses a text that would make every run an error.
pub(crate) fn check(config: &str) -> Result<()> {
    let Err(diagnostics) = pipeline::parse("config", config) else { return Ok(()) };
    let first = diagnostics.first().map(|first| format!("line {}: {}", first.line, first.message)).unwrap_or_default();
    let error = ApiError::invalid("config", format!("this is no pipeline, {first}"));
    Err(error.with(json!({ "field": "config", "diagnostics": diagnostics })))
}
