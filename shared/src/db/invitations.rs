//! Invitations: a link that makes the one with that address a member. Each serves once, for a week.

use sqlx::PgExecutor;

use crate::{
    ids::{InvitationId, OrganizationId},
    permission::Role,
    token,
};

/// What every invitation's token begins with.
const PREFIX: &str = "bii_";

/// An invitation's row.
#[derive(Clone, Debug)]
pub struct Invitation {
    /// Its id.
    pub id: InvitationId,
    /// Where to.
    pub organization_id: OrganizationId,
    /// That organization's name.
    pub organization: String,
    /// Who may use it.
    pub email: String,
    /// What they will be there.
    pub role: Role,
    /// Who invites.
    pub invited_by: String,
    /// When it was made.
    pub created_at: jiff_sqlx::Timestamp,
    /// From when on it is refused.
    pub expires_at: jiff_sqlx::Timestamp,
}

/// Makes one, in the place of an older one for that address, and returns its token with its id.
pub async fn create(
    db: impl PgExecutor<'_>,
    organization: OrganizationId,
    email: &str,
    role: Role,
    invited_by: &str,
) -> Result<(String, InvitationId), sqlx::Error> {
    let plain = token::generate(PREFIX)?;
    let id = sqlx::query_scalar!(
        r#"
        insert into invitations (id, organization_id, email, role, hash, invited_by, expires_at)
        values ($1, $2, $3, $4, $5, $6, now() + interval '7 days')
        on conflict (organization_id, email) do update
        set id = excluded.id, role = excluded.role, hash = excluded.hash, invited_by = excluded.invited_by,
            created_at = now(), expires_at = excluded.expires_at
        returning id as "id: InvitationId"
        "#,
        InvitationId::new().uuid(),
        organization.uuid(),
        email.to_lowercase(),
        role as Role,
        &token::hash(&plain)[..],
        invited_by
    )
    .fetch_one(db)
    .await?;
    Ok((plain, id))
}

/// The invitation with this token; none if it is unknown, used, withdrawn or too old.
pub async fn find(db: impl PgExecutor<'_>, plain: &str) -> Result<Option<Invitation>, sqlx::Error> {
    sqlx::query_as!(
        Invitation,
        r#"
        select i.id as "id: InvitationId", i.organization_id as "organization_id: OrganizationId",
               o.name as organization, i.email, i.role as "role: Role", i.invited_by,
               i.created_at as "created_at: jiff_sqlx::Timestamp", i.expires_at as "expires_at: jiff_sqlx::Timestamp"
        from invitations i join organizations o on o.id = i.organization_id
        where i.hash = $1 and i.expires_at > now()
        "#,
        &token::hash(plain)[..]
    )
    .fetch_optional(db)
    .await
}

/// All that the one with this address is invited to, oldest first.
pub async fn of_address(db: impl PgExecutor<'_>, email: &str) -> Result<Vec<Invitation>, sqlx::Error> {
    sqlx::query_as!(
        Invitation,
        r#"
        select i.id as "id: InvitationId", i.organization_id as "organization_id: OrganizationId",
               o.name as organization, i.email, i.role as "role: Role", i.invited_by,
               i.created_at as "created_at: jiff_sqlx::Timestamp", i.expires_at as "expires_at: jiff_sqlx::Timestamp"
        from invitations i join organizations o on o.id = i.organization_id
        where i.email = $1 and i.expires_at > now() order by i.id
        "#,
        email.to_lowercase()
    )
    .fetch_all(db)
    .await
}

/// An organization's invitations that can be used, newest first, from `before` on.
pub async fn list(
    db: impl PgExecutor<'_>,
    organization: OrganizationId,
    before: Option<InvitationId>,
    limit: i64,
) -> Result<Vec<Invitation>, sqlx::Error> {
    sqlx::query_as!(
        Invitation,
        r#"
        select i.id as "id: InvitationId", i.organization_id as "organization_id: OrganizationId",
               o.name as organization, i.email, i.role as "role: Role", i.invited_by,
               i.created_at as "created_at: jiff_sqlx::Timestamp", i.expires_at as "expires_at: jiff_sqlx::Timestamp"
        from invitations i join organizations o on o.id = i.organization_id
        where i.organization_id = $1 and i.expires_at > now() and ($2::uuid is null or i.id < $2)
        order by i.id desc limit $3
        "#,
        organization.uuid(),
        before.map(InvitationId::uuid),
        limit
    )
    .fetch_all(db)
    .await
}

/// Takes an invitation away, because it is used or withdrawn: the address it was for, or none if somebody was faster.
pub async fn remove(
    db: impl PgExecutor<'_>,
    organization: OrganizationId,
    id: InvitationId,
) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar!(
        "delete from invitations where id = $1 and organization_id = $2 returning email",
        id.uuid(),
        organization.uuid()
    )
    .fetch_optional(db)
    .await
}
