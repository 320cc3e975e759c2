//! `buildit run`: a pipeline on this machine, with neither server nor database.
//!
//! Parser, planner, runner and executor are the server's, so that what is green here is green there.
//! Steps run on a clean copy of the working tree, uncommitted changes included.

mod artifacts;
mod checkout;
mod graph;
mod signals;
mod step;
mod steps;
mod table;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, anyhow, ensure};
use buildit_shared::domain::RunStatus;
use buildit_shared::pipeline::{self, Context, Event, EventKind, Plan};
use buildit_worker::executor::{DockerExecutor, Executor, LocalExecutor, docker};
use uuid::Uuid;

use crate::PIPELINE_FILE;
use crate::arguments::{self, Run};
use crate::choice::Choice;
use crate::config::{ExecutorKind, Settings};
use crate::exit::{Exit, Problem};
use crate::output::Output;
use checkout::WorkingTree;

/// Variables that hold the values of `${secrets.NAME}`.
const SECRET: &str = "BUILDIT_SECRET_";

/// Seconds that an image may fail to be pulled: somebody is waiting.
const PULL_LIMIT_S: u64 = 10;

/// Of all variables and their values, the ones that are secrets.
type Secrets = BTreeMap<String, String>;

pub(crate) fn run(arguments: Run) -> Result<Exit, Problem> {
    let tree = WorkingTree::open(Path::new(".")).map_err(Problem::usage)?;
    let file = arguments.file.unwrap_or_else(|| tree.root.join(PIPELINE_FILE));
    let name = file.file_name().unwrap_or(file.as_os_str()).to_string_lossy().into_owned();
    let source = std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let pipeline = match pipeline::parse_bytes(&name, &source) {
        Ok(pipeline) => pipeline,
        Err(found) => {
            eprintln!("{}", pipeline::render(&found));
            return Ok(Exit::Failure);
        }
    };
    let plan = pipeline::plan(&pipeline, &context(&tree)).map_err(|error| anyhow!(error))?;
    let wanted = wanted(&plan, arguments.step.as_deref()).map_err(Problem::usage)?;
    let parallel = arguments.parallel.unwrap_or_else(cores).max(1);
    let artifacts = arguments.artifacts.unwrap_or_else(|| tree.root.join(".buildit/artifacts"));

    let settings = Settings::load(None, serde_json::Map::new())?.docker;
    let settings = docker::Settings { pull_limit_s: settings.pull_limit_s.min(PULL_LIMIT_S), ..settings };

    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let status = runtime.block_on(async {
        let choice = choose(arguments.executor, &settings).await?;
        eprintln!("{}", choice.said);
        carry_out(&tree, plan, &wanted, parallel, &artifacts, choice.kind, settings).await
    })?;
    runtime.shutdown_background();
    Ok(match status {
        RunStatus::Success => Exit::Success,
        _ => Exit::Failure,
    })
}

async fn choose(asked: Option<arguments::ExecutorKind>, settings: &docker::Settings) -> Result<Choice, Problem> {
    match asked {
        Some(kind) => Choice::asked_for(kind.kind(), settings).await,
        None => Ok(Choice::by_looking(settings).await),
    }
}

async fn carry_out(
    tree: &WorkingTree,
    plan: Plan,
    wanted: &[usize],
    parallel: usize,
    artifacts: &Path,
    kind: ExecutorKind,
    settings: docker::Settings,
) -> Result<RunStatus, Problem> {
    let cancel = signals::listen()?;
    // The attempts lie below it; steps may run as another user, who has to get through.
    let home = tempfile::Builder::new()
        .prefix("buildit-run-")
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o711))
        .tempdir()
        .context("cannot make a folder for the run")?;
    let checkout = home.path().join("checkout.tar.zst");
    tree.pack(&checkout, home.path())?;

    let executor: Box<dyn Executor> = match kind {
        ExecutorKind::Docker => Box::new(DockerExecutor::new(home.path().join("containers"), settings).ephemeral()),
        ExecutorKind::Local | ExecutorKind::Kubernetes => {
            Box::new(LocalExecutor::new(home.path().to_owned(), runner()?))
        }
    };
    let output = Output::start(plan.steps.iter().map(|step| step.name.clone()).collect());
    let run = Arc::new(steps::Run {
        executor,
        checkout,
        plan,
        secrets: secrets(),
        output: output.sender(),
        cancel,
        started: Mutex::default(),
    });
    let ended = steps::carry_out(&run, wanted, parallel).await;
    let (status, printed) = match ended {
        Ok(ended) => {
            let status = ended.status();
            let kept = artifacts::keep(&run, &ended, artifacts)?;
            (Ok(status), format!("{}{kept}", table::render(&run.plan, &ended, output.style())))
        }
        Err(error) => (Err(Problem::from(error)), String::new()),
    };
    run.clean().await;
    drop(run);
    output.finish(&printed);
    status
}

/// The facts of the run, as a push of what is checked out would have them.
fn context(tree: &WorkingTree) -> Context {
    let project = tree.root.file_name().map_or_else(|| "project".into(), |name| name.to_string_lossy());
    Context {
        project_id: Uuid::nil().to_string(),
        project_name: project.into_owned(),
        registry: String::new(),
        sha: tree.sha.clone(),
        git_ref: tree.git_ref.clone(),
        message: tree.message.clone(),
        author: tree.author.clone(),
        pipeline_id: Uuid::nil().to_string(),
        pipeline_name: "local".to_owned(),
        run_id: Uuid::now_v7().to_string(),
        run_number: 1,
        event: Event::at(EventKind::Push, &tree.git_ref),
        variables: BTreeMap::new(),
    }
}

/// The steps to run: all of them, or the named one and those whose outputs it gets.
fn wanted(plan: &Plan, name: Option<&str>) -> anyhow::Result<Vec<usize>> {
    let Some(name) = name else {
        return Ok((0..plan.steps.len()).collect());
    };
    let names = || plan.steps.iter().map(|step| step.name.as_str()).collect::<Vec<_>>().join(", ");
    let step = plan.steps.iter().position(|step| step.name == name);
    let step = step.with_context(|| format!("there is no step {name}; there are: {}", names()))?;
    if let Some(reason) = &plan.steps[step].skipped {
        ensure!(false, "{name} takes no part in this run. {reason}");
    }
    Ok(graph::providers(plan, step).into_iter().chain([step]).collect())
}

fn secrets() -> Secrets {
    std::env::vars_os()
        .filter_map(|(name, value)| {
            let name = name.to_str()?.strip_prefix(SECRET)?.to_owned();
            Some((name, value.to_str()?.to_owned()))
        })
        .collect()
}

/// Beside this program, as it is installed.
fn runner() -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe().context("cannot find this program")?;
    let runner = program.with_file_name("buildit-runner");
    ensure!(runner.exists(), "{} is missing, which carries out the steps: install it there", runner.display());
    Ok(runner)
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(2, std::num::NonZero::get)
}
