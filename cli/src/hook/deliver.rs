//! Emptying the spool, now or as soon as the server is there.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::repository::Repository;
use super::spool::{Purpose, Spool, Spooled};
use super::transport::{Answer, Run, Server};
use super::{printable, say};
use crate::arguments::Deliver;
use crate::exit::{Exit, Problem};

/// How long another deliverer is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// Between two attempts in the background.
const FIRST_DELAY: Duration = Duration::from_secs(1);
const LONGEST_DELAY: Duration = Duration::from_secs(60);

/// What became of the spool.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Nothing is left in it.
    Empty,
    /// Something is, for this reason.
    Left(String),
}

pub(crate) fn run(arguments: &Deliver) -> Result<Exit, Problem> {
    let repository = Repository::open(&arguments.repository).map_err(Problem::usage)?;
    let spool = Spool::open(repository.spool()).context("cannot open the spool")?;
    if arguments.background {
        in_background(&repository, &spool)?;
        return Ok(Exit::Success);
    }
    if arguments.refused {
        spool.restore_refused().context("cannot take up the refused ones")?;
    }
    match deliver(&repository, &spool, None, &|_, told| say(told))? {
        Outcome::Empty => Ok(Exit::Success),
        Outcome::Left(reason) => Err(Problem::unreachable(anyhow::anyhow!(reason))),
    }
}

/// Delivers what waits, in order, until the spool is empty, the server is away, or time is up.
/// `tell` gets what became of each.
pub(crate) fn deliver(
    repository: &Repository,
    spool: &Spool,
    until: Option<Instant>,
    tell: &dyn Fn(&Spooled, &str),
) -> Result<Outcome> {
    if spool.is_empty()? {
        return Ok(Outcome::Empty);
    }
    let Some(_lock) = spool.lock(Purpose::Deliver, PATIENCE)? else {
        return Ok(Outcome::Left("another push is being announced".to_owned()));
    };
    let server = Server::new(&repository.target()?, repository.key()?)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(send_all(&server, spool, until, tell));
    // A name that is still being looked up must not keep the push waiting.
    runtime.shutdown_background();
    outcome
}

async fn send_all(
    server: &Server,
    spool: &Spool,
    until: Option<Instant>,
    tell: &dyn Fn(&Spooled, &str),
) -> Result<Outcome> {
    loop {
        let waiting = spool.waiting()?;
        if waiting.is_empty() {
            return Ok(Outcome::Empty);
        }
        for spooled in waiting {
            if until.is_some_and(|until| Instant::now() > until) {
                return Ok(Outcome::Left("the server is slow".to_owned()));
            }
            match server.send(&spooled.delivery).await {
                Answer::Taken(runs) => {
                    spool.done(&spooled)?;
                    told(&runs).iter().for_each(|line| tell(&spooled, line));
                }
                Answer::Refused(answer) => {
                    spool.refused(&spooled, &answer)?;
                    tell(&spooled, &format!("{} was refused: {answer}", spooled.delivery.git_ref));
                }
                Answer::Unavailable(reason) => return Ok(Outcome::Left(reason)),
            }
        }
    }
}

fn told(runs: &[Run]) -> Vec<String> {
    let of_run = |run: &Run| match run.status.as_str() {
        "skipped" | "error" => format!("run #{} {} ({})", run.number, run.url, run.status),
        _ => format!("run #{} {}", run.number, run.url),
    };
    runs.iter().map(|run| printable(&of_run(run))).collect()
}

/// Leaves the rest of the spool to a process that outlives the push.
pub(crate) fn go_on_in_background(repository: &Repository) -> Result<()> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(["hook", "deliver", "--background"])
        .arg(repository.path())
        .current_dir("/")
        // Git waits until nobody holds the hook's output any more.
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    // Git has set them for this push only.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("GIT_") {
            command.env_remove(name);
        }
    }
    command.spawn().context("cannot start a process in the background")?;
    Ok(())
}

fn in_background(repository: &Repository, spool: &Spool) -> Result<()> {
    // The end of the pusher's session must not end this process. It fails in a session's leader, which
    // a process that the hook has started is not.
    rustix::process::setsid().ok();
    // A push that came while we were about to leave saw our lock and left its deliveries to us.
    while !spool.is_empty()? {
        let Some(_lock) = spool.lock(Purpose::Background, Duration::ZERO)? else {
            return Ok(());
        };
        let mut delay = FIRST_DELAY;
        while let Outcome::Left(_) = deliver(repository, spool, None, &|_, _| {})? {
            std::thread::sleep(delay.mul_f64(rand::random_range(0.5..1.0)));
            delay = LONGEST_DELAY.min(delay * 2);
        }
    }
    Ok(())
}
