//! Pushes to the repositories of `up` that were kept while it was down. The hook's own process that waits to announce them
//! may be gone (the machine was switched off) or asleep for up to a minute.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use tokio::process::Command;

use crate::hook::keeps_pushes;

/// Announces what is kept beside the repositories in `folder`, one repository after the other. What cannot be announced
/// stays kept, and is said.
pub(super) async fn announce(folder: &Path) -> anyhow::Result<()> {
    for repository in keeping(folder)? {
        println!("Announcing pushes to {} that came while BuildIt was down", repository.display());
        let announced = Command::new(std::env::current_exe()?)
            .args(["hook", "deliver"])
            .arg(&repository)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .status()
            .await?;
        if !announced.success() {
            println!("Not all were; try again by `buildit hook deliver {}`", repository.display());
        }
    }
    Ok(())
}

fn keeping(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in folder.read_dir()? {
        let repository = entry?.path();
        if keeps_pushes(&repository)? {
            found.push(repository);
        }
    }
    found.sort_unstable();
    Ok(found)
}
