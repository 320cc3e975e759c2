//! A pipeline's status for other places: a badge for a README, a feed for a monitor on the desk. The address is the
//! permission, since neither can sign in.

use axum::{
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use buildit_shared::{
    db::overviews::{self, LastRun},
    domain::RunStatus,
    ids::PipelineId,
    link_token::Link,
};
use serde::Deserialize;
use uuid::Uuid;

use super::error::Result;
use crate::{App, error::ApiError, extract::Path};

#[derive(Deserialize)]
pub(super) struct StatusPath {
    pipeline: Uuid,
    /// The token, and what is wanted: `.svg` or `.xml`.
    file: String,
}

/// The addresses of a pipeline's badge and feed.
pub(super) fn addresses(app: &App, pipeline: PipelineId) -> (String, String) {
    let token = app.config.link_tokens.token(Link::Status(pipeline));
    let of = |ending: &str| app.url(&format!("/status/{pipeline}/{token}.{ending}"));
    (of("svg"), of("xml"))
}

/// `GET /status/{pipeline}/{token}.svg` and `.xml`
pub(super) async fn show(State(app): State<App>, Path(path): Path<StatusPath>) -> Result<Response> {
    let pipeline = PipelineId::from(path.pipeline);
    let nothing = || ApiError::not_found("status", path.pipeline);
    let (token, ending) = path.file.rsplit_once('.').ok_or_else(nothing)?;
    if !app.config.link_tokens.check(Link::Status(pipeline), token) {
        return Err(nothing().into());
    }
    let runs = overviews::last_runs(app.pool(), pipeline).await?.ok_or_else(nothing)?;
    let (content_type, body) = match ending {
        "svg" => ("image/svg+xml", badge(runs.last_ended.as_ref().map(|run| run.status))),
        "xml" => ("application/xml; charset=utf-8", feed(&app, &runs)),
        _ => return Err(nothing().into()),
    };
    let headers = [(header::CONTENT_TYPE, content_type), (header::CACHE_CONTROL, "no-cache, max-age=0")];
    Ok((headers, body).into_response())
}

fn badge(status: Option<RunStatus>) -> String {
    let (word, colour) = match status {
        Some(RunStatus::Success) => ("passing", "#197a3a"),
        Some(RunStatus::Failure) => ("failing", "#c4272c"),
        Some(RunStatus::Error) => ("error", "#a44d00"),
        Some(status) => (status.name(), "#646973"),
        None => ("no run", "#646973"),
    };
    let width = 16 + word.len() * 7;
    let (whole, middle) = (42 + width, 42 + width / 2);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{whole}\" height=\"20\" role=\"img\" aria-label=\"build: {word}\">\
         <title>build: {word}</title>\
         <rect width=\"{whole}\" height=\"20\" rx=\"4\" fill=\"#3b3f46\"/>\
         <path fill=\"{colour}\" d=\"M42 0h{}a4 4 0 0 1 4 4v12a4 4 0 0 1-4 4H42z\"/>\
         <g fill=\"#fff\" text-anchor=\"middle\" font-family=\"Verdana,DejaVu Sans,sans-serif\" font-size=\"11\">\
         <text x=\"21\" y=\"14\">build</text><text x=\"{middle}\" y=\"14\">{word}</text></g></svg>",
        width - 4
    )
}

fn feed(app: &App, runs: &overviews::LastRuns) -> String {
    let activity = if runs.is_at_work { "Building" } else { "Sleeping" };
    let name = escaped(&format!("{}/{}", runs.project, runs.pipeline));
    let last = match &runs.last_ended {
        None => "lastBuildStatus=\"Unknown\" lastBuildLabel=\"\"".to_owned(),
        Some(LastRun { number, status, finished_at, .. }) => {
            let status = match status {
                RunStatus::Success => "Success",
                RunStatus::Failure => "Failure",
                RunStatus::Error => "Exception",
                _ => "Unknown",
            };
            let time = finished_at.to_jiff().strftime("%Y-%m-%dT%H:%M:%SZ");
            format!("lastBuildStatus=\"{status}\" lastBuildLabel=\"{number}\" lastBuildTime=\"{time}\"")
        }
    };
    let url = escaped(&match &runs.last_ended {
        Some(run) => app.url(&format!("/runs/{}", run.id)),
        None => app.url("/"),
    });
    format!("<Projects><Project name=\"{name}\" activity=\"{activity}\" {last} webUrl=\"{url}\"/></Projects>\n")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}
