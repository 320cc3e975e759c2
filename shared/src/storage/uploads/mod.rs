//! Uploads by others: whoever has the bytes sends them to the store in parts, each to an address that is good for one part
//! of exactly one length. The bytes do not pass through whoever gives the addresses. In S3 these are multipart uploads; for
//! files BuildIt serves the same shape itself.
//!
//! Everything may be repeated: a part that is sent again takes its place, and completing what is complete succeeds.

mod files;
mod s3;

use jiff::Timestamp;
use url::Url;

use super::{Checksum, Error, Place, Storage, key};

pub use files::{PartError, ReceivedPart};

/// Parts are at least this long, but for the last.
const SHORTEST_PART: u64 = 8 << 20;
/// And at most this.
const LONGEST_PART: u64 = 64 << 20;
/// S3's own limit.
const MOST_PARTS: u64 = 10_000;

/// The longest object that can be uploaded, in bytes.
pub const LONGEST: u64 = LONGEST_PART * MOST_PARTS;

/// What is to be uploaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// Bytes; at most [`LONGEST`].
    pub size: u64,
    /// Of all the bytes.
    pub checksum: Checksum,
}

impl Content {
    /// The length of all parts but the last, which has the rest.
    pub fn part_size(&self) -> u64 {
        let needed = self.size.div_ceil(MOST_PARTS).next_multiple_of(1 << 20);
        needed.clamp(SHORTEST_PART, LONGEST_PART)
    }

    /// How many parts there are; an empty object is one empty part.
    pub fn parts(&self) -> u64 {
        self.size.div_ceil(self.part_size()).max(1)
    }

    /// The length of part `number`, counted from 1; `None` when there is none of that number.
    pub fn part_length(&self, number: u32) -> Option<u64> {
        let number = u64::from(number);
        if !(1..=self.parts()).contains(&number) {
            return None;
        }
        Some((self.size - (number - 1) * self.part_size()).min(self.part_size()))
    }
}

impl Storage {
    /// Begins an upload of `key` and returns its id.
    pub async fn begin_upload(&self, key: &str, content: &Content) -> Result<String, Error> {
        let key = key::check(key)?;
        match &self.place {
            Place::Files(files) => files.begin_upload().await,
            Place::S3(s3) => s3.begin_upload(key, content).await,
        }
    }

    /// Whether parts can still be sent to this upload.
    pub async fn upload_is_open(&self, key: &str, upload: &str) -> Result<bool, Error> {
        let key = key::check(key)?;
        match &self.place {
            Place::Files(files) => files.upload_is_open(upload).await,
            Place::S3(s3) => s3.upload_is_open(key, upload).await,
        }
    }

    /// Where part `number`, of `size` bytes, is to be PUT until `expires`. The answer's `ETag` is needed to complete.
    pub async fn part_address(
        &self,
        key: &str,
        upload: &str,
        number: u32,
        size: u64,
        expires: Timestamp,
    ) -> Result<Url, Error> {
        let key = key::check(key)?;
        match &self.place {
            Place::Files(files) => Ok(files.part_address(key, upload, number, size, expires)),
            Place::S3(s3) => s3.part_address(key, upload, number, size, expires).await,
        }
    }

    /// Makes the object of its parts, `etags` in their order.
    ///
    /// # Errors
    /// [`Error::Incomplete`] when they are not all the parts or not those; [`Error::NoUpload`] when there is neither such an
    /// upload nor the object that it would have become; [`Error::Corrupt`] when the bytes are other ones, as far as that
    /// can be seen without reading them: S3's are compared when they are read.
    pub async fn complete_upload(
        &self,
        key: &str,
        upload: &str,
        etags: &[String],
        content: &Content,
    ) -> Result<(), Error> {
        let key = key::check(key)?;
        if etags.len() as u64 != content.parts() {
            return Err(Error::Incomplete(format!("it has {} parts, not {}", content.parts(), etags.len())));
        }
        let completed = match &self.place {
            Place::Files(files) => files.complete_upload(self, key, upload, content).await,
            Place::S3(s3) => s3.complete_upload(key, upload, etags).await,
        };
        match completed {
            // The answer to an earlier call may have been lost.
            Err(Error::NoUpload(_) | Error::Incomplete(_)) if self.is_complete(key, content).await? => Ok(()),
            completed => completed,
        }
    }

    /// Gives an upload up; one that is not there is no error.
    pub async fn abort_upload(&self, key: &str, upload: &str) -> Result<(), Error> {
        let key = key::check(key)?;
        match &self.place {
            Place::Files(files) => files.abort_upload(upload).await,
            Place::S3(s3) => s3.abort_upload(key, upload).await,
        }
    }

    /// Whether the object is there with that length and checksum.
    pub async fn is_complete(&self, key: &str, content: &Content) -> Result<bool, Error> {
        let object = match self.stat(key).await {
            Ok(object) if object.size == content.size => object,
            Ok(_) | Err(Error::NotFound(_)) => return Ok(false),
            Err(error) => return Err(error),
        };
        let checksum = match (object.checksum, self.local_path(key)) {
            (Some(checksum), _) => checksum,
            (None, Some(path)) => {
                let digest = super::digest(&path).await;
                digest.map_err(|source| Error::File { path, source })?.1
            }
            (None, None) => return Ok(false),
        };
        Ok(checksum == content.checksum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(size: u64) -> Content {
        Content { size, checksum: Checksum::of(b"") }
    }

    #[test]
    fn every_length_has_parts_that_s3_takes() {
        for size in [0, 1, SHORTEST_PART - 1, SHORTEST_PART, SHORTEST_PART + 1, 100 << 30, LONGEST - 1, LONGEST] {
            let content = content(size);
            assert!((SHORTEST_PART..=LONGEST_PART).contains(&content.part_size()), "{size}");
            assert!((1..=MOST_PARTS).contains(&content.parts()), "{size}");
            let parts = u32::try_from(content.parts()).unwrap();
            let lengths: Vec<u64> = (1..=parts).map(|number| content.part_length(number).unwrap()).collect();
            assert_eq!(lengths.iter().sum::<u64>(), size);
            assert!(lengths[..lengths.len() - 1].iter().all(|length| *length == content.part_size()), "{size}");
            assert!(size == 0 || lengths.iter().all(|length| *length > 0), "{size}");
            assert_eq!(content.part_length(0), None);
            assert_eq!(content.part_length(parts + 1), None);
        }
    }
}
