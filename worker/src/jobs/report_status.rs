//! `ReportStatus`: tell a forge how a run of its commit stands.
//!
//! What the forge shows last is what came last: only one request of a status is on its way, also where the worker that sent
//! it died, because whoever comes next waits for as long as that one could take; and whoever took longer, since he was
//! frozen in the middle of it, has the newest sent once more. A version that has a newer one is not sent. A forge that does
//! not take it is asked again for a day; then that is kept with the status, and is no dead job.

use std::{sync::Arc, time::Duration};

use buildit_shared::{
    db::{
        commit_statuses::{self, Begun, ToSend},
        forge_hooks::Forge,
    },
    domain::RunStatus,
    ids::CommitStatusId,
    jobs::ReportStatus,
    queue::{Claim, Ended, Error, JobError},
};
use serde_json::{Value, json};
use url::Url;

use super::{
    Context,
    outgoing::{answer_to, wait_after},
};
use crate::{crash_point, egress};

/// A request that is not sent within this time is not sent at all, so that nobody takes it for over while it begins.
const SOON: Duration = Duration::from_secs(2);
/// How long it may be on its way: until it is sent, its answer, and a little more.
const TAKES: Duration = SOON.saturating_add(egress::LIMIT).saturating_add(Duration::from_secs(1));
/// When to look again whether another request is over.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Characters of a description; GitHub takes no more.
const DESCRIPTION: usize = 140;

pub(super) async fn run(cx: Arc<Context>, claim: Arc<Claim>, args: ReportStatus) -> Result<Ended, JobError> {
    claim.may_act().await?;
    let began = claim.member().now();
    let message = match commit_statuses::begin(&cx.pool, &args, claim.job.id, claim.lease(), TAKES).await? {
        Begun::Send(message) => message,
        Begun::Busy => return Ok(claim.snooze(LOOK_AGAIN).await?),
        Begun::Over => return Ok(claim.complete_alone(&[]).await?),
    };
    crash_point!("status: about to be sent");
    // Somebody who was frozen here finds that he may not act any more.
    claim.may_act().await?;
    if claim.member().now().saturating_sub(began) > SOON {
        return Err(JobError::Unavailable("this worker was held up before it could send a status".into()));
    }
    let sending =
        tokio::spawn(send_in_time(Arc::clone(&cx), message.clone(), args.status_id, Arc::clone(&claim), began));
    let answer = match sending.await {
        Ok(Some(answer)) => answer,
        Ok(None) => return Err(Error::LeaseLost.into()),
        Err(error) => return Err(JobError::retry(format!("sending a status was broken off: {error}"))),
    };
    crash_point!("status: sent, not noted");
    let error = match &answer {
        Ok((200..300, _)) => None,
        // It is there already: GitLab takes the same one only once.
        Ok((400, said)) if message.forge == Forge::Gitlab && said.contains("Cannot transition status") => None,
        Ok((status, said)) => Some(format!("the forge answered {status}: {}", first(said, 500))),
        Err(error) => Some(error.clone()),
    };
    let Some(error) = error else {
        let mut tx = cx.pool.begin().await?;
        commit_statuses::note_sent(&mut *tx, &args).await?;
        return Ok(claim.complete(tx, &[]).await?);
    };
    match wait_after(claim.job.attempt) {
        Some(wait) => {
            commit_statuses::note_failed(&cx.pool, &args, &error).await?;
            Err(JobError::Retry { message: error, after: Some(wait) })
        }
        None => {
            let mut tx = cx.pool.begin().await?;
            commit_statuses::note_failed(&mut *tx, &args, &error).await?;
            Ok(claim.complete(tx, &[]).await?)
        }
    }
}

