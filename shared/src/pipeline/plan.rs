//! From a definition and the facts of one run to its steps, ready to be stored and executed.
//!
//! A plan holds no secret value, only the places where secrets go; [`PlannedStep::render`] fills
//! them in at the last moment and says which values have to be masked.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::definition::{Artifact, OnLost, Pipeline, Resources, Step, seconds};
use super::filters::{self, Event};
use super::given::{self, GivenVariables};
use super::shell;
use super::units::image_problem;
use super::values::{MOST_TEXT, Values, parse};
use super::variables::{Part, Template, Variable};

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
    /// Values that go before those of the file's own variables.
    #[serde(default)]
    pub variables: GivenVariables,
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
/// What the file's text alone cannot tell: an image whose variables make it invalid, values given
/// for variables that the file does not have. For a
/// pipeline that [`super::parse`] did not check, also unknown variables and the like.
pub fn plan(pipeline: &Pipeline, context: &Context) -> Result<Plan, PlanError> {
    let dependencies = pipeline.dependencies();
    let mut problems = given::unknown(pipeline, &context.variables);
    let mut steps = Vec::new();
    for ((index, step), depends_on) in pipeline.steps.iter().enumerate().zip(dependencies) {
        let values = Values::new(pipeline, context, Some((index, step)));
        match planned_step(&values, context, index, step, depends_on) {
            Ok(step) => steps.push(step),
            Err(problem) => problems.push(format!("Step `{}`: {problem}.", step.name)),
        }
    }
    let outside = Values::new(pipeline, context, None);
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

fn planned_step(
    values: &Values<'_>,
    context: &Context,
    index: usize,
    step: &Step,
    depends_on: Vec<usize>,
) -> Result<PlannedStep, String> {
    let platform = values.platform(&step.name);
    let mut environment = BTreeMap::new();
    let mut size = 0;
    for (name, value) in &step.environment {
        let value = match platform.get(name) {
            Some(value) => value.clone(),
            None => values.own(name, value, &mut Vec::new())?,
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
            given::check_use(&context.variables, &found, &variable)?;
            if !matches!(variable, Variable::Env(_)) {
                let value = values.value(&variable, &mut Vec::new())?;
                environment.insert(variable.environment_name(), value);
            }
        }
        let shell = shell::rewrite(source, |reference| {
            parse(reference).map(|found| found.environment_name()).unwrap_or_default()
        });
        commands.push(PlannedCommand { source: source.clone(), shell });
    }
    environment.extend(platform);

    let image = values.plain(&step.image, "the image")?;
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
        skipped: filters::takes_part(step, &context.event).err(),
    })
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
