//! The contract, and what is the Docker executor's own.

use std::{fs, time::Duration};

use buildit_runner::Outcome;
use buildit_tests::daemons;
use buildit_worker::executor::{
    End, Error, Executor, Handle, Launch, State,
    docker::{Pull, Settings},
};
use futures::StreamExt;

use super::engine::{BUSYBOX, NOSHELL, Place, containers_of, docker, remove, settings, variable};
use crate::conformance::{self, attempt, launch, log, log_shows, report};

fn in_image(image: &str, commands: &[&str]) -> Launch {
    Launch { image: image.into(), ..launch(&attempt(commands)) }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_docker_executor_conforms() {
    let place = Place::new();
    conformance::with_simple_commands(&place.executor()).await;
    conformance::with_a_shell(&place.executor()).await;
    conformance::stages_outputs_and_artifacts(&place.executor()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_process_adopts_a_container_by_its_name() {
    let place = Place::new();
    let counting = launch(&attempt(&["i=0; while [ $i -lt 40 ]; do i=$((i+1)); echo $i; sleep 0.05; done"]));
    let handle = place.executor().start(&counting).await.unwrap();
    log_shows(&place.executor(), &handle, "\n3\n").await;
    let other = place.executor();
    assert_eq!(other.state(&handle).await.unwrap(), State::Running);
    assert_eq!(other.start(&counting).await.unwrap(), handle);
    assert!(report(&other, &handle).await.outcome.is_success());
    let numbers: String = (1..=40).map(|number| format!("{number}\n")).collect();
    assert!(log(&other, &handle).await.ends_with(&format!("\n{numbers}")));
    other.clean(&handle).await.unwrap();
    assert!(containers_of(&place.root()).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_removed_by_hand_is_a_lost_attempt_for_good() {
    let place = Place::new();
    let executor = place.executor();
    let sleeping = launch(&attempt(&["echo up; sleep 600"]));
    let handle = executor.start(&sleeping).await.unwrap();
    log_shows(&executor, &handle, "\nup\n").await;
    assert!(matches!(executor.confirm_ended(&handle).await, Err(Error::StillRunning)));
    remove(&[handle.attempt_id()]);
    let End::Lost { reason } = executor.wait(&handle).await.unwrap() else { panic!("it is lost") };
    assert!(reason.contains("removed"), "{reason}");
    executor.confirm_ended(&handle).await.unwrap();
    executor.start(&sleeping).await.unwrap();
    assert!(matches!(executor.state(&handle).await.unwrap(), State::Lost { .. }));
    assert!(log(&executor, &handle).await.ends_with("\nup\n"));
    executor.clean(&handle).await.unwrap();
    assert_eq!(executor.state(&handle).await.unwrap(), State::Absent { begun: true });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_container_is_lost_and_started_by_hand_it_runs_nothing() {
    let place = Place::new();
    let executor = place.executor();
    let handle = executor.start(&launch(&attempt(&["echo up; sleep 600"]))).await.unwrap();
    log_shows(&executor, &handle, "\nup\n").await;
    docker(&["kill", handle.attempt_id()]);
    assert_eq!(executor.wait(&handle).await.unwrap(), End::Lost { reason: "its container was killed".into() });
    docker(&["start", handle.attempt_id()]);
    let End::Lost { reason } = executor.wait(&handle).await.unwrap() else { panic!("it stays lost") };
    assert!(reason.contains("has been begun before"), "{reason}");
    assert_eq!(log(&executor, &handle).await, "$ echo up; sleep 600\nup\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_starter_left_half_done_is_done_by_the_next() {
    let place = Place::new();
    let executor = place.executor();
    let once = launch(&attempt(&["echo once"]));
    let handle = executor.start(&once).await.unwrap();
    report(&executor, &handle).await;
    // As a starter that died just after it had made its container.
    let half = launch(&attempt(&["echo twice"]));
    let label = format!("platform.io/folder={}", place.root().display());
    docker(&["create", "--name", &half.spec.attempt_id, "--label", &label, BUSYBOX, "true"]);
    let handle = Handle::new(&half.spec.attempt_id);
    assert_eq!(executor.state(&handle).await.unwrap(), State::Absent { begun: false });
    executor.start(&half).await.unwrap();
    assert!(matches!(executor.wait(&handle).await.unwrap(), End::Lost { .. }), "that one was none of ours");
    executor.clean(&handle).await.unwrap();

    let theirs = launch(&attempt(&["true"]));
    docker(&["create", "--name", &theirs.spec.attempt_id, BUSYBOX, "true"]);
    let refused = executor.start(&theirs).await.unwrap_err().to_string();
    docker(&["rm", &theirs.spec.attempt_id]);
    assert!(refused.contains("not this installation's"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_start_after_the_clean_runs_nothing() {
    let place = Place::new();
    let executor = place.executor();
    let once = launch(&attempt(&["echo once"]));
    let handle = executor.start(&once).await.unwrap();
    report(&executor, &handle).await;
    // What a worker that was frozen before its call has in hand, to be sent in the next moment.
    let folder = executor.files(&handle).unwrap();
    let kept = place.root().join("kept");
    executor.clean(&handle).await.unwrap();
    fs::create_dir(&kept).unwrap();
    fs::rename(&kept, &folder).unwrap();
    fs::write(folder.join("spec.json"), serde_json::to_vec(&once.spec).unwrap()).unwrap();
    let id = handle.attempt_id();
    let bind = |from: &std::path::Path, to: &str| format!("{}:{to}", from.display());
    let runner = std::path::PathBuf::from(variable("BUILDIT_TEST_POD_PROGRAMS")).join("buildit-runner");
    let label = format!("platform.io/folder={}", place.root().display());
    let begun = place.root().join("marks").join(id).join("begun");
    let (runner, attempt, begun) = (
        bind(&runner, "/buildit-runner"),
        bind(&folder, &format!("/buildit/attempts/{id}")),
        bind(&begun, "/buildit/begun"),
    );
    let volumes = ["--volume", &runner, "--volume", &attempt, "--volume", &begun, "--volume", "/workspace"];
    let named = ["run", "--detach", "--name", id, "--label", &label];
    let runs = ["--entrypoint", "/buildit-runner", BUSYBOX, "contained", "/buildit", id, ""];
    docker(&[&named[..], &volumes, &runs].concat());
    let End::Lost { reason } = executor.wait(&handle).await.unwrap() else { panic!("it stays lost") };
    assert!(reason.contains("has been begun before"), "{reason}");
    assert!(!folder.join("log").exists() && !folder.join("result.json").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_hold_and_memory_that_ran_out_is_told() {
    let place = Place::new();
    let executor = place.executor_with(Settings { default_memory_bytes: Some(48 << 20), ..settings() });
    let handle = executor.start(&launch(&attempt(&["tail /dev/zero"]))).await.unwrap();
    let ended = report(&executor, &handle).await;
    assert!(ended.oom_killed, "{ended:?}");
    assert_eq!(ended.outcome, Outcome::Exited { code: 137 });
    let limits =
        docker(&["inspect", "--format", "{{.HostConfig.Memory}} {{.HostConfig.MemorySwap}}", handle.attempt_id()]);
    assert_eq!(limits, format!("{0} {0}", 48 << 20));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_has_no_rights_on_its_machine_and_no_secret_in_its_settings() {
    let place = Place::new();
    let executor = place.executor();
    let mut quiet =
        launch(&attempt(&["echo token is $TOKEN; ls /buildit/attempts/*/ /var/run/docker.sock; sleep 600"]));
    quiet.spec.environment.insert("TOKEN".into(), "hush-hush-hush".into());
    quiet.spec.secrets = vec!["hush-hush-hush".into()];
    quiet.run_id = "run-1".into();
    let handle = executor.start(&quiet).await.unwrap();
    log_shows(&executor, &handle, "docker.sock").await;
    let settings = docker(&["inspect", handle.attempt_id()]);
    for hidden in ["hush", "sleep 600", "docker.sock"] {
        assert!(!settings.contains(hidden), "{hidden}: {settings}");
    }
    for shown in [
        "\"Privileged\": false",
        "no-new-privileges:true",
        "\"platform.io/pipeline\": \"run-1\"",
        "\"platform.io/step\": \"conformance\"",
    ] {
        assert!(settings.contains(shown), "{shown}: {settings}");
    }
    executor.stop(&handle, Duration::ZERO).await.unwrap();
    report(&executor, &handle).await;
    let log = log(&executor, &handle).await;
    assert!(log.contains("token is ***") && !log.contains("spec.json"), "{log}");
    assert!(log.contains("docker.sock: No such file"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_without_a_shell_runs_plain_commands() {
    let place = Place::new();
    let executor = place.executor();
    let handle = executor.start(&in_image(NOSHELL, &["/noshell hello $CI_WORD", "/noshell exit 3"])).await.unwrap();
    let ended = report(&executor, &handle).await;
    assert_eq!((ended.outcome, ended.failed_command), (Outcome::Exited { code: 3 }, Some(1)));
    let handle = executor.start(&in_image(NOSHELL, &["/noshell a | /noshell b"])).await.unwrap();
    let Outcome::SetupFailed { message } = report(&executor, &handle).await.outcome else { panic!("it has no shell") };
    assert!(message.contains("needs a shell"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_run_as_the_images_user_with_its_environment() {
    let place = Place::new();
    let folder = tempfile::tempdir().unwrap();
    let lines = format!("FROM {BUSYBOX}\nENV COLOUR=green\nUSER 4711:50\nWORKDIR /elsewhere\n");
    fs::write(folder.path().join("Dockerfile"), lines).unwrap();
    let image = "buildit.test/with-user:1";
    docker(&["build", "--quiet", "--tag", image, &folder.path().to_string_lossy()]);
    let executor = place.executor();
    let commands = ["id -u; id -g; echo $COLOUR; pwd; touch here; mkdir out; echo a > out/a; touch ~/x"];
    let mut as_user = in_image(image, &commands);
    as_user.spec.outputs = vec!["out".into()];
    let handle = executor.start(&as_user).await.unwrap();
    let ended = report(&executor, &handle).await;
    let log = log(&executor, &handle).await;
    assert!(ended.outcome.is_success(), "{ended:?} {log}");
    assert!(log.ends_with("\n4711\n50\ngreen\n/workspace\n"), "{log}");
    assert_eq!(ended.outputs.unwrap().files, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_step_puts_in_place_of_its_files_leads_nowhere() {
    let place = Place::new();
    let executor = place.executor();
    let fake = "cd /buildit/attempts/*; mkdir -p staged; ln -sf /etc/passwd staged/outputs.tar.zst; rm log; ln -s /etc/passwd log; \
         printf '{\"attempt_id\":\"%s\",\"outcome\":{\"kind\":\"exited\",\"code\":0},\"failed_command\":null,\"started_at_ms\":1,\
         \"first_command_at_ms\":1,\"ended_at_ms\":1,\"log_len\":0,\"log_sha256\":\"\",\"log_truncated\":false,\"outputs\":{\"file\":\
         \"staged/outputs.tar.zst\",\"size\":1,\"sha256\":\"\",\"files\":1},\"artifacts\":[],\"notes\":[]}' $BUILDIT_ATTEMPT_ID > r; \
         mv r result.json; kill -9 -1; sleep 600";
    let handle = executor.start(&launch(&attempt(&[fake]))).await.unwrap();
    let waited = tokio::time::timeout(Duration::from_secs(2), executor.wait(&handle)).await;
    assert!(waited.is_err(), "nothing is believed while it runs: {waited:?}");
    docker(&["kill", handle.attempt_id()]);
    let End::Failed { reason, .. } = executor.wait(&handle).await.unwrap() else { panic!("it is not believed") };
    assert!(reason.contains("names files"), "{reason}");
    let followed: Vec<_> = executor.follow(&handle, 0).collect().await;
    assert!(followed.iter().all(Result::is_err), "{followed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn images_are_pulled_and_what_a_registry_does_not_have_is_the_files_mistake() {
    let _registry = daemons::Use::shared().await;
    let place = Place::new();
    let registry = variable("BUILDIT_TEST_REGISTRY");
    let always = place.executor_with(Settings { pull: Pull::Always, ..settings() });
    let handle = always.start(&in_image(&format!("{registry}/busybox:1"), &["echo pulled"])).await.unwrap();
    assert!(always.notices(&handle).next().await.unwrap().text.contains("pulls its image"));
    assert_eq!(log(&always, &handle).await, "$ echo pulled\npulled\n");
    assert!(report(&always, &handle).await.outcome.is_success());

    let executor = place.executor();
    let missing = format!("{registry}/nobody/has:this");
    let handle = executor.start(&in_image(&missing, &["true"])).await.unwrap();
    let End::Failed { reason, .. } = executor.wait(&handle).await.unwrap() else { panic!("the file is wrong") };
    assert!(reason.contains(&missing) && reason.contains("was not found"), "{reason}");
    executor.clean(&handle).await.unwrap();

    let never = place.executor_with(Settings { pull: Pull::Never, ..settings() });
    let refused = never.start(&in_image("buildit.test/none:1", &["true"])).await.unwrap_err();
    assert!(matches!(&refused, Error::Denied { reason } if reason.contains("pull none")), "{refused}");
    let refused = executor.start(&in_image("not a name", &["true"])).await.unwrap_err();
    assert!(matches!(&refused, Error::Denied { reason } if reason.contains("invalid")), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_away_is_waited_for_and_told() {
    let place = Place::new();
    let host = variable("BUILDIT_TEST_HOST");
    let nowhere = format!("{host}:1/web:1");
    let executor = place.executor();
    let handle = executor.start(&in_image(&nowhere, &["true"])).await.unwrap();
    assert_eq!(executor.state(&handle).await.unwrap(), State::Starting);
    let mut notices = executor.notices(&handle);
    while !notices.next().await.unwrap().text.contains("cannot be pulled") {}
    executor.stop(&handle, Duration::ZERO).await.unwrap();
    assert!(matches!(executor.wait(&handle).await.unwrap(), End::Lost { .. }), "a stop ends the pull, too");

    let impatient = place.executor_with(Settings { pull_limit_s: 1, ..settings() });
    let handle = impatient.start(&in_image(&nowhere, &["true"])).await.unwrap();
    let End::Lost { reason } = impatient.wait(&handle).await.unwrap() else { panic!("the file is fine") };
    assert!(reason.contains("given up") && reason.contains("refused"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_does_not_see_the_workers_files_is_told() {
    let place = Place::new();
    let mut elsewhere = launch(&attempt(&["true"]));
    elsewhere.spec.checkout = Some("/not/on/this/machine.tar.zst".into());
    let refused = place.executor().start(&elsewhere).await.unwrap_err();
    assert!(
        matches!(&refused, Error::Denied { reason } if reason.contains("does not see this worker's files")),
        "{refused}"
    );
    let nobody = place.executor_with(Settings { host: Some("tcp://127.0.0.1:1".into()), ..settings() });
    assert!(matches!(nobody.start(&elsewhere).await, Err(Error::Away { .. })));
}
