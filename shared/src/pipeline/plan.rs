//! From a definition and the facts of one run to its steps, ready to be stored and executed.
//!
//! A plan holds no secret value, only the places where secrets go; [`PlannedStep::render`] fills
//! them in at the last moment and says which values have to be masked.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::definition::{Artifact, OnLost, Pipeline, Resources, Step, seconds};
use super::filters::{self, Event};
use super::shell;
use super::units::image_problem;
use super::variables::{Part, Piece, Reference, Template, Variable, pieces};

/// Characters of a commit's hash in `${git.short_sha}`.
const SHORT_SHA: usize = 7;
/// What values hold in all, references resolved, so that values which repeat each other stay
/// storable. Kernels refuse a single value beyond 128 KiB anyway.
const MOST_TEXT: usize = 1 << 20;

/// The facts of one run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Context {
    /// The project's id.
    pub project_id: String,
    /// The project's name; with `registry`, the beginning of its images' names.
    pub project_name: String,
    /// The registry for built images; may be empty.
    pub registry: String,
    /// The commit's full hash.
    pub sha: String,
    /// The full reference name, such as `refs/heads/main`.
    pub git_ref: String,
    /// The first line or all of the commit's message.
    pub message: String,
    /// The commit's author.
    pub author: String,
    /// The pipeline's id.
    pub pipeline_id: String,
    /// The pipeline's name, for a file that gives none.
    pub pipeline_name: String,
    /// The run's id.
    pub run_id: String,
    /// The run's number in its pipeline.
    pub run_number: i64,
    /// What started the run; its branch is the run's.
    pub event: Event,
}

/// A run's steps, and what concerns the run as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// In the order of the file.
    pub steps: Vec<PlannedStep>,
    /// As the file has them.
    pub artifacts: Vec<Artifact>,
    /// Which runs exclude this one.
    pub concurrency: Option<PlannedConcurrency>,
}

/// [`super::Concurrency`] with its group resolved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedConcurrency {
    /// Of the pipeline's runs with the same group one runs at a time.
    pub group: String,
    /// Whether this run cancels the one that is running.
    pub cancel_in_progress: bool,
}

/// One step, without secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedStep {
    /// Unique in the run.
    pub name: String,
    /// Its place in the file, from 0.
    pub index: usize,
    /// A valid image reference.
    pub image: String,
    /// In order.
    pub commands: Vec<PlannedCommand>,
    /// All variables of the step: the file's, the platform's, and those its commands refer to.
    pub environment: BTreeMap<String, Template>,
    /// Indices of the steps it waits for, ascending.
    pub depends_on: Vec<usize>,
    /// Stored in whole seconds.
    #[serde(with = "seconds")]
    pub timeout: Duration,
    /// How often a failed attempt is repeated.
    pub retry: u32,
    /// Whether the run may succeed although this step fails.
    pub allow_failure: bool,
    /// Paths or globs for the steps that depend on this one.
    pub outputs: Vec<String>,
    /// What the container may use.
    pub resources: Resources,
    /// The service or environment that the built image goes to.
    pub deploy: Option<String>,
    /// What to do when the step's pod or node is lost.
    pub on_lost: OnLost,
    /// Why the step takes no part in this run, in one sentence; `None` when it does.
    pub skipped: Option<String>,
}

/// A command of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedCommand {
    /// As the file has it, to be shown.
    pub source: String,
    /// For the shell, with references to the step's environment instead of variables.
    pub shell: String,
}

/// Why a definition and a context make no run. Each problem is one sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .problems.join(" "))]
pub struct PlanError {
    /// Never empty.
    pub problems: Vec<String>,
}

/// Secrets that a step needs and nobody has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("The step needs secrets that are not set: {}.", .names.join(", "))]
pub struct MissingSecrets {
    /// In alphabetical order; never empty.
    pub names: Vec<String>,
}

/// A step with its secrets, for the executor's eyes only.
#[derive(Clone, PartialEq, Eq)]
pub struct Rendered {
    /// For the shell; parallel to [`PlannedStep::commands`].
    pub commands: Vec<String>,
    /// All variables of the step.
    pub environment: BTreeMap<String, String>,
    /// The values to mask wherever they turn up.
    pub secrets: Vec<String>,
}

impl std::fmt::Debug for Rendered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self.environment.keys().collect();
        f.debug_struct("Rendered")
            .field("commands", &self.commands)
            .field("environment", &names)
            .finish_non_exhaustive()
    }
}

