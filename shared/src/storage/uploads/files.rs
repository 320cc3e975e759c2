//! Uploads to a store of files: parts are files of their own until they become the object.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use futures::{Stream, TryStreamExt};
use jiff::Timestamp;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use url::Url;

use super::Content;
use crate::storage::{Checksum, Error, Hasher, InvalidLink, PIECE, PartLink, Place, Storage, files::Files, give_up};

/// Where parts wait; no key can begin with a dot.
const UPLOADS: &str = ".uploads";
/// What nobody completed in this time goes: longer than any attempt takes.
const ABANDONED: Duration = Duration::from_secs(3 * 24 * 3600);

/// Why a part was not taken.
#[derive(Debug, thiserror::Error)]
pub enum PartError {
    /// Its address is not one that was given out, or is not any more.
    #[error(transparent)]
    Link(#[from] InvalidLink),
    /// It has another length than its address says.
    #[error("this address takes exactly {expected} bytes")]
    Length {
        /// What the address says.
        expected: u64,
    },
    /// It could not be stored.
    #[error(transparent)]
    Store(#[from] Error),
}

/// A part that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceivedPart {
    /// Names its bytes; without quotation marks.
    pub etag: String,
}

impl Storage {
    /// Takes a part that was sent to an address of [`part_address`](Self::part_address); S3 takes its own.
    pub async fn receive_part(
        &self,
        part: &PartLink,
        signature: &str,
        now: Timestamp,
        body: impl Stream<Item = io::Result<Bytes>> + Unpin,
    ) -> Result<ReceivedPart, PartError> {
        let Place::Files(files) = &self.place else { return Err(InvalidLink::Forged.into()) };
        files.signer.check_part(part, signature, now)?;
        files.receive_part(part, body).await
    }

