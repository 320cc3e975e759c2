//! Starting, listing, finding, ending and repeating runs.

use buildit_shared::permission::Permission;
use buildit_tests::{
    installation::{Installation, Project, Worker, git},
    remote::User,
};
use serde_json::{Value, json};

use super::key;

/// Steps that end as the variable `end` says.
const FILE: &str = "
pipeline:
  variables: { end: success, greeting: hello }
  steps:
    - { name: greet, image: debian, commands: ['echo ${custom.greeting} from ${git.ref}'] }
    - { name: end, image: debian, commands: ['[ ${custom.end} = success ]'] }
";

async fn web() -> (Installation, Worker, Project) {
    let installation = Installation::start().await;
    let worker = installation.worker();
    let project = installation.project("web", &[(".platform.yaml", FILE)]).await;
    (installation, worker, project)
}

/// The ids of these runs.
fn ids(runs: &Value) -> Vec<&str> {
    runs.as_array().unwrap().iter().map(|run| run["id"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_started_with_what_was_asked_for_and_watched_to_its_end() {
    let (installation, _worker, project) = web().await;
    let user = User::of(&installation);
    let said = user.says(&["trigger", "web", "--watch", "--logs", "--var", "greeting=$(id) = \"it\""]).await;
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.out.contains("greet | $(id) = \"it\" from refs/heads/main\n"), "{said:?}");
    assert!(said.out.contains("end   | -- success after") && said.out.contains("run #1 of web: success"), "{said:?}");

    let said = user.says(&["trigger", "web", "--watch", "--var", "end=failure"]).await;
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.out.contains("end    failure after") && !said.out.contains("hello"), "{said:?}");

    project.push(&["HEAD:refs/tags/v1", "HEAD:refs/heads/next"]);
    let commit = git(project.work(), &["rev-parse", "HEAD"]);
    for (arguments, git_ref) in [
        (vec!["--tag", "v1"], "refs/tags/v1"),
        (vec!["--branch", "next"], "refs/heads/next"),
        (vec!["--commit", &commit], &commit),
        (vec!["--branch", "next", "--commit", &commit, "--pipeline", "default"], "refs/heads/next"),
    ] {
        let arguments = [&["trigger", "web", "--json"], arguments.as_slice()].concat();
        let started = user.says(&arguments).await.json();
        let run = installation.ended(started["id"].as_str().unwrap()).await;
        assert_eq!((&run["status"], &run["ref"]), (&json!("success"), &json!(git_ref)), "{run:#}");
        assert_eq!(run["commit_sha"], json!(commit));
    }

    for (arguments, code, message) in [
        (vec!["trigger", "nowhere"], 1, "no project"),
        (vec!["trigger", "web", "--pipeline", "none"], 1, "no pipeline"),
        (vec!["trigger", "web", "--branch", "a..b"], 1, "is no ref"),
        (vec!["trigger", "web", "--commit", "abc"], 1, "no full commit SHA"),
        (vec!["trigger", "web", "--var", "a"], 2, "NAME=VALUE"),
        (vec!["trigger", "web", "--var", "a.b=c"], 1, "no variable's name"),
        (vec!["trigger", "web", "--var", "a=1", "--var", "a=2"], 2, "more than once"),
    ] {
        let said = user.says(&arguments).await;
        assert!(said.code == code && said.err.contains(message), "{arguments:?}: {said:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_exit_code_tells_how_the_run_ended() {
    let (installation, _worker, project) = web().await;
    let user = User::of(&installation);
    let watch = async |more: &[&str]| user.says(&[&["trigger", "web", "--watch"], more].concat()).await;
    assert_eq!(watch(&[]).await.code, 0);
    assert_eq!(watch(&["--var", "end=no"]).await.code, 1);
    let unknown = watch(&["--var", "edn=no"]).await;
    assert!(unknown.code == 5 && unknown.out.contains("did you mean `end`?"), "{unknown:?}");
    let never = "pipeline: { steps: [{ name: a, image: debian, commands: ['true'], when: { branch: [release] } }] }";
    project.commit(&[(".platform.yaml", never)]);
    assert_eq!(watch(&[]).await.code, 6);

    let long = "pipeline: { steps: [{ name: a, image: debian, commands: ['sleep 100'] }] }";
    project.commit(&[(".platform.yaml", long)]);
    let mut going = user.starts(&["trigger", "web", "--watch"]);
    going.until("$ sleep 100").await;
    let cancelled = user.says(&["cancel", "web#latest"]).await;
    assert!(cancelled.code == 0 && cancelled.out.contains("asked to end"), "{cancelled:?}");
    assert_eq!(going.ended().await, 4);
    let again = user.says(&["cancel", "web#latest"]).await;
    assert!(again.code == 1 && again.err.contains("has ended already"), "{again:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_are_listed_and_found_by_all_their_names() {
    let (installation, _worker, project) = web().await;
    installation.project("other", &[(".platform.yaml", FILE)]).await;
    let mut user = User::of(&installation);
    let first = user.says(&["trigger", "web", "--json", "--var", "end=no"]).await.json();
    installation.ended(first["id"].as_str().unwrap()).await;
    let second = user.says(&["trigger", "web", "--json"]).await.json();
    installation.ended(second["id"].as_str().unwrap()).await;
    let other = user.says(&["trigger", "other", "--json"]).await.json();
    let id = |run: &Value| run["id"].as_str().unwrap().to_owned();

    assert_eq!(ids(&user.says(&["runs", "--json"]).await.json()), [id(&other), id(&second), id(&first)]);
    assert_eq!(ids(&user.says(&["runs", "web", "--json", "--limit", "1"]).await.json()), [id(&second)]);
    assert_eq!(ids(&user.says(&["runs", "web", "--json", "--status", "failure,error"]).await.json()), [id(&first)]);
    assert_eq!(user.says(&["runs", "web", "--json", "--branch", "next"]).await.json(), json!([]));
    assert_eq!(user.says(&["runs", "web", "--json", "--trigger", "push"]).await.json(), json!([]));
    let table = user.says(&["runs", "web"]).await.out;
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].starts_with("RUN    PIPELINE  STATUS"), "{table}");
    assert!(lines[1].starts_with("web#2  default   success  main"), "{table}");
    assert!(lines[2].starts_with("web#1  default   failure  main") && lines[2].ends_with("a change"), "{table}");
    let wrong = user.says(&["runs", "web", "--status", "green"]).await;
    assert!(wrong.code == 1 && wrong.err.contains("green"), "{wrong:?}");

    let read = async |user: &User, arguments: &[&str]| user.says(&[&["logs", "--json"], arguments].concat()).await;
    let expected = read(&user, &[&id(&first)]).await;
    assert!(expected.code == 0 && !expected.json_lines().is_empty(), "{expected:?}");
    let url = first["url"].as_str().unwrap();
    for name in [&[url][..], &["web#1"], &["1", "--project", "web"], &["#1", "--project", "web"]] {
        assert_eq!(read(&user, name).await.out, expected.out, "{name:?}");
    }
    for (name, code, message) in [
        ("web#7", 1, "web has no run #7; `buildit runs web`"),
        ("nowhere#1", 1, "no project"),
        ("one", 2, "names no run"),
        ("1", 2, "--project"),
        ("01890000-0000-7000-8000-000000000000", 1, "no run"),
        ("https://elsewhere.example/runs/01890000-0000-7000-8000-000000000000", 2, "where you are logged in"),
    ] {
        let said = read(&user, &[name]).await;
        assert!(said.code == code && said.err.contains(message), "{name}: {said:?}");
    }
    // In a clone its project is known.
    let clone = user.folder.join("clone");
    git(&user.folder, &["clone", "-q", &project.repository.to_string_lossy(), &clone.to_string_lossy()]);
    user.folder = clone;
    assert_eq!(read(&user, &["1"]).await.out, expected.out);
    let latest = user.says(&["watch", "latest"]).await;
    assert!(latest.code == 0 && latest.out.contains("run #2 of web"), "{latest:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_goes_on_from_what_failed_or_from_a_step() {
    let installation = Installation::start().await;
    let _worker = installation.worker();
    let gate = installation.shared.join("gate");
    let file = format!(
        "
pipeline:
  steps:
    - {{ name: a, image: debian, commands: ['true'] }}
    - {{ name: b, image: debian, depends_on: [a], commands: ['echo b', 'test -e {}'] }}
    - {{ name: c, image: debian, depends_on: [a], commands: ['true'] }}
    - {{ name: d, image: debian, depends_on: [b, c], commands: ['true'] }}
",
        gate.display()
    );
    installation.project("web", &[(".platform.yaml", &file)]).await;
    let user = User::of(&installation);
    assert_eq!(user.says(&["trigger", "web", "--watch"]).await.code, 1);
    let blocked = user.says(&["retry", "web#1", "--from", "d"]).await;
    assert!(blocked.code == 1 && blocked.err.contains("retry from `b`"), "{blocked:?}");
    let failed = user.says(&["logs", "web#1", "--failed"]).await;
    assert!(failed.out.contains("$ echo b") && !failed.out.contains("$ true"), "{failed:?}");

    std::fs::write(&gate, "").unwrap();
    let retried = user.says(&["retry", "web#1"]).await;
    assert!(retried.code == 0 && retried.out.contains("goes on: b, d"), "{retried:?}");
    assert_eq!(user.says(&["watch", "web#1"]).await.code, 0);
    let nothing = user.says(&["retry", "web#1"]).await;
    assert!(nothing.code == 1 && nothing.err.contains("nothing in this run failed"), "{nothing:?}");
    let from = user.says(&["retry", "web#1", "--from", "c", "--json"]).await.json();
    assert_eq!(from["generation"], 3);
    let watched = user.says(&["watch", "web#1", "--json"]).await;
    let last = watched.json_lines().pop().unwrap();
    let attempts: Vec<usize> = last["run"]["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| step["attempts"].as_array().unwrap().len())
        .collect();
    assert_eq!((watched.code, attempts), (0, vec![1, 2, 2, 2]));
    let first = user.says(&["logs", "web#1", "b", "--attempt", "1"]).await;
    assert!(
        first.out.ends_with("$ echo b\nb\n$ test -e GATE\n".replace("GATE", &gate.to_string_lossy()).as_str()),
        "{first:?}"
    );
    let again = user.says(&["rerun", "web#1", "--json"]).await.json();
    assert_eq!(again["number"], 2);
    let unknown = user.says(&["retry", "web#1", "--from", "x"]).await;
    assert!(unknown.code == 1 && unknown.err.contains("no step"), "{unknown:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_may_only_start_runs_starts_them_and_is_told_what_it_may_not() {
    let (installation, _worker, _project) = web().await;
    let small = key(&installation, &[Permission::RunTrigger]).await;
    let user = User::at(&installation, &installation.url, &small);
    let started = user.says(&["trigger", "web"]).await;
    assert!(started.code == 0 && started.out.contains("run #1 of web has started: http"), "{started:?}");
    for (arguments, permission) in [
        (&["runs"][..], "project:read"),
        (&["trigger", "web", "--watch"], "project:read"),
        (&["cancel", "01890000-0000-7000-8000-000000000000"], "project:write"),
    ] {
        let said = user.says(arguments).await;
        assert!(said.code == 1 && said.err.contains(permission), "{arguments:?}: {said:?}");
    }
}
