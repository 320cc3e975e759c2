//! Deletes objects that nothing names any more: those of deleted runs, what an old run's steps staged for each other,
//! expired artifacts, and uploads that nobody completes.
//!
//! A note in the database says which; the objects go, then the note. A crash in between leaves the note, and whoever comes
//! next deletes once more.

use std::collections::HashSet;

use buildit_shared::{
    db::{
        leftovers::{self, Leftover, Verdict, What},
        uploads,
    },
    storage::{self, Storage, keys},
};
use sqlx::PgPool;

/// Why a sweep broke off. What it did stays done, and the next one goes on.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// The notes could not be read or written.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    /// Objects could not be deleted; their note is put behind the others.
    #[error("objects of run {run} cannot be deleted: {source}")]
    Storage {
        /// The run that left them.
        run: buildit_shared::ids::RunId,
        /// What the store said.
        source: storage::Error,
    },
    /// Uploads that nobody completes could not be given up.
    #[error("uploads that nobody completes cannot be given up: {0}")]
    Uploads(#[from] storage::Error),
}

/// Notes what is due (the inputs of runs that ended more than `outputs_days` ago, expired artifacts) and deletes all that
/// is noted. Several workers may do it at once.
pub async fn sweep_objects(pool: &PgPool, storage: &Storage, outputs_days: i32) -> Result<(), SweepError> {
    while leftovers::note_inputs(pool, outputs_days).await? > 0 {}
    while leftovers::note_expired(pool).await? > 0 {}
    let (mut deleted, mut put_off) = (0, HashSet::new());
    let mut tx = pool.begin().await?;
    while let Some(leftover) = leftovers::take(&mut tx).await?.filter(|leftover| !put_off.contains(&leftover.id)) {
        match leftovers::judge(&mut tx, &leftover).await? {
            Verdict::Keep => leftovers::forget(&mut tx, &leftover).await?,
            Verdict::Wait => {
                tx.rollback().await?;
                leftovers::put_off(pool, &leftover).await?;
                put_off.insert(leftover.id);
                tx = pool.begin().await?;
                continue;
            }
            Verdict::Delete => {
                if let Err(source) = delete(storage, &leftover).await {
                    tx.rollback().await?;
                    leftovers::put_off(pool, &leftover).await?;
                    return Err(SweepError::Storage { run: leftover.run, source });
                }
                leftovers::forget(&mut tx, &leftover).await?;
                deleted += 1;
            }
        }
        tx.commit().await?;
        tx = pool.begin().await?;
    }
    if deleted > 0 {
        tracing::info!(deleted, "deleted objects that nothing names any more");
    }
    Ok(())
}

/// Gives up what runners began to store and did not complete before their attempts ended.
pub async fn sweep_uploads(pool: &PgPool, storage: &Storage) -> Result<(), SweepError> {
    loop {
        let abandoned = uploads::abandoned(pool).await?;
        if abandoned.is_empty() {
            return Ok(storage.sweep_uploads().await?);
        }
        for upload in abandoned {
            if let Some(id) = &upload.id {
                storage.abort_upload(&upload.key, id).await?;
            }
            uploads::forget(pool, &upload).await?;
        }
    }
}

async fn delete(storage: &Storage, leftover: &Leftover) -> Result<(), storage::Error> {
    match &leftover.what {
        What::Artifact(key) => storage.delete(key).await,
        What::Inputs => delete_inputs(storage, leftover).await,
        What::Everything => {
            delete_inputs(storage, leftover).await?;
            storage.delete_all(&keys::artifacts(leftover.run)).await?;
            storage.delete_all(&keys::logs(leftover.run)).await
        }
    }
}

async fn delete_inputs(storage: &Storage, leftover: &Leftover) -> Result<(), storage::Error> {
    storage.delete(&keys::checkout(leftover.run)).await?;
    storage.delete_all(&keys::staged(leftover.run)).await
}
