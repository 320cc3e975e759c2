//! Lists in pages: `?limit=&cursor=` → `{"items": […], "next_cursor": …}`.
//!
//! A cursor is the sort key of the last item shown, so a page costs the same however far back it is, and items that
//! come or go meanwhile shift nothing.

use std::str::FromStr;

use axum::http::StatusCode;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::error::{ApiError, Result};

const DEFAULT: i64 = 50;
const MOST: i64 = 200;

/// Which page of a list.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct PageParams {
    /// How many items, from 1 to 200; 50 without it.
    limit: Option<i64>,
    /// `next_cursor` of the page before; the first page without it.
    cursor: Option<String>,
}

/// A page of a list.
#[derive(Serialize, ToSchema)]
pub(crate) struct Page<T> {
    items: Vec<T>,
    /// Where the next page begins; null on the last one.
    next_cursor: Option<String>,
}

impl PageParams {
    pub(crate) fn limit(&self) -> Result<i64> {
        match self.limit.unwrap_or(DEFAULT) {
            limit @ 1..=MOST => Ok(limit),
            limit => Err(ApiError::invalid("limit", format!("{limit} is not between 1 and {MOST}"))),
        }
    }

    /// One more than the page holds: whether it comes tells whether there is a next page.
    pub(crate) fn fetch(&self) -> Result<i64> {
        Ok(self.limit()? + 1)
    }

    /// The sort key of the last item of the page before.
    pub(crate) fn after<K: FromStr>(&self) -> Result<Option<K>> {
        let Some(cursor) = &self.cursor else { return Ok(None) };
        URL_SAFE_NO_PAD
            .decode(cursor)
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .and_then(|text| text.parse().ok())
            .map(Some)
            .ok_or_else(|| {
                let message = "this cursor is none of this list's; take `next_cursor` of a page, or none to begin anew";
                ApiError::new(StatusCode::BAD_REQUEST, "invalid_cursor", message)
            })
    }

    /// The page of the rows that were found; `key` is what they are sorted by.
    pub(crate) fn page<R, T: From<R>, K: ToString>(&self, rows: Vec<R>, key: impl Fn(&R) -> K) -> Result<Page<T>> {
        self.page_with(rows, key, T::from)
    }

    pub(crate) fn page_with<R, T, K: ToString>(
        &self,
        mut rows: Vec<R>,
        key: impl Fn(&R) -> K,
        item: impl FnMut(R) -> T,
    ) -> Result<Page<T>> {
        let limit = usize::try_from(self.limit()?).unwrap_or(usize::MAX);
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next_cursor = rows.last().filter(|_| more).map(|last| URL_SAFE_NO_PAD.encode(key(last).to_string()));
        Ok(Page { items: rows.into_iter().map(item).collect(), next_cursor })
    }
}

impl<T> Page<T> {
    pub(crate) fn map<U>(self, item: impl FnMut(T) -> U) -> Page<U> {
        Page { items: self.items.into_iter().map(item).collect(), next_cursor: self.next_cursor }
    }
}
