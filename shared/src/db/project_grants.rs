//! What members are on single projects, in place of what their role in the organization gives them there. Owners and admins
//! of the organization may everything everywhere, and no grant takes that from them.

use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

use crate::{
    ids::{OrganizationId, ProjectId, UserId},
    permission::Role,
};

/// A member's grant on a project.
#[derive(Clone, Debug)]
pub struct Grant {
    /// Their account.
    pub user_id: UserId,
    /// Their address.
    pub email: String,
    /// What they are called.
    pub name: String,
    /// What they are in the organization.
    pub organization_role: Role,
    /// What they are on the project.
    pub role: Role,
    /// Who gave it, for people.
    pub granted_by: String,
    /// Since when.
    pub created_at: jiff_sqlx::Timestamp,
}

/// What a project is named by.
#[derive(Clone, Copy, Debug)]
pub enum Named<'a> {
    /// Its own id or name.
    Project(&'a str),
    /// One of its pipelines.
    Pipeline(Uuid),
    /// One of its runs.
    Run(Uuid),
}

/// What became of a grant.
#[derive(Clone, Debug)]
pub enum Granted {
    /// It is given; before, they had this one.
    Done(Option<Role>),
    /// They are no member of the organization.
    NotFound,
    /// They are an owner or an admin there.
    Needless,
}

/// The grants on a project, by who has them, those after `after`.
pub async fn list(
    db: impl PgExecutor<'_>,
    project: ProjectId,
    after: Option<UserId>,
    limit: i64,
) -> Result<Vec<Grant>, sqlx::Error> {
    sqlx::query_as!(
        Grant,
        r#"
        select u.id as "user_id: UserId", u.email, u.name, m.role as "organization_role: Role", g.role as "role: Role",
               g.granted_by, g.created_at as "created_at: jiff_sqlx::Timestamp"
        from project_grants g
        join org_memberships m on m.organization_id = g.organization_id and m.user_id = g.user_id
        join users u on u.id = g.user_id
        where g.project_id = $1 and ($2::uuid is null or g.user_id > $2)
        order by g.user_id limit $3
        "#,
        project.uuid(),
        after.map(UserId::uuid),
        limit
    )
    .fetch_all(db)
    .await
}

/// A member's grant on a project.
pub async fn find(db: impl PgExecutor<'_>, project: ProjectId, user: UserId) -> Result<Option<Grant>, sqlx::Error> {
    sqlx::query_as!(
        Grant,
        r#"
        select u.id as "user_id: UserId", u.email, u.name, m.role as "organization_role: Role", g.role as "role: Role",
               g.granted_by, g.created_at as "created_at: jiff_sqlx::Timestamp"
        from project_grants g
        join org_memberships m on m.organization_id = g.organization_id and m.user_id = g.user_id
        join users u on u.id = g.user_id
        where g.project_id = $1 and g.user_id = $2
        "#,
        project.uuid(),
        user.uuid()
    )
    .fetch_optional(db)
    .await
}

/// What somebody has been granted on a project of the organization; none if nothing has.
pub async fn role(
    db: impl PgExecutor<'_>,
    organization: OrganizationId,
    user: UserId,
    named: Named<'_>,
) -> Result<Option<Role>, sqlx::Error> {
    let (mut project, mut pipeline, mut run) = (None, None, None);
    match named {
        Named::Project(id_or_name) => project = Some(id_or_name),
        Named::Pipeline(id) => pipeline = Some(id),
        Named::Run(id) => run = Some(id),
    }
    sqlx::query_scalar!(
        r#"
        select role as "role: Role" from project_grants
        where organization_id = $1 and user_id = $2 and project_id = coalesce(
            (select project_id from pipeline_runs where id = $3),
            (select project_id from pipelines where id = $4),
            (select id from projects where organization_id = $1 and (id = $5 or name = $6)))
        "#,
        organization.uuid(),
        user.uuid(),
        run,
        pipeline,
        project.and_then(|project| Uuid::parse_str(project).ok()),
        project
    )
    .fetch_optional(db)
    .await
}

/// Gives a member a grant, in place of the one that they had. The caller commits.
pub async fn set(
    db: &mut PgConnection,
    organization: OrganizationId,
    project: ProjectId,
    user: UserId,
    role: Role,
    granted_by: &str,
) -> Result<Granted, sqlx::Error> {
    // Held, so that whoever removes the member or makes them an admin comes before or after.
    let member = sqlx::query_scalar!(
        r#"select role as "role: Role" from org_memberships where organization_id = $1 and user_id = $2 for share"#,
        organization.uuid(),
        user.uuid()
    )
    .fetch_optional(&mut *db)
    .await?;
    match member {
        None => return Ok(Granted::NotFound),
        Some(Role::Owner | Role::Admin) => return Ok(Granted::Needless),
        Some(Role::Developer | Role::Viewer) => {}
    }
    let before = find(&mut *db, project, user).await?.map(|grant| grant.role);
    sqlx::query!(
        r#"
        insert into project_grants (project_id, user_id, organization_id, role, granted_by) values ($1, $2, $3, $4, $5)
        on conflict (project_id, user_id) do update
        set role = excluded.role, granted_by = excluded.granted_by, created_at = now()
        "#,
        project.uuid(),
        user.uuid(),
        organization.uuid(),
        role as Role,
        granted_by
    )
    .execute(db)
    .await?;
    Ok(Granted::Done(before))
}

/// Takes a grant away: what it was, or none if there is none.
pub async fn remove(db: impl PgExecutor<'_>, project: ProjectId, user: UserId) -> Result<Option<Role>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"delete from project_grants where project_id = $1 and user_id = $2 returning role as "role: Role""#,
        project.uuid(),
        user.uuid()
    )
    .fetch_optional(db)
    .await
}
