//! The pages that people see. They promise:
//!
//! - each is complete as it is sent: forms work without scripts, and a script only keeps the page live and eases its use;
//! - nothing comes from elsewhere and nothing runs that is not a file of ours: a strict Content-Security-Policy holds;
//! - they ask the same questions as the API, by the same permissions, bound to the same organization.

mod access;
mod account;
mod artifacts;
mod assets;
mod badge;
mod diagnostics;
mod error;
mod fleet;
mod forge;
mod graph;
mod jobs;
mod layout;
mod live;
mod log;
mod pipeline;
mod projects;
mod provider;
mod repository;
mod run;
mod schedules;
mod settings;
mod status;
mod text;
mod waiting;
mod wizard;

use axum::{
    Router,
    extract::Request,
    http::{HeaderName, HeaderValue, header},
    middleware::{Next, from_fn},
    response::{IntoResponse, Redirect, Response},
    routing::{get, post},
};
use tower_http::compression::CompressionLayer;

use crate::App;

use settings::{account as account_tab, audit, keys, members, secrets, webhooks};

pub(crate) use error::{PageError, wants_page};

/// What a page may do: show what this server sends, and talk to it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      frame-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// All pages.
pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/", get(projects::list))
        .route("/login", get(account::login).post(account::sign_in))
        .route("/login/oidc", get(provider::begin))
        .route("/login/oidc/callback", get(provider::finish))
        .route("/logout", post(account::sign_out))
        .route("/welcome/{token}", get(account::welcomed).post(account::welcome))
        .route("/new", get(wizard::new_project).post(wizard::make_project))
        .route("/projects/{project}", get(projects::show))
        .route("/projects/{project}/new", get(wizard::pipeline_form).post(wizard::make_pipeline))
        .route("/projects/{project}/pipelines/{pipeline}", get(pipeline::show))
        .route("/projects/{project}/pipelines/{pipeline}/runs", post(pipeline::start))
        .route("/projects/{project}/pipelines/{pipeline}/setup", get(wizard::setup).post(wizard::save))
        .route("/projects/{project}/pipelines/{pipeline}/setup/look", post(wizard::look))
        .route("/projects/{project}/pipelines/{pipeline}/setup/check", post(wizard::check))
        .route("/projects/{project}/pipelines/{pipeline}/setup/live", get(wizard::live))
        .route("/projects/{project}/pipelines/{pipeline}/setup/start", get(wizard::start))
        .route("/runs/{run}", get(run::show))
        .route("/runs/{run}/cancel", post(run::cancel))
        .route("/runs/{run}/retry", post(run::retry))
        .route("/runs/{run}/rerun", post(run::rerun))
        .route("/runs/{run}/steps/{step}", get(run::show_step))
        .route("/runs/{run}/steps/{step}/log/index", get(log::index))
        .route("/runs/{run}/steps/{step}/log/search", get(log::search))
        .route("/runs/{run}/artifacts/{name}", get(artifacts::show))
        .route("/runs/{run}/artifacts/{name}/view/{*path}", get(artifacts::view))
        .route("/fleet", get(fleet::show))
        .route("/fleet/queues/{queue}/pause", post(fleet::pause))
        .route("/fleet/queues/{queue}/resume", post(fleet::resume))
        .route("/fleet/workers/{worker}/drain", post(fleet::drain))
        .route("/fleet/workers/{worker}/resume", post(fleet::undrain))
        .route("/fleet/jobs", get(jobs::list))
        .route("/fleet/jobs/act", post(jobs::act))
        .route("/fleet/jobs/{job}", get(jobs::show))
        .route("/join/{token}", get(account::invited).post(account::join))
        .route("/settings", get(account_tab::show))
        .route("/settings/organization", post(account_tab::switch))
        .route("/settings/password", post(account_tab::password))
        .route("/settings/sessions/{session}/end", post(account_tab::end_session))
        .route("/settings/identities/{identity}/unlink", post(account_tab::unlink))
        .route("/settings/members", get(members::show).post(members::invite))
        .route("/settings/members/{user}/role", post(members::set_role))
        .route("/settings/members/{user}/remove", post(members::remove_member))
        .route("/settings/invitations/{invitation}/withdraw", post(members::withdraw))
        .route("/settings/keys", get(keys::show).post(keys::create_key))
        .route("/settings/keys/{key}/revoke", post(keys::revoke_key))
        .route("/settings/secrets", get(secrets::show).post(secrets::set_secret))
        .route("/settings/secrets/delete", post(secrets::delete_secret))
        .route("/settings/webhooks", get(webhooks::show).post(webhooks::create))
        .route("/settings/webhooks/{webhook}", get(webhooks::deliveries))
        .route("/settings/webhooks/{webhook}/turn/{what}", post(webhooks::turn))
        .route("/settings/webhooks/{webhook}/delete", post(webhooks::delete))
        .route("/settings/webhooks/{webhook}/deliveries/{delivery}", get(webhooks::delivery))
        .route("/settings/webhooks/{webhook}/deliveries/{delivery}/repeat", post(webhooks::repeat))
        .route("/settings/audit", get(audit::show))
        .route("/projects/{project}/secrets", get(secrets::project_secrets).post(secrets::set_project_secret))
        .route("/projects/{project}/secrets/delete", post(secrets::delete_project_secret))
        .route("/projects/{project}/forge", get(forge::show).post(forge::set))
        .route("/projects/{project}/forge/delete", post(forge::delete))
        .route("/projects/{project}/repository", get(repository::show))
        .route("/projects/{project}/repository/credential", post(repository::set_credential))
        .route("/projects/{project}/repository/credential/delete", post(repository::delete_credential))
        .route("/projects/{project}/repository/statuses", post(repository::set_statuses))
        .route("/projects/{project}/repository/statuses/delete", post(repository::delete_statuses))
        .route("/projects/{project}/access", get(access::show).post(access::give))
        .route("/projects/{project}/access/{user}/remove", post(access::remove))
        .route("/projects/{project}/schedules", get(schedules::show).post(schedules::add))
        .route("/projects/{project}/schedules/{schedule}/pause", post(schedules::pause))
        .route("/projects/{project}/schedules/{schedule}/resume", post(schedules::resume))
        .route("/projects/{project}/schedules/{schedule}/delete", post(schedules::delete))
        .route("/live/runs", get(live::all_runs))
        .route("/live/runs/{run}", get(live::run))
        .route("/live/fleet", get(live::fleet))
        .layer(from_fn(headers))
        // These have headers of their own.
        .route("/reports/{run}/{expires}/{token}/{name}/{*path}", get(artifacts::report))
        .route("/status/{pipeline}/{file}", get(badge::show))
        .route("/static/{asset}", get(assets::serve))
        .layer(CompressionLayer::new())
}

/// Keeps a page to itself: nothing else runs in it, frames it, or keeps a copy of it.
async fn headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Leads to another page after a change.
fn see(address: &str) -> Response {
    Redirect::to(address).into_response()
}
