//! Server-sent events, as they come over a connection. An event counts once it is there as a whole.

use std::time::Duration;

use reqwest::Response;

/// The server says something at least every 15 s; a connection that is silent for so long is none any more.
const SILENCE: Duration = Duration::from_secs(45);

/// One event.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Event {
    /// What it is; empty for the plain kind.
    pub(super) name: String,
    /// Where to go on after it.
    pub(super) id: Option<String>,
    pub(super) data: String,
}

/// The events of an answer.
pub(super) struct Events {
    response: Response,
    parser: Parser,
}

impl Events {
    pub(super) fn of(response: Response) -> Self {
        Self { response, parser: Parser::default() }
    }

    /// The next one; `None` when the answer ended, was cut off, or is silent.
    pub(super) async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.parser.next() {
                return Some(event);
            }
            let chunk = tokio::time::timeout(SILENCE, self.response.chunk()).await.ok()?.ok()??;
            self.parser.bytes.extend_from_slice(&chunk);
        }
    }
}

#[derive(Default)]
struct Parser {
    bytes: Vec<u8>,
    /// Where the first line begins that was not read, and how far its end was looked for.
    line: usize,
    looked: usize,
    /// The event whose lines are being read.
    event: Event,
    has_data: bool,
}

impl Parser {
    fn next(&mut self) -> Option<Event> {
        while let Some(length) = self.bytes[self.looked..].iter().position(|&byte| byte == b'\n') {
            let end = self.looked + length;
            let line = String::from_utf8_lossy(&self.bytes[self.line..end]).into_owned();
            (self.line, self.looked) = (end + 1, end + 1);
            if let Some(event) = self.take(line.strip_suffix('\r').unwrap_or(&line)) {
                return Some(event);
            }
        }
        self.bytes.drain(..self.line);
        (self.line, self.looked) = (0, self.bytes.len());
        None
    }

    fn take(&mut self, line: &str) -> Option<Event> {
        if line.is_empty() {
            let event = std::mem::take(&mut self.event);
            // Comments alone are no event.
            return std::mem::take(&mut self.has_data).then_some(event);
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.event.name),
            "id" => self.event.id = Some(value.to_owned()),
            "data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(value);
            }
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str, size: usize) -> Vec<Event> {
        let mut parser = Parser::default();
        let mut events = Vec::new();
        for piece in text.as_bytes().chunks(size) {
            parser.bytes.extend_from_slice(piece);
            events.extend(std::iter::from_fn(|| parser.next()));
        }
        events
    }

    #[test]
    fn events_come_out_the_same_wherever_the_stream_was_cut() {
        let text = ": hello\n\nid: 2:17\nevent: gap\ndata: {\"ä\": 1}\n\ndata\r\ndata: b\r\n\r\n:\n\nretry: 5\n\nid: 3\ndata: half";
        let expected = [
            Event { name: "gap".into(), id: Some("2:17".into()), data: "{\"ä\": 1}".into() },
            Event { data: "\nb".into(), ..Event::default() },
        ];
        for size in 1..=text.len() {
            assert_eq!(parsed(text, size), expected, "pieces of {size}");
        }
    }
}
