//! The life itself.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::api::Api;
use super::contract::{Begun, EXIT_NOT_BEGUN, POD_SPEC_VERSION, PodSpec};
use super::fetch::fetch;
use super::stop::Phase;
use super::upload::upload_all;
use super::{Printer, STOPPED_UPLOAD_LIMIT, Stop, last_word};
use crate::attempt::{self, Place, carry_out, inherit_environment, now_ms, open_log};
use crate::layout::{AttemptFolder, Layout, is_attempt_id};
use crate::net::{Client, GivenUp, Patience, chance};
use crate::report::Outcome;
use crate::spec::SPEC_VERSION;
use crate::watch::Watch;
use crate::{descendants, memory};

/// How long the uploads wait until all of the log has been printed.
const READER_LIMIT: Duration = Duration::from_secs(10);

/// Lives it, and returns the exit code. The calling process should do nothing else.
pub fn live(spec_file: &Path) -> u8 {
    match run(spec_file) {
        Ok(code) => code,
        Err(why) => {
            last_word::nothing_run(&why);
            EXIT_NOT_BEGUN
        }
    }
}

/// `Err` says why nothing was run.
fn run(spec_file: &Path) -> Result<u8, String> {
    let started_at_ms = now_ms();
    // First of all: process 1 does not even die of a signal that it does not listen to.
    let stop = Stop::listen(Phase::Waiting(EXIT_NOT_BEGUN)).map_err(|error| format!("signals: {error}"))?;
    attempt::settle();
    descendants::adopt_orphans().map_err(|error| format!("children cannot be adopted: {error}"))?;
    let mut spec = read_spec(spec_file)?;
    let folder = make_folder(&spec).map_err(|error| format!("{}: {error}", spec.root.display()))?;
    let mut watch = Watch::new(&folder).map_err(|error| format!("cannot watch for a stop: {error}"))?;
    let log = open_log(&folder).map_err(|error| format!("the log cannot be opened: {error}"))?;
    let mut printer = io::stdout()
        .as_fd()
        .try_clone_to_owned()
        .and_then(Printer::new)
        .map_err(|error| format!("standard output: {error}"))?;
    inherit_environment(&mut spec.attempt);
    let kills_before = memory::oom_kills();
    let word = chance::<16>().map_err(|error| format!("no word of chance: {error}"))?;
    let client = Client::new(spec.ca.as_deref())?;
    let mut api = Api::new(client, &spec, hex::encode(word));
    let begun = begin(&api, &spec, &stop)?;

    let mut fill = |workspace: &Path, _: &mut Watch| {
        stop.enter(Phase::Fetching(api.client.clone()));
        let patience = Patience::new(Duration::from_millis(spec.begin_limit_ms), &stop, Duration::ZERO);
        let mut again = |limit| api.begin_again(limit);
        let user = spec.attempt.user;
        let fetched = fetch(&api.client, begun.clone(), &mut again, workspace, user, &patience);
        stop.enter(Phase::Working);
        fetched
    };
    let place = Place { folder: &folder, log, printer: Some(&mut printer), fill: &mut fill };
    let mut report = carry_out(&spec.attempt, place, &mut watch, started_at_ms);
    if stop.requested().is_some() {
        // The one in use was shut down with the stop.
        api.client = Client::new(spec.ca.as_deref())?;
    }
    report.oom_killed = matches!((kills_before, memory::oom_kills()), (Some(before), Some(after)) if after > before);
    if report.oom_killed && report.outcome.is_success() {
        let note = "a process of it was killed since memory ran out; raise `resources: memory` if it needs more";
        report.notes.push(note.to_owned());
    }
    printer.flush(&Patience::new(READER_LIMIT, &stop, Duration::from_secs(1)));
    let patience = Patience::new(Duration::from_millis(spec.upload_limit_ms), &stop, STOPPED_UPLOAD_LIMIT);
    upload_all(&mut report, &folder, &api, &patience);
    report.ended_at_ms = now_ms();
    last_word::tell(&report, &api, &mut printer, &stop);
    Ok(exit_code(&report.outcome))
}

fn read_spec(file: &Path) -> Result<PodSpec, String> {
    let text = fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let spec: PodSpec = serde_json::from_slice(&text).map_err(|error| format!("{}: {error}", file.display()))?;
    let (version, attempt) = (spec.version, &spec.attempt);
    if version != POD_SPEC_VERSION || attempt.version != SPEC_VERSION {
        return Err(format!("the spec's version {version} with {} is not known", attempt.version));
    }
    if !is_attempt_id(&attempt.attempt_id) {
        return Err(format!("{:?} cannot name an attempt", attempt.attempt_id));
    }
    Ok(spec)
}

fn make_folder(spec: &PodSpec) -> io::Result<AttemptFolder> {
    let layout = Layout::new(&spec.root);
    layout.create(true)?;
    let folder = layout.attempt(&spec.attempt.attempt_id);
    DirBuilder::new().recursive(true).mode(0o711).create(folder.path())?;
    Ok(folder)
}

fn begin(api: &Api<'_>, spec: &PodSpec, stop: &Arc<Stop>) -> Result<Begun, String> {
    let limit = Duration::from_millis(spec.begin_limit_ms);
    let begun = api.begin(|| Patience::new(limit, stop, Duration::ZERO));
    begun.map_err(|given_up| match given_up {
        GivenUp::Refused { status: 409, .. } => "another runner has begun the attempt".to_owned(),
        GivenUp::Refused { status: 410, .. } => "the attempt is over".to_owned(),
        error => format!("the API at {} does not let the attempt begin: {error}", spec.api),
    })
}

fn exit_code(outcome: &Outcome) -> u8 {
    match outcome {
        Outcome::Exited { code } => u8::try_from(*code).unwrap_or(1),
        _ => 1,
    }
}
