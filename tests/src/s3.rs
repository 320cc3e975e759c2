//! A bucket of the test cluster's S3, with a folder in it for each test.

use buildit_shared::storage::{AccessKey, S3Settings, Storage};
use reqwest::Url;
use uuid::Uuid;

/// The bucket that `./dev cluster env` names, and a prefix of one's own.
///
/// # Panics
/// When the variables are not there.
pub fn settings() -> S3Settings {
    // One for all tests of a process; the second installation is refused, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let variable = |name: &str| {
        let name = format!("BUILDIT_TEST_S3_{name}");
        std::env::var(&name).unwrap_or_else(|_| {
            panic!("no {name}: run `./dev cluster up minio`, then set what `./dev cluster env` prints")
        })
    };
    S3Settings {
        bucket: variable("BUCKET"),
        endpoint: Some(variable("ENDPOINT").parse().expect("an address")),
        region: "us-east-1".into(),
        access_key: Some(AccessKey { id: variable("ACCESS_KEY"), secret: variable("SECRET_KEY") }),
        path_style: true,
        prefix: format!("test-{}", Uuid::now_v7()),
        public_url: None,
    }
}

/// The same store, at the end of a connection of one's own.
pub fn at(settings: &S3Settings, endpoint: Url) -> S3Settings {
    S3Settings { endpoint: Some(endpoint), ..settings.clone() }
}

/// The same settings for a process.
///
/// # Panics
/// When they name no endpoint or no key.
pub fn variables(settings: &S3Settings) -> Vec<(&'static str, String)> {
    let key = settings.access_key.clone().expect("a key");
    vec![
        ("BUILDIT_STORAGE_KIND", "s3".into()),
        ("BUILDIT_STORAGE_BUCKET", settings.bucket.clone()),
        ("BUILDIT_STORAGE_ENDPOINT", settings.endpoint.as_ref().expect("an endpoint").to_string()),
        ("BUILDIT_STORAGE_ACCESS_KEY", key.id),
        ("BUILDIT_STORAGE_SECRET_KEY", key.secret),
        ("BUILDIT_STORAGE_PREFIX", settings.prefix.clone()),
    ]
}

/// A store in a folder of its own.
pub fn storage() -> Storage {
    Storage::s3(settings()).expect("a store")
}