/// Resolves every variable of the pipeline for one run.
///
/// # Errors
/// What the file's text alone cannot tell: an image whose variables make it invalid. For a
/// pipeline that [`super::parse`] did not check, also unknown variables and the like.
pub fn plan(pipeline: &Pipeline, context: &Context) -> Result<Plan, PlanError> {
    let dependencies = pipeline.dependencies();
    let mut problems = Vec::new();
    let mut steps = Vec::new();
    for ((index, step), depends_on) in pipeline.steps.iter().enumerate().zip(dependencies) {
        let values = Values { pipeline, context, step: Some((index, step)), resolved: RefCell::default() };
        match values.step(index, step, depends_on) {
            Ok(step) => steps.push(step),
            Err(problem) => problems.push(format!("Step `{}`: {problem}.", step.name)),
        }
    }
    let outside = Values { pipeline, context, step: None, resolved: RefCell::default() };
    let mut concurrency = None;
    if let Some(wanted) = &pipeline.concurrency {
        match outside.plain(&wanted.group, "the concurrency group") {
            Ok(group) => {
                let cancel_in_progress = wanted.cancel_in_progress;
                concurrency = Some(PlannedConcurrency { group, cancel_in_progress });
            }
            Err(problem) => problems.push(format!("Concurrency: {problem}.")),
        }
    }
    if problems.is_empty() {
        Ok(Plan { steps, artifacts: pipeline.artifacts.clone(), concurrency })
    } else {
        Err(PlanError { problems })
    }
}

impl PlannedStep {
    /// The secrets it needs, in alphabetical order, each once.
    pub fn secret_names(&self) -> BTreeSet<&str> {
        self.environment.values().flat_map(Template::secret_names).collect()
    }

    /// Fills in the secrets.
    ///
    /// # Errors
    /// The names for which `secret` has no value.
    pub fn render(&self, secret: impl Fn(&str) -> Option<String>) -> Result<Rendered, MissingSecrets> {
        let mut values = BTreeMap::new();
        let mut missing = Vec::new();
        for name in self.secret_names() {
            match secret(name) {
                Some(value) => {
                    values.insert(name, value);
                }
                None => missing.push(name.to_owned()),
            }
        }
        if !missing.is_empty() {
            return Err(MissingSecrets { names: missing });
        }
        let fill = |template: &Template| {
            let parts = template.parts.iter().map(|part| match part {
                Part::Text(text) => text.as_str(),
                Part::Secret(name) => values.get(name.as_str()).map_or("", String::as_str),
            });
            parts.collect::<String>()
        };
        let environment = self.environment.iter();
        let environment = environment.map(|(name, value)| (name.clone(), fill(value))).collect();
        let secrets: BTreeSet<String> = values.into_values().filter(|value| !value.is_empty()).collect();
        Ok(Rendered {
            commands: self.commands.iter().map(|command| command.shell.clone()).collect(),
            environment,
            secrets: secrets.into_iter().collect(),
        })
    }
}

/// Resolves variables, for a step or outside of any.
struct Values<'v> {
    pipeline: &'v Pipeline,
    context: &'v Context,
    step: Option<(usize, &'v Step)>,
    /// Values of the environment, each resolved once: they may hold each other many times.
    resolved: RefCell<BTreeMap<String, Template>>,
}

