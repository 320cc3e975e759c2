//! Keys of objects: names separated by slashes, each of which could be a file's name anywhere.

/// A name that no object can have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key:?} cannot be an object's key: {reason}")]
pub struct InvalidKey {
    key: String,
    reason: &'static str,
}

/// Gives the key back if it is one.
pub(super) fn check(key: &str) -> Result<&str, InvalidKey> {
    let reason = if key.len() > 1024 {
        "it is longer than 1024 bytes"
    } else if key.chars().any(|c| c.is_control() || c == '\\') {
        "it has a control character or a backslash"
    } else if key.starts_with('.') {
        "it begins with a dot"
    } else if key.split('/').any(|name| matches!(name, "" | "." | "..")) {
        "a name in it is empty, \".\" or \"..\""
    } else if key.split('/').any(|name| name.len() > 255) {
        "a name in it is longer than 255 bytes"
    } else {
        return Ok(key);
    };
    Err(InvalidKey { key: key.chars().take(200).collect(), reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_plain_names_separated_by_slashes() {
        for key in ["a", "logs/pipelines/0190/test.log", "artifacts/1/x/ä b/.hidden", "a/..b", "a/b.."] {
            assert_eq!(check(key), Ok(key));
        }
    }

    #[test]
    fn anything_that_could_lead_elsewhere_is_refused() {
        let long = format!("a/{}", "x".repeat(256));
        let longer = "x/".repeat(600) + "x";
        for key in [
            "",
            "/",
            "/a",
            "a/",
            "a//b",
            ".",
            "..",
            "../a",
            "a/..",
            "a/../b",
            "./a",
            "a/./b",
            ".unfinished/a",
            "a\0b",
            "a\nb",
            "a\\..\\b",
            &long,
            &longer,
        ] {
            assert!(check(key).is_err(), "{key:?}");
        }
    }
}
