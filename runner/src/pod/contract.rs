//! What the runner in a pod, the worker that made the pod, and the API tell each other.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::spec::AttemptSpec;

/// The format of [`PodSpec`] that this build writes and reads.
pub const POD_SPEC_VERSION: u32 = 1;

/// The exit code of a runner that ran nothing, because the attempt was not its to run.
pub const EXIT_NOT_BEGUN: u8 = 4;

/// What a pod's runner is to do: written by the worker into the pod's Secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PodSpec {
    /// [`POD_SPEC_VERSION`]; a runner refuses any other.
    pub version: u32,
    /// The attempt. Its `workspace` is absolute; its `checkout` and `inputs` are empty, since the
    /// answer to `begin` names them.
    pub attempt: AttemptSpec,
    /// The base URL of BuildIt's API as pods reach it, without a slash at its end.
    pub api: String,
    /// The token for this attempt alone.
    pub token: String,
    /// A private certificate authority for the API and the storage, as PEM. It is trusted beside
    /// the public ones.
    #[serde(default)]
    pub ca: Option<String>,
    /// A writable folder, where the attempt's own folder ([`crate::Layout`]) goes.
    pub root: PathBuf,
    /// Milliseconds for which an API that does not answer is asked to let the attempt begin, and
    /// for which each download is tried.
    #[serde(default = "half_an_hour_ms")]
    pub begin_limit_ms: u64,
    /// Milliseconds for which the uploads are tried, all together.
    #[serde(default = "half_an_hour_ms")]
    pub upload_limit_ms: u64,
}

fn half_an_hour_ms() -> u64 {
    30 * 60 * 1000
}

impl PodSpec {
    /// A spec with half an hour for the API and for the uploads, and public authorities alone.
    pub fn new(
        attempt: AttemptSpec,
        api: impl Into<String>,
        token: impl Into<String>,
        root: impl Into<PathBuf>,
    ) -> PodSpec {
        PodSpec {
            version: POD_SPEC_VERSION,
            attempt,
            api: api.into(),
            token: token.into(),
            ca: None,
            root: root.into(),
            begin_limit_ms: half_an_hour_ms(),
            upload_limit_ms: half_an_hour_ms(),
        }
    }
}

/// Without the token and what else is secret.
impl fmt::Debug for PodSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PodSpec")
            .field("attempt", &self.attempt.attempt_id)
            .field("api", &self.api)
            .field("root", &self.root)
            .finish_non_exhaustive()
    }
}

/// The body of `POST /api/v1/attempts/{id}/begin`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BeginRequest {
    /// A word of chance that this process made for itself. Whoever's came first has the attempt,
    /// and may ask again.
    pub runner: String,
}

/// The answer to a [`BeginRequest`] that won.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begun {
    /// Unpacked into the workspace first.
    #[serde(default)]
    pub checkout: Option<Download>,
    /// Unpacked over the checkout, in this order.
    #[serde(default)]
    pub inputs: Vec<Download>,
}

/// A `tar.zst` in storage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Download {
    /// A presigned address for GET.
    pub url: String,
}

/// The body of `POST /api/v1/attempts/{id}/objects/{name}`. Names are `log`, `outputs` and
/// `artifacts/<name>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadRequest {
    /// Bytes.
    pub size: u64,
    /// SHA-256 of them all, in lower-case hex.
    pub sha256: String,
    /// They themselves, in base64: of a short log, which is so stored by one request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<String>,
}

/// The answer to an [`UploadRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadBegun {
    /// Names the upload in the requests that follow; `None`: the object is there, whole.
    #[serde(default)]
    pub upload: Option<String>,
    /// Bytes in each part but the last, which has the rest.
    pub part_size: u64,
    /// How many parts there are; an empty object is one empty part.
    pub parts: u32,
}

/// The body of `POST /api/v1/attempts/{id}/objects/{name}/parts`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartRequest {
    /// From [`UploadBegun`].
    pub upload: String,
    /// Counted from 1.
    pub part: u32,
    /// Its bytes.
    pub size: u64,
}

/// The answer to a [`PartRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartAddress {
    /// A presigned address for PUT, with exactly the part's length.
    pub url: String,
}

/// The body of `POST /api/v1/attempts/{id}/objects/{name}/complete`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompleteRequest {
    /// From [`UploadBegun`].
    pub upload: String,
    /// The ETag of each part, in order.
    pub parts: Vec<String>,
    /// As in the [`UploadRequest`].
    pub size: u64,
    /// As in the [`UploadRequest`].
    pub sha256: String,
}
