//! What the step leaves.

use std::io::Read;

use buildit_runner::{ArtifactSpec, Outcome};

use super::place::Pod;
use super::server::Fault::{Cut, Lost, NoAnswer, Status};

fn artifact(name: &str, path: &str) -> ArtifactSpec {
    ArtifactSpec { name: name.into(), path: path.into() }
}

fn pod() -> Pod {
    Pod::of(&["seq 1 200000 >numbers; echo x >report.xml; echo done"]).with(|attempt| {
        attempt.outputs = vec!["numbers".into()];
        attempt.artifacts = vec![artifact("test results", "*.xml"), artifact("none", "*.none")];
    })
}

fn unpacked(archive: &[u8]) -> Vec<(String, String)> {
    let mut archive = tar::Archive::new(zstd::Decoder::new(archive).unwrap());
    let read = |entry: std::io::Result<tar::Entry<'_, _>>| {
        let (mut entry, mut text) = (entry.unwrap(), String::new());
        Read::read_to_string(&mut entry, &mut text).unwrap();
        (entry.path().unwrap().display().to_string(), text)
    };
    archive.entries().unwrap().map(read).collect()
}

fn assert_all_there(pod: &Pod) {
    let left = pod.run();
    assert_eq!(left.exit, Some(0), "{}", left.errors);
    let known = pod.known();
    assert_eq!(known.objects["log"], left.printed.as_bytes());
    assert_eq!(unpacked(&known.objects["artifacts/test%20results"]), [("report.xml".to_owned(), "x\n".to_owned())]);
    let numbers = &unpacked(&known.objects["outputs"])[0];
    assert_eq!((numbers.0.as_str(), numbers.1.lines().count()), ("numbers", 200_000));
    let report = left.told.unwrap();
    assert_eq!(report.outputs.unwrap().size, known.objects["outputs"].len() as u64);
    assert_eq!(report.artifacts.iter().filter(|artifact| artifact.matched()).count(), 1);
    assert_eq!(report.notes, [] as [String; 0]);
}

#[test]
fn outputs_artifacts_and_log_reach_the_storage() {
    assert_all_there(&pod());
}

#[test]
fn large_objects_go_in_parts() {
    let pod = pod();
    pod.known().part_size = 10_000;
    assert_all_there(&pod);
    assert!(pod.server.seen("objects/outputs/parts") > 10);
}

#[test]
fn storage_and_api_may_fail_at_each_request() {
    let pod = pod();
    pod.known().part_size = 50_000;
    for request in ["objects/outputs", "objects/outputs/parts", "objects/outputs/complete", "part=1", "/report"] {
        pod.server.fail(request, &[Status(503), NoAnswer, Lost]);
    }
    pod.server.fail("objects/log", &[Cut(3)]);
    pod.server.fail("part=2", &[Status(403)]);
    assert_all_there(&pod);
}

#[test]
fn an_upload_that_is_forgotten_is_begun_anew() {
    let pod = pod();
    pod.server.fail("objects/outputs/complete", &[Status(409)]);
    assert_all_there(&pod);
    assert_eq!(pod.server.seen("objects/outputs"), 2);
}

#[test]
fn a_success_whose_outputs_cannot_be_handed_on_is_none() {
    let pod = pod();
    pod.server.fail("objects/outputs", &[Status(413)]);
    pod.server.fail("objects/artifacts/test%20results", &[Status(413)]);
    let left = pod.run();
    let report = left.told.unwrap();
    let Outcome::StagingFailed { message } = &report.outcome else { panic!("{:?}", report.outcome) };
    assert!(message.starts_with("the outputs could not be uploaded: status 413: "), "{message}");
    assert_eq!((left.exit, &report.outputs, report.artifacts[0].matched()), (Some(1), &None, false));
    assert!(report.notes[0].starts_with("Artifact test results could not be uploaded: "), "{:?}", report.notes);
    assert_eq!(pod.known().objects["log"], left.printed.as_bytes());
}

#[test]
fn a_log_that_cannot_be_uploaded_fails_nothing() {
    let mut pod = Pod::of(&["echo x"]);
    pod.spec.upload_limit_ms = 300;
    pod.server.fail("objects/log", &[Status(500); 20]);
    let left = pod.run();
    let report = left.told.unwrap();
    assert_eq!((left.exit, report.outcome), (Some(0), Outcome::Exited { code: 0 }));
    assert!(report.notes[0].starts_with("The log could not be uploaded: status 500: "), "{:?}", report.notes);
    assert!(!left.printed.is_empty());
}

#[test]
fn a_report_that_the_api_does_not_take_is_told_on_standard_output() {
    let pod = Pod::of(&["echo x"]);
    pod.server.fail("/report", &[Status(403)]);
    let left = pod.run();
    assert_eq!((left.exit, pod.known().report.is_none()), (Some(0), true));
    assert!(left.told.unwrap().outcome.is_success());
    assert!(left.errors.contains("report: status 403"), "{}", left.errors);
}

#[test]
fn an_empty_log_is_an_object_too() {
    let pod = Pod::of(&[]);
    assert_eq!(pod.run().exit, Some(0));
    assert_eq!(pod.known().objects["log"], b"");
}
