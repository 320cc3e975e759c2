//! `buildit migrate`: the schema of this build.

use anyhow::Context;
use buildit_shared::db;

use crate::arguments::Serving;
use crate::config::Settings;
use crate::exit::{Exit, Problem};

pub(crate) fn run(arguments: &Serving) -> Result<Exit, Problem> {
    let settings = Settings::load(arguments.config.as_deref(), arguments.flags())?;
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
