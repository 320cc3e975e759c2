//! The queue against a model of it: whatever is done to it in whatever order, its rows are what the model says.
//!
//! The model checks after every step that each job is in exactly one place, that nothing ends twice, that claims come in
//! order of priority and time, that a paused queue hands out nothing, and that whoever lost a claim changes nothing.

mod lives;
mod rows;
mod steps;

use std::{collections::BTreeMap, time::Duration};

use buildit_shared::{
    db::fleet,
    ids::JobId,
    queue::{Claim, Ended, Error, NewJob, prune},
};
use buildit_tests::queue::{Queue, Worker};
use proptest::{collection::vec, prelude::*, test_runner::Config};

use self::rows::EndedRow;
use self::steps::{How, Spec, Step, any_step};

const QUEUES: [&str; 2] = ["left", "right"];
const WORKERS: usize = 3;
const SLOTS: usize = 2;
/// Far enough for no test to last so long.
const DELAY: Duration = Duration::from_secs(3600);

/// When a job is due: hours of delay, then the order of the statements that set it.
type Due = (i32, u64);

#[derive(Clone, Debug, PartialEq)]
struct Job {
    queue: usize,
    priority: i16,
    due: Due,
    key: Option<u8>,
    attempt: i32,
    deaths: i16,
    cancel: bool,
    place: Place,
    errors: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Scheduled,
    Ready,
    /// Held by the worker of that number, which knows of it or not.
    Running {
        worker: usize,
        known: bool,
    },
}

struct Model<'a> {
    queue: &'a Queue,
    workers: Vec<Worker>,
    held: Vec<(usize, Claim)>,
    late: Vec<Claim>,
    jobs: BTreeMap<JobId, Job>,
    ended: BTreeMap<JobId, EndedRow>,
    paused: [bool; 2],
    clock: u64,
    tally: &'a mut BTreeMap<&'static str, usize>,
}

impl<'a> Model<'a> {
    async fn new(queue: &'a Queue, tally: &'a mut BTreeMap<&'static str, usize>) -> Self {
        sqlx::query("truncate jobs, job_history, job_errors, workers, queues")
            .execute(&queue.database.pool)
            .await
            .unwrap();
        let mut workers = Vec::new();
        for _ in 0..WORKERS {
            workers.push(worker(queue).await);
        }
        Self {
            queue,
            workers,
            held: Vec::new(),
            late: Vec::new(),
            jobs: BTreeMap::new(),
            ended: BTreeMap::new(),
            paused: [false; 2],
            clock: 0,
            tally,
        }
    }

    fn count(&mut self, what: &'static str) {
        *self.tally.entry(what).or_default() += 1;
    }

    async fn step(&mut self, step: &Step) {
        self.clock += 1;
        match step {
            Step::Enqueue(specs) => {
                let new: Vec<_> = specs.iter().map(Spec::job).collect();
                let expected = self.insert(specs, &new, None);
                assert_eq!(self.queue.enqueue(&new).await, expected.len() as u64, "new jobs");
            }
            Step::Claim { worker, queue, slots } => self.claim(*worker, *queue, *slots).await,
            Step::End(index, how) => {
                if self.held.is_empty() {
                    return;
                }
                let (worker, claim) = self.held.swap_remove(index.index(self.held.len()));
                self.end(worker, claim, how).await;
            }
            Step::EndLate(index, how) => {
                if self.late.is_empty() {
                    return;
                }
                let claim = &self.late[index.index(self.late.len())];
                let result = end(self.queue, claim, how, &how.jobs()).await;
                assert!(matches!(result, Err(Error::LeaseLost)), "a late {how:?}: {result:?}");
                self.count("late ends refused");
            }
            Step::Forget(index) => {
                if self.held.is_empty() {
                    return;
                }
                let (worker, claim) = self.held.swap_remove(index.index(self.held.len()));
                self.jobs.get_mut(&claim.job.id).unwrap().place = Place::Running { worker, known: false };
            }
            Step::Beat(worker) => self.beat(*worker).await,
            Step::Die { worker, moved } => self.die(*worker, *moved).await,
            Step::Cancel(index) => {
                if self.jobs.is_empty() {
                    return;
                }
                let at = index.index(self.jobs.len());
                let (id, job) = self.jobs.iter_mut().nth(at).unwrap();
                job.cancel = true;
                self.queue.run("update jobs set cancel_requested = true where id = $1", Some(*id)).await;
            }
            Step::Pause(queue) => {
                self.paused[*queue] = true;
                fleet::pause(&self.queue.pool, QUEUES[*queue], "Ada", None).await.unwrap();
            }
            Step::Resume(queue) => {
                let resumed = fleet::resume(&self.queue.pool, QUEUES[*queue]).await.unwrap();
                assert_eq!(resumed, std::mem::take(&mut self.paused[*queue]));
            }
            Step::Later => {
                self.queue
                    .run("update jobs set run_at = run_at - interval '2 hours' where state = 'scheduled'", None)
                    .await;
                for job in self.jobs.values_mut().filter(|job| job.place == Place::Scheduled) {
                    job.due.0 -= 2;
                }
            }
            Step::Promote => {
                let mut queues = Vec::new();
                for job in self.jobs.values_mut().filter(|job| job.place == Place::Scheduled && job.due.0 <= 0) {
                    job.place = Place::Ready;
                    queues.push(QUEUES[job.queue]);
                }
                queues.sort_unstable();
                queues.dedup();
                assert_eq!(prune::promote(&self.queue.pool).await.unwrap(), queues);
            }
            Step::Prune => {
                self.queue.run("update job_history set ended_at = ended_at - interval '2 days'", None).await;
                let pruned = prune::prune(&self.queue.pool, 1).await.unwrap();
                assert_eq!(pruned, std::mem::take(&mut self.ended).len() as u64);
            }
        }
    }

