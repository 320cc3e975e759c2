//! `buildit run`: pipelines on this machine.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::support::{Said, buildit, git, said, until};

/// A repository whose pipeline file is committed.
struct Project {
    home: TempDir,
}

impl Project {
    fn new(pipeline: &str) -> Project {
        let home = tempfile::tempdir().unwrap();
        git(home.path(), ["init", "--quiet"]);
        fs::write(home.path().join(".platform.yaml"), pipeline).unwrap();
        let project = Project { home };
        project.commit();
        project
    }

    /// One step for each list of commands, in sequence.
    fn sequence(steps: &[&[&str]]) -> Project {
        Project::new(&sequence(steps))
    }

    fn path(&self) -> &Path {
        self.home.path()
    }

    fn write(&self, path: &str, content: &str) {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn commit(&self) {
        git(self.path(), ["add", "--all"]);
        git(self.path(), ["commit", "--quiet", "-m", "all of it"]);
    }

    fn command(&self) -> Command {
        let runner = PathBuf::from(env!("CARGO_BIN_EXE_buildit")).with_file_name("buildit-runner");
        assert!(runner.exists(), "first: cargo build -p buildit-runner");
        let mut command = buildit();
        command.args(["run", "--executor", "local"]).current_dir(self.path());
        command
    }

    fn run(&self, arguments: &[&str]) -> Said {
        said(self.command().args(arguments))
    }

    fn start(&self) -> Child {
        self.command().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }
}

fn sequence(steps: &[&[&str]]) -> String {
    let mut pipeline = "pipeline:\n  steps:\n".to_owned();
    for (index, commands) in steps.iter().enumerate() {
        let commands = serde_json::to_string(commands).unwrap();
        pipeline += &format!("    - {{ name: step-{index}, image: alpine, commands: {commands} }}\n");
    }
    pipeline
}

/// The lines of one step's log, without the name in front.
fn log_of<'a>(said: &'a Said, step: &str) -> Vec<&'a str> {
    let lines = said.out.lines().filter_map(|line| line.split_once(" | "));
    lines.filter(|(name, _)| name.trim_end() == step).map(|(_, line)| line).collect()
}

/// The row of the table at the end.
fn row<'a>(said: &'a Said, step: &str) -> &'a str {
    said.out.lines().rev().find(|line| line.starts_with(step)).unwrap()
}

