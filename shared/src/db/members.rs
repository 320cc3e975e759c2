//! Who belongs to an organization. It always has an owner.

use sqlx::{PgConnection, PgExecutor};

use crate::{
    ids::{OrganizationId, UserId},
    permission::Role,
};

/// A member.
#[derive(Clone, Debug)]
pub struct Member {
    /// Their account.
    pub user_id: UserId,
    /// Their address.
    pub email: String,
    /// What they are called.
    pub name: String,
    /// What they are here.
    pub role: Role,
    /// Since when.
    pub created_at: jiff_sqlx::Timestamp,
}

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is done; they had this role.
    Done(Role),
    /// They are no member.
    NotFound,
    /// Only an owner may make or unmake owners.
    OwnersOnly,
    /// They are the only owner.
    LastOwner,
}

/// The members, by when they joined, those after `after`.
pub async fn list(
    db: impl PgExecutor<'_>,
    organization: OrganizationId,
    after: Option<UserId>,
    limit: i64,
) -> Result<Vec<Member>, sqlx::Error> {
    sqlx::query_as!(
        Member,
        r#"
        select u.id as "user_id: UserId", u.email, u.name, m.role as "role: Role",
               m.created_at as "created_at: jiff_sqlx::Timestamp"
        from org_memberships m join users u on u.id = m.user_id
        where m.organization_id = $1 and ($2::uuid is null or u.id > $2)
        order by u.id limit $3
        "#,
        organization.uuid(),
        after.map(UserId::uuid),
        limit
    )
    .fetch_all(db)
    .await
}

/// One member.
pub async fn find(
    db: impl PgExecutor<'_>,
    organization: OrganizationId,
    user: UserId,
) -> Result<Option<Member>, sqlx::Error> {
    sqlx::query_as!(
        Member,
        r#"
        select u.id as "user_id: UserId", u.email, u.name, m.role as "role: Role",
               m.created_at as "created_at: jiff_sqlx::Timestamp"
        from org_memberships m join users u on u.id = m.user_id
        where m.organization_id = $1 and u.id = $2
        "#,
        organization.uuid(),
        user.uuid()
    )
    .fetch_optional(db)
    .await
}

/// Gives a member another role, or none: they are no member then. The caller commits.
pub async fn change(
    db: &mut PgConnection,
    organization: OrganizationId,
    user: UserId,
    role: Option<Role>,
    by_owner: bool,
) -> Result<Change, sqlx::Error> {
    // One change at a time: two owners who demote each other would leave none.
    sqlx::query!("select id from organizations where id = $1 for update", organization.uuid())
        .fetch_optional(&mut *db)
        .await?;
    let Some(member) = find(&mut *db, organization, user).await? else { return Ok(Change::NotFound) };
    let owners_matter = (member.role == Role::Owner) != (role == Some(Role::Owner));
    if owners_matter && !by_owner {
        return Ok(Change::OwnersOnly);
    }
    if owners_matter && member.role == Role::Owner {
        let owners = sqlx::query_scalar!(
            r#"select count(*) as "count!" from org_memberships where organization_id = $1 and role = 'owner'"#,
            organization.uuid()
        )
        .fetch_one(&mut *db)
        .await?;
        if owners == 1 {
            return Ok(Change::LastOwner);
        }
    }
    match role {
        Some(role) => {
            sqlx::query!(
                "update org_memberships set role = $3 where organization_id = $1 and user_id = $2",
                organization.uuid(),
                user.uuid(),
                role as Role
            )
            .execute(db)
            .await?
        }
        None => {
            sqlx::query!(
                "delete from org_memberships where organization_id = $1 and user_id = $2",
                organization.uuid(),
                user.uuid()
            )
            .execute(db)
            .await?
        }
    };
    Ok(Change::Done(member.role))
}
