//! Bytes to text, piece by piece: a character that is cut in two waits for its other half, and only bytes that are
//! no UTF-8 at all are replaced.

/// Turns the pieces of a log into text.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    /// The beginning of a character whose end has not come; at most three bytes.
    held: Vec<u8>,
}

impl Decoder {
    /// The text that is complete with these bytes.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> String {
        self.held.extend_from_slice(bytes);
        let mut text = String::with_capacity(self.held.len());
        let mut rest = self.held.as_slice();
        loop {
            match std::str::from_utf8(rest) {
                Ok(valid) => {
                    text.push_str(valid);
                    rest = &[];
                }
                Err(error) => {
                    let (valid, after) = rest.split_at(error.valid_up_to());
                    text.push_str(std::str::from_utf8(valid).unwrap_or_default());
                    rest = after;
                    if let Some(invalid) = error.error_len() {
                        text.push(char::REPLACEMENT_CHARACTER);
                        rest = &rest[invalid..];
                        continue;
                    }
                }
            }
            break;
        }
        self.held = rest.to_vec();
        text
    }

    /// How many bytes wait for the rest of their character.
    pub(crate) fn held(&self) -> u64 {
        self.held.len() as u64
    }

    /// What there is when nothing more comes: half a character is none.
    pub(crate) fn finish(&mut self) -> String {
        if std::mem::take(&mut self.held).is_empty() { String::new() } else { char::REPLACEMENT_CHARACTER.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All the text, when the bytes come in pieces of `size`.
    fn decoded(bytes: &[u8], size: usize) -> String {
        let mut decoder = Decoder::default();
        let mut text: String = bytes.chunks(size).map(|piece| decoder.push(piece)).collect();
        text.push_str(&decoder.finish());
        text
    }

    #[test]
    fn text_comes_out_the_same_wherever_it_was_cut() {
        let text = "ok ä € 🦀 done\r\n\u{1b}[31mred\0";
        for size in 1..=text.len() {
            assert_eq!(decoded(text.as_bytes(), size), text, "pieces of {size}");
        }
    }

    #[test]
    fn only_bytes_that_are_no_text_are_replaced() {
        let bytes = b"a\xff\xfeb\xe2\x82c\xf0\x9f\xa6\x80";
        for size in 1..=bytes.len() {
            assert_eq!(decoded(bytes, size), String::from_utf8_lossy(bytes), "pieces of {size}");
        }
    }

    #[test]
    fn half_a_character_waits_for_its_end() {
        let mut decoder = Decoder::default();
        assert_eq!((decoder.push("x🦀".split_at(1).0.as_bytes()), decoder.held()), ("x".into(), 0));
        assert_eq!((decoder.push(&"🦀".as_bytes()[..3]), decoder.held()), (String::new(), 3));
        assert_eq!((decoder.push(&"🦀".as_bytes()[3..]), decoder.held()), ("🦀".into(), 0));
        decoder.push(&"🦀".as_bytes()[..2]);
        assert_eq!(decoder.finish(), "\u{fffd}");
    }
}
