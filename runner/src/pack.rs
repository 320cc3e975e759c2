//! Packs paths of a workspace into a `tar.zst`.
//!
//! The same files give the same archive: sorted by path, without owners. Folders are taken with
//! all they hold. No link is followed: links that stay in the workspace are packed as links,
//! others are left out, as are devices, pipes and sockets; the notes say so.

mod select;

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{Mode, OFlags, openat2, readlinkat};
use sha2::{Digest, Sha256};
use tar::{EntryType, Header};

use crate::unpack::{BENEATH, stays_inside};
use select::{Kind, Selection};

/// The notes about single files that one archive may have.
const MOST_NOTES: usize = 10;

/// What was packed.
#[derive(Debug)]
pub struct Packed {
    /// The file; `None`, and no file is made, when nothing matched.
    pub archive: Option<Archive>,
    /// The patterns that matched nothing.
    pub unmatched: Vec<String>,
    /// What was left out, as sentences for people.
    pub notes: Vec<String>,
}

/// A finished archive.
#[derive(Debug)]
pub struct Archive {
    /// Its size in bytes.
    pub size: u64,
    /// Its SHA-256 in lower-case hex.
    pub sha256: String,
    /// How many files and links it holds.
    pub files: u64,
}

/// Why there is no archive.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// The workspace cannot be read.
    #[error("the workspace cannot be read: {0}")]
    Read(io::Error),
    /// The archive cannot be written.
    #[error("the archive cannot be written: {0}")]
    Write(io::Error),
    /// The caller asked to leave off.
    #[error("interrupted")]
    Interrupted,
}

/// Packs what `patterns` (paths and globs, relative to `workspace`) match into the new file
/// `target`. `interrupted` is asked before each file.
pub fn pack(
    workspace: &Path,
    patterns: &[String],
    target: &Path,
    interrupted: &mut dyn FnMut() -> bool,
) -> Result<Packed, PackError> {
    let mut selection = Selection::new(workspace).map_err(PackError::Read)?;
    for pattern in patterns {
        selection.add(pattern);
    }
    if selection.entries.is_empty() {
        return Ok(Packed { archive: None, unmatched: selection.unmatched, notes: shortened(selection.notes) });
    }
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o644)
        .open(target)
        .map_err(PackError::Write)?;
    let sink = Hashing { file, hash: Sha256::new(), size: 0 };
    let encoder = zstd::Encoder::new(sink, 1).map_err(PackError::Write)?;
    let mut archive = tar::Builder::new(encoder);
    let mut files = 0;
    let entries = std::mem::take(&mut selection.entries);
    for (path, kind) in &entries {
        if interrupted() {
            return Err(PackError::Interrupted);
        }
        match append(&mut archive, &selection, path, *kind).map_err(PackError::Write)? {
            Appended::File => files += 1,
            Appended::Folder => {}
            Appended::Skipped(reason) => {
                selection.notes.push(format!("{} was left out: {reason}.", path.display()));
            }
        }
    }
    let sink = archive.into_inner().and_then(zstd::Encoder::finish).map_err(PackError::Write)?;
    let archive = Archive { size: sink.size, sha256: hex::encode(sink.hash.finalize()), files };
    Ok(Packed { archive: Some(archive), unmatched: selection.unmatched, notes: shortened(selection.notes) })
}

enum Appended {
    File,
    Folder,
    Skipped(String),
}

/// Appends one entry. Errors are the archive's; a file that cannot be read is skipped.
fn append(
    archive: &mut tar::Builder<impl Write>,
    selection: &Selection,
    path: &Path,
    kind: Kind,
) -> io::Result<Appended> {
    let skipped = |error: &dyn std::fmt::Display| Ok(Appended::Skipped(error.to_string()));
    if kind == Kind::Link {
        let link = match readlinkat(&selection.root, path, Vec::new()) {
            Ok(link) => link,
            Err(error) => return skipped(&error),
        };
        let link = Path::new(std::ffi::OsStr::from_bytes(link.to_bytes()));
        if !stays_inside(path, link) {
            return skipped(&"it is a link that leaves the workspace");
        }
        let mut header = header(EntryType::Symlink, 0o777, 0, 0);
        archive.append_link(&mut header, path, link)?;
        return Ok(Appended::File);
    }
    // A pipe put in a file's place must not block here.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = match openat2(&selection.root, path, flags, Mode::empty(), BENEATH) {
        Ok(file) => File::from(file),
        Err(error) => return skipped(&error),
    };
    let metadata = file.metadata()?;
    let mtime = u64::try_from(metadata.mtime()).unwrap_or(0);
    if metadata.is_dir() {
        let mut header = header(EntryType::Directory, metadata.mode(), mtime, 0);
        archive.append_data(&mut header, path, io::empty())?;
        return Ok(Appended::Folder);
    }
    if !metadata.is_file() {
        return skipped(&"it is neither a file, a folder nor a link");
    }
    let mut header = header(EntryType::Regular, metadata.mode(), mtime, metadata.len());
    // A file that shrinks meanwhile is filled up: the header has promised its size.
    let content = file.chain(io::repeat(0)).take(metadata.len());
    archive.append_data(&mut header, path, content)?;
    Ok(Appended::File)
}

fn header(kind: EntryType, mode: u32, mtime: u64, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode & 0o777);
    header.set_mtime(mtime);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header
}

fn shortened(mut notes: Vec<String>) -> Vec<String> {
    if notes.len() > MOST_NOTES {
        let more = notes.len() - MOST_NOTES;
        notes.truncate(MOST_NOTES);
        notes.push(format!("{more} more files were left out."));
    }
    notes
}

struct Hashing {
    file: File,
    hash: Sha256,
    size: u64,
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hash.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
