//! `buildit token`: makes an API key and prints it once.

use anyhow::{Context, anyhow};
use buildit_shared::{
    db::{
        self, Use, api_keys,
        audit::{self, Actor, Entry},
        organizations,
    },
    permission::Permission,
};
use serde_json::json;

use crate::{
    arguments::Token,
    config::Settings,
    exit::{Exit, Problem},
};

pub(crate) fn run(arguments: &Token) -> Result<Exit, Problem> {
    let settings = Settings::load(arguments.serving.config.as_deref(), arguments.serving.flags())?;
    let permissions = permissions(&arguments.permissions)?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let pool = db::connect(settings.database_url()?, Use::Api, 2)
            .await
            .context("cannot reach the database")
            .map_err(Problem::unreachable)?;
        let organization = organizations::find(&pool, &arguments.organization)
            .await?
            .with_context(|| format!("there is no organization {}", arguments.organization))?;
        let scope = db::Scope { organization, project: None };
        let project = match &arguments.project {
            Some(name) => {
                let project = db::projects::find(&pool, scope, name).await?;
                Some(project.with_context(|| format!("there is no project {name}"))?.id)
            }
            None => None,
        };
        let key = api_keys::NewKey {
            organization_id: organization,
            name: &arguments.name,
            permissions: &permissions,
            project_id: project,
            user_id: None,
            created_by: None,
            expires_at: None,
        };
        let mut tx = pool.begin().await?;
        let created = api_keys::create(&mut *tx, key).await?;
        let after = json!({ "prefix": created.key.prefix, "permissions": created.key.permissions });
        let entry = Entry::new("api_key.created", &created.key.name).id(created.key.id).after(after);
        audit::write(&mut *tx, &Actor::command(organization, "buildit token"), entry).await?;
        tx.commit().await?;
        println!("{}", created.plain);
        Ok(Exit::Success)
    })
}

fn permissions(names: &[String]) -> Result<Vec<Permission>, Problem> {
    if names.is_empty() {
        return Ok(Permission::ALL.to_vec());
    }
    let known = || Permission::ALL.map(Permission::name).join(", ");
    names
        .iter()
        .map(|name| Permission::parse(name))
        .collect::<Option<Vec<_>>>()
        .ok_or_else(|| Problem::usage(anyhow!("unknown permission in {}; there are {}", names.join(", "), known())))
}
