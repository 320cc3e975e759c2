//! Cycles, among steps and among values: found all at once, each named by its members.

use std::collections::HashMap;

use super::diagnostics::{Report, Rule, quote};
use super::node::{Located, Span};

type Text = Located<String>;

const MOST_CYCLES: usize = 20;
const SHOWN_NAMES: usize = 10;

/// A step's place in the graph.
pub(super) struct Edges {
    pub(super) name: Option<Text>,
    pub(super) depends_on: Vec<Text>,
}

/// Each `depends_on` names another step, and no step waits for itself by a detour.
pub(super) fn graph(report: &mut Report<'_>, steps: &[Edges]) {
    let mut places: HashMap<&str, usize> = HashMap::new();
    for (index, step) in steps.iter().enumerate() {
        if let Some(name) = &step.name {
            places.entry(&name.value).or_insert(index);
        }
    }
    let mut parents: Vec<Vec<(usize, Span)>> = Vec::with_capacity(steps.len());
    for step in steps {
        let mut known = Vec::new();
        for name in &step.depends_on {
            match places.get(name.value.as_str()) {
                Some(&parent) => known.push((parent, name.span)),
                None => {
                    let message = format!("there is no step {}", quote(&name.value));
                    let others = places.keys().copied();
                    report.add_with_near(Rule::UnknownStep, name.span, message, &name.value, others);
                }
            }
        }
        parents.push(known);
    }
    for (cycle, span) in cycles(&parents) {
        let names: Vec<_> =
            cycle.iter().map(|&index| steps[index].name.as_ref().map_or("", |name| &name.value)).collect();
        let message = match names.as_slice() {
            [one] => format!("the step {} waits for itself", quote(one)),
            names => format!("steps wait for each other: {}", circle(names)),
        };
        report.add(Rule::CircularDependency, span, message);
    }
}

/// The names of a cycle, for a message.
pub(super) fn circle(names: &[&str]) -> String {
    let mut shown: Vec<String> = names.iter().take(SHOWN_NAMES).map(|name| quote(name)).collect();
    if names.len() > SHOWN_NAMES {
        shown.push(format!("… {} more …", names.len() - SHOWN_NAMES));
    }
    shown.extend(names.first().map(|name| quote(name)));
    shown.join(" → ")
}

/// One cycle for each edge that closes one, up to a bound, found depth first; without recursion,
/// since a chain can be as long as the file.
pub(super) fn cycles(parents: &[Vec<(usize, Span)>]) -> Vec<(Vec<usize>, Span)> {
    #[derive(Clone, Copy, PartialEq)]
    enum Seen {
        No,
        OnPath,
        Done,
    }
    let mut seen = vec![Seen::No; parents.len()];
    let mut found = Vec::new();
    for root in 0..parents.len() {
        if seen[root] != Seen::No {
            continue;
        }
        seen[root] = Seen::OnPath;
        let mut path = vec![(root, 0)];
        while let Some((step, next)) = path.last_mut() {
            let Some(&(parent, span)) = parents[*step].get(*next) else {
                seen[*step] = Seen::Done;
                path.pop();
                continue;
            };
            *next += 1;
            match seen[parent] {
                Seen::OnPath if found.len() == MOST_CYCLES => return found,
                Seen::Done => {}
                Seen::No => {
                    seen[parent] = Seen::OnPath;
                    path.push((parent, 0));
                }
                Seen::OnPath => {
                    let cycle = path.iter().map(|(step, _)| *step);
                    let cycle = cycle.skip_while(|&step| step != parent).collect();
                    found.push((cycle, span));
                }
            }
        }
    }
    found
}
