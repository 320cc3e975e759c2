//! What the pipeline file promises, by example.

mod broken;
mod filters;
mod hostile;
mod plan;
mod quoting;
mod units;
mod valid;

use super::*;

const FULL: &str = include_str!("full.yaml");

/// A pipeline of these steps, or its diagnostics as a failed test.
fn parsed(source: &str) -> Pipeline {
    parse(".platform.yaml", source).unwrap_or_else(|diagnostics| panic!("{}", render(&diagnostics)))
}

fn diagnosed(source: &str) -> String {
    match parse(".platform.yaml", source) {
        Ok(pipeline) => panic!("no diagnostics for {pipeline:?}"),
        Err(diagnostics) => render(&diagnostics),
    }
}

/// A file with one step that has these further lines.
fn one_step(lines: &str) -> String {
    let lines = lines.replace('\n', "\n      ");
    format!(
        "pipeline:\n  steps:\n    - name: test\n      image: rust:1.95\n      commands: [cargo test]\n      {lines}\n"
    )
}

/// A file with these lines besides one plain step.
fn beside_steps(lines: &str) -> String {
    let lines = lines.replace('\n', "\n  ");
    format!("pipeline:\n  {lines}\n  steps: [{{ name: test, image: rust, commands: [cargo test] }}]\n")
}

fn context() -> Context {
    Context {
        project_id: "0199-project".to_owned(),
        project_name: "web".to_owned(),
        registry: "registry.local:5000".to_owned(),
        sha: "0123456789abcdef0123456789abcdef01234567".to_owned(),
        git_ref: "refs/heads/main".to_owned(),
        message: "Mend the door".to_owned(),
        author: "Ada <ada@example.org>".to_owned(),
        pipeline_id: "0199-pipeline".to_owned(),
        pipeline_name: "stored".to_owned(),
        run_id: "0199-run".to_owned(),
        run_number: 7,
        event: Event::push("refs/heads/main"),
        variables: GivenVariables::new(),
    }
}
