//! SIGTERM, outside of the commands.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::net::Client;

/// Whether a stop was asked for, and what becomes of what is going on then.
#[derive(Debug)]
pub(crate) struct Stop {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    requested: Option<Instant>,
    phase: Phase,
}

/// What a stop does.
#[derive(Debug)]
pub(super) enum Phase {
    /// The attempt has not begun: the process exits with this code.
    Waiting(u8),
    /// The requests of this client are broken off.
    Fetching(Client),
    /// Whoever is at work asks for himself.
    Working,
}

impl Stop {
    /// From here on no signal is missed.
    pub(super) fn listen(phase: Phase) -> io::Result<Arc<Stop>> {
        let (mut signals, write) = UnixStream::pair()?;
        for signal in [Signal::TERM, Signal::INT] {
            signal_hook::low_level::pipe::register(signal.as_raw(), write.try_clone()?)?;
        }
        let stop = Arc::new(Stop { state: Mutex::new(State { requested: None, phase }), changed: Condvar::new() });
        let listening = Arc::clone(&stop);
        std::thread::Builder::new().name("stop".to_owned()).spawn(move || {
            while signals.read_exact(&mut [0]).is_ok() {
                listening.request();
            }
        })?;
        Ok(stop)
    }

    /// When it was asked for first.
    pub(crate) fn requested(&self) -> Option<Instant> {
        self.state().requested
    }

    /// Waits, but not on when a stop is asked for meanwhile.
    pub(crate) fn pause(&self, time: Duration) {
        let state = self.state();
        let before = state.requested;
        let _ = self.changed.wait_timeout_while(state, time, |state| state.requested == before);
    }

    /// What a stop does from here on.
    pub(super) fn enter(&self, phase: Phase) {
        let mut state = self.state();
        state.phase = phase;
        if state.requested.is_some() {
            state.act();
        }
    }

    fn request(&self) {
        let mut state = self.state();
        if state.requested.is_none() {
            state.requested = Some(Instant::now());
            self.changed.notify_all();
            state.act();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn act(&mut self) {
        match std::mem::replace(&mut self.phase, Phase::Working) {
            Phase::Waiting(code) => std::process::exit(code.into()),
            Phase::Fetching(client) => client.shut_down(),
            Phase::Working => {}
        }
    }
}
