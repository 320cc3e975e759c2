use proptest::prelude::*;

use super::*;
use crate::report::Outcome;

fn framed(log: &[u8]) -> Vec<u8> {
    let mut stream = Vec::new();
    write_log(0, log, &mut stream);
    stream
}

/// What a consumer makes of it: the log, with `None` where bytes are missing.
fn read(reader: &mut FrameReader, chunks: &[&[u8]], log: &mut Vec<Option<u8>>) {
    for chunk in chunks {
        for frame in reader.feed(chunk) {
            let Frame::Log { offset, bytes } = frame else { panic!("{frame:?}") };
            let offset = usize::try_from(offset).unwrap();
            assert!(offset >= log.len(), "nothing comes twice");
            log.resize(offset, None);
            log.extend(bytes.into_iter().map(Some));
        }
    }
}

fn whole(log: &[u8]) -> Vec<Option<u8>> {
    log.iter().copied().map(Some).collect()
}

fn report() -> Report {
    Report {
        attempt_id: "a".into(),
        outcome: Outcome::Exited { code: 0 },
        failed_command: None,
        started_at_ms: 1,
        first_command_at_ms: Some(2),
        ended_at_ms: 3,
        log_len: 4,
        log_sha256: String::new(),
        log_truncated: false,
        log_times: Vec::new(),
        oom_killed: false,
        stopped_by: None,
        outputs: None,
        artifacts: Vec::new(),
        notes: vec!["two\nlines".into()],
    }
}

#[test]
fn a_frame_is_a_line() {
    assert_eq!(framed(b"one\n\ntwo"), b"L 0 one\nL 4 \nP 5 two\n");
}

#[test]
fn offsets_of_any_size_come_back() {
    for offset in [0, 9, 10, 1_234_567_890, u64::MAX - 2] {
        let mut stream = Vec::new();
        write_log(offset, b"x\n", &mut stream);
        assert_eq!(FrameReader::new().feed(&stream), [Frame::Log { offset, bytes: b"x\n".to_vec() }]);
    }
}

#[test]
fn a_long_line_comes_in_pieces() {
    let log = [vec![b'x'; 2 * MAX_PIECE], b"\n".to_vec()].concat();
    let stream = framed(&log);
    let longest = stream.split(|&byte| byte == b'\n').map(<[u8]>::len).max().unwrap();
    assert!(longest < MAX_PIECE + 32);
    let mut read_back = Vec::new();
    read(&mut FrameReader::new(), &[&stream], &mut read_back);
    assert_eq!(read_back, whole(&log));
}

#[test]
fn frames_that_follow_each_other_are_read_as_one() {
    let frames = FrameReader::new().feed(&framed(b"one\ntwo\nthree"));
    assert_eq!(frames, [Frame::Log { offset: 0, bytes: b"one\ntwo\nthree".to_vec() }]);
}

#[test]
fn the_last_word_is_read_and_is_one_line() {
    let line = end_frame(&report()).unwrap();
    assert_eq!(line.iter().filter(|&&byte| byte == b'\n').count(), 1);
    assert_eq!(FrameReader::new().feed(&line), [Frame::End(Box::new(report()))]);
}

#[test]
fn output_that_looks_like_a_frame_is_output() {
    let log = [b"L 7 x\nE ".to_vec(), end_frame(&report()).unwrap(), b"P 1 ".to_vec()].concat();
    let mut read_back = Vec::new();
    read(&mut FrameReader::new(), &[&framed(&log)], &mut read_back);
    assert_eq!(read_back, whole(&log));
}

#[test]
fn lines_that_are_no_frames_are_passed_over() {
    let mut reader = FrameReader::new();
    for garbage in ["", "L", "L x", "L 1", "L  x", "L -1 x", "L 18446744073709551616 x", "X 0 x", "E {}", "E"] {
        assert_eq!(reader.feed(format!("{garbage}\n").as_bytes()), [], "{garbage}");
    }
    assert_eq!(reader.feed(b"L 18446744073709551615 x\nL 1 y\n").len(), 2);
}

#[test]
fn a_line_without_end_does_not_grow_in_memory() {
    let mut reader = FrameReader::new();
    for _ in 0..20 {
        assert_eq!(reader.feed(&vec![b'x'; MAX_LINE / 8]), []);
        assert!(reader.partial.len() <= MAX_LINE);
    }
    let frames = reader.feed(b"x\nL 3 y\n");
    assert_eq!(frames, [Frame::Log { offset: 3, bytes: b"y\n".to_vec() }]);
}

/// Bytes of which many are newlines and spaces and few are letters.
fn logs() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![4 => Just(b'\n'), 2 => Just(b' '), 4 => prop::sample::select(b"LPE019x".to_vec()), 1 => any::<u8>()];
    prop::collection::vec(byte, 0..300)
}

fn chunks<'s>(stream: &'s [u8], cuts: &[prop::sample::Index]) -> Vec<&'s [u8]> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
    cuts.extend([0, stream.len()]);
    cuts.sort_unstable();
    cuts.windows(2).map(|ends| &stream[ends[0]..ends[1]]).collect()
}

proptest! {
    #[test]
    fn any_log_arrives_in_any_chunks(
        pieces in prop::collection::vec(logs(), 0..4),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let mut stream = Vec::new();
        let mut offset = 0;
        for piece in &pieces {
            write_log(offset, piece, &mut stream);
            offset += piece.len() as u64;
        }
        let mut read_back = Vec::new();
        read(&mut FrameReader::new(), &chunks(&stream, &cuts), &mut read_back);
        prop_assert_eq!(read_back, whole(&pieces.concat()));
    }

    #[test]
    fn what_a_loss_costs_is_seen_and_nothing_else_is_lost(
        log in logs(),
        from in any::<prop::sample::Index>(),
        to in any::<prop::sample::Index>(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let stream = framed(&log);
        let (from, to) = (from.index(stream.len() + 1), to.index(stream.len() + 1));
        let (from, to) = (from.min(to), from.max(to));
        let mut read_back = Vec::new();
        let mut reader = FrameReader::new();
        read(&mut reader, &chunks(&stream[..from], &cuts), &mut read_back);
        reader.lost();
        read(&mut reader, &chunks(&stream[to..], &cuts), &mut read_back);
        prop_assert!(read_back.len() <= log.len());
        for (at, byte) in read_back.iter().enumerate() {
            prop_assert!(byte.is_none_or(|byte| byte == log[at]));
        }
        // Whole frames on either side of the loss are all there.
        let before = stream[..from].split_inclusive(|&byte| byte == b'\n').filter(|line| line.ends_with(b"\n"));
        let after = stream[to..].split_inclusive(|&byte| byte == b'\n').skip(1);
        for line in before.chain(after) {
            let Frame::Log { offset, bytes } = &FrameReader::new().feed(line)[0] else { panic!("a frame") };
            let offset = usize::try_from(*offset).unwrap();
            prop_assert_eq!(&read_back[offset..offset + bytes.len()], whole(bytes));
        }
    }
}
