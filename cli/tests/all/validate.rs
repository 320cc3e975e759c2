//! `buildit validate`.

use serde_json::Value;

use crate::support::{buildit, said, said_with_input};

const VALID: &str = "pipeline:\n  steps:\n    - { name: test, image: alpine, commands: [\"true\"] }\n";
const TWO_PROBLEMS: &str = "pipeline:\n  steps:\n    - { name: test, imag: alpine, commands: [\"true\"] }\n";

#[test]
fn a_valid_file_is_said_to_be_valid() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(".platform.yaml"), VALID).unwrap();
    let said = said(buildit().arg("validate").current_dir(&folder));
    assert_eq!((said.code, said.out.as_str()), (Some(0), ".platform.yaml: valid\n"), "{}", said.err);
}

#[test]
fn every_problem_is_shown_with_its_place() {
    let said = said_with_input(buildit().args(["validate", "-"]), TWO_PROBLEMS.as_bytes());
    assert_eq!(said.code, Some(1));
    assert!(said.out.contains("<stdin>:3:"), "{}", said.out);
    assert!(said.out.contains("did you mean `image`?"), "{}", said.out);
    assert!(said.out.ends_with("<stdin>: 2 problems\n"), "{}", said.out);
}

#[test]
fn programs_get_json() {
    let broken = said_with_input(buildit().args(["validate", "-", "--format", "json"]), TWO_PROBLEMS.as_bytes());
    let json: Value = serde_json::from_str(&broken.out).unwrap();
    assert_eq!(broken.code, Some(1));
    assert_eq!(json["valid"], false);
    assert_eq!(json["diagnostics"][0]["line"], 3);

    let valid = said_with_input(buildit().args(["validate", "-", "--format", "json"]), VALID.as_bytes());
    let json: Value = serde_json::from_str(&valid.out).unwrap();
    assert_eq!((valid.code, &json["valid"]), (Some(0), &Value::Bool(true)));
}

#[test]
fn any_bytes_get_an_answer() {
    for bytes in [&b""[..], &[0xff, 0xfe], &[0; 4096], &[b'['; 100_000], &vec![b'a'; 3 << 20]] {
        let said = said_with_input(buildit().args(["validate", "-"]), bytes);
        assert_eq!(said.code, Some(1), "{}", said.err);
        assert!(!said.err.contains("panicked"), "{}", said.err);
    }
}

#[test]
fn a_file_that_is_not_there_is_no_valid_pipeline() {
    let folder = tempfile::tempdir().unwrap();
    let said = said(buildit().args(["validate", "none.yaml"]).current_dir(&folder));
    assert_eq!(said.code, Some(1));
    assert!(said.err.contains("cannot read none.yaml"), "{}", said.err);
}
