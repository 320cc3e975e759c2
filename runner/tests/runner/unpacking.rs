//! Archives that mean harm, and honest ones.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use buildit_runner::unpack::{Limits, UnpackError, unpack};
use tar::{EntryType, Header};

/// An archive under construction, and a folder to unpack it into, which has a neighbour.
struct Case {
    folder: tempfile::TempDir,
    archive: tar::Builder<Vec<u8>>,
}

impl Case {
    fn new() -> Case {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("into")).unwrap();
        fs::create_dir(folder.path().join("outside")).unwrap();
        fs::write(folder.path().join("outside/file"), "untouched").unwrap();
        Case { folder, archive: tar::Builder::new(Vec::new()) }
    }

    /// Appends an entry whose path and link are written as they are.
    fn entry(mut self, kind: EntryType, path: &str, link: &str, content: &[u8]) -> Case {
        let mut header = Header::new_gnu();
        header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
        header.as_gnu_mut().unwrap().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(0o4755);
        header.set_mtime(1_700_000_000);
        header.set_size(content.len() as u64);
        if kind == EntryType::GNUSparse {
            header.as_gnu_mut().unwrap().set_real_size(0);
        }
        header.set_cksum();
        self.archive.append(&header, content).unwrap();
        self
    }

    fn file(self, path: &str, content: &str) -> Case {
        self.entry(EntryType::Regular, path, "", content.as_bytes())
    }

    fn link(self, path: &str, link: &str) -> Case {
        self.entry(EntryType::Symlink, path, link, b"")
    }

    fn inside(&self, path: &str) -> PathBuf {
        self.folder.path().join("into").join(path)
    }

    fn unpack_within(&mut self, limits: &Limits) -> Result<(), UnpackError> {
        let packed = self.folder.path().join("archive");
        self.archive.finish().unwrap();
        let tar = self.archive.get_ref().as_slice();
        zstd::stream::copy_encode(tar, File::create(&packed).unwrap(), 1).unwrap();
        let done = unpack(&packed, &self.inside(""), None, limits, &mut || false);
        assert_eq!(names(&self.folder.path().join("outside")), ["file"]);
        assert_eq!(fs::read_to_string(self.folder.path().join("outside/file")).unwrap(), "untouched");
        done
    }

    fn unpack(mut self) -> Case {
        self.unpack_within(&Limits::default()).unwrap();
        self
    }

    /// The reason for which the archive is refused.
    fn refusal(mut self) -> &'static str {
        match self.unpack_within(&Limits::default()) {
            Err(UnpackError::Refused { reason, .. }) => reason,
            other => panic!("not refused: {other:?}"),
        }
    }
}

fn names(folder: &Path) -> Vec<String> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn paths_that_lead_out_are_refused() {
    assert_eq!(Case::new().file("../outside/new", "x").refusal(), "'..' in the path");
    assert_eq!(Case::new().file("a/../../outside/new", "x").refusal(), "'..' in the path");
    assert_eq!(Case::new().file("/tmp/new", "x").refusal(), "an absolute path");
    assert_eq!(Case::new().entry(EntryType::Directory, "../new/", "", b"").refusal(), "'..' in the path");
}

#[test]
fn links_that_lead_out_are_refused() {
    for (path, link) in [
        ("link", "/etc/passwd"),
        ("link", "../outside"),
        ("a/link", "../../outside"),
        ("link", "a/../../outside"),
        ("link", ".."),
    ] {
        assert_eq!(Case::new().link(path, link).refusal(), "a link that leaves the folder", "{link}");
    }
    let hard = |link| Case::new().entry(EntryType::Link, "hard", link, b"");
    assert_eq!(hard("../outside/file").refusal(), "'..' in the path");
    assert_eq!(hard("/etc/passwd").refusal(), "an absolute path");
    assert_eq!(hard("not/there").refusal(), "a hard link to what is no file of the folder");
}

