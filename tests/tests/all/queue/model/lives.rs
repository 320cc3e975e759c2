//! Workers beat and die.

use buildit_shared::queue::rescue;

use super::{Model, Place};

impl Model<'_> {
    pub(super) async fn beat(&mut self, worker: usize) {
        assert!(self.workers[worker].beat().await.alive);
        for job in self.jobs.values_mut() {
            if job.place == (Place::Running { worker, known: false }) {
                job.place = Place::Ready;
                job.attempt -= 1;
                *self.tally.entry("lost replies handed back").or_default() += 1;
            }
        }
        for (_, claim) in self.held.iter().filter(|(holder, _)| *holder == worker) {
            assert_eq!(claim.cancelled().is_cancelled(), self.jobs[&claim.job.id].cancel, "a beat brings cancels");
        }
    }

    pub(super) async fn die(&mut self, worker: usize, moved: bool) {
        let member = &self.workers[worker].member;
        let beat = self.queue.beat_of(member).await;
        let rescued = self.queue.rescue(rescue::Dead { worker: member.id(), beat: beat - i64::from(moved) }).await;
        if moved {
            assert!(rescued.is_none(), "its beat had moved");
            return;
        }
        let rescued = rescued.expect("it was alive");
        member.lose();
        let mut poisoned = Vec::new();
        let mut readied = 0;
        for (id, job) in &mut self.jobs {
            if !matches!(job.place, Place::Running { worker: holder, .. } if holder == worker) {
                continue;
            }
            job.place = Place::Ready;
            job.attempt -= 1;
            job.deaths += 1;
            job.errors += 1;
            if job.deaths >= rescue::POISON {
                poisoned.push(*id);
            } else {
                readied += 1;
            }
        }
        let mut buried: Vec<_> = rescued.poisoned.iter().map(|job| job.id).collect();
        buried.sort_unstable();
        assert_eq!((rescued.readied, &buried), (readied, &poisoned));
        for id in poisoned {
            self.finish(id, "dead");
            self.count("poisoned");
        }
        let mut kept = Vec::new();
        for (holder, claim) in self.held.drain(..) {
            if holder == worker {
                assert!(claim.lost().is_cancelled());
                self.late.push(claim);
            } else {
                kept.push((holder, claim));
            }
        }
        self.held = kept;
        self.workers[worker] = super::worker(self.queue).await;
        self.count("deaths");
    }
}
