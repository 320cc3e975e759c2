//! What `docker login` has left for a registry. Credential helpers are not asked.

use std::{collections::BTreeMap, path::Path};

use base64::{Engine, engine::general_purpose::STANDARD};
use bollard::auth::DockerCredentials;
use serde::Deserialize;

/// Docker's own registry, by the name that credentials for it have.
const DOCKERS_OWN: &str = "index.docker.io";

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
struct Entry {
    auth: Option<String>,
    identitytoken: Option<String>,
}

/// The credentials for the registry of `image` in the file `config`, if there are any.
pub(super) fn credentials(config: &Path, image: &str) -> Option<DockerCredentials> {
    let config: Config = serde_json::from_slice(&std::fs::read(config).ok()?).ok()?;
    let registry = registry_of(image);
    let (_, entry) = config.auths.into_iter().find(|(name, _)| host_of(name) == registry)?;
    let login = String::from_utf8(STANDARD.decode(entry.auth.unwrap_or_default()).ok()?).ok()?;
    let (username, password) = login.split_once(':').unwrap_or((&login, ""));
    Some(DockerCredentials {
        username: Some(username.to_owned()),
        password: Some(password.to_owned()),
        identitytoken: entry.identitytoken,
        serveraddress: Some(registry.to_owned()),
        ..DockerCredentials::default()
    })
}

/// An image's first part names its registry where it looks like a host, else it is Docker's own.
fn registry_of(image: &str) -> &str {
    match image.split_once('/') {
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => match first {
            "docker.io" => DOCKERS_OWN,
            host => host,
        },
        _ => DOCKERS_OWN,
    }
}

/// Of an address such as `https://index.docker.io/v1/`.
fn host_of(address: &str) -> &str {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    rest.split('/').next().unwrap_or(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_registry_gets_its_own_credentials() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.json");
        let auths = serde_json::json!({ "auths": {
            "https://index.docker.io/v1/": { "auth": STANDARD.encode("me:word:with:colons") },
            "r.example:5000": { "auth": STANDARD.encode("other:x") },
        } });
        std::fs::write(&file, auths.to_string()).unwrap();
        let of = |image: &str| {
            let found = credentials(&file, image)?;
            Some((found.username?, found.password?))
        };
        let own = Some(("me".to_owned(), "word:with:colons".to_owned()));
        assert_eq!(of("debian"), own);
        assert_eq!(of("team/web:1"), own);
        assert_eq!(of("docker.io/library/debian:1"), own);
        assert_eq!(of("r.example:5000/web"), Some(("other".to_owned(), "x".to_owned())));
        assert_eq!(of("r.example/web"), None);
        assert_eq!(credentials(&folder.path().join("none"), "debian").map(drop), None);
    }
}
