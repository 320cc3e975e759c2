//! The executors' contract, kept by pods.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicI32, Ordering},
    },
    time::Duration,
};

use buildit_shared::{
    attempt_token::AttemptTokens,
    ids::RunId,
    queue::Signals,
    storage::{Storage, keys},
};
use buildit_tests::installation::{Installation, SIGNING_KEY};
use buildit_worker::executor::{
    Error, Executor, Handle, KubernetesExecutor, Launch, LogChunk, LogStream, MAX_CHUNK, Notice, State, Swept,
    kubernetes::{Settings, connect},
};
use futures::{
    StreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use sqlx::PgPool;
use uuid::Uuid;

use crate::conformance;

/// The executor as a worker uses it: each attempt has its row, and where a pod's log breaks off with the report, the
/// rest is what the runner has stored.
#[derive(Clone, Debug)]
struct InRun {
    executor: KubernetesExecutor,
    pool: PgPool,
    storage: Storage,
    run: RunId,
    step: Uuid,
    attempts: Arc<AtomicI32>,
}

const STEP: &str = "conformance";

impl InRun {
    async fn new(installation: &Installation) -> Self {
        let settings = Settings {
            namespace: installation.cluster().namespace.clone(),
            api_url: installation.url.clone(),
            runner: Some(std::env::var("BUILDIT_TEST_POD_PROGRAMS").unwrap().into()),
            default_memory_bytes: 64 << 20,
            ..Settings::default()
        };
        let executor = KubernetesExecutor::new(
            connect().await.unwrap(),
            settings,
            installation.pool.clone(),
            AttemptTokens::new(SIGNING_KEY.as_bytes()),
            Signals::listen(installation.database_url()).unwrap(),
        )
        .unwrap();
        // A run that no worker plans.
        let project = installation.project("web", &[("README", "nothing")]).await;
        let run: RunId = installation.trigger(&project).await.parse().unwrap();
        let step = Uuid::now_v7();
        sqlx::query(
            "insert into pipeline_steps (id, organization_id, project_id, run_id, name, step_order, image, plan)
             select $1, organization_id, project_id, id, $3, 0, 'none', '{}' from pipeline_runs where id = $2",
        )
        .bind(step)
        .bind(run.uuid())
        .bind(STEP)
        .execute(&installation.pool)
        .await
        .unwrap();
        let (pool, storage) = (installation.pool.clone(), installation.storage.clone());
        Self { executor, pool, storage, run, step, attempts: Arc::default() }
    }

    /// Sees to it that the attempt has a row.
    async fn known(&self, attempt: &str) -> Result<(), Error> {
        sqlx::query(
            "insert into step_attempts (id, organization_id, run_id, step_id, number, job_id, started_at)
             select $1, organization_id, run_id, id, $3, $4, now() from pipeline_steps where id = $2
             on conflict (id) do nothing",
        )
        .bind(attempt.parse::<Uuid>().unwrap())
        .bind(self.step)
        .bind(self.attempts.fetch_add(1, Ordering::Relaxed))
        .bind(Uuid::now_v7())
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// What is stored of the log from `at` on, if its runner has reported.
    async fn stored(self, handle: Handle, at: u64) -> Vec<Result<LogChunk, Error>> {
        let id: Uuid = handle.attempt_id().parse().unwrap();
        let number: Option<i32> =
            sqlx::query_scalar("select number from step_attempts where id = $1 and report is not null")
                .bind(id)
                .fetch_optional(&self.pool)
                .await
                .unwrap();
        let Some(number) = number else { return Vec::new() };
        let log = self.storage.get(&keys::attempt_log(self.run, STEP, number)).await.unwrap();
        let mut start = usize::try_from(at).unwrap().min(log.len());
        let mut chunks = Vec::new();
        while start < log.len() {
            let bytes = log.slice(start..log.len().min(start + MAX_CHUNK));
            chunks.push(Ok(LogChunk { start: start as u64, bytes: bytes.clone() }));
            start += bytes.len();
        }
        chunks
    }
}

impl Executor for InRun {
    fn start<'a>(&'a self, launch: &'a Launch) -> BoxFuture<'a, Result<Handle, Error>> {
        Box::pin(async move {
            self.known(&launch.spec.attempt_id).await?;
            self.executor.start(launch).await
        })
    }

    fn state<'a>(&'a self, handle: &'a Handle) -> BoxFuture<'a, Result<State, Error>> {
        self.executor.state(handle)
    }

    fn follow(&self, handle: &Handle, from: u64) -> LogStream {
        let live = self.executor.follow(handle, from).scan(from, |at, chunk| {
            if let Ok(chunk) = &chunk {
                *at = chunk.start + chunk.bytes.len() as u64;
            }
            futures::future::ready(Some((*at, chunk)))
        });
        let (subject, handle) = (self.clone(), handle.clone());
        let chunks = stream::unfold((Some(live.boxed()), from), move |(live, at)| {
            let (subject, handle) = (subject.clone(), handle.clone());
            async move {
                let mut live = live?;
                match live.next().await {
                    Some((at, chunk)) => Some((vec![chunk], (Some(live), at))),
                    None => Some((subject.stored(handle, at).await, (None, at))),
                }
            }
        });
        chunks.flat_map(stream::iter).boxed()
    }

    fn notices(&self, handle: &Handle) -> BoxStream<'static, Notice> {
        self.executor.notices(handle)
    }

    fn wait<'a>(&'a self, handle: &'a Handle) -> BoxFuture<'a, Result<buildit_worker::executor::End, Error>> {
        self.executor.wait(handle)
    }

    fn stop<'a>(&'a self, handle: &'a Handle, grace: Duration) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            self.known(handle.attempt_id()).await?;
            self.executor.stop(handle, grace).await
        })
    }

    fn confirm_ended<'a>(&'a self, handle: &'a Handle) -> BoxFuture<'a, Result<(), Error>> {
        self.executor.confirm_ended(handle)
    }

    fn clean<'a>(&'a self, handle: &'a Handle) -> BoxFuture<'a, Result<(), Error>> {
        self.executor.clean(handle)
    }

    fn sweep<'a>(
        &'a self,
        keep: &'a (dyn Fn(&str) -> bool + Send + Sync),
        older_than: Duration,
    ) -> BoxFuture<'a, Result<Swept, Error>> {
        self.executor.sweep(keep, older_than)
    }

    fn files(&self, handle: &Handle) -> Option<PathBuf> {
        self.executor.files(handle)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kubernetes_executor_conforms() {
    let installation = Installation::on_cluster().await;
    let executor = InRun::new(&installation).await;
    conformance::with_simple_commands(&executor).await;
    conformance::with_a_shell(&executor).await;
}
