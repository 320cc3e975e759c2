//! Outputs, artifacts and the log, from the attempt's folder into storage.

use std::fmt::Write;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::api::Api;
use super::contract::UploadBegun;
use crate::layout::AttemptFolder;
use crate::net::{Failed, GivenUp, Patience};
use crate::report::{Outcome, Report, Staged};

/// Parts of one object that are sent at once.
const MOST_AT_ONCE: usize = 4;

/// How often an upload that the API knows no more is begun anew.
const MOST_UPLOADS: u32 = 3;

/// Bytes to upload, as a file.
struct Content<'f> {
    file: &'f Path,
    size: u64,
    sha256: &'f str,
}

/// Uploads what the attempt left, and takes back from the report what could not be.
pub(super) fn upload_all(report: &mut Report, folder: &AttemptFolder, api: &Api<'_>, patience: &Patience) {
    let send = |name: &str, staged: &Staged| {
        let file = folder.path().join(&staged.file);
        upload(api, name, &Content { file: &file, size: staged.size, sha256: &staged.sha256 }, patience)
    };
    if let Some(outputs) = &report.outputs
        && let Err(error) = send("outputs", outputs)
    {
        report.outputs = None;
        let message = format!("the outputs could not be uploaded: {error}");
        match report.outcome.is_success() {
            true if patience.is_stopped() => report.outcome = Outcome::Stopped,
            true => report.outcome = Outcome::StagingFailed { message },
            false => report.notes.push(message),
        }
    }
    for artifact in &mut report.artifacts {
        if let Some(staged) = &artifact.staged
            && let Err(error) = send(&format!("artifacts/{}", encoded(&artifact.name)), staged)
        {
            report.notes.push(format!("Artifact {} could not be uploaded: {error}.", artifact.name));
            artifact.staged = None;
        }
    }
    let log = Content { file: &folder.log(), size: report.log_len, sha256: &report.log_sha256 };
    if let Err(error) = upload(api, "log", &log, patience) {
        report.notes.push(format!("The log could not be uploaded: {error}."));
    }
}

fn upload(api: &Api<'_>, name: &str, content: &Content<'_>, patience: &Patience) -> Result<(), GivenUp> {
    let mut uploads = 0;
    loop {
        uploads += 1;
        let begun = patience.insist(|limit| api.begin_upload(name, content.size, content.sha256, limit))?;
        let done = send_parts(api, name, &begun, content, patience)
            .and_then(|etags| patience.insist(|limit| api.complete_upload(name, &begun.upload, &etags, limit)));
        match done {
            Err(GivenUp::Refused { status: 404 | 409 | 410, .. }) if uploads < MOST_UPLOADS => {}
            done => return done,
        }
    }
}

/// Sends one part and returns its ETag.
fn send_part(
    api: &Api<'_>,
    url: &str,
    number: u32,
    part_size: u64,
    content: &Content<'_>,
    limit: Duration,
) -> Result<String, Failed> {
    let unreadable = |error: io::Error| Failed::Again(format!("{}: {error}", content.file.display()));
    let start = u64::from(number - 1) * part_size;
    let size = part_size.min(content.size.saturating_sub(start));
    let mut file = File::open(content.file).map_err(unreadable)?;
    file.seek(SeekFrom::Start(start)).map_err(unreadable)?;
    let headers = api.client.put(url, &mut file.take(size), size, limit)?;
    let etag = headers.get("etag").and_then(|etag| etag.to_str().ok()).unwrap_or_default();
    Ok(etag.trim_matches('"').to_owned())
}

/// Sends all parts and returns their ETags, in order.
fn send_parts(
    api: &Api<'_>,
    name: &str,
    begun: &UploadBegun,
    content: &Content<'_>,
    patience: &Patience,
) -> Result<Vec<String>, GivenUp> {
    let parts = content.size.div_ceil(begun.part_size.max(1)).max(1);
    let parts = u32::try_from(parts).unwrap_or(u32::MAX);
    let next = AtomicU32::new(1);
    let sent = Mutex::new(vec![String::new(); parts as usize]);
    let send = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number > parts {
                return Ok(());
            }
            let etag = patience.insist_with_addresses(|limit| {
                let url = api.part_address(name, &begun.upload, number, limit)?;
                send_part(api, &url, number, begun.part_size, content, limit)
            });
            match etag {
                Ok(etag) => sent.lock().unwrap_or_else(PoisonError::into_inner)[number as usize - 1] = etag,
                Err(error) => {
                    // Nobody begins another.
                    next.store(parts.saturating_add(1), Ordering::Relaxed);
                    return Err(error);
                }
            }
        }
    };
    let helpers = MOST_AT_ONCE.min(parts as usize) - 1;
    std::thread::scope(|scope| {
        let helpers: Vec<_> = (0..helpers).map(|_| scope.spawn(send)).collect();
        let own = send();
        let joined = helpers.into_iter().map(|helper| {
            let lost = |_| Err(GivenUp::Late("a thread was lost".to_owned()));
            helper.join().unwrap_or_else(lost)
        });
        std::iter::once(own).chain(joined).collect::<Result<(), GivenUp>>()
    })?;
    Ok(sent.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// `name` as a part of a path.
fn encoded(name: &str) -> String {
    let mut encoded = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => encoded.push(char::from(byte)),
            // Writing to a String cannot fail.
            _ => drop(write!(encoded, "%{byte:02X}")),
        }
    }
    encoded
}
