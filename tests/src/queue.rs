//! The queue with workers whose every claim and beat a test decides.

use std::sync::Arc;

use buildit_shared::{
    db::{self, Use},
    ids::JobId,
    jobs::{JobArgs, RunPipeline, RunStep, UploadArtifacts},
    queue::{
        self, Beat, Claim, Member, NewJob, Notifier, Profile, Slots,
        rescue::{self, Dead, Rescued},
    },
};
use serde::{Deserialize, Serialize};
use sqlx::{Connection, PgConnection, PgPool};

use crate::database::Database;

/// A job that means nothing, in queue `left`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Left {}

impl JobArgs for Left {
    const KIND: &'static str = "TestLeft";
    const QUEUE: &'static str = "left";
    const MAX_ATTEMPTS: i32 = 3;
}

/// A job that means nothing, in queue `right`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Right {}

impl JobArgs for Right {
    const KIND: &'static str = "TestRight";
    const QUEUE: &'static str = "right";
    const MAX_ATTEMPTS: i32 = 3;
}

/// A queue of its own.
#[derive(Clone, Debug)]
pub struct Queue {
    /// Its database.
    pub database: Database,
    /// Connections as a worker has them.
    pub pool: PgPool,
}

/// A live job's row.
#[derive(Clone, Debug, PartialEq, sqlx::FromRow)]
pub struct Live {
    /// `scheduled`, `ready` or `running`.
    pub state: String,
    /// Claims that counted.
    pub attempt: i32,
    /// Worker deaths in a row.
    pub deaths: i16,
}

impl Queue {
    /// An empty one.
    pub async fn new() -> Self {
        let database = Database::new().await;
        let pool = db::connect(&database.url, Use::Worker, 10).await.expect("a pool");
        Self { database, pool }
    }

    /// Enqueues these and returns how many are new.
    pub async fn enqueue(&self, jobs: &[NewJob]) -> u64 {
        queue::enqueue(&self.pool, jobs).await.expect("enqueued")
    }

    /// Enqueues a job in queue `left`.
    pub async fn left(&self) -> JobId {
        let job = NewJob::new(&Left {});
        self.enqueue(std::slice::from_ref(&job)).await;
        job.id()
    }

    /// The row of a job that has not ended.
    pub async fn live(&self, id: JobId) -> Option<Live> {
        sqlx::query_as("select state::text, attempt, deaths from jobs where id = $1")
            .bind(id)
            .fetch_optional(&self.database.pool)
            .await
            .expect("an answer")
    }

    /// How a job ended.
    pub async fn end(&self, id: JobId) -> Option<String> {
        sqlx::query_scalar("select ended_as::text from job_history where id = $1")
            .bind(id)
            .fetch_optional(&self.database.pool)
            .await
            .expect("an answer")
    }

    /// The kinds of a job's errors, oldest first.
    pub async fn errors(&self, id: JobId) -> Vec<String> {
        sqlx::query_scalar("select kind::text from job_errors where job_id = $1 order by happened_at")
            .bind(id)
            .fetch_all(&self.database.pool)
            .await
            .expect("an answer")
    }

    /// What `query` counts.
    pub async fn count(&self, query: &'static str) -> i64 {
        sqlx::query_scalar(query).fetch_one(&self.database.pool).await.expect("a number")
    }

    /// Does `statement` to the rows, as time or another program would.
    pub async fn run(&self, statement: &'static str, id: Option<JobId>) {
        let query = sqlx::query(statement);
        let query = match id {
            Some(id) => query.bind(id),
            None => query,
        };
        query.execute(&self.database.pool).await.expect("done");
    }

    /// The beat at which a worker stands.
    pub async fn beat_of(&self, worker: &Member) -> i64 {
        sqlx::query_scalar("select beat from workers where id = $1")
            .bind(worker.id())
            .fetch_one(&self.database.pool)
            .await
            .expect("its beat")
    }

    /// A worker with so many slots of each queue.
    pub async fn worker(&self, slots: &[(&'static str, usize)]) -> Worker {
        let mut lock = PgConnection::connect(&self.database.url).await.expect("a direct connection");
        let kinds = [Left::KIND, Right::KIND, RunPipeline::KIND, RunStep::KIND, UploadArtifacts::KIND];
        let profile = Profile {
            host: "test".into(),
            kinds: kinds.map(str::to_owned).into(),
            slots: Slots::new(slots.iter().copied()),
        };
        let notifier = Notifier::new(self.pool.clone());
        let member = queue::register(&self.pool, &mut lock, &profile, notifier).await.expect("registered");
        Worker { member, lock }
    }

    /// Declares a worker dead, as another does that saw its beat stand still.
    pub async fn declare_dead(&self, worker: &Member) -> Rescued {
        let beat = self.beat_of(worker).await;
        self.rescue(Dead { worker: worker.id(), beat }).await.expect("it was alive")
    }

    /// Declares a worker dead that stood still at that beat.
    pub async fn rescue(&self, dead: Dead) -> Option<Rescued> {
        let mut tx = self.pool.begin().await.expect("a transaction");
        let rescued = rescue::rescue(&mut tx, dead).await.expect("a rescue");
        tx.commit().await.expect("committed");
        rescued
    }
}

/// A worker.
#[derive(Debug)]
pub struct Worker {
    /// Its membership.
    pub member: Arc<Member>,
    lock: PgConnection,
}

impl Worker {
    /// Its next beat, answered.
    pub async fn beat(&mut self) -> Beat {
        let sent = self.member.now();
        let beat = queue::beat(&self.member, &mut self.lock).await.expect("a beat");
        self.member.acknowledged(sent);
        beat
    }

    /// Connects again after its connection broke.
    pub async fn reconnect(&mut self, queue: &Queue) {
        self.lock = PgConnection::connect(&queue.database.url).await.expect("a direct connection");
    }

    /// Leaves the fleet.
    pub async fn goodbye(mut self) {
        queue::goodbye(&self.member, &mut self.lock).await.expect("said goodbye");
    }

    /// Claims for all slots that are free.
    pub async fn claim(&self) -> Vec<Claim> {
        self.member.acknowledged(self.member.now());
        Claim::take(&self.member, self.member.slots().take_all()).await.expect("an answer")
    }

    /// Claims one job of `queue`; it has to be there.
    pub async fn claim_one(&self, queue: &str) -> Claim {
        self.member.acknowledged(self.member.now());
        let slot = self.member.slots().take(queue).expect("a free slot");
        Claim::take(&self.member, vec![slot]).await.expect("an answer").pop().expect("a ready job")
    }
}
