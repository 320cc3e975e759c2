//! `RunPipeline`: pin the commit, read its pipeline file, decide, and write the steps.
//!
//! Everything before the last transaction can be done again: the mirror and the packed commit come out the same.

use std::{
    fs::File,
    io::{self, BufWriter},
    path::Path,
    sync::Arc,
};

use buildit_shared::{
    db::{
        advance::{self, NewStep, Planned},
        planning::{self, Unplanned},
        schedules,
    },
    domain::{RunStatus, RunTrigger},
    ids::RunId,
    jobs::RunPipeline,
    pipeline::{self, Event, EventKind, MrAction, Pipeline, Plan, Schedule},
    queue::{Claim, Ended, JobError, Signal},
    storage::keys,
};
use serde_json::Value;

use super::{Context, local_file, repository_key, secrets, stored};
use crate::{
    crash_point,
    git::{self, Commit, Mirror, Wanted},
};

/// The pipeline file, unless the pipeline names another.
const DEFAULT_FILE: &str = ".platform.yaml";

/// Bytes of a packed commit that is kept for other runs of it.
const KEPT_BYTES: u64 = 64 << 20;

/// Why a run gets no steps.
struct Unplannable {
    status: RunStatus,
    reason: String,
    diagnostics: Option<Value>,
}

pub(super) async fn run(cx: Arc<Context>, claim: Arc<Claim>, args: RunPipeline) -> Result<Ended, JobError> {
    let id = args.run_id;
    let run = planning::read(&cx.pool, id).await?.filter(|run| run.status == RunStatus::Pending);
    let Some(run) = run else { return Ok(claim.complete_alone(&[]).await?) };
    crash_point!("plan: before the fetch");
    let mirror = match fetch(&cx, &run, id).await? {
        Ok(mirror) => mirror,
        Err(refused) => {
            let end = Unplannable { status: RunStatus::Error, reason: refused, diagnostics: None };
            return end_without_steps(&cx, &claim, id, None, end).await;
        }
    };
    crash_point!("plan: after the fetch");
    match plan(&cx, &run, id, &mirror).await? {
        Ok(plan) => start(&cx, &claim, id, &run, &mirror, plan).await,
        Err(end) => end_without_steps(&cx, &claim, id, Some(&mirror.commit), end).await,
    }
}

/// The locked mirror, or why this commit can never be had.
async fn fetch(cx: &Context, run: &Unplanned, id: RunId) -> Result<Result<Mirror, String>, JobError> {
    let key = match repository_key::of(cx, run.project_id, &run.repository).await? {
        Ok(key) => key,
        Err(refused) => return Ok(Err(refused)),
    };
    let wanted = Wanted {
        project: run.project_id,
        repository: &run.repository,
        key: key.as_ref(),
        run: id,
        git_ref: &run.git_ref,
        sha: run.commit_sha.as_deref(),
    };
    match cx.repositories.fetch(wanted).await {
        Ok(mirror) => Ok(Ok(mirror)),
        Err(git::Error::Refused(reason)) => Ok(Err(reason)),
        Err(error) => Err(JobError::retry(error.to_string())),
    }
}

