//! Pipelines: a file in the repository or a config stored here.

use sqlx::{PgConnection, PgExecutor};

use super::{Scope, projects::Deletion};
use crate::ids::{OrganizationId, PipelineId, ProjectId};

/// Where a pipeline's definition is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A file in the repository, read at the run's commit.
    File(String),
    /// Stored here, as text.
    Config(String),
}

impl Source {
    fn columns(&self) -> (Option<&str>, Option<&str>) {
        match self {
            Self::File(file) => (Some(file), None),
            Self::Config(config) => (None, Some(config)),
        }
    }
}

/// A pipeline's row.
#[derive(Clone, Debug)]
pub struct Pipeline {
    /// Its id.
    pub id: PipelineId,
    /// Its project.
    pub project_id: ProjectId,
    /// Its name, unique in its project.
    pub name: String,
    /// The file it is read from, or
    pub file: Option<String>,
    /// the config stored here.
    pub config: Option<String>,
    /// When it was made.
    pub created_at: jiff_sqlx::Timestamp,
}

/// Makes a pipeline. A taken name breaks `pipelines_name_is_unique`.
pub async fn create(
    db: impl PgExecutor<'_>,
    organization: OrganizationId,
    project: ProjectId,
    name: &str,
    source: &Source,
) -> Result<Pipeline, sqlx::Error> {
    let (file, config) = source.columns();
    sqlx::query_as!(
        Pipeline,
        r#"
        insert into pipelines (id, organization_id, project_id, name, file, config) values ($1, $2, $3, $4, $5, $6)
        returning id as "id: PipelineId", project_id as "project_id: ProjectId", name, file, config,
                  created_at as "created_at: jiff_sqlx::Timestamp"
        "#,
        PipelineId::new().uuid(),
        organization.uuid(),
        project.uuid(),
        name,
        file,
        config
    )
    .fetch_one(db)
    .await
}

/// The pipeline with that id.
pub async fn find(db: impl PgExecutor<'_>, scope: Scope, id: PipelineId) -> Result<Option<Pipeline>, sqlx::Error> {
    sqlx::query_as!(
        Pipeline,
        r#"
        select id as "id: PipelineId", project_id as "project_id: ProjectId", name, file, config,
               created_at as "created_at: jiff_sqlx::Timestamp"
        from pipelines where organization_id = $1 and ($2::uuid is null or project_id = $2) and id = $3
        "#,
        scope.organization.uuid(),
        scope.project_uuid(),
        id.uuid()
    )
    .fetch_optional(db)
    .await
}

/// A project's pipeline of that name.
pub async fn find_named(
    db: impl PgExecutor<'_>,
    project: ProjectId,
    name: &str,
) -> Result<Option<Pipeline>, sqlx::Error> {
    sqlx::query_as!(
        Pipeline,
        r#"
        select id as "id: PipelineId", project_id as "project_id: ProjectId", name, file, config,
               created_at as "created_at: jiff_sqlx::Timestamp"
        from pipelines where project_id = $1 and name = $2
        "#,
        project.uuid(),
        name
    )
    .fetch_optional(db)
    .await
}

/// A project's pipelines by name, those after `after`.
pub async fn list(
    db: impl PgExecutor<'_>,
    project: ProjectId,
    after: Option<&str>,
    limit: i64,
) -> Result<Vec<Pipeline>, sqlx::Error> {
    sqlx::query_as!(
        Pipeline,
        r#"
        select id as "id: PipelineId", project_id as "project_id: ProjectId", name, file, config,
               created_at as "created_at: jiff_sqlx::Timestamp"
        from pipelines where project_id = $1 and ($2::text is null or name > $2) order by name limit $3
        "#,
        project.uuid(),
        after,
        limit
    )
    .fetch_all(db)
    .await
}

/// Changes a pipeline; `None` leaves what it says.
pub async fn update(
    db: impl PgExecutor<'_>,
    scope: Scope,
    id: PipelineId,
    name: Option<&str>,
    source: Option<&Source>,
) -> Result<Option<Pipeline>, sqlx::Error> {
    let (file, config) = source.map_or((None, None), Source::columns);
    sqlx::query_as!(
        Pipeline,
        r#"
        update pipelines
        set name = coalesce($4, name),
            file = case when $5 then $6 else file end,
            config = case when $5 then $7 else config end
        where organization_id = $1 and ($2::uuid is null or project_id = $2) and id = $3
        returning id as "id: PipelineId", project_id as "project_id: ProjectId", name, file, config,
                  created_at as "created_at: jiff_sqlx::Timestamp"
        "#,
        scope.organization.uuid(),
        scope.project_uuid(),
        id.uuid(),
        name,
        source.is_some(),
        file,
        config
    )
    .fetch_optional(db)
    .await
}

/// Deletes a pipeline with its runs, unless one of them has not ended. The caller commits.
pub async fn delete(db: &mut PgConnection, scope: Scope, id: PipelineId) -> Result<Deletion, sqlx::Error> {
    let found = sqlx::query!(
        "select id from pipelines where organization_id = $1 and ($2::uuid is null or project_id = $2) and id = $3 for update",
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
        r#"select count(*) as "count!" from pipeline_runs where pipeline_id = $1 and status in ('pending', 'running')"#,
        id.uuid()
    )
    .fetch_one(&mut *db)
    .await?;
    if active > 0 {
        return Ok(Deletion::Active(active));
    }
    sqlx::query!("delete from pipelines where id = $1", id.uuid()).execute(db).await?;
    Ok(Deletion::Deleted)
}
