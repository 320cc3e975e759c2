//! Which image should run where. A newer run's image takes the place of an older run's, whichever is built first.

use super::Tx;
use crate::ids::{DeploymentId, RunId};

/// An image that a step of a run has built and pushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuiltImage {
    /// The step's name.
    pub step: String,
    /// Where it should run.
    pub environment: String,
    /// `registry/project:sha`.
    pub image: String,
    /// The manifest's digest, `sha256:…`, if the registry told it.
    pub digest: Option<String>,
}

/// Notes that an image should run; once for each step, and again with another digest when the step was run again. Never for
/// a commit of another repository: nobody here has looked at it.
pub async fn deploy(tx: &mut Tx<'_>, run_id: RunId, built: &BuiltImage) -> Result<(), sqlx::Error> {
    let fork = sqlx::query_scalar!("select fork from pipeline_runs where id = $1", run_id.uuid())
        .fetch_optional(&mut **tx)
        .await?;
    if fork != Some(false) {
        return Ok(());
    }
    // One after the other in a project: two that saw the same active row would both take its place.
    sqlx::query!(
        "select pg_advisory_xact_lock(hashtextextended('deploy/' || project_id, 0)) from pipeline_runs where id = $1",
        run_id.uuid()
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query!(
        r#"
        update deployments d set desired_status = 'superseded', superseded_at = now()
        from pipeline_runs older, pipeline_runs this
        where this.id = $1 and older.id = d.run_id and d.project_id = this.project_id and d.environment = $2
          and d.desired_status = 'active' and older.id <> this.id and older.created_at <= this.created_at
        "#,
        run_id.uuid(),
        built.environment
    )
    .execute(&mut **tx)
    .await?;
    // What is still active is a newer run's, or another step's of this one.
    sqlx::query!(
        r#"
        insert into deployments (id, organization_id, project_id, run_id, step_id, environment, image, digest,
                                 desired_status, superseded_at)
        select $1, s.organization_id, s.project_id, s.run_id, s.id, $4, $5, $6,
               case when other.taken then 'superseded' else 'active' end, case when other.taken then now() end
        from pipeline_steps s,
             lateral (select exists (select from deployments d
                                     where d.project_id = s.project_id and d.environment = $4
                                       and d.desired_status = 'active' and d.step_id <> s.id) as taken) other
        where s.run_id = $2 and s.name = $3
        on conflict (step_id) do update set digest = excluded.digest
        "#,
        DeploymentId::new().uuid(),
        run_id.uuid(),
        built.step,
        built.environment,
        built.image,
        built.digest
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}
