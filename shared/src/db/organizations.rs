//! Organizations and their members.

use sqlx::{PgConnection, PgExecutor};

use super::sessions::Membership;
use crate::{
    ids::{OrganizationId, UserId},
    permission::Role,
};

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

/// Makes somebody a member of the organization, with that role.
pub async fn ensure_member(
    db: impl PgExecutor<'_>,
    organization: OrganizationId,
    user: UserId,
    role: Role,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        r#"
        insert into org_memberships (organization_id, user_id, role) values ($1, $2, $3)
        on conflict (organization_id, user_id) do update set role = excluded.role
        "#,
        organization.uuid(),
        user.uuid(),
        role as Role
    )
    .execute(db)
    .await?;
    Ok(())
}

/// The organizations that somebody is a member of, by name.
pub async fn of_user(db: impl PgExecutor<'_>, user: UserId) -> Result<Vec<Membership>, sqlx::Error> {
    sqlx::query_as!(
        Membership,
        r#"
        select o.id as "id: OrganizationId", o.name, m.role as "role: Role"
        from org_memberships m join organizations o on o.id = m.organization_id
        where m.user_id = $1 order by o.name
        "#,
        user.uuid()
    )
    .fetch_all(db)
    .await
}
