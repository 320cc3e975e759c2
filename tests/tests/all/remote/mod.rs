//! The commands that talk to a server: real processes against a real API.

mod live;
mod login;
mod runs;
mod secrets;

use buildit_shared::{
    db::{
        api_keys::{self, NewKey},
        organizations,
    },
    permission::Permission,
};
use buildit_tests::installation::Installation;

/// A key of the installation's organization that may no more than this.
async fn key(installation: &Installation, permissions: &[Permission]) -> String {
    let mut connection = installation.pool.acquire().await.unwrap();
    let organization_id = organizations::ensure(&mut connection, "acme").await.unwrap();
    let new = NewKey {
        organization_id,
        name: "small",
        permissions,
        project_id: None,
        user_id: None,
        created_by: None,
        expires_at: None,
    };
    api_keys::create(&installation.pool, new).await.unwrap().plain
}
