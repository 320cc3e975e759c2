//! What `buildit run` and `buildit up` choose.

use std::{
    fs,
    process::{Command, Output, Stdio},
};

use buildit_tests::{
    eventually,
    installation::{git, programs},
};
use rustix::process::{Pid, Signal, kill_process};

use super::engine::{BUSYBOX, docker, host, variable};

/// `buildit` where an engine answers, without the settings of this test's environment.
fn buildit(arguments: &[&str], folder: &std::path::Path) -> Command {
    let mut command = Command::new(programs().join("buildit"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("BUILDIT_")) {
        command.env_remove(name);
    }
    command.args(arguments).current_dir(folder).stdin(Stdio::null()).env_remove("DATABASE_URL");
    command.env("DOCKER_HOST", host()).env("BUILDIT_DOCKER_RUNNER", variable("BUILDIT_TEST_POD_PROGRAMS"));
    command
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

#[test]
fn run_takes_the_engine_where_one_answers_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    git(folder.path(), &["init", "-q"]);
    let file = format!(
        "pipeline:\n  steps:\n    - {{ name: make, image: '{BUSYBOX}', commands: [cat /proc/1/comm, echo made > out.txt], outputs: [out.txt] }}\n\
         \x20   - {{ name: use, image: '{BUSYBOX}', commands: [cat out.txt, pwd] }}\n  artifacts: [{{ name: out, path: out.txt }}]\n"
    );
    fs::write(folder.path().join(".platform.yaml"), file).unwrap();
    git(folder.path(), &["add", "--all"]);
    git(folder.path(), &["commit", "-q", "-m", "all"]);
    let ran = buildit(&["run"], folder.path()).output().unwrap();
    let text = said(&ran);
    assert!(ran.status.success(), "{text}");
    assert!(text.contains("Steps run in containers of the Docker engine at "), "{text}");
    assert!(
        text.contains("make | buildit-runner\n") && text.contains("use  | made\nuse  | $ pwd\nuse  | /workspace\n"),
        "{text}"
    );
    assert_eq!(fs::read_to_string(folder.path().join(".buildit/artifacts/out/out.txt")).unwrap(), "made\n");
    assert_eq!(docker(&["ps", "--all", "--quiet", "--filter", "label=platform.io/step=make"]), "");

    let local = buildit(&["run", "--executor", "local"], folder.path()).output().unwrap();
    assert!(said(&local).contains("Steps run as processes of this machine"), "{}", said(&local));
    let nobody = buildit(&["run", "--executor", "docker"], folder.path())
        .env("DOCKER_HOST", "unix:///nowhere")
        .output()
        .unwrap();
    assert_eq!(nobody.status.code(), Some(3), "{}", said(&nobody));
    let without = buildit(&["run"], folder.path()).env("DOCKER_HOST", "unix:///nowhere").output().unwrap();
    assert!(said(&without).contains("no Docker engine answers at unix:///nowhere"), "{}", said(&without));
}

#[tokio::test(flavor = "multi_thread")]
async fn up_stays_with_the_executor_of_its_first_start() {
    let folder = tempfile::Builder::new()
        .prefix("buildit-up-")
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .tempdir()
        .unwrap();
    let file = folder.path().join("said");
    for (engine, expected) in [(host(), "it answers"), ("unix:///nowhere".to_owned(), "as before")] {
        let output = fs::File::create(&file).unwrap();
        let data = folder.path().join("data").display().to_string();
        let mut up = buildit(&["up", "--no-sample", "--listen", "127.0.0.1:0", "--data-dir", &data], folder.path())
            .env("DOCKER_HOST", engine)
            .stderr(output.try_clone().unwrap())
            .stdout(output)
            .spawn()
            .unwrap();
        eventually("it greets", buildit_tests::PATIENCE, async || {
            assert!(up.try_wait().unwrap().is_none(), "{}", fs::read_to_string(&file).unwrap());
            fs::read_to_string(&file).unwrap().contains("BuildIt is up at")
        })
        .await;
        kill_process(Pid::from_child(&up), Signal::INT).unwrap();
        assert!(up.wait().unwrap().success());
        let said = fs::read_to_string(&file).unwrap();
        assert!(
            said.starts_with("Steps run in containers") && said.lines().next().unwrap().contains(expected),
            "{said}"
        );
    }
}
