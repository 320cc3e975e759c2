//! Turns staged archives into published files.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use buildit_runner::{Report, unpack};
use buildit_shared::{
    db::{advance::NewArtifact, attempts},
    domain::RunStatus,
    ids::{AttemptId, RunId},
    pipeline::{Artifact, Publish},
    queue::JobError,
    storage::keys,
};

use super::{Context, local_file::local_file, stored};

/// How long an artifact is kept whose file does not say.
const DEFAULT_EXPIRY_MS: i64 = 30 * 24 * 3600 * 1000;

/// What was published.
pub(super) struct Published {
    pub(super) artifacts: Vec<NewArtifact>,
    /// What the run's readers should know.
    pub(super) notes: Vec<String>,
}

/// Publishes the artifacts that are due after a run that ended so. Where two steps staged the same path the later wins.
pub(super) async fn publish(
    cx: &Context,
    run: RunId,
    outcome: RunStatus,
    declared: &[Artifact],
) -> Result<Published, JobError> {
    let mut published = Published { artifacts: Vec::new(), notes: Vec::new() };
    let reports = attempts::reports_of_run(&cx.pool, run).await?;
    let reports: Vec<(String, AttemptId, Report)> = reports
        .into_iter()
        .filter_map(|(step, _, attempt, report)| Some((step, attempt, serde_json::from_value(report?).ok()?)))
        .collect();
    for (step, _, report) in &reports {
        published.notes.extend(report.notes.iter().map(|note| format!("step `{step}`: {note}")));
    }
    for artifact in declared.iter().filter(|artifact| is_due(artifact, outcome)) {
        let mut files: BTreeMap<String, (String, NewArtifact)> = BTreeMap::new();
        for (step, attempt, report) in &reports {
            if !report.artifacts.iter().any(|staged| staged.name == artifact.name && staged.matched()) {
                continue;
            }
            let archive = keys::artifact(run, *attempt, &artifact.name);
            for file in unpack_and_store(cx, run, artifact, &archive).await? {
                let path = file.path.clone();
                if let Some((earlier, _)) = files.insert(path.clone(), (step.clone(), file)) {
                    published.notes.push(format!(
                        "artifact `{}`: {path} was staged by step `{earlier}` and again by step `{step}`; the later one is kept",
                        artifact.name
                    ));
                }
            }
        }
        if files.is_empty() {
            published
                .notes
                .push(format!("artifact `{}`: nothing matched {} in any step", artifact.name, artifact.path));
        }
        published.artifacts.extend(files.into_values().map(|(_, file)| file));
    }
    Ok(published)
}

fn is_due(artifact: &Artifact, outcome: RunStatus) -> bool {
    match artifact.when {
        Publish::Always => true,
        Publish::Success => outcome == RunStatus::Success,
        Publish::Failure => outcome != RunStatus::Success,
    }
}

async fn unpack_and_store(
    cx: &Context,
    run: RunId,
    artifact: &Artifact,
    archive: &str,
) -> Result<Vec<NewArtifact>, JobError> {
    let io = |error: std::io::Error| JobError::retry(format!("an artifact cannot be read: {error}"));
    let packed = local_file(cx, archive).await?;
    tokio::fs::create_dir_all(&cx.scratch).await.map_err(io)?;
    let folder = tempfile::tempdir_in(&cx.scratch).map_err(io)?;
    let into = folder.path().to_owned();
    let found = tokio::task::spawn_blocking(move || unpack_all(&packed, &into))
        .await
        .map_err(|error| JobError::retry(error.to_string()))??;
    let mut files = Vec::with_capacity(found.len());
    for path in found {
        let key = keys::published(run, &artifact.name, &path);
        let (size, checksum) =
            cx.storage.put_file(&key, &folder.path().join(&path)).await.map_err(stored("an artifact"))?;
        files.push(NewArtifact {
            name: artifact.name.clone(),
            content_type: mime_guess::from_path(&path).first_or_octet_stream().to_string(),
            path,
            size: i64::try_from(size).unwrap_or(i64::MAX),
            sha256: checksum.to_string(),
            storage_key: key,
            expires_in_ms: Some(
                artifact.expires.map_or(DEFAULT_EXPIRY_MS, |time| i64::try_from(time.as_millis()).unwrap_or(i64::MAX)),
            ),
        });
    }
    Ok(files)
}

/// Unpacks with all of the archive's entries checked, and lists the paths of the regular files.
fn unpack_all(archive: &Path, into: &Path) -> Result<Vec<String>, JobError> {
    let io = |error: std::io::Error| JobError::retry(format!("an artifact cannot be read: {error}"));
    unpack::unpack(archive, into, None, &unpack::Limits::default(), &mut || false)
        .map_err(|error| JobError::fail(format!("a staged artifact is not acceptable: {error}")))?;
    let mut files = Vec::new();
    let mut folders: Vec<PathBuf> = vec![into.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).map_err(io)? {
            let entry = entry.map_err(io)?;
            let kind = entry.file_type().map_err(io)?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                let path = entry.path();
                let Some(name) = path.strip_prefix(into).ok().and_then(Path::to_str) else { continue };
                files.push(name.to_owned());
            }
        }
    }
    files.sort_unstable();
    Ok(files)
}
