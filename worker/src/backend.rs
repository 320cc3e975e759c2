//! The apalis backend of one queue: claims arrive already made, each with its slot's permit.
//!
//! It cannot fail (an error of a backend ends the apalis worker): the database's absence is the claimer's affair. It
//! acknowledges nothing either, because a handler ends its claim in the transaction of its domain change. Claims that
//! nobody polled when the worker stops are dropped with the channel, and the worker's goodbye readies them.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use apalis_core::{
    backend::{Backend, BackendConfig, finalize::Ephemeral},
    task::Task,
    worker::context::WorkerContext,
};
use buildit_shared::queue::Claim;
use tokio::sync::mpsc::UnboundedReceiver;
use tower_layer::Identity;

/// The claims of one queue. Slots bound how many can be in the channel.
#[derive(Clone, Debug)]
pub(crate) struct QueueBackend {
    claims: Arc<Mutex<UnboundedReceiver<Claim>>>,
}

impl QueueBackend {
    pub(crate) fn new(claims: UnboundedReceiver<Claim>) -> Self {
        Self { claims: Arc::new(Mutex::new(claims)) }
    }
}

impl Backend for QueueBackend {
    type Task = Task<Claim>;
    type Error = Infallible;

    fn poll_ready(&mut self, _: &mut Context<'_>, _: &WorkerContext) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn poll_next(&mut self, cx: &mut Context<'_>, _: &WorkerContext) -> Poll<Option<Result<Self::Task, Infallible>>> {
        let mut claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        claims.poll_recv(cx).map(|claim| claim.map(|claim| Ok(Task::new(claim))))
    }

    fn poll_close(&mut self, _: &mut Context<'_>, _: &WorkerContext) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }
}

impl BackendConfig for QueueBackend {
    type Args = Claim;
    type Id = String;
    type Kind = Ephemeral;
    type Config = ();
    type Layer = Identity;

    fn config(&self) -> &() {
        &()
    }

    fn middleware(&mut self, _: &mut WorkerContext) -> Identity {
        Identity::new()
    }
}
