//! `buildit secrets rotate`: what an operator does with the secrets of an installation.

use anyhow::{Context, anyhow};
use buildit_shared::db::{self, Use, forge_hooks, forge_statuses, repository_credentials, secrets, webhooks};

use crate::{
    arguments::Serving,
    config::Settings,
    exit::{Exit, Problem},
};

/// Secrets of a kind that are sealed anew in one transaction.
const BATCH: i64 = 100;

pub(crate) fn rotate(arguments: &Serving) -> Result<Exit, Problem> {
    let settings = Settings::load(arguments.config.as_deref(), arguments.flags())?;
    let vault = settings.vault()?.ok_or_else(|| {
        Problem::usage(anyhow!(
            "no key is given: set BUILDIT_SECRETS_KEY to the new one and BUILDIT_SECRETS_OLD_KEYS to the others"
        ))
    })?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let pool = db::connect(settings.database_url()?, Use::Api, 2)
            .await
            .context("cannot reach the database")
            .map_err(Problem::unreachable)?;
        let mut count = 0;
        loop {
            let sealed = secrets::rotate(&pool, &vault, BATCH).await?
                + webhooks::rotate(&pool, &vault, BATCH).await?
                + forge_hooks::rotate(&pool, &vault, BATCH).await?
                + forge_statuses::rotate(&pool, &vault, BATCH).await?
                + repository_credentials::rotate(&pool, &vault, BATCH).await?;
            if sealed == 0 {
                break;
            }
            count += sealed;
        }
        println!("{count} secrets were sealed anew; all are sealed under the key {} now", vault.key_id());
        Ok(Exit::Success)
    })
}
