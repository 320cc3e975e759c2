//! Which handler works on which kind of job.

use std::{collections::BTreeMap, fmt, future::Future, pin::Pin, sync::Arc};

use buildit_shared::{
    jobs::JobArgs,
    queue::{Claim, Ended, JobError},
};

type Work = Pin<Box<dyn Future<Output = Result<Ended, JobError>> + Send>>;

/// Works on a claim. It can return only what ending the claim gave it, or why it did not end it.
pub type Handler = Arc<dyn Fn(Arc<Claim>) -> Work + Send + Sync>;

/// The handlers by kind.
#[derive(Clone, Default)]
pub struct Registry {
    handlers: BTreeMap<&'static str, (&'static str, Handler)>,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.handlers.keys()).finish()
    }
}

impl Registry {
    /// With a handler for jobs with arguments `A`.
    #[must_use]
    pub fn with<A, H, F>(mut self, handler: H) -> Self
    where
        A: JobArgs,
        H: Fn(Arc<Claim>, A) -> F + Send + Sync + 'static,
        F: Future<Output = Result<Ended, JobError>> + Send + 'static,
    {
        let work = move |claim: Arc<Claim>| -> Work {
            match claim.job.args::<A>() {
                Ok(args) => Box::pin(handler(claim, args)),
                Err(error) => Box::pin(std::future::ready(Err(error))),
            }
        };
        self.handlers.insert(A::KIND, (A::QUEUE, Arc::new(work)));
        self
    }

    /// The kinds it has handlers for.
    pub fn kinds(&self) -> Vec<String> {
        self.handlers.keys().map(|kind| (*kind).to_owned()).collect()
    }

    /// The queues those wait in.
    pub fn queues(&self) -> Vec<&'static str> {
        let mut queues: Vec<_> = self.handlers.values().map(|(queue, _)| *queue).collect();
        queues.sort_unstable();
        queues.dedup();
        queues
    }

    pub(crate) fn handler(&self, kind: &str) -> Option<Handler> {
        self.handlers.get(kind).map(|(_, handler)| Arc::clone(handler))
    }
}
