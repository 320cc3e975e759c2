//! History is pruned by time, in small batches: no long transaction, no lock that a claim could wait for.

use sqlx::PgPool;

/// Turns scheduled jobs that are due ready, and returns their queues.
pub async fn promote(pool: &PgPool) -> Result<Vec<String>, sqlx::Error> {
    let mut queues = sqlx::query_scalar!(
        r#"
        update jobs set state = 'ready'
        where id in (select id from jobs where state = 'scheduled' and run_at <= now()
                     order by run_at limit 1000 for update skip locked)
        returning queue
        "#
    )
    .fetch_all(pool)
    .await?;
    queues.sort_unstable();
    queues.dedup();
    Ok(queues)
}

/// Deletes history, errors and workers older than `days`; returns how many history rows went.
pub async fn prune(pool: &PgPool, days: i32) -> Result<u64, sqlx::Error> {
    let mut total = 0;
    loop {
        let pruned = sqlx::query!(
            r#"
            delete from job_history where id in (
                select id from job_history where ended_at < now() - $1::int * interval '1 day'
                order by ended_at limit 5000)
            "#,
            days
        )
        .execute(pool)
        .await?
        .rows_affected();
        total += pruned;
        if pruned == 0 {
            break;
        }
    }
    sqlx::query!("delete from job_errors where happened_at < now() - $1::int * interval '1 day'", days)
        .execute(pool)
        .await?;
    sqlx::query!("delete from workers where ended_at < now() - $1::int * interval '1 day'", days).execute(pool).await?;
    Ok(total)
}
