//! What opens a project's private repository, for whichever job fetches from it.

use buildit_shared::{
    db::repository_credentials::{self, Key},
    ids::ProjectId,
};

use super::Context;

/// The key, if the project has one, or why it cannot be had: the project's or the operator's to mend.
pub(super) async fn of(
    cx: &Context,
    project: ProjectId,
    repository: &str,
) -> Result<Result<Option<Key>, String>, sqlx::Error> {
    let Some(sealed) = repository_credentials::sealed(&cx.pool, project).await? else { return Ok(Ok(None)) };
    if sealed.repository != repository {
        return Ok(Err(format!(
            "the project's credential was given for {}, and is not shown to {repository}; set it for this one or delete \
             it, then try again",
            sealed.repository
        )));
    }
    let Some(vault) = &cx.vault else {
        let problem =
            "this worker has no key to open the repository's credential with: its operator sets `secrets_key`";
        return Ok(Err(problem.into()));
    };
    let opened = sealed.open(vault).map(Some);
    Ok(opened.map_err(|error| format!("the repository's credential cannot be opened: {error}; set it anew")))
}
