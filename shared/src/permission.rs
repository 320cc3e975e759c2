//! What a caller may do. Each route of the API asks for one of these.

/// One permission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Permission {
    /// See projects, pipelines, runs, logs and artifacts.
    ProjectRead,
    /// Change projects and pipelines; cancel, retry and repeat runs.
    ProjectWrite,
    /// Start runs; all that a hook needs.
    RunTrigger,
    /// Manage the organization's keys.
    OrgAdmin,
    /// See and change the queue: the installation's operator, apart from any organization.
    FleetAdmin,
}

impl Permission {
    /// Every permission there is.
    pub const ALL: [Self; 5] =
        [Self::ProjectRead, Self::ProjectWrite, Self::RunTrigger, Self::OrgAdmin, Self::FleetAdmin];

    /// The name used in the database and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::ProjectRead => "project:read",
            Self::ProjectWrite => "project:write",
            Self::RunTrigger => "run:trigger",
            Self::OrgAdmin => "org:admin",
            Self::FleetAdmin => "fleet:admin",
        }
    }

    /// The permission of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|permission| permission.name() == name)
    }
}
