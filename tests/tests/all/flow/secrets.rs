//! Secrets reach their step and nothing else.

use std::{fs, path::Path};

use buildit_tests::{api::SECRETS_KEY, installation::Installation};
use serde_json::json;
use sqlx::AssertSqlSafe;

use super::{id, reason, run_of, started, statuses, step};

const SECRET: &str = "hunter2-correct-horse/battery+staple";

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_in_the_step_and_nowhere_else() {
    let installation = Installation::start().await;
    let worker = installation.worker_with(&[("BUILDIT_LOG", "debug,sqlx=info,h2=info")]);
    installation.set_secret("TOKEN", SECRET).await;
    let seen = installation.shared.join("seen");
    let file = format!(
        "
pipeline:
  steps:
    - name: use
      image: debian
      environment: {{ TOKEN: '${{{{ secrets.TOKEN }}}}' }}
      commands:
        - 'printf %s \"$TOKEN\" | sha256sum | cut -c -64 > {}'
        - echo \"plain $TOKEN and ${{secrets.TOKEN}}\"
        - printf %s \"$TOKEN\" | base64 -w 0; echo
        - 'printf \"user:%s\" \"$TOKEN\" | base64 -w 0; echo'
        - 'printf %s \"$TOKEN\" | head -c 20; sleep 0.3; printf %s \"$TOKEN\" | tail -c +21; echo'
        - 'printf %s \"$TOKEN\" | sed s:/:%2F:g | sed s:+:%2B:g; echo'
        - set -x
        - 'test \"$TOKEN\" = wrong'
",
        seen.display()
    );
    let (_, run) = run_of(&installation, "secret", &file).await;
    assert_eq!(step(&run, "use")["status"], "failure", "{run:#}");
    let log = installation.log(id(&run), "use").await;
    use sha2::Digest;
    let hash: String = sha2::Sha256::digest(SECRET).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(fs::read_to_string(&seen).unwrap().trim(), hash, "the step has the value: {log}");
    assert!(log.contains("plain ") && log.matches("***").count() >= 5, "{log}");

    // The runner's own folder goes when the attempt is cleaned.
    let attempts = installation.folder.path().join("steps/attempts");
    installation.until(id(&run), "the attempt's folder is gone", |_| files_below(&attempts).is_empty()).await;
    let needles = forms(SECRET);
    let texts = database_texts(&installation).await;
    println!("{} rows and {} files searched", texts.len(), files_below(installation.folder.path()).len());
    for (table, text) in &texts {
        assert!(!contains_any(text, &needles), "{table} holds the secret: {}", String::from_utf8_lossy(text));
    }
    for path in files_below(installation.folder.path()) {
        let bytes = fs::read(&path).unwrap_or_default();
        assert!(!contains_any(&bytes, &needles), "{} holds the secret", path.display());
    }
    assert!(!worker.said().is_empty(), "the worker's log is among the files");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_nobody_has_set_is_an_error_before_anything_runs() {
    let (installation, _worker) = started().await;
    let file = "
pipeline:
  steps:
    - { name: test, image: debian, commands: [echo ran] }
    - { name: publish, image: debian, environment: { TOKEN: '${secrets.NOWHERE}' }, commands: [echo ran] }
";
    let (_, run) = run_of(&installation, "unset", file).await;
    assert_eq!((&run["status"], &run["steps"]), (&json!("error"), &json!([])), "{run:#}");
    assert!(reason(&run).starts_with("a secret is not set: `NOWHERE` for step `publish`;"), "{run:#}");

    // Once it is set the run can be retried.
    installation.set_secret("NOWHERE", SECRET).await;
    let (status, answer) = installation.post(&format!("/api/v1/runs/{}/retry", id(&run)), json!({})).await;
    assert_eq!(status, 202, "{answer}");
    let run = installation.ended(id(&run)).await;
    assert_eq!(run["status"], "success", "{run:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_without_the_key_ends_the_step_before_any_command_and_says_why() {
    let installation = Installation::start().await;
    let other = "ff".repeat(32);
    let _worker = installation.worker_with(&[("BUILDIT_SECRETS_KEY", &other)]);
    installation.set_secret("TOKEN", SECRET).await;
    let file = "
pipeline:
  steps:
    - { name: publish, image: debian, environment: { TOKEN: '${secrets.TOKEN}' }, commands: [echo ran] }
    - { name: after, image: debian, commands: ['true'] }
";
    let (_, run) = run_of(&installation, "elsewhere", file).await;
    assert_eq!(run["status"], "error", "{run:#}");
    assert_eq!(statuses(&run), ["error", "skipped"]);
    let said = reason(step(&run, "publish"));
    assert!(said.contains("`TOKEN` cannot be opened") && said.contains("which this process does not have"), "{said}");
    assert_eq!(step(&run, "publish")["attempts"][0]["first_command_at"], serde_json::Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_projects_own_secret_goes_before_the_organizations_and_another_projects_is_not_there() {
    let (installation, _worker) = started().await;
    installation.set_secret("SHARED", "of-the-organization").await;
    installation.set_secret("OWN", "of-the-organization").await;
    let file = "
pipeline:
  steps:
    - name: show
      image: debian
      commands: ['echo ${secrets.SHARED} | rev', 'echo ${secrets.OWN} | rev']
";
    let project = installation.project("mine", &[(".platform.yaml", file)]).await;
    installation.project("other", &[(".platform.yaml", file)]).await;
    for (owner, value) in [("mine", "of-the-project"), ("other", "of-another")] {
        let path = format!("{}/api/v1/projects/{owner}/secrets/OWN", installation.url);
        let set = installation.send(|client| client.put(path).json(&json!({ "value": value }))).await;
        assert_eq!(set.status(), 204);
    }
    let run = installation.ended(&installation.trigger(&project).await).await;
    let log = installation.log(id(&run), "show").await;
    assert!(log.contains("noitazinagro-eht-fo") && log.contains("tcejorp-eht-fo"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_environments_secret_is_for_the_steps_that_deploy_there_and_goes_before_the_others() {
    let (installation, _worker) = started().await;
    installation.set_secret("ONE", "of-the-organization").await;
    let file = "
pipeline:
  steps:
    - { name: build, image: debian, commands: ['echo ${secrets.ONE} | rev'] }
    - { name: stage, image: debian, deploy: staging, commands: ['echo ${secrets.ONE} | rev'] }
    - name: ship
      image: debian
      deploy: production
      commands: ['echo ${secrets.ONE} ${secrets.TWO} | rev', 'echo ${secrets.TWO}']
";
    let project = installation.project("web", &[(".platform.yaml", file)]).await;
    let set = async |path: &str, value: &str| {
        let path = format!("{}/api/v1/projects/web/{path}", installation.url);
        let set = installation.send(|client| client.put(&path).json(&json!({ "value": value }))).await;
        assert_eq!(set.status(), 204);
    };
    set("secrets/ONE", "of-the-project").await;
    set("environments/production/secrets/ONE", "of-production").await;
    set("environments/staging/secrets/TWO", "of-staging").await;
    let run = installation.ended(&installation.trigger(&project).await).await;
    assert_eq!((&run["status"], &run["steps"]), (&json!("error"), &json!([])), "{run:#}");
    let said = reason(&run);
    assert!(
        said.starts_with("a secret is not set: `TWO` for step `ship`; `TWO` is for steps that `deploy` to"),
        "{said}"
    );

    set("environments/production/secrets/TWO", "two-of-production").await;
    let run = installation.ended(&installation.trigger(&project).await).await;
    assert_eq!(run["status"], "success", "{run:#}");
    let (build, ship) = (installation.log(id(&run), "build").await, installation.log(id(&run), "ship").await);
    let stage = installation.log(id(&run), "stage").await;
    assert!(build.contains("tcejorp-eht-fo") && stage.contains("tcejorp-eht-fo"), "{build}{stage}");
    assert!(ship.contains("noitcudorp-fo-owt noitcudorp-fo\n") && ship.contains("***"), "{ship}");
    assert!(!ship.contains("two-of-production"), "{ship}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_is_changed_while_everything_runs() {
    let installation = Installation::start().await;
    installation.set_secret("TOKEN", SECRET).await;
    let file = "
pipeline:
  steps:
    - { name: use, image: debian, environment: { TOKEN: '${secrets.TOKEN}' }, commands: ['test -n \"$TOKEN\"'] }
    - { name: ship, image: debian, deploy: production, commands: ['echo ${secrets.SHIP} | rev'] }
";
    let project = installation.project("rotate", &[(".platform.yaml", file)]).await;
    let path = format!("{}/api/v1/projects/rotate/environments/production/secrets/SHIP", installation.url);
    let set = installation.send(|client| client.put(&path).json(&json!({ "value": "of-production" }))).await;
    assert_eq!(set.status(), 204);
    let (status, hook) = installation.post("/api/v1/webhooks", json!({ "url": "https://receiver.example/" })).await;
    assert_eq!(status, 201, "{hook}");
    let (new, old) = ("ab".repeat(32), json!([SECRETS_KEY]).to_string());
    let both = [("BUILDIT_SECRETS_KEY", new.as_str()), ("BUILDIT_SECRETS_OLD_KEYS", old.as_str())];
    let worker = installation.worker_with(&both);
    let run = installation.ended(&installation.trigger(&project).await).await;
    assert_eq!(run["status"], "success", "the old key still opens: {run:#}");
    drop(worker);
    let rotated = installation.command("secrets", &["rotate"], &both);
    assert!(rotated.starts_with("3 secrets were sealed anew"), "{rotated}");
    let _worker = installation.worker_with(&both[..1]);
    let run = installation.ended(&installation.trigger(&project).await).await;
    assert_eq!(run["status"], "success", "the new key alone opens: {run:#}");
}

/// The value, its base64 at each of the three offsets within a longer text, and the same in hexadecimal.
fn forms(secret: &str) -> Vec<Vec<u8>> {
    let mut forms =
        vec![secret.as_bytes().to_vec(), b"hunter2-correct".to_vec(), secret.replace('/', "%2F").into_bytes()];
    for lead in 0..3 {
        let bytes = [vec![b':'; lead], secret.as_bytes().to_vec()].concat();
        // Only characters that hang on nothing but the secret.
        forms.push(base64(&bytes)[if lead == 0 { 0 } else { 4 }..40].to_vec());
    }
    let hexadecimal = forms.iter().map(|form| form.iter().map(|b| format!("{b:02x}")).collect::<String>().into_bytes());
    let hexadecimal: Vec<_> = hexadecimal.collect();
    [forms, hexadecimal].concat()
}

fn base64(bytes: &[u8]) -> Vec<u8> {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bits = bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1)).collect::<Vec<_>>();
    let letter = |six: &[u8]| LETTERS[six.iter().fold(0, |value, bit| value << 1 | *bit as usize)];
    bits.chunks_exact(6).map(letter).collect()
}

fn contains_any(text: &[u8], needles: &[Vec<u8>]) -> bool {
    needles.iter().any(|needle| text.windows(needle.len()).any(|window| window == needle))
}

/// Each row of each table, and each log as one piece.
async fn database_texts(installation: &Installation) -> Vec<(String, Vec<u8>)> {
    let tables: Vec<String> = sqlx::query_scalar("select tablename::text from pg_tables where schemaname = 'public'")
        .fetch_all(&installation.pool)
        .await
        .unwrap();
    assert!(tables.len() > 10, "{tables:?}");
    let mut texts = Vec::new();
    for table in tables {
        let query = format!("select t::text from \"{table}\" t");
        let rows: Vec<String> = sqlx::query_scalar(AssertSqlSafe(query)).fetch_all(&installation.pool).await.unwrap();
        texts.extend(rows.into_iter().map(|row| (table.clone(), row.into_bytes())));
    }
    let logs: Vec<Vec<u8>> = sqlx::query_scalar(
        "select string_agg(bytes, ''::bytea order by start) from step_log_chunks group by attempt_id",
    )
    .fetch_all(&installation.pool)
    .await
    .unwrap();
    texts.extend(logs.into_iter().map(|log| ("a whole log".to_owned(), log)));
    texts
}

fn files_below(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                Ok(kind) if kind.is_file() => files.push(entry.path()),
                _ => {}
            }
        }
    }
    files
}
