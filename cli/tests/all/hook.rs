//! `buildit hook`: what a pusher sees, and what the server gets.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::TempDir;

use crate::server::Server;
use crate::support::{Said, buildit, git, said, try_git, until};

const ZEROS: &str = "0000000000000000000000000000000000000000";

/// A bare repository and a clone of it with one commit.
struct Repositories {
    _home: TempDir,
    bare: PathBuf,
    clone: PathBuf,
}

impl Repositories {
    fn new() -> Repositories {
        let home = tempfile::tempdir().unwrap();
        git(home.path(), ["init", "--quiet", "--bare", "bare.git"]);
        git(home.path(), ["clone", "--quiet", "bare.git", "clone"]);
        let (bare, clone) = (home.path().join("bare.git"), home.path().join("clone"));
        let repositories = Repositories { _home: home, bare, clone };
        repositories.commit("first");
        repositories
    }

    fn with_hook(url: &str, more: &[&str]) -> Repositories {
        let repositories = Repositories::new();
        let installed = repositories.install(url, more);
        assert_eq!(installed.code, Some(0), "{installed:?}");
        repositories
    }

    fn install(&self, url: &str, more: &[&str]) -> Said {
        let mut command = buildit();
        command.args(["hook", "install"]).arg(&self.bare);
        command.args(["--project", "web", "--key", "k-123", "--url", url]).args(more);
        said(&mut command)
    }

    fn commit(&self, message: &str) -> String {
        git(&self.clone, ["commit", "--quiet", "--allow-empty", "-m", message]);
        git(&self.clone, ["rev-parse", "HEAD"])
    }

    fn push(&self, arguments: &[&str]) -> Said {
        try_git(&self.clone, ["push", "origin"].iter().chain(arguments))
    }

    fn spooled(&self) -> usize {
        json_files(&self.bare.join("buildit/spool"))
    }

    fn refused(&self) -> usize {
        json_files(&self.bare.join("buildit/spool/refused"))
    }
}

fn json_files(folder: &Path) -> usize {
    let is_json = |path: &Path| path.extension().is_some_and(|extension| extension == "json");
    fs::read_dir(folder).unwrap().filter(|entry| is_json(&entry.as_ref().unwrap().path())).count()
}

/// An address where nobody listens, until someone does.
fn quiet_address() -> std::net::SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[test]
fn the_pusher_sees_the_address_of_the_run() {
    let server = Server::start();
    let repositories = Repositories::with_hook(&server.url(), &[]);
    let commit = git(&repositories.clone, ["rev-parse", "HEAD"]);

    let push = repositories.push(&["main"]);
    assert_eq!(push.code, Some(0));
    assert!(push.err.contains("BuildIt: run #1 http://ci/runs/1"), "{}", push.err);

    let delivery = &server.deliveries()[0];
    assert_eq!(delivery["ref"], "refs/heads/main");
    assert_eq!(delivery["before"], ZEROS);
    assert_eq!(delivery["after"], commit.as_str());
    assert_eq!(delivery.as_object().unwrap().len(), 4);
    assert_eq!(server.keys(), ["Bearer k-123"]);
    assert_eq!(server.projects(), ["web"]);
    assert_eq!(repositories.spooled(), 0);
}

#[test]
fn a_forced_push_tells_what_was_there_before() {
    let server = Server::start();
    let repositories = Repositories::with_hook(&server.url(), &[]);
    let before = git(&repositories.clone, ["rev-parse", "HEAD"]);
    repositories.push(&["main"]);
    git(&repositories.clone, ["commit", "--quiet", "--amend", "--allow-empty", "-m", "other"]);
    let after = git(&repositories.clone, ["rev-parse", "HEAD"]);
    repositories.push(&["--force", "main"]);
    let delivery = &server.deliveries()[1];
    assert_eq!((delivery["before"].as_str(), delivery["after"].as_str()), (Some(&*before), Some(&*after)));
}

#[test]
fn tags_are_announced_by_their_commit_and_other_refs_not_at_all() {
    let server = Server::start();
    let repositories = Repositories::with_hook(&server.url(), &[]);
    let commit = git(&repositories.clone, ["rev-parse", "HEAD"]);
    git(&repositories.clone, ["tag", "light"]);
    git(&repositories.clone, ["tag", "-m", "annotated", "heavy"]);
    git(&repositories.clone, ["notes", "add", "-m", "note"]);
    let push = repositories.push(&["light", "heavy", "refs/notes/commits", "main:refs/other/main"]);
    assert_eq!(push.code, Some(0), "{}", push.err);
    let mut refs = server.refs();
    refs.sort();
    assert_eq!(refs, ["refs/tags/heavy", "refs/tags/light"]);
    assert!(server.deliveries().iter().all(|delivery| delivery["after"] == commit.as_str()));
}

