//! The one definition of a pipeline, whichever format it was written in.
//!
//! Texts stand as the file has them: variables are resolved by [`super::plan()`]. Paths,
//! durations, quantities and patterns have been checked by [`super::parse`]; a value built by
//! hand is the builder's own responsibility.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How long a step may run when its file does not say.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60 * 60);

/// A pipeline as one file defines it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pipeline {
    /// A name for people.
    pub name: Option<String>,
    /// Custom keys, for `${custom.key}`.
    #[serde(default)]
    pub variables: BTreeMap<String, String>,
    /// The steps, in the order of the file; never empty.
    pub steps: Vec<Step>,
    /// What is kept of a run.
    #[serde(default)]
    pub artifacts: Vec<Artifact>,
    /// What starts a run; `None` stands for every push to a branch.
    pub on: Option<Triggers>,
    /// Which runs exclude each other.
    pub concurrency: Option<Concurrency>,
}

impl Pipeline {
    /// Whether the file orders its steps itself, by at least one `depends_on`.
    pub fn is_graph(&self) -> bool {
        self.steps.iter().any(|step| step.depends_on.is_some())
    }

    /// For each step, in order, the indices of the steps it waits for, ascending.
    ///
    /// With a `depends_on` anywhere in the file, these are the named steps and a step without
    /// one waits for nothing. Without any, each step waits for the one before it. Names that
    /// do not exist are left out.
    pub fn dependencies(&self) -> Vec<Vec<usize>> {
        if !self.is_graph() {
            return (0..self.steps.len()).map(|index| index.checked_sub(1).into_iter().collect()).collect();
        }
        let places: BTreeMap<&str, usize> =
            self.steps.iter().enumerate().map(|(index, step)| (step.name.as_str(), index)).collect();
        self.steps
            .iter()
            .map(|step| {
                let names = step.depends_on.iter().flatten();
                let mut parents: Vec<usize> = names.filter_map(|name| places.get(name.as_str()).copied()).collect();
                parents.sort_unstable();
                parents.dedup();
                parents
            })
            .collect()
    }
}

/// One container of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Unique in the file: `[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?`.
    pub name: String,
    /// The container image; may hold variables but no secrets.
    pub image: String,
    /// Shell commands, run in order; each may span lines.
    pub commands: Vec<String>,
    /// The step's own environment; values may hold variables.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// Names of the steps to wait for; `None` where the file has no such key.
    pub depends_on: Option<Vec<String>>,
    /// Stored in whole seconds.
    #[serde(with = "seconds", default = "default_timeout")]
    pub timeout: Duration,
    /// How often a failed attempt is repeated; lost pods are counted apart.
    #[serde(default)]
    pub retry: u32,
    /// Whether the run goes on, and may succeed, when this step fails.
    #[serde(default)]
    pub allow_failure: bool,
    /// When the step takes part in a run; `None` means always.
    pub when: Option<When>,
    /// Paths or globs, relative to the working directory, for the steps that depend on this one.
    #[serde(default)]
    pub outputs: Vec<String>,
    /// What the container may use.
    #[serde(default)]
    pub resources: Resources,
    /// Marks an image build: the service or environment the image goes to.
    pub deploy: Option<String>,
    /// What to do when the step's pod or node is lost; `None` leaves it to the platform:
    /// `fail` where the step deploys, else `retry`.
    pub on_lost: Option<OnLost>,
}

impl Step {
    /// What happens when the pod or node of this step is lost: as the file says, otherwise
    /// `fail` where it deploys and `retry` elsewhere.
    pub fn on_lost(&self) -> OnLost {
        self.on_lost.unwrap_or(match self.deploy {
            Some(_) => OnLost::Fail,
            None => OnLost::Retry,
        })
    }
}

/// What to do with a step whose pod or node is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnLost {
    /// A new attempt.
    Retry,
    /// The step ends with `error`.
    Fail,
}

/// When a step takes part in a run. Both conditions must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct When {
    /// Branch patterns, of which one must match; `None` means any branch, and tags too.
    pub branch: Option<Vec<String>>,
    /// Kinds of event; `None` means any.
    pub event: Option<Vec<EventKind>>,
}

