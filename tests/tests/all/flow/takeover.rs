//! A step goes on while its worker is replaced.

use std::time::Instant;

use buildit_tests::installation::{Installation, Worker};
use futures::StreamExt;
use rustix::process::Signal;

use super::{id, lines, step};

const TAKEOVERS: usize = 10;

/// A step that talks for some seconds and leaves a trace when it begins; returns the run once the step has spoken.
async fn talking(installation: &Installation) -> String {
    let file = format!(
        "
pipeline:
  steps:
    - name: talk
      image: debian
      commands:
        - 'echo x >> {}'
        - 'i=0; until [ -e {}/enough ]; do i=$((i+1)); echo line $i; sleep 0.02; done'
",
        installation.shared.join("ran").display(),
        installation.shared.display()
    );
    let project = installation.project("talking", &[(".platform.yaml", &file)]).await;
    let run = installation.trigger(&project).await;
    let spoken = |run: &serde_json::Value| run["steps"][0]["attempts"][0]["log_length"].as_i64() > Some(300);
    installation.until(&run, "the step has spoken", spoken).await;
    run
}

/// Bytes of the log that are stored.
async fn stored(installation: &Installation) -> i64 {
    sqlx::query_scalar("select sum(log_len)::bigint from step_attempts").fetch_one(&installation.pool).await.unwrap()
}

/// Seconds until the next line is stored.
async fn next_line(installation: &Installation, since: Instant, before: i64) -> f64 {
    while stored(installation).await <= before {
        assert!(since.elapsed().as_secs() < 60, "no line in a minute");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    since.elapsed().as_secs_f64()
}

async fn check(installation: &Installation, run: &str) {
    std::fs::write(installation.shared.join("enough"), "").unwrap();
    let run = installation.ended(run).await;
    assert_eq!(run["status"], "success", "{run:#}");
    assert_eq!(lines(&installation.shared.join("ran")), ["x"], "its commands ran once");
    assert_eq!(step(&run, "talk")["attempts"].as_array().unwrap().len(), 1, "no attempt was burned: {run:#}");
    let log = installation.log(id(&run), "talk").await;
    let said: Vec<_> = log.lines().filter_map(|line| line.strip_prefix("line ")?.parse::<usize>().ok()).collect();
    assert_eq!(said, (1..=said.len()).collect::<Vec<_>>(), "each line once");
    assert!(said.len() > 20 && !log.contains("[buildit:"), "{log}");
}

async fn joined(installation: &Installation, worker: &Worker) {
    let pid = i32::try_from(worker.pid()).unwrap();
    let is_there = "select exists (select from workers where pid = $1 and state = 'alive')";
    while !sqlx::query_scalar::<_, bool>(is_there).bind(pid).fetch_one(&installation.pool).await.unwrap() {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_told_to_end_hands_its_step_over() {
    let installation = Installation::start().await;
    let first = installation.worker();
    let run = talking(&installation).await;
    let second = installation.worker();
    joined(&installation, &second).await;
    let told = Instant::now();
    first.signal(Signal::TERM);
    while !second.said().contains("adopted") {
        assert!(told.elapsed().as_secs() < 30, "not adopted; {} {}", first.said(), second.said());
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    println!("adopted {} ms after TERM", told.elapsed().as_millis());
    assert!(first.ended().await.success(), "{}", first.said());
    println!("the first worker had ended {} ms after TERM", told.elapsed().as_millis());
    let before = stored(&installation).await;
    next_line(&installation, Instant::now(), before).await;
    check(&installation, &run).await;
    let errors: i64 =
        sqlx::query_scalar("select count(*) from job_errors").fetch_one(&installation.pool).await.unwrap();
    assert_eq!(errors, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_kill_the_log_goes_on_within_seconds() {
    let takeovers = futures::stream::iter((0..TAKEOVERS).map(|_| async {
        let installation = Installation::start().await;
        let first = installation.worker();
        let run = talking(&installation).await;
        let second = installation.worker();
        joined(&installation, &second).await;
        first.kill();
        let (killed, before) = (Instant::now(), stored(&installation).await);
        let took = next_line(&installation, killed, before).await;
        check(&installation, &run).await;
        took
    }));
    let mut took: Vec<f64> = takeovers.buffer_unordered(5).collect().await;
    took.sort_by(f64::total_cmp);
    let (p50, max) = (took[TAKEOVERS / 2], took[TAKEOVERS - 1]);
    println!("{TAKEOVERS} kills: the adopted step's next line was stored after p50 {p50:.1} s, max {max:.1} s");
    assert!(max < 15.0, "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_whose_runner_is_lost_gets_a_new_visible_attempt() {
    let installation = Installation::start().await;
    let _worker = installation.worker();
    let (runners, ran) = (installation.shared.join("runners"), installation.shared.join("ran"));
    let file = format!(
        "
pipeline:
  steps:
    - name: fragile
      image: debian
      commands: ['echo x >> {1}', 'echo $PPID >> {0}', '[ $(wc -l < {0}) = 2 ] || sleep 300']
    - name: final
      image: debian
      on_lost: fail
      commands: ['echo $PPID >> {0}', sleep 300]
",
        runners.display(),
        ran.display()
    );
    let project = installation.project("lost", &[(".platform.yaml", &file)]).await;
    let run = installation.trigger(&project).await;
    for count in [1, 3] {
        installation.until(&run, "a step says who its runner is", |_| lines(&runners).len() == count).await;
        let pid = lines(&runners)[count - 1].parse().unwrap();
        let began = Instant::now();
        rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
        let told = |run: &serde_json::Value| run.to_string().contains(r#""status":"lost""#);
        installation.until(&run, "the loss is seen", told).await;
        println!("the loss of a runner was seen within {} ms", began.elapsed().as_millis());
    }
    let run = installation.ended(&run).await;
    let states = |name: &str| -> Vec<String> {
        let attempts = step(&run, name)["attempts"].as_array().unwrap().iter();
        attempts.map(|attempt| attempt["status"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(states("fragile"), ["lost", "success"], "{run:#}");
    assert_eq!(lines(&ran), ["x", "x"]);
    assert_eq!(
        (step(&run, "fragile")["status"].as_str(), step(&run, "final")["status"].as_str()),
        (Some("success"), Some("error"))
    );
    assert_eq!((states("final"), run["status"].as_str()), (vec!["lost".to_owned()], Some("error")));
    let log = installation.log(id(&run), "final").await;
    assert!(log.contains("[buildit: the log ends here"), "{log}");
}