    /// Deletes the parts of uploads that nobody completed, where the store is files; a bucket has a rule for that.
    pub async fn sweep_uploads(&self) -> Result<(), Error> {
        let Place::Files(files) = &self.place else { return Ok(()) };
        let folder = files.root.join(UPLOADS);
        let sweep = {
            let folder = folder.clone();
            move || sweep(&folder)
        };
        tokio::task::spawn_blocking(sweep)
            .await
            .unwrap_or_else(|error| Err(io::Error::other(error)))
            .map_err(|source| Error::File { path: folder, source })
    }
}

fn sweep(folder: &Path) -> io::Result<()> {
    if !folder.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let age = entry.metadata()?.modified()?.elapsed();
        if age.is_ok_and(|age| age > ABANDONED) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

impl Files {
    fn upload(&self, upload: &str) -> Result<PathBuf, Error> {
        let is_ours = upload.len() == 32 && upload.bytes().all(|byte| byte.is_ascii_hexdigit());
        if is_ours { Ok(self.root.join(UPLOADS).join(upload)) } else { Err(Error::NoUpload(upload.to_owned())) }
    }

    pub(super) async fn begin_upload(&self) -> Result<String, Error> {
        let upload = format!("{:032x}", rand::random::<u128>());
        let path = self.upload(&upload)?;
        tokio::fs::create_dir_all(&path).await.map_err(|source| Error::File { path, source })?;
        Ok(upload)
    }

    pub(super) async fn upload_is_open(&self, upload: &str) -> Result<bool, Error> {
        let path = self.upload(upload)?;
        tokio::fs::try_exists(&path).await.map_err(|source| Error::File { path, source })
    }

    pub(super) fn part_address(&self, key: &str, upload: &str, number: u32, size: u64, expires: Timestamp) -> Url {
        let part =
            PartLink { key: key.to_owned(), upload: upload.to_owned(), number, size, expires: expires.as_second() };
        self.signer.sign_part(&part)
    }

    async fn receive_part(
        &self,
        part: &PartLink,
        mut body: impl Stream<Item = io::Result<Bytes>> + Unpin,
    ) -> Result<ReceivedPart, PartError> {
        let folder = self.upload(&part.upload)?;
        // Whoever sends it twice at once writes two files, and the last one to be whole counts.
        let path = folder.join(format!("{}.{:016x}", part.number, rand::random::<u64>()));
        let received = async {
            let failed = |source: io::Error| match source.kind() {
                io::ErrorKind::NotFound => Error::NoUpload(part.upload.clone()),
                _ => Error::File { path: path.clone(), source },
            };
            let mut file = tokio::fs::File::create(&path).await.map_err(failed)?;
            let mut hasher = Hasher::default();
            while let Some(piece) = body.try_next().await.map_err(Error::Source)? {
                hasher.update(&piece);
                if hasher.length() > part.size {
                    return Err(PartError::Length { expected: part.size });
                }
                file.write_all(&piece).await.map_err(failed)?;
            }
            if hasher.length() != part.size {
                return Err(PartError::Length { expected: part.size });
            }
            file.flush().await.map_err(failed)?;
            tokio::fs::rename(&path, folder.join(part.number.to_string())).await.map_err(failed)?;
            Ok(ReceivedPart { etag: hasher.finish().to_string() })
        };
        let received = received.await;
        if received.is_err() {
            // It may not even have been made.
            let _ = tokio::fs::remove_file(&path).await;
        }
        received
    }

    pub(super) async fn complete_upload(
        &self,
        storage: &Storage,
        key: &str,
        upload: &str,
        content: &Content,
    ) -> Result<(), Error> {
        let folder = self.upload(upload)?;
        if !self.upload_is_open(upload).await? {
            return Err(Error::NoUpload(upload.to_owned()));
        }
        let mut writer = storage.writer(key, content.size, content.checksum).await?;
        let written = async {
            let mut hasher = Hasher::default();
            for number in 1..=content.parts() {
                let path = folder.join(number.to_string());
                let failed = |source: io::Error| match source.kind() {
                    io::ErrorKind::NotFound => Error::Incomplete(format!("part {number} is missing")),
                    _ => Error::File { path: path.clone(), source },
                };
                let mut file = tokio::fs::File::open(&path).await.map_err(failed)?;
                loop {
                    let mut piece = Vec::with_capacity(PIECE);
                    if (&mut file).take(PIECE as u64).read_to_end(&mut piece).await.map_err(failed)? == 0 {
                        break;
                    }
                    hasher.update(&piece);
                    writer.write(piece).await?;
                }
            }
            check(hasher, key, content)?;
            writer.close().await?;
            Ok(())
        };
        let written = written.await;
        match &written {
            Ok(()) => self.abort_upload(upload).await?,
            Err(_) => give_up(&mut writer).await,
        }
        written
    }

    pub(super) async fn abort_upload(&self, upload: &str) -> Result<(), Error> {
        let path = self.upload(upload)?;
        match tokio::fs::remove_dir_all(&path).await {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(Error::File { path, source }),
            _ => Ok(()),
        }
    }
}

fn check(hasher: Hasher, key: &str, content: &Content) -> Result<(), Error> {
    let (length, checksum): (u64, Checksum) = (hasher.length(), hasher.finish());
    if (length, checksum) == (content.size, content.checksum) {
        return Ok(());
    }
    Err(Error::Corrupt { key: key.to_owned(), expected: content.checksum })
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use futures::stream;

    use super::*;
    use crate::storage::Signer;

    struct Store {
        folder: tempfile::TempDir,
        storage: Storage,
    }

    impl Store {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let signer = Signer::new("http://localhost:30080".parse().unwrap(), b"secret");
            let storage = Storage::files(folder.path(), signer).unwrap();
            Self { folder, storage }
        }

        async fn begin(&self, bytes: &[u8]) -> (Content, String) {
            let content = Content { size: bytes.len() as u64, checksum: Checksum::of(bytes) };
            let upload = self.storage.begin_upload("a/b", &content).await.unwrap();
            (content, upload)
        }

        async fn send(&self, upload: &str, number: u32, size: u64, bytes: &[u8]) -> Result<ReceivedPart, PartError> {
            let expires = Timestamp::now() + jiff::SignedDuration::from_mins(1);
            let address = self.storage.part_address("a/b", upload, number, size, expires).await.unwrap();
            let query: std::collections::HashMap<_, _> = address.query_pairs().into_owned().collect();
            let part = PartLink {
                key: "a/b".into(),
                upload: query["upload"].clone(),
                number: query["part"].parse().unwrap(),
                size: query["size"].parse().unwrap(),
                expires: query["expires"].parse().unwrap(),
            };
            let body = stream::iter([Ok(Bytes::copy_from_slice(bytes))]);
            self.storage.receive_part(&part, &query["signature"], Timestamp::now(), body).await
        }
    }

    #[tokio::test]
    async fn parts_become_the_object_and_each_call_can_be_repeated() {
        let store = Store::new();
        let bytes: Vec<u8> = (0..9 << 20).map(|n: u32| (n % 251) as u8).collect();
        let (content, upload) = store.begin(&bytes).await;
        let (first, second) = bytes.split_at(8 << 20);
        let mut etags = Vec::new();
        for (number, part) in [(1, first), (2, second), (2, second)] {
            etags.push(store.send(&upload, number, part.len() as u64, part).await.unwrap().etag);
        }
        assert_eq!(etags[1], etags[2]);
        assert!(store.storage.upload_is_open("a/b", &upload).await.unwrap());
        for _ in 0..2 {
            store.storage.complete_upload("a/b", &upload, &etags[..2], &content).await.unwrap();
        }
        assert_eq!(store.storage.get("a/b").await.unwrap(), bytes);
        assert!(!store.storage.upload_is_open("a/b", &upload).await.unwrap());
        assert!(store.storage.is_complete("a/b", &content).await.unwrap());
        let late = store.send(&upload, 1, 1, b"x").await;
        assert!(matches!(late, Err(PartError::Store(Error::NoUpload(_)))), "{late:?}");
    }

    #[tokio::test]
    async fn a_part_of_another_length_or_other_bytes_are_refused() {
        let store = Store::new();
        let (content, upload) = store.begin(b"abc").await;
        for wrong in [&b"ab"[..], b"abcd"] {
            let sent = store.send(&upload, 1, 3, wrong).await;
            assert!(matches!(sent, Err(PartError::Length { expected: 3 })), "{sent:?}");
        }
        let none = store.storage.complete_upload("a/b", &upload, &["x".into()], &content).await;
        assert!(matches!(none, Err(Error::Incomplete(_))), "{none:?}");
        store.send(&upload, 1, 3, b"xyz").await.unwrap();
        let other = store.storage.complete_upload("a/b", &upload, &["x".into()], &content).await;
        assert!(matches!(other, Err(Error::Corrupt { .. })), "{other:?}");
        assert!(!store.storage.exists("a/b").await.unwrap());
        store.storage.abort_upload("a/b", &upload).await.unwrap();
        store.storage.abort_upload("a/b", &upload).await.unwrap();
        let gone = store.storage.complete_upload("a/b", &upload, &["x".into()], &content).await;
        assert!(matches!(gone, Err(Error::NoUpload(_))), "{gone:?}");
    }

    #[tokio::test]
    async fn an_empty_object_is_one_empty_part() {
        let store = Store::new();
        let (content, upload) = store.begin(b"").await;
        let etag = store.send(&upload, 1, 0, b"").await.unwrap().etag;
        store.storage.complete_upload("a/b", &upload, &[etag], &content).await.unwrap();
        assert_eq!(store.storage.get("a/b").await.unwrap(), "");
    }

    #[tokio::test]
    async fn what_nobody_completed_goes_after_days() {
        let store = Store::new();
        store.storage.sweep_uploads().await.unwrap();
        let (_, old) = store.begin(b"abc").await;
        let (_, new) = store.begin(b"abc").await;
        let folder = store.folder.path().join(UPLOADS).join(&old);
        let long_ago = SystemTime::now() - ABANDONED - Duration::from_secs(60);
        std::fs::File::open(folder).unwrap().set_modified(long_ago).unwrap();
        store.storage.sweep_uploads().await.unwrap();
        assert!(!store.storage.upload_is_open("a/b", &old).await.unwrap());
        assert!(store.storage.upload_is_open("a/b", &new).await.unwrap());
    }
}
