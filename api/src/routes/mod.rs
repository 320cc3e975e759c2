//! The routes, a file for each thing they are about.

mod artifacts;
mod attempts;
pub(crate) mod audit;
pub(crate) mod credentials;
mod deliveries;
pub(crate) mod fleet;
pub(crate) mod fleet_jobs;
pub(crate) mod forges;
pub(crate) mod grants;
mod health;
pub(crate) mod identities;
pub(crate) mod invitations;
pub(crate) mod keys;
mod logs;
pub(crate) mod members;
pub(crate) mod metrics;
pub(crate) mod objects;
mod older;
pub(crate) mod pipelines;
pub(crate) mod projects;
mod reports;
mod run_events;
mod run_view;
pub(crate) mod runs;
pub(crate) mod schedules;
pub(crate) mod secrets;
mod session;
pub(crate) mod statuses;
mod uploads;
mod validate;
pub(crate) mod webhooks;

use axum::{Router, extract::DefaultBodyLimit, routing::get};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::App;

/// The longest message of a forge, in bytes.
const FORGE_LIMIT: usize = 25 << 20;

/// The routes that the OpenAPI document describes.
pub(crate) fn all() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(projects::create, projects::list))
        .routes(routes!(projects::read, projects::update, projects::delete))
        .routes(routes!(pipelines::create, pipelines::list))
        .routes(routes!(pipelines::read, pipelines::update, pipelines::delete))
        .routes(routes!(runs::create, runs::list))
        .routes(routes!(runs::list_all))
        .routes(routes!(runs::read))
        .routes(routes!(runs::cancel))
        .routes(routes!(runs::retry))
        .routes(routes!(runs::rerun))
        .routes(routes!(run_events::events))
        .routes(routes!(logs::read))
        .routes(routes!(artifacts::list))
        .routes(routes!(artifacts::files))
        .routes(routes!(artifacts::file))
        .routes(routes!(artifacts::archive))
        .routes(routes!(attempts::begin))
        .routes(routes!(uploads::promise))
        .routes(routes!(uploads::promise_artifact))
        .routes(routes!(uploads::part))
        .routes(routes!(uploads::part_of_artifact))
        .routes(routes!(uploads::complete))
        .routes(routes!(uploads::complete_artifact))
        .routes(routes!(reports::report))
        .routes(routes!(deliveries::create))
        .routes(routes!(keys::create, keys::list))
        .routes(routes!(keys::revoke))
        .routes(routes!(keys::create_own, keys::list_own))
        .routes(routes!(keys::revoke_own))
        .routes(routes!(schedules::create, schedules::list))
        .routes(routes!(schedules::update, schedules::delete))
        .routes(routes!(forges::read, forges::set, forges::delete))
        .routes(routes!(credentials::read, credentials::set, credentials::delete))
        .routes(routes!(statuses::read, statuses::set, statuses::delete))
        .routes(routes!(secrets::list))
        .routes(routes!(secrets::set, secrets::delete))
        .routes(routes!(secrets::list_of_project))
        .routes(routes!(secrets::set_of_project, secrets::delete_of_project))
        .routes(routes!(secrets::list_of_environment))
        .routes(routes!(secrets::set_of_environment, secrets::delete_of_environment))
        .routes(routes!(webhooks::create, webhooks::list))
        .routes(routes!(webhooks::update, webhooks::delete))
        .routes(routes!(webhooks::deliveries))
        .routes(routes!(webhooks::delivery))
        .routes(routes!(webhooks::repeat))
        .routes(routes!(members::list))
        .routes(routes!(members::change, members::remove))
        .routes(routes!(members::roles))
        .routes(routes!(grants::list))
        .routes(routes!(grants::set, grants::delete))
        .routes(routes!(invitations::create, invitations::list))
        .routes(routes!(invitations::withdraw))
        .routes(routes!(invitations::read, invitations::accept))
        .routes(routes!(audit::list))
        .routes(routes!(audit::export))
        .routes(routes!(session::sign_in, session::change, session::sign_out))
        .routes(routes!(session::me))
        .routes(routes!(identities::ways_in))
        .routes(routes!(identities::list))
        .routes(routes!(identities::unlink))
        .routes(routes!(session::change_password))
        .routes(routes!(session::list))
        .routes(routes!(session::revoke))
        .routes(routes!(session::welcomed, session::welcome))
        .routes(routes!(validate::validate))
        .routes(routes!(fleet_jobs::list))
        .routes(routes!(fleet_jobs::bulk))
        .routes(routes!(fleet_jobs::read))
        .routes(routes!(fleet_jobs::retry))
        .routes(routes!(fleet_jobs::discard))
        .routes(routes!(fleet_jobs::cancel))
        .routes(routes!(fleet::queues))
        .routes(routes!(fleet::pause))
        .routes(routes!(fleet::resume))
        .routes(routes!(fleet::workers))
        .routes(routes!(fleet::drain))
        .routes(routes!(fleet::undrain))
        .merge(OpenApiRouter::new().routes(routes!(forges::receive)).layer(DefaultBodyLimit::max(FORGE_LIMIT)))
        .merge(older::routes())
}

/// Those that machines ask: no key, not in the document.
pub(crate) fn plain() -> Router<App> {
    Router::new()
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(metrics::metrics))
        .route("/objects/{*key}", get(objects::download).put(objects::take_part).layer(DefaultBodyLimit::disable()))
}
