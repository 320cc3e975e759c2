//! The workspace: what is unpacked into it and staged from it.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use buildit_runner::{ArtifactSpec, Outcome, StepUser};

use crate::attempt::Attempt;

/// Packs text files into a `tar.zst`.
fn archive(at: PathBuf, files: &[(&str, &str)]) -> PathBuf {
    let encoder = zstd::Encoder::new(fs::File::create(&at).unwrap(), 1).unwrap();
    let mut archive = tar::Builder::new(encoder);
    for (path, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o754);
        header.set_mtime(1_700_000_000);
        archive.append_data(&mut header, path, text.as_bytes()).unwrap();
    }
    archive.into_inner().unwrap().finish().unwrap();
    at
}

fn artifact(name: &str, path: &str) -> ArtifactSpec {
    ArtifactSpec { name: name.into(), path: path.into() }
}

#[test]
fn inputs_are_laid_over_the_checkout_in_order() {
    let attempt = Attempt::of(&["cat a b c", "stat -c '%a %Y' d/e"]);
    let checkout = archive(attempt.beside("0"), &[("a", "0"), ("b", "0"), ("c", "0"), ("d/e", "")]);
    let first = archive(attempt.beside("1"), &[("b", "1"), ("c", "1")]);
    let second = archive(attempt.beside("2"), &[("c", "2\n")]);
    let attempt = attempt.with(|spec| {
        spec.checkout = Some(checkout);
        spec.inputs = vec![first, second];
    });
    let left = attempt.run();
    assert!(left.log.contains("\n012\n"), "{}", left.log);
    assert!(left.log.ends_with("\n754 1700000000\n"), "{}", left.log);
}

#[test]
fn a_checkout_that_cannot_be_unpacked_is_a_failed_setup() {
    let attempt = Attempt::of(&["echo no"]);
    let checkout = attempt.beside("broken");
    fs::write(&checkout, "not an archive").unwrap();
    let left = attempt.with(|spec| spec.checkout = Some(checkout)).run();
    assert!(matches!(left.report.outcome, Outcome::SetupFailed { .. }), "{:?}", left.report);
    assert_eq!(left.report.first_command_at_ms, None);
}

#[test]
fn outputs_are_staged_after_success_and_artifacts_always() {
    let make = "mkdir -p out/deep; echo 1 >out/deep/a; echo 2 >report.xml";
    for (command, success) in [("true", true), ("false", false)] {
        let attempt = Attempt::of(&[make, command]).with(|spec| {
            spec.outputs = vec!["out".into()];
            spec.artifacts = vec![artifact("reports", "*.xml"), artifact("none", "gone/**")];
        });
        let report = attempt.run().report;
        assert_eq!(report.outputs.is_some(), success);
        let reports = report.artifacts[0].staged.as_ref().unwrap();
        assert_eq!((reports.file.as_str(), reports.files), ("staged/artifacts/reports.tar.zst", 1));
        assert_eq!(fs::metadata(attempt.folder().path().join(&reports.file)).unwrap().size(), reports.size);
        assert!(!report.artifacts[1].matched());
        assert_eq!(report.notes, [""; 0], "another step may make it");
    }
}

#[test]
fn outputs_that_match_nothing_are_said() {
    let noted = |outputs: &[&str]| {
        let outputs = outputs.iter().map(|pattern| (*pattern).to_owned()).collect();
        Attempt::of(&["echo 1 >made"]).with(|spec| spec.outputs = outputs).run().report.notes
    };
    assert_eq!(noted(&["made"]), [""; 0]);
    assert_eq!(
        noted(&["gone", "made", "*.so"]),
        ["Nothing matched gone, *.so of its outputs; the steps after it get the rest."]
    );
    assert_eq!(noted(&["gone", "*.so"]), ["Nothing matched its outputs (gone, *.so); the steps after it get none."]);
}

#[test]
fn an_artifacts_name_never_leads_out_of_the_folder() {
    let attempt = Attempt::of(&["echo x >x"]).with(|spec| spec.artifacts = vec![artifact("../../evil", "x")]);
    let report = attempt.run().report;
    assert_eq!(report.artifacts[0].staged.as_ref().unwrap().file, "staged/artifacts/0.tar.zst");
}

/// Under another user, which takes root.
#[test]
fn another_user_can_work_but_not_touch_what_is_the_runners() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let attempt = Attempt::of(&[
        "id -u; id -g; id -G",
        "echo x >made; echo y >from; mkdir -p \"$HOME/.cache\"",
        "for f in log lock result.json stop spec.json staged new; do (: >>../$f) 2>/dev/null && echo wrote $f; done; true",
        "ls .. 2>/dev/null || echo unlisted",
        "cat ../log 2>/dev/null || echo unread",
    ]);
    let checkout = archive(attempt.beside("0"), &[("from", "x"), ("folder/in", "x")]);
    let attempt = attempt.with(|spec| {
        spec.user = Some(StepUser { uid: 65534, gid: 65534 });
        spec.checkout = Some(checkout);
        spec.outputs = vec!["made".into(), "from".into()];
    });
    let left = attempt.run();
    assert_eq!(left.report.outcome, Outcome::Exited { code: 0 }, "{}", left.log);
    assert!(left.log.contains("\n65534\n65534\n65534\n"), "{}", left.log);
    assert!(!left.log.contains("\nwrote "), "{}", left.log);
    assert!(left.log.contains("\nunlisted\n") && left.log.ends_with("\nunread\n"), "{}", left.log);
    assert_eq!(left.report.outputs.unwrap().files, 2);
    assert_eq!(owner(&attempt.workspace("folder/in")), 65534);
    assert_eq!(fs::metadata(attempt.folder().log()).unwrap().permissions().mode() & 0o777, 0o600);
}

fn owner(path: &Path) -> u32 {
    fs::metadata(path).unwrap().uid()
}
