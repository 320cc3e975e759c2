//! `buildit watch`.

use super::{
    arguments,
    error::Error,
    find,
    live::{self, Logs, Shown},
    model::Run,
    print,
    server::Server,
};
use crate::exit::{Exit, Problem};

pub(super) async fn run(server: &Server, arguments: arguments::Watch) -> Result<Exit, Problem> {
    let id = find::run_id(server, &arguments.name).await?;
    let logs = if arguments.logs { Logs::New } else { Logs::Single };
    watch(server, &id, Shown { states: true, logs, fresh: false, json: arguments.format.json }).await
}

/// Shows a run until it has ended; the exit code tells how it did.
pub(super) async fn watch(server: &Server, id: &str, shown: Shown) -> Result<Exit, Problem> {
    let run: Run = server.get(&["runs", id], &[]).await.map_err(Error::problem)?;
    if !shown.json {
        let commit = if run.commit_sha.is_some() { format!(" at {}", run.short_sha()) } else { String::new() };
        print::line(&format!("run {}, {}{commit}: {}", run.title(), run.short_ref(), run.url))?;
    }
    let ended = tokio::select! {
        ended = live::follow(server, id, shown) => ended?,
        _ = tokio::signal::ctrl_c() => {
            eprintln!("\nbuildit: the watch has ended, and run {} goes on. Watch on: buildit watch {id}; end it: buildit cancel {id}", run.title());
            return Ok(Exit::Interrupted);
        }
    };
    if !shown.json {
        let took = ended.duration_ms.map_or(String::new(), |took| format!(" after {}", print::duration(took)));
        let reason = ended.reason.as_deref().map_or(String::new(), |reason| format!(": {}", print::tame(reason, 1000)));
        print::line(&format!("run {}: {}{took}{reason}", ended.title(), ended.status.name()))?;
    }
    Ok(ended.status.into())
}
