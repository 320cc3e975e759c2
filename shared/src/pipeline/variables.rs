//! Variables of a pipeline file: `${git.branch}`, or `${{ git.branch }}`.
//!
//! A name without a dot (`${HOME}`) is the shell's and is left alone. In environment values, the
//! image and the concurrency group a variable is replaced by its text, and `$${git.branch}` stands
//! for `${git.branch}` itself. In shell commands it never becomes text: a branch or a commit
//! message is chosen by strangers, so it becomes a reference to an environment variable.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::diagnostics::nearest;
use super::units::is_environment_name;

/// Set for every step; these win over the file's own.
pub const PLATFORM_VARIABLES: [&str; 10] = [
    "CI",
    "COMMIT_BRANCH",
    "COMMIT_REF",
    "COMMIT_SHA",
    "PIPELINE_ID",
    "PLATFORM_PROJECT_ID",
    "PLATFORM_PROJECT_NAME",
    "PROJECT",
    "REGISTRY",
    "STEP_NAME",
];

/// Beginnings of the names that commands refer to, so the file cannot set them.
pub(super) const RESERVED_PREFIXES: [&str; 6] =
    ["BUILDIT_CUSTOM_", "BUILDIT_GIT_", "BUILDIT_PIPELINE_", "BUILDIT_RUN_", "BUILDIT_SECRET_", "BUILDIT_STEP_"];

/// Bytes of a reference, so that looking for its end costs no more.
const LONGEST_REFERENCE: usize = 256;

const FIXED: [(&str, Variable); 14] = [
    ("git.sha", Variable::GitSha),
    ("git.short_sha", Variable::GitShortSha),
    ("git.branch", Variable::GitBranch),
    ("git.ref", Variable::GitRef),
    ("git.message", Variable::GitMessage),
    ("git.author", Variable::GitAuthor),
    ("pipeline.id", Variable::PipelineId),
    ("pipeline.name", Variable::PipelineName),
    ("run.id", Variable::RunId),
    ("run.number", Variable::RunNumber),
    ("stage.name", Variable::StepName),
    ("stage.index", Variable::StepIndex),
    ("step.name", Variable::StepName),
    ("step.index", Variable::StepIndex),
];

/// What a reference in the file names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)] // Each is named as in the file.
pub enum Variable {
    GitSha,
    GitShortSha,
    GitBranch,
    GitRef,
    GitMessage,
    GitAuthor,
    PipelineId,
    PipelineName,
    RunId,
    RunNumber,
    StepName,
    StepIndex,
    /// Of the step's own environment, or of the platform's.
    Env(String),
    Secret(String),
    Custom(String),
}

/// A reference that names nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no variable `{name}`")]
pub struct UnknownVariable {
    /// What the file says.
    pub name: String,
    /// What it may have meant.
    pub near: Option<String>,
}

impl Variable {
    /// Reads what stands between the braces.
    ///
    /// # Errors
    /// The name is no variable's. Whether an `env.` or `custom.` name exists is not known here.
    pub fn parse(name: &str) -> Result<Self, UnknownVariable> {
        if let Some((_, variable)) = FIXED.iter().find(|(fixed, _)| *fixed == name) {
            return Ok(variable.clone());
        }
        match name.split_once('.') {
            Some(("env", key)) if is_environment_name(key) => Ok(Self::Env(key.to_owned())),
            Some(("secrets", key)) if is_environment_name(key) => Ok(Self::Secret(key.to_owned())),
            Some(("custom", key)) if is_custom_key(key) => Ok(Self::Custom(key.to_owned())),
            _ => Err(UnknownVariable { name: name.to_owned(), near: near(name) }),
        }
    }

    /// The environment variable that carries this one into a command; no two have the same.
    pub fn environment_name(&self) -> String {
        let fixed = match self {
            Self::GitSha => "BUILDIT_GIT_SHA",
            Self::GitShortSha => "BUILDIT_GIT_SHORT_SHA",
            Self::GitBranch => "BUILDIT_GIT_BRANCH",
            Self::GitRef => "BUILDIT_GIT_REF",
            Self::GitMessage => "BUILDIT_GIT_MESSAGE",
            Self::GitAuthor => "BUILDIT_GIT_AUTHOR",
            Self::PipelineId => "BUILDIT_PIPELINE_ID",
            Self::PipelineName => "BUILDIT_PIPELINE_NAME",
            Self::RunId => "BUILDIT_RUN_ID",
            Self::RunNumber => "BUILDIT_RUN_NUMBER",
            Self::StepName => "BUILDIT_STEP_NAME",
            Self::StepIndex => "BUILDIT_STEP_INDEX",
            Self::Env(name) => name,
            Self::Secret(name) => return format!("BUILDIT_SECRET_{name}"),
            Self::Custom(key) => return format!("BUILDIT_CUSTOM_{}", custom_name(key)),
        };
        fixed.to_owned()
    }

    /// Whether its text is chosen by whoever pushes or opens a merge request.
    pub(super) fn is_strangers(&self) -> bool {
        use Variable::{GitAuthor, GitBranch, GitMessage, GitRef};
        matches!(self, GitBranch | GitRef | GitMessage | GitAuthor)
    }
}

