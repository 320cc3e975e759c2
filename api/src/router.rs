//! All routes, and the document that describes them.

use axum::{
    Router,
    extract::DefaultBodyLimit,
    http::{HeaderMap, Method, StatusCode, Uri},
    middleware::from_fn,
    response::{IntoResponse, Response},
    routing::get,
};
use tower_http::catch_panic::CatchPanicLayer;
use utoipa_axum::router::OpenApiRouter;

use crate::{
    App,
    error::ApiError,
    middleware, openapi,
    pages::{self, PageError},
    routes,
};

/// The longest body of a request, in bytes.
const BODY_LIMIT: usize = 2 << 20;

/// The routes, and what their handlers say of them.
fn documented() -> (Router<App>, utoipa::openapi::OpenApi) {
    OpenApiRouter::with_openapi(openapi::begin()).merge(routes::all()).split_for_parts()
}

/// What the handlers say of the routes.
#[cfg(test)]
pub(crate) fn described() -> utoipa::openapi::OpenApi {
    documented().1
}

/// Everything that answers.
pub fn router(app: App) -> Router {
    let (router, document) = documented();
    let document = openapi::complete(&document);
    router
        .route("/api/v1/openapi.json", get(move || std::future::ready(axum::Json(document.clone()))))
        .merge(routes::plain())
        .merge(pages::routes())
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(from_fn(middleware::limit))
        .layer(CatchPanicLayer::custom(middleware::panicked))
        .layer(from_fn(middleware::observe))
        .with_state(app)
}

/// Programs get JSON, browsers a page; below `/api` everybody is a program.
async fn no_route(uri: Uri, headers: HeaderMap) -> Response {
    let error = ApiError::new(StatusCode::NOT_FOUND, "not_found", format!("nothing has the address {}", uri.path()));
    if pages::wants_page(&headers) && !uri.path().starts_with("/api/") {
        return PageError::from(error).into_response();
    }
    error.into_response()
}

async fn no_method(method: Method, uri: Uri) -> ApiError {
    let message = format!("{} does not answer to {method}", uri.path());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
}
