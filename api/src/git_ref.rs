//! Refs and commits as callers name them. Only what git itself accepts as a name goes on to git.

use crate::error::{ApiError, Result};

/// What a run is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GitRef {
    /// The ref in full, or the commit where only that was named.
    pub(crate) full: String,
    /// The branch, unless it is a tag or a commit.
    pub(crate) branch: Option<String>,
    /// The commit, where one was named.
    pub(crate) commit: Option<String>,
}

impl GitRef {
    /// A ref as a person writes it: in full, a branch's name, or a commit's SHA.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        if is_sha(text) {
            return Ok(Self { full: text.to_owned(), branch: None, commit: Some(text.to_owned()) });
        }
        check_name(text).map_err(|reason| ApiError::invalid("ref", format!("{text:?} is no ref: {reason}")))?;
        let full = if text.starts_with("refs/") { text.to_owned() } else { format!("refs/heads/{text}") };
        let branch = full.strip_prefix("refs/heads/").map(str::to_owned);
        Ok(Self { full, branch, commit: None })
    }

    /// A ref in full, as git names it.
    pub(crate) fn parse_full(text: &str) -> Result<Self> {
        if !text.starts_with("refs/") {
            return Err(ApiError::invalid("ref", format!("{text:?} is no full ref, such as \"refs/heads/main\"")));
        }
        Self::parse(text)
    }

    /// Whether it is one that code is pushed to.
    pub(crate) fn is_branch_or_tag(&self) -> bool {
        self.branch.is_some() || self.full.starts_with("refs/tags/")
    }
}

/// A commit's full SHA.
pub(crate) fn commit(field: &str, text: &str) -> Result<String> {
    if is_sha(text) {
        return Ok(text.to_owned());
    }
    Err(ApiError::invalid(field, format!("{text:?} is no full commit SHA: 40 or 64 hexadecimal digits in lower case")))
}

/// Git's way to say that a ref was not there before, or is not there any more.
pub(crate) fn is_zero(sha: &str) -> bool {
    sha.bytes().all(|byte| byte == b'0')
}

fn is_sha(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The rules of `git check-ref-format`, and no leading dash: git would take it for an option.
fn check_name(name: &str) -> std::result::Result<(), &'static str> {
    if name.is_empty() {
        Err("it is empty")
    } else if name.len() > 255 {
        Err("it is longer than 255 bytes")
    } else if name.starts_with('-') {
        Err("it begins with a dash")
    } else if name.chars().any(|c| c.is_control() || c.is_whitespace() || "~^:?*[\\".contains(c)) {
        Err("it has white space, a control character or one of ~^:?*[\\")
    } else if name.contains("..") || name.contains("@{") || name == "@" {
        Err("it has \"..\" or \"@{\"")
    } else if name.split('/').any(|part| part.is_empty() || part.starts_with('.') || part.ends_with(".lock")) {
        Err("a part of it is empty, begins with a dot or ends with \".lock\"")
    } else if name.ends_with('.') {
        Err("it ends with a dot")
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_branch_may_be_named_shortly() {
        for text in ["main", "refs/heads/main"] {
            let parsed = GitRef::parse(text).unwrap();
            assert_eq!((parsed.full.as_str(), parsed.branch.as_deref()), ("refs/heads/main", Some("main")));
        }
        assert_eq!(GitRef::parse("feature/a@b").unwrap().branch.as_deref(), Some("feature/a@b"));
    }

    #[test]
    fn a_tag_has_no_branch_and_a_commit_has_no_ref() {
        let tag = GitRef::parse("refs/tags/v1.0").unwrap();
        assert_eq!((tag.branch.as_ref(), tag.is_branch_or_tag()), (None, true));
        let sha = "0123456789abcdef0123456789abcdef01234567";
        assert_eq!(GitRef::parse(sha).unwrap().commit.as_deref(), Some(sha));
        assert!(!GitRef::parse("refs/notes/commits").unwrap().is_branch_or_tag());
    }

    #[test]
    fn names_that_git_would_take_for_something_else_are_refused() {
        for name in [
            "",
            "-b",
            "--upload-pack=touch",
            "a b",
            "a\tb",
            "a\nb",
            "a..b",
            "a~1",
            "a^",
            "a:b",
            "a?",
            "a*",
            "a[",
            "a\\b",
            "a@{1}",
            "@",
            "/a",
            "a/",
            "a//b",
            ".a",
            "a/.b",
            "a.lock",
            "a.lock/b",
            "a.",
            "a\0b",
        ] {
            assert!(GitRef::parse(name).is_err(), "{name:?}");
            assert!(
                GitRef::parse_full(&format!("refs/heads/{name}")).is_err() || name.starts_with('-') || name == "@",
                "{name:?}"
            );
        }
        assert!(GitRef::parse(&"x".repeat(256)).is_err());
        assert!(GitRef::parse_full("main").is_err());
    }

    #[test]
    fn commits_are_full_and_in_lower_case() {
        assert!(commit("commit", &"a".repeat(40)).is_ok());
        assert!(commit("commit", &"a".repeat(64)).is_ok());
        for text in ["", "abc", &"A".repeat(40), &"g".repeat(40), &"a".repeat(41)] {
            assert!(commit("commit", text).is_err(), "{text:?}");
        }
    }
}
