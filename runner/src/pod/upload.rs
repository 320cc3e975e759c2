//! Outputs, artifacts and the log, from the attempt's folder into storage.

use std::fmt::Write;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::api::Api;
use super::contract::{CompleteRequest, PartRequest, UploadRequest};
use crate::layout::AttemptFolder;
use crate::net::{Failed, GivenUp, Patience, Refusals};
use crate::report::{Outcome, Report, Staged};

/// Bytes of a log that goes with the promise of it.
const SHORT_LOG: u64 = 32 << 10;

/// Parts of one object that are sent at once.
const MOST_AT_ONCE: usize = 4;

/// How often an upload that the API knows no more is begun anew.
const MOST_UPLOADS: u32 = 3;

/// Uploads what the attempt left, and takes back from the report what could not be.
pub(super) fn upload_all(report: &mut Report, folder: &AttemptFolder, api: &Api<'_>, patience: &Patience) {
    let send = |name: &str, staged: &Staged| {
        let content = UploadRequest { size: staged.size, sha256: staged.sha256.clone(), bytes: None };
        upload(api, name, &folder.path().join(&staged.file), &content, patience)
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
    // One that cannot be read now is sent in parts, which says why it fails.
    let bytes = (report.log_len <= SHORT_LOG).then(|| fs::read(folder.log()).ok()).flatten();
    let bytes = bytes.map(|bytes| STANDARD.encode(bytes));
    let log = UploadRequest { size: report.log_len, sha256: report.log_sha256.clone(), bytes };
    if let Err(error) = upload(api, "log", &folder.log(), &log, patience) {
        report.notes.push(format!("The log could not be uploaded: {error}."));
    }
}

fn upload(api: &Api<'_>, name: &str, file: &Path, content: &UploadRequest, patience: &Patience) -> Result<(), GivenUp> {
    let mut uploads = 0;
    loop {
        uploads += 1;
        let begun = patience.insist(|limit| api.begin_upload(name, content, limit))?;
        let Some(upload) = begun.upload else { return Ok(()) };
        let parts = Parts { api, name, upload, size: begun.part_size, count: begun.parts, file, whole: content.size };
        let done = parts.send(patience).and_then(|etags| {
            let (upload, sha256) = (parts.upload.clone(), content.sha256.clone());
            let whole = CompleteRequest { upload, parts: etags, size: content.size, sha256 };
            patience.insist(|limit| api.complete_upload(name, &whole, limit))
        });
        match done {
            // The storage or the API knows nothing of it any more.
            Err(GivenUp::Refused { status: 404 | 409 | 422, .. }) if uploads < MOST_UPLOADS => {}
            done => return done,
        }
    }
}

/// The parts of one upload.
struct Parts<'u> {
    api: &'u Api<'u>,
    name: &'u str,
    upload: String,
    /// Bytes in each but the last.
    size: u64,
    count: u32,
    file: &'u Path,
    /// Bytes in all.
    whole: u64,
}

impl Parts<'_> {
    /// Sends all and returns their ETags, in order.
    fn send(&self, patience: &Patience) -> Result<Vec<String>, GivenUp> {
        let next = AtomicU32::new(1);
        let sent = Mutex::new(vec![String::new(); self.count as usize]);
        let send = || {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number > self.count {
                    return Ok(());
                }
                match self.send_one(number, patience) {
                    Ok(etag) => sent.lock().unwrap_or_else(PoisonError::into_inner)[number as usize - 1] = etag,
                    Err(error) => {
                        // Nobody begins another.
                        next.store(self.count.saturating_add(1), Ordering::Relaxed);
                        return Err(error);
                    }
                }
            }
        };
        let helpers = MOST_AT_ONCE.min(self.count as usize).saturating_sub(1);
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

    /// Sends one, by as many addresses as it takes, and returns its ETag.
    fn send_one(&self, number: u32, patience: &Patience) -> Result<String, GivenUp> {
        let start = u64::from(number - 1) * self.size;
        let size = self.size.min(self.whole.saturating_sub(start));
        let request = PartRequest { upload: self.upload.clone(), part: number, size };
        let mut refusals = Refusals::default();
        patience.insist(|limit| {
            let url = self.api.part_address(self.name, &request, limit)?;
            let unreadable = |error: io::Error| Failed::Again(format!("{}: {error}", self.file.display()));
            let mut file = File::open(self.file).map_err(unreadable)?;
            file.seek(SeekFrom::Start(start)).map_err(unreadable)?;
            let put = self.api.client.put(&url, &mut file.take(size), size, limit);
            let headers = put.map_err(|failed| refusals.forgive(failed))?;
            let etag = headers.get("etag").and_then(|etag| etag.to_str().ok()).unwrap_or_default();
            Ok(etag.to_owned())
        })
    }
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
