//! Checks of single values, the same for every format: patterns, paths, times and names.

use std::collections::HashMap;

use croner::errors::CronError;
use croner::parser::{CronParser, Seconds, Year};
use jiff::tz::TimeZoneDatabase;

use super::diagnostics::{Report, Rule, quote};
use super::filters::pattern_problem;
use super::node::{Located, Span};

type Text = Located<String>;

/// Every pattern of a list of branches or tags.
pub(super) fn patterns(report: &mut Report<'_>, patterns: &[Text]) {
    for pattern in patterns {
        self::pattern(report, pattern);
    }
}

fn pattern(report: &mut Report<'_>, pattern: &Text) {
    if let Some(reason) = pattern_problem(&pattern.value) {
        let message = format!("{} is no pattern: {reason}", quote(&pattern.value));
        report.add(Rule::BadGlob, pattern.span, message);
    }
}

/// A path or glob that stays below the working directory.
pub(super) fn path(report: &mut Report<'_>, path: &Text) {
    let reason = match path.value.as_str() {
        "" => "it is empty",
        text if text.starts_with('/') => "it is absolute",
        text if text.split('/').any(|part| part == "..") => "it leaves the working directory",
        _ => return pattern(report, path),
    };
    let message = format!("{} cannot be used as a path: {reason}", quote(&path.value));
    let help = "write it relative to the working directory `/workspace`";
    report.add_with_help(Rule::BadPath, path.span, message, help);
}

/// Five fields, and at least one moment that they describe.
pub(super) fn cron(report: &mut Report<'_>, cron: &Text) {
    let fields = cron.value.split_whitespace().count();
    let named = cron.value.starts_with('@');
    let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
    let start = jiff::civil::date(2024, 1, 1).to_zoned(jiff::tz::TimeZone::UTC);
    let reason = match (parser.parse(&cron.value), start) {
        (Err(_), _) if fields != 5 && !named => "it does not have five fields".to_owned(),
        (Err(CronError::InvalidPattern(reason)), _)
        | (Err(CronError::IllegalCharacters(reason)), _)
        | (Err(CronError::ComponentError(reason)), _) => reason,
        (Err(error), _) => error.to_string(),
        (Ok(times), Ok(start)) if times.find_next_occurrence(&start, true).is_err() => {
            "there is no such day".to_owned()
        }
        _ => return,
    };
    let reason = reason.trim_end_matches('.');
    let message = format!("{} is no schedule: {reason}", quote(&cron.value));
    let help = "write five fields: minute, hour, day of the month, month, day of the week";
    report.add_with_help(Rule::BadCron, cron.span, message, help);
}

/// A name of the time zone database, the copy that the program brings.
pub(super) fn time_zone(report: &mut Report<'_>, zone: &Text) {
    let zones = TimeZoneDatabase::bundled();
    if zone.value.is_ascii() && zones.get(&zone.value).is_ok() {
        return;
    }
    let message = format!("there is no time zone {}", quote(&zone.value));
    let names: Vec<_> = zones.available().map(|name| name.to_string()).collect();
    let near = names.iter().map(String::as_str);
    report.add_with_near(Rule::BadTimeZone, zone.span, message, &zone.value, near);
}

/// A name that is to be unique; `what` it names.
pub(super) fn unique<'n>(report: &mut Report<'_>, what: &str, names: impl IntoIterator<Item = &'n Text>) {
    let mut seen: HashMap<&str, Span> = HashMap::new();
    for name in names {
        match seen.get(name.value.as_str()) {
            None => {
                seen.insert(&name.value, name.span);
            }
            Some(&first) => {
                let line = report.line_of(first);
                let name_shown = quote(&name.value);
                let message = format!("another {what} is named {name_shown} already, in line {line}");
                report.add(Rule::DuplicateName, name.span, message);
            }
        }
    }
}