#[test]
fn a_deleted_branch_is_nothing_to_run() {
    let server = Server::start();
    let repositories = Repositories::with_hook(&server.url(), &[]);
    repositories.push(&["main", "main:side"]);
    assert_eq!(server.deliveries().len(), 2, "several refs in one push");
    let push = repositories.push(&["--delete", "side"]);
    assert_eq!(push.code, Some(0), "{}", push.err);
    assert!(!push.err.contains("BuildIt"), "{}", push.err);
    assert_eq!(server.deliveries().len(), 2);
}

#[test]
fn a_push_of_very_many_refs_is_bounded_and_says_so() {
    let server = Server::start();
    let repositories = Repositories::with_hook(&server.url(), &[]);
    let refs: Vec<String> = (0..25).map(|number| format!("main:branch-{number:02}")).collect();
    let push = repositories.push(&refs.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(push.code, Some(0));
    assert!(push.err.contains("of 25 refs only the first 20"), "{}", push.err);
    assert_eq!(server.deliveries().len(), 20);
}

#[test]
fn a_push_while_the_server_is_down_is_delivered_once_later() {
    let address = quiet_address();
    let repositories = Repositories::with_hook(&format!("http://{address}"), &[]);
    let begun = Instant::now();
    let push = repositories.push(&["main"]);
    assert_eq!(push.code, Some(0));
    assert!(begun.elapsed() < Duration::from_secs(4));
    assert!(push.err.contains("will be announced later"), "{}", push.err);
    assert_eq!(repositories.spooled(), 1);

    let server = Server::start_at(address);
    until("delivered in the background", || repositories.spooled() == 0);
    assert_eq!(server.refs(), ["refs/heads/main"]);
    assert_eq!(server.keys().len(), 1);
}

#[test]
fn the_next_push_delivers_the_kept_ones_first() {
    let address = quiet_address();
    let repositories = Repositories::with_hook(&format!("http://{address}"), &[]);
    repositories.push(&["main:one"]);
    repositories.push(&["main:two"]);
    let server = Server::start_at(address);
    let push = repositories.push(&["main:three"]);
    until("all are delivered", || repositories.spooled() == 0);
    assert_eq!(server.refs(), ["refs/heads/one", "refs/heads/two", "refs/heads/three"]);
    assert_eq!(push.code, Some(0));
}

#[test]
fn a_server_that_never_answers_does_not_hold_the_push() {
    // It takes connections and says nothing.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let repositories = Repositories::with_hook(&format!("http://{}", listener.local_addr().unwrap()), &[]);
    let begun = Instant::now();
    let push = repositories.push(&["main:one", "main:two", "main:three"]);
    assert_eq!(push.code, Some(0));
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    assert_eq!(repositories.spooled(), 3);
}

#[test]
fn a_delivery_that_is_refused_is_put_aside_with_the_answer_and_can_be_tried_again() {
    let server = Server::start();
    let refusal = json!({ "error": { "code": "not_found", "message": "no project \u{1b}[31mweb" } });
    server.refuse_with(Some((404, refusal)));
    let repositories = Repositories::with_hook(&server.url(), &[]);
    let push = repositories.push(&["main"]);
    assert_eq!(push.code, Some(0));
    assert!(push.err.contains("refs/heads/main was refused: 404 Not Found: no project"), "{}", push.err);
    assert!(!push.err.contains("\u{1b}[31m"), "an answer does not command the terminal");
    assert_eq!((repositories.spooled(), repositories.refused()), (0, 1));

    server.refuse_with(None);
    let again = said(buildit().args(["hook", "deliver", "--refused"]).arg(&repositories.bare));
    assert_eq!(again.code, Some(0), "{}", again.err);
    assert_eq!((server.refs(), repositories.refused()), (vec!["refs/heads/main".to_owned()], 0));
}

#[test]
fn a_server_in_trouble_is_tried_again() {
    let server = Server::start();
    for status in [429, 500, 503] {
        server.refuse_with(Some((status, json!({}))));
        let repositories = Repositories::with_hook(&server.url(), &[]);
        let push = repositories.push(&["main"]);
        assert!(push.err.contains("announced later"), "{}", push.err);
        let now = said(buildit().args(["hook", "deliver"]).arg(&repositories.bare));
        assert_eq!(now.code, Some(3));
        server.refuse_with(None);
        until("delivered", || repositories.spooled() == 0);
    }
    assert_eq!(server.deliveries().len(), 3);
}

#[test]
fn pushes_at_the_same_time_are_each_delivered_once() {
    let server = Server::start();
    let repositories = Repositories::with_hook(&server.url(), &[]);
    std::thread::scope(|scope| {
        for number in 0..4 {
            let (repositories, refspec) = (&repositories, format!("main:branch-{number}"));
            scope.spawn(move || assert_eq!(repositories.push(&[&refspec]).code, Some(0)));
        }
    });
    until("all are delivered", || repositories.spooled() == 0);
    let mut refs = server.refs();
    refs.sort();
    assert_eq!(refs, (0..4).map(|number| format!("refs/heads/branch-{number}")).collect::<Vec<_>>());
    assert_eq!(server.keys().len(), 4, "no delivery was sent twice");
}

#[test]
fn a_hook_that_was_there_is_called_first_with_the_same_input() {
    let server = Server::start();
    let repositories = Repositories::new();
    let theirs = repositories.bare.join("hooks/post-receive");
    fs::create_dir_all(theirs.parent().unwrap()).unwrap();
    fs::write(&theirs, "#!/bin/sh\ncat > theirs.log\nexit 1\n").unwrap();
    fs::set_permissions(&theirs, fs::Permissions::from_mode(0o755)).unwrap();
    for _ in 0..2 {
        assert_eq!(repositories.install(&server.url(), &[]).code, Some(0));
    }
    let push = repositories.push(&["main"]);
    assert!(push.err.contains("run #1"), "{}", push.err);
    let log = fs::read_to_string(repositories.bare.join("theirs.log")).unwrap();
    assert!(log.ends_with(" refs/heads/main\n"), "{log}");
    assert_eq!(log.lines().count(), 1);
}

#[test]
fn the_key_is_for_its_owner_alone_and_in_no_argument_list() {
    let repositories = Repositories::with_hook("http://127.0.0.1:1", &[]);
    let mode = |name: &str| fs::metadata(repositories.bare.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("buildit"), mode("buildit/key")), (0o700, 0o600));
    let script = fs::read_to_string(repositories.bare.join("hooks/post-receive")).unwrap();
    assert!(!script.contains("k-123"));
}

