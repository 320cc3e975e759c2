//! Secrets at rest: AES-256-GCM under the installation's key. The key is configuration; the database never has it.
//!
//! A new key seals and older ones still open, until all is sealed under the new one.

use std::{fmt, sync::Arc};

use rand::{TryRng, rngs::SysRng};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use sha2::{Digest, Sha256};

/// The keys of an installation; cheap to clone.
#[derive(Clone)]
pub struct Vault {
    /// The first one seals.
    keys: Arc<Vec<Key>>,
}

struct Key {
    id: String,
    key: LessSafeKey,
}

/// A sealed value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// Which key it is sealed under.
    pub key_id: String,
    /// Nonce, ciphertext and tag.
    pub bytes: Vec<u8>,
}

/// Why something was not sealed or opened.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// A key of the configuration is none.
    #[error("a key for secrets is 64 hexadecimal digits, such as `openssl rand -hex 32` prints")]
    NoKey,
    /// It was sealed under a key that this process was not given.
    #[error("it is sealed under the key {0}, which this process does not have")]
    UnknownKey(String),
    /// It was changed, or belongs to another place.
    #[error("what is stored of it is not what was sealed for this place")]
    Broken,
    /// The system has no random bits to give.
    #[error("no random bits: {0}")]
    Chance(String),
}

impl Vault {
    /// One that seals under `current` and opens what `older` keys sealed too; each is 64 hexadecimal digits.
    ///
    /// # Errors
    /// [`Error::NoKey`]
    pub fn new<'a>(current: &'a str, older: impl IntoIterator<Item = &'a str>) -> Result<Self, Error> {
        let keys: Result<Vec<Key>, Error> = std::iter::once(current).chain(older).map(Key::read).collect();
        Ok(Self { keys: Arc::new(keys?) })
    }

    /// The key that seals.
    pub fn key_id(&self) -> &str {
        self.keys.first().map_or("", |key| &key.id)
    }

    /// Seals a value for one place: with another place it cannot be opened.
    ///
    /// # Errors
    /// When the system has no random bits to give.
    pub fn seal(&self, place: &[u8], value: &[u8]) -> Result<Sealed, Error> {
        let key = self.keys.first().ok_or(Error::NoKey)?;
        let mut nonce = [0; NONCE_LEN];
        SysRng.try_fill_bytes(&mut nonce).map_err(|error| Error::Chance(error.to_string()))?;
        let mut sealed = value.to_vec();
        key.key
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(place), &mut sealed)
            .map_err(|_| Error::Broken)?;
        Ok(Sealed { key_id: key.id.clone(), bytes: [&nonce[..], &sealed].concat() })
    }

    /// The value that was sealed for this place.
    ///
    /// # Errors
    /// When the key is not here, or what is stored is not what was sealed.
    pub fn open(&self, place: &[u8], sealed: &Sealed) -> Result<Vec<u8>, Error> {
        let key = self.keys.iter().find(|key| key.id == sealed.key_id);
        let key = key.ok_or_else(|| Error::UnknownKey(sealed.key_id.clone()))?;
        let (nonce, bytes) = sealed.bytes.split_first_chunk::<NONCE_LEN>().ok_or(Error::Broken)?;
        let mut bytes = bytes.to_vec();
        let value = key
            .key
            .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(place), &mut bytes)
            .map_err(|_| Error::Broken)?;
        Ok(value.to_vec())
    }

    /// The text that was sealed for this place.
    ///
    /// # Errors
    /// As [`Vault::open`].
    pub fn open_text(&self, place: &[u8], sealed: &Sealed) -> Result<String, Error> {
        String::from_utf8(self.open(place, sealed)?).map_err(|_| Error::Broken)
    }

    /// The same value under the key that seals.
    ///
    /// # Errors
    /// As [`Vault::open`] and [`Vault::seal`].
    pub fn seal_anew(&self, place: &[u8], sealed: &Sealed) -> Result<Sealed, Error> {
        self.seal(place, &self.open(place, sealed)?)
    }
}

impl Key {
    fn read(digits: &str) -> Result<Self, Error> {
        let bytes: [u8; 32] =
            hex::decode(digits.trim()).ok().and_then(|bytes| bytes.try_into().ok()).ok_or(Error::NoKey)?;
        let key = UnboundKey::new(&AES_256_GCM, &bytes).map_err(|_| Error::NoKey)?;
        // Tells keys apart and tells nothing about them.
        let id = hex::encode(&Sha256::digest([&b"buildit secrets key v1"[..], &bytes].concat())[..4]);
        Ok(Self { id, key: LessSafeKey::new(key) })
    }
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|key| &key.id)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
    const TWO: &str = "ff0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

    #[test]
    fn a_value_is_opened_where_it_was_sealed_for_and_nowhere_else() {
        let vault = Vault::new(ONE, []).unwrap();
        let sealed = vault.seal(b"here", b"value").unwrap();
        assert_eq!(vault.open(b"here", &sealed).unwrap(), b"value");
        assert_eq!(vault.open(b"there", &sealed), Err(Error::Broken));
        assert_ne!(vault.seal(b"here", b"value").unwrap(), sealed, "no two look the same");
        for index in 0..sealed.bytes.len() {
            let mut changed = sealed.clone();
            changed.bytes[index] ^= 1;
            assert_eq!(vault.open(b"here", &changed), Err(Error::Broken));
        }
        let short = Sealed { bytes: vec![0; 11], ..sealed };
        assert_eq!(vault.open(b"here", &short), Err(Error::Broken));
    }

    #[test]
    fn a_new_key_seals_while_the_old_one_still_opens() {
        let (old, new) = (Vault::new(ONE, []).unwrap(), Vault::new(TWO, [ONE]).unwrap());
        let sealed = old.seal(b"", b"value").unwrap();
        assert_eq!(new.open(b"", &sealed).unwrap(), b"value");
        let again = new.seal_anew(b"", &sealed).unwrap();
        assert_eq!(new.open_text(b"", &again).unwrap(), "value");
        assert_eq!(again.key_id, new.key_id());
        assert_eq!(old.open(b"", &again), Err(Error::UnknownKey(again.key_id.clone())));
        assert!(!format!("{new:?}").contains("0102"), "{new:?}");
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for wrong in ["", "00", &ONE[1..], &ONE.replace('0', "x")] {
            assert_eq!(Vault::new(wrong, []).err(), Some(Error::NoKey), "{wrong:?}");
        }
    }
}
