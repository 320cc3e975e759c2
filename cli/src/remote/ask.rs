//! Secrets from the terminal, without showing them, or from standard input.

use std::{
    io::{self, BufRead, IsTerminal, Read, Write},
    thread,
};

use anyhow::{Context, anyhow};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use tokio::sync::oneshot;

use crate::exit::{Exit, Problem};

/// Of what is read from standard input, in bytes; nothing that is asked for is as long.
const LONGEST: u64 = 1 << 20;

/// The terminal as it was; it is so again when this is dropped.
struct Hidden(Termios);

impl Hidden {
    fn new() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        hidden.local_modes.insert(LocalModes::ECHONL);
        tcsetattr(io::stdin(), OptionalActions::Flush, &hidden)?;
        Ok(Self(before))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        tcsetattr(io::stdin(), OptionalActions::Now, &self.0).ok();
    }
}

/// One line that somebody types after `prompt`, or all of standard input where that is no terminal; without a line break at
/// the end.
///
/// # Errors
/// Also when Ctrl-C was typed instead.
pub(super) async fn for_secret(prompt: &str) -> Result<String, Problem> {
    if !io::stdin().is_terminal() {
        let mut text = String::new();
        io::stdin().lock().take(LONGEST).read_to_string(&mut text).context("cannot read standard input as text")?;
        return Ok(without_line_break(text));
    }
    let hidden = Hidden::new().context("cannot keep the terminal from showing what is typed")?;
    eprint!("{prompt}: ");
    io::stderr().flush()?;
    let (sender, typed) = oneshot::channel();
    // A thread that nobody waits for: it may read for ever.
    thread::spawn(move || {
        let mut line = String::new();
        sender.send(io::stdin().lock().read_line(&mut line).map(|_| line)).ok();
    });
    let line = tokio::select! {
        line = typed => line.context("the terminal is gone")?.context("cannot read from the terminal")?,
        _ = tokio::signal::ctrl_c() => {
            drop(hidden);
            eprintln!();
            return Err(Problem { exit: Exit::Interrupted, error: anyhow!("nothing was changed") });
        }
    };
    drop(hidden);
    Ok(without_line_break(line))
}

fn without_line_break(mut text: String) -> String {
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    text
}
