//! What came of each step, at the end.

use std::fmt::Write;
use std::time::Duration;

use buildit_shared::domain::{RunStatus, StepStatus};
use buildit_shared::pipeline::Plan;

use super::steps::AllEnded;
use crate::output::Style;

pub(super) fn render(plan: &Plan, ended: &AllEnded, style: Style) -> String {
    let width = plan.steps.iter().map(|step| step.name.len()).max().unwrap_or(0).max(4);
    let mut table = format!("\n{:width$}  {:9}  {:>8}  {:>4}\n", "STEP", "STATUS", "TIME", "EXIT");
    for (step, ended) in plan.steps.iter().zip(&ended.steps) {
        let time = if ended.duration.is_zero() { "-".to_owned() } else { duration(ended.duration) };
        let exit = ended.exit_code.map_or_else(|| "-".to_owned(), |code| code.to_string());
        let status = coloured(ended.status, style);
        let mut line = format!("{:width$}  {status}  {time:>8}  {exit:>4}", step.name);
        if let Some(reason) = &ended.reason {
            let allowed = if step.allow_failure && ended.status == StepStatus::Failure { " (allowed)" } else { "" };
            // Writing to a string does not fail.
            write!(line, "  {reason}{allowed}").ok();
        }
        table.push_str(&line);
        table.push('\n');
    }
    let status: RunStatus = ended.status();
    table + &format!("\n{}\n", status.name())
}

fn coloured(status: StepStatus, style: Style) -> String {
    let name = format!("{:9}", status.name());
    let colour = match (style, status) {
        (Style::Plain, _) => return name,
        (_, StepStatus::Success) => "32",
        (_, StepStatus::Failure | StepStatus::Error) => "31",
        _ => "33",
    };
    format!("\x1b[{colour}m{name}\x1b[0m")
}

fn duration(duration: Duration) -> String {
    match duration.as_secs() {
        0..60 => format!("{:.2} s", duration.as_secs_f64()),
        60..3600 => format!("{}:{:02}", duration.as_secs() / 60, duration.as_secs() % 60),
        seconds => format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60),
    }
}