async fn plan(
    cx: &Context,
    run: &Unplanned,
    id: RunId,
    mirror: &Mirror,
) -> Result<Result<Plan, Unplannable>, JobError> {
    let skipped = |reason| Unplannable { status: RunStatus::Skipped, reason, diagnostics: None };
    let wrong = |reason, diagnostics| Unplannable { status: RunStatus::Error, reason, diagnostics };
    let (name, source) = match (&run.config, &run.file) {
        (Some(config), _) => (run.pipeline.clone(), config.clone().into_bytes()),
        (None, file) => {
            let file = file.as_deref().unwrap_or(DEFAULT_FILE);
            match mirror.file(file).await.map_err(|error| JobError::retry(error.to_string()))? {
                Some(source) => (file.to_owned(), source),
                None => {
                    let reason = format!("there is no {file} at this commit; add one, or name another in the pipeline");
                    return Ok(Err(match run.trigger {
                        RunTrigger::Push => skipped(reason),
                        _ => wrong(reason, None),
                    }));
                }
            }
        }
    };
    let pipeline: Pipeline = match pipeline::parse_bytes(&name, &source) {
        Ok(pipeline) => pipeline,
        Err(diagnostics) => {
            let reason = match diagnostics.as_slice() {
                [one] => format!("{name}:{}:{}: {}", one.line, one.column, one.message),
                [one, others @ ..] => {
                    format!("{name}:{}:{}: {} (and {} more)", one.line, one.column, one.message, others.len())
                }
                [] => format!("{name} cannot be read"),
            };
            return Ok(Err(wrong(reason, serde_json::to_value(&diagnostics).ok())));
        }
    };
    // What comes of this run does not matter: when the next ones start is in the file.
    if let Some(branch) = newest_of_branch(run) {
        let mut tx = cx.pool.begin().await?;
        schedules::take_over(&mut tx, run.pipeline_id, run.number, branch, schedules_of(&pipeline)).await?;
        tx.commit().await?;
    }
    let event = event_of(run);
    match pipeline::filters::admits(&pipeline, &event) {
        Err(reason) if !run.is_added => return Ok(Err(skipped(reason))),
        _ => {}
    }
    let context = pipeline::Context {
        project_id: run.project_id.to_string(),
        project_name: run.project.clone(),
        registry: cx.registry.clone(),
        sha: mirror.commit.sha.clone(),
        git_ref: run.git_ref.clone(),
        message: mirror.commit.message.clone(),
        author: mirror.commit.author.clone(),
        pipeline_id: run.pipeline_id.to_string(),
        pipeline_name: pipeline.name.clone().unwrap_or_else(|| run.pipeline.clone()),
        run_id: id.to_string(),
        run_number: i64::from(run.number),
        event,
        variables: run.variables.0.clone(),
    };
    let plan = match pipeline::plan(&pipeline, &context) {
        Ok(plan) => plan,
        Err(error) => return Ok(Err(wrong(error.to_string(), None))),
    };
    // Steps look again when they start: a secret may be gone by then.
    Ok(match secrets::missing(cx, run, &plan.steps).await? {
        Some(reason) => Err(wrong(reason, None)),
        None => Ok(plan),
    })
}

/// The branch whose newest commit this run is of, as far as it is known; those of stored configs tell nothing about it.
fn newest_of_branch(run: &Unplanned) -> Option<&str> {
    let newest = run.config.is_none() && (run.trigger == RunTrigger::Push || run.commit_sha.is_none());
    run.branch.as_deref().filter(|_| newest)
}

fn schedules_of(pipeline: &Pipeline) -> &[Schedule] {
    pipeline.on.as_ref().map_or(&[], |on| &on.schedule)
}

fn event_of(run: &Unplanned) -> Event {
    let kind = match run.trigger {
        RunTrigger::Push => EventKind::Push,
        RunTrigger::Mr => EventKind::Mr,
        RunTrigger::Schedule => EventKind::Schedule,
        RunTrigger::Api | RunTrigger::Manual => EventKind::Api,
    };
    let mut event = Event::at(kind, &run.git_ref);
    event.action = run.mr_action.as_deref().and_then(MrAction::parse);
    if run.branch.is_some() {
        event.branch.clone_from(&run.branch);
    }
    event
}

async fn start(
    cx: &Context,
    claim: &Claim,
    id: RunId,
    run: &Unplanned,
    mirror: &Mirror,
    plan: Plan,
) -> Result<Ended, JobError> {
    let checkout_key = keys::checkout(id);
    claim.may_act().await?;
    pack_commit(cx, mirror, run, &checkout_key).await?;
    crash_point!("plan: commit packed");
    let planned = planned(plan, &mirror.commit, checkout_key)?;
    let mut tx = cx.pool.begin().await?;
    let advanced = advance::plan_run(&mut tx, id, &planned).await?;
    crash_point!("plan: steps written, not committed");
    let ended = claim.complete(tx, &advanced.jobs).await?;
    crash_point!("plan: committed");
    let notifier = claim.member().notifier();
    for job in advanced.cancelled {
        notifier.send(Signal::Cancel(job));
    }
    notifier.send(Signal::Run(id));
    Ok(ended)
}

