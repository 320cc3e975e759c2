//! `Range: bytes=…`: one range of what is there. Several in one request are answered with the whole.

use std::ops::Range;

use axum::{
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

use crate::error::{ApiError, Result};

/// What a request wants of something that is `length` bytes long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// All of it.
    Whole,
    /// These bytes, at least one.
    Part(Range<u64>),
    /// Bytes that there are none of.
    Nothing,
}

impl Wanted {
    pub(crate) fn of(headers: &HeaderMap, length: u64) -> Self {
        let Some(range) = headers.get(header::RANGE) else { return Self::Whole };
        range.to_str().ok().and_then(|range| parse(range, length)).unwrap_or(Self::Whole)
    }
}

/// The answer to a range that there is nothing of.
pub(crate) fn unsatisfiable(length: u64) -> Response {
    let message = format!("there are {length} bytes, none of them in this range");
    let error = ApiError::new(StatusCode::RANGE_NOT_SATISFIABLE, "range_not_satisfiable", message);
    ([(header::CONTENT_RANGE, format!("bytes */{length}"))], error).into_response()
}

/// A header's value made of numbers.
pub(crate) fn value(text: String) -> Result<HeaderValue> {
    HeaderValue::try_from(text).map_err(ApiError::internal)
}

/// `None` for what is to be ignored: other units, several ranges, no sense.
fn parse(range: &str, length: u64) -> Option<Wanted> {
    let (first, last) = range.strip_prefix("bytes=")?.trim().split_once('-')?;
    let part = if first.is_empty() {
        let suffix: u64 = last.parse().ok()?;
        length.saturating_sub(suffix)..length
    } else {
        let first: u64 = first.parse().ok()?;
        let last = if last.is_empty() { u64::MAX } else { last.parse().ok()? };
        if last < first {
            return None;
        }
        first..last.saturating_add(1).min(length)
    };
    Some(if part.start < part.end { Wanted::Part(part) } else { Wanted::Nothing })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut_to_what_is_there() {
        for (range, wanted) in [
            ("bytes=0-0", Wanted::Part(0..1)),
            ("bytes=2-4", Wanted::Part(2..5)),
            ("bytes=5-", Wanted::Part(5..10)),
            ("bytes=5-1000", Wanted::Part(5..10)),
            ("bytes=-3", Wanted::Part(7..10)),
            ("bytes=-1000", Wanted::Part(0..10)),
            ("bytes=10-", Wanted::Nothing),
            ("bytes=10-20", Wanted::Nothing),
            ("bytes=-0", Wanted::Nothing),
            ("bytes=0-18446744073709551615", Wanted::Part(0..10)),
        ] {
            assert_eq!(parse(range, 10), Some(wanted), "{range}");
        }
        assert_eq!(parse("bytes=0-", 0), Some(Wanted::Nothing));
    }

    #[test]
    fn what_makes_no_sense_is_ignored() {
        for range in ["lines=1-2", "bytes=", "bytes=-", "bytes=a-b", "bytes=4-2", "bytes=0-1,3-4", "bytes=-1-2"] {
            assert_eq!(parse(range, 10), None, "{range}");
        }
    }
}