/// What can start a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventKind {
    /// A push of a branch or a tag.
    Push,
    /// A merge request was opened, or changed.
    Mr,
    /// The API, the command line or the page's button.
    Api,
    /// A schedule of the file.
    Schedule,
}

impl EventKind {
    /// The word in the pipeline file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Push => "push",
            Self::Mr => "mr",
            Self::Api => "api",
            Self::Schedule => "schedule",
        }
    }
}

/// What a container may use; `None` leaves the platform's default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Thousandths of a core.
    pub cpu_millis: Option<u64>,
    /// Bytes.
    pub memory_bytes: Option<u64>,
}

/// Files kept after a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// Unique in the file; a part of its storage key.
    pub name: String,
    /// A path or glob relative to the working directory; a trailing `/` means a folder.
    pub path: String,
    /// How long it is kept, stored in whole seconds; `None` leaves the platform's default.
    #[serde(with = "seconds_option", default)]
    pub expires: Option<Duration>,
    /// After which runs it is published.
    #[serde(default)]
    pub when: Publish,
}

/// After which runs an artifact is published.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Publish {
    /// After those that succeeded.
    #[default]
    Success,
    /// After those that did not.
    Failure,
    /// After every one.
    Always,
}

impl Publish {
    /// Whether to publish after a run that ended well, or not.
    pub fn applies(self, succeeded: bool) -> bool {
        match self {
            Self::Success => succeeded,
            Self::Failure => !succeeded,
            Self::Always => true,
        }
    }
}

/// What starts a run. An event whose key is absent starts none; the API always may.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Triggers {
    /// Pushes.
    pub push: Option<PushTrigger>,
    /// Merge requests.
    pub mr: Option<MrTrigger>,
    /// Fixed times.
    #[serde(default)]
    pub schedule: Vec<Schedule>,
}

/// Which pushes start a run. With neither list: every branch and no tag. With one list: only
/// what it names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushTrigger {
    /// Branch patterns.
    pub branches: Option<Vec<String>>,
    /// Tag patterns.
    pub tags: Option<Vec<String>>,
}

/// Which changes of a merge request start a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MrTrigger {
    /// Never empty.
    pub actions: Vec<MrAction>,
}

impl Default for MrTrigger {
    /// Whatever brings new commits to a merge request that is open.
    fn default() -> Self {
        Self { actions: vec![MrAction::Opened, MrAction::Synchronized, MrAction::Reopened] }
    }
}

/// What happened to a merge request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MrAction {
    /// It is new.
    Opened,
    /// Its commits changed.
    Synchronized,
    /// It was closed and is open again.
    Reopened,
    /// It was closed without being merged.
    Closed,
    /// It was merged.
    Merged,
}

impl MrAction {
    /// The action of that word.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Opened, Self::Synchronized, Self::Reopened, Self::Closed, Self::Merged]
            .into_iter()
            .find(|action| action.as_str() == word)
    }

    /// The word in the pipeline file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Synchronized => "synchronized",
            Self::Reopened => "reopened",
            Self::Closed => "closed",
            Self::Merged => "merged",
        }
    }
}

/// A fixed time at which a run starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// Five cron fields, from the minute on.
    pub cron: String,
    /// An IANA time zone.
    #[serde(default = "utc")]
    pub timezone: String,
}

/// Which runs exclude each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Concurrency {
    /// Of the runs with the same group one runs at a time; may hold variables but no secrets.
    pub group: String,
    /// Whether a newer run cancels the older one instead of waiting for it.
    #[serde(default)]
    pub cancel_in_progress: bool,
}

pub(super) fn utc() -> String {
    "UTC".to_owned()
}

fn default_timeout() -> Duration {
    DEFAULT_TIMEOUT
}

pub(super) mod seconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(value.as_secs())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        u64::deserialize(from).map(Duration::from_secs)
    }
}

mod seconds_option {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<S: Serializer>(value: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
        value.map(|value| value.as_secs()).serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<u64>::deserialize(from)?.map(Duration::from_secs))
    }
}
