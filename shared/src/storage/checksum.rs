//! SHA-256 of objects: computed while bytes pass, compared when all have.

use std::{fmt, str::FromStr};

use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use sha2::{Digest, Sha256};

use super::Error;

/// SHA-256 of an object's bytes; in hexadecimal as text.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Checksum([u8; 32]);

/// A text that is no SHA-256 in hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a SHA-256 is 64 hexadecimal digits")]
pub struct NoChecksum;

impl Checksum {
    /// Of bytes at hand.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Checksum {
    type Err = NoChecksum;

    fn from_str(text: &str) -> Result<Self, NoChecksum> {
        let mut sum = [0; 32];
        hex::decode_to_slice(text, &mut sum).map_err(|_| NoChecksum)?;
        Ok(Self(sum))
    }
}

/// Length and checksum of bytes that come in pieces.
#[derive(Clone, Debug, Default)]
pub struct Hasher {
    hash: Sha256,
    length: u64,
}

impl Hasher {
    /// Takes the next piece.
    pub fn update(&mut self, piece: &[u8]) {
        self.hash.update(piece);
        self.length += piece.len() as u64;
    }

    /// Bytes so far.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Of all the bytes.
    pub fn finish(self) -> Checksum {
        Checksum(self.hash.finalize().into())
    }
}

/// The same pieces; ends with [`Error::Corrupt`] when they were not what `expected` is the checksum of.
pub(super) fn verified(
    pieces: impl Stream<Item = Result<Bytes, Error>> + Send + Unpin + 'static,
    key: String,
    expected: Checksum,
) -> impl Stream<Item = Result<Bytes, Error>> + Send + Unpin + 'static {
    Box::pin(stream::try_unfold((pieces, Hasher::default()), move |(mut pieces, mut hasher)| {
        let key = key.clone();
        async move {
            match pieces.next().await.transpose()? {
                Some(piece) => {
                    hasher.update(&piece);
                    Ok(Some((piece, (pieces, hasher))))
                }
                None if hasher.finish() == expected => Ok(None),
                None => Err(Error::Corrupt { key, expected }),
            }
        }
    }))
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt;

    use super::*;

    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn a_checksum_is_written_in_hexadecimal() {
        assert_eq!(Checksum::of(b"abc").to_string(), ABC);
        assert_eq!(ABC.parse(), Ok(Checksum::of(b"abc")));
        for wrong in ["", "abc", &ABC[1..], &format!("{ABC}0"), &ABC.replace('b', "x")] {
            assert_eq!(wrong.parse::<Checksum>(), Err(NoChecksum), "{wrong:?}");
        }
    }

    #[tokio::test]
    async fn other_bytes_than_those_that_were_stored_are_noticed_at_their_end() {
        let pieces = |bytes: [&'static [u8]; 2]| stream::iter(bytes.map(|piece| Ok(Bytes::from_static(piece))));
        let expected = Checksum::of(b"abc");
        let read = |bytes| verified(pieces(bytes), "a/b".into(), expected).try_collect::<Vec<_>>();
        assert_eq!(read([b"a", b"bc"]).await.unwrap().concat(), b"abc");
        let error = read([b"a", b"bd"]).await.unwrap_err();
        assert!(error.to_string().contains("\"a/b\""), "{error}");
    }
}
