//! A run as it goes on: the states of its steps as they change, and the logs of those that one wants to see.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use anyhow::Context;
use futures::{StreamExt, future::LocalBoxFuture, stream::FuturesUnordered};
use serde_json::{Value, json};

use super::{
    error::Error,
    model::{Run, Step},
    print,
    server::Server,
    step_log::{self, To, Wanted, sent},
    stream::Stream,
};
use crate::{
    exit::Problem,
    output::{Output, Piece},
};

/// Whose logs are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Logs {
    /// That of a run's only step, from now on.
    Single,
    /// Those of steps that are at work or will be.
    New,
    /// Those of ended steps too.
    All,
    /// Those of steps that failed, once they have.
    Failed,
}

/// What is shown of a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shown {
    /// The states of steps.
    pub(super) states: bool,
    pub(super) logs: Logs,
    /// The run is as old as this: what has ended by the first look is shown like what is yet to come.
    pub(super) fresh: bool,
    pub(super) json: bool,
}

/// Shows a run until it has ended; returns how it did.
pub(super) async fn follow(server: &Server, id: &str, shown: Shown) -> Result<Run, Problem> {
    let mut runs = Stream::new(server, &["runs", id, "events"], Vec::new(), None);
    let mut live = Live::new(server, id, shown);
    let ended = loop {
        tokio::select! {
            event = runs.next() => {
                let event = event.map_err(Error::problem)?;
                let value: Value = serde_json::from_str(&event.data).context("the server's events cannot be read")?;
                let run: Run = serde_json::from_value(value.clone()).context("the server's events cannot be read")?;
                live.take(&run, value).await?;
                if run.status.is_ended() {
                    break run;
                }
            }
            Some(written) = live.logs.next() => written?,
        }
    };
    while let Some(written) = live.logs.next().await {
        written?;
    }
    if let Some(output) = live.output.take() {
        live.to = Arc::new(To::Bytes);
        output.finish("");
    }
    Ok(ended)
}

struct Live<'s> {
    server: &'s Server,
    id: String,
    shown: Shown,
    /// Where logs go, once it is known which steps there are.
    to: Arc<To>,
    output: Option<Output>,
    /// What was last said of each step.
    said: BTreeMap<String, String>,
    /// The attempt that each step's log begins with; those without one are not shown.
    begins: BTreeMap<String, i32>,
    begun: BTreeSet<String>,
    logs: FuturesUnordered<LocalBoxFuture<'s, Result<(), Problem>>>,
    /// Longest name of a step.
    width: usize,
}

impl<'s> Live<'s> {
    fn new(server: &'s Server, id: &str, shown: Shown) -> Self {
        Self {
            server,
            id: id.to_owned(),
            shown,
            to: Arc::new(if shown.json { To::Json } else { To::Bytes }),
            output: None,
            said: BTreeMap::new(),
            begins: BTreeMap::new(),
            begun: BTreeSet::new(),
            logs: FuturesUnordered::new(),
            width: 0,
        }
    }

    /// Shows what is new in the run.
    async fn take(&mut self, run: &Run, value: Value) -> Result<(), Problem> {
        if self.begins.is_empty() && !run.steps.is_empty() {
            self.meet(run);
        }
        if self.shown.json && self.shown.states {
            let mut line = json!({ "type": "run" });
            line["run"] = value;
            print::json(&line)?;
        }
        for (position, step) in run.steps.iter().enumerate() {
            if self.shown.states && !self.shown.json {
                self.say(position, step).await?;
            }
            self.begin(position, step);
        }
        Ok(())
    }

    /// Sees the steps for the first time.
    fn meet(&mut self, run: &Run) {
        let shown = match self.shown.logs {
            Logs::Single => run.steps.len() == 1,
            Logs::New | Logs::All | Logs::Failed => true,
        };
        self.width = run.steps.iter().map(|step| step.name.len()).max().unwrap_or(0);
        for step in &run.steps {
            let ended = step.status.is_ended();
            let last = step.attempts.last().map_or(1, |last| last.number);
            let begins = match self.shown.logs {
                _ if !shown => i32::MAX,
                _ if self.shown.fresh => 1,
                // What has ended can be read by `logs`.
                Logs::Single | Logs::New if ended => i32::MAX,
                Logs::All | Logs::Failed if ended => last,
                _ => step.next_attempt(),
            };
            self.begins.insert(step.id.clone(), begins);
        }
        if shown && !self.shown.json && run.steps.len() > 1 {
            let output = Output::start(run.steps.iter().map(|step| step.name.clone()).collect());
            self.to = Arc::new(To::Lines(output.sender(), 0));
            self.output = Some(output);
        }
    }

    /// Tells the step's state, if it is another than before.
    async fn say(&mut self, position: usize, step: &Step) -> Result<(), Problem> {
        let Some(state) = state(step) else { return Ok(()) };
        if self.said.get(&step.id) == Some(&state) {
            return Ok(());
        }
        match &self.output {
            Some(output) => sent(output.sender().send(Piece::Note(position, format!("-- {state}"))).await)?,
            None => print::line(&format!("{:width$}  {state}", step.name, width = self.width))?,
        }
        self.said.insert(step.id.clone(), state);
        Ok(())
    }

    /// Begins to show the step's log, if it is time.
    fn begin(&mut self, position: usize, step: &Step) {
        let Some(&attempt) = self.begins.get(&step.id) else { return };
        let is_there = step.attempts.last().is_some_and(|last| last.number >= attempt);
        let is_wanted = self.shown.logs != Logs::Failed || step.has_failed();
        if !is_there || !is_wanted || !self.begun.insert(step.id.clone()) {
            return;
        }
        // Of what failed the last attempt says why.
        let attempt =
            if self.shown.logs == Logs::Failed { step.attempts.len().try_into().unwrap_or(attempt) } else { attempt };
        let wanted = Wanted { run: self.id.clone(), step: step.name.clone(), attempt, only: false, follow: true };
        let to = match &*self.to {
            To::Lines(sender, _) => To::Lines(sender.clone(), position),
            other => other.clone(),
        };
        let server = self.server;
        self.logs.push(Box::pin(async move { step_log::write(server, &wanted, &to).await }));
    }
}

/// What there is to say of a step; nothing of one that has yet to begin.
fn state(step: &Step) -> Option<String> {
    let attempt = step.attempts.last();
    let waits = attempt.filter(|attempt| !attempt.is_ended()).and_then(|attempt| attempt.reason.as_deref());
    let nth =
        attempt.filter(|attempt| attempt.number > 1).map_or(String::new(), |last| format!(", attempt {}", last.number));
    let name = step.status.name();
    if !step.status.is_ended() {
        return match waits {
            Some(reason) => Some(format!("{name}{nth}: {}", print::tame(reason, 300))),
            None if name == "pending" => None,
            None => Some(format!("{name}{nth}")),
        };
    }
    let code = step.exit_code.filter(|code| *code != 0).map_or(String::new(), |code| format!(" (exit code {code})"));
    let took = step.duration_ms.map_or(String::new(), |took| format!(" after {}", print::duration(took)));
    let reason = step.reason.as_deref().map_or(String::new(), |reason| format!(": {}", print::tame(reason, 300)));
    Some(format!("{name}{took}{code}{reason}"))
}
