//! Typed ids. An id of one thing cannot be passed where another thing's is meant.
//!
//! All are UUID version 7: they sort by creation, so an index on them doubles as one by time.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! id {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, sqlx::Type,
        )]
        #[serde(transparent)]
        #[sqlx(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// A new id, later in order than those made before it.
            #[allow(clippy::new_without_default)]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }

            /// The bare UUID, as the database knows it.
            pub fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl From<$name> for Uuid {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl From<Uuid> for $name {
            fn from(id: Uuid) -> Self {
                Self(id)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self)
            }
        }
    )+};
}

id! {
    /// An organization: the tenant.
    OrganizationId,
    /// A person with an account.
    UserId,
    /// A person signed in on one browser.
    SessionId,
    /// A link that serves once.
    LinkId,
    /// A person at a provider of OpenID Connect.
    IdentityId,
    /// An invitation to an organization.
    InvitationId,
    /// What the clock starts.
    ScheduleId,
    /// Somebody who is told of the ends of runs.
    WebhookId,
    /// One message to one of them.
    DeliveryId,
    /// What the forge is told of a commit.
    CommitStatusId,
    /// An entry of the audit log.
    AuditId,
    /// A key a program signs in with.
    ApiKeyId,
    /// A git repository plus its settings.
    ProjectId,
    /// A pipeline's definition.
    PipelineId,
    /// One execution of a pipeline.
    RunId,
    /// One container of a run.
    StepId,
    /// One try at a step; also the name of its pod.
    AttemptId,
    /// A published file.
    ArtifactId,
    /// What should run where.
    DeploymentId,
    /// A unit of queued work.
    JobId,
    /// One incarnation of a worker process.
    WorkerId,
}
