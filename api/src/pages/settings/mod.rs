//! Settings: one's own account, and the organization's members, keys, secrets, webhooks and audit log; a file for each tab.

pub(super) mod account;
pub(super) mod audit;
pub(super) mod keys;
pub(super) mod members;
pub(super) mod secrets;
pub(super) mod webhooks;

use buildit_shared::permission::Permission;

use super::see as to;
use crate::auth::Caller;

/// The most rows of one kind that a page shows.
const MOST: i64 = 500;

/// Which settings there are for the one who looks.
struct Tabs {
    now: &'static str,
    is_admin: bool,
    has_secrets: bool,
}

impl Tabs {
    fn of(caller: &Caller, now: &'static str) -> Self {
        let is_whole = caller.scope().project.is_none();
        Self {
            now,
            is_admin: is_whole && caller.has(Permission::OrgAdmin),
            has_secrets: is_whole && caller.has(Permission::SecretsWrite),
        }
    }

    fn is(&self, tab: &str) -> bool {
        self.now == tab
    }
}
