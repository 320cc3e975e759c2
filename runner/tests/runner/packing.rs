//! What patterns take, and what an archive holds.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use buildit_runner::pack::{Archive, PackError, pack};
use buildit_runner::unpack::{Limits, unpack};
use sha2::{Digest, Sha256};

struct Workspace {
    folder: tempfile::TempDir,
}

impl Workspace {
    fn of(files: &[&str]) -> Workspace {
        let workspace = Workspace { folder: tempfile::tempdir().unwrap() };
        for file in files {
            let path = workspace.path(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
        workspace
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join("workspace").join(path)
    }

    fn target(&self) -> PathBuf {
        self.folder.path().join("packed.tar.zst")
    }

    fn pack(&self, patterns: &[&str]) -> (Option<Archive>, Vec<String>) {
        let patterns: Vec<String> = patterns.iter().map(|pattern| pattern.to_string()).collect();
        let packed = pack(&self.path(""), &patterns, &self.target(), &mut || false).unwrap();
        (packed.archive, packed.notes)
    }

    /// The patterns that match nothing.
    fn unmatched(&self, patterns: &[&str]) -> Vec<String> {
        let patterns: Vec<String> = patterns.iter().map(|pattern| pattern.to_string()).collect();
        pack(&self.path(""), &patterns, &self.target(), &mut || false).unwrap().unmatched
    }

    /// The archive's paths with their kinds, in its order.
    fn entries(&self) -> Vec<String> {
        let mut archive = tar::Archive::new(zstd::Decoder::new(File::open(self.target()).unwrap()).unwrap());
        archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().to_str().unwrap().to_owned()).collect()
    }

    fn packs(&self, patterns: &[&str]) -> Vec<String> {
        let (archive, notes) = self.pack(patterns);
        assert!(archive.is_some() && notes.is_empty(), "{notes:?}");
        self.entries()
    }
}

#[test]
fn a_path_takes_a_file_or_a_folder_with_all_it_holds() {
    let workspace = Workspace::of(&["a", "d/b", "d/e/c", "f"]);
    assert_eq!(workspace.packs(&["a"]), ["a"]);
    assert_eq!(workspace.packs(&["d/"]), ["d", "d/b", "d/e", "d/e/c"]);
    assert_eq!(workspace.packs(&["./d/e/c", "a", "a"]), ["a", "d/e/c"]);
    assert_eq!(workspace.packs(&["."]), ["a", "d", "d/b", "d/e", "d/e/c", "f"]);
}

#[test]
fn a_star_stays_within_a_folder_and_two_cross_them() {
    let workspace = Workspace::of(&["a.js", "d/b.js", "d/e/c.js", "d/e/c.css", ".hidden.js"]);
    assert_eq!(workspace.packs(&["*.js"]), [".hidden.js", "a.js"]);
    assert_eq!(workspace.packs(&["d/**/*.js"]), ["d/b.js", "d/e/c.js"]);
    assert_eq!(workspace.packs(&["**/*.js"]), [".hidden.js", "a.js", "d/b.js", "d/e/c.js"]);
    assert_eq!(workspace.packs(&["d/*"]), ["d/b.js", "d/e", "d/e/c.css", "d/e/c.js"]);
    assert_eq!(workspace.packs(&["d/{b,x}.js", "d/e/?.[a-c]ss"]), ["d/b.js", "d/e/c.css"]);
}

#[test]
fn a_name_with_special_characters_is_found_as_it_is() {
    let workspace = Workspace::of(&["pages/[slug].js", "pages/s.js"]);
    assert_eq!(workspace.packs(&["pages/[slug].js"]), ["pages/[slug].js"]);
}

#[test]
fn what_matches_nothing_is_said_and_makes_no_file() {
    let workspace = Workspace::of(&["a"]);
    assert_eq!(workspace.unmatched(&["b", "c/*.x"]), ["b", "c/*.x"]);
    assert!(!workspace.target().exists());
    assert_eq!(workspace.unmatched(&["b", "a"]), ["b"]);
}

#[test]
fn patterns_that_lead_out_are_left_out() {
    let workspace = Workspace::of(&["a"]);
    let (archive, notes) = workspace.pack(&["../x", "/etc/passwd", "[", "a"]);
    assert_eq!(archive.unwrap().files, 1);
    assert_eq!(notes[0], "../x was left out: '..' leads out of the workspace.");
    assert_eq!(notes[1], "/etc/passwd was left out: it is an absolute path.");
    assert!(notes[2].starts_with("[ was left out: "), "{notes:?}");
}

#[test]
fn links_are_kept_only_when_they_stay_inside_and_never_followed() {
    let workspace = Workspace::of(&["d/a"]);
    symlink("d/a", workspace.path("in")).unwrap();
    symlink("/etc", workspace.path("out")).unwrap();
    symlink("../../x", workspace.path("d/out")).unwrap();
    let (archive, notes) = workspace.pack(&["."]);
    assert_eq!(archive.unwrap().files, 2);
    assert_eq!(workspace.entries(), ["d", "d/a", "in"]);
    assert_eq!(notes.len(), 2);
    assert_eq!(workspace.unmatched(&["out/passwd", "out/*"]), ["out/passwd", "out/*"]);
}

#[test]
fn pipes_and_sockets_are_left_out() {
    let workspace = Workspace::of(&["a"]);
    let _socket = std::os::unix::net::UnixListener::bind(workspace.path("socket")).unwrap();
    let mode = rustix::fs::Mode::from_raw_mode(0o644);
    rustix::fs::mknodat(rustix::fs::CWD, workspace.path("pipe"), rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let (archive, notes) = workspace.pack(&["*"]);
    assert_eq!((archive.unwrap().files, notes.len()), (1, 2));
    assert_eq!(workspace.entries(), ["a"]);
}

#[test]
fn the_same_files_give_the_same_archive_whose_hash_is_told() {
    let workspace = Workspace::of(&["b", "a", "c/d"]);
    let first = workspace.pack(&["c", "a", "b"]).0.unwrap();
    let bytes = fs::read(workspace.target()).unwrap();
    let second = workspace.pack(&["*"]).0.unwrap();
    assert_eq!(first.sha256, second.sha256);
    assert_eq!(first.size, bytes.len() as u64);
    assert_eq!(first.sha256, hex::encode(Sha256::digest(&bytes)));
}

#[test]
fn what_is_packed_can_be_unpacked() {
    let long = format!("{0}/{0}/{0}", "long".repeat(40));
    let workspace = Workspace::of(&["a", &long, "d/e"]);
    symlink("../a", workspace.path("d/link")).unwrap();
    fs::create_dir(workspace.path("empty")).unwrap();
    workspace.packs(&["."]);
    let into = workspace.folder.path().join("into");
    fs::create_dir(&into).unwrap();
    unpack(&workspace.target(), &into, None, &Limits::default(), &mut || false).unwrap();
    let tree = |root: PathBuf| -> BTreeMap<String, Option<Vec<u8>>> {
        let find = std::process::Command::new("find").arg(".").current_dir(&root).output().unwrap();
        let paths = String::from_utf8(find.stdout).unwrap();
        paths.lines().map(|path| (path.to_owned(), fs::read(root.join(path)).ok())).collect()
    };
    assert_eq!(tree(into), tree(workspace.path("")));
}

#[test]
fn packing_can_be_interrupted() {
    let workspace = Workspace::of(&["a"]);
    let done = pack(&workspace.path(""), &["a".into()], &workspace.target(), &mut || true);
    assert!(matches!(done, Err(PackError::Interrupted)));
}
