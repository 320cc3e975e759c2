//! Whether a request comes from our own pages. Browsers say it, and no page can have them say otherwise.

use axum::http::{HeaderMap, StatusCode, header};
use url::Url;

use crate::error::{ApiError, Result};

/// Refuses what another site has a browser send, and what does not say where it comes from.
pub(crate) fn require_ours(headers: &HeaderMap, public_url: &Url) -> Result<()> {
    match origin(headers, public_url) {
        Some(true) => Ok(()),
        _ => Err(refused()),
    }
}

/// Refuses what another site has a browser send. For what needs no cookie, so that programs can ask it too.
pub(crate) fn refuse_others(headers: &HeaderMap, public_url: &Url) -> Result<()> {
    match origin(headers, public_url) {
        Some(false) => Err(refused()),
        _ => Ok(()),
    }
}

fn refused() -> ApiError {
    let message = "this request does not come from a page of this site, so it is not carried out";
    ApiError::new(StatusCode::FORBIDDEN, "cross_site", message)
}

/// Whether it is from here, if it says.
fn origin(headers: &HeaderMap, public_url: &Url) -> Option<bool> {
    // Not sent to addresses that are neither https nor this machine.
    if let Some(site) = headers.get("sec-fetch-site") {
        return Some(site == "same-origin");
    }
    let origin = headers.get(header::ORIGIN)?.to_str().ok()?;
    if origin == public_url.origin().ascii_serialization() {
        return Some(true);
    }
    // Reached by another of its names, which the browser tells as the host.
    let host = headers.get(header::HOST)?.to_str().ok()?;
    Some(origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://")) == Some(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours(pairs: &[(&'static str, &'static str)]) -> Option<bool> {
        let headers = pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        origin(&headers, &"https://ci.example".parse().unwrap())
    }

    #[test]
    fn a_browser_tells_where_a_request_comes_from() {
        assert_eq!(ours(&[]), None);
        assert_eq!(ours(&[("sec-fetch-site", "same-origin")]), Some(true));
        for other in ["cross-site", "same-site", "none"] {
            assert_eq!(ours(&[("sec-fetch-site", other), ("origin", "https://ci.example")]), Some(false), "{other}");
        }
        assert_eq!(ours(&[("origin", "https://ci.example")]), Some(true));
        assert_eq!(ours(&[("origin", "https://evil.example"), ("host", "ci.example")]), Some(false));
        assert_eq!(ours(&[("origin", "null"), ("host", "ci.example")]), Some(false));
        assert_eq!(ours(&[("origin", "http://localhost:30080"), ("host", "localhost:30080")]), Some(true));
    }
}
