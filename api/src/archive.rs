//! An artifact as one zip archive, made while it is sent: nothing of it is kept on this machine.

use std::io::{self, Write};

use buildit_shared::{
    db::artifact_queries::{self, File},
    ids::RunId,
};
use bytes::Bytes;
use futures::{Stream, StreamExt};
use tokio::{runtime::Handle, sync::mpsc};
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

use crate::App;

/// Pieces that may wait for a slow reader.
const AHEAD: usize = 8;
const PIECE: usize = 64 * 1024;
/// Files whose rows are read at once.
const PAGE: i64 = 500;

/// The archive's bytes. An error breaks it off, so that nobody takes half of it for the whole.
pub(crate) fn zip(app: App, run: RunId, artifact: String) -> impl Stream<Item = io::Result<Bytes>> + Send {
    let (sender, receiver) = mpsc::channel(AHEAD);
    let runtime = Handle::current();
    // Compression is work for a thread of its own; it ends when the reader goes away.
    tokio::task::spawn_blocking(move || {
        let failed = sender.clone();
        let output = Output { sender, piece: Vec::with_capacity(PIECE) };
        if let Err(error) = write(&app, run, &artifact, output, &runtime) {
            tracing::warn!(%error, %run, artifact, "an archive broke off");
            let _ = failed.blocking_send(Err(error));
        }
    });
    futures::stream::unfold(receiver, |mut receiver| async move { Some((receiver.recv().await?, receiver)) })
}

fn write(app: &App, run: RunId, artifact: &str, output: Output, runtime: &Handle) -> io::Result<()> {
    let mut archive = ZipWriter::new_stream(output);
    let mut after = None;
    loop {
        let page = artifact_queries::files(app.pool(), run, artifact, after.as_deref(), PAGE);
        let files = runtime.block_on(page).map_err(io::Error::other)?;
        let Some(last) = files.last() else { break };
        after = Some(last.path.clone());
        for file in &files {
            add(app, &mut archive, file, runtime)?;
        }
    }
    archive.finish()?.into_inner().flush()
}

fn add(
    app: &App,
    archive: &mut ZipWriter<zip::write::StreamWriter<Output>>,
    file: &File,
    runtime: &Handle,
) -> io::Result<()> {
    let object = runtime.block_on(app.storage().stat(&file.storage_key)).map_err(io::Error::other)?;
    let size = object.size;
    let options = SimpleFileOptions::default()
        .compression_method(method(&file.content_type))
        .compression_level(None)
        .unix_permissions(0o644)
        .last_modified_time(modified(file))
        // More than 4 GiB needs other fields, which must be announced before the bytes.
        .large_file(size >= u64::from(u32::MAX) - 1024 * 1024);
    archive.start_file(file.path.as_str(), options)?;
    let mut pieces = runtime.block_on(app.storage().read(&object, 0..size)).map_err(io::Error::other)?;
    while let Some(piece) = runtime.block_on(pieces.next()) {
        archive.write_all(&piece.map_err(io::Error::other)?)?;
    }
    Ok(())
}

/// What is compressed already is not compressed again.
fn method(content_type: &str) -> CompressionMethod {
    let packed = ["image/", "video/", "audio/"].iter().any(|kind| content_type.starts_with(kind))
        || ["zip", "gzip", "zstd", "x-xz", "x-bzip2", "x-7z-compressed"]
            .iter()
            .any(|kind| content_type.ends_with(kind));
    if packed && !content_type.ends_with("svg+xml") { CompressionMethod::Stored } else { CompressionMethod::Deflated }
}

fn modified(file: &File) -> zip::DateTime {
    let at = file.created_at.to_jiff().to_zoned(jiff::tz::TimeZone::UTC);
    let small = |value: i8| u8::try_from(value).unwrap_or(0);
    zip::DateTime::from_date_and_time(
        u16::try_from(at.year()).unwrap_or(1980),
        small(at.month()),
        small(at.day()),
        small(at.hour()),
        small(at.minute()),
        small(at.second()),
    )
    .unwrap_or_default()
}

/// Passes what is written on in pieces.
struct Output {
    sender: mpsc::Sender<io::Result<Bytes>>,
    piece: Vec<u8>,
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE));
        self.sender.blocking_send(Ok(piece.into())).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}
