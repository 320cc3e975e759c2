//! Objects that nothing names any more: noted in the transaction that takes their name away, swept later.

use sqlx::PgPool;

use super::advance::Tx;
use crate::ids::RunId;

/// Which objects are left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// All of a run that was deleted.
    Everything,
    /// An ended run's packed commit and what its steps staged for each other.
    Inputs,
    /// One published file that expired: its key.
    Artifact(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::Type)]
#[sqlx(type_name = "leftover_kind", rename_all = "lowercase")]
enum Kind {
    Everything,
    Inputs,
    Artifact,
}

/// A note of objects to delete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leftover {
    /// Its number.
    pub id: i64,
    /// The run that left them.
    pub run: RunId,
    /// Which they are.
    pub what: What,
}

/// Notes the inputs of runs that ended more than `days` ago; from now on their steps cannot be retried. Returns of how
/// many, a thousand at most.
pub async fn note_inputs(pool: &PgPool, days: i32) -> Result<u64, sqlx::Error> {
    let noted = sqlx::query!(
        r#"
        with due as (
            select id from pipeline_runs
            where finished_at < now() - $1::int * interval '1 day' and inputs_deleted_at is null
            order by finished_at limit 1000 for update skip locked
        ),
        marked as (
            update pipeline_runs r set inputs_deleted_at = now() from due where r.id = due.id returning r.id
        )
        insert into leftovers (run_id, kind) select id, 'inputs' from marked
        "#,
        days
    )
    .execute(pool)
    .await?;
    Ok(noted.rows_affected())
}

/// Takes expired files of ended runs out of their artifacts and notes their objects. Returns how many, a thousand at most.
pub async fn note_expired(pool: &PgPool) -> Result<u64, sqlx::Error> {
    let noted = sqlx::query!(
        r#"
        with due as (
            select a.id from artifacts a join pipeline_runs r on r.id = a.run_id
            where a.expires_at < now() and r.finished_at is not null
            order by a.expires_at limit 1000 for update of a skip locked
        ),
        gone as (
            delete from artifacts a using due where a.id = due.id returning a.run_id, a.storage_key
        )
        insert into leftovers (run_id, kind, storage_key) select run_id, 'artifact', storage_key from gone
        "#
    )
    .execute(pool)
    .await?;
    Ok(noted.rows_affected())
}

/// The note that waited longest, locked until the transaction ends; one that somebody else works on is left out.
pub async fn take(tx: &mut Tx<'_>) -> Result<Option<Leftover>, sqlx::Error> {
    let row = sqlx::query!(
        r#"select id, run_id as "run_id: RunId", kind as "kind: Kind", storage_key from leftovers
           order by noted_at, id limit 1 for update skip locked"#
    )
    .fetch_optional(&mut **tx)
    .await?;
    Ok(row.map(|row| {
        let what = match (row.kind, row.storage_key) {
            (Kind::Everything, _) => What::Everything,
            (_, Some(key)) => What::Artifact(key),
            (_, None) => What::Inputs,
        };
        Leftover { id: row.id, run: row.run_id, what }
    }))
}

/// What is to be done about a leftover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing names these objects, and nothing will before the transaction ends.
    Delete,
    /// A retry of the run made them anew: the note is out of date.
    Keep,
    /// The run is at work again; it is known once it has ended.
    Wait,
}

/// Judges a leftover by its run, which cannot start again before the transaction ends.
pub async fn judge(tx: &mut Tx<'_>, leftover: &Leftover) -> Result<Verdict, sqlx::Error> {
    let run = sqlx::query!(
        r#"select finished_at is not null as "ended!", inputs_deleted_at is not null as "inputs_deleted!"
           from pipeline_runs where id = $1 for share"#,
        leftover.run.uuid()
    )
    .fetch_optional(&mut **tx)
    .await?;
    let Some(run) = run else { return Ok(Verdict::Delete) };
    if !run.ended {
        return Ok(Verdict::Wait);
    }
    let named = match &leftover.what {
        What::Everything => true,
        What::Inputs => !run.inputs_deleted,
        What::Artifact(key) => {
            sqlx::query_scalar!(
                r#"select exists (select from artifacts where run_id = $1 and storage_key = $2) as "named!""#,
                leftover.run.uuid(),
                key
            )
            .fetch_one(&mut **tx)
            .await?
        }
    };
    Ok(if named { Verdict::Keep } else { Verdict::Delete })
}

/// Its objects are gone: the note goes too.
pub async fn forget(tx: &mut Tx<'_>, leftover: &Leftover) -> Result<(), sqlx::Error> {
    sqlx::query!("delete from leftovers where id = $1", leftover.id).execute(&mut **tx).await?;
    Ok(())
}

/// Puts it behind all others.
pub async fn put_off(pool: &PgPool, leftover: &Leftover) -> Result<(), sqlx::Error> {
    sqlx::query!("update leftovers set noted_at = now() where id = $1", leftover.id).execute(pool).await?;
    Ok(())
}
