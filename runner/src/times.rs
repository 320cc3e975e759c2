//! When what was printed. However long a step prints, the notes of it stay few: when there are too many, every other one
//! goes, and from then on they are made half as often.

use std::time::{Duration, Instant};

/// Notes that are kept at most.
const MOST: usize = 1024;

/// How far apart they are at first.
const APART: Duration = Duration::from_millis(20);

/// What the shell's echo of a command begins with: such a place is noted however close the last one is.
const ECHO: &[u8] = b"$ ";

/// A place in the log and when it was reached.
#[derive(Debug, Clone, Copy)]
struct Note {
    byte: u64,
    after: Duration,
    is_command: bool,
}

/// Places in a log and when they were reached.
#[derive(Debug)]
pub(crate) struct Times {
    begun: Instant,
    apart: Duration,
    notes: Vec<Note>,
}

impl Times {
    /// Counts from now.
    pub(crate) fn new() -> Times {
        Times { begun: Instant::now(), apart: APART, notes: Vec::new() }
    }

    /// `bytes` were printed now and come at `byte` of the log, or a little behind it.
    pub(crate) fn note(&mut self, byte: u64, bytes: &[u8]) {
        self.note_at(byte, bytes, self.begun.elapsed());
    }

    fn note_at(&mut self, byte: u64, bytes: &[u8], after: Duration) {
        let is_command = bytes.starts_with(ECHO);
        let is_due = self.notes.last().is_none_or(|last| after >= last.after + self.apart);
        if !is_due && !is_command {
            return;
        }
        if self.notes.len() == MOST {
            self.thin();
            // As far apart as those that are left.
            self.apart = APART.max(after * 2 / u32::try_from(MOST).unwrap_or(u32::MAX));
        }
        self.notes.push(Note { byte, after, is_command });
    }

    /// The last of it was printed; comes at `byte` or behind it.
    pub(crate) fn end(&mut self, byte: u64) {
        self.notes.push(Note { byte, after: self.begun.elapsed(), is_command: false });
    }

    /// Halves their number; those of commands stay as long as that is enough.
    fn thin(&mut self) {
        for keep_commands in [true, false] {
            let mut odd = false;
            self.notes.retain(|note| {
                odd = !odd;
                odd || (keep_commands && note.is_command)
            });
            if self.notes.len() <= MOST * 3 / 4 {
                return;
            }
        }
    }

    /// Bytes and milliseconds.
    pub(crate) fn all(&self) -> Vec<(u64, u64)> {
        let ms = |after: Duration| u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        self.notes.iter().map(|note| (note.byte, ms(note.after))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noted(prints: impl IntoIterator<Item = (u64, &'static [u8])>) -> Vec<(u64, u64)> {
        let mut times = Times::new();
        for (i, (ms, bytes)) in prints.into_iter().enumerate() {
            times.note_at(i as u64, bytes, Duration::from_millis(ms));
        }
        times.all()
    }

    #[test]
    fn what_is_printed_at_one_time_is_one_place_and_each_command_is_another() {
        let prints: [(u64, &[u8]); 5] = [(3, b"$ make\n"), (4, b"a"), (5, b"b"), (6, b"$ true\n"), (90, b"c")];
        assert_eq!(noted(prints), [(0, 3), (3, 6), (4, 90)]);
    }

    #[test]
    fn of_a_long_log_few_places_are_kept_evenly_and_all_its_commands() {
        let prints = (0..1_000_000).map(|i| (i * 30, if i % 100_000 == 77 { &b"$ make\n"[..] } else { b"..." }));
        let noted = noted(prints);
        assert!((MOST / 3..=MOST).contains(&noted.len()), "{}", noted.len());
        for i in 0..10 {
            assert!(noted.contains(&(i * 100_000 + 77, (i * 100_000 + 77) * 30)), "command {i}");
        }
        let widest = noted.windows(2).map(|two| two[1].1 - two[0].1).max().unwrap();
        assert!(widest < 3 * 30_000_000 / MOST as u64 * 2, "{widest} ms");
    }

    #[test]
    fn a_log_that_is_all_echoes_ends_too() {
        assert!(noted((0..100_000).map(|i| (i, &b"$ x\n"[..]))).len() <= MOST);
    }
}
