//! The server as `buildit up` and the tests use it. Every data folder here lies below a folder that
//! is closed to other users, which matters when the tests run as root.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use buildit_postgres::{Lifetime, Postgres};
use sqlx::{Connection, PgConnection};
use tokio::io::{AsyncBufReadExt, BufReader};

fn silent(_: &str) {}

async fn start(folder: &Path, lifetime: Lifetime) -> Postgres {
    Postgres::start(folder, lifetime, &silent).await.unwrap()
}

async fn connect(postgres: &Postgres) -> PgConnection {
    PgConnection::connect(postgres.url()).await.unwrap()
}

async fn count(postgres: &Postgres) -> i64 {
    let mut connection = connect(postgres).await;
    sqlx::query_scalar("SELECT count(*) FROM kept").fetch_one(&mut connection).await.unwrap()
}

async fn write_a_row(postgres: &Postgres) {
    let mut connection = connect(postgres).await;
    sqlx::raw_sql("CREATE TABLE IF NOT EXISTS kept (n int); INSERT INTO kept VALUES (1)")
        .execute(&mut connection)
        .await
        .unwrap();
}

fn server_pid(folder: &Path) -> String {
    let content = std::fs::read_to_string(folder.join("data/postmaster.pid")).unwrap();
    content.lines().next().unwrap().to_owned()
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_secs(20), "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn what_was_committed_is_there_after_a_restart_and_after_a_crash() {
    let home = tempfile::tempdir().unwrap();
    let mut postgres = start(&home.path().join("db"), Lifetime::Owned).await;
    let url = postgres.url().to_owned();

    write_a_row(&postgres).await;
    postgres.restart(&silent).await.unwrap();
    assert_eq!(count(&postgres).await, 1);

    write_a_row(&postgres).await;
    postgres.kill().await.unwrap();
    postgres.resume(&silent).await.unwrap();
    assert_eq!(count(&postgres).await, 2);
    assert_eq!(postgres.url(), url, "the address stays");
    postgres.stop().await.unwrap();
}

#[tokio::test]
async fn it_is_durable_and_local_and_wants_the_password() {
    let home = tempfile::tempdir().unwrap();
    let mut postgres = start(&home.path().join("db"), Lifetime::Owned).await;
    let mut connection = connect(&postgres).await;
    for (setting, expected) in [
        ("fsync", "on"),
        ("synchronous_commit", "on"),
        ("full_page_writes", "on"),
        ("data_checksums", "on"),
        ("listen_addresses", "127.0.0.1"),
        ("server_encoding", "UTF8"),
    ] {
        let value: String =
            sqlx::query_scalar("SELECT current_setting($1)").bind(setting).fetch_one(&mut connection).await.unwrap();
        assert_eq!(value, expected, "{setting}");
    }
    let (start, end) = postgres.url().split_once('@').unwrap();
    let wrong = format!("{start}x@{end}");
    assert!(PgConnection::connect(&wrong).await.is_err());
    postgres.stop().await.unwrap();
}

#[tokio::test]
async fn a_server_left_behind_is_adopted() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("db");
    let first = start(&folder, Lifetime::Independent).await;
    write_a_row(&first).await;
    let pid = server_pid(&folder);
    drop(first);

    let mut second = start(&folder, Lifetime::Independent).await;
    assert_eq!(server_pid(&folder), pid);
    assert_eq!(count(&second).await, 1);
    second.stop().await.unwrap();
    assert!(!folder.join("data/postmaster.pid").exists());
}

#[tokio::test]
async fn two_starts_at_once_share_one_server() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("db");
    let (first, mut second) =
        tokio::join!(start(&folder, Lifetime::Independent), start(&folder, Lifetime::Independent),);
    assert_eq!(first.url(), second.url());
    second.stop().await.unwrap();
}

#[tokio::test]
async fn a_pid_file_whose_number_another_server_has_is_stale() {
    let home = tempfile::tempdir().unwrap();
    let (one, other) = (home.path().join("one"), home.path().join("other"));
    let mut stopped = start(&one, Lifetime::Owned).await;
    write_a_row(&stopped).await;
    let pid_file = one.join("data/postmaster.pid");
    let content = std::fs::read_to_string(&pid_file).unwrap();
    stopped.kill().await.unwrap();

    let mut running = start(&other, Lifetime::Owned).await;
    let rest = content.split_once('\n').unwrap().1;
    std::fs::write(&pid_file, format!("{}\n{rest}", server_pid(&other))).unwrap();

    stopped.resume(&silent).await.unwrap();
    assert_eq!(count(&stopped).await, 1);
    assert_ne!(server_pid(&one), server_pid(&other));
    stopped.stop().await.unwrap();
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_port_that_is_taken_is_given_up_for_another() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("db");
    let mut postgres = start(&folder, Lifetime::Owned).await;
    write_a_row(&postgres).await;
    let url = postgres.url().to_owned();
    postgres.stop().await.unwrap();

    let port = std::fs::read_to_string(folder.join("port")).unwrap();
    let _taken = std::net::TcpListener::bind(format!("127.0.0.1:{port}")).unwrap();
    postgres.resume(&silent).await.unwrap();
    assert_ne!(postgres.url(), url);
    assert_eq!(count(&postgres).await, 1);
    postgres.stop().await.unwrap();
}

#[tokio::test]
async fn a_database_is_created_under_any_name() {
    let mut postgres = Postgres::throwaway(&silent).await.unwrap();
    let url = postgres.create_database("a \"name\"").await.unwrap();
    assert!(url.ends_with("/a \"name\""));
    assert!(postgres.create_database("a \"name\"").await.is_err());
    postgres.stop().await.unwrap();
}

#[tokio::test]
async fn a_missing_password_is_said_and_not_replaced() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("db");
    start(&folder, Lifetime::Owned).await.stop().await.unwrap();
    std::fs::remove_file(folder.join("password")).unwrap();
    let error = Postgres::start(&folder, Lifetime::Owned, &silent).await.unwrap_err();
    assert!(error.to_string().contains("restore it"), "{error}");
}

#[tokio::test]
async fn an_owned_server_and_its_data_end_with_a_killed_owner() {
    let mut owner = tokio::process::Command::new(env!("CARGO_BIN_EXE_with-postgres"))
        .args(["sh", "-c", "echo $DATABASE_URL; cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(owner.stdout.take().unwrap()).lines();
    let url = lines.next_line().await.unwrap().unwrap();
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let (pid, folder): (i32, String) = sqlx::query_as(
        "SELECT pid, current_setting('data_directory') FROM pg_stat_activity WHERE backend_type = 'checkpointer'",
    )
    .fetch_one(&mut connection)
    .await
    .unwrap();
    assert_eq!(folder, "/proc/self/cwd");
    let folder = std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap();

    owner.kill().await.unwrap();
    until("the server ends", || !Path::new(&format!("/proc/{pid}")).exists()).await;
    until("its data goes", || !folder.parent().unwrap().exists()).await;
}

#[test]
fn with_postgres_runs_a_command_against_the_migrated_schema() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("1_first.sql"), "CREATE TABLE first ();").unwrap();
    let status = std::process::Command::new(env!("CARGO_BIN_EXE_with-postgres"))
        .arg("--migrations")
        .arg(folder.path())
        .args(["sh", "-c", r#"test -n "$DATABASE_URL" && exit 7"#])
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(7));
}
