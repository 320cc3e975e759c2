//! Links that BuildIt signs itself, in the shape of S3's: `{public_url}/objects/{key}?expires=…&signature=…`.
//!
//! The signature covers the method, the key, the expiry and whatever else is in the query, so none of them can be exchanged.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac};
use jiff::Timestamp;
use sha2::Sha256;
use url::Url;

use crate::secret::derived;

/// Why a link is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidLink {
    /// Its time is over.
    #[error("this link has expired; ask the API for a new one")]
    Expired,
    /// It was not made here, or was changed since.
    #[error("this link's signature does not match")]
    Forged,
}

/// One part of an upload, as its address names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartLink {
    /// The object that it becomes a part of.
    pub key: String,
    /// The upload.
    pub upload: String,
    /// From 1.
    pub number: u32,
    /// Its length in bytes.
    pub size: u64,
    /// When the address expires, in seconds since the epoch.
    pub expires: i64,
}

/// Makes and checks links.
#[derive(Clone)]
pub struct Signer {
    public_url: Url,
    key: Hmac<Sha256>,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").field("public_url", &self.public_url.as_str()).finish_non_exhaustive()
    }
}

impl Signer {
    /// Links at `public_url`, signed by a key that is derived from the installation's secret.
    pub fn new(public_url: Url, secret: &[u8]) -> Self {
        Self { public_url, key: derived(secret, "buildit object links v1") }
    }

    pub(super) fn sign(&self, key: &str, expires: Timestamp, filename: Option<&str>) -> Url {
        let expires = expires.as_second();
        let signature = self.mac(key, expires, filename).finalize().into_bytes();
        let mut url = self.object(key);
        let mut query = url.query_pairs_mut();
        query.append_pair("expires", &expires.to_string());
        if let Some(filename) = filename {
            query.append_pair("filename", filename);
        }
        query.append_pair("signature", &URL_SAFE_NO_PAD.encode(signature));
        drop(query);
        url
    }

    pub(super) fn check(
        &self,
        key: &str,
        expires: i64,
        filename: Option<&str>,
        signature: &str,
        now: Timestamp,
    ) -> Result<(), InvalidLink> {
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| InvalidLink::Forged)?;
        self.mac(key, expires, filename).verify_slice(&signature).map_err(|_| InvalidLink::Forged)?;
        if now.as_second() >= expires { Err(InvalidLink::Expired) } else { Ok(()) }
    }

    /// The address that takes a part of an upload.
    pub(super) fn sign_part(&self, part: &PartLink) -> Url {
        let signature = self.part_mac(part).finalize().into_bytes();
        let mut url = self.object(&part.key);
        url.query_pairs_mut()
            .append_pair("upload", &part.upload)
            .append_pair("part", &part.number.to_string())
            .append_pair("size", &part.size.to_string())
            .append_pair("expires", &part.expires.to_string())
            .append_pair("signature", &URL_SAFE_NO_PAD.encode(signature));
        url
    }

    pub(super) fn check_part(&self, part: &PartLink, signature: &str, now: Timestamp) -> Result<(), InvalidLink> {
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| InvalidLink::Forged)?;
        self.part_mac(part).verify_slice(&signature).map_err(|_| InvalidLink::Forged)?;
        if now.as_second() >= part.expires { Err(InvalidLink::Expired) } else { Ok(()) }
    }

    fn part_mac(&self, part: &PartLink) -> Hmac<Sha256> {
        let PartLink { key, upload, number, size, expires } = part;
        self.key.clone().chain_update(format!("PUT\n{key}\n{expires}\n{upload}\n{number}\n{size}\n"))
    }

    fn object(&self, key: &str) -> Url {
        let mut url = self.public_url.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().push("objects").extend(key.split('/'));
        }
        url
    }

    fn mac(&self, key: &str, expires: i64, filename: Option<&str>) -> Hmac<Sha256> {
        // Keys have no control characters, so the lines cannot run into each other.
        let mac = self.key.clone().chain_update(format!("GET\n{key}\n{expires}\n"));
        match filename {
            Some(filename) => mac.chain_update("attachment\n").chain_update(filename),
            None => mac.chain_update("inline\n"),
        }
    }
}

