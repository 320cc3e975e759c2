//! What a repository is written in, told from the names of its files, and the pipeline file that fits it.
//!
//! A proposal is a beginning: it is valid, it does the least that is of use, and whoever takes it changes it.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

/// Something that a pipeline can be proposed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Stack {
    Rust,
    Node,
    Python,
    Go,
    Java,
    Docker,
    Other,
}

/// What starts the proposed pipeline besides a person.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Triggers {
    /// Pushes of any branch, or of the default one alone.
    pub(crate) pushes: Pushes,
    pub(crate) merge_requests: bool,
    /// Five fields of cron and a time zone.
    pub(crate) schedule: Option<(String, String)>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Pushes {
    #[default]
    All,
    Default,
    None,
}

/// The names of files at the root that tell a stack, the surest first.
const SIGNS: [(&str, Stack); 12] = [
    ("Cargo.toml", Stack::Rust),
    ("go.mod", Stack::Go),
    ("package.json", Stack::Node),
    ("pyproject.toml", Stack::Python),
    ("requirements.txt", Stack::Python),
    ("setup.py", Stack::Python),
    ("Pipfile", Stack::Python),
    ("pom.xml", Stack::Java),
    ("build.gradle", Stack::Java),
    ("build.gradle.kts", Stack::Java),
    ("Dockerfile", Stack::Docker),
    ("Containerfile", Stack::Docker),
];

impl Stack {
    /// In the order in which one chooses.
    pub(crate) const ALL: [Self; 7] =
        [Self::Rust, Self::Node, Self::Python, Self::Go, Self::Java, Self::Docker, Self::Other];

    /// The name in addresses.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::Node => "node",
            Self::Python => "python",
            Self::Go => "go",
            Self::Java => "java",
            Self::Docker => "docker",
            Self::Other => "other",
        }
    }

    /// The name for people.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Rust => "Rust",
            Self::Node => "Node.js",
            Self::Python => "Python",
            Self::Go => "Go",
            Self::Java => "Java",
            Self::Docker => "Docker image",
            Self::Other => "something else",
        }
    }

    /// The stack of a repository with these files, and the file that tells.
    pub(crate) fn detect(files: &[String]) -> Option<(Self, &'static str)> {
        SIGNS.into_iter().find(|(name, _)| has(files, name)).map(|(name, stack)| (stack, name))
    }
}

fn has(files: &[String], name: &str) -> bool {
    files.iter().any(|file| file == name)
}

/// A pipeline file for that stack.
pub(crate) fn propose(stack: Stack, files: &[String], triggers: &Triggers, default_branch: &str) -> String {
    let mut text = String::from("pipeline:\n  steps:\n");
    for step in steps(stack, files) {
        let _ = writeln!(text, "    - name: {}\n      image: {}\n      commands:", step.name, step.image);
        for command in &step.commands {
            let _ = writeln!(text, "        - {}", scalar(command));
        }
    }
    text.push_str(&on(triggers, default_branch));
    text
}

struct Step {
    name: &'static str,
    image: &'static str,
    commands: Vec<String>,
}

fn step(name: &'static str, image: &'static str, commands: &[&str]) -> Step {
    Step { name, image, commands: commands.iter().map(|command| (*command).to_owned()).collect() }
}

fn steps(stack: Stack, files: &[String]) -> Vec<Step> {
    match stack {
        Stack::Rust => {
            let locked = if has(files, "Cargo.lock") { " --locked" } else { "" };
            vec![Step {
                name: "test",
                image: "rust:1-slim",
                commands: vec![format!("cargo build --all-targets{locked}"), format!("cargo test{locked}")],
            }]
        }
        Stack::Node => {
            let install = if has(files, "package-lock.json") {
                "npm ci"
            } else if has(files, "yarn.lock") {
                "corepack enable && yarn install --immutable"
            } else if has(files, "pnpm-lock.yaml") {
                "corepack enable && pnpm install --frozen-lockfile"
            } else {
                "npm install"
            };
            vec![step("test", "node:24-slim", &[install, "npm run build --if-present", "npm test --if-present"])]
        }
        Stack::Python => {
            let install = if has(files, "requirements.txt") {
                "pip install --requirement requirements.txt pytest"
            } else if has(files, "Pipfile") {
                "pip install pipenv pytest && pipenv install --system --dev"
            } else {
                "pip install . pytest"
            };
            vec![step("test", "python:3.13-slim", &[install, "python -m pytest"])]
        }
        Stack::Go => vec![step("test", "golang:1", &["go vet ./...", "go test ./..."])],
        Stack::Java => vec![if has(files, "pom.xml") {
            step("test", "maven:3-eclipse-temurin-21", &["mvn --batch-mode verify"])
        } else if has(files, "gradlew") {
            step("test", "eclipse-temurin:21", &["./gradlew --no-daemon build"])
        } else {
            step("test", "gradle:8-jdk21", &["gradle --no-daemon build"])
        }],
        Stack::Docker => {
            let file = if has(files, "Dockerfile") { "Dockerfile" } else { "Containerfile" };
            let build = format!(
                "/kaniko/executor --context /workspace --dockerfile {file} --destination $REGISTRY/$PROJECT:$COMMIT_SHA"
            );
            vec![Step { name: "image", image: "gcr.io/kaniko-project/executor:v1.24.0", commands: vec![build] }]
        }
        Stack::Other => vec![step("test", "debian:bookworm-slim", &["echo Say here what is to be run"])],
    }
}