    /// Inserts what is new of `specs`; `but` is on its way out in the same statement.
    fn insert(&mut self, specs: &[Spec], new: &[NewJob], but: Option<JobId>) -> Vec<JobId> {
        let mut inserted = Vec::new();
        for (spec, new) in specs.iter().zip(new) {
            let taken = |(id, job): (&JobId, &Job)| Some(*id) != but && spec.key.is_some() && job.key == spec.key;
            if self.jobs.iter().any(taken) {
                self.count("unique keys that were taken");
                continue;
            }
            let job = Job {
                queue: spec.queue,
                priority: spec.priority,
                due: (i32::from(spec.delayed), self.clock),
                key: spec.key,
                attempt: 0,
                deaths: 0,
                cancel: false,
                place: if spec.delayed { Place::Scheduled } else { Place::Ready },
                errors: 0,
            };
            self.jobs.insert(new.id(), job);
            inserted.push(new.id());
        }
        inserted
    }

    /// The ready jobs of a queue in the order in which they are to be claimed.
    fn ready(&self, queue: usize) -> Vec<JobId> {
        let mut ready: Vec<_> =
            self.jobs.iter().filter(|(_, job)| job.queue == queue && job.place == Place::Ready).collect();
        ready.sort_by_key(|(id, job)| (-job.priority, job.due, **id));
        ready.into_iter().map(|(id, _)| *id).collect()
    }

    fn free(&self, worker: usize, queue: usize) -> usize {
        let held = |(holder, claim): &&(usize, Claim)| *holder == worker && claim.job.queue == QUEUES[queue];
        SLOTS - self.held.iter().filter(held).count()
    }

    fn took(&mut self, worker: usize, id: JobId) {
        let job = self.jobs.get_mut(&id).unwrap();
        job.attempt += 1;
        job.place = Place::Running { worker, known: true };
    }

    async fn claim(&mut self, worker: usize, queue: usize, slots: usize) {
        let member = &self.workers[worker].member;
        let slots: Vec<_> = (0..slots).map_while(|_| member.slots().take(QUEUES[queue])).collect();
        assert!(slots.len() <= self.free(worker, queue));
        let mut expected = self.ready(queue);
        expected.truncate(if self.paused[queue] { 0 } else { slots.len() });
        let claims = Claim::take(member, slots).await.unwrap();
        let mut claimed: Vec<_> = claims.iter().map(|claim| claim.job.id).collect();
        claimed.sort_by_key(|id| expected.iter().position(|other| other == id));
        assert_eq!(claimed, expected, "the most urgent of the queue");
        for claim in claims {
            self.took(worker, claim.job.id);
            self.arrived(worker, claim);
            self.count("claims");
        }
    }

    fn arrived(&mut self, worker: usize, claim: Claim) {
        let job = &self.jobs[&claim.job.id];
        assert_eq!(claim.job.attempt, job.attempt);
        assert_eq!(claim.cancelled().is_cancelled(), job.cancel);
        assert!(!claim.lost().is_cancelled());
        self.held.push((worker, claim));
    }

