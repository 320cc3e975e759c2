//! What a run left: a list of files, and each of them in place.
//!
//! A report is a stranger's page. It is shown in a frame whose policy gives it an origin of its own, so that it reaches no
//! cookie and no page of ours; its address carries the permission to read the artifact, for an hour, since the frame cannot sign in.

use askama::Template;
use axum::{
    body::Body,
    extract::State,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use buildit_shared::{db::artifact_queries, ids::RunId, link_token::Link};
use jiff::Timestamp;
use serde::Deserialize;
use uuid::Uuid;

use super::{
    error::{Result, Visitor},
    layout::{Layout, page},
    text::{When, part, size},
};
use crate::{App, auth::ProjectRead, error::ApiError, extract::Path, routes::runs};

/// The most files that a page lists; the archive has all.
const MOST: i64 = 1000;
/// Seconds that a report's address is good for.
const LIFETIME: i64 = 3600;
/// What a report may do: run its own scripts on its own files, and reach nothing else.
const REPORT_POLICY: &str = "sandbox allow-scripts; default-src 'none'; script-src 'self' 'unsafe-inline'; \
                             style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; media-src 'self'; \
                             form-action 'none'; base-uri 'none'; frame-ancestors 'self'";

#[derive(Deserialize)]
pub(super) struct ArtifactPath {
    run: Uuid,
    name: String,
}

#[derive(Deserialize)]
pub(super) struct FilePath {
    run: Uuid,
    name: String,
    path: String,
}

#[derive(Deserialize)]
pub(super) struct ReportPath {
    run: Uuid,
    expires: i64,
    token: String,
    name: String,
    path: String,
}

#[derive(Template)]
#[template(path = "artifact.html")]
struct ArtifactPage {
    layout: Layout,
    run: String,
    title: String,
    name: String,
    archive: String,
    files: Vec<FileRow>,
    is_cut: bool,
}

struct FileRow {
    path: String,
    href: Option<String>,
    download: String,
    size: String,
    at: When,
}

#[derive(Template)]
#[template(path = "report.html")]
struct ReportPage {
    layout: Layout,
    run: String,
    name: String,
    back: String,
    path: String,
    frame: String,
    download: String,
}

/// Whether a browser can show it in place.
fn is_shown(content_type: &str) -> bool {
    let kind = content_type.split(';').next().unwrap_or_default().trim();
    kind.starts_with("text/") || kind.starts_with("image/") || matches!(kind, "application/json" | "application/pdf")
}

fn path_parts(path: &str) -> String {
    path.split('/').map(part).collect::<Vec<_>>().join("/")
}

/// `GET /runs/{run}/artifacts/{name}`
pub(super) async fn show(
    State(app): State<App>,
    caller: Visitor<ProjectRead>,
    Path(path): Path<ArtifactPath>,
) -> Result<Response> {
    let run = runs::find(&app, &caller, path.run).await?;
    let files = artifact_queries::files(app.pool(), run.id, &path.name, None, MOST + 1).await?;
    if files.is_empty() {
        return Err(ApiError::not_found("artifact", &path.name).into());
    }
    let base = format!("/runs/{}/artifacts/{}", run.id, part(&path.name));
    let is_cut = files.len() > MOST as usize;
    Ok(page(&ArtifactPage {
        layout: Layout::of(&caller, "projects", format!("{} of {} #{}", path.name, run.project, run.number)),
        run: run.id.to_string(),
        title: format!("{} #{}", run.project, run.number),
        archive: format!("/api/v1{base}/archive"),
        files: files
            .into_iter()
            .take(MOST as usize)
            .map(|file| FileRow {
                href: is_shown(&file.content_type).then(|| format!("{base}/view/{}", path_parts(&file.path))),
                download: format!("/api/v1{base}/files/{}", path_parts(&file.path)),
                size: size(file.size),
                at: When::of(file.created_at),
                path: file.path,
            })
            .collect(),
        name: path.name,
        is_cut,
    }))
}

/// `GET /runs/{run}/artifacts/{name}/view/{path}`
pub(super) async fn view(
    State(app): State<App>,
    caller: Visitor<ProjectRead>,
    Path(path): Path<FilePath>,
) -> Result<Response> {
    let run = runs::find(&app, &caller, path.run).await?;
    let file = artifact_queries::file(app.pool(), run.id, &path.name, &path.path).await?;
    let file = file.ok_or_else(|| ApiError::not_found("file", &path.path))?;
    let expires = Timestamp::now().as_second() + LIFETIME;
    let token = app.config.link_tokens.token(Link::Artifact { run: run.id, name: &path.name, expires });
    let name = part(&path.name);
    let at = path_parts(&file.path);
    Ok(page(&ReportPage {
        layout: Layout::of(&caller, "projects", file.path.as_str()).wide(),
        back: format!("/runs/{}/artifacts/{name}", run.id),
        frame: format!("/reports/{}/{expires}/{token}/{name}/{at}", run.id),
        download: format!("/api/v1/runs/{}/artifacts/{name}/files/{at}", run.id),
        run: run.id.to_string(),
        name: path.name,
        path: file.path,
    }))
}

/// `GET /reports/{run}/{expires}/{token}/{name}/{path}`: for whoever has the address.
pub(super) async fn report(State(app): State<App>, Path(path): Path<ReportPath>) -> Result<Response> {
    let run = RunId::from(path.run);
    let link = Link::Artifact { run, name: &path.name, expires: path.expires };
    if path.expires < Timestamp::now().as_second() || !app.config.link_tokens.check(link, &path.token) {
        return Err(ApiError::forbidden("this address was good for an hour; open the artifact again").into());
    }
    let file = artifact_queries::file(app.pool(), run, &path.name, &path.path).await?;
    let file = file.ok_or_else(|| ApiError::not_found("file", &path.path))?;
    let object = app.storage().stat(&file.storage_key).await?;
    let body = Body::from_stream(app.storage().read(&object, 0..object.size).await?);
    let content_type = match file.content_type.as_str() {
        kind if kind.starts_with("text/") && !kind.contains("charset") => format!("{kind}; charset=utf-8"),
        kind => kind.to_owned(),
    };
    let mut response = body.into_response();
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::try_from(content_type) {
        headers.insert(header::CONTENT_TYPE, value);
    }
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, REPORT_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "private, max-age=600"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    Ok(response)
}
