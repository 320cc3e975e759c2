//! Downloads of stored objects by signed links. Whoever has the link needs no key.

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use buildit_shared::storage::{self, InvalidLink, PartLink, disposition, uploads::PartError};
use futures::TryStreamExt;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use crate::{
    App,
    error::{ApiError, Result},
    extract::{Path, Query},
    range::{self, Wanted},
};

/// How long a link is good for. A download that began in time goes on.
const LIFETIME: SignedDuration = SignedDuration::from_mins(15);

#[derive(Deserialize)]
pub(crate) struct Link {
    #[serde(default)]
    expires: i64,
    #[serde(default)]
    signature: String,
    filename: Option<String>,
}

#[derive(Deserialize)]
pub(crate) struct Part {
    upload: String,
    part: u32,
    size: u64,
    expires: i64,
    signature: String,
}

/// An address of an object that is good for a while.
pub(crate) async fn link(app: &App, key: &str, filename: Option<&str>) -> Result<String> {
    Ok(app.storage().link(key, Timestamp::now() + LIFETIME, filename).await?.into())
}

/// `GET /objects/{key}?expires=…&signature=…`
pub(crate) async fn download(
    State(app): State<App>,
    Path(key): Path<String>,
    Query(link): Query<Link>,
    headers: HeaderMap,
) -> Result<Response> {
    let filename = link.filename.as_deref();
    app.storage().check_link(&key, link.expires, filename, &link.signature, Timestamp::now()).map_err(refused)?;
    let object = app.storage().stat(&key).await?;
    let size = object.size;
    let (status, part) = match Wanted::of(&headers, size) {
        Wanted::Whole => (StatusCode::OK, 0..size),
        Wanted::Part(part) => (StatusCode::PARTIAL_CONTENT, part),
        Wanted::Nothing => return Ok(range::unsatisfiable(size)),
    };
    let content_range = format!("bytes {}-{}/{size}", part.start, part.end.saturating_sub(1));
    let length = part.end - part.start;
    let body = Body::from_stream(app.storage().read(&object, part).await?);
    let mut response = (
        status,
        [
            (header::CONTENT_TYPE, content_type(filename.unwrap_or(&key))),
            (header::CONTENT_LENGTH, length.to_string()),
            (header::CONTENT_DISPOSITION, disposition(filename)),
            (header::ACCEPT_RANGES, "bytes".into()),
            // What a step wrote is not ours: nothing in it may act in this origin's name.
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff".into()),
            (header::CONTENT_SECURITY_POLICY, "sandbox; default-src 'none'".into()),
            (header::CACHE_CONTROL, "private, max-age=900".into()),
        ],
        body,
    )
        .into_response();
    if status == StatusCode::PARTIAL_CONTENT {
        response.headers_mut().insert(header::CONTENT_RANGE, range::value(content_range)?);
    }
    Ok(response)
}

/// `PUT /objects/{key}?upload=…&part=…&size=…&expires=…&signature=…`: a part of an upload, as S3 takes it.
pub(crate) async fn take_part(
    State(app): State<App>,
    Path(key): Path<String>,
    Query(part): Query<Part>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response> {
    let wrong_length = || {
        let message = format!("this address takes exactly {} bytes", part.size);
        ApiError::new(StatusCode::BAD_REQUEST, "wrong_length", message)
    };
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length != part.size) {
        return Err(wrong_length());
    }
    let link = PartLink { key, upload: part.upload, number: part.part, size: part.size, expires: part.expires };
    let body = body.into_data_stream().map_err(std::io::Error::other);
    let received = app.storage().receive_part(&link, &part.signature, Timestamp::now(), body).await;
    let received = received.map_err(|error| match error {
        PartError::Link(error) => refused(error),
        PartError::Length { .. } => wrong_length(),
        PartError::Store(storage::Error::NoUpload(_)) => {
            ApiError::new(StatusCode::NOT_FOUND, "no_upload", "there is no such upload any more")
        }
        PartError::Store(storage::Error::Source(_)) => {
            ApiError::new(StatusCode::BAD_REQUEST, "broken_off", "the part broke off")
        }
        PartError::Store(error) => error.into(),
    })?;
    Ok((StatusCode::OK, [(header::ETAG, format!("\"{}\"", received.etag))]).into_response())
}

fn refused(error: InvalidLink) -> ApiError {
    let code = match error {
        InvalidLink::Expired => "link_expired",
        InvalidLink::Forged => "link_invalid",
    };
    ApiError::new(StatusCode::FORBIDDEN, code, error.to_string())
}

fn content_type(name: &str) -> String {
    let guess = mime_guess::from_path(name).first_or_octet_stream();
    if guess.type_() == "text" { format!("{guess}; charset=utf-8") } else { guess.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_are_shown_as_text() {
        assert_eq!(content_type("logs/pipelines/1/test.log"), "text/plain; charset=utf-8");
        assert_eq!(content_type("artifact"), "application/octet-stream");
    }
}
