//! The sample project of the first `buildit up`: a bare repository with the push hook, and a first push.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, bail};
use buildit_shared::{
    db::{self, Scope, api_keys, projects, run_queries},
    ids::{OrganizationId, RunId},
    permission::Permission,
};
use sqlx::PgPool;
use url::Url;

/// The sample project's name.
pub(super) const NAME: &str = "hello";

const FILES: [(&str, &str); 3] = [
    (".platform.yaml", include_str!("../../../examples/hello/.platform.yaml")),
    ("README.md", include_str!("../../../examples/hello/README.md")),
    ("greet.sh", include_str!("../../../examples/hello/greet.sh")),
];

/// Where its repository is.
pub(super) fn repository(data: &Path) -> PathBuf {
    data.join("repositories").join(format!("{NAME}.git"))
}

/// Makes the project, its repository and its hook; each part that is there already stays. Returns false when the sample has
/// been pushed before.
pub(super) async fn prepare(
    pool: &PgPool,
    organization: OrganizationId,
    data: &Path,
    url: &Url,
) -> anyhow::Result<bool> {
    let repository = repository(data);
    let path = repository.to_string_lossy();
    let scope = Scope { organization, project: None };
    let project = match projects::find(pool, scope, NAME).await? {
        Some(project) => project.id,
        None => {
            let mut tx = pool.begin().await?;
            let (project, _) = projects::create(&mut tx, organization, NAME, &path, "main").await?;
            tx.commit().await?;
            project.id
        }
    };
    if !repository.join("HEAD").exists() {
        git(None, &["init", "-q", "--bare", "--initial-branch=main", &path])?;
    }
    if !repository.join("buildit").exists() {
        let key = api_keys::NewKey {
            organization_id: organization,
            name: "push hook of hello",
            permissions: &[Permission::RunTrigger],
            project_id: Some(project),
            user_id: None,
            created_by: None,
            expires_at: None,
        };
        let key = api_keys::create(pool, key).await?.plain;
        let installed = Command::new(std::env::current_exe()?)
            .args(["hook", "install", &path, "--project", NAME, "--url", url.as_str()])
            .env("BUILDIT_TOKEN", key)
            .stdout(Stdio::null())
            .status()?;
        if !installed.success() {
            bail!("the push hook of the sample repository could not be installed");
        }
    }
    let pushed = git(Some(&repository), &["rev-parse", "-q", "--verify", "refs/heads/main"]).is_ok();
    Ok(!pushed)
}

/// Commits the sample and pushes it, as its user would; the hook tells the address of the run.
pub(super) fn push(data: &Path) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    for (name, text) in FILES {
        fs::write(folder.path().join(name), text)?;
    }
    let at = Some(folder.path());
    git(at, &["init", "-q", "--initial-branch=main"])?;
    git(at, &["add", "."])?;
    git(
        at,
        &["-c", "user.name=BuildIt", "-c", "user.email=sample@localhost", "commit", "-q", "-m", "Greet the world"],
    )?;
    git(at, &["push", "-q", &repository(data).to_string_lossy(), "main"])
}

/// The newest run of the sample, once the push has made one.
pub(super) async fn first_run(pool: &PgPool, organization: OrganizationId) -> anyhow::Result<Option<RunId>> {
    let scope = Scope { organization, project: None };
    let project = projects::find(pool, scope, NAME).await?.context("the sample project is gone")?;
    let filter = run_queries::Filter { project: Some(project.id), ..Default::default() };
    Ok(db::run_queries::list(pool, scope, &filter, None, 1).await?.first().map(|run| run.id))
}

fn git(folder: Option<&Path>, args: &[&str]) -> anyhow::Result<()> {
    let mut command = Command::new("git");
    if let Some(folder) = folder {
        command.arg("-C").arg(folder);
    }
    let output = command
        .args(["-c", "safe.directory=*"])
        .args(args)
        .stdin(Stdio::null())
        .output()
        .context("git cannot be started; is it installed?")?;
    if !output.status.success() {
        bail!("git {} failed: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
