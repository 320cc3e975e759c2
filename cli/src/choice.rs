//! Which executor runs the steps on this machine, where nobody has said it.

use buildit_worker::executor::docker;

use crate::{config::ExecutorKind, exit::Problem};

/// An executor, and why that one.
#[derive(Debug)]
pub(crate) struct Choice {
    pub(crate) kind: ExecutorKind,
    /// A line for whoever started the command.
    pub(crate) said: String,
}

impl Choice {
    /// The one that was asked for.
    ///
    /// # Errors
    /// When it is the Docker engine and that does not answer, or the program for its containers is missing.
    pub(crate) async fn asked_for(kind: ExecutorKind, settings: &docker::Settings) -> Result<Choice, Problem> {
        if kind == ExecutorKind::Docker {
            settings.runner().map_err(Problem::usage)?;
            docker::ping(settings).await.map_err(Problem::unreachable)?;
        }
        Ok(Choice::of(kind, settings, "as asked for"))
    }

    /// The Docker engine where one answers, else processes of this machine.
    pub(crate) async fn by_looking(settings: &docker::Settings) -> Choice {
        match (docker::ping(settings).await, settings.runner()) {
            (Ok(()), Ok(_)) => Choice::of(ExecutorKind::Docker, settings, "it answers"),
            (Ok(()), Err(error)) => Choice::of(ExecutorKind::Local, settings, &error.to_string()),
            (Err(_), _) => {
                let why = format!("no Docker engine answers at {}", settings.address());
                Choice::of(ExecutorKind::Local, settings, &why)
            }
        }
    }

    /// One whose reason is known.
    pub(crate) fn of(kind: ExecutorKind, settings: &docker::Settings, why: &str) -> Choice {
        let what = match kind {
            ExecutorKind::Docker => format!("in containers of the Docker engine at {}", settings.address()),
            ExecutorKind::Local => "as processes of this machine, not isolated, whatever their image".to_owned(),
            ExecutorKind::Kubernetes => "as pods of a Kubernetes cluster".to_owned(),
        };
        Choice { kind, said: format!("Steps run {what}: {why}") }
    }
}
