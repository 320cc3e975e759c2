//! What git tells its receive hooks: a line `old new ref` for each ref of the push.

use std::io::BufRead;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

/// Of one line, in bytes. Git's own limit for a ref's name is smaller.
const LONGEST_LINE: usize = 8 << 10;

/// A ref that a push has changed, or wants to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Update {
    pub(crate) old: String,
    pub(crate) new: String,
    pub(crate) git_ref: String,
}

impl Update {
    /// Branches and tags that are there after the push.
    pub(crate) fn makes_runs(&self) -> bool {
        let deleted = self.new.bytes().all(|byte| byte == b'0');
        !deleted && (self.git_ref.starts_with("refs/heads/") || self.is_tag())
    }

    pub(crate) fn is_tag(&self) -> bool {
        self.git_ref.starts_with("refs/tags/")
    }
}

/// Reads all lines, so that git is never left with a pipe that nobody empties. A line that is not
/// git's is passed over, and so is a ref whose name is not UTF-8, which no address could hold.
///
/// # Errors
/// When the input breaks off.
pub(crate) fn read(mut input: impl BufRead) -> Result<Vec<Update>> {
    let mut updates = Vec::new();
    let mut line = Vec::new();
    loop {
        line.clear();
        if input.read_until(b'\n', &mut line).context("cannot read what was pushed")? == 0 {
            return Ok(updates);
        }
        if line.len() <= LONGEST_LINE {
            updates.extend(std::str::from_utf8(&line).ok().and_then(parse));
        }
    }
}

fn parse(line: &str) -> Option<Update> {
    let mut words = line.trim_end_matches('\n').splitn(3, ' ');
    let (old, new, git_ref) = (words.next()?, words.next()?, words.next()?);
    let is_id = |id: &str| matches!(id.len(), 40 | 64) && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    (is_id(old) && is_id(new)).then(|| Update { old: old.to_owned(), new: new.to_owned(), git_ref: git_ref.to_owned() })
}

/// The commit that an object is or, as an annotated tag, stands for.
pub(crate) fn commit_of(id: &str) -> Option<String> {
    let output = git(&["rev-parse", "--verify", "--quiet", &format!("{id}^{{commit}}")])?;
    String::from_utf8(output).ok().map(|id| id.trim().to_owned())
}

/// What git prints, in the repository and the environment of the hook. A push that is not accepted
/// yet is only visible there.
pub(crate) fn git(arguments: &[&str]) -> Option<Vec<u8>> {
    let output = Command::new("git").args(arguments).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then_some(output.stdout)
}
