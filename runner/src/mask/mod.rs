//! Hides secrets in a stream of bytes.
//!
//! Each stretch of the stream that secrets cover, in any of their spellings and however they
//! overlap, comes out as one `***`. Where the stream is cut into chunks makes no difference to
//! what comes out. Only the beginning of what could still become a secret is held back; all
//! else is given out at once.

mod forms;

use std::collections::{BTreeSet, HashMap, VecDeque};

use aho_corasick::automaton::{Automaton, StateID};
use aho_corasick::nfa::contiguous::NFA;
use aho_corasick::{Anchored, MatchKind};

/// The length in bytes below which a secret is refused: hiding each "no" or "123" would tell what
/// the secret is and make the log unreadable.
pub const MIN_SECRET: usize = 4;

/// What stands in a secret's place.
pub const MASK: &[u8] = b"***";

/// Why secrets cannot be masked.
#[derive(Debug, thiserror::Error)]
pub enum MaskError {
    /// A secret is too short.
    #[error("secret {index} (counted from 0) has fewer than {MIN_SECRET} bytes")]
    TooShort {
        /// Its index in the list.
        index: usize,
    },
    /// The secrets are too large altogether.
    #[error("the secrets are too large to be masked: {0}")]
    TooLarge(#[from] aho_corasick::BuildError),
}

/// The state of one stream.
#[derive(Debug)]
pub struct Masker {
    search: Option<Search>,
    /// Bytes taken in and not given out; their first one is at `base` of the stream.
    held: Vec<u8>,
    base: u64,
    /// Covered stretches that end after `base`, in order, apart from each other.
    covered: VecDeque<Covered>,
}

#[derive(Debug)]
struct Covered {
    start: u64,
    end: u64,
    /// Its `***` was given out already.
    shown: bool,
}

impl Masker {
    /// Lets everything pass.
    pub fn none() -> Masker {
        Masker { search: None, held: Vec::new(), base: 0, covered: VecDeque::new() }
    }

    /// Builds what finds `secrets`. With none, bytes pass through.
    pub fn new(secrets: &[String]) -> Result<Masker, MaskError> {
        let mut patterns = BTreeSet::new();
        for (index, secret) in secrets.iter().enumerate() {
            if secret.len() < MIN_SECRET {
                return Err(MaskError::TooShort { index });
            }
            patterns.append(&mut forms::forms(secret));
        }
        let search = match patterns.is_empty() {
            true => None,
            false => Some(Search::new(&patterns)?),
        };
        Ok(Masker { search, ..Masker::none() })
    }

    /// Takes in the stream's next bytes and appends to `out` what can be given out.
    pub fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let Some(search) = &mut self.search else {
            out.extend_from_slice(bytes);
            return;
        };
        let at = self.base + self.held.len() as u64;
        search.scan(bytes, |end, len| {
            cover(&mut self.covered, at + end as u64 - len as u64, at + end as u64);
        });
        let may_grow = search.may_grow();
        self.held.extend_from_slice(bytes);
        let given = self.held.len() - may_grow;
        self.give(given, out);
    }

    /// Appends the rest to `out`: the stream has ended.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        self.give(self.held.len(), out);
        if let Some(search) = &mut self.search {
            search.state = search.start;
        }
        self.covered.clear();
    }

    /// Gives out the first `count` held bytes.
    fn give(&mut self, count: usize, out: &mut Vec<u8>) {
        let until = self.base + count as u64;
        let mut at = self.base;
        let base = self.base;
        let held = |from: u64, to: u64| &self.held[(from - base) as usize..(to - base) as usize];
        for stretch in &mut self.covered {
            if stretch.start >= until {
                break;
            }
            if stretch.start > at {
                out.extend_from_slice(held(at, stretch.start));
            }
            if !stretch.shown {
                out.extend_from_slice(MASK);
                stretch.shown = true;
            }
            at = stretch.end.clamp(at, until);
        }
        out.extend_from_slice(held(at, until));
        self.held.drain(..count);
        self.base = until;
        // One that ends right here may still grow by a neighbour.
        while self.covered.front().is_some_and(|stretch| stretch.end < until) {
            self.covered.pop_front();
        }
    }
}

