//! Organizations and their members.

use sqlx::{PgConnection, PgExecutor};

use crate::ids::{OrganizationId, UserId};

/// The organization of that name.
pub async fn find(db: impl PgExecutor<'_>, name: &str) -> Result<Option<OrganizationId>, sqlx::Error> {
    sqlx::query_scalar!(r#"select id as "id: OrganizationId" from organizations where name = $1"#, name)
        .fetch_optional(db)
        .await
}

/// The organization of that name, made if there is none; safe to call from several processes at once.
pub async fn ensure(db: &mut PgConnection, name: &str) -> Result<OrganizationId, sqlx::Error> {
    sqlx::query!(
        "insert into organizations (id, name) values ($1, $2) on conflict (name) do nothing",
        OrganizationId::new().uuid(),
        name
    )
    .execute(&mut *db)
    .await?;
    find(db, name).await?.ok_or(sqlx::Error::RowNotFound)
}

/// The person with that address, made if there is none, and made an owner of the organization.
pub async fn ensure_owner(
    db: &mut PgConnection,
    organization: OrganizationId,
    email: &str,
    name: &str,
) -> Result<UserId, sqlx::Error> {
    let email = email.to_lowercase();
    sqlx::query!(
        "insert into users (id, email, name) values ($1, $2, $3) on conflict (email) do nothing",
        UserId::new().uuid(),
        email,
        name
    )
    .execute(&mut *db)
    .await?;
    let user = sqlx::query_scalar!(r#"select id as "id: UserId" from users where email = $1"#, email)
        .fetch_one(&mut *db)
        .await?;
    sqlx::query!(
        r#"
        insert into org_memberships (organization_id, user_id, role) values ($1, $2, 'owner')
        on conflict (organization_id, user_id) do update set role = 'owner'
        "#,
        organization.uuid(),
        user.uuid()
    )
    .execute(db)
    .await?;
    Ok(user)
}
