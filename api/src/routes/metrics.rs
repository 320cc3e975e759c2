//! Figures for Prometheus: this process's own, and what the database knows of the fleet.
//!
//! The second kind is read on demand and kept for a few seconds, so that scraping more often costs nothing more.

use std::{
    fmt::Write,
    time::{Duration, Instant},
};

use axum::{extract::State, http::header, response::IntoResponse};
use buildit_shared::db::{attempts_ahead, fleet};
use sqlx::PgPool;

use crate::{App, error::Result};

const FRESH: Duration = Duration::from_secs(5);

/// What was last read of the fleet.
pub(crate) type Cache = tokio::sync::Mutex<Option<(Instant, String)>>;

/// `GET /metrics`
pub(crate) async fn metrics(State(app): State<App>) -> Result<impl IntoResponse> {
    let mut text = app.config.metrics.as_ref().map(|own| own.render()).unwrap_or_default();
    let mut cache = app.fleet_metrics.lock().await;
    match &*cache {
        Some((read, fleet)) if read.elapsed() < FRESH => text.push_str(fleet),
        _ => {
            let fleet = of_fleet(app.pool()).await?;
            text.push_str(&fleet);
            *cache = Some((Instant::now(), fleet));
        }
    }
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text))
}

async fn of_fleet(pool: &PgPool) -> Result<String> {
    let mut text = Figures::default();
    text.family("buildit_queue_jobs", "Live jobs by queue, kind and state.");
    let depths = fleet::depths(pool).await?;
    for depth in &depths {
        let labels = [("queue", &*depth.queue), ("kind", &*depth.kind), ("state", &*depth.state)];
        text.figure("buildit_queue_jobs", &labels, depth.jobs as f64);
    }
    text.family("buildit_queue_oldest_ready_seconds", "How long the oldest ready job has been due.");
    for depth in depths.iter().filter(|depth| depth.state == "ready") {
        let labels = [("queue", &*depth.queue), ("kind", &*depth.kind)];
        text.figure("buildit_queue_oldest_ready_seconds", &labels, depth.oldest_seconds);
    }
    text.family("buildit_queue_ended_last_minute", "Jobs that ended in the last minute, by kind and end.");
    for ended in fleet::ends_of_the_last_minute(pool).await? {
        let labels = [("kind", &*ended.kind), ("end", &*ended.end)];
        text.figure("buildit_queue_ended_last_minute", &labels, ended.jobs as f64);
    }
    let (alive, draining) = fleet::workers_at_work(pool).await?;
    text.family("buildit_workers", "Workers at work, by state.");
    text.figure("buildit_workers", &[("state", "alive")], alive as f64);
    text.figure("buildit_workers", &[("state", "draining")], draining as f64);
    text.family("buildit_open_log_bytes", "Bytes of logs of steps at work.");
    text.figure("buildit_open_log_bytes", &[], fleet::open_log_bytes(pool).await? as f64);
    let ahead = attempts_ahead::waiting(pool).await?;
    text.family("buildit_ahead_attempts", "Steps' pods that were started before their turn and wait for it.");
    text.figure("buildit_ahead_attempts", &[], ahead.attempts as f64);
    text.family("buildit_ahead_reserved_cores", "Cores that those reserve.");
    text.figure("buildit_ahead_reserved_cores", &[], ahead.cpu_millis as f64 / 1000.0);
    text.family("buildit_ahead_reserved_bytes", "Bytes of memory that those reserve.");
    text.figure("buildit_ahead_reserved_bytes", &[], ahead.memory_bytes as f64);
    Ok(text.0)
}

/// Text in Prometheus' format.
#[derive(Default)]
struct Figures(String);

impl Figures {
    fn family(&mut self, name: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} gauge");
    }

    fn figure(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        let escape = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let labels: Vec<_> = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escape(value))).collect();
        let _ = match labels.is_empty() {
            true => writeln!(self.0, "{name} {value}"),
            false => writeln!(self.0, "{name}{{{}}} {value}", labels.join(",")),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_cannot_break_out_of_its_line() {
        let mut text = Figures::default();
        text.family("a", "An example.");
        text.figure("a", &[("b", "x\"}\n\\"), ("c", "y")], 1.5);
        text.figure("a", &[], 2.0);
        assert_eq!(text.0, "# HELP a An example.\n# TYPE a gauge\na{b=\"x\\\"}\\n\\\\\",c=\"y\"} 1.5\na 2\n");
    }
}
