//! Artifacts, left in a folder.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use buildit_runner::unpack::{Limits, unpack};
use buildit_shared::domain::RunStatus;

use super::steps::{AllEnded, Run};

/// Unpacks what the steps have staged, the later ones over the earlier, and says where it is.
pub(super) fn keep(run: &Run, ended: &AllEnded, folder: &Path) -> Result<String> {
    let succeeded = ended.status() == RunStatus::Success;
    let mut said = String::new();
    for artifact in run.plan.artifacts.iter().filter(|artifact| artifact.when.applies(succeeded)) {
        let target = folder.join(&artifact.name);
        let staged: Vec<_> =
            ended.steps.iter().flat_map(|step| &step.artifacts).filter(|(name, _)| *name == artifact.name).collect();
        if staged.is_empty() {
            writeln!(said, "artifact {}: nothing matches {}", artifact.name, artifact.path)?;
            continue;
        }
        make_empty(folder, &target)?;
        for (_, archive) in staged {
            unpack(archive, &target, None, &Limits::default(), &mut || false)
                .with_context(|| format!("cannot unpack the artifact {}", artifact.name))?;
        }
        writeln!(said, "artifact {}: {}", artifact.name, target.display())?;
    }
    Ok(said)
}

/// What an earlier run left there goes.
fn make_empty(folder: &Path, target: &Path) -> Result<()> {
    let make = || -> std::io::Result<()> {
        if target.exists() {
            fs::remove_dir_all(target)?;
        }
        fs::create_dir_all(target)?;
        // It may lie in the working tree, and is nothing to commit.
        fs::write(folder.join(".gitignore"), "*\n")
    };
    make().with_context(|| format!("cannot make the folder {}", target.display()))
}
