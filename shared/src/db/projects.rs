//! Projects: a git repository plus its settings.

use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

use super::{Scope, pipelines};
use crate::ids::{OrganizationId, PipelineId, ProjectId};

/// The file a pipeline is read from unless its owner says otherwise.
pub const DEFAULT_FILE: &str = ".platform.yaml";
/// The name of the pipeline that every project begins with.
pub const DEFAULT_PIPELINE: &str = "default";

/// A project's row.
#[derive(Clone, Debug)]
pub struct Project {
    /// Its id.
    pub id: ProjectId,
    /// Its name, unique in its organization.
    pub name: String,
    /// A path or an address; checked before it was stored.
    pub repository: String,
    /// The branch that a run without a ref is of.
    pub default_branch: String,
    /// When it was made.
    pub created_at: jiff_sqlx::Timestamp,
}

/// What to change of a project; `None` leaves it.
#[derive(Clone, Debug, Default)]
pub struct Changes<'a> {
    /// Another name.
    pub name: Option<&'a str>,
    /// Another repository.
    pub repository: Option<&'a str>,
    /// Another default branch.
    pub default_branch: Option<&'a str>,
}

/// What became of the wish to delete a project.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletion {
    /// It is gone, with its pipelines and runs.
    Deleted,
    /// So many of its runs have not ended.
    Active(i64),
    /// There is none.
    NotFound,
}

/// Makes a project with its default pipeline. A taken name breaks `projects_name_is_unique`.
pub async fn create(
    db: &mut PgConnection,
    organization: OrganizationId,
    name: &str,
    repository: &str,
    default_branch: &str,
) -> Result<(Project, PipelineId), sqlx::Error> {
    let project = sqlx::query_as!(
        Project,
        r#"
        insert into projects (id, organization_id, name, repository, default_branch) values ($1, $2, $3, $4, $5)
        returning id as "id: ProjectId", name, repository, default_branch,
                  created_at as "created_at: jiff_sqlx::Timestamp"
        "#,
        ProjectId::new().uuid(),
        organization.uuid(),
        name,
        repository,
        default_branch
    )
    .fetch_one(&mut *db)
    .await?;
    let source = pipelines::Source::File(DEFAULT_FILE.into());
    let pipeline = pipelines::create(db, organization, project.id, DEFAULT_PIPELINE, &source).await?;
    Ok((project, pipeline.id))
}

/// The project with that id or name.
pub async fn find(db: impl PgExecutor<'_>, scope: Scope, id_or_name: &str) -> Result<Option<Project>, sqlx::Error> {
    // No project is named like an id, so one of the two conditions always fails.
    sqlx::query_as!(
        Project,
        r#"
        select id as "id: ProjectId", name, repository, default_branch, created_at as "created_at: jiff_sqlx::Timestamp"
        from projects
        where organization_id = $1 and ($2::uuid is null or id = $2) and (id = $3 or name = $4)
        "#,
        scope.organization.uuid(),
        scope.project_uuid(),
        Uuid::parse_str(id_or_name).ok(),
        id_or_name
    )
    .fetch_optional(db)
    .await
}

/// Projects by name, those after `after`.
pub async fn list(
    db: impl PgExecutor<'_>,
    scope: Scope,
    after: Option<&str>,
    limit: i64,
) -> Result<Vec<Project>, sqlx::Error> {
    sqlx::query_as!(
        Project,
        r#"
        select id as "id: ProjectId", name, repository, default_branch, created_at as "created_at: jiff_sqlx::Timestamp"
        from projects
        where organization_id = $1 and ($2::uuid is null or id = $2) and ($3::text is null or name > $3)
        order by name limit $4
        "#,
        scope.organization.uuid(),
        scope.project_uuid(),
        after,
        limit
    )
    .fetch_all(db)
    .await
}

/// Changes a project.
pub async fn update(
    db: impl PgExecutor<'_>,
    scope: Scope,
    id: ProjectId,
    changes: Changes<'_>,
) -> Result<Option<Project>, sqlx::Error> {
    sqlx::query_as!(
        Project,
        r#"
        update projects
        set name = coalesce($4, name), repository = coalesce($5, repository), default_branch = coalesce($6, default_branch)
        where organization_id = $1 and ($2::uuid is null or id = $2) and id = $3
        returning id as "id: ProjectId", name, repository, default_branch,
                  created_at as "created_at: jiff_sqlx::Timestamp"
        "#,
        scope.organization.uuid(),
        scope.project_uuid(),
        id.uuid(),
        changes.name,
        changes.repository,
        changes.default_branch
    )
    .fetch_optional(db)
    .await
}

/// Those of `ids` that are there, of whatever organization.
pub async fn existing(db: impl PgExecutor<'_>, ids: &[ProjectId]) -> Result<Vec<ProjectId>, sqlx::Error> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.uuid()).collect();
    sqlx::query_scalar!(r#"select id as "id: ProjectId" from projects where id = any($1)"#, &ids).fetch_all(db).await
}

/// Deletes a project with all that belongs to it, unless a run of it has not ended. The caller commits.
pub async fn delete(db: &mut PgConnection, scope: Scope, id: ProjectId) -> Result<Deletion, sqlx::Error> {
    // The lock keeps new runs out: their foreign key waits for it.
    let found = sqlx::query!(
        "select id from projects where organization_id = $1 and ($2::uuid is null or id = $2) and id = $3 for update",
        scope.organization.uuid(),
        scope.project_uuid(),
        id.uuid()
    )
    .fetch_optional(&mut *db)
    .await?;
    if found.is_none() {
        return Ok(Deletion::NotFound);
    }
    let active = sqlx::query_scalar!(
        r#"select count(*) as "count!" from pipeline_runs where project_id = $1 and status in ('pending', 'running')"#,
        id.uuid()
    )
    .fetch_one(&mut *db)
    .await?;
    if active > 0 {
        return Ok(Deletion::Active(active));
    }
    sqlx::query!("delete from projects where id = $1", id.uuid()).execute(db).await?;
    Ok(Deletion::Deleted)
}
