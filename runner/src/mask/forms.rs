//! The spellings of a secret that programs print: as it is, line by line, in base64, escaped for
//! URLs and for JSON.

use std::collections::BTreeSet;
use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

use super::MIN_SECRET;

/// Every spelling of `secret` that is worth hiding, each at least [`MIN_SECRET`] bytes.
pub(super) fn forms(secret: &str) -> BTreeSet<Vec<u8>> {
    let mut forms = BTreeSet::new();
    let lines = secret.lines().filter(|line| line.len() >= MIN_SECRET);
    for value in std::iter::once(secret).chain(lines) {
        forms.insert(value.as_bytes().to_vec());
        base64_forms(value.as_bytes(), &mut forms);
        url_forms(value, &mut forms);
        json_forms(value, &mut forms);
    }
    forms.retain(|form| form.len() >= MIN_SECRET);
    forms
}

/// What base64 makes of the secret inside a longer text: its bytes may start at any of three
/// places within a group, and the characters at either end also depend on its neighbours.
fn base64_forms(secret: &[u8], forms: &mut BTreeSet<Vec<u8>>) {
    for (before, undetermined) in [(0, 0), (1, 2), (2, 3)] {
        let mut text = vec![0; before];
        text.extend_from_slice(secret);
        let determined = text.len() * 8 / 6;
        for engine in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
            let encoded = engine.encode(&text).into_bytes();
            forms.insert(encoded[undetermined..determined].to_vec());
            // The last character too, for a secret at the end of the encoded text.
            forms.insert(encoded[undetermined..].to_vec());
        }
    }
}

fn url_forms(secret: &str, forms: &mut BTreeSet<Vec<u8>>) {
    // RFC 3986's unreserved characters, and what encodeURIComponent leaves alone besides.
    for kept in ["-_.~", "-_.~!'()*"] {
        let upper = escape_url(secret, kept, false);
        forms.insert(upper.replace("%20", "+").into_bytes());
        forms.insert(upper.into_bytes());
        let lower = escape_url(secret, kept, true);
        forms.insert(lower.replace("%20", "+").into_bytes());
        forms.insert(lower.into_bytes());
    }
    // Forms (application/x-www-form-urlencoded) escape the tilde and keep the asterisk.
    forms.insert(escape_url(secret, "-_.*", false).replace("%20", "+").into_bytes());
}

fn escape_url(secret: &str, kept: &str, lower_case: bool) -> String {
    let mut escaped = String::with_capacity(secret.len() * 3);
    for byte in secret.bytes() {
        let kept = byte.is_ascii_alphanumeric() || kept.as_bytes().contains(&byte);
        // Writing to a String cannot fail.
        let _ = match (kept, lower_case) {
            (true, _) => escaped.write_char(char::from(byte)),
            (false, true) => write!(escaped, "%{byte:02x}"),
            (false, false) => write!(escaped, "%{byte:02X}"),
        };
    }
    escaped
}

fn json_forms(secret: &str, forms: &mut BTreeSet<Vec<u8>>) {
    for (ascii_only, slash) in [(false, false), (false, true), (true, false), (true, true)] {
        forms.insert(escape_json(secret, ascii_only, slash).into_bytes());
    }
}

fn escape_json(secret: &str, ascii_only: bool, escape_slash: bool) -> String {
    let mut escaped = String::with_capacity(secret.len() * 2);
    for character in secret.chars() {
        match character {
            '"' => escaped.push_str("\\\""),
            '\\' => escaped.push_str("\\\\"),
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            '\t' => escaped.push_str("\\t"),
            '\u{8}' => escaped.push_str("\\b"),
            '\u{c}' => escaped.push_str("\\f"),
            '/' if escape_slash => escaped.push_str("\\/"),
            _ if character < ' ' || (ascii_only && !character.is_ascii()) => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    let _ = write!(escaped, "\\u{unit:04x}");
                }
            }
            _ => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(secret: &str, form: &str) -> bool {
        forms(secret).contains(form.as_bytes())
    }

    #[test]
    fn a_url_form_is_escaped_in_either_case_and_with_either_space() {
        assert!(has("a b/c?", "a%20b%2Fc%3F"));
        assert!(has("a b/c?", "a%20b%2fc%3f"));
        assert!(has("a b/c?", "a+b%2Fc%3F"));
        assert!(has("it's(ok)", "it's(ok)"));
        assert!(has("it's(ok)", "it%27s%28ok%29"));
    }

    #[test]
    fn a_json_form_escapes_quotes_lines_and_optionally_slashes_and_other_alphabets() {
        assert!(has("a\"b\\c/\n", r#"a\"b\\c/\n"#));
        assert!(has("a\"b\\c/\n", r#"a\"b\\c\/\n"#));
        assert!(has("pässword", r"p\u00e4ssword"));
        assert!(has("clé🗝clé", r"cl\u00e9\ud83d\uddddcl\u00e9"));
    }

    #[test]
    fn short_lines_of_a_long_secret_are_no_patterns() {
        let forms = forms("-----BEGIN-----\nab\nlonger line\n");
        assert!(forms.contains(&b"longer line"[..]));
        assert!(!forms.contains(&b"ab"[..]));
    }
}