/// The header that names a download, in both of the forms that RFC 6266 asks for; without a name it is shown in place.
pub fn disposition(filename: Option<&str>) -> String {
    let Some(name) = filename else { return "inline".into() };
    let plain: String = name
        .chars()
        .map(|c| if c.is_ascii_graphic() && !matches!(c, '"' | '\\' | '%') || c == ' ' { c } else { '_' })
        .collect();
    let encoded: String = name
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect();
    format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{encoded}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn signer(secret: &[u8]) -> Signer {
        Signer::new("https://ci.example/base/".parse().unwrap(), secret)
    }

    fn checked(signer: &Signer, url: &Url, now: i64) -> Result<(), InvalidLink> {
        let query: std::collections::HashMap<_, _> = url.query_pairs().into_owned().collect();
        signer.check(
            "artifacts/1/ä b.txt",
            query["expires"].parse().unwrap(),
            query.get("filename").map(String::as_str),
            &query["signature"],
            at(now),
        )
    }

    #[test]
    fn a_link_is_good_until_it_expires() {
        let signer = signer(b"secret");
        let url = signer.sign("artifacts/1/ä b.txt", at(100), Some("b.txt"));
        assert_eq!(url.path(), "/base/objects/artifacts/1/%C3%A4%20b.txt");
        assert_eq!(checked(&signer, &url, 99), Ok(()));
        assert_eq!(checked(&signer, &url, 100), Err(InvalidLink::Expired));
    }

    #[test]
    fn nothing_in_a_link_can_be_changed() {
        let signer = signer(b"secret");
        let url = signer.sign("artifacts/1/ä b.txt", at(100), Some("b.txt"));
        let signature = url.query_pairs().find(|(name, _)| name == "signature").unwrap().1.into_owned();
        let check =
            |key: &str, expires, filename, signature: &str| signer.check(key, expires, filename, signature, at(50));
        assert_eq!(check("artifacts/1/ä b.txt", 100, Some("b.txt"), &signature), Ok(()));
        let forged = Err(InvalidLink::Forged);
        assert_eq!(check("artifacts/2/ä b.txt", 100, Some("b.txt"), &signature), forged);
        assert_eq!(check("artifacts/1/ä b.txt", 101, Some("b.txt"), &signature), forged);
        assert_eq!(check("artifacts/1/ä b.txt", 100, Some("c.txt"), &signature), forged);
        assert_eq!(check("artifacts/1/ä b.txt", 100, None, &signature), forged);
        assert_eq!(check("artifacts/1/ä b.txt", 100, Some("b.txt"), ""), forged);
        assert_eq!(check("artifacts/1/ä b.txt", 100, Some("b.txt"), "?"), forged);
    }

    #[test]
    fn an_address_takes_the_part_that_it_names_and_nothing_else() {
        let part = PartLink { key: "a/b".into(), upload: "u".into(), number: 2, size: 10, expires: 100 };
        let signer = signer(b"secret");
        let url = signer.sign_part(&part);
        assert!(url.as_str().starts_with("https://ci.example/base/objects/a/b?upload=u&part=2&size=10&expires=100&"));
        let signature = url.query_pairs().find(|(name, _)| name == "signature").unwrap().1.into_owned();
        let check = |part: &PartLink, now| signer.check_part(part, &signature, at(now));
        assert_eq!(check(&part, 99), Ok(()));
        assert_eq!(check(&part, 100), Err(InvalidLink::Expired));
        for other in [
            PartLink { key: "a/c".into(), ..part.clone() },
            PartLink { upload: "v".into(), ..part.clone() },
            PartLink { number: 3, ..part.clone() },
            PartLink { size: 11, ..part.clone() },
            PartLink { expires: 101, ..part.clone() },
        ] {
            assert_eq!(check(&other, 50), Err(InvalidLink::Forged), "{other:?}");
        }
        // Nor does it open the object.
        assert_eq!(signer.check("a/b", 100, None, &signature, at(50)), Err(InvalidLink::Forged));
    }

    #[test]
    fn a_name_cannot_break_out_of_its_header() {
        assert_eq!(disposition(None), "inline");
        assert_eq!(disposition(Some("a b.txt")), "attachment; filename=\"a b.txt\"; filename*=UTF-8''a%20b.txt");
        assert_eq!(
            disposition(Some("ä\"\r\n;x")),
            "attachment; filename=\"____;x\"; filename*=UTF-8''%C3%A4%22%0D%0A%3Bx"
        );
    }

    #[test]
    fn another_installation_signs_otherwise() {
        let url = signer(b"secret").sign("artifacts/1/ä b.txt", at(100), None);
        assert_eq!(checked(&signer(b"other"), &url, 50), Err(InvalidLink::Forged));
    }
}
