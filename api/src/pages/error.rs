//! Errors as pages, for those who came with a browser.

use askama::Template;
use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, StatusCode, header, request::Parts},
    response::{IntoResponse, Redirect, Response},
};

use super::{
    layout::{Layout, page_with},
    text::part,
};
use crate::{
    App,
    auth::{Allowed, Permit},
    error::ApiError,
};

pub(super) type Result<T> = std::result::Result<T, PageError>;

/// What went wrong, for a person.
pub(crate) enum PageError {
    /// A page says it.
    Told(ApiError),
    /// It is unknown who asks: they sign in, and go on here.
    SignIn(String),
}

#[derive(Template)]
#[template(path = "error.html")]
struct ErrorPage {
    layout: Layout,
    heading: &'static str,
    message: String,
    status: u16,
}

impl<E: Into<ApiError>> From<E> for PageError {
    fn from(error: E) -> Self {
        Self::Told(error.into())
    }
}

impl IntoResponse for PageError {
    fn into_response(self) -> Response {
        let error = match self {
            Self::Told(error) => error,
            Self::SignIn(next) => return Redirect::to(&format!("/login?next={}", part(&next))).into_response(),
        };
        let status = error.status();
        let (heading, message) = match status {
            StatusCode::FORBIDDEN => ("You may not do that", error.to_string()),
            StatusCode::NOT_FOUND => (
                "There is nothing here",
                "What was here is gone, was never there, or belongs to an organization that you are not in.".into(),
            ),
            StatusCode::CONFLICT => ("That cannot be done now", error.to_string()),
            status if status.is_server_error() => ("Something is wrong", error.to_string()),
            _ => ("That did not work", error.to_string()),
        };
        let layout = Layout::plain(heading);
        let mut response = page_with(status, &ErrorPage { layout, heading, message, status: status.as_u16() });
        // Status, `Retry-After` and the like stay those of the API's answer.
        for (name, value) in error.into_response().headers() {
            if name != header::CONTENT_TYPE && name != header::CONTENT_LENGTH {
                response.headers_mut().insert(name, value.clone());
            }
        }
        response
    }
}

/// Whether whoever asks wants a page.
pub(crate) fn wants_page(headers: &HeaderMap) -> bool {
    headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.contains("text/html"))
}

/// [`Allowed`], whose refusals are pages.
pub(super) struct Visitor<P>(pub(super) Allowed<P>);

impl<P> std::ops::Deref for Visitor<P> {
    type Target = Allowed<P>;

    fn deref(&self) -> &Allowed<P> {
        &self.0
    }
}

impl<P: Permit> FromRequestParts<App> for Visitor<P> {
    type Rejection = PageError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        match Allowed::<P>::from_request_parts(parts, app).await {
            Ok(allowed) => Ok(Self(allowed)),
            Err(error) if error.status() == StatusCode::UNAUTHORIZED && wants_page(&parts.headers) => {
                // What somebody wanted to change is not changed behind a sign-in.
                let next = parts.uri.path_and_query().filter(|_| parts.method.is_safe());
                Err(PageError::SignIn(next.map_or("/", |next| next.as_str()).to_owned()))
            }
            Err(error) => Err(error.into()),
        }
    }
}
