//! What can be said on the command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use serde_json::{Map, Value};

use crate::remote::arguments::{Completions, Remote, SecretName, SecretsOf};

const EXIT_CODES: &str = "\
Exit codes:
  0  it worked, or what was asked about is well
  1  what was asked for failed: a run, a pipeline file, an answer that says no
  2  the command line or the configuration is wrong
  3  the database or the server cannot be reached
`buildit watch --help` has those that tell how a run ended.";

const LAYERS: &str = "\
Settings come, later ones over earlier ones, from the defaults, `buildit.toml` in the working \
directory (or the file that --config names), the environment (BUILDIT_ and the setting in capitals) \
and the flags. A setting that does not exist is an error, wherever it stands.

Exit codes:
  0  it worked
  1  it failed
  2  the command line or the configuration is wrong
  3  the database or the server cannot be reached";

/// Continuous integration that survives crashes.
#[derive(Debug, Parser)]
#[command(name = "buildit", version, after_help = EXIT_CODES, max_term_width = 100)]
pub struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Check a pipeline file and show everything that is wrong with it
    #[command(after_help = EXIT_CODES)]
    Validate(Validate),
    /// Run a pipeline on this machine, without a server
    ///
    /// The steps run on a clean copy of the working tree that the current directory is in: all files
    /// that git tracks or would track, as they are now. Where a Docker engine answers each step runs in a
    /// container of its `image`, else as a process of this machine, without isolation. Ctrl-C asks
    /// them to end, a second one ends them.
    #[command(after_help = EXIT_CODES)]
    Run(Run),
    /// Announce pushes to a repository: install and run its git hooks
    #[command(after_help = EXIT_CODES, subcommand)]
    Hook(Hook),
    /// Everything on this machine: its own Postgres, the API, a worker, and a sample project
    #[command(after_help = LAYERS)]
    Up(Up),
    /// Serve the HTTP API
    #[command(after_help = LAYERS)]
    Api(Api),
    /// Claim jobs and do the work; start as many as you like
    #[command(after_help = LAYERS)]
    Worker(Worker),
    /// Bring the database's schema up to date
    #[command(after_help = LAYERS)]
    Migrate(Serving),
    /// Make somebody a member of an organization and print a link with which they choose a password
    ///
    /// The organization and the account are made if there are none. The link serves once, for a day;
    /// for an account that has a password it is the way to another one.
    #[command(after_help = LAYERS)]
    Account(Account),
    /// Make an API key and print it, once
    #[command(after_help = LAYERS)]
    Token(Token),
    #[command(flatten)]
    Remote(Remote),
    /// Set and delete secrets on the server; look after those of an installation
    #[command(after_help = EXIT_CODES, subcommand)]
    Secrets(Secrets),
    /// Print what makes a shell complete these commands, for its start-up file
    ///
    /// For bash: `buildit completions bash >~/.local/share/bash-completion/completions/buildit`
    Completions(Completions),
    /// Measure the queue and the API on the database in DATABASE_URL; one JSON object a line
    #[command(after_help = EXIT_CODES, subcommand)]
    Bench(crate::bench::Bench),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Validate {
    /// The pipeline file, or `-` for standard input
    #[arg(default_value = crate::PIPELINE_FILE)]
    pub(crate) file: PathBuf,
    /// How to show what is wrong
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people: each problem with its line
    Text,
    /// For programs: {"file", "valid", "diagnostics": […]}
    Json,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Run {
    /// The pipeline file; by default `.platform.yaml` at the top of the working tree
    pub(crate) file: Option<PathBuf>,
    /// Run only this step, after those whose outputs it gets
    #[arg(long, value_name = "NAME")]
    pub(crate) step: Option<String>,
    /// Where steps run [default: docker where an engine answers, else local]
    #[arg(long, value_enum)]
    pub(crate) executor: Option<ExecutorKind>,
    /// How many steps may run at once; by default as many as there are cores
    #[arg(long, value_name = "N")]
    pub(crate) parallel: Option<usize>,
    /// The folder for artifacts; by default `.buildit/artifacts` at the top of the working tree
    #[arg(long, value_name = "FOLDER")]
    pub(crate) artifacts: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExecutorKind {
    /// As processes of this machine, without isolation; images are ignored
    Local,
    /// As containers, by the Docker engine of this machine (DOCKER_HOST)
    Docker,
}

impl ExecutorKind {
    /// The setting that it means.
    pub(crate) fn kind(self) -> crate::config::ExecutorKind {
        match self {
            Self::Local => crate::config::ExecutorKind::Local,
            Self::Docker => crate::config::ExecutorKind::Docker,
        }
    }
}

/// What all commands that serve have in common.
#[derive(Debug, clap::Args)]
pub(crate) struct Serving {
    /// The configuration file
    #[arg(long, env = "BUILDIT_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The database, `postgres://user:password@host:port/name` [env: DATABASE_URL]
    #[arg(long, value_name = "URL")]
    pub(crate) database_url: Option<String>,
    /// The folder of objects, mirrors and steps [env: BUILDIT_DATA_DIR]
    #[arg(long, value_name = "D")]
    pub(crate) data_dir: Option<PathBuf>,
}

impl Serving {
    /// Those that were given, as settings.
    pub(crate) fn flags(&self) -> Map<String, Value> {
        let mut flags = Map::new();
        if let Some(url) = &self.database_url {
            flags.insert("database_url".into(), url.clone().into());
        }
        if let Some(folder) = &self.data_dir {
            flags.insert("data_dir".into(), folder.to_string_lossy().into());
        }
        flags
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Api {
    #[command(flatten)]
    pub(crate) serving: Serving,
    /// The address to listen on [default: 127.0.0.1:30080] [env: BUILDIT_LISTEN]
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<String>,
}

impl Api {
    /// The flags that were given, as settings.
    pub(crate) fn flags(&self) -> Map<String, Value> {
        let mut flags = self.serving.flags();
        if let Some(listen) = &self.listen {
            flags.insert("listen".into(), listen.clone().into());
        }
        flags
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Worker {
    #[command(flatten)]
    pub(crate) serving: Serving,
    /// The address of /healthz, /readyz and /metrics, or `off` [default: 127.0.0.1:30081, or a free port where that is
    /// taken] [env: BUILDIT_WORKER_LISTEN]
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<String>,
}

impl Worker {
    /// The flags that were given, as settings.
    pub(crate) fn flags(&self) -> Map<String, Value> {
        let mut flags = self.serving.flags();
        if let Some(listen) = &self.listen {
            flags.insert("worker_listen".into(), listen.clone().into());
        }
        flags
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Up {
    #[command(flatten)]
    pub(crate) api: Api,
    /// Where steps run [default: as before; at the first start docker where an engine answers, else local]
    /// [env: BUILDIT_EXECUTOR]
    #[arg(long, value_enum)]
    pub(crate) executor: Option<ExecutorKind>,
    /// Workers in this process; with 0 start your own by `buildit worker`
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) workers: u32,
    /// No sample project on the first start
    #[arg(long)]
    pub(crate) no_sample: bool,
}

impl Up {
    /// The flags that were given, as settings.
    pub(crate) fn flags(&self) -> Map<String, Value> {
        let mut flags = self.api.flags();
        if let Some(executor) = self.executor {
            flags.insert("executor".into(), executor.kind().name().into());
        }
        flags
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Account {
    #[command(flatten)]
    pub(crate) serving: Serving,
    /// The account's e-mail address
    pub(crate) email: String,
    /// What its owner is called; by default what stands before the @
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// The organization to be a member of
    #[arg(long, default_value = crate::server::ORGANIZATION, value_name = "NAME")]
    pub(crate) organization: String,
    /// What they are there: owner, admin, developer or viewer
    #[arg(long, default_value = "owner")]
    pub(crate) role: String,
    /// They operate the installation: see and change the queue
    #[arg(long)]
    pub(crate) operator: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Secrets {
    /// List the names of secrets; their values cannot be read
    #[command(after_help = EXIT_CODES)]
    List(SecretsOf),
    /// Set a secret, new or anew
    ///
    /// The value is asked for on the terminal, without showing it, or read from standard input up to its end; one
    /// line break at the end is left off.
    #[command(after_help = EXIT_CODES)]
    Set(SecretName),
    /// Delete a secret
    #[command(after_help = EXIT_CODES)]
    Delete(SecretName),
    /// Seal all secrets anew under BUILDIT_SECRETS_KEY
    ///
    /// First give every API process and worker the new key as BUILDIT_SECRETS_KEY and the old one in
    /// BUILDIT_SECRETS_OLD_KEYS, a JSON array. After this the old one can go.
    #[command(after_help = LAYERS)]
    Rotate(Serving),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Token {
    #[command(flatten)]
    pub(crate) serving: Serving,
    /// What the key is for
    #[arg(long, default_value = "buildit token")]
    pub(crate) name: String,
    /// The organization it belongs to
    #[arg(long, default_value = crate::server::ORGANIZATION, value_name = "NAME")]
    pub(crate) organization: String,
    /// Bind it to this project; it sees nothing else
    #[arg(long, value_name = "NAME")]
    pub(crate) project: Option<String>,
    /// What it may do, separated by commas; without this, everything
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub(crate) permissions: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Hook {
    /// Install the hooks into a repository on this machine
    ///
    /// Each push is then kept beside the repository and announced to BuildIt, which answers with the
    /// address of the run. A push neither waits for BuildIt nor fails because it is down: it is
    /// announced later. A hook that is there already goes on to be called first. Installing again
    /// changes the settings.
    Install(Install),
    /// Announce a push; git calls this
    PostReceive,
    /// Refuse a push whose pipeline file is broken; git calls this
    PreReceive,
    /// Deliver the pushes that are kept beside a repository, and wait for the server if need be
    Deliver(Deliver),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Install {
    /// The repository, bare or not
    pub(crate) repository: PathBuf,
    /// The project whose runs a push starts: its name or id
    #[arg(long, value_name = "NAME")]
    pub(crate) project: String,
    /// The address of the BuildIt server
    #[arg(long, env = "BUILDIT_URL", default_value = "http://127.0.0.1:30080")]
    pub(crate) url: url::Url,
    /// A key that may start runs of the project, `-` to read it from standard input; kept in a file that its owner
    /// alone can read. Without this the server makes one, with the rights of BUILDIT_TOKEN; without that either, the one
    /// kept before stays
    #[arg(long)]
    pub(crate) key: Option<String>,
    /// The pipeline file in the repository, for --pre-receive
    #[arg(long, value_name = "PATH", default_value = crate::PIPELINE_FILE)]
    pub(crate) file: String,
    /// Also refuse pushes whose pipeline file is broken
    #[arg(long)]
    pub(crate) pre_receive: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Deliver {
    /// The repository
    pub(crate) repository: PathBuf,
    /// Try the refused ones again as well
    #[arg(long)]
    pub(crate) refused: bool,
    /// Go on in the background, unless someone does already
    #[arg(long, hide = true)]
    pub(crate) background: bool,
}
