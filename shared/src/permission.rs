//! What a caller may do, and which role may do what. Each route of the API asks for one permission.

use serde::{Deserialize, Serialize};

/// One permission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Permission {
    /// See projects, pipelines, runs, logs and artifacts.
    ProjectRead,
    /// Change projects and pipelines; cancel, retry and repeat runs.
    ProjectWrite,
    /// Start runs; all that a hook needs.
    RunTrigger,
    /// See what is deployed where.
    DeployRead,
    /// Deploy to an environment.
    DeployPromote,
    /// Set and delete secrets. Nobody can read one.
    SecretsWrite,
    /// Manage the organization: its members, keys and webhooks, and its audit log.
    OrgAdmin,
    /// See and change the queue: the installation's operator, apart from any organization.
    FleetAdmin,
}

impl Permission {
    /// Every permission there is.
    pub const ALL: [Self; 8] = [
        Self::ProjectRead,
        Self::ProjectWrite,
        Self::RunTrigger,
        Self::DeployRead,
        Self::DeployPromote,
        Self::SecretsWrite,
        Self::OrgAdmin,
        Self::FleetAdmin,
    ];

    /// The name used in the database and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::ProjectRead => "project:read",
            Self::ProjectWrite => "project:write",
            Self::RunTrigger => "run:trigger",
            Self::DeployRead => "deploy:read",
            Self::DeployPromote => "deploy:promote",
            Self::SecretsWrite => "secrets:write",
            Self::OrgAdmin => "org:admin",
            Self::FleetAdmin => "fleet:admin",
        }
    }

    /// It is about a project, so that a grant decides it there. The others reach beyond any project.
    pub fn is_of_project(self) -> bool {
        !matches!(self, Self::OrgAdmin | Self::FleetAdmin)
    }

    /// The permission of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|permission| permission.name() == name)
    }
}

/// What a member is in an organization; the later the variant, the less it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, sqlx::Type)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "org_role", rename_all = "snake_case")]
pub enum Role {
    /// Everything, other owners included.
    Owner,
    /// Members, settings, secrets and deployments.
    Admin,
    /// Projects and runs.
    Developer,
    /// Reads.
    Viewer,
}

impl Role {
    /// Every role there is.
    pub const ALL: [Self; 4] = [Self::Owner, Self::Admin, Self::Developer, Self::Viewer];

    /// The name used in the database and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Admin => "admin",
            Self::Developer => "developer",
            Self::Viewer => "viewer",
        }
    }

    /// The role of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }

    /// Whether a member with this role may do that, who operates the installation or not.
    pub fn allows(self, permission: Permission, operator: bool) -> bool {
        self.permissions().contains(&permission) || (operator && permission == Permission::FleetAdmin)
    }

    /// What a member with this role may do. `fleet:admin` comes with no role.
    pub fn permissions(self) -> &'static [Permission] {
        use Permission::{DeployPromote, DeployRead, OrgAdmin, ProjectRead, ProjectWrite, RunTrigger, SecretsWrite};
        match self {
            Self::Owner | Self::Admin => {
                &[ProjectRead, ProjectWrite, RunTrigger, DeployRead, DeployPromote, SecretsWrite, OrgAdmin]
            }
            Self::Developer => &[ProjectRead, ProjectWrite, RunTrigger, DeployRead],
            Self::Viewer => &[ProjectRead, DeployRead],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_role_may_all_that_the_one_below_it_may() {
        for pair in Role::ALL.windows(2) {
            let (more, less) = (pair[0].permissions(), pair[1].permissions());
            assert!(less.iter().all(|permission| more.contains(permission)), "{pair:?}");
        }
        assert!(Role::ALL.iter().all(|role| !role.permissions().contains(&Permission::FleetAdmin)));
    }
}