#[test]
fn installing_needs_a_key_once() {
    let repositories = Repositories::new();
    let install = |more: &[&str]| {
        let mut command = buildit();
        command.args(["hook", "install"]).arg(&repositories.bare).args(["--project", "web"]).args(more);
        said(&mut command)
    };
    let without = install(&[]);
    assert_eq!(without.code, Some(2));
    assert!(without.err.contains("--key"), "{}", without.err);
    assert_eq!(install(&["--key", "k"]).code, Some(0));
    assert_eq!(install(&["--url", "http://elsewhere"]).code, Some(0), "the key stays");
    assert_eq!(install(&["--key", "two\nlines"]).code, Some(2));
}

#[test]
fn what_is_no_repository_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let said = said(buildit().args(["hook", "install", "--project", "web", "--key", "k"]).arg(folder.path()));
    assert_eq!(said.code, Some(2));
    assert!(said.err.contains("is not a git repository"), "{}", said.err);
}

#[test]
fn a_program_that_is_gone_fails_no_push() {
    let repositories = Repositories::with_hook("http://127.0.0.1:1", &["--pre-receive"]);
    for name in ["post-receive", "pre-receive"] {
        let path = repositories.bare.join("hooks").join(name);
        let script = fs::read_to_string(&path).unwrap();
        let gone = script.replace(env!("CARGO_BIN_EXE_buildit"), "/nowhere/b").replace("|| buildit=buildit", "");
        fs::write(&path, gone).unwrap();
    }
    let push = repositories.push(&["main"]);
    assert_eq!(push.code, Some(0), "{}", push.err);
    assert!(push.err.contains("is missing"), "{}", push.err);
}

#[test]
fn pre_receive_refuses_a_broken_pipeline_with_its_diagnostics() {
    let server = Server::start();
    let repositories = Repositories::with_hook(&server.url(), &["--pre-receive"]);
    assert_eq!(repositories.push(&["main"]).code, Some(0), "a missing file is fine");

    let file = repositories.clone.join(".platform.yaml");
    fs::write(&file, "pipeline:\n  stepz: []\n").unwrap();
    git(&repositories.clone, ["add", "."]);
    repositories.commit("broken");
    let push = repositories.push(&["main"]);
    assert_eq!(push.code, Some(1));
    assert!(push.err.contains(".platform.yaml:2:3") && push.err.contains("steps"), "{}", push.err);
    assert!(push.err.contains("pre-receive hook declined"), "{}", push.err);
    assert_eq!(server.deliveries().len(), 1);

    fs::write(&file, "pipeline:\n  steps: [{ name: a, image: b, commands: [\"true\"] }]\n").unwrap();
    git(&repositories.clone, ["add", "."]);
    repositories.commit("mended");
    let push = repositories.push(&["main"]);
    assert_eq!(push.code, Some(0), "{}", push.err);
    assert_eq!(server.deliveries().len(), 2);
}
