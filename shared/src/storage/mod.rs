//! Object storage: what is too large for rows. It promises:
//!
//! - an object appears whole or not at all, and is kept when `put` returns;
//! - keys are names below the store's root and can lead nowhere else;
//! - in S3 each object carries its SHA-256, and one that is read whole is compared with it. Files are left to their
//!   file system;
//! - nothing hangs: each request has a time limit and is tried again a few times, and what then still did not answer is
//!   [`Error::Unavailable`], which passes by itself;
//! - a download needs no key of the API: a [link](Storage::link) carries its own expiry and signature.

mod checksum;
mod files;
mod key;
pub mod keys;
mod links;
mod s3;
#[cfg(test)]
mod tests;
pub mod uploads;

use std::{
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use futures::{Stream, TryStreamExt};
use jiff::Timestamp;
use opendal::{Metadata, Operator, Writer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use url::Url;

use files::Files;
use s3::S3;

pub use checksum::{Checksum, Hasher, NoChecksum};
pub use key::InvalidKey;
pub use links::{InvalidLink, PartLink, Signer, disposition};
pub use s3::{AccessKey, S3Settings};

/// Bytes read and written at a time.
const PIECE: usize = 256 * 1024;
/// Larger objects go to S3 in parts of this size.
const PART: usize = 8 << 20;
/// Parts of one object on their way at once.
const PARALLEL: usize = 2;
/// The name of the SHA-256 in an object's metadata.
const CHECKSUM: &str = "sha256";

/// What can go wrong with an object.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is none of that name.
    #[error("there is no object {0:?}")]
    NotFound(String),
    /// The name is none that an object can have.
    #[error(transparent)]
    InvalidKey(#[from] InvalidKey),
    /// The store did not answer, or said that it cannot just now; it comes back by itself.
    #[error("the object store does not answer: {0}")]
    Unavailable(String),
    /// The store answers but cannot be used as it is configured.
    #[error("{0}")]
    Misconfigured(String),
    /// The store refused.
    #[error("the object store did not do what it was asked: {0}")]
    Store(opendal::Error),
    /// The bytes that were stored, or that came to be stored, are not those that were promised.
    #[error("the bytes of the object {key:?} are not those with the SHA-256 {expected}")]
    Corrupt {
        /// The object.
        key: String,
        /// What they should be.
        expected: Checksum,
    },
    /// A file on this machine could not be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// There is no such upload: it was completed, given up, or never begun.
    #[error("there is no upload {0:?} any more")]
    NoUpload(String),
    /// An upload is not what it was said to become.
    #[error("the upload cannot be completed: {0}")]
    Incomplete(String),
    /// The bytes to store broke off.
    #[error("the bytes to store broke off: {0}")]
    Source(#[source] std::io::Error),
}

impl Error {
    /// It passes by itself: try again later, and count it as nobody's failure.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

impl From<opendal::Error> for Error {
    fn from(error: opendal::Error) -> Self {
        // What stayed after the retries is marked persistent.
        if error.is_permanent() { Self::Store(error) } else { Self::Unavailable(error.to_string()) }
    }
}

/// What is known of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    key: String,
    /// Its length in bytes.
    pub size: u64,
    /// Of its bytes, where the store keeps it.
    pub checksum: Option<Checksum>,
}

/// A store of objects; cheap to clone.
#[derive(Clone, Debug)]
pub struct Storage {
    operator: Operator,
    place: Place,
}

#[derive(Clone, Debug)]
enum Place {
    Files(Arc<Files>),
    S3(Arc<S3>),
}

impl Storage {
    /// Opens the store in the folder `root`, which is made if there is none. `signer` makes its links.
    pub fn files(root: &Path, signer: Signer) -> Result<Self, Error> {
        let (operator, files) = files::open(root, signer)?;
        Ok(Self { operator, place: Place::Files(Arc::new(files)) })
    }

    /// Opens a bucket; nothing is sent yet. Must be called within a Tokio runtime, after a TLS provider was installed.
    pub fn s3(settings: S3Settings) -> Result<Self, Error> {
        let (operator, s3) = s3::open(settings)?;
        Ok(Self { operator, place: Place::S3(Arc::new(s3)) })
    }

    /// Whether the store answers and can be used.
    ///
    /// # Errors
    /// [`Error::Misconfigured`] where that is up to the operator, [`Error::Unavailable`] where it may pass.
    pub async fn check(&self) -> Result<(), Error> {
        match &self.place {
            Place::Files(files) => files.check().await,
            Place::S3(s3) => s3.check(&self.operator).await,
        }
    }

    /// Stores `bytes` as `key`, in place of what was there.
    pub async fn put(&self, key: &str, bytes: impl Into<Bytes>) -> Result<(), Error> {
        let bytes = bytes.into();
        let mut writer = self.writer(key, bytes.len() as u64, Checksum::of(&bytes)).await?;
        let written = async {
            writer.write(bytes).await?;
            writer.close().await
        };
        if let Err(error) = written.await {
            give_up(&mut writer).await;
            return Err(error.into());
        }
        Ok(())
    }

    /// Stores a file as `key` and returns its length in bytes and its checksum.
    pub async fn put_file(&self, key: &str, path: &Path) -> Result<(u64, Checksum), Error> {
        let unreadable = |source| Error::File { path: path.to_owned(), source };
        let (length, checksum) = digest(path).await.map_err(unreadable)?;
        let file = tokio::fs::File::open(path).await.map_err(unreadable)?;
        self.put_reader(key, file, length, checksum).await.map_err(|error| match error {
            Error::Source(source) => unreadable(source),
            error => error,
        })?;
        Ok((length, checksum))
    }

    /// Stores what `source` yields as `key`.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when it is not `length` bytes with that checksum. Whatever the error, there is no object then
    /// that was not there before.
    pub async fn put_reader(
        &self,
        key: &str,
        mut source: impl AsyncRead + Unpin,
        length: u64,
        checksum: Checksum,
    ) -> Result<(), Error> {
        let mut writer = self.writer(key, length, checksum).await?;
        let written = async {
            let mut hasher = Hasher::default();
            loop {
                let mut piece = Vec::with_capacity(PIECE);
                (&mut source).take(PIECE as u64).read_to_end(&mut piece).await.map_err(Error::Source)?;
                if piece.is_empty() {
                    break;
                }
                hasher.update(&piece);
                writer.write(piece).await?;
            }
            if hasher.length() != length || hasher.finish() != checksum {
                return Err(Error::Corrupt { key: key.to_owned(), expected: checksum });
            }
            writer.close().await?;
            Ok(())
        };
        let written = written.await;
        if written.is_err() {
            give_up(&mut writer).await;
        }
        written
    }

    async fn writer(&self, key: &str, length: u64, checksum: Checksum) -> Result<Writer, Error> {
        let key = key::check(key)?;
        let writer = self.operator.writer_with(key);
        Ok(match &self.place {
            Place::Files(_) => writer.await?,
            Place::S3(_) => {
                let metadata = [(CHECKSUM.to_owned(), checksum.to_string())];
                // No object has more than 10,000 parts.
                let part = usize::try_from(length / 9_000).unwrap_or(PART).max(PART);
                writer.user_metadata(metadata).chunk(part).concurrent(PARALLEL).await?
            }
        })
    }

    /// The whole object; for small ones only.
    pub async fn get(&self, key: &str) -> Result<Bytes, Error> {
        let object = self.stat(key).await?;
        let pieces: Vec<Bytes> = self.read(&object, 0..object.size).await?.try_collect().await?;
        Ok(pieces.concat().into())
    }

    /// Writes the whole object to a file, which is made, and returns its length in bytes. The file is only of use when
    /// that succeeded.
    pub async fn get_file(&self, key: &str, path: &Path) -> Result<u64, Error> {
        let unwritable = |source| Error::File { path: path.to_owned(), source };
        let object = self.stat(key).await?;
        let mut pieces = self.read(&object, 0..object.size).await?;
        let mut file = tokio::fs::File::create(path).await.map_err(unwritable)?;
        while let Some(piece) = pieces.try_next().await? {
            file.write_all(&piece).await.map_err(unwritable)?;
        }
        file.flush().await.map_err(unwritable)?;
        Ok(object.size)
    }

    /// What is known of the object.
    pub async fn stat(&self, key: &str) -> Result<Object, Error> {
        let metadata: Metadata = self.operator.stat(key::check(key)?).await.map_err(|error| found(key, error))?;
        if !metadata.is_file() {
            return Err(Error::NotFound(key.to_owned()));
        }
        let checksum = metadata
            .user_metadata()
            .and_then(|metadata| metadata.get(CHECKSUM).and_then(|checksum| checksum.parse().ok()));
        Ok(Object { key: key.to_owned(), size: metadata.content_length(), checksum })
    }

    /// The bytes of `range`, which must lie within the object, in pieces. Read whole they are compared with the object's
    /// checksum, and end with [`Error::Corrupt`] if they are not what was stored.
    pub async fn read(
        &self,
        object: &Object,
        range: Range<u64>,
    ) -> Result<impl Stream<Item = Result<Bytes, Error>> + Send + Unpin + 'static + use<>, Error> {
        let key = object.key.as_str();
        let whole = range == (0..object.size);
        let reader = self.operator.reader_with(key).chunk(PIECE).await.map_err(|error| found(key, error))?;
        let buffers = reader.into_stream(range).await.map_err(|error| found(key, error))?;
        let pieces = Box::pin(buffers.map_ok(|buffer| buffer.to_bytes()).map_err(Error::from));
        Ok(match object.checksum.filter(|_| whole) {
            Some(checksum) => futures::future::Either::Left(checksum::verified(pieces, object.key.clone(), checksum)),
            None => futures::future::Either::Right(pieces),
        })
    }

    /// The object's length in bytes.
    pub async fn size(&self, key: &str) -> Result<u64, Error> {
        Ok(self.stat(key).await?.size)
    }

    /// Whether there is such an object.
    pub async fn exists(&self, key: &str) -> Result<bool, Error> {
        match self.stat(key).await {
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

    /// Makes `to` the same bytes as `from`, which has that `length` (the store need not be asked for it).
    pub async fn copy(&self, from: &str, to: &str, length: u64) -> Result<(), Error> {
        if let Place::S3(_) = self.place {
            let copy = self.operator.copy_with(key::check(from)?, key::check(to)?).source_content_length_hint(length);
            copy.await.map_err(|error| found(from, error))?;
            return Ok(());
        }
        // Not the operator's own copy: for files it would show a half-written object.
        let object = self.stat(from).await?;
        let mut pieces = self.read(&object, 0..object.size).await?;
        let mut writer = self.operator.writer(key::check(to)?).await?;
        while let Some(piece) = pieces.try_next().await? {
            writer.write(piece).await?;
        }
        writer.close().await?;
        Ok(())
    }

    /// The file that holds the object, where objects are files on this machine; it must not be written to.
    pub fn local_path(&self, key: &str) -> Option<PathBuf> {
        match &self.place {
            Place::Files(files) => Some(files.root.join(key::check(key).ok()?)),
            Place::S3(_) => None,
        }
    }

    /// An address that anyone can download the object from until `expires`; under `filename` if one is given, else to
    /// be shown in place, as text.
    pub async fn link(&self, key: &str, expires: Timestamp, filename: Option<&str>) -> Result<Url, Error> {
        let key = key::check(key)?;
        match &self.place {
            Place::Files(files) => Ok(files.signer.sign(key, expires, filename)),
            Place::S3(s3) => s3.link(key, expires, filename).await,
        }
    }

    /// Whether a request to an address that [`link`](Self::link) made is to be served; S3 serves its own.
    pub fn check_link(
        &self,
        key: &str,
        expires: i64,
        filename: Option<&str>,
        signature: &str,
        now: Timestamp,
    ) -> Result<(), InvalidLink> {
        match &self.place {
            Place::Files(files) => files.signer.check(key, expires, filename, signature, now),
            Place::S3(_) => Err(InvalidLink::Forged),
        }
    }
}

/// Leaves no parts behind, as far as that works; the bucket's lifecycle rule has the rest.
async fn give_up(writer: &mut Writer) {
    if let Err(error) = writer.abort().await {
        tracing::debug!(%error, "an upload that failed could not be ended");
    }
}

/// Length in bytes and checksum of a file.
async fn digest(path: &Path) -> std::io::Result<(u64, Checksum)> {
    let path = path.to_owned();
    let digest = move || {
        use std::io::Read;
        let mut file = std::fs::File::open(path)?;
        let (mut hasher, mut piece) = (Hasher::default(), vec![0; PIECE]);
        loop {
            match file.read(&mut piece)? {
                0 => return Ok((hasher.length(), hasher.finish())),
                n => hasher.update(&piece[..n]),
            }
        }
    };
    tokio::task::spawn_blocking(digest).await.map_err(std::io::Error::other)?
}

fn found(key: &str, error: opendal::Error) -> Error {
    match error.kind() {
        opendal::ErrorKind::NotFound | opendal::ErrorKind::IsADirectory => Error::NotFound(key.to_owned()),
        _ => error.into(),
    }
}
