//! What can be said on the command line to a server.

use clap::{Args, Subcommand};
use clap_complete::Shell;

const EXIT_CODES: &str = "\
Exit codes:
  0    it worked
  1    it was refused, or there is no such thing
  2    the command line is wrong, nobody is logged in, or the key is not valid (any more)
  3    no server answers";

const WATCH_CODES: &str = "\
Exit codes, as the run ends:
  0    success
  1    failure; or the request was refused
  4    cancelled
  5    error: not the run's own doing, or a pipeline file that cannot be read
  6    skipped: no filter matched
and
  2    the command line is wrong, nobody is logged in, or the key is not valid (any more)
  3    no server answers, or none has for ten minutes
  130  Ctrl-C ended the watch; the run goes on";

#[derive(Debug, Subcommand)]
pub(crate) enum Remote {
    /// Keep a server's address and an API key for the commands that talk to it
    ///
    /// The key is asked for on the terminal, without showing it, or read from standard input. It is tried, then
    /// kept with the address in a file that its owner alone can read, `buildit/login.json` in XDG_CONFIG_HOME
    /// (~/.config). BUILDIT_URL and BUILDIT_TOKEN win over that file.
    #[command(after_help = EXIT_CODES)]
    Login(Login),
    /// Forget the server and its key
    #[command(after_help = EXIT_CODES)]
    Logout(Format),
    /// Start a run of a project on the server
    #[command(after_help = WATCH_CODES)]
    Trigger(Trigger),
    /// List runs, newest first
    #[command(after_help = EXIT_CODES)]
    Runs(Runs),
    /// Show how a run goes on until it has ended
    ///
    /// A restart of the server is only a pause. Ctrl-C ends the watch, not the run.
    #[command(after_help = WATCH_CODES)]
    Watch(Watch),
    /// Show the log of a step, or of all steps of a run
    ///
    /// The log of one step comes byte for byte; where there are several, each line has its step's name in front. What
    /// was written to standard output is written once, also where the connection breaks off in between.
    #[command(after_help = EXIT_CODES)]
    Logs(Logs),
    /// Ask for the end of a run
    #[command(after_help = EXIT_CODES)]
    Cancel(One),
    /// Run again, in the same run, what did not succeed; or a step and all that depend on it
    ///
    /// The other steps keep their results and outputs.
    #[command(after_help = EXIT_CODES)]
    Retry(Retry),
    /// Start a new run at the same commit, with the same variables
    #[command(after_help = EXIT_CODES)]
    Rerun(One),
}

#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Format {
    /// For programs: one JSON value, or one a line where things come one after the other
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Login {
    /// The server's address [default: BUILDIT_URL, the one before, or http://127.0.0.1:30080]
    pub(crate) url: Option<url::Url>,
    #[command(flatten)]
    pub(crate) format: Format,
}

/// A run of the server.
#[derive(Debug, Args)]
pub(crate) struct RunName {
    /// The run: its id, its address, PROJECT#NUMBER, or NUMBER or `latest` of --project
    pub(crate) run: String,
    /// The project that NUMBER and `latest` are of [default: the one whose repository this folder is a clone of]
    #[arg(long, value_name = "NAME")]
    pub(crate) project: Option<String>,
    /// The pipeline that they are of, where the project has several
    #[arg(long, value_name = "NAME")]
    pub(crate) pipeline: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct One {
    #[command(flatten)]
    pub(crate) name: RunName,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct Trigger {
    /// The project, by its name or id
    pub(crate) project: String,
    /// Which of its pipelines [default: the one called `default`, or the only one]
    #[arg(long, value_name = "NAME")]
    pub(crate) pipeline: Option<String>,
    /// The branch to run [default: the project's own default branch]
    #[arg(long, value_name = "NAME", conflicts_with = "tag")]
    pub(crate) branch: Option<String>,
    /// The tag to run
    #[arg(long, value_name = "NAME")]
    pub(crate) tag: Option<String>,
    /// The commit to run, by its full SHA; with --branch or --tag a commit of that
    #[arg(long, value_name = "SHA")]
    pub(crate) commit: Option<String>,
    /// A value for one of the pipeline file's own `variables`; as often as you like. Readers of the run see it, so it is no
    /// place for secrets
    #[arg(long = "var", value_name = "NAME=VALUE", value_parser = variable)]
    pub(crate) variables: Vec<(String, String)>,
    /// Go on as `buildit watch` does
    #[arg(long)]
    pub(crate) watch: bool,
    /// With --watch: show the logs of all steps
    #[arg(long, requires = "watch")]
    pub(crate) logs: bool,
    #[command(flatten)]
    pub(crate) format: Format,
}

fn variable(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write it as NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

#[derive(Debug, Args)]
pub(crate) struct Runs {
    /// The project, by its name or id [default: all projects]
    pub(crate) project: Option<String>,
    /// Only runs in this state; several with commas
    #[arg(long, value_name = "STATUS", value_delimiter = ',')]
    pub(crate) status: Vec<String>,
    /// Only runs of this branch, or of a ref in full such as refs/tags/v1
    #[arg(long, value_name = "NAME")]
    pub(crate) branch: Option<String>,
    /// Only runs that this started: push, mr, schedule, api or manual
    #[arg(long, value_name = "WHAT")]
    pub(crate) trigger: Option<String>,
    /// How many
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) limit: u32,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct Watch {
    #[command(flatten)]
    pub(crate) name: RunName,
    /// Show the logs of all steps from now on; that of a run's only step is shown anyway
    #[arg(long)]
    pub(crate) logs: bool,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct Logs {
    #[command(flatten)]
    pub(crate) name: RunName,
    /// The step, by its name or id [default: all of them]
    pub(crate) step: Option<String>,
    /// Go on until the step, or the run, has ended
    #[arg(long, short)]
    pub(crate) follow: bool,
    /// Only steps that failed
    #[arg(long, conflicts_with = "step")]
    pub(crate) failed: bool,
    /// One attempt of the step [default: the last one, and with --follow those that come]
    #[arg(long, value_name = "N", requires = "step", conflicts_with = "follow")]
    pub(crate) attempt: Option<i32>,
    #[command(flatten)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct Retry {
    #[command(flatten)]
    pub(crate) name: RunName,
    /// Run this step and all that depend on it anew, whether they succeeded or not
    #[arg(long, value_name = "STEP")]
    pub(crate) from: Option<String>,
    #[command(flatten)]
    pub(crate) format: Format,
}

/// Whose secrets.
#[derive(Debug, Args)]
pub(crate) struct SecretsOf {
    /// Those of this project alone [default: those of the organization, which all its projects get]
    #[arg(long, value_name = "NAME")]
    pub(crate) project: Option<String>,
    /// Those of this environment of the project, for the steps whose `deploy` names it
    #[arg(long, value_name = "NAME", requires = "project")]
    pub(crate) environment: Option<String>,
    #[command(flatten)]
    pub(crate) format: Format,
}

/// A secret.
#[derive(Debug, Args)]
pub(crate) struct SecretName {
    /// For `${secrets.NAME}`
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) of: SecretsOf,
}

#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell
    pub(crate) shell: Shell,
}
