//! The script by which one shell runs all commands.
//!
//! Each command is given to `eval`, not pasted: an unclosed quote or a missing `fi` stays within
//! its command, and what came before has run. Whether it failed is asked after it, outside of any
//! condition, so that the commands' own `set -e`, `set +e`, traps and functions work as in any
//! script. No variable, function or descriptor is left behind for the commands to stumble over.

use std::fmt::Write;
use std::path::Path;

/// The script, or why there cannot be one.
pub(super) fn script(
    commands: &[String],
    shown: &[String],
    workspace: &Path,
    progress: &Path,
) -> Result<String, String> {
    let path = |path: &Path| match path.to_str() {
        Some(text) => Ok(quoted(text)),
        None => Err(format!("{} is not UTF-8", path.display())),
    };
    let progress = path(progress)?;
    let mut script = format!("cd {} || exit\n", path(workspace)?);
    for (index, command) in commands.iter().enumerate() {
        let shown = shown.get(index).unwrap_or(command);
        if command.contains('\0') || shown.contains('\0') {
            return Err(format!("command {} contains a NUL character", index + 1));
        }
        let echo = quoted(&format!("$ {}", shown.trim_end()));
        // Writing to a String cannot fail.
        let _ = writeln!(script, "printf . >>{progress}");
        let _ = writeln!(script, "printf '%s\\n' {echo}");
        let _ = writeln!(script, "eval {}", quoted(command));
        let _ = writeln!(script, "case $? in 0) ;; *) exit $? ;; esac");
    }
    Ok(script)
}

/// `text` as one word of a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_survive_the_shell() {
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }

    #[test]
    fn a_nul_character_is_refused() {
        let error = script(&["a\0b".into()], &[], Path::new("/w"), Path::new("/p")).unwrap_err();
        assert_eq!(error, "command 1 contains a NUL character");
    }
}
