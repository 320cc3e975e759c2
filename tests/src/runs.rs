//! Runs whose every event a test decides: no repository, no executor.

use std::ops::Deref;

use buildit_shared::{
    db::{
        advance::{self, Advanced, AttemptEnd, NewStep, Planned},
        cancel::{self, Cancelled},
        create_run::{self, Created, NewRun},
        organizations, projects,
        retry::{self, Retried},
    },
    domain::{AttemptStatus, RunTrigger},
    ids::{OrganizationId, PipelineId, ProjectId, RunId},
    jobs::{JobArgs, RunPipeline, RunStep},
    queue::{self, Claim, Error, Notifier},
};
use serde_json::json;

use crate::queue::{Queue, Worker};

/// A queue with a pipeline.
#[derive(Clone, Debug)]
pub struct Runs {
    /// The queue.
    pub queue: Queue,
    /// The tenant.
    pub organization: OrganizationId,
    project: ProjectId,
    /// The pipeline.
    pub pipeline: PipelineId,
}

impl Deref for Runs {
    type Target = Queue;

    fn deref(&self) -> &Queue {
        &self.queue
    }
}

/// A step that depends on those of these positions.
pub fn step(name: &str, depends_on: &[usize]) -> NewStep {
    NewStep {
        name: name.into(),
        image: "busybox".into(),
        plan: json!({}),
        depends_on: depends_on.into(),
        allow_failure: false,
        retries: 0,
        left_out: None,
    }
}

/// An attempt that ended so.
pub fn ended(status: AttemptStatus) -> AttemptEnd {
    AttemptEnd {
        status,
        exit_code: None,
        reason: None,
        log_ref: None,
        step_log_ref: None,
        report: None,
        first_command_at_ms: None,
        retry_if_lost: true,
    }
}

impl Runs {
    /// A queue with an organization, a project and its pipeline.
    pub async fn new() -> Self {
        let queue = Queue::new().await;
        let mut connection = queue.pool.acquire().await.expect("a connection");
        let organization = organizations::ensure(&mut connection, "acme").await.expect("an organization");
        let (project, pipeline) =
            projects::create(&mut connection, organization, "web", "https://git.example/web.git", "main")
                .await
                .expect("a project");
        drop(connection);
        Self { queue, organization, project: project.id, pipeline }
    }

    /// A new run, or the one that this delivery has made before.
    pub async fn create(&self, delivery: Option<&str>) -> Created {
        let run = NewRun {
            organization_id: self.organization,
            project_id: self.project,
            pipeline_id: self.pipeline,
            trigger: RunTrigger::Push,
            git_ref: "refs/heads/main".into(),
            branch: Some("main".into()),
            commit_sha: None,
            delivery: delivery.map(str::to_owned),
            created_by: "test".into(),
            merge_request: None,
            variables: Default::default(),
        };
        let wake = Notifier::new(self.pool.clone()).wake(RunPipeline::QUEUE);
        let mut tx = self.pool.begin().await.expect("a transaction");
        let created = create_run::create(&mut tx, &run, &wake).await.expect("a run");
        tx.commit().await.expect("committed");
        created
    }

    /// Writes a run's plan as its `RunPipeline` job does; its first jobs are enqueued.
    pub async fn plan(&self, run: RunId, steps: &[NewStep], group: Option<(&str, bool)>) -> Advanced {
        let planned = Planned {
            commit_sha: "0123456789abcdef0123456789abcdef01234567".into(),
            commit_message: "A change".into(),
            commit_author: "Ada".into(),
            checkout_key: "checkout".into(),
            artifacts: json!([]),
            concurrency: group.map(|(group, cancel)| (group.into(), cancel)),
            steps: steps.to_vec(),
        };
        let mut tx = self.pool.begin().await.expect("a transaction");
        let advanced = advance::plan_run(&mut tx, run, &planned).await.expect("a plan");
        queue::enqueue(&mut *tx, &advanced.jobs).await.expect("enqueued");
        tx.commit().await.expect("committed");
        advanced
    }

    /// A run with these steps, planned; its `RunPipeline` job is gone.
    pub async fn start(&self, steps: &[NewStep], group: Option<(&str, bool)>) -> RunId {
        let run = self.create(None).await.run_id;
        sqlx::query("delete from jobs where kind = 'RunPipeline'").execute(&self.pool).await.expect("deleted");
        self.plan(run, steps, group).await;
        run
    }

    /// Asks for a run's end.
    ///
    /// # Errors
    /// What the database said.
    pub async fn cancel(&self, run: RunId) -> Result<Cancelled, sqlx::Error> {
        let mut tx = self.pool.begin().await?;
        let cancelled = cancel::cancel_run(&mut tx, self.organization, run, "Ada").await?;
        tx.commit().await?;
        Ok(cancelled)
    }

    /// Retries a run.
    pub async fn retry(&self, run: RunId) -> Retried {
        self.retry_from(run, None).await
    }

    /// Retries a run from a step on.
    pub async fn retry_from(&self, run: RunId, from: Option<&str>) -> Retried {
        let mut tx = self.pool.begin().await.expect("a transaction");
        let retried = retry::retry_run(&mut tx, self.organization, run, from).await.expect("an answer");
        tx.commit().await.expect("committed");
        retried
    }

