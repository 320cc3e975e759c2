//! The engine's answers, told apart: yes, no, and none.

use std::{sync::Arc, time::Duration};

use bollard::{API_DEFAULT_VERSION, Docker, errors::Error as EngineError, models::ContainerStateStatusEnum};
use tokio::sync::OnceCell;

use super::Error;

/// How long the engine may take to answer, in seconds.
const ANSWER_LIMIT: u64 = 30;
/// How long it may take to answer a question.
pub(super) const LOOK_LIMIT: Duration = Duration::from_secs(10);

/// A Docker engine, which may be away at first.
#[derive(Clone, Debug)]
pub(super) struct Engine {
    pub(super) address: String,
    client: Arc<OnceCell<Docker>>,
}

/// What the engine says about a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Container {
    /// There is none of that name.
    Absent,
    /// Made and never started.
    Created,
    /// It has processes.
    Running,
    /// It has none any more.
    Exited {
        /// What its first process ended with.
        code: i64,
        /// The kernel killed one of its processes since memory ran out.
        oom: bool,
        /// Why the engine could not start or keep it.
        error: String,
    },
}

impl Engine {
    pub(super) fn new(address: String) -> Self {
        Self { address, client: Arc::default() }
    }

    /// A client that speaks the engine's version of the API.
    pub(super) async fn client(&self) -> Result<&Docker, Error> {
        let connect = async {
            let client = match self.address.strip_prefix("unix://") {
                Some(path) => Docker::connect_with_unix(path, ANSWER_LIMIT, API_DEFAULT_VERSION)?,
                None => Docker::connect_with_host(&self.address)?.with_timeout(Duration::from_secs(ANSWER_LIMIT)),
            };
            client.negotiate_version().await
        };
        let connect = async {
            match tokio::time::timeout(LOOK_LIMIT, connect).await {
                Ok(client) => client,
                Err(_) => Err(EngineError::RequestTimeoutError),
            }
        };
        self.client.get_or_try_init(|| connect).await.map_err(|error| self.failed("it cannot be reached", error))
    }

    /// What the engine says about the container of this name.
    pub(super) async fn container(&self, name: &str) -> Result<Container, Error> {
        let client = self.client().await?;
        let found = match tokio::time::timeout(LOOK_LIMIT, client.inspect_container(name, None)).await {
            Ok(Ok(found)) => found,
            Ok(Err(error)) if status(&error) == Some(404) => return Ok(Container::Absent),
            Ok(Err(error)) => return Err(self.failed("a container cannot be looked at", error)),
            Err(_) => return Err(self.failed("a container cannot be looked at", EngineError::RequestTimeoutError)),
        };
        let state = found.state.unwrap_or_default();
        let exited = Container::Exited {
            code: state.exit_code.unwrap_or_default(),
            oom: state.oom_killed.unwrap_or_default(),
            error: state.error.unwrap_or_default(),
        };
        Ok(match state.status {
            Some(ContainerStateStatusEnum::CREATED) => Container::Created,
            Some(ContainerStateStatusEnum::EXITED | ContainerStateStatusEnum::DEAD) => exited,
            // One that is being removed has processes until it is gone.
            _ => Container::Running,
        })
    }

    /// What a call that failed comes to for whoever wanted it.
    pub(super) fn failed(&self, what: &str, error: EngineError) -> Error {
        match status(&error) {
            // It answered, and would answer the same again.
            Some(400..=499) => {
                Error::Io { what: format!("the Docker engine: {what}"), source: std::io::Error::other(error) }
            }
            _ => Error::Away { what: format!("the Docker engine at {}: {what}", self.address), reason: reason(&error) },
        }
    }
}

/// The status of an engine's answer that was no.
pub(super) fn status(error: &EngineError) -> Option<u16> {
    match error {
        EngineError::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

/// What an engine said, without what the library says about it.
pub(super) fn reason(error: &EngineError) -> String {
    match error {
        EngineError::DockerResponseServerError { message, .. } => message.clone(),
        EngineError::DockerStreamError { error } => error.clone(),
        EngineError::RequestTimeoutError => "it does not answer".to_owned(),
        error => {
            // The cause says more than that there was one.
            let mut cause: &dyn std::error::Error = error;
            while let Some(next) = cause.source() {
                cause = next;
            }
            cause.to_string()
        }
    }
}
