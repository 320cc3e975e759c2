//! The digest of an image that a step has pushed, as its registry tells it (the distribution specification, "Pulling
//! manifests"): a tag can be moved, a digest cannot.

use std::{net::IpAddr, time::Duration};

use reqwest::{Client, StatusCode};

const TIMEOUT: Duration = Duration::from_secs(5);
const MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
                         application/vnd.docker.distribution.manifest.list.v2+json, \
                         application/vnd.docker.distribution.manifest.v2+json";

/// The digest of `registry/repository:tag`, or why it cannot be told.
pub(super) async fn digest(image: &str) -> Result<String, String> {
    let (registry, rest) = image.split_once('/').ok_or("it names no registry")?;
    let (repository, tag) = rest.rsplit_once(':').ok_or("it has no tag")?;
    let client = Client::builder().timeout(TIMEOUT).build().map_err(|error| error.to_string())?;
    let mut last = String::new();
    for scheme in schemes(registry) {
        let address = format!("{scheme}://{registry}/v2/{repository}/manifests/{tag}");
        match client.head(address).header("accept", MANIFESTS).send().await {
            Ok(answer) if answer.status() == StatusCode::NOT_FOUND => {
                return Err("its registry does not have it; did the step push it?".into());
            }
            Ok(answer) if !answer.status().is_success() => {
                return Err(format!("its registry answered {}", answer.status()));
            }
            Ok(answer) => {
                let digest = answer.headers().get("docker-content-digest").and_then(|digest| digest.to_str().ok());
                return digest.filter(|it| is_digest(it)).map(str::to_owned).ok_or("its registry names none".into());
            }
            Err(error) => last = format!("its registry does not answer: {}", error.without_url()),
        }
    }
    Err(last)
}

/// Without TLS only where the traffic stays in a network of one's own.
fn schemes(registry: &str) -> &'static [&'static str] {
    let host = registry.rsplit_once(':').map_or(registry, |(host, _)| host).trim_matches(['[', ']']);
    let is_own = match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => address.is_loopback() || address.is_private(),
        Ok(IpAddr::V6(address)) => address.is_loopback() || address.is_unique_local(),
        Err(_) => host == "localhost",
    };
    if is_own { &["https", "http"] } else { &["https"] }
}

fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:").is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_registry_of_ones_own_network_is_asked_without_tls() {
        for own in ["localhost:5000", "127.0.0.1:5000", "10.1.2.3", "[::1]:5000"] {
            assert_eq!(schemes(own), ["https", "http"], "{own}");
        }
        for other in ["ghcr.io", "registry.example.org:5000", "8.8.8.8"] {
            assert_eq!(schemes(other), ["https"], "{other}");
        }
    }
}
