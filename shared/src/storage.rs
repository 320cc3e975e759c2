//! Object storage: what is too large for rows. It promises:
//!
//! - an object appears whole or not at all, and is on the disk when `put` returns;
//! - keys are names below the store's root and can lead nowhere else;
//! - a download needs no key of the API: a [link](Storage::link) carries its own expiry and signature.

mod key;
mod links;

use std::{
    ops::Range,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use futures::{Stream, TryStreamExt};
use jiff::Timestamp;
use opendal::{Operator, services};
use tokio::io::{AsyncRead, AsyncReadExt};
use url::Url;

pub use key::InvalidKey;
pub use links::{InvalidLink, Signer};

/// Bytes read and written at a time; what one transfer keeps in memory.
const PIECE: usize = 256 * 1024;
/// Where objects are written before they take their name; no key can begin with a dot.
const UNFINISHED: &str = ".unfinished";

/// What can go wrong with an object.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is none of that name.
    #[error("there is no object {0:?}")]
    NotFound(String),
    /// The name is none that an object can have.
    #[error(transparent)]
    InvalidKey(#[from] InvalidKey),
    /// The store refused or did not answer.
    #[error("the object store did not do what it was asked: {0}")]
    Store(#[from] opendal::Error),
    /// The file to store could not be read.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The bytes to store broke off.
    #[error("the bytes to store broke off: {0}")]
    Source(#[source] std::io::Error),
}

/// A store of objects in files below one folder.
#[derive(Clone, Debug)]
pub struct Storage {
    operator: Operator,
    root: PathBuf,
    signer: Signer,
}

impl Storage {
    /// Opens the store in the folder `root`, which is made if there is none. `signer` makes its links.
    pub fn files(root: &Path, signer: Signer) -> Result<Self, Error> {
        let unfinished = root.join(UNFINISHED);
        let service =
            services::Fs::default().root(&root.to_string_lossy()).atomic_write_dir(&unfinished.to_string_lossy());
        Ok(Self { operator: Operator::new(service)?, root: root.to_owned(), signer })
    }

    /// Stores `bytes` as `key`, in place of what was there.
    pub async fn put(&self, key: &str, bytes: impl Into<Bytes>) -> Result<(), Error> {
        self.operator.write(key::check(key)?, bytes.into()).await?;
        Ok(())
    }

    /// Stores a file as `key` and returns its length in bytes.
    pub async fn put_file(&self, key: &str, path: &Path) -> Result<u64, Error> {
        let unreadable = |source| Error::File { path: path.to_owned(), source };
        let file = tokio::fs::File::open(path).await.map_err(unreadable)?;
        self.put_reader(key, file).await.map_err(|error| match error {
            Error::Source(source) => unreadable(source),
            error => error,
        })
    }

    /// Stores what `source` yields as `key` and returns the length in bytes; nothing if the source breaks off.
    pub async fn put_reader(&self, key: &str, mut source: impl AsyncRead + Unpin) -> Result<u64, Error> {
        let mut writer = self.operator.writer(key::check(key)?).await?;
        let mut length = 0;
        loop {
            let mut piece = Vec::with_capacity(PIECE);
            let read = (&mut source).take(PIECE as u64).read_to_end(&mut piece).await;
            match read {
                Ok(0) => break,
                Ok(n) => length += n as u64,
                Err(error) => {
                    writer.abort().await?;
                    return Err(Error::Source(error));
                }
            }
            writer.write(piece).await?;
        }
        writer.close().await?;
        Ok(length)
    }

    /// The whole object; for small ones only.
    pub async fn get(&self, key: &str) -> Result<Bytes, Error> {
        let buffer = self.operator.read(key::check(key)?).await.map_err(|error| found(key, error))?;
        Ok(buffer.to_bytes())
    }

    /// The bytes of `range`, which must lie within the object, in pieces.
    pub async fn stream(
        &self,
        key: &str,
        range: Range<u64>,
    ) -> Result<impl Stream<Item = Result<Bytes, Error>> + Send + Unpin + use<>, Error> {
        let reader =
            self.operator.reader_with(key::check(key)?).chunk(PIECE).await.map_err(|error| found(key, error))?;
        let buffers = reader.into_stream(range).await.map_err(|error| found(key, error))?;
        Ok(Box::pin(buffers.map_ok(|buffer| buffer.to_bytes()).map_err(Error::from)))
    }

    /// The object's length in bytes.
    pub async fn size(&self, key: &str) -> Result<u64, Error> {
        let metadata = self.operator.stat(key::check(key)?).await.map_err(|error| found(key, error))?;
        if metadata.is_file() { Ok(metadata.content_length()) } else { Err(Error::NotFound(key.to_owned())) }
    }

    /// Whether there is such an object.
    pub async fn exists(&self, key: &str) -> Result<bool, Error> {
        match self.size(key).await {
            Ok(_) => Ok(true),
            Err(Error::NotFound(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Deletes an object; one that is not there is no error.
    pub async fn delete(&self, key: &str) -> Result<(), Error> {
        self.operator.delete(key::check(key)?).await?;
        Ok(())
    }

    /// Deletes all objects whose keys begin with `prefix` and a slash.
    pub async fn delete_all(&self, prefix: &str) -> Result<(), Error> {
        let folder = format!("{}/", key::check(prefix)?);
        self.operator.delete_with(&folder).recursive(true).await?;
        Ok(())
    }

    /// Makes `to` the same bytes as `from`.
    pub async fn copy(&self, from: &str, to: &str) -> Result<(), Error> {
        // Not the operator's own copy: for files it would show a half-written object.
        let size = self.size(from).await?;
        let mut pieces = self.stream(from, 0..size).await?;
        let mut writer = self.operator.writer(key::check(to)?).await?;
        while let Some(piece) = pieces.try_next().await? {
            writer.write(piece).await?;
        }
        writer.close().await?;
        Ok(())
    }

    /// The file that holds the object, where objects are files on this machine; it must not be written to.
    pub fn local_path(&self, key: &str) -> Option<PathBuf> {
        Some(self.root.join(key::check(key).ok()?))
    }

    /// An address that anyone can download the object from until `expires`; under `filename` if one is given, else to
    /// be shown in place.
    pub fn link(&self, key: &str, expires: Timestamp, filename: Option<&str>) -> Result<Url, Error> {
        Ok(self.signer.sign(key::check(key)?, expires, filename))
    }

    /// Whether a request to an address that [`link`](Self::link) made is to be served.
    pub fn check_link(
        &self,
        key: &str,
        expires: i64,
        filename: Option<&str>,
        signature: &str,
        now: Timestamp,
    ) -> Result<(), InvalidLink> {
        self.signer.check(key, expires, filename, signature, now)
    }
}

fn found(key: &str, error: opendal::Error) -> Error {
    match error.kind() {
        opendal::ErrorKind::NotFound | opendal::ErrorKind::IsADirectory => Error::NotFound(key.to_owned()),
        _ => Error::Store(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, Storage) {
        let folder = tempfile::tempdir().unwrap();
        let signer = Signer::new("http://localhost:30080".parse().unwrap(), b"secret");
        let storage = Storage::files(&folder.path().join("objects"), signer).unwrap();
        (folder, storage)
    }

    async fn read(storage: &Storage, key: &str, range: Range<u64>) -> Vec<u8> {
        let pieces: Vec<Bytes> = storage.stream(key, range).await.unwrap().try_collect().await.unwrap();
        pieces.concat()
    }

    #[tokio::test]
    async fn an_object_is_read_whole_and_in_part() {
        let (_folder, storage) = store();
        storage.put("logs/a.log", &b"0123456789"[..]).await.unwrap();
        assert_eq!(storage.get("logs/a.log").await.unwrap(), &b"0123456789"[..]);
        assert_eq!(storage.size("logs/a.log").await.unwrap(), 10);
        assert_eq!(read(&storage, "logs/a.log", 3..7).await, b"3456");
        assert_eq!(std::fs::read(storage.local_path("logs/a.log").unwrap()).unwrap(), b"0123456789");
    }

    #[tokio::test]
    async fn a_file_larger_than_a_piece_arrives_whole_and_copies() {
        let (folder, storage) = store();
        let bytes: Vec<u8> = (0..PIECE * 2 + 17).map(|n| n as u8).collect();
        let path = folder.path().join("file");
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(storage.put_file("a", &path).await.unwrap(), bytes.len() as u64);
        storage.copy("a", "b/c").await.unwrap();
        assert_eq!(storage.get("b/c").await.unwrap(), bytes);
        assert_eq!(read(&storage, "b/c", 5..bytes.len() as u64).await, bytes[5..]);
    }

    #[tokio::test]
    async fn a_source_that_breaks_off_leaves_no_object() {
        let (_folder, storage) = store();
        let source = tokio_test_reader();
        assert!(matches!(storage.put_reader("a", source).await, Err(Error::Source(_))));
        assert!(!storage.exists("a").await.unwrap());
    }

    fn tokio_test_reader() -> impl AsyncRead + Unpin {
        let pieces = [Ok(Bytes::from_static(b"begun")), Err(std::io::Error::other("gone"))];
        tokio_util::io::StreamReader::new(futures::stream::iter(pieces))
    }

    #[tokio::test]
    async fn what_is_not_there_is_said_so() {
        let (_folder, storage) = store();
        storage.put("folder/file", &b"x"[..]).await.unwrap();
        for key in ["nothing", "folder"] {
            assert!(!storage.exists(key).await.unwrap(), "{key}");
        }
        assert!(matches!(storage.get("nothing").await, Err(Error::NotFound(_))));
        storage.delete("nothing").await.unwrap();
        storage.delete_all("folder").await.unwrap();
        assert!(!storage.exists("folder/file").await.unwrap());
    }

    #[tokio::test]
    async fn no_key_leads_out_of_the_store() {
        let (folder, storage) = store();
        std::fs::write(folder.path().join("outside"), "x").unwrap();
        assert!(matches!(storage.get("../outside").await, Err(Error::InvalidKey(_))));
        assert!(matches!(storage.put("../outside", &b""[..]).await, Err(Error::InvalidKey(_))));
        assert!(matches!(storage.copy("../outside", "a").await, Err(Error::InvalidKey(_))));
        assert_eq!(storage.local_path("../outside"), None);
    }
}
