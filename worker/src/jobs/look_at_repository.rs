//! `LookAtRepository`: tell what is in a repository, for whoever sets a pipeline up.
//!
//! What cannot be read is the answer, not a failure: somebody waits for it, and asks again once they have mended it.

use std::sync::Arc;

use buildit_shared::{
    db::{
        repository_credentials::Key,
        repository_looks::{self, Seen, Wanted},
    },
    ids::RunId,
    jobs::LookAtRepository,
    queue::{Claim, Ended, JobError},
};

use super::{Context, repository_key};
use crate::git;

/// The most files that are told of.
const FILES: usize = 1000;
/// The longest pipeline file that is told of, in bytes.
const LONGEST: usize = 256 << 10;

pub(super) async fn run(cx: Arc<Context>, claim: Arc<Claim>, args: LookAtRepository) -> Result<Ended, JobError> {
    let Some(wanted) = repository_looks::wanted(&cx.pool, &args).await? else {
        return Ok(claim.complete_alone(&[]).await?);
    };
    // The mirror keeps the commit by a ref that is named by an id: this job's serves for a run's.
    let looked = match repository_key::of(&cx, wanted.project_id, &wanted.repository).await? {
        Ok(key) => look(&cx, claim.job.id.uuid().into(), &wanted, key.as_ref()).await,
        Err(refused) => Err(git::Error::Refused(refused)),
    };
    let seen = match looked {
        Ok(seen) => Ok(seen),
        Err(git::Error::Refused(problem) | git::Error::Failed(problem)) => Err(problem.replace('\0', "\u{fffd}")),
        Err(error) => return Err(JobError::retry(error.to_string())),
    };
    let mut tx = cx.pool.begin().await?;
    repository_looks::note(&mut *tx, &args, &seen).await?;
    Ok(claim.complete(tx, &[]).await?)
}

async fn look(cx: &Context, pin: RunId, wanted: &Wanted, key: Option<&Key>) -> Result<Seen, git::Error> {
    let branch = format!("refs/heads/{}", wanted.branch);
    let commit = git::Wanted {
        project: wanted.project_id,
        repository: &wanted.repository,
        key,
        run: pin,
        git_ref: &branch,
        sha: None,
    };
    let mirror = cx.repositories.fetch(commit).await?;
    let files = mirror.files(FILES).await?;
    let content = mirror.file(&wanted.file).await?.filter(|content| content.len() <= LONGEST);
    let seen = Seen {
        commit_sha: mirror.commit.sha.clone(),
        files,
        content: content.and_then(|content| String::from_utf8(content).ok()).filter(|text| !text.contains('\0')),
    };
    mirror.unpin().await?;
    Ok(seen)
}
