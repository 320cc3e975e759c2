//! What a worker saw in a repository: asked for by whoever sets a pipeline up, since the API runs no git.

use sqlx::{PgConnection, PgExecutor};

use super::projects::DEFAULT_FILE;
use crate::{
    ids::{OrganizationId, PipelineId, ProjectId},
    jobs::LookAtRepository,
    queue::{NewJob, enqueue},
};

/// What there is to see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The head of the default branch.
    pub commit_sha: String,
    /// Files at the root and one folder below; of many only the first.
    pub files: Vec<String>,
    /// The pipeline's file, where there is one.
    pub content: Option<String>,
}

/// A question's row.
#[derive(Clone, Debug)]
pub struct Look {
    /// When a worker has looked; none before.
    pub looked_at: Option<jiff_sqlx::Timestamp>,
    /// What it saw,
    pub commit_sha: Option<String>,
    /// see [`Seen`],
    pub files: Vec<String>,
    /// see [`Seen`],
    pub content: Option<String>,
    /// or why it saw nothing.
    pub problem: Option<String>,
}

/// What a worker is to look at.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The project.
    pub project_id: ProjectId,
    /// Its repository.
    pub repository: String,
    /// The branch.
    pub branch: String,
    /// The pipeline's file.
    pub file: String,
}

/// Asks a worker to look, in the place of whatever was asked before. The caller commits, then tells the workers.
pub async fn ask(
    db: &mut PgConnection,
    organization: OrganizationId,
    project: ProjectId,
    pipeline: PipelineId,
) -> Result<(), sqlx::Error> {
    let number = sqlx::query_scalar!(
        r#"
        insert into repository_looks (pipeline_id) values ($1)
        on conflict (pipeline_id) do update
        set number = repository_looks.number + 1, asked_at = now(), looked_at = null, commit_sha = null, files = '{}',
            content = null, problem = null
        returning number
        "#,
        pipeline.uuid()
    )
    .fetch_one(&mut *db)
    .await?;
    let job = NewJob::new(&LookAtRepository { pipeline_id: pipeline, number }).about(organization, project);
    enqueue(db, &[job]).await?;
    Ok(())
}

/// What a question is about; none when it was asked anew since, or its pipeline is gone.
pub async fn wanted(db: impl PgExecutor<'_>, args: &LookAtRepository) -> Result<Option<Wanted>, sqlx::Error> {
    sqlx::query_as!(
        Wanted,
        r#"
        select p.id as "project_id: ProjectId", p.repository, p.default_branch as branch,
               coalesce(l.file, $3) as "file!"
        from repository_looks k join pipelines l on l.id = k.pipeline_id join projects p on p.id = l.project_id
        where k.pipeline_id = $1 and k.number = $2
        "#,
        args.pipeline_id.uuid(),
        args.number,
        DEFAULT_FILE
    )
    .fetch_optional(db)
    .await
}

/// Notes what was seen, or why nothing was, unless it was asked anew since.
pub async fn note(
    db: impl PgExecutor<'_>,
    args: &LookAtRepository,
    seen: &Result<Seen, String>,
) -> Result<(), sqlx::Error> {
    let (seen, problem) = match seen {
        Ok(seen) => (Some(seen), None),
        Err(problem) => (None, Some(problem.as_str())),
    };
    sqlx::query!(
        r#"
        update repository_looks
        set looked_at = now(), commit_sha = $3, files = $4, content = $5, problem = $6
        where pipeline_id = $1 and number = $2
        "#,
        args.pipeline_id.uuid(),
        args.number,
        seen.map(|seen| seen.commit_sha.as_str()),
        seen.map_or(&[][..], |seen| &seen.files),
        seen.and_then(|seen| seen.content.as_deref()),
        problem
    )
    .execute(db)
    .await?;
    Ok(())
}

/// What came of the last question about a pipeline.
pub async fn find(db: impl PgExecutor<'_>, pipeline: PipelineId) -> Result<Option<Look>, sqlx::Error> {
    sqlx::query_as!(
        Look,
        r#"
        select looked_at as "looked_at: jiff_sqlx::Timestamp", commit_sha, files, content, problem
        from repository_looks where pipeline_id = $1
        "#,
        pipeline.uuid()
    )
    .fetch_optional(db)
    .await
}
