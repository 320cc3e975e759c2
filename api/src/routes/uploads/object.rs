//! One object that a runner stores: what it may do, and where the upload stands.

use axum::http::{HeaderMap, StatusCode};
use base64::{Engine, engine::general_purpose::STANDARD};
use buildit_shared::{
    db::uploads::{self, Promised, Upload, Uploader},
    ids::AttemptId,
    storage::{Checksum, Error, keys::Staged, uploads::Content},
};
use jiff::{SignedDuration, Timestamp};

use super::{
    super::attempts::{RUNNER_HEADER, begun_by_another, over, unknown},
    ArtifactPath, AskForPart, CompleteObject, Completed, ObjectUpload, PartAddress, PromiseObject,
};
use crate::{
    App,
    error::{ApiError, Result},
    extract::Json,
};

/// How long the address of a part is good for. A transfer that began in time goes on.
const LIFETIME: SignedDuration = SignedDuration::from_mins(15);
/// Bytes of a log that may come with its promise.
const SHORT_LOG: u64 = 64 << 10;
/// What a log may have beyond its limit: the marks that say so.
const LOG_MARKS: u64 = 64 << 10;

/// An object that this runner may store.
pub(super) struct Object<'a> {
    app: &'a App,
    attempt: AttemptId,
    staged: Staged,
    key: String,
}

impl<'a> Object<'a> {
    pub(super) async fn artifact(
        app: &'a App,
        attempt: AttemptId,
        path: ArtifactPath,
        headers: &HeaderMap,
    ) -> Result<Self> {
        Self::find(app, attempt, &format!("artifacts/{}", path.name), headers).await
    }

    pub(super) async fn find(app: &'a App, attempt: AttemptId, name: &str, headers: &HeaderMap) -> Result<Self> {
        let uploader: Uploader = uploads::uploader(app.runners(), attempt).await?.ok_or_else(|| unknown(attempt))?;
        if uploader.ended {
            return Err(over());
        }
        let runner = headers.get(RUNNER_HEADER).and_then(|runner| runner.to_str().ok());
        if uploader.begun_by.is_none() || uploader.begun_by.as_deref() != runner {
            return Err(begun_by_another());
        }
        let staged: Option<Staged> = name.parse().ok().filter(|staged| uploader.may_store(staged));
        let staged = staged.ok_or_else(|| {
            let message = format!("the pipeline has no {name:?} for this step to store");
            ApiError::new(StatusCode::NOT_FOUND, "not_found", message)
        })?;
        let key = uploader.key(&staged);
        Ok(Self { app, attempt, staged, key })
    }

    pub(super) async fn promise(&self, body: &PromiseObject) -> Result<Json<ObjectUpload>> {
        let content = content(body.size, &body.sha256)?;
        let bytes = body.bytes.as_ref().map(|bytes| self.short_log(bytes, &content)).transpose()?;
        let config = &self.app.config;
        let limit = match self.staged {
            Staged::Log => config.upload_limit.min(config.log_limit + LOG_MARKS),
            _ => config.upload_limit,
        };
        let too_large = || {
            let message = format!("an attempt stores at most {limit} bytes there");
            ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
        };
        if content.size > limit {
            return Err(too_large());
        }
        if let Some(bytes) = bytes {
            return self.store(bytes, &content).await;
        }
        let promised =
            uploads::promise(self.app.runners(), self.attempt, &self.staged, &content, config.upload_limit).await?;
        let (upload, replaced) = match promised {
            Promised::Stands { upload, replaced } => (upload, replaced),
            Promised::TooMuch => return Err(too_large()),
            Promised::Ended => return Err(over()),
            Promised::Immutable => return Err(self.immutable()),
        };
        if let Some(replaced) = replaced {
            self.give_up(&replaced).await;
        }
        let upload = self.open(upload, &content).await?;
        Ok(answer(upload, &content))
    }

    /// Stores a short log, then notes it: nothing is open meanwhile that somebody would have to complete.
    async fn store(&self, bytes: Vec<u8>, content: &Content) -> Result<Json<ObjectUpload>> {
        let there = uploads::find(self.app.runners(), self.attempt, &self.staged).await?;
        match there {
            Some(there) if there.complete && there.content == *content => {}
            Some(there) if there.complete => return Err(self.immutable()),
            open => {
                self.app.storage().put(&self.key, bytes).await?;
                if !uploads::stored(self.app.runners(), self.attempt, &self.staged, content).await? {
                    return Err(over());
                }
                if let Some(replaced) = open.and_then(|open| open.id) {
                    self.give_up(&replaced).await;
                }
            }
        }
        Ok(answer(None, content))
    }

