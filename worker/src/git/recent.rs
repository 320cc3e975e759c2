//! What this process fetched a moment ago: of the runs that wait for one mirror and want the same, one fetches, and its fetch
//! is good for those who have waited since before it began.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::Commit;

/// Nobody waits longer for a mirror.
const USEFUL: Duration = Duration::from_secs(120);

/// A mirror, the repository, and the ref or commit that was wanted of it.
type What = (PathBuf, String, String);

/// The fetches of the last minutes.
#[derive(Clone, Debug, Default)]
pub struct Recent(Arc<Mutex<HashMap<What, (Instant, Commit)>>>);

impl Recent {
    /// What came of a fetch that began after `asked`: whatever was pushed before then is in it.
    pub(super) fn since(&self, asked: Instant, mirror: &Path, repository: &str, wanted: &str) -> Option<Commit> {
        let what = (mirror.to_owned(), repository.to_owned(), wanted.to_owned());
        self.lock().get(&what).filter(|(begun, _)| *begun >= asked).map(|(_, commit)| commit.clone())
    }

    /// Notes what came of a fetch that began at `begun`.
    pub(super) fn note(&self, begun: Instant, mirror: &Path, repository: &str, wanted: &str, commit: &Commit) {
        let mut recent = self.lock();
        recent.retain(|_, (begun, _)| begun.elapsed() < USEFUL);
        let what = (mirror.to_owned(), repository.to_owned(), wanted.to_owned());
        recent.insert(what, (begun, commit.clone()));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<What, (Instant, Commit)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fetch_is_good_for_those_who_asked_before_it_and_wanted_the_same() {
        let recent = Recent::default();
        let commit = Commit { sha: "a".repeat(40), message: String::new(), author: String::new() };
        let before = Instant::now();
        let begun = before + Duration::from_millis(1);
        let after = before + Duration::from_millis(2);
        let mirror = Path::new("/mirrors/one.git");
        recent.note(begun, mirror, "/repositories/one", "main", &commit);
        assert_eq!(recent.since(before, mirror, "/repositories/one", "main"), Some(commit));
        assert_eq!(
            recent.since(after, mirror, "/repositories/one", "main"),
            None,
            "something may have been pushed since"
        );
        assert_eq!(recent.since(before, mirror, "/repositories/one", "other"), None);
        assert_eq!(recent.since(before, mirror, "/repositories/two", "main"), None);
        assert_eq!(recent.since(before, Path::new("/mirrors/one.spare.git"), "/repositories/one", "main"), None);
    }
}
