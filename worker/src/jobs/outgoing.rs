//! Requests to others' servers: how often one that is not taken is sent again, and what is kept of the answer.

use std::time::Duration;

use futures::StreamExt;

/// Bytes of an answer that are kept.
const KEPT: usize = 4096;

/// After each failure but the last.
const WAITS: [Duration; 8] = [
    Duration::from_secs(5),
    Duration::from_secs(60),
    Duration::from_secs(5 * 60),
    Duration::from_secs(30 * 60),
    Duration::from_secs(2 * 3600),
    Duration::from_secs(5 * 3600),
    Duration::from_secs(8 * 3600),
    Duration::from_secs(8 * 3600),
];

/// How long to wait after this attempt, from 1, was not taken; none when it was the last.
pub(super) fn wait_after(attempt: i32) -> Option<Duration> {
    WAITS.get(usize::try_from(attempt).unwrap_or(usize::MAX).saturating_sub(1)).copied()
}

/// The status and the first bytes of the answer, or why there was none.
pub(super) async fn answer_to(request: reqwest::RequestBuilder) -> Result<(u16, String), String> {
    let response = request.send().await.map_err(|error| causes(&error))?;
    let status = response.status().as_u16();
    let mut answer = Vec::new();
    let mut bytes = response.bytes_stream();
    // What the status says counts, whatever happens to the rest.
    while let Some(Ok(chunk)) = bytes.next().await {
        answer.extend_from_slice(&chunk);
        if answer.len() >= KEPT {
            break;
        }
    }
    answer.truncate(KEPT);
    Ok((status, String::from_utf8_lossy(&answer).replace('\0', "\u{fffd}")))
}

/// The error with what is behind it: the outer one only says that something did not work.
fn causes(error: &dyn std::error::Error) -> String {
    let mut said = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        said = format!("{said}: {inner}");
        cause = inner.source();
    }
    said
}