    async fn give_up(&self, replaced: &str) {
        // What remains of it after an error is given up with the attempt's other leftovers by the bucket's rule.
        if let Err(error) = self.app.storage().abort_upload(&self.key, replaced).await {
            tracing::warn!(%error, key = self.key, "an upload that was replaced could not be given up");
        }
    }

    fn immutable(&self) -> ApiError {
        let message = format!("there is another {} of this attempt, which stays as it is", self.staged);
        ApiError::conflict("immutable", message)
    }

    /// The bytes of a log that came with its promise.
    fn short_log(&self, bytes: &str, content: &Content) -> Result<Vec<u8>> {
        let invalid = |message: &str| Err(ApiError::invalid("bytes", message));
        if self.staged != Staged::Log || content.size > SHORT_LOG {
            return invalid("only a log of at most 64 KiB comes with its promise");
        }
        match STANDARD.decode(bytes) {
            Ok(bytes) if bytes.len() as u64 == content.size && Checksum::of(&bytes) == content.checksum => Ok(bytes),
            Ok(_) => invalid("they are not those that size and checksum are of"),
            Err(_) => invalid("this is not base64"),
        }
    }

    /// The id of an upload that takes parts; `None` when the object is there.
    async fn open(&self, mut upload: Upload, content: &Content) -> Result<Option<String>> {
        let (pool, storage) = (self.app.runners(), self.app.storage());
        loop {
            if upload.complete {
                return Ok(None);
            }
            if storage.is_complete(&self.key, content).await? {
                uploads::completed(pool, self.attempt, &self.staged, content).await?;
                return Ok(None);
            }
            if let Some(id) = &upload.id
                && storage.upload_is_open(&self.key, id).await?
            {
                return Ok(upload.id);
            }
            let id = storage.begin_upload(&self.key, content).await?;
            if uploads::opened(pool, self.attempt, &self.staged, &upload, &id).await? {
                return Ok(Some(id));
            }
            // The same question was answered elsewhere at the same moment.
            storage.abort_upload(&self.key, &id).await?;
            upload = uploads::find(pool, self.attempt, &self.staged)
                .await?
                .filter(|upload| upload.content == *content)
                .ok_or_else(no_upload)?;
        }
    }

    pub(super) async fn part(&self, body: &AskForPart) -> Result<Json<PartAddress>> {
        let upload = self.upload(&body.upload).await?;
        let length = upload
            .content
            .part_length(body.part)
            .ok_or_else(|| ApiError::invalid("part", format!("there are {} parts, from 1", upload.content.parts())))?;
        if body.size != length {
            return Err(ApiError::invalid("size", format!("part {} has {length} bytes", body.part)));
        }
        let expires = Timestamp::now() + LIFETIME;
        let url = self.app.storage().part_address(&self.key, &body.upload, body.part, length, expires).await?;
        Ok(Json(PartAddress { url: url.into() }))
    }

    pub(super) async fn complete(&self, body: &CompleteObject) -> Result<Json<Completed>> {
        let content = content(body.size, &body.sha256)?;
        let (pool, storage) = (self.app.runners(), self.app.storage());
        let there = uploads::find(pool, self.attempt, &self.staged).await?;
        if there.is_some_and(|there| there.complete && there.content == content) {
            return Ok(Json(Completed {}));
        }
        let upload = self.upload(&body.upload).await?;
        if upload.content != content {
            return Err(ApiError::invalid("sha256", "size and checksum are not those that were promised"));
        }
        let incomplete =
            |error: Error| ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "incomplete", error.to_string());
        match storage.complete_upload(&self.key, &body.upload, &body.parts, &content).await {
            Ok(()) => {}
            Err(Error::NoUpload(_)) => return Err(no_upload()),
            Err(error @ (Error::Incomplete(_) | Error::Corrupt { .. })) => return Err(incomplete(error)),
            Err(error) => return Err(error.into()),
        }
        uploads::completed(pool, self.attempt, &self.staged, &content).await?;
        Ok(Json(Completed {}))
    }

    /// The upload with this id, which takes parts.
    async fn upload(&self, id: &str) -> Result<Upload> {
        uploads::find(self.app.runners(), self.attempt, &self.staged)
            .await?
            .filter(|upload| !upload.complete && upload.id.as_deref() == Some(id))
            .ok_or_else(no_upload)
    }
}

fn answer(upload: Option<String>, content: &Content) -> Json<ObjectUpload> {
    Json(ObjectUpload { exists: upload.is_none(), upload, part_size: content.part_size(), parts: content.parts() })
}

fn content(size: u64, sha256: &str) -> Result<Content> {
    let checksum = sha256.parse().map_err(|error| ApiError::invalid("sha256", format!("{error}")))?;
    Ok(Content { size, checksum })
}

fn no_upload() -> ApiError {
    ApiError::conflict("no_upload", "this upload takes no parts any more; promise the object anew")
}
