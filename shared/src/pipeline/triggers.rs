//! `on:` in its forms: `push`, `[push, mr]`, or a mapping with the details of each event.

use super::check;
use super::definition::{MrAction, MrTrigger, PushTrigger, Schedule, Triggers, utc};
use super::diagnostics::{Report, Rule};
use super::fields::{Fields, at_most, choice, one_or_more, text};
use super::node::{Node, Value};

const MOST_SCHEDULES: usize = 20;

pub(super) fn triggers(report: &mut Report<'_>, node: &Node, what: &'static str) -> Option<Triggers> {
    if matches!(node.value, Value::Scalar { .. } | Value::List(_)) {
        return short(report, node, what);
    }
    let fields = Fields::read(report, node, "`on`", &["push", "mr", "schedule"])?;
    Some(Triggers {
        push: fields.optional(report, "push", push),
        mr: fields.optional(report, "mr", mr),
        schedule: fields.optional(report, "schedule", schedules).unwrap_or_default(),
    })
}

fn short(report: &mut Report<'_>, node: &Node, what: &'static str) -> Option<Triggers> {
    let mut on = Triggers::default();
    for name in one_or_more(report, node, what)? {
        match choice(report, &name, what, &[("push", true), ("mr", false)]) {
            Some(true) => on.push = Some(PushTrigger::default()),
            Some(false) => on.mr = Some(MrTrigger::default()),
            None => {}
        }
    }
    Some(on)
}

fn push(report: &mut Report<'_>, node: &Node, _: &'static str) -> Option<PushTrigger> {
    if matches!(node.value, Value::Null) {
        return Some(PushTrigger::default());
    }
    let fields = Fields::read(report, node, "`push`", &["branches", "tags"])?;
    let mut list = |key| {
        let patterns = fields.optional(report, key, one_or_more)?;
        check::patterns(report, &patterns);
        Some(patterns.into_iter().map(|pattern| pattern.value).collect())
    };
    Some(PushTrigger { branches: list("branches"), tags: list("tags") })
}

fn mr(report: &mut Report<'_>, node: &Node, _: &'static str) -> Option<MrTrigger> {
    if matches!(node.value, Value::Null) {
        return Some(MrTrigger::default());
    }
    let fields = Fields::read(report, node, "`mr`", &["actions"])?;
    let actions = fields.optional(report, "actions", |report, node, what| {
        let names = one_or_more(report, node, what)?;
        let choices =
            [MrAction::Opened, MrAction::Synchronized, MrAction::Reopened, MrAction::Closed, MrAction::Merged]
                .map(|action| (action.as_str(), action));
        if matches!(&node.value, Value::List(items) if items.is_empty()) {
            report.add(Rule::OutOfRange, node.span, "`actions` needs at least one action");
        }
        Some(names.iter().filter_map(|name| choice(report, name, what, &choices)).collect())
    });
    Some(actions.map(|actions| MrTrigger { actions }).unwrap_or_default())
}

fn schedules(report: &mut Report<'_>, node: &Node, what: &'static str) -> Option<Vec<Schedule>> {
    match &node.value {
        Value::List(items) => {
            let items = at_most(report, node, items, "`schedule`", MOST_SCHEDULES);
            Some(items.iter().filter_map(|item| schedule(report, item, what)).collect())
        }
        _ => schedule(report, node, what).map(|schedule| vec![schedule]),
    }
}

fn schedule(report: &mut Report<'_>, node: &Node, what: &'static str) -> Option<Schedule> {
    if let Value::Scalar { .. } = node.value {
        let cron = text(report, node, what)?;
        check::cron(report, &cron);
        return Some(Schedule { cron: cron.value, timezone: utc() });
    }
    let fields = Fields::read(report, node, "`schedule`", &["cron", "timezone"])?;
    let cron = fields.required(report, "cron");
    let cron = cron.and_then(|node| text(report, node, "cron"));
    if let Some(cron) = &cron {
        check::cron(report, cron);
    }
    let zone = fields.optional(report, "timezone", text);
    if let Some(zone) = &zone {
        check::time_zone(report, zone);
    }
    Some(Schedule { cron: cron?.value, timezone: zone.map_or_else(utc, |zone| zone.value) })
}