#[test]
fn nothing_is_written_through_a_link() {
    let case = Case::new();
    symlink(case.folder.path().join("outside"), case.inside("way")).unwrap();
    assert_eq!(case.file("way/file", "changed").refusal(), "a path through a link");
    assert_eq!(Case::new().link("way", "real").file("way/file", "x").refusal(), "a path through a link");

    let case = Case::new();
    symlink(case.folder.path().join("outside/file"), case.inside("name")).unwrap();
    let case = case.file("name", "mine").unpack();
    assert_eq!(fs::read_to_string(case.inside("name")).unwrap(), "mine");

    let case = Case::new();
    symlink(case.folder.path().join("outside/file"), case.inside("name")).unwrap();
    let through = case.entry(EntryType::Link, "hard", "name", b"");
    assert_eq!(through.refusal(), "a hard link to what is no file of the folder");

    let case = Case::new();
    symlink(case.folder.path().join("outside"), case.inside("d")).unwrap();
    let case = case.entry(EntryType::Directory, "d/", "", b"").file("d/new", "x").unpack();
    assert!(fs::symlink_metadata(case.inside("d")).unwrap().is_dir());
}

#[test]
fn what_is_no_file_folder_or_link_is_refused() {
    for (kind, reason) in [
        (EntryType::Char, "a device"),
        (EntryType::Block, "a device"),
        (EntryType::Fifo, "a named pipe"),
        (EntryType::GNUSparse, "neither a file, a folder nor a link"),
        (EntryType::new(b'V'), "neither a file, a folder nor a link"),
    ] {
        assert_eq!(Case::new().entry(kind, "x", "", b"").refusal(), reason);
    }
}

#[test]
fn an_archive_that_grows_out_of_proportion_is_left_off() {
    let zeros = "\0".repeat(4 << 20);
    let limits = Limits { floor: 1 << 20, ratio: 100, ..Limits::default() };
    let mut case = Case::new().file("zeros", &zeros);
    assert!(matches!(case.unpack_within(&limits), Err(UnpackError::TooLarge { bytes: 1_048_576, .. })));
    let limits = Limits { floor: 8 << 20, ratio: 1, ..Limits::default() };
    Case::new().file("zeros", &zeros).unpack_within(&limits).unwrap();
    let limits = Limits { entries: 2, ..Limits::default() };
    let mut case = Case::new().file("1", "").file("2", "").file("3", "");
    assert!(matches!(case.unpack_within(&limits), Err(UnpackError::TooLarge { entries: 2, .. })));
}

#[test]
fn modes_and_times_are_kept_without_set_id_bits() {
    let case = Case::new().file("a/b", "x").entry(EntryType::Directory, "a/", "", b"").unpack();
    for path in ["a", "a/b"] {
        let metadata = fs::metadata(case.inside(path)).unwrap();
        assert_eq!((metadata.mode() & 0o7777, metadata.mtime()), (0o755, 1_700_000_000), "{path}");
    }
}

#[test]
fn links_within_are_made() {
    let case = Case::new()
        .file("a/file", "x")
        .link("a/link", "../b/c")
        .link("self", ".")
        .entry(EntryType::Link, "b/hard", "a/file", b"")
        .unpack();
    assert_eq!(fs::read_link(case.inside("a/link")).unwrap(), Path::new("../b/c"));
    assert_eq!(fs::metadata(case.inside("b/hard")).unwrap().nlink(), 2);
}

#[test]
fn what_was_there_is_replaced_and_shared_content_is_not() {
    let case = Case::new();
    fs::write(case.inside("old"), "old").unwrap();
    fs::hard_link(case.inside("old"), case.inside("other")).unwrap();
    fs::set_permissions(case.inside("old"), fs::Permissions::from_mode(0o400)).unwrap();
    let case = case.file("old", "new").file("./old2", "").unpack();
    assert_eq!(fs::read_to_string(case.inside("old")).unwrap(), "new");
    assert_eq!(fs::read_to_string(case.inside("other")).unwrap(), "old");
}

#[test]
fn an_archive_that_breaks_off_is_an_error() {
    let mut case = Case::new().file("a", &"content ".repeat(100_000));
    case.archive.finish().unwrap();
    let packed = zstd::encode_all(case.archive.get_ref().as_slice(), 1).unwrap();
    let path = case.folder.path().join("archive");
    fs::write(&path, &packed[..packed.len() / 2]).unwrap();
    assert!(unpack(&path, &case.inside(""), None, &Limits::default(), &mut || false).is_err());
}

#[test]
fn unpacking_can_be_interrupted() {
    let mut case = Case::new().file("a", "").file("b", "");
    case.unpack_within(&Limits::default()).unwrap();
    let mut asked = 0;
    let done = unpack(&case.folder.path().join("archive"), &case.inside(""), None, &Limits::default(), &mut || {
        asked += 1;
        asked == 2
    });
    assert!(matches!(done, Err(UnpackError::Interrupted)));
}
