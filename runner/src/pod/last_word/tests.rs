use super::*;
use crate::report::StagedArtifact;

fn report() -> Report {
    Report {
        attempt_id: "0".repeat(36),
        outcome: Outcome::Exited { code: 3 },
        failed_command: Some(0),
        started_at_ms: 1,
        first_command_at_ms: Some(2),
        ended_at_ms: 3,
        log_len: 4,
        log_sha256: "0".repeat(64),
        log_truncated: false,
        log_times: Vec::new(),
        oom_killed: true,
        stopped_by: None,
        outputs: None,
        artifacts: Vec::new(),
        notes: vec!["A note.".to_owned()],
    }
}

fn read(text: &str) -> Report {
    assert!(text.len() <= MOST_TERMINATION);
    serde_json::from_str(text).unwrap()
}

#[test]
fn a_short_report_is_told_whole() {
    assert_eq!(read(&short(&report())), report());
}

#[test]
fn long_notes_are_left_out_where_they_do_not_fit() {
    let notes = vec!["\n".repeat(1500), "x".repeat(1500), "Fits.".to_owned()];
    let told = read(&short(&Report { notes: notes.clone(), ..report() }));
    assert_eq!(told.notes, [notes[0].clone(), notes[2].clone()]);
}

#[test]
fn what_matters_survives_anything() {
    let artifact = StagedArtifact { name: "\"".repeat(100), path: "\u{1}".repeat(100), staged: None };
    let outcome = Outcome::SetupFailed { message: "é".repeat(10_000) };
    let long = Report { artifacts: vec![artifact; 50], outcome, notes: vec!["\u{1}".repeat(2000)], ..report() };
    let told = read(&short(&long));
    assert!(matches!(told.outcome, Outcome::SetupFailed { .. }) && told.oom_killed);
    assert!(told.notes.is_empty());
}
