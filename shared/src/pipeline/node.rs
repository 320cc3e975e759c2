//! A small tree of values with their places, between a file's format and its meaning.
//!
//! Each format reads its text into this tree; the definition is decoded from the tree, so that
//! all checks are written once.

use super::diagnostics::quote;

/// A range of bytes in the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: usize,
    pub(super) end: usize,
}

impl Span {
    pub(super) fn at(start: usize) -> Self {
        Self { start, end: start }
    }
}

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Located<T> {
    pub(super) value: T,
    pub(super) span: Span,
}

#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) span: Span,
    pub(super) value: Value,
}

#[derive(Debug, Clone)]
pub(super) enum Value {
    Null,
    Scalar {
        text: String,
        /// Written without quotes, so that it may be a number or a truth value.
        plain: bool,
    },
    List(Vec<Node>),
    Map(Vec<Entry>),
    /// Already reported; nothing more is to be said about it.
    Invalid,
}

#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key: Located<String>,
    pub(super) value: Node,
}

impl Node {
    /// What the value is, for a message.
    pub(super) fn kind(&self) -> String {
        match &self.value {
            Value::Null => "nothing".to_owned(),
            Value::Scalar { text, plain: true } => quote(text),
            Value::Scalar { text, plain: false } => format!("the text {}", quote(text)),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a mapping".to_owned(),
            Value::Invalid => "broken".to_owned(),
        }
    }
}
