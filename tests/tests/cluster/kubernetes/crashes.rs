//! Workers that die while their pods run.

use buildit_tests::{eventually, installation::Installation};

use super::{id, step};

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_workers_pod_goes_on_and_is_adopted_with_its_log_whole() {
    let installation = Installation::on_cluster().await;
    let first = installation.worker();
    let file = "
pipeline:
  steps:
    - name: count
      image: buildit.test/busybox:1
      commands: ['i=0; while [ $i -lt 200 ]; do i=$((i+1)); echo line $i; sleep 0.05; done']
    - { name: after, image: buildit.test/busybox:1, commands: [echo done] }
";
    let project = installation.project("web", &[(".platform.yaml", file)]).await;
    let run = installation.trigger(&project).await;
    let stored = async || {
        let query = "select coalesce(max(log_len), 0) from step_attempts";
        sqlx::query_scalar::<_, i64>(query).fetch_one(&installation.pool).await.unwrap()
    };
    eventually("its log is followed", buildit_tests::PATIENCE, async || stored().await > 100).await;
    let second = installation.worker();
    first.kill();
    let before = stored().await;
    eventually("the log goes on", buildit_tests::PATIENCE, async || stored().await > before).await;
    let run = installation.ended(&run).await;
    assert_eq!(run["status"], "success", "{run:#}; {}", second.said());
    assert_eq!(step(&run, "count")["attempts"].as_array().unwrap().len(), 1);
    let log = installation.log(id(&run), "count").await;
    let lines: Vec<&str> = log.lines().filter(|line| line.starts_with("line ")).collect();
    let expected: Vec<String> = (1..=200).map(|number| format!("line {number}")).collect();
    assert_eq!(lines, expected);
}
