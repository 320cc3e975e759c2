//! `[storage]`: where objects are.

use std::fmt;

use anyhow::anyhow;
use buildit_shared::storage::{AccessKey, S3Settings};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::exit::Problem;

/// Names the region where no setting does, as everywhere else.
const REGION_VARIABLES: [&str; 2] = ["AWS_REGION", "AWS_DEFAULT_REGION"];
/// What servers that know no regions expect.
const DEFAULT_REGION: &str = "us-east-1";

/// Where objects are: logs, artifacts, checkouts, what steps hand on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct StorageSettings {
    /// `files` below the data folder, or `s3`.
    pub(crate) kind: StorageKind,
    /// S3: the bucket, which must exist.
    pub(crate) bucket: Option<String>,
    /// S3: the server; Amazon's without it.
    pub(crate) endpoint: Option<Url>,
    /// S3: the region; `AWS_REGION` or `us-east-1` without it.
    pub(crate) region: Option<String>,
    /// S3: the key's id; without a key the environment's own chain (`AWS_…`, profile, web identity, machine role).
    pub(crate) access_key: Option<String>,
    /// S3: the key's secret half.
    pub(crate) secret_key: Option<Secret>,
    /// S3: name the bucket in the path rather than in the host's name.
    pub(crate) path_style: bool,
    /// S3: put before all keys.
    pub(crate) prefix: String,
    /// S3: the server as browsers and steps reach it; the endpoint without it.
    pub(crate) public_url: Option<Url>,
}

/// What keeps the objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum StorageKind {
    /// A folder that the API and all workers share.
    Files,
    /// A bucket of any S3.
    S3,
}

/// A value that is never printed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Secret(String);

impl Secret {
    /// The value.
    pub(crate) fn plain(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

impl Default for StorageSettings {
    fn default() -> Self {
        Self {
            kind: StorageKind::Files,
            bucket: None,
            endpoint: None,
            region: None,
            access_key: None,
            secret_key: None,
            path_style: true,
            prefix: String::new(),
            public_url: None,
        }
    }
}

impl StorageSettings {
    /// The bucket.
    ///
    /// # Errors
    /// When what is needed to reach it is missing.
    pub(crate) fn s3(&self) -> Result<S3Settings, Problem> {
        let Some(bucket) = self.bucket.clone().filter(|bucket| !bucket.is_empty()) else {
            return Err(Problem::usage(anyhow!(
                "no bucket is given: set BUILDIT_STORAGE_BUCKET, or `bucket` in [storage]"
            )));
        };
        let access_key = match (&self.access_key, &self.secret_key) {
            (Some(id), Some(secret)) => Some(AccessKey { id: id.clone(), secret: secret.plain().to_owned() }),
            (None, None) => None,
            _ => {
                let message = "half a key is given: set both access_key and secret_key in [storage], or neither";
                return Err(Problem::usage(anyhow!(message)));
            }
        };
        let region =
            || REGION_VARIABLES.iter().find_map(|name| std::env::var(name).ok().filter(|name| !name.is_empty()));
        Ok(S3Settings {
            bucket,
            endpoint: self.endpoint.clone(),
            region: self.region.clone().or_else(region).unwrap_or_else(|| DEFAULT_REGION.to_owned()),
            access_key,
            path_style: self.path_style,
            prefix: self.prefix.trim_matches('/').to_owned(),
            public_url: self.public_url.clone(),
        })
    }
}