/// Adds a stretch; those that it overlaps or touches become one with it. Ends only ever grow.
fn cover(covered: &mut VecDeque<Covered>, start: u64, end: u64) {
    let mut merged = Covered { start, end, shown: false };
    while let Some(last) = covered.back() {
        if last.end < merged.start {
            break;
        }
        merged.start = merged.start.min(last.start);
        merged.shown |= last.shown;
        covered.pop_back();
    }
    covered.push_back(merged);
}

/// An automaton that has read the stream so far.
#[derive(Debug)]
struct Search {
    automaton: NFA,
    start: StateID,
    state: StateID,
    /// For each state, how many of the last bytes could be the beginning of a longer match.
    may_grow: HashMap<StateID, usize>,
    /// The first two bytes of all patterns: a bit per pair.
    pairs: Box<[u64; 1024]>,
}

impl Search {
    fn new(patterns: &BTreeSet<Vec<u8>>) -> Result<Search, MaskError> {
        let automaton = NFA::builder().match_kind(MatchKind::Standard).prefilter(false).build(patterns)?;
        let start = next_start(&automaton);
        let mut pairs = Box::new([0; 1024]);
        for pattern in patterns {
            let pair = pair(pattern[0], pattern[1]);
            pairs[pair / 64] |= 1 << (pair % 64);
        }
        let may_grow = may_grow(&automaton, start, patterns);
        Ok(Search { automaton, start, state: start, may_grow, pairs })
    }

    fn may_grow(&self) -> usize {
        self.may_grow.get(&self.state).copied().unwrap_or(0)
    }

    /// Reads `bytes`; tells the end (an index into `bytes`) and length of the longest match at
    /// each end of a match.
    fn scan(&mut self, bytes: &[u8], mut found: impl FnMut(usize, usize)) {
        let mut at = 0;
        while at < bytes.len() {
            if self.state == self.start {
                at += self.skippable(&bytes[at..]);
                if at == bytes.len() {
                    return;
                }
            }
            self.state = self.automaton.next_state(Anchored::No, self.state, bytes[at]);
            at += 1;
            if self.automaton.is_match(self.state) {
                let len = (0..self.automaton.match_len(self.state))
                    .map(|i| self.automaton.match_pattern(self.state, i))
                    .map(|pattern| self.automaton.pattern_len(pattern))
                    .max()
                    .unwrap_or(0);
                found(at, len);
            }
        }
    }

    /// How many bytes from the start state on cannot begin a match. The last one is never judged
    /// here, as its successor is not known.
    fn skippable(&self, bytes: &[u8]) -> usize {
        let begins = |two: &[u8]| {
            let pair = pair(two[0], two[1]);
            self.pairs[pair / 64] >> (pair % 64) & 1 == 1
        };
        bytes.windows(2).position(begins).unwrap_or(bytes.len() - 1)
    }
}

fn pair(first: u8, second: u8) -> usize {
    usize::from(first) << 8 | usize::from(second)
}

/// The state before any byte.
fn next_start(automaton: &NFA) -> StateID {
    match automaton.start_state(Anchored::No) {
        Ok(state) => state,
        // The builder supports unanchored searches unless told otherwise.
        Err(_) => unreachable!("an automaton without an unanchored start"),
    }
}

/// The automaton's state after reading part of a pattern stands for that part. If the part is
/// shorter than the pattern, all of it has to be held back. At the pattern's end, what counts is
/// the longest proper suffix that begins a pattern.
fn may_grow(automaton: &NFA, start: StateID, patterns: &BTreeSet<Vec<u8>>) -> HashMap<StateID, usize> {
    let mut may_grow = HashMap::from([(start, 0)]);
    for pattern in patterns {
        let mut state = start;
        for (depth, &byte) in pattern[..pattern.len() - 1].iter().enumerate() {
            state = automaton.next_state(Anchored::No, state, byte);
            may_grow.insert(state, depth + 1);
        }
    }
    // Shorter ones first: a suffix is shorter than what it is a suffix of.
    let mut by_length: Vec<_> = patterns.iter().collect();
    by_length.sort_by_key(|pattern| pattern.len());
    let read = |bytes: &[u8]| bytes.iter().fold(start, |state, &byte| automaton.next_state(Anchored::No, state, byte));
    for pattern in by_length {
        let whole = read(pattern);
        if !may_grow.contains_key(&whole) {
            let suffix = may_grow.get(&read(&pattern[1..])).copied().unwrap_or(0);
            may_grow.insert(whole, suffix);
        }
    }
    may_grow
}

#[cfg(test)]
mod tests;