    async fn end(&mut self, worker: usize, claim: Claim, how: &How) {
        let id = claim.job.id;
        let queue = self.jobs[&id].queue;
        let new = how.jobs();
        let member = &self.workers[worker].member;
        member.acknowledged(member.now());
        let next = match how {
            How::Complete { follow_up, .. } => {
                let target = follow_up.first().map_or(queue, |first| first.queue);
                let able = !self.paused[target] && (target == queue || self.free(worker, target) > 0);
                let waiting = self.ready(target);
                let urgent = waiting.first().map(|first| self.jobs[first].priority);
                let inserted = self.insert(follow_up, &new, Some(id));
                self.finish(id, "succeeded");
                let fused = follow_up.first().zip(new.first()).filter(|(spec, new)| {
                    able && !spec.delayed
                        && inserted.contains(&new.id())
                        && urgent.is_none_or(|urgent| urgent <= spec.priority)
                });
                let next = match follow_up.first() {
                    Some(_) => fused.map(|(_, new)| new.id()),
                    None => waiting.first().filter(|_| able).copied(),
                };
                if let Some(next) = next {
                    self.took(worker, next);
                }
                next
            }
            How::Retry { delayed } => {
                let clock = self.clock;
                let job = self.jobs.get_mut(&id).unwrap();
                job.place = Place::Scheduled;
                job.due = (i32::from(*delayed), clock);
                job.deaths = 0;
                job.errors += 1;
                None
            }
            How::Snooze { delayed } => {
                let clock = self.clock;
                let job = self.jobs.get_mut(&id).unwrap();
                job.attempt -= 1;
                (job.place, job.due) = if *delayed { (Place::Scheduled, (1, clock)) } else { (Place::Ready, job.due) };
                None
            }
            How::Bury(follow_up) => {
                self.finish(id, "dead");
                self.insert(follow_up, &new, None);
                None
            }
        };
        let got = end(self.queue, &claim, how, &new).await.unwrap().into_next();
        // A claim that gave its slot away is kept for late ends; any other frees its slot with its end.
        if matches!(how, How::Complete { follow_up, .. } if follow_up.first().is_none_or(|first| first.queue == queue))
        {
            self.late.push(claim);
        } else {
            drop(claim);
        }
        assert_eq!(got.as_ref().map(|claim| claim.job.id), next, "the claim that came along");
        self.count("ends");
        if let Some(claim) = got {
            self.arrived(worker, claim);
            self.count("fused claims");
        }
    }

    fn finish(&mut self, id: JobId, ended_as: &str) {
        let job = self.jobs.remove(&id).unwrap();
        let row = EndedRow { id, ended_as: ended_as.into(), attempt: job.attempt, deaths: job.deaths };
        assert!(self.ended.insert(id, row).is_none(), "ended twice");
    }
}

async fn worker(queue: &Queue) -> Worker {
    queue.worker(&[("left", SLOTS), ("right", SLOTS)]).await
}

async fn end(queue: &Queue, claim: &Claim, how: &How, new: &[NewJob]) -> Result<Ended, Error> {
    let delay = |delayed| if delayed { DELAY } else { Duration::ZERO };
    match how {
        How::Complete { in_transaction: false, .. } => claim.complete_alone(new).await,
        How::Complete { in_transaction: true, .. } => claim.complete(queue.pool.begin().await?, new).await,
        How::Retry { delayed } => claim.retry("no luck", delay(*delayed)).await,
        How::Snooze { delayed } => claim.snooze(delay(*delayed)).await,
        How::Bury(_) => claim.bury(queue.pool.begin().await?, "no use", new).await,
    }
}

#[test]
fn the_queue_does_what_the_model_says() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let queue = runtime.block_on(Queue::new());
    let mut tally = BTreeMap::new();
    let tally_of_case = std::sync::Mutex::new(&mut tally);
    let config = Config { cases: 64, max_shrink_iters: 300, failure_persistence: None, ..Config::default() };
    proptest!(config, |(steps in vec(any_step(), 30..60))| {
        let mut tally = tally_of_case.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        runtime.block_on(async {
            let mut model = Model::new(&queue, &mut tally).await;
            for step in &steps {
                model.step(step).await;
                model.check().await;
                model.count("steps");
            }
        });
    });
    println!("64 random histories: {tally:?}");
}
