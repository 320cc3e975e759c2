//! Addresses of objects, as they are signed.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::Url;

use crate::storage::Error;

/// What a signature covers must be written in one way only: all but these in percents.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const ENCODED_PATH: &AsciiSet = &ENCODED.remove(b'/');

/// Where the objects' addresses begin.
pub(in crate::storage) struct Bucket {
    /// With a slash at the end.
    base: String,
}

impl Bucket {
    pub(super) fn new(server: &Url, name: &str, path_style: bool, prefix: &str) -> Result<Self, Error> {
        let mut base = server.clone();
        if !path_style {
            let host = format!("{}.{}", name, server.host_str().unwrap_or_default());
            base.set_host(Some(&host))
                .map_err(|error| Error::Misconfigured(format!("{host} is no host's name: {error}")))?;
        }
        let mut base = base.as_str().trim_end_matches('/').to_owned();
        for name in [if path_style { name } else { "" }, prefix].into_iter().filter(|name| !name.is_empty()) {
            base.push('/');
            base.extend(utf8_percent_encode(name, ENCODED_PATH));
        }
        base.push('/');
        Ok(Self { base })
    }

    pub(in crate::storage) fn object(&self, key: &str, query: &[(&str, &str)]) -> String {
        let mut address = self.base.clone();
        address.extend(utf8_percent_encode(key, ENCODED_PATH));
        for (number, (name, value)) in query.iter().enumerate() {
            address.push(if number == 0 { '?' } else { '&' });
            address.extend(utf8_percent_encode(name, ENCODED));
            address.push('=');
            address.extend(utf8_percent_encode(value, ENCODED));
        }
        address
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bucket_is_named_in_the_path_or_in_the_host() {
        let server = "https://objects.example".parse().unwrap();
        let address =
            |path_style| Bucket::new(&server, "ci", path_style, "a b").unwrap().object("ä/b+c", &[("x", "y/z")]);
        assert_eq!(address(true), "https://objects.example/ci/a%20b/%C3%A4/b%2Bc?x=y%2Fz");
        assert_eq!(address(false), "https://ci.objects.example/a%20b/%C3%A4/b%2Bc?x=y%2Fz");
    }
}
