//! Runs a command with `DATABASE_URL` set to a PostgreSQL server that ends with it.
//!
//! It applies the migrations of a folder first, so that queries can be checked against the schema.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use buildit_postgres::Postgres;
use sqlx::migrate::Migrator;
use sqlx::{Connection, PgConnection};

const USAGE: &str = "usage: with-postgres [--migrations FOLDER] COMMAND [ARGUMENT…]";

fn main() -> ExitCode {
    match start() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("with-postgres: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn start() -> Result<ExitCode> {
    let mut arguments = std::env::args_os().skip(1).peekable();
    let migrations = match arguments.next_if(|argument| argument == "--migrations") {
        Some(_) => Some(PathBuf::from(arguments.next().context(USAGE)?)),
        None => None,
    };
    let command = arguments.next().context(USAGE)?;

    let mut postgres = Postgres::throwaway(&|line| eprintln!("{line}")).await?;
    if let Some(folder) = migrations {
        migrate(&folder, postgres.url()).await?;
    }
    let mut child = tokio::process::Command::new(&command)
        .args(arguments)
        .env("DATABASE_URL", postgres.url())
        .spawn()
        .with_context(|| format!("cannot run {}", command.to_string_lossy()))?;
    // A Ctrl-C reaches the command as well, which decides what it means.
    let status = loop {
        tokio::select! {
            status = child.wait() => break status?,
            interrupted = tokio::signal::ctrl_c() => interrupted?,
        }
    };
    postgres.stop().await?;
    Ok(match status.code() {
        Some(code) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        None => bail!("{} was ended by a signal", command.to_string_lossy()),
    })
}

async fn migrate(folder: &Path, url: &str) -> Result<()> {
    let migrator =
        Migrator::new(folder).await.with_context(|| format!("cannot read the migrations in {}", folder.display()))?;
    let mut connection = PgConnection::connect(url).await?;
    migrator.run(&mut connection).await?;
    connection.close().await?;
    Ok(())
}
