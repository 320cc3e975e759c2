//! Times, durations, sizes and names as people read them.

use std::fmt;

use askama::filters::HtmlSafe;
use jiff::Timestamp;

/// A moment: how long ago, and exactly when on hover. The script keeps it right.
#[derive(Clone, Copy)]
pub(super) struct When(pub(super) Timestamp);

impl When {
    pub(super) fn of(at: jiff_sqlx::Timestamp) -> Self {
        Self(at.to_jiff())
    }
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = self.0.strftime("%Y-%m-%d %H:%M:%S UTC");
        let seconds = Timestamp::now().as_second() - self.0.as_second();
        write!(f, "<time datetime=\"{:.0}\" title=\"{exact}\" data-ago>{}</time>", self.0, ago(seconds, self.0))
    }
}

impl HtmlSafe for When {}

fn ago(seconds: i64, at: Timestamp) -> String {
    const DAY: i64 = 86_400;
    match seconds {
        ..45 => "just now".into(),
        45..3_240 => format!("{} min. ago", ((seconds + 30) / 60).max(1)),
        3_240..77_760 => format!("{} hr. ago", ((seconds + 1_800) / 3_600).max(1)),
        77_760..2_635_200 => {
            let days = ((seconds + DAY / 2) / DAY).max(1);
            format!("{days} day{} ago", if days == 1 { "" } else { "s" })
        }
        _ => at.strftime("%Y-%m-%d").to_string(),
    }
}

/// A sentence in which `this` is code.
pub(super) struct Sentence(pub(super) String);

impl fmt::Display for Sentence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let escape = |text| {
            let Ok(safe) = askama::filters::escape(text, askama::filters::Html);
            safe
        };
        let mut rest = self.0.as_str();
        while let Some((before, code, after)) = rest
            .split_once('`')
            .and_then(|(before, rest)| rest.split_once('`').map(|(code, after)| (before, code, after)))
        {
            write!(f, "{}<code>{}</code>", escape(before), escape(code))?;
            rest = after;
        }
        write!(f, "{}", escape(rest))
    }
}

impl HtmlSafe for Sentence {}

/// How long something took, or takes so far.
#[derive(Clone, Copy)]
pub(super) struct Lasting {
    from: Timestamp,
    to: Option<Timestamp>,
}

impl Lasting {
    /// None before it began.
    pub(super) fn of(from: Option<jiff_sqlx::Timestamp>, to: Option<jiff_sqlx::Timestamp>) -> Option<Self> {
        Some(Self { from: from?.to_jiff(), to: to.map(jiff_sqlx::Timestamp::to_jiff) })
    }

    pub(super) fn milliseconds(self) -> i64 {
        self.to.unwrap_or_else(Timestamp::now).as_millisecond() - self.from.as_millisecond()
    }

    pub(super) fn text(self) -> String {
        duration(self.milliseconds())
    }
}

impl fmt::Display for Lasting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to {
            Some(_) => f.write_str(&self.text()),
            None => write!(f, "<span data-since=\"{}\">{}</span>", self.from, self.text()),
        }
    }
}

impl HtmlSafe for Lasting {}

/// A duration in the two largest units that it has.
pub(super) fn duration(milliseconds: i64) -> String {
    let seconds = milliseconds.max(0) / 1000;
    match seconds {
        0..10 => format!("{}.{} s", seconds, milliseconds.max(0) % 1000 / 100),
        10..60 => format!("{seconds} s"),
        60..3_600 => format!("{} m {:02} s", seconds / 60, seconds % 60),
        3_600..172_800 => format!("{} h {:02} m", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

/// A length in bytes.
pub(super) fn size(bytes: i64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut tenths = bytes / 100;
    let mut unit = 0;
    while tenths >= 10_000 && unit + 1 < UNITS.len() {
        tenths /= 1000;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

/// The first line of a commit's message.
pub(super) fn first_line(text: &str) -> &str {
    text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("")
}

/// A commit's author without the address.
pub(super) fn person(author: &str) -> &str {
    author.split_once('<').map_or(author, |(name, _)| name).trim()
}

/// A ref as one says it.
pub(super) fn short_ref(branch: Option<&str>, git_ref: &str) -> String {
    let name = branch.unwrap_or_else(|| git_ref.strip_prefix("refs/tags/").unwrap_or(git_ref));
    if name.len() >= 40 && name.bytes().all(|byte| byte.is_ascii_hexdigit()) { name[..10].into() } else { name.into() }
}

/// A part of a path, so that any name can be one.
pub(super) fn part(name: &str) -> String {
    use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
    const KEPT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
    utf8_percent_encode(name, KEPT).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_at_most_two_units() {
        for (milliseconds, text) in [
            (-5, "0.0 s"),
            (420, "0.4 s"),
            (9_990, "9.9 s"),
            (59_999, "59 s"),
            (61_000, "1 m 01 s"),
            (3_720_000, "1 h 02 m"),
            (200_000_000, "2 d 7 h"),
        ] {
            assert_eq!(duration(milliseconds), text);
        }
    }

    #[test]
    fn sizes_are_rounded_to_three_digits_or_so() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "1.0 kB"),
            (1_549, "1.5 kB"),
            (999_999, "999.9 kB"),
            (2_500_000_000, "2.5 GB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn what_a_sentence_quotes_is_code_and_nothing_in_it_is_markup() {
        assert_eq!(
            Sentence("run `a <b>` & `c`".into()).to_string(),
            "run <code>a &#60;b&#62;</code> &#38; <code>c</code>"
        );
        assert_eq!(Sentence("one ` alone".into()).to_string(), "one ` alone");
    }

    #[test]
    fn a_ref_loses_what_everybody_knows() {
        assert_eq!(short_ref(Some("main"), "refs/heads/main"), "main");
        assert_eq!(short_ref(None, "refs/tags/v1"), "v1");
        assert_eq!(short_ref(None, &"a".repeat(40)), "aaaaaaaaaa");
    }

    #[test]
    fn a_name_is_one_part_of_a_path() {
        assert_eq!(part("a/b c?.ä"), "a%2Fb%20c%3F.%C3%A4");
    }
}
