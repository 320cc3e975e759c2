//! Trying again, and when to give up.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Failed, chance};
use crate::pod::Stop;

/// The first pause between two tries, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// How often a refusal is answered with another try, where a fresh address may help.
const MOST_REFUSALS: u32 = 4;

/// Counts what the storage refuses: a presigned address may have expired on its way, and the next one
/// is asked for anew.
#[derive(Debug, Default)]
pub(crate) struct Refusals(u32);

impl Refusals {
    /// A refusal that may be followed by another try, unless there were too many.
    pub(crate) fn forgive(&mut self, failed: Failed) -> Failed {
        match failed {
            Failed::Refused { status, message } if self.0 < MOST_REFUSALS => {
                self.0 += 1;
                Failed::Again(format!("status {status}: {message}"))
            }
            failed => failed,
        }
    }
}

/// How long to go on trying.
#[derive(Debug, Clone)]
pub(crate) struct Patience {
    until: Instant,
    stop: Arc<Stop>,
    after_stop: Duration,
}

/// The last thing that was wrong.
#[derive(Debug)]
pub(crate) enum GivenUp {
    /// There is no time left.
    Late(String),
    /// No use to try again.
    Refused {
        /// The HTTP status.
        status: u16,
        /// What the server says, for people.
        message: String,
    },
}

impl std::fmt::Display for GivenUp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            GivenUp::Late(message) => f.write_str(message),
            GivenUp::Refused { status, message } => write!(f, "status {status}: {message}"),
        }
    }
}

impl Patience {
    /// For `limit`, but no longer than `after_stop` once a stop was asked for.
    pub(crate) fn new(limit: Duration, stop: &Arc<Stop>, after_stop: Duration) -> Patience {
        Patience { until: Instant::now() + limit, stop: Arc::clone(stop), after_stop }
    }

    /// How much is left.
    pub(crate) fn left(&self) -> Duration {
        let until = match self.stop.requested() {
            Some(at) => self.until.min(at + self.after_stop),
            None => self.until,
        };
        until.saturating_duration_since(Instant::now())
    }

    /// Waits, until a stop at most.
    pub(crate) fn rest(&self, time: Duration) {
        self.stop.pause(time);
    }

    /// Whether a stop was asked for.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.requested().is_some()
    }

    /// Tries until it works, is refused, or the time is over. Each try is told how long it may take.
    pub(crate) fn insist<T>(&self, mut attempt: impl FnMut(Duration) -> Result<T, Failed>) -> Result<T, GivenUp> {
        let mut pause = PAUSES.0;
        loop {
            // A first try is made in any case.
            let message = match attempt(self.left().max(PAUSES.0)) {
                Ok(done) => return Ok(done),
                Err(Failed::Refused { status, message }) => return Err(GivenUp::Refused { status, message }),
                Err(Failed::Again(message)) => message,
            };
            let jittered = jittered(pause);
            if self.left() <= jittered {
                return Err(GivenUp::Late(message));
            }
            self.stop.pause(jittered);
            pause = (pause * 2).min(PAUSES.1);
        }
    }
}

/// Between half of it and all of it: what failed for many at once is not tried by all at once.
fn jittered(pause: Duration) -> Duration {
    let share = chance().map_or(u8::MAX, |[byte]| byte);
    pause / 2 + pause * u32::from(share) / (2 * u32::from(u8::MAX))
}