fn on(triggers: &Triggers, default_branch: &str) -> String {
    // Without `on` a push of any branch starts a run.
    if *triggers == Triggers::default() {
        return String::new();
    }
    let mut text = String::from("  on:\n");
    match triggers.pushes {
        Pushes::All => text.push_str("    push: { branches: [\"**\"] }\n"),
        Pushes::Default => {
            let _ = writeln!(text, "    push: {{ branches: [{}] }}", quoted(default_branch));
        }
        Pushes::None => {}
    }
    if triggers.merge_requests {
        text.push_str("    mr: { actions: [opened, synchronized, reopened] }\n");
    }
    if let Some((cron, timezone)) = &triggers.schedule {
        let _ = writeln!(text, "    schedule: {{ cron: {}, timezone: {} }}", quoted(cron), quoted(timezone));
    }
    if text == "  on:\n" {
        // Nothing but a person or a program that asks.
        text = "  on: {}\n".into();
    }
    text
}

/// A command as YAML: bare where nothing in it could be taken for more than a text.
fn scalar(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || " ./-_=&$".contains(c);
    let is_bare =
        text.chars().all(plain) && text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '.' || c == '/');
    if is_bare { text.to_owned() } else { quoted(text) }
}

/// JSON's strings are YAML's.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use buildit_shared::pipeline;

    use super::*;

    fn files(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_repository_is_known_by_a_file_at_its_root() {
        let detect = |names: &[&str]| Stack::detect(&files(names)).map(|(stack, _)| stack);
        assert_eq!(detect(&["README.md", "Cargo.toml", "src/main.rs"]), Some(Stack::Rust));
        assert_eq!(detect(&["package.json", "Dockerfile"]), Some(Stack::Node));
        assert_eq!(detect(&["requirements.txt"]), Some(Stack::Python));
        assert_eq!(detect(&["build.gradle.kts"]), Some(Stack::Java));
        assert_eq!(detect(&["Dockerfile"]), Some(Stack::Docker));
        assert_eq!(detect(&["README.md", "docs/package.json"]), None);
    }

    #[test]
    fn every_proposal_is_a_pipeline() {
        let schedule = Some(("0 3 * * *".into(), "Europe/Berlin".into()));
        for stack in Stack::ALL {
            for names in
                [&[][..], &["Cargo.lock", "package-lock.json", "pom.xml"], &["yarn.lock", "gradlew", "Pipfile"]]
            {
                for pushes in [Pushes::All, Pushes::Default, Pushes::None] {
                    for (merge_requests, schedule) in [(false, None), (true, schedule.clone())] {
                        let triggers = Triggers { pushes, merge_requests, schedule };
                        let text = propose(stack, &files(names), &triggers, "release/1");
                        let parsed = pipeline::parse("proposal", &text);
                        assert!(parsed.is_ok(), "{text}\n{}", pipeline::render(&parsed.unwrap_err()));
                    }
                }
            }
        }
    }

    #[test]
    fn what_starts_it_is_in_the_file() {
        let none = Triggers { pushes: Pushes::None, ..Triggers::default() };
        let text = propose(Stack::Go, &[], &none, "main");
        assert!(text.ends_with("  on: {}\n"), "{text}");
        let all = propose(Stack::Go, &[], &Triggers::default(), "main");
        assert!(!all.contains("on:"), "{all}");
        let nightly = Triggers { schedule: Some(("0 3 * * *".into(), "UTC".into())), ..none };
        let text = propose(Stack::Go, &[], &nightly, "main");
        assert!(text.contains("schedule: { cron: \"0 3 * * *\", timezone: \"UTC\" }"), "{text}");
        assert!(!text.contains("push"), "{text}");
    }
}
