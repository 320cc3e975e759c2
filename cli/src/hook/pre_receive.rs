//! `buildit hook pre-receive`: refuses a push whose pipeline file is broken.
//!
//! Only the file decides. Whatever else goes wrong here lets the push pass.

use std::collections::BTreeSet;
use std::io;

use anyhow::Result;
use buildit_shared::pipeline;

use super::repository::Repository;
use super::say;
use super::update::{self, Update, commit_of, git};
use crate::PIPELINE_FILE;
use crate::exit::Exit;

/// How many refs of one push are looked at.
const MOST_REFS: usize = 20;

pub(crate) fn run() -> Exit {
    match broken() {
        Ok(false) => Exit::Success,
        Ok(true) => {
            say("the push is refused: mend the pipeline file and push again");
            Exit::Failure
        }
        Err(error) => {
            say(&format!("the pipeline file was not checked: {error:#}"));
            Exit::Success
        }
    }
}

fn broken() -> Result<bool> {
    let updates = update::read(io::stdin().lock())?;
    let file = match Repository::of_hook()?.target() {
        Ok(target) => target.file,
        Err(_) => PIPELINE_FILE.to_owned(),
    };
    let mut seen = BTreeSet::new();
    let mut broken = false;
    for update in updates.iter().filter(|update| update.makes_runs()).take(MOST_REFS) {
        if let Some((blob, content)) = file_at(update, &file)
            && seen.insert(blob)
            && let Err(found) = pipeline::parse_bytes(&file, &content)
        {
            broken = true;
            eprintln!("BuildIt: {} in {}", file, super::printable(&update.git_ref));
            eprintln!("{}", pipeline::render(&found));
        }
    }
    Ok(broken)
}

/// The pipeline file at the new commit and the id of its content. It may be missing, or be a folder
/// or a link; then there is nothing to check.
fn file_at(update: &Update, file: &str) -> Option<(String, Vec<u8>)> {
    let commit = commit_of(&update.new)?;
    let listed = String::from_utf8(git(&["ls-tree", "-z", "--full-tree", &commit, "--", file])?).ok()?;
    let (mode, rest) = listed.split_once(' ')?;
    let blob = rest.strip_prefix("blob ")?.split('\t').next()?;
    if !mode.starts_with("100") {
        return None;
    }
    let size: usize = String::from_utf8(git(&["cat-file", "-s", blob])?).ok()?.trim().parse().ok()?;
    // A file that is too large needs no reading to be refused.
    let content = match size > pipeline::MOST_BYTES {
        true => vec![b'#'; pipeline::MOST_BYTES + 1],
        false => git(&["cat-file", "blob", blob])?,
    };
    Some((blob.to_owned(), content))
}