fn interrupt(child: &Child) {
    let pid = rustix::process::Pid::from_raw(child.id().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
}

#[test]
fn what_is_green_ends_with_0_and_a_table() {
    let project = Project::sequence(&[&["echo one"], &["echo two"]]);
    let said = project.run(&[]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(log_of(&said, "step-0").contains(&"one"), "{}", said.out);
    assert!(log_of(&said, "step-1").contains(&"two"), "{}", said.out);
    assert!(row(&said, "step-1").contains("success"), "{}", said.out);
    assert!(said.out.ends_with("\nsuccess\n"), "{}", said.out);
    assert!(!said.out.contains('\u{1b}'), "no colours where nobody looks");
}

#[test]
fn a_failure_skips_the_rest_and_ends_with_1() {
    let project = Project::sequence(&[&["true"], &["exit 7"], &["echo never"]]);
    let said = project.run(&[]);
    assert_eq!(said.code, Some(1));
    assert!(row(&said, "step-1").contains("failure") && row(&said, "step-1").contains("exit code 7"), "{}", said.out);
    assert!(row(&said, "step-2").contains("skipped"), "{}", said.out);
    assert!(log_of(&said, "step-2").is_empty());
}

#[test]
fn a_failure_that_is_allowed_stops_nothing() {
    let project = Project::new(
        "pipeline:\n  steps:\n    - { name: lint, image: a, commands: [\"exit 1\"], allow_failure: true }\n    - { name: build, image: a, commands: [echo built] }\n",
    );
    let said = project.run(&[]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(row(&said, "lint").contains("(allowed)"), "{}", said.out);
    assert!(log_of(&said, "build").contains(&"built"));
}

#[test]
fn steps_run_side_by_side_where_the_graph_allows() {
    // Each of the two waits for the other: in sequence they would wait for ever.
    let meet =
        |own: &str, other: &str| format!("[\"touch $MEET/{own}; while [ ! -e $MEET/{other} ]; do sleep 0.01; done\"]");
    let place = tempfile::tempdir().unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let environment = format!("environment: {{ MEET: {} }}, timeout: 20s", place.path().display());
    let project = Project::new(&format!(
        "pipeline:\n  steps:\n    - {{ name: left, image: a, commands: {}, {environment} }}\n    - {{ name: right, image: a, commands: {}, {environment} }}\n    - {{ name: last, image: a, commands: [echo both], depends_on: [left, right] }}\n",
        meet("left", "right"),
        meet("right", "left"),
    ));
    let said = project.run(&["--parallel", "2"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(log_of(&said, "last").contains(&"both"));
}

#[test]
fn outputs_are_handed_on_and_artifacts_left_in_a_folder() {
    let project = Project::new(
        "pipeline:\n  steps:\n    - { name: build, image: a, commands: [mkdir out, echo made > out/file], outputs: [out/] }\n    - { name: use, image: a, commands: [cat out/file, echo used >> out/file] }\n  artifacts:\n    - { name: result, path: out/file }\n    - { name: none, path: nothing/ }\n",
    );
    let said = project.run(&[]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(log_of(&said, "use").contains(&"made"));
    let kept = fs::read_to_string(project.path().join(".buildit/artifacts/result/out/file")).unwrap();
    assert_eq!(kept, "made\nused\n", "the later step's wins");
    assert!(said.out.contains("artifact none: nothing matches nothing/"), "{}", said.out);
    assert_eq!(git(project.path(), ["status", "--porcelain"]), "", "they are nothing to commit");
}

#[test]
fn one_step_runs_after_those_whose_outputs_it_gets() {
    let project = Project::new(
        "pipeline:\n  steps:\n    - { name: build, image: a, commands: [echo made > file], outputs: [file] }\n    - { name: lint, image: a, commands: [\"false\"] }\n    - { name: test, image: a, commands: [cat file], depends_on: [build, lint] }\n",
    );
    let said = project.run(&["--step", "test"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(log_of(&said, "test").contains(&"made"));
    assert!(log_of(&said, "lint").is_empty());

    let unknown = project.run(&["--step", "tset"]);
    assert_eq!(unknown.code, Some(2));
    assert!(unknown.err.contains("build, lint, test"), "{}", unknown.err);
}

#[test]
fn steps_see_the_working_tree_as_it_is_and_a_clean_one() {
    let project = Project::sequence(&[&["cat changed new", "ls -A", "git log --format=%s", "git status --short"]]);
    project.write("changed", "old");
    project.write("deleted", "");
    project.write(".gitignore", "ignored\n");
    project.write("with space/ünï\"code", "x");
    project.commit();
    project.write("changed", "uncommitted\n");
    project.write("new", "untracked\n");
    project.write("ignored", "rubbish");
    fs::remove_file(project.path().join("deleted")).unwrap();
    std::os::unix::fs::symlink("changed", project.path().join("link")).unwrap();

    let said = project.run(&[]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let log = log_of(&said, "step-0");
    for seen in ["uncommitted", "untracked", "link", "with space", "all of it", " M changed", " D deleted", "?? new"] {
        assert!(log.contains(&seen), "{seen}: {}", said.out);
    }
    assert!(!log.contains(&"ignored"), "{}", said.out);
}

#[test]
fn steps_see_the_branch_and_some_of_its_history() {
    let project =
        Project::sequence(&[&["git fsck --connectivity-only", "git rev-list --count HEAD", "git branch --all"]]);
    for _ in 0..54 {
        git(project.path(), ["commit", "--quiet", "--allow-empty", "-m", "more"]);
    }
    git(project.path(), ["switch", "--quiet", "--create", "topic/one"]);
    let said = project.run(&[]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let log = log_of(&said, "step-0");
    assert!(log.contains(&"50") && log.contains(&"* topic/one"), "{}", said.out);

    git(project.path(), ["switch", "--quiet", "--detach"]);
    let detached = project.run(&[]);
    assert_eq!(detached.code, Some(0), "{detached:?}");
}

#[test]
fn temporary_files_may_lie_on_another_file_system() {
    let project = Project::sequence(&[&["git fsck"]]);
    let said = said(project.command().env("TMPDIR", "/dev/shm"));
    assert_eq!(said.code, Some(0), "{said:?}");
}

#[test]
fn what_steps_do_stays_in_their_copy() {
    let project = Project::sequence(&[&["rm -rf .git .platform.yaml", "touch made"], &["ls -A"]]);
    let said = project.run(&[]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(!log_of(&said, "step-1").contains(&"made"));
    assert!(!project.path().join("made").exists() && project.path().join(".git").exists());
}

#[test]
fn secrets_come_from_the_environment_and_are_masked() {
    let project = Project::sequence(&[&["echo ${secrets.TOKEN}", "test ${secrets.TOKEN} = hunter2-hunter2"]]);
    let said = said(project.command().env("BUILDIT_SECRET_TOKEN", "hunter2-hunter2"));
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(!said.out.contains("hunter2"), "{}", said.out);

    let without = project.run(&[]);
    assert_eq!(without.code, Some(1));
    assert!(without.out.contains("TOKEN") && without.out.contains("BUILDIT_SECRET_"), "{}", without.out);
}

#[test]
fn a_step_is_tried_again_as_often_as_the_file_says() {
    let place = tempfile::tempdir().unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let count = place.path().join("count");
    let project = Project::new(&format!(
        "pipeline:\n  steps:\n    - name: flaky\n      image: a\n      retry: 2\n      commands: [\"echo x >> {0}; test $(wc -l < {0}) = 3\"]\n",
        count.display()
    ));
    let said = project.run(&[]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.out.contains("attempt 2 of 3 failed"), "{}", said.out);
    assert_eq!(fs::read_to_string(count).unwrap().lines().count(), 3);
}

#[test]
fn a_step_that_takes_too_long_is_ended() {
    let project =
        Project::new("pipeline:\n  steps:\n    - { name: slow, image: a, commands: [sleep 60], timeout: 1s }\n");
    let begun = Instant::now();
    let said = project.run(&[]);
    assert_eq!(said.code, Some(1));
    assert!(begun.elapsed() < Duration::from_secs(15));
    assert!(row(&said, "slow").contains("longer than 1 s"), "{}", said.out);
}

#[test]
fn ctrl_c_ends_the_steps_and_leaves_nothing_behind() {
    let place = tempfile::tempdir().unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let pid_file = place.path().join("pid");
    let project =
        Project::sequence(&[&[&*format!("echo $$ > {}.new; mv {0}.new {0}; sleep 60", pid_file.display())], &["true"]]);
    let child = project.start();
    until("the step runs", || pid_file.exists());
    let step = fs::read_to_string(&pid_file).unwrap();
    interrupt(&child);
    let said = Said::from(child.wait_with_output().unwrap());
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(row(&said, "step-0").contains("cancelled"), "{}", said.out);
    assert!(row(&said, "step-1").contains("cancelled"), "{}", said.out);
    assert!(!Path::new(&format!("/proc/{}", step.trim())).exists());
}

#[test]
fn a_second_ctrl_c_does_not_wait_for_a_step_that_will_not_end() {
    let place = tempfile::tempdir().unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let (ready, asked) = (place.path().join("ready"), place.path().join("asked"));
    let stubborn =
        format!("trap 'touch {}' TERM; touch {}; while :; do sleep 0.05; done", asked.display(), ready.display());
    let project = Project::sequence(&[&[&stubborn]]);
    let child = project.start();
    until("the step runs", || ready.exists());
    interrupt(&child);
    until("the step was asked to end", || asked.exists());
    let begun = Instant::now();
    interrupt(&child);
    let said = Said::from(child.wait_with_output().unwrap());
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(said.code, Some(1), "{said:?}");
}

#[test]
fn every_line_of_a_long_log_is_there_in_order() {
    let project = Project::sequence(&[&["seq 1 100000"]]);
    let said = project.run(&[]);
    assert_eq!(said.code, Some(0));
    let log = log_of(&said, "step-0");
    let numbers: Vec<u32> = log.iter().filter_map(|line| line.parse().ok()).collect();
    assert!(numbers.iter().copied().eq(1..=100_000), "{} lines", numbers.len());
}

#[test]
fn a_broken_file_and_a_folder_without_git_are_said() {
    let project = Project::new("pipeline:\n  stepz: []\n");
    let broken = project.run(&[]);
    assert_eq!(broken.code, Some(1));
    assert!(broken.err.contains(".platform.yaml:2:3"), "{}", broken.err);

    let folder = tempfile::tempdir().unwrap();
    let outside = said(buildit().arg("run").current_dir(&folder));
    assert_eq!(outside.code, Some(2));
    assert!(outside.err.contains("git repository"), "{}", outside.err);
}

#[test]
fn the_sample_project_is_green() {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/hello");
    let project = Project::new("");
    for file in [".platform.yaml", "greet.sh", "README.md"] {
        fs::copy(sample.join(file), project.path().join(file)).unwrap();
    }
    project.commit();
    let said = project.run(&[]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let greeting = project.path().join(".buildit/artifacts/greeting/out/greeting.txt");
    assert!(fs::read_to_string(greeting).unwrap().starts_with("Hello from BuildIt!\n"));
}