/// Sends it while the claim is held; none if that is lost. In a task of its own, for what is to be done after the loss: if
/// the others do not wait any more for what began at `began`, theirs may have come before it.
async fn send_in_time(
    cx: Arc<Context>,
    message: Box<ToSend>,
    status: CommitStatusId,
    claim: Arc<Claim>,
    began: Duration,
) -> Option<Result<(u16, String), String>> {
    crash_point!("status: being sent");
    let answer = tokio::select! {
        biased;
        () = claim.lost().cancelled() => None,
        answer = send(&cx, &message) => Some(answer),
    };
    if claim.member().now().saturating_sub(began) > TAKES {
        tracing::warn!(%status, "held up while it sent a status; the newest is sent once more");
        while let Err(error) = commit_statuses::send_again(&cx.pool, status).await {
            tracing::warn!(%status, %error, "the database is away; what is sent once more waits for it");
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
    answer
}

async fn send(cx: &Context, message: &ToSend) -> Result<(u16, String), String> {
    let vault = cx.vault.as_ref().ok_or("this worker has no key to open the forge's token with (`secrets_key`)")?;
    let token = message.token(vault).map_err(|error| format!("the forge's token cannot be opened: {error}"))?;
    let address = address(message);
    let url = Url::parse(&address).map_err(|error| format!("{address} is no address: {error}"))?;
    let page = format!("{}/runs/{}", cx.public_url.as_str().trim_end_matches('/'), message.run_id);
    let request = cx.egress.post(&url).map_err(|refused| refused.to_string())?;
    let request = match message.forge {
        Forge::Github => request
            .bearer_auth(&token)
            .header("accept", "application/vnd.github+json")
            .header("x-github-api-version", "2022-11-28"),
        Forge::Gitlab => request.header("private-token", &token),
        Forge::Gitea => request.header("authorization", format!("token {token}")),
    };
    let (status, said) = answer_to(request.json(&body(message, &page))).await?;
    // Not even where the other side says it.
    Ok((status, said.replace(&token, "***")))
}

/// Where each forge documents that it takes a commit's status.
fn address(message: &ToSend) -> String {
    let ToSend { api_url, repository, commit_sha, .. } = message;
    match message.forge {
        Forge::Github | Forge::Gitea => format!("{api_url}/repos/{repository}/statuses/{commit_sha}"),
        Forge::Gitlab => format!("{api_url}/projects/{}/statuses/{commit_sha}", repository.replace('/', "%2F")),
    }
}

fn body(message: &ToSend, page: &str) -> Value {
    let (state, description) = (state(message.forge, message.status), description(message));
    match message.forge {
        Forge::Github | Forge::Gitea => {
            json!({ "state": state, "target_url": page, "description": description, "context": message.context })
        }
        Forge::Gitlab => {
            json!({ "state": state, "target_url": page, "description": description, "name": message.context })
        }
    }
}

/// The forge's own word for it.
fn state(forge: Forge, status: RunStatus) -> &'static str {
    match (forge, status) {
        (_, RunStatus::Pending) => "pending",
        (Forge::Gitlab, RunStatus::Running) => "running",
        (_, RunStatus::Running) => "pending",
        // Nothing is wrong with the commit.
        (_, RunStatus::Success | RunStatus::Skipped) => "success",
        (Forge::Gitlab, RunStatus::Failure | RunStatus::Error) => "failed",
        (Forge::Gitlab, RunStatus::Cancelled) => "canceled",
        (_, RunStatus::Failure) => "failure",
        (_, RunStatus::Error | RunStatus::Cancelled) => "error",
    }
}

fn description(message: &ToSend) -> String {
    let stands = match message.status {
        RunStatus::Pending => "waits",
        RunStatus::Running => "is running",
        RunStatus::Success => "passed",
        RunStatus::Failure => "failed",
        RunStatus::Cancelled => "was cancelled",
        RunStatus::Error => "ended in an error",
        RunStatus::Skipped => "was skipped",
    };
    let why = message.reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
    first(&format!("#{} {stands}{why}", message.run_number), DESCRIPTION)
}

/// The first characters of a text, marked where it was longer.
fn first(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let cut: String = text.chars().take(most - 1).collect();
    format!("{}\u{2026}", cut.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        assert_eq!(first("abc", 3), "abc");
        assert_eq!(first("äöüß", 3), "äö…");
        assert_eq!(first("ab cd", 4), "ab…");
    }
}
