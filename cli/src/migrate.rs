//! `buildit migrate`: the schema of this build.

use anyhow::Context;
use buildit_shared::db;
use serde_json::json;

use crate::arguments::Migrate;
use crate::config::Settings;
use crate::exit::{Exit, Problem};

pub(crate) fn run(arguments: Migrate) -> Result<Exit, Problem> {
    let flags = arguments.database_url.map_or_else(|| json!({}), |url| json!({ "database_url": url }));
    let settings = Settings::load(arguments.config.as_deref(), flags)?;
    let url = settings.database_url()?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let pool = db::connect(url, db::Use::Api, 2)
            .await
            .context("cannot reach the database")
            .map_err(Problem::unreachable)?;
        db::migrate(&pool).await.context("cannot bring the database up to date")?;
        println!("The database is up to date.");
        Ok(Exit::Success)
    })
}
