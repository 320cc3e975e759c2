//! Packs what the step hands on: outputs after a success, artifacts in any case.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use crate::layout::AttemptFolder;
use crate::pack::{PackError, pack};
use crate::report::{Staged, StagedArtifact};
use crate::spec::AttemptSpec;
use crate::watch::Watch;

/// What was staged.
#[derive(Debug, Default)]
pub(crate) struct StagedAll {
    pub(crate) outputs: Option<Staged>,
    pub(crate) artifacts: Vec<StagedArtifact>,
    pub(crate) notes: Vec<String>,
    /// A stop came in between; what is missing was not packed.
    pub(crate) stopped: bool,
    /// The outputs could not be packed: without them the step did not do what it is for.
    pub(crate) outputs_failed: Option<String>,
}

/// Stages everything. Only what the attempt's folder refuses to hold is an error in the result,
/// and it keeps nothing else from being staged.
pub(crate) fn stage(
    spec: &AttemptSpec,
    folder: &AttemptFolder,
    workspace: &Path,
    success: bool,
    watch: &mut Watch,
) -> StagedAll {
    let mut all = StagedAll::default();
    if success && !spec.outputs.is_empty() {
        match all.pack(folder, workspace, &spec.outputs, "outputs", watch) {
            Ok((outputs, unmatched)) => {
                if outputs.is_none() && !all.stopped {
                    let outputs = spec.outputs.join(", ");
                    all.notes.push(format!("Nothing matched its outputs ({outputs}); the steps after it get none."));
                } else if !unmatched.is_empty() {
                    let unmatched = unmatched.join(", ");
                    all.notes
                        .push(format!("Nothing matched {unmatched} of its outputs; the steps after it get the rest."));
                }
                all.outputs = outputs;
            }
            Err(error) => all.outputs_failed = Some(error.to_string()),
        }
    }
    for (index, artifact) in spec.artifacts.iter().enumerate() {
        let file = match is_file_name(&artifact.name) {
            true => format!("artifacts/{}", artifact.name),
            false => format!("artifacts/{index}"),
        };
        let patterns = std::slice::from_ref(&artifact.path);
        // That it matches nothing here is for the run to judge, when no other step made it either.
        let (staged, _) = all.pack(folder, workspace, patterns, &file, watch).unwrap_or_else(|error| {
            all.notes.push(format!("Artifact {}: {error}", artifact.name));
            (None, Vec::new())
        });
        all.artifacts.push(StagedArtifact { name: artifact.name.clone(), path: artifact.path.clone(), staged });
    }
    all
}

impl StagedAll {
    /// What was packed, and the patterns that matched nothing.
    fn pack(
        &mut self,
        folder: &AttemptFolder,
        workspace: &Path,
        patterns: &[String],
        name: &str,
        watch: &mut Watch,
    ) -> Result<(Option<Staged>, Vec<String>), PackError> {
        if self.stopped {
            return Ok((None, Vec::new()));
        }
        let file = format!("{name}.tar.zst");
        let target = folder.staged().join(&file);
        make_folder(target.parent().unwrap_or(folder.path())).map_err(PackError::Write)?;
        let mut stopped = || watch.stop().is_some();
        let packed = match pack(workspace, patterns, &target, &mut stopped) {
            Err(PackError::Interrupted) => {
                self.stopped = true;
                return Ok((None, Vec::new()));
            }
            packed => packed?,
        };
        self.notes.extend(packed.notes);
        let staged = packed.archive.map(|archive| Staged {
            file: format!("staged/{file}"),
            size: archive.size,
            sha256: archive.sha256,
            files: archive.files,
        });
        Ok((staged, packed.unmatched))
    }
}

fn make_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn is_file_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 128
        && !name.starts_with('.')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}