/// A whole name, or the first half of one, that was probably meant.
fn near(name: &str) -> Option<String> {
    if let Some(fixed) = nearest(name, FIXED.iter().map(|(fixed, _)| *fixed)) {
        return Some(fixed.to_owned());
    }
    let (half, key) = name.split_once('.')?;
    let half = nearest(half, ["env", "secrets", "custom"])?;
    is_custom_key(key).then(|| format!("{half}.{key}"))
}

/// Letters, digits, `_` and `-`, not starting with a digit or `-`.
pub(super) fn is_custom_key(key: &str) -> bool {
    is_environment_name(&key.replace('-', "_")) && !key.starts_with('-')
}

/// Upper case, as people expect. The rarer characters become a lower-case mark, which nothing
/// else becomes, so that `a-b`, `a_b` and `A_b` stay apart.
fn custom_name(key: &str) -> String {
    let mut name = String::with_capacity(key.len());
    for c in key.chars() {
        match c {
            '-' => name.push('d'),
            'A'..='Z' => name.extend(['u', c]),
            c => name.push(c.to_ascii_uppercase()),
        }
    }
    name
}

/// A reference as it stands in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reference {
    /// Bytes of the text, from `$` to the last brace.
    pub(super) range: Range<usize>,
    /// What stands between the braces.
    pub(super) name: String,
    /// Whether the line has the closing brace.
    pub(super) closed: bool,
}

/// The reference that starts at byte `at`, where a `$` stands. `${` with a dotted name is one, as
/// is every `${{`; what the shell itself understands (`${HOME}`, `${x:-a.b}`) is none.
pub(super) fn reference_at(text: &str, at: usize) -> Option<Reference> {
    let end = text.ceil_char_boundary(text.len().min(at + LONGEST_REFERENCE));
    let line = text[at..end].split('\n').next().unwrap_or_default();
    let (inner, open, close) = match line.strip_prefix("${{") {
        Some(inner) => (inner, "${{", "}}"),
        None => (line.strip_prefix("${")?, "${", "}"),
    };
    let name_end = inner.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let dotted = name_end.is_some_and(|end| end > 0 && inner[end..].starts_with('.'));
    if !dotted && close == "}" {
        return None;
    }
    let end = inner.find(close);
    let name = &inner[..end.unwrap_or(inner.len())];
    let tail = end.map_or(0, |_| close.len());
    Some(Reference {
        range: at..at + open.len() + name.len() + tail,
        name: name.trim().to_owned(),
        closed: end.is_some(),
    })
}

/// A text in which references are replaced by text.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece<'t> {
    Text(&'t str),
    Reference(Reference),
}

/// Splits a text into references and what stands between them.
pub(super) fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut found = Vec::new();
    let mut done = 0;
    let mut from = 0;
    while let Some(at) = text[from..].find("${").map(|at| from + at) {
        let Some(reference) = reference_at(text, at) else {
            from = at + 2;
            continue;
        };
        from = reference.range.end;
        if text[done..at].ends_with('$') {
            found.push(Piece::Text(&text[done..at - 1]));
            found.push(Piece::Text(&text[at..from]));
        } else {
            found.push(Piece::Text(&text[done..at]));
            found.push(Piece::Reference(reference));
        }
        done = from;
    }
    found.push(Piece::Text(&text[done..]));
    found.retain(|piece| *piece != Piece::Text(""));
    found
}

/// A text that holds no secret, only the places where secrets go.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Template {
    /// In order.
    pub parts: Vec<Part>,
}

/// A piece of a [`Template`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// As it is.
    Text(String),
    /// The value of the secret with this name.
    Secret(String),
}

impl Part {
    /// Bytes of text, or of a secret's name.
    pub(super) fn len(&self) -> usize {
        let (Self::Text(text) | Self::Secret(text)) = self;
        text.len()
    }
}

impl Template {
    /// A text without secrets.
    pub fn text(text: impl Into<String>) -> Self {
        Self { parts: vec![Part::Text(text.into())] }
    }

    /// Nothing but a secret's value.
    pub fn secret(name: impl Into<String>) -> Self {
        Self { parts: vec![Part::Secret(name.into())] }
    }

    pub(super) fn append(&mut self, other: Self) {
        for part in other.parts {
            match (self.parts.last_mut(), part) {
                (Some(Part::Text(text)), Part::Text(more)) => text.push_str(&more),
                (_, part) => self.parts.push(part),
            }
        }
    }

    /// The names of the secrets it needs, in order, repeated as they are.
    pub fn secret_names(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Secret(name) => Some(name.as_str()),
            Part::Text(_) => None,
        })
    }

    /// The text, when it needs no secret.
    pub fn as_text(&self) -> Option<String> {
        let texts = self.parts.iter().map(|part| match part {
            Part::Text(text) => Some(text.as_str()),
            Part::Secret(_) => None,
        });
        texts.collect()
    }
}
