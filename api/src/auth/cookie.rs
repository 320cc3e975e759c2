//! Cookies: of sessions, and of sign-ins that are on their way to a provider and back.

use std::convert::Infallible;

use axum::{
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponseParts, ResponseParts},
};
use url::Url;

const SESSION: &str = "buildit_session";
const SIGN_IN: &str = "buildit_sign_in";
/// Where a sign-in by a provider begins and ends; the browser shows its cookie nowhere else.
const SIGN_IN_PATH: &str = "/login/oidc";
/// Seconds that a sign-in can take.
const SIGN_IN_LIFETIME: u32 = 10 * 60;
/// Seconds that a browser keeps it: as long as a session can last.
const LIFETIME: u32 = 30 * 24 * 60 * 60;

/// The session's token that the browser sent.
pub(super) fn token(headers: &HeaderMap) -> Option<&str> {
    value(headers, SESSION)
}

fn value<'a>(headers: &'a HeaderMap, wanted: &str) -> Option<&'a str> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|header| header.to_str().ok());
    let mut pairs = cookies.flat_map(|header| header.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == wanted).map(|(_, value)| value)
}

/// What an answer has the browser do: put it before the rest, as in `(cookie, Redirect::to("/"))`.
#[derive(Clone, Debug)]
pub(crate) struct SessionCookie(String);

impl SessionCookie {
    /// Keep the session with this token.
    pub(crate) fn keep(token: &str, public_url: &Url) -> Self {
        Self::new(token, LIFETIME, public_url)
    }

    /// Forget the session.
    pub(crate) fn forget(public_url: &Url) -> Self {
        Self::new("", 0, public_url)
    }

    fn new(value: &str, lifetime: u32, public_url: &Url) -> Self {
        Self(cookie(SESSION, value, "/", lifetime, public_url))
    }
}

/// The token of a sign-in by a provider, in the browser that began it. It is `Lax`, since the provider's site sends the browser back.
#[derive(Clone, Debug)]
pub(crate) struct SignInCookie(String);

impl SignInCookie {
    /// What the browser sent.
    pub(crate) fn token(headers: &HeaderMap) -> Option<&str> {
        value(headers, SIGN_IN)
    }

    /// Keep this token.
    pub(crate) fn keep(token: &str, public_url: &Url) -> Self {
        Self(cookie(SIGN_IN, token, SIGN_IN_PATH, SIGN_IN_LIFETIME, public_url))
    }

    /// Forget it.
    pub(crate) fn forget(public_url: &Url) -> Self {
        Self(cookie(SIGN_IN, "", SIGN_IN_PATH, 0, public_url))
    }
}

fn cookie(name: &str, value: &str, path: &str, lifetime: u32, public_url: &Url) -> String {
    let secure = if public_url.scheme() == "https" { "; Secure" } else { "" };
    format!("{name}={value}; Path={path}; HttpOnly; SameSite=Lax; Max-Age={lifetime}{secure}")
}

impl IntoResponseParts for SessionCookie {
    type Error = Infallible;

    fn into_response_parts(self, answer: ResponseParts) -> Result<ResponseParts, Infallible> {
        Ok(with(answer, &self.0))
    }
}

impl IntoResponseParts for SignInCookie {
    type Error = Infallible;

    fn into_response_parts(self, answer: ResponseParts) -> Result<ResponseParts, Infallible> {
        Ok(with(answer, &self.0))
    }
}

fn with(mut answer: ResponseParts, cookie: &str) -> ResponseParts {
    if let Ok(value) = HeaderValue::from_str(cookie) {
        answer.headers_mut().append(header::SET_COOKIE, value);
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_found_among_other_cookies() {
        let mut headers = HeaderMap::new();
        assert_eq!(token(&headers), None);
        headers.append(header::COOKIE, "theme=dark; buildit_session_old=x".parse().unwrap());
        headers.append(header::COOKIE, "a=b;buildit_session=bis_1".parse().unwrap());
        assert_eq!(token(&headers), Some("bis_1"));
    }

    #[test]
    fn behind_tls_it_is_sent_over_nothing_else() {
        let of = |url: &str| SessionCookie::keep("bis_1", &url.parse().unwrap()).0;
        assert!(of("https://ci.example").ends_with("; Secure"));
        assert_eq!(of("http://ci.example"), "buildit_session=bis_1; Path=/; HttpOnly; SameSite=Lax; Max-Age=2592000");
    }
}
