//! The value of each variable, for one run and one of its steps.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::definition::{Pipeline, Step};
use super::plan::Context;
use super::variables::{Part, Piece, Reference, Template, Variable, pieces};

/// Characters of a commit's hash in `${git.short_sha}`.
const SHORT_SHA: usize = 7;
/// What values hold in all, references resolved, so that values which repeat each other stay
/// storable. Kernels refuse a single value beyond 128 KiB anyway.
pub(super) const MOST_TEXT: usize = 1 << 20;

/// Values of the environment that hold each other, in a row.
const MOST_NESTED: usize = 100;

/// Resolves variables, for a step or outside of any.
pub(super) struct Values<'v> {
    pipeline: &'v Pipeline,
    context: &'v Context,
    step: Option<(usize, &'v Step)>,
    /// Values of the environment, each resolved once: they may hold each other many times.
    resolved: RefCell<BTreeMap<String, Template>>,
}

impl<'v> Values<'v> {
    pub(super) fn new(pipeline: &'v Pipeline, context: &'v Context, step: Option<(usize, &'v Step)>) -> Self {
        Self { pipeline, context, step, resolved: RefCell::default() }
    }

    /// What every step gets, whatever its file says.
    pub(super) fn platform(&self, step: &str) -> BTreeMap<String, Template> {
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
    pub(super) fn plain(&self, text: &str, place: &str) -> Result<String, String> {
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

    pub(super) fn value(&self, variable: &Variable, within: &mut Vec<String>) -> Result<Template, String> {
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
                if let Some(given) = context.variables.get(key) {
                    return Ok(Template::text(without_nul(given)));
                }
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
    pub(super) fn own(&self, name: &str, value: &str, within: &mut Vec<String>) -> Result<Template, String> {
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

pub(super) fn parse(reference: &Reference) -> Result<Variable, String> {
    if !reference.closed {
        return Err(format!("the variable `{}` has no closing brace", reference.name));
    }
    Variable::parse(&reference.name).map_err(|unknown| unknown.to_string())
}

/// No environment can hold the character.
fn without_nul(text: &str) -> String {
    text.replace('\0', "")
}
