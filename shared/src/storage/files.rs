//! Objects as files below one folder of this machine.

use std::path::{Path, PathBuf};

use opendal::{Operator, services};

use super::{Error, Signer};

/// Where objects are written before they take their name; no key can begin with a dot.
const UNFINISHED: &str = ".unfinished";

#[derive(Clone, Debug)]
pub(super) struct Files {
    pub(super) root: PathBuf,
    pub(super) signer: Signer,
}

pub(super) fn open(root: &Path, signer: Signer) -> Result<(Operator, Files), Error> {
    let unfinished = root.join(UNFINISHED);
    let service = services::Fs::default().root(&root.to_string_lossy()).atomic_write_dir(&unfinished.to_string_lossy());
    Ok((Operator::new(service)?, Files { root: root.to_owned(), signer }))
}

impl Files {
    pub(super) async fn check(&self) -> Result<(), Error> {
        let path = &self.root;
        tokio::fs::read_dir(path).await.map(drop).map_err(|error| {
            Error::Misconfigured(format!("the objects' folder {} cannot be read: {error}", path.display()))
        })
    }
}
