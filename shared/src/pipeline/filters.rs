//! Which events start a run, and which steps take part in it.
//!
//! - Without `on`: every push of a branch. Tags, merge requests and schedules have to be asked
//!   for, since a push of a branch with an open merge request would otherwise run twice.
//! - With `on`: what it names and nothing else. `push` alone means every branch and no tag; with
//!   `branches` or `tags`, only what the given lists match. `mr` alone means opened,
//!   synchronized and reopened.
//! - The API, and the page's button with it, always starts a run.
//! - In patterns `*` and `?` do not cross a `/`, `**` does: `release/*` matches `release/1.2`
//!   but not `release/1.2/hotfix`; `feature/**` matches every branch below `feature/`.
//! - A step's `when.branch` looks at the branch of the run, which for a merge request is the one
//!   to be merged (as `${git.branch}` is); a run of a tag has no branch and matches none.

use globset::{Glob, GlobBuilder, GlobSet};
use serde::{Deserialize, Serialize};

use super::definition::{EventKind, MrAction, Pipeline, Step, Triggers};

/// Longer patterns are refused; a branch name is 250 bytes at most.
const LONGEST_PATTERN: usize = 512;
const MOST_ALTERNATIVES: usize = 32;

/// What happened, as far as filters look at it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// What kind of thing.
    pub kind: EventKind,
    /// The branch of the run, without `refs/heads/`.
    #[serde(default)]
    pub branch: Option<String>,
    /// The tag of the run, without `refs/tags/`.
    #[serde(default)]
    pub tag: Option<String>,
    /// What happened to the merge request.
    #[serde(default)]
    pub action: Option<MrAction>,
}

impl Event {
    /// An event of this kind at a full reference name, such as `refs/heads/main`. A name without
    /// `refs/` is taken for a branch.
    pub fn at(kind: EventKind, git_ref: &str) -> Self {
        let tag = git_ref.strip_prefix("refs/tags/");
        let branch = match git_ref.strip_prefix("refs/heads/") {
            Some(branch) => Some(branch),
            None if git_ref.starts_with("refs/") || git_ref.is_empty() => None,
            None => Some(git_ref),
        };
        Self { kind, branch: branch.map(str::to_owned), tag: tag.map(str::to_owned), action: None }
    }

    /// A push of this full reference name.
    pub fn push(git_ref: &str) -> Self {
        Self::at(EventKind::Push, git_ref)
    }
}

/// Whether the event starts a run of the pipeline.
///
/// # Errors
/// One sentence, for the skipped run, that says why it does not.
pub fn admits(pipeline: &Pipeline, event: &Event) -> Result<(), String> {
    let by_default = Triggers { push: Some(Default::default()), ..Triggers::default() };
    let on = pipeline.on.as_ref().unwrap_or(&by_default);
    match event.kind {
        EventKind::Api => Ok(()),
        EventKind::Push => admits_push(on, event),
        EventKind::Mr => admits_mr(on, event),
        EventKind::Schedule if on.schedule.is_empty() => {
            Err("The pipeline file has no schedule under `on`.".to_owned())
        }
        EventKind::Schedule => Ok(()),
    }
}

fn admits_push(on: &Triggers, event: &Event) -> Result<(), String> {
    let Some(push) = &on.push else {
        return Err("The pipeline file does not name `push` under `on`.".to_owned());
    };
    let neither = push.branches.is_none() && push.tags.is_none();
    if let Some(tag) = &event.tag {
        return match &push.tags {
            None => {
                Err(format!("The push is of the tag `{tag}`, and the pipeline file names no tags under `on.push`."))
            }
            Some(tags) => one_matches(tags, tag, "tag", "on.push.tags"),
        };
    }
    let Some(branch) = &event.branch else {
        return Err("The push is neither of a branch nor of a tag.".to_owned());
    };
    match &push.branches {
        None if neither => Ok(()),
        None => {
            Err(format!("The push is of the branch `{branch}`, and the pipeline file names only tags under `on.push`."))
        }
        Some(branches) => one_matches(branches, branch, "branch", "on.push.branches"),
    }
}

fn admits_mr(on: &Triggers, event: &Event) -> Result<(), String> {
    let Some(mr) = &on.mr else {
        return Err("The pipeline file does not name `mr` under `on`.".to_owned());
    };
    match event.action {
        Some(action) if !mr.actions.contains(&action) => Err(format!(
            "The merge request was {}, and `on.mr.actions` names only {}.",
            action.as_str(),
            list(mr.actions.iter().map(|action| action.as_str())),
        )),
        _ => Ok(()),
    }
}

/// Whether the step takes part in a run that the event started.
///
/// # Errors
/// One sentence, for the skipped step, that says why it does not.
pub fn takes_part(step: &Step, event: &Event) -> Result<(), String> {
    let Some(when) = &step.when else {
        return Ok(());
    };
    if let Some(kinds) = &when.event
        && !kinds.contains(&event.kind)
    {
        return Err(format!(
            "The run was started by `{}`, and the step's `when.event` names only {}.",
            event.kind.as_str(),
            list(kinds.iter().map(|kind| kind.as_str())),
        ));
    }
    match (&when.branch, &event.branch) {
        (None, _) => Ok(()),
        (Some(_), None) => Err("The run is not of a branch, and the step has a `when.branch`.".to_owned()),
        (Some(patterns), Some(branch)) => one_matches(patterns, branch, "branch", "when.branch"),
    }
}

fn one_matches(patterns: &[String], name: &str, what: &str, key: &str) -> Result<(), String> {
    let matches = |pattern: &String| glob(pattern).is_ok_and(|glob| glob.is_match(name));
    if patterns.iter().any(matches) {
        return Ok(());
    }
    let patterns = list(patterns.iter().map(String::as_str));
    Err(format!("The {what} `{name}` matches nothing in `{key}`, which has {patterns}."))
}

fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    if names.is_empty() { "no entry".to_owned() } else { names.join(", ") }
}

/// Why a text is no pattern for branches, tags or paths; `None` when it is one.
pub fn pattern_problem(pattern: &str) -> Option<String> {
    if pattern.is_empty() {
        return Some("it is empty".to_owned());
    }
    if pattern.len() > LONGEST_PATTERN {
        return Some(format!("it is longer than {LONGEST_PATTERN} bytes"));
    }
    // Deeper ones fail only when they are compiled, which is too slow to be tried on every pattern of a file.
    if pattern.matches('{').count() > MOST_ALTERNATIVES {
        return Some(format!("it has more than {MOST_ALTERNATIVES} groups of alternatives"));
    }
    parsed(pattern).err().map(|error| error.kind().to_string())
}

/// The matcher for one pattern.
///
/// # Errors
/// Why the pattern is none.
pub fn glob(pattern: &str) -> Result<GlobSet, String> {
    if let Some(problem) = pattern_problem(pattern) {
        return Err(problem);
    }
    // A set of one, since a single matcher panics where its expression is too large.
    parsed(pattern).and_then(|glob| GlobSet::builder().add(glob).build()).map_err(|error| error.kind().to_string())
}

fn parsed(pattern: &str) -> Result<Glob, globset::Error> {
    GlobBuilder::new(pattern).literal_separator(true).backslash_escape(true).build()
}
