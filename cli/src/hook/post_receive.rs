//! `buildit hook post-receive`: what git calls after a push. It never fails one.

use std::io;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use uuid::Uuid;

use super::deliver::{Outcome, deliver, go_on_in_background};
use super::repository::Repository;
use super::say;
use super::spool::{Delivery, Spool};
use super::update::{self, Update};
use crate::exit::Exit;

/// How many refs of one push are announced. `git push --mirror` of a whole history is no reason for
/// a thousand runs.
const MOST_REFS: usize = 20;

/// What a push waits for the server, all in all.
const LIMIT: Duration = Duration::from_secs(5);

pub(crate) fn run() -> Exit {
    if let Err(error) = announce() {
        say(&format!("this push is not announced: {error:#}"));
    }
    Exit::Success
}

fn announce() -> Result<()> {
    let begun = Instant::now();
    let mut updates = update::read(io::stdin().lock())?;
    updates.retain(Update::makes_runs);
    if updates.len() > MOST_REFS {
        say(&format!(
            "of {} refs only the first {MOST_REFS} are announced; start the other runs by hand, or push in smaller portions",
            updates.len()
        ));
        updates.truncate(MOST_REFS);
    }
    let repository = Repository::of_hook()?;
    let deliveries: Vec<Delivery> = updates.iter().filter_map(delivery).collect();
    let spool = Spool::open(repository.spool())
        .and_then(|spool| spool.add(&deliveries).map(|()| spool))
        .with_context(|| format!("cannot keep it in {}", repository.spool().display()))?;

    let outcome = deliver(&repository, &spool, Some(begun + LIMIT), &|spooled, told| {
        if deliveries.iter().any(|own| own.delivery == spooled.delivery.delivery) {
            say(told);
        } else {
            say(&format!("{told} (an earlier push of {})", spooled.delivery.git_ref));
        }
    });
    let reason = match outcome {
        Ok(Outcome::Empty) => return Ok(()),
        Ok(Outcome::Left(reason)) => reason,
        Err(error) => format!("{error:#}"),
    };
    say(&format!("the push is kept and will be announced later ({reason})"));
    go_on_in_background(&repository)
}

/// A tag is announced by the commit it stands for; one that stands for none makes no run.
fn delivery(update: &Update) -> Option<Delivery> {
    let after = match update.is_tag() {
        true => update::commit_of(&update.new)?,
        false => update.new.clone(),
    };
    Some(Delivery { delivery: Uuid::now_v7(), git_ref: update.git_ref.clone(), before: update.old.clone(), after })
}
