use proptest::prelude::*;

use super::*;

fn masked(secrets: &[&str], chunks: &[&[u8]]) -> String {
    let secrets: Vec<String> = secrets.iter().map(|s| s.to_string()).collect();
    let mut masker = Masker::new(&secrets).unwrap();
    let mut out = Vec::new();
    for chunk in chunks {
        masker.feed(chunk, &mut out);
    }
    masker.finish(&mut out);
    String::from_utf8_lossy(&out).into_owned()
}

#[test]
fn a_secret_is_hidden_wherever_a_chunk_border_cuts_it() {
    let text = b"before hunter22hunt hunter2 after hunt";
    for first in 0..=text.len() {
        for second in first..=text.len() {
            let chunks = [&text[..first], &text[first..second], &text[second..]];
            assert_eq!(masked(&["hunter22", "hunter2"], &chunks), "before ***hunt *** after hunt");
        }
    }
}

#[test]
fn overlapping_secrets_are_covered_entirely() {
    assert_eq!(masked(&["abcdef", "defghi"], &[b"<abcdefghi>"]), "<***>");
    assert_eq!(masked(&["abcdefgh", "cdef"], &[b"<abcdefg>"]), "<ab***g>");
    assert_eq!(masked(&["abcdefgh", "cdef"], &[b"<abcdefgh>"]), "<***>");
}

#[test]
fn neighbours_become_one_mask() {
    assert_eq!(masked(&["abcd"], &[b"abcdabcd"]), "***");
    assert_eq!(masked(&["abcd"], &[b"abcd", b"abcd", b"!"]), "***!");
}

#[test]
fn only_what_may_become_a_secret_is_held_back() {
    let mut masker = Masker::new(&["secret".into()]).unwrap();
    let mut out = Vec::new();
    masker.feed(b"no se", &mut out);
    assert_eq!(out, b"no ");
    masker.feed(b"t, a secret", &mut out);
    assert_eq!(out, b"no set, a ***");
    masker.feed(b" sec", &mut out);
    assert_eq!(out, b"no set, a *** ");
    masker.finish(&mut out);
    assert_eq!(out, b"no set, a *** sec");
}

#[test]
fn each_line_of_a_key_is_hidden_alone_and_all_lines_as_one() {
    let key = "-----BEGIN KEY-----\nMIIEpAIBAAKCAQEA\nab\n-----END KEY-----\n";
    assert_eq!(masked(&[key], &[b"x MIIEpAIBAAKCAQEA y"]), "x *** y");
    assert_eq!(masked(&[key], &[key.as_bytes()]), "***");
}

#[test]
fn base64_of_a_text_that_contains_a_secret_shows_none_of_its_whole_characters() {
    use base64::Engine;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE};
    let secret = "pa?ss>~wörd-\u{3ff}";
    for before in 0..6 {
        for after in 0..4 {
            let text = format!("{}{secret}{}", "u".repeat(before), "v".repeat(after));
            for encoded in [STANDARD.encode(&text), URL_SAFE.encode(&text)] {
                let shown = masked(&[secret], &[encoded.as_bytes()]);
                let (head, tail) = shown.split_once("***").unwrap();
                assert!(head.len() <= before.div_ceil(3) * 4 && tail.len() <= 8, "{shown}");
            }
        }
    }
}

#[test]
fn a_short_secret_is_refused_by_its_index() {
    let error = Masker::new(&["long enough".into(), "abc".into()]).unwrap_err();
    assert!(matches!(error, MaskError::TooShort { index: 1 }));
}

#[test]
fn without_secrets_bytes_pass() {
    assert_eq!(masked(&[], &[b"a", b"b"]), "ab");
}

/// The plain definition: every byte covered by a form is hidden, each stretch by one mask.
fn by_definition(secrets: &[String], text: &[u8]) -> Vec<u8> {
    let mut hidden = vec![false; text.len()];
    for form in secrets.iter().flat_map(|secret| forms::forms(secret)) {
        for start in 0..(text.len() + 1).saturating_sub(form.len()) {
            if text[start..].starts_with(&form) {
                hidden[start..start + form.len()].fill(true);
            }
        }
    }
    let mut out = Vec::new();
    for (at, &byte) in text.iter().enumerate() {
        match (hidden[at], at > 0 && hidden[at - 1]) {
            (false, _) => out.push(byte),
            (true, false) => out.extend_from_slice(MASK),
            (true, true) => {}
        }
    }
    out
}

proptest! {
    #[test]
    fn the_output_is_the_definitions_for_any_chunks(
        secrets in prop::collection::vec("[ab]{4,7}", 1..4),
        text in "[abc]{0,60}",
        cuts in prop::collection::vec(0usize..61, 0..8),
    ) {
        let text = text.as_bytes();
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
        cuts.extend([0, text.len()]);
        cuts.sort_unstable();
        let mut masker = Masker::new(&secrets).unwrap();
        let mut out = Vec::new();
        for pair in cuts.windows(2) {
            masker.feed(&text[pair[0]..pair[1]], &mut out);
        }
        masker.finish(&mut out);
        prop_assert_eq!(out, by_definition(&secrets, text));
    }
}