impl Values<'_> {
    fn step(&self, index: usize, step: &Step, depends_on: Vec<usize>) -> Result<PlannedStep, String> {
        let platform = self.platform(&step.name);
        let mut environment = BTreeMap::new();
        let mut size = 0;
        for (name, value) in &step.environment {
            let value = match platform.get(name) {
                Some(value) => value.clone(),
                None => self.own(name, value, &mut Vec::new())?,
            };
            size += value.parts.iter().map(Part::len).sum::<usize>();
            if size > MOST_TEXT {
                return Err("the environment is larger than 1 MiB".to_owned());
            }
            environment.insert(name.clone(), value);
        }
        let mut commands = Vec::new();
        for source in &step.commands {
            for found in shell::uses(source) {
                let variable = parse(&found.reference)?;
                if !matches!(variable, Variable::Env(_)) {
                    let value = self.value(&variable, &mut Vec::new())?;
                    environment.insert(variable.environment_name(), value);
                }
            }
            let shell = shell::rewrite(source, |reference| {
                parse(reference).map(|found| found.environment_name()).unwrap_or_default()
            });
            commands.push(PlannedCommand { source: source.clone(), shell });
        }
        environment.extend(platform);

        let image = self.plain(&step.image, "the image")?;
        if let Some(problem) = image_problem(&image) {
            return Err(format!("`{}` is no image, {problem}", image.escape_debug()));
        }
        Ok(PlannedStep {
            name: step.name.clone(),
            index,
            image,
            commands,
            environment,
            depends_on,
            timeout: step.timeout,
            retry: step.retry,
            allow_failure: step.allow_failure,
            outputs: step.outputs.clone(),
            resources: step.resources,
            deploy: step.deploy.clone(),
            on_lost: step.on_lost(),
            skipped: filters::takes_part(step, &self.context.event).err(),
        })
    }

    /// What every step gets, whatever its file says.
    fn platform(&self, step: &str) -> BTreeMap<String, Template> {
        let context = self.context;
        let branch = context.event.branch.as_deref().unwrap_or_default();
        [
            ("CI", "true"),
            ("COMMIT_BRANCH", branch),
            ("COMMIT_REF", &context.git_ref),
            ("COMMIT_SHA", &context.sha),
            ("PIPELINE_ID", &context.run_id),
            ("PLATFORM_PROJECT_ID", &context.project_id),
            ("PLATFORM_PROJECT_NAME", &context.project_name),
            ("PROJECT", &context.project_name),
            ("REGISTRY", &context.registry),
            ("STEP_NAME", step),
        ]
        .map(|(name, value)| (name.to_owned(), Template::text(without_nul(value))))
        .into()
    }

    /// A text that can hold no secret.
    fn plain(&self, text: &str, place: &str) -> Result<String, String> {
        let resolved = self.resolve(text, &mut Vec::new())?;
        resolved.as_text().ok_or_else(|| format!("{place} cannot hold a secret"))
    }

    /// `within` are the environment's names whose values are being resolved.
    fn resolve(&self, text: &str, within: &mut Vec<String>) -> Result<Template, String> {
        let mut resolved = Template::default();
        let mut size = 0;
        for piece in pieces(text) {
            let piece = match piece {
                Piece::Text(text) => Template::text(text),
                Piece::Reference(reference) => self.value(&parse(&reference)?, within)?,
            };
            size += piece.parts.iter().map(Part::len).sum::<usize>();
            if size > MOST_TEXT {
                return Err("a value is larger than 1 MiB".to_owned());
            }
            resolved.append(piece);
        }
        Ok(resolved)
    }

    fn value(&self, variable: &Variable, within: &mut Vec<String>) -> Result<Template, String> {
        let context = self.context;
        let text = match variable {
            Variable::GitSha => context.sha.clone(),
            Variable::GitShortSha => context.sha.chars().take(SHORT_SHA).collect(),
            Variable::GitBranch => context.event.branch.clone().unwrap_or_default(),
            Variable::GitRef => context.git_ref.clone(),
            Variable::GitMessage => context.message.clone(),
            Variable::GitAuthor => context.author.clone(),
            Variable::PipelineId => context.pipeline_id.clone(),
            Variable::PipelineName => self.pipeline.name.as_ref().unwrap_or(&context.pipeline_name).clone(),
            Variable::RunId => context.run_id.clone(),
            Variable::RunNumber => context.run_number.to_string(),
            Variable::StepName => self.here()?.1.name.clone(),
            Variable::StepIndex => self.here()?.0.to_string(),
            Variable::Secret(name) => return Ok(Template::secret(name)),
            Variable::Custom(key) => {
                let value = self.pipeline.variables.get(key);
                let value = value.ok_or_else(|| format!("there is no variable `custom.{key}`"))?;
                return self.custom(value);
            }
            Variable::Env(name) => return self.environment(name, within),
        };
        Ok(Template::text(without_nul(&text)))
    }

    /// The file's own variables refer to facts of the run only.
    fn custom(&self, value: &str) -> Result<Template, String> {
        for piece in pieces(value) {
            if let Piece::Reference(reference) = piece
                && let Variable::Custom(_) | Variable::Env(_) = parse(&reference)?
            {
                return Err(format!("`variables` cannot hold `{}`", reference.name));
            }
        }
        self.resolve(value, &mut Vec::new())
    }

    fn environment(&self, name: &str, within: &mut Vec<String>) -> Result<Template, String> {
        let (_, step) = self.here()?;
        if let Some(value) = self.platform(&step.name).remove(name) {
            return Ok(value);
        }
        let value = step.environment.get(name);
        let value = value.ok_or_else(|| format!("the environment has no `{name}`"))?;
        self.own(name, value, within)
    }

    /// The value of the step's own environment that has this name.
    fn own(&self, name: &str, value: &str, within: &mut Vec<String>) -> Result<Template, String> {
        if let Some(resolved) = self.resolved.borrow().get(name) {
            return Ok(resolved.clone());
        }
        if within.iter().any(|outer| outer == name) {
            return Err(format!("the value of `{name}` holds itself"));
        }
        if within.len() >= MOST_NESTED {
            return Err(format!("`{name}` is one of too many values that hold each other"));
        }
        within.push(name.to_owned());
        let resolved = self.resolve(value, within)?;
        within.pop();
        self.resolved.borrow_mut().insert(name.to_owned(), resolved.clone());
        Ok(resolved)
    }

    fn here(&self) -> Result<(usize, &Step), String> {
        self.step.ok_or_else(|| "variables of a step cannot be used outside of steps".to_owned())
    }
}

/// Values of the environment that hold each other, in a row.
const MOST_NESTED: usize = 100;

fn parse(reference: &Reference) -> Result<Variable, String> {
    if !reference.closed {
        return Err(format!("the variable `{}` has no closing brace", reference.name));
    }
    Variable::parse(&reference.name).map_err(|unknown| unknown.to_string())
}

/// No environment can hold the character.
fn without_nul(text: &str) -> String {
    text.replace('\0', "")
}
