//! Unpacks a `tar.zst` that may be hostile.
//!
//! Nothing is ever written outside of the target folder, not through links either: each path is
//! resolved by the kernel beneath the folder without following any link. Refused are absolute
//! paths, `..`, links that lead out of the folder, devices, pipes, sparse files, and archives that
//! grow out of proportion. Kept are mode bits (without set-id bits) and modification times; owners
//! are not. What is in the way is replaced, except a folder by something else.

mod target;

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use tar::EntryType;

use crate::spec::StepUser;
use target::Target;

pub(crate) use target::BENEATH;

/// What an archive may grow to.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Unpacked bytes that are always allowed.
    pub floor: u64,
    /// Beyond the floor, unpacked bytes per packed byte.
    pub ratio: u64,
    /// Unpacked bytes that are never exceeded.
    pub bytes: u64,
    /// Files, folders and links.
    pub entries: u64,
}

impl Default for Limits {
    /// 2 GiB in any case, else a thousandfold, at most 64 GiB and two million entries.
    fn default() -> Limits {
        Limits { floor: 2 << 30, ratio: 1000, bytes: 64 << 30, entries: 2_000_000 }
    }
}

/// Why an archive was not (completely) unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// An entry that no honest archive has.
    #[error("{path}: {reason}")]
    Refused {
        /// The entry's path.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// More than the limits allow.
    #[error("the archive grows to more than {bytes} bytes or {entries} entries")]
    TooLarge {
        /// Bytes allowed for this archive.
        bytes: u64,
        /// Entries allowed.
        entries: u64,
    },
    /// The caller asked to leave off.
    #[error("interrupted")]
    Interrupted,
    /// The target could not be written.
    #[error("{path}: {source}")]
    Write {
        /// The entry's path.
        path: String,
        /// The cause.
        source: io::Error,
    },
    /// The archive could not be read.
    #[error("the archive cannot be read: {0}")]
    Read(io::Error),
}

/// Unpacks `archive` into the existing folder `into`. Everything made belongs to `owner` if given,
/// which takes root. `interrupted` is asked before each entry.
pub fn unpack(
    archive: &Path,
    into: &Path,
    owner: Option<StepUser>,
    limits: &Limits,
    interrupted: &mut dyn FnMut() -> bool,
) -> Result<(), UnpackError> {
    let file = File::open(archive).map_err(UnpackError::Read)?;
    let packed = file.metadata().map_err(UnpackError::Read)?.len();
    unpack_stream(file, packed, into, owner, limits, interrupted)
}

/// As [`unpack`], from a stream of `packed` bytes, 0 if that is not known.
pub fn unpack_stream(
    archive: impl Read,
    packed: u64,
    into: &Path,
    owner: Option<StepUser>,
    limits: &Limits,
    interrupted: &mut dyn FnMut() -> bool,
) -> Result<(), UnpackError> {
    let bytes = packed.saturating_mul(limits.ratio).max(limits.floor).min(limits.bytes);
    let mut decoder = zstd::Decoder::new(archive).map_err(UnpackError::Read)?;
    decoder.window_log_max(27).map_err(UnpackError::Read)?;
    let left = Rc::new(Cell::new(bytes));
    let exhausted = || UnpackError::TooLarge { bytes, entries: limits.entries };
    let read_error = |error| match left.get() {
        0 => exhausted(),
        _ => UnpackError::Read(error),
    };
    let mut archive = tar::Archive::new(Limited { inner: decoder, left: Rc::clone(&left) });
    let mut target = Target::open(into, owner)?;
    for (count, entry) in archive.entries().map_err(read_error)?.enumerate() {
        let mut entry = entry.map_err(read_error)?;
        if count as u64 >= limits.entries {
            return Err(exhausted());
        }
        if interrupted() {
            return Err(UnpackError::Interrupted);
        }
        match unpack_entry(&mut entry, &mut target) {
            Err(_) if left.get() == 0 => return Err(exhausted()),
            done => done?,
        }
    }
    target.finish()
}

fn unpack_entry(entry: &mut tar::Entry<'_, impl Read>, target: &mut Target) -> Result<(), UnpackError> {
    let raw = entry.path_bytes().into_owned();
    let refused = |reason| UnpackError::Refused { path: String::from_utf8_lossy(&raw).into_owned(), reason };
    let kind = entry.header().entry_type();
    if kind == EntryType::XGlobalHeader {
        return Ok(());
    }
    let path = inner_path(Path::new(std::ffi::OsStr::from_bytes(&raw))).map_err(refused)?;
    let mode = entry.header().mode().map_err(UnpackError::Read)?;
    let mtime = entry.header().mtime().map_err(UnpackError::Read)?;
    if path.as_os_str().is_empty() {
        // The folder itself, as `tar c .` begins with.
        return Ok(());
    }
    match kind {
        EntryType::Regular | EntryType::Continuous => target.file(&path, entry, mode, mtime),
        EntryType::Directory => target.folder(&path, mode, mtime),
        EntryType::Symlink => {
            let link = link_name(entry).ok_or_else(|| refused("a link without a target"))?;
            if !stays_inside(&path, &link) {
                return Err(refused("a link that leaves the folder"));
            }
            target.symlink(&path, &link, mtime)
        }
        EntryType::Link => {
            let link = link_name(entry).ok_or_else(|| refused("a link without a target"))?;
            let link = inner_path(&link).map_err(refused)?;
            target.hard_link(&path, &link)
        }
        EntryType::Char | EntryType::Block => Err(refused("a device")),
        EntryType::Fifo => Err(refused("a named pipe")),
        _ => Err(refused("neither a file, a folder nor a link")),
    }
}

fn link_name(entry: &tar::Entry<'_, impl Read>) -> Option<PathBuf> {
    let name = entry.link_name_bytes()?;
    Some(PathBuf::from(std::ffi::OsStr::from_bytes(&name)))
}

/// `path` without `.`; `Err` if it could lead elsewhere than into the folder.
fn inner_path(path: &Path) -> Result<PathBuf, &'static str> {
    let mut inner = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) if name.as_bytes().contains(&0) => {
                return Err("a NUL character in the path");
            }
            Component::Normal(name) => inner.push(name),
            Component::CurDir => {}
            Component::ParentDir => return Err("'..' in the path"),
            Component::RootDir | Component::Prefix(_) => return Err("an absolute path"),
        }
    }
    Ok(inner)
}

/// Whether the link `link` at `path` points into the folder that `path` is relative to. Only the
/// names are looked at: neither packing nor unpacking ever follows a link.
pub(crate) fn stays_inside(path: &Path, link: &Path) -> bool {
    let mut depth = path.components().count().saturating_sub(1);
    for component in link.components() {
        match component {
            Component::Normal(_) => depth += 1,
            Component::CurDir => {}
            Component::ParentDir if depth > 0 => depth -= 1,
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return false,
        }
    }
    true
}

/// Fails once `left` bytes have been read.
struct Limited<R> {
    inner: R,
    left: Rc<Cell<u64>>,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.left.set(self.left.get().saturating_sub(count as u64));
        match self.left.get() {
            0 => Err(io::Error::other("too large")),
            _ => Ok(count),
        }
    }
}
