//! `buildit account`: an organization, an account in it, and the link that opens it.

use anyhow::{Context, anyhow};
use buildit_shared::{
    db::{
        self, Use,
        audit::{self, Actor, Entry},
        organizations, users, welcome_links,
    },
    ids::UserId,
    permission::Role,
};
use serde_json::json;
use sqlx::PgConnection;
use url::Url;

use crate::{
    arguments::Account,
    config::Settings,
    exit::{Exit, Problem},
};

pub(crate) fn run(arguments: &Account) -> Result<Exit, Problem> {
    let settings = Settings::load(arguments.serving.config.as_deref(), arguments.serving.flags())?;
    let role = Role::parse(&arguments.role).ok_or_else(|| {
        let known = Role::ALL.map(Role::name).join(", ");
        Problem::usage(anyhow!("there is no role {}; there are {known}", arguments.role))
    })?;
    let before = arguments.email.split_once('@').map(|(before, _)| before).filter(|before| !before.is_empty());
    let Some(before) = before else {
        return Err(Problem::usage(anyhow!("{} is no e-mail address", arguments.email)));
    };
    let name = arguments.name.as_deref().unwrap_or(before);
    let url = settings.public_url()?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let pool = db::connect(settings.database_url()?, Use::Api, 2)
            .await
            .context("cannot reach the database")
            .map_err(Problem::unreachable)?;
        let mut tx = pool.begin().await?;
        let organization = organizations::ensure(&mut tx, &arguments.organization)
            .await
            .with_context(|| format!("cannot make the organization {}", arguments.organization))?;
        let user = users::ensure(&mut *tx, &arguments.email, name).await?;
        organizations::ensure_member(&mut *tx, organization, user, role).await?;
        if arguments.operator {
            users::make_operator(&mut *tx, user).await?;
        }
        let after = json!({ "role": role, "operator": arguments.operator });
        let entry = Entry::new("account.linked", &arguments.email).id(user).after(after);
        audit::write(&mut *tx, &Actor::command(organization, "buildit account"), entry).await?;
        println!("{}", link(&mut tx, user, &url).await?);
        tx.commit().await?;
        Ok(Exit::Success)
    })
}

/// A new address at which the account's owner chooses a password.
pub(super) async fn link(db: &mut PgConnection, user: UserId, url: &Url) -> Result<String, sqlx::Error> {
    let token = welcome_links::create(db, user).await?;
    Ok(format!("{}/welcome/{token}", url.as_str().trim_end_matches('/')))
}