fn planned(plan: Plan, commit: &Commit, checkout_key: String) -> Result<Planned, JobError> {
    let json = |value: Result<Value, serde_json::Error>| {
        value.map_err(|error| JobError::fail(format!("the plan cannot be stored: {error}")))
    };
    let mut steps = Vec::with_capacity(plan.steps.len());
    for step in &plan.steps {
        steps.push(NewStep {
            name: step.name.clone(),
            image: step.image.clone(),
            plan: json(serde_json::to_value(step))?,
            depends_on: step.depends_on.clone(),
            allow_failure: step.allow_failure,
            retries: i32::try_from(step.retry).unwrap_or(i32::MAX),
            left_out: step.skipped.clone(),
        });
    }
    Ok(Planned {
        commit_sha: commit.sha.clone(),
        commit_message: commit.message.clone(),
        commit_author: commit.author.clone(),
        checkout_key,
        artifacts: json(serde_json::to_value(&plan.artifacts))?,
        concurrency: plan.concurrency.map(|group| (group.group, group.cancel_in_progress)),
        steps,
    })
}

async fn end_without_steps(
    cx: &Context,
    claim: &Claim,
    id: RunId,
    commit: Option<&Commit>,
    end: Unplannable,
) -> Result<Ended, JobError> {
    let mut tx = cx.pool.begin().await?;
    if let Some(commit) = commit {
        advance::note_commit(&mut tx, id, &commit.sha, &commit.message, &commit.author).await?;
    }
    let jobs = advance::end_unplanned(&mut tx, id, end.status, &end.reason, end.diagnostics.as_ref()).await?;
    let ended = claim.complete(tx, &jobs).await?;
    claim.member().notifier().send(Signal::Run(id));
    Ok(ended)
}

/// Stores the commit once as a checkout with its `.git`: a step needs neither git nor the repository's credentials. Runs of
/// one commit that come soon after each other share the packing.
async fn pack_commit(cx: &Context, mirror: &Mirror, run: &Unplanned, key: &str) -> Result<(), JobError> {
    let io = |error: io::Error| JobError::retry(format!("the commit cannot be packed: {error}"));
    let branch = run.branch.as_deref();
    let name = format!("packed/{}/{}/{}", run.project_id, mirror.commit.sha, branch.unwrap_or_default());
    if let Some(archive) = local_file::kept(&cx.scratch, &name).await.map_err(io)? {
        cx.storage.put_file(key, &archive).await.map_err(stored("the packed commit"))?;
        return Ok(());
    }
    let folder = tempfile::tempdir_in(&cx.scratch).map_err(io)?;
    let checkout = folder.path().join("checkout");
    mirror.check_out(&checkout, branch).await.map_err(|error| JobError::retry(error.to_string()))?;
    let archive = folder.path().join("checkout.tar.zst");
    let (from, to) = (checkout, archive.clone());
    tokio::task::spawn_blocking(move || pack_folder(&from, &to))
        .await
        .map_err(|error| JobError::retry(error.to_string()))?
        .map_err(io)?;
    let (size, _) = cx.storage.put_file(key, &archive).await.map_err(stored("the packed commit"))?;
    if size <= KEPT_BYTES
        && let Err(error) = local_file::keep(&cx.scratch, &name, archive).await
    {
        tracing::warn!(%error, "a packed commit cannot be kept; the next run of it packs it again");
    }
    // The folder can be large; nobody needs to wait until it is gone.
    tokio::task::spawn_blocking(move || drop(folder));
    Ok(())
}

fn pack_folder(folder: &Path, archive: &Path) -> io::Result<()> {
    let encoder = zstd::Encoder::new(BufWriter::new(File::create(archive)?), 1)?;
    let mut tar = tar::Builder::new(encoder);
    tar.follow_symlinks(false);
    tar.append_dir_all(".", folder)?;
    tar.into_inner()?.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?;
    Ok(())
}
