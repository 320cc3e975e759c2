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
use utoipa::{
    Modify, OpenApi,
    openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme},
};
use utoipa_axum::router::OpenApiRouter;

use crate::{
    App,
    error::ApiError,
    middleware,
    pages::{self, PageError},
    routes,
};

/// The longest body of a request, in bytes.
const BODY_LIMIT: usize = 2 << 20;

#[derive(OpenApi)]
#[openapi(
    info(title = "BuildIt", description = "Runs software pipelines for a team that keeps its code in git."),
    components(schemas(crate::error::ErrorBody)),
    modifiers(&Security),
)]
struct Document;

struct Security;

impl Modify for Security {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let key = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("An API key, `bi_…`. A route's scope is the permission that the key must have."))
            .build();
        let token = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("The token of one attempt, `bia_…`, which its runner is given."))
            .build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("api_key", SecurityScheme::Http(key));
        let cookie =
            "What signing in sets. What changes something needs a browser's word that it comes from this site.";
        let cookie = ApiKeyValue::with_description("buildit_session", cookie);
        components.add_security_scheme("session", SecurityScheme::ApiKey(ApiKey::Cookie(cookie)));
        components.add_security_scheme("attempt_token", SecurityScheme::Http(token));
    }
}

fn documented() -> (Router<App>, utoipa::openapi::OpenApi) {
    let (router, mut document) =
        OpenApiRouter::with_openapi(Document::openapi()).merge(routes::all()).split_for_parts();
    // A parameter that takes slashes has a star in the router's language, and none in the document's.
    let paths = std::mem::take(&mut document.paths.paths);
    document.paths.paths = paths.into_iter().map(|(path, item)| (path.replace("{*", "{"), item)).collect();
    (router, document)
}

/// The OpenAPI document of the routes.
pub fn openapi() -> utoipa::openapi::OpenApi {
    documented().1
}

/// Everything that answers.
pub fn router(app: App) -> Router {
    let (router, document) = documented();
    let document = serde_json::to_value(document).unwrap_or_default();
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
