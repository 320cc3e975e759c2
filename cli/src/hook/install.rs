//! `buildit hook install`.

use std::fs;
use std::io::{self, BufRead};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use super::key;
use super::repository::{Repository, Target, write_durably};
use super::spool::Spool;
use crate::arguments::Install;
use crate::exit::{Exit, Problem};

/// By this line a hook is known to be ours.
const MARK: &str = "# Installed by `buildit hook install`.";

pub(crate) fn run(arguments: Install) -> Result<Exit, Problem> {
    let repository = Repository::open(&arguments.repository).map_err(Problem::usage)?;
    let hooks = repository.hooks()?;
    keep_key(&repository, &arguments)?;
    repository.write_target(&Target {
        url: arguments.url.clone(),
        project: arguments.project.clone(),
        file: arguments.file,
    })?;
    Spool::open(repository.spool()).context("cannot make the spool")?;

    let program = std::env::current_exe().context("cannot find this program")?;
    let program = program.to_str().context("the path of this program is not UTF-8")?;
    write_hook(&hooks, "post-receive", &script(program, "post-receive"))?;
    if arguments.pre_receive {
        write_hook(&hooks, "pre-receive", &script(program, "pre-receive"))?;
    }
    println!("Pushes to {} start runs of {} at {}", repository.path().display(), arguments.project, arguments.url);
    Ok(Exit::Success)
}

fn keep_key(repository: &Repository, arguments: &Install) -> Result<(), Problem> {
    let token = std::env::var("BUILDIT_TOKEN").ok().filter(|token| !token.is_empty());
    let key = match (arguments.key.as_deref(), token) {
        (Some("-"), _) => {
            let mut line = String::new();
            io::stdin().lock().read_line(&mut line).context("cannot read the key")?;
            line.trim().to_owned()
        }
        (Some(key), _) => key.trim().to_owned(),
        (None, Some(token)) => key::for_project(&arguments.url, &token, &arguments.project)?,
        (None, None) if repository.key().is_ok() => return Ok(()),
        (None, None) => {
            return Err(Problem::usage(anyhow::anyhow!(
                "no key is given, which starts runs of the project: set BUILDIT_TOKEN to a key that may make one, or say --key"
            )));
        }
    };
    if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Problem::usage(anyhow::anyhow!("the key is empty or holds characters that no key has")));
    }
    Ok(repository.write_key(&key)?)
}

/// A hook of someone else's stays, and is called first.
fn write_hook(hooks: &Path, name: &str, script: &str) -> Result<()> {
    let path = hooks.join(name);
    let before = hooks.join(format!("{name}.before-buildit"));
    if fs::symlink_metadata(&path).is_ok() && !is_ours(&path)? {
        ensure!(
            fs::symlink_metadata(&before).is_err(),
            "{} is not ours, and {} exists already: remove one of the two",
            path.display(),
            before.display()
        );
        fs::rename(&path, &before).with_context(|| format!("cannot rename {}", path.display()))?;
    }
    write_durably(&path, script.as_bytes())
        .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o755)))
        .with_context(|| format!("cannot write {}", path.display()))
}

fn is_ours(path: &Path) -> Result<bool> {
    match fs::read(path) {
        Ok(content) => Ok(String::from_utf8_lossy(&content).contains(MARK)),
        // A link that leads nowhere.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => bail!("cannot read {}: {error}", path.display()),
    }
}

fn script(program: &str, name: &str) -> String {
    let program = program.replace('\'', r"'\''");
    format!(
        r#"#!/bin/sh
{MARK}
# A hook that was here before is called first; it gets the same input.
buildit='{program}'
[ -x "$buildit" ] || buildit=buildit
before="$(dirname "$0")/{name}.before-buildit"
if [ -x "$before" ]; then
    input=$(cat)
    printf '%s\n' "$input" | "$before" "$@"
    status=$?
    [ "$status" -eq 0 ] || [ {name} = post-receive ] || exit "$status"
    printf '%s\n' "$input" | "$buildit" hook {name}
else
    "$buildit" hook {name}
fi
ours=$?
if [ "$ours" -eq 126 ] || [ "$ours" -eq 127 ]; then
    echo "BuildIt: $buildit is missing: install it, or run \`buildit hook install\` again" >&2
    ours=0
fi
[ {name} = post-receive ] || exit "$ours"
"#
    )
}
