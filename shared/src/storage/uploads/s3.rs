//! Multipart uploads to S3.

use std::time::Duration;

use bytes::Buf;
use http::{Method, StatusCode, header::CONTENT_LENGTH, request};
use jiff::Timestamp;
use opendal::{Buffer, ErrorKind};
use serde::{Deserialize, Serialize};
use url::Url;

use super::Content;
use crate::storage::{CHECKSUM, Error, s3::S3};

/// For our own requests, which are sent at once.
const SHORT: Duration = Duration::from_secs(60);

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InitiateMultipartUploadResult {
    upload_id: String,
}

#[derive(Serialize)]
#[serde(rename = "CompleteMultipartUpload")]
struct CompleteMultipartUpload<'a> {
    #[serde(rename = "Part")]
    parts: Vec<Part<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Part<'a> {
    part_number: usize,
    #[serde(rename = "ETag")]
    etag: &'a str,
}

/// The body of an answer that is an error; that of a completion may come with a 200.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Refusal {
    code: String,
    message: String,
}

impl S3 {
    pub(super) async fn begin_upload(&self, key: &str, content: &Content) -> Result<String, Error> {
        let request = self
            .request(Method::POST, key, &[("uploads", "")])
            .header(format!("x-amz-meta-{CHECKSUM}"), content.checksum.to_string());
        let (status, body) = self.send(request, Buffer::new()).await?;
        if status != StatusCode::OK {
            return Err(refused(status, &body, key));
        }
        let result: InitiateMultipartUploadResult = quick_xml::de::from_reader(body.reader())
            .map_err(|error| Error::Unavailable(format!("its answer to a new upload cannot be read: {error}")))?;
        Ok(result.upload_id)
    }

    pub(super) async fn upload_is_open(&self, key: &str, upload: &str) -> Result<bool, Error> {
        let request = self.request(Method::GET, key, &[("max-parts", "1"), ("uploadId", upload)]);
        match self.send(request, Buffer::new()).await? {
            (StatusCode::OK, _) => Ok(true),
            (status, body) => match refused(status, &body, upload) {
                Error::NoUpload(_) => Ok(false),
                error => Err(error),
            },
        }
    }

    pub(super) async fn part_address(
        &self,
        key: &str,
        upload: &str,
        number: u32,
        size: u64,
        expires: Timestamp,
    ) -> Result<Url, Error> {
        let number = number.to_string();
        let address = self.public.object(key, &[("partNumber", &number), ("uploadId", upload)]);
        let request = request::Builder::new().method(Method::PUT).uri(address).header(CONTENT_LENGTH, size);
        self.sign(request, expires).await
    }

    pub(super) async fn complete_upload(&self, key: &str, upload: &str, etags: &[String]) -> Result<(), Error> {
        let parts = etags.iter().enumerate().map(|(index, etag)| Part { part_number: index + 1, etag }).collect();
        let body = quick_xml::se::to_string(&CompleteMultipartUpload { parts })
            .map_err(|error| Error::Incomplete(format!("its parts cannot be named: {error}")))?;
        let request = self.request(Method::POST, key, &[("uploadId", upload)]);
        let (status, body) = self.send(request, Buffer::from(body)).await?;
        if status == StatusCode::OK && Refusal::of(&body).code.is_empty() {
            return Ok(());
        }
        Err(refused(status, &body, upload))
    }

    pub(super) async fn abort_upload(&self, key: &str, upload: &str) -> Result<(), Error> {
        let request = self.request(Method::DELETE, key, &[("uploadId", upload)]);
        match self.send(request, Buffer::new()).await? {
            (StatusCode::NO_CONTENT | StatusCode::OK, _) => Ok(()),
            (status, body) => match refused(status, &body, upload) {
                Error::NoUpload(_) => Ok(()),
                error => Err(error),
            },
        }
    }

    fn request(&self, method: Method, key: &str, query: &[(&str, &str)]) -> request::Builder {
        request::Builder::new().method(method).uri(self.own.object(key, query))
    }

    async fn send(&self, request: request::Builder, body: Buffer) -> Result<(StatusCode, Buffer), Error> {
        let answer = tokio::time::timeout(SHORT, self.send_signed(request, body)).await;
        answer.unwrap_or_else(|_| Err(Error::Unavailable(format!("no answer within {} s", SHORT.as_secs()))))
    }
}

impl Refusal {
    fn of(body: &Buffer) -> Self {
        quick_xml::de::from_reader(body.clone().reader()).unwrap_or_default()
    }
}

fn refused(status: StatusCode, body: &Buffer, upload: &str) -> Error {
    let Refusal { code, message } = Refusal::of(body);
    match (code.as_str(), status.as_u16()) {
        ("NoSuchUpload", _) => Error::NoUpload(upload.to_owned()),
        ("InvalidPart" | "InvalidPartOrder" | "EntityTooSmall", _) => Error::Incomplete(format!("{code}: {message}")),
        ("InternalError" | "SlowDown" | "RequestTimeout" | "ServiceUnavailable", _) | (_, 429 | 500..) => {
            Error::Unavailable(format!("status {status}, {code}: {message}"))
        }
        _ => Error::Store(opendal::Error::new(ErrorKind::Unexpected, format!("status {status}, {code}: {message}"))),
    }
}
