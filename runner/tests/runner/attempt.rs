//! One attempt in a folder of its own.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use buildit_runner::layout::AttemptFolder;
use buildit_runner::{AttemptSpec, Layout, Report};

pub(crate) struct Attempt {
    root: tempfile::TempDir,
    pub(crate) spec: AttemptSpec,
}

/// What an attempt left.
pub(crate) struct Left {
    pub(crate) report: Report,
    pub(crate) log: String,
}

impl Attempt {
    pub(crate) fn of(commands: &[&str]) -> Attempt {
        let root = tempfile::tempdir().unwrap();
        fs::set_permissions(root.path(), Permissions::from_mode(0o711)).unwrap();
        let mut spec = AttemptSpec::new(uuid::Uuid::new_v4().to_string(), "test");
        spec.commands = commands.iter().map(|command| command.to_string()).collect();
        Attempt { root, spec }
    }

    pub(crate) fn with(mut self, change: impl FnOnce(&mut AttemptSpec)) -> Attempt {
        change(&mut self.spec);
        self
    }

    pub(crate) fn layout(&self) -> Layout {
        Layout::new(self.root.path())
    }

    pub(crate) fn folder(&self) -> AttemptFolder {
        self.layout().attempt(&self.spec.attempt_id)
    }

    /// A path outside of the attempt.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub(crate) fn start(&self) -> Child {
        self.start_by(&[env!("CARGO_BIN_EXE_buildit-runner")])
    }

    /// Starts it by a command that ends in the runner.
    pub(crate) fn start_by(&self, command: &[&str]) -> Child {
        self.layout().create(true).unwrap();
        fs::create_dir_all(self.folder().path()).unwrap();
        let spec = self.beside("spec");
        fs::write(&spec, serde_json::to_vec(&self.spec).unwrap()).unwrap();
        Command::new(command[0])
            .args(&command[1..])
            .arg("run")
            .arg(self.root.path())
            .arg(&self.spec.attempt_id)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("NOT_FOR_THE_STEP", "1")
            .stdin(fs::File::open(spec).unwrap())
            .spawn()
            .unwrap()
    }

    pub(crate) fn run_to(&self) -> ExitStatus {
        self.start().wait().unwrap()
    }

    pub(crate) fn run(&self) -> Left {
        assert!(self.run_to().success());
        self.left()
    }

    pub(crate) fn left(&self) -> Left {
        let report = fs::read(self.folder().result()).unwrap();
        Left { report: serde_json::from_slice(&report).unwrap(), log: self.log() }
    }

    pub(crate) fn log(&self) -> String {
        String::from_utf8(fs::read(self.folder().log()).unwrap_or_default()).unwrap()
    }

    pub(crate) fn workspace(&self, path: &str) -> PathBuf {
        self.folder().path().join("workspace").join(path)
    }

    /// Returns once the log contains `text`.
    pub(crate) fn wait_for_log(&self, text: &str) {
        until(|| self.log().contains(text));
    }
}

/// Returns once `condition` holds.
pub(crate) fn until(mut condition: impl FnMut() -> bool) {
    let give_up = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < give_up, "waited for too long");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Whether a process runs, other than as a zombie.
pub(crate) fn is_alive(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}
