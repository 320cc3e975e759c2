//! The log on standard output, in frames.
//!
//! A frame is one line, so that a reader who lost some bytes goes on at the next newline:
//!
//! ```text
//! L <offset> <bytes>     a line of the log, with its newline
//! P <offset> <bytes>     a piece of the log, without: progress, or a part of a long line
//! E <report>             the last word, as JSON; the last frame
//! ```
//!
//! Offsets are those of the bytes in the masked log. No output of a step can look like a frame,
//! since each of its lines is in one. A frame of the log is at most [`MAX_PIECE`] and some
//! bytes long: short enough that no container runtime cuts it in two. Other lines, such as what
//! the runner prints to standard error, are no frames and are passed over.

use memchr::{memchr, memrchr};

use crate::report::Report;

/// Bytes of the log in one frame.
pub const MAX_PIECE: usize = 8 * 1024;

/// Bytes of a line that the reader keeps; none of the runner's is longer.
const MAX_LINE: usize = 1 << 20;

/// Appends `bytes`, found at `offset` of the log, to `out`.
pub fn write_log(mut offset: u64, mut bytes: &[u8], out: &mut Vec<u8>) {
    while !bytes.is_empty() {
        let reach = &bytes[..bytes.len().min(MAX_PIECE)];
        let (kind, payload, taken) = match memchr(b'\n', reach) {
            Some(newline) => (b'L', &reach[..newline], newline + 1),
            None => (b'P', reach, reach.len()),
        };
        out.extend_from_slice(&[kind, b' ']);
        write_offset(offset, out);
        out.push(b' ');
        out.extend_from_slice(payload);
        out.push(b'\n');
        offset += taken as u64;
        bytes = &bytes[taken..];
    }
}

/// In decimal. The formatter of the library takes longer than all the rest of a short line.
fn write_offset(mut offset: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (offset % 10) as u8;
        offset /= 10;
        if offset == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// The last frame.
pub fn end_frame(report: &Report) -> serde_json::Result<Vec<u8>> {
    let mut line = b"E ".to_vec();
    serde_json::to_writer(&mut line, report)?;
    line.push(b'\n');
    Ok(line)
}

/// What a [`FrameReader`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// A stretch of the log.
    Log {
        /// Where it begins in the masked log.
        offset: u64,
        /// Its bytes.
        bytes: Vec<u8>,
    },
    /// The last word.
    End(Box<Report>),
}

/// Reads frames from a stream that arrives in chunks.
#[derive(Debug, Default)]
pub struct FrameReader {
    /// The beginning of a line whose end has not arrived.
    partial: Vec<u8>,
    /// The line that is arriving is not to be believed.
    skipping: bool,
}

impl FrameReader {
    /// For a stream that begins with a line.
    pub fn new() -> FrameReader {
        FrameReader::default()
    }

    /// Bytes are missing from here on: what is left of the line is passed over.
    pub fn lost(&mut self) {
        self.partial.clear();
        self.skipping = true;
    }

    /// The stream is read anew, from the beginning of some line.
    pub fn restart(&mut self) {
        *self = FrameReader::default();
    }

    /// Takes in the next chunk. Frames whose bytes follow each other come as one; where an offset
    /// is not the end of what came before, something is missing, or comes again.
    pub fn feed(&mut self, mut chunk: &[u8]) -> Vec<Frame> {
        let mut found = Found::default();
        if self.skipping || !self.partial.is_empty() {
            let newline = memchr(b'\n', chunk);
            let rest = &chunk[..newline.unwrap_or(chunk.len())];
            self.keep(rest);
            let Some(newline) = newline else {
                return found.frames;
            };
            found.line(&self.partial);
            self.restart();
            chunk = &chunk[newline + 1..];
        }
        let whole = memrchr(b'\n', chunk).map_or(0, |newline| newline + 1);
        let (mut lines, rest) = chunk.split_at(whole);
        found.expect(lines.len());
        while let Some(newline) = memchr(b'\n', lines) {
            found.line(&lines[..newline]);
            lines = &lines[newline + 1..];
        }
        self.keep(rest);
        found.frames
    }

    fn keep(&mut self, rest: &[u8]) {
        if !self.skipping && self.partial.len() + rest.len() <= MAX_LINE {
            self.partial.extend_from_slice(rest);
        } else if !rest.is_empty() {
            self.lost();
        }
    }
}

#[derive(Default)]
struct Found {
    frames: Vec<Frame>,
    /// How many bytes of the log may still come.
    expected: usize,
}

impl Found {
    fn expect(&mut self, bytes: usize) {
        self.expected = bytes;
    }

    fn line(&mut self, line: &[u8]) {
        match line {
            [b'L', b' ', rest @ ..] => self.log(rest, b"\n"),
            [b'P', b' ', rest @ ..] => self.log(rest, b""),
            [b'E', b' ', report @ ..] => {
                if let Ok(report) = serde_json::from_slice(report) {
                    self.frames.push(Frame::End(report));
                }
            }
            _ => {}
        }
    }

    fn log(&mut self, line: &[u8], newline: &[u8]) {
        let Some((at, payload)) = split_offset(line) else { return };
        if payload.is_empty() && newline.is_empty() {
            return;
        }
        if let Some(Frame::Log { offset, bytes }) = self.frames.last_mut()
            && offset.checked_add(bytes.len() as u64) == Some(at)
        {
            bytes.extend_from_slice(payload);
            bytes.extend_from_slice(newline);
            return;
        }
        let mut bytes = Vec::with_capacity(self.expected.max(payload.len() + newline.len()));
        self.expected = 0;
        bytes.extend_from_slice(payload);
        bytes.extend_from_slice(newline);
        self.frames.push(Frame::Log { offset: at, bytes });
    }
}

/// The decimal number before the first space, and what follows it.
fn split_offset(line: &[u8]) -> Option<(u64, &[u8])> {
    let mut offset: u64 = 0;
    for (at, &byte) in line.iter().enumerate() {
        match byte {
            b'0'..=b'9' => offset = offset.checked_mul(10)?.checked_add(u64::from(byte - b'0'))?,
            b' ' if at > 0 => return Some((offset, &line[at + 1..])),
            _ => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests;
