//! The servers of `./dev cluster up` themselves, which a test may freeze and kill while it is alone with them.

use std::{env, fs, path::Path, process::Command};

use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

static DAEMONS: RwLock<()> = RwLock::const_new(());

/// What a test holds that uses the servers.
#[derive(Debug)]
pub enum Use {
    /// As others do; nobody takes them away meanwhile.
    Shared(RwLockReadGuard<'static, ()>),
    /// Nobody else.
    Alone(RwLockWriteGuard<'static, ()>),
}

impl Use {
    /// Waits until nobody is alone with them.
    pub async fn shared() -> Self {
        Self::Shared(DAEMONS.read().await)
    }

    /// Waits until nobody uses them.
    pub async fn alone() -> Self {
        Self::Alone(DAEMONS.write().await)
    }
}

/// A server that does not answer until this is dropped.
#[derive(Debug)]
pub struct Frozen(Pid);

/// Stops a server, by the name that `./dev cluster status` has for it.
///
/// # Panics
/// When it does not run.
pub fn freeze(name: &str) -> Frozen {
    let pid = pid(name);
    kill_process(pid, Signal::STOP).expect("the server is ours");
    Frozen(pid)
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::CONT);
    }
}

/// A server that is gone until this is dropped.
#[derive(Debug)]
pub struct Killed {
    part: &'static str,
}

/// Kills a server of the part.
///
/// # Panics
/// When it does not run.
pub fn kill(name: &str, part: &'static str) -> Killed {
    kill_process(pid(name), Signal::KILL).expect("the server is ours");
    Killed { part }
}

impl Drop for Killed {
    fn drop(&mut self) {
        let dev = Path::new(env!("CARGO_MANIFEST_DIR")).join("../dev");
        let up = Command::new(dev).args(["cluster", "up", self.part]).output();
        if !up.is_ok_and(|up| up.status.success()) {
            eprintln!("{} does not come up again", self.part);
        }
    }
}

fn pid(name: &str) -> Pid {
    let folder = env::var("BUILDIT_TEST_DAEMONS").expect("BUILDIT_TEST_DAEMONS, from `./dev cluster env`");
    let path = Path::new(&folder).join(format!("{name}.pid"));
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.trim().parse().ok().and_then(Pid::from_raw).expect("a process id")
}
