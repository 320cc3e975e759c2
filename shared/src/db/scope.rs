//! Whose rows a question may see.

use crate::ids::{OrganizationId, ProjectId};

/// The rows of one organization, or of one of its projects only. Every question of the API is bound to one, so that a
/// stranger's id finds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scope {
    /// The tenant.
    pub organization: OrganizationId,
    /// Only this project's.
    pub project: Option<ProjectId>,
}

impl Scope {
    /// All of an organization's rows.
    pub fn of(organization: OrganizationId) -> Self {
        Self { organization, project: None }
    }

    pub(super) fn project_uuid(self) -> Option<uuid::Uuid> {
        self.project.map(ProjectId::uuid)
    }
}