    /// A run's status, its steps that are open, and its generation.
    pub async fn run(&self, run: RunId) -> (String, i32, i32) {
        sqlx::query_as("select status::text, open_steps, generation from pipeline_runs where id = $1")
            .bind(run)
            .fetch_one(&self.database.pool)
            .await
            .expect("the run")
    }

    /// Why a run is where it is.
    pub async fn reason(&self, run: RunId) -> Option<String> {
        sqlx::query_scalar("select reason from pipeline_runs where id = $1")
            .bind(run)
            .fetch_one(&self.database.pool)
            .await
            .expect("the run")
    }

    /// `name status` of a run's steps, in order.
    pub async fn steps(&self, run: RunId) -> Vec<String> {
        sqlx::query_scalar("select name || ' ' || status from pipeline_steps where run_id = $1 order by step_order")
            .bind(run)
            .fetch_all(&self.database.pool)
            .await
            .expect("the steps")
    }

    /// The statuses of a step's attempts, first to last.
    pub async fn attempts(&self, run: RunId, step: &str) -> Vec<String> {
        sqlx::query_scalar(
            "select a.status::text from step_attempts a join pipeline_steps s on s.id = a.step_id
             where s.run_id = $1 and s.name = $2 order by a.number",
        )
        .bind(run)
        .bind(step)
        .fetch_all(&self.database.pool)
        .await
        .expect("the attempts")
    }

    /// A run's jobs that have not ended, as `kind` or `kind step`.
    pub async fn jobs(&self, run: RunId) -> Vec<String> {
        sqlx::query_scalar(
            "select j.kind || coalesce(' ' || s.name, '') from jobs j left join pipeline_steps s on s.id = j.step_id
             where j.run_id = $1 order by j.kind, s.step_order",
        )
        .bind(run)
        .fetch_all(&self.database.pool)
        .await
        .expect("the jobs")
    }

    /// Ends the attempt that `claim` is for, and the claim with it; returns the claim that came along.
    ///
    /// # Errors
    /// As the queue's.
    pub async fn end_step(&self, claim: &Claim, status: AttemptStatus) -> Result<Option<Claim>, Error> {
        let args: RunStep = arguments(claim);
        let mut tx = self.pool.begin().await?;
        let end = ended(status);
        let follow_up = advance::end_attempt(&mut tx, args.run_id, args.step_id, args.attempt_id, &end).await?;
        Ok(claim.complete(tx, &follow_up).await?.into_next())
    }

    /// Ends the run that `claim` publishes, and the claim with it; returns the claim that came along.
    ///
    /// # Errors
    /// As the queue's.
    pub async fn end_run(&self, claim: &Claim) -> Result<Option<Claim>, Error> {
        let run = claim.job.run_id.expect("a run's job");
        let mut tx = self.pool.begin().await?;
        let follow_up = advance::end_run(&mut tx, run, &[], &[]).await?;
        Ok(claim.complete(tx, &follow_up).await?.into_next())
    }

    /// Buries the job, and does to its run what that means.
    ///
    /// # Errors
    /// As the queue's.
    pub async fn bury(&self, claim: &Claim, error: &str) -> Result<Option<Claim>, Error> {
        let mut tx = self.pool.begin().await?;
        let follow_up = advance::job_died(&mut tx, &claim.job, error).await?;
        Ok(claim.bury(tx, error, &follow_up).await?.into_next())
    }

    /// Claims the job of that step; it has to be the next one.
    pub async fn claim_step(&self, worker: &Worker, name: &str) -> Claim {
        let claim = worker.claim_one("steps").await;
        assert_eq!(self.step_of(&claim).await, name);
        claim
    }

    /// The name of the step that `claim` is for.
    pub async fn step_of(&self, claim: &Claim) -> String {
        sqlx::query_scalar("select name from pipeline_steps where id = $1")
            .bind(claim.job.step_id.expect("a step's job"))
            .fetch_one(&self.database.pool)
            .await
            .expect("the step")
    }

    /// Works on steps and publishes until nothing is ready; returns the steps' names in order. Those of `failing` fail.
    pub async fn work_off(&self, worker: &Worker, failing: &[&str]) -> Vec<String> {
        let mut names = Vec::new();
        let mut todo = worker.claim().await;
        while let Some(claim) = todo.pop() {
            let ended = if claim.job.queue == "steps" {
                let name = self.step_of(&claim).await;
                let status = if claim.cancelled().is_cancelled() {
                    AttemptStatus::Cancelled
                } else if failing.contains(&name.as_str()) {
                    AttemptStatus::Failure
                } else {
                    AttemptStatus::Success
                };
                names.push(name);
                self.end_step(&claim, status).await
            } else {
                self.end_run(&claim).await
            };
            todo.extend(ended.expect("ended"));
            drop(claim);
            if todo.is_empty() {
                todo = worker.claim().await;
            }
        }
        names
    }
}

/// The arguments of a claimed job.
pub fn arguments(claim: &Claim) -> RunStep {
    claim.job.args().expect("readable arguments")
}
