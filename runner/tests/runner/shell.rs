//! How commands are run.

use buildit_runner::Outcome;

use crate::attempt::{Attempt, Left};

fn run(commands: &[&str]) -> Left {
    Attempt::of(commands).run()
}

/// Exit code, failed command and log.
fn summary(commands: &[&str]) -> (Option<i32>, Option<usize>, String) {
    let left = run(commands);
    let code = match left.report.outcome {
        Outcome::Exited { code } => Some(code),
        _ => None,
    };
    (code, left.report.failed_command, left.log)
}

/// The log of a success, without the commands' echoes.
fn output(commands: &[&str]) -> String {
    let (code, _, mut log) = summary(commands);
    assert_eq!(code, Some(0), "{log}");
    for command in commands {
        log = log.replacen(&format!("$ {command}\n"), "", 1);
    }
    log
}

#[test]
fn one_shell_runs_all_commands() {
    assert_eq!(
        output(&["cd /usr; export A=1; B=2; f() { echo \"f $1\"; }", "pwd; sh -c 'echo $A$B'; echo $B; f x"]),
        "/usr\n1\n2\nf x\n"
    );
}

#[test]
fn each_command_is_echoed_before_its_output_however_many_lines_it_has() {
    let (_, _, log) = summary(&["echo 'a'\necho \"b\"\n", "printf '%s\\n' \"it's\""]);
    assert_eq!(log, "$ echo 'a'\necho \"b\"\na\nb\n$ printf '%s\\n' \"it's\"\nit's\n");
}

#[test]
fn the_first_failure_ends_the_step() {
    assert_eq!(summary(&["true", "false", "echo no"]).1, Some(1));
    assert_eq!(summary(&["exit 3", "echo no"]), (Some(3), Some(0), "$ exit 3\n".into()));
    assert_eq!(summary(&["sh -c 'exit 9'", "echo no"]).0, Some(9));
    assert_eq!(summary(&["kill -9 $$", "echo no"]).1, Some(0));
    assert_eq!(run(&["kill -9 $$"]).report.outcome, Outcome::Signalled { signal: 9 });
}

#[test]
fn what_the_shell_forgives_is_no_failure() {
    assert_eq!(output(&["false || true", "false | true", "if false; then :; fi", "! false", "# just a word"]), "");
}

#[test]
fn a_failure_within_a_command_counts_only_if_it_is_the_last() {
    assert_eq!(output(&["false; echo went on"]), "went on\n");
    assert_eq!(output(&["false\necho went on"]), "went on\n");
}

#[test]
fn the_commands_own_set_e_is_theirs() {
    assert_eq!(summary(&["set -e", "false; echo no"]), (Some(1), Some(1), "$ set -e\n$ false; echo no\n".into()));
    assert_eq!(output(&["set -e", "set +e; false; echo on"]), "on\n");
    let (code, failed, _) = summary(&["set +e", "false", "echo no"]);
    assert_eq!((code, failed), (Some(1), Some(1)));
    assert_eq!(output(&["set -u; set -f", "echo *"]), "*\n");
}

#[test]
fn a_broken_command_breaks_nothing_before_it() {
    for broken in ["if true; then", "echo 'unclosed", "echo $(", "}", "cat <<"] {
        let (code, failed, log) = summary(&["echo before", broken, "echo after"]);
        assert_ne!(code, Some(0), "{broken}");
        assert_eq!(failed, Some(1), "{broken}");
        assert!(log.starts_with("$ echo before\nbefore\n"), "{log}");
        assert!(!log.contains("\nafter"), "{log}");
    }
}

#[test]
fn here_documents_and_continued_lines_work() {
    assert_eq!(output(&["cat <<EOF\nit's $((1+1))\nEOF", "echo a \\\n b"]), "it's 2\na b\n");
}

#[test]
fn a_shell_that_leaves_early_with_success_is_said_to_have() {
    for early in ["exit 0", "exec true"] {
        let left = run(&["true", early, "echo no"]);
        assert!(left.report.outcome.is_success());
        assert_eq!(left.report.notes, ["Command 2 of 3 ended the shell; those after it were not run."]);
    }
    assert!(run(&["exit 0"]).report.notes.is_empty());
}

#[test]
fn nothing_to_run_is_success() {
    assert_eq!(summary(&[]), (Some(0), None, String::new()));
}

#[test]
fn the_environment_is_the_attempts_and_nothing_else() {
    let attempt = Attempt::of(&["env"]).with(|spec| {
        spec.environment.insert("GREETING".into(), "a b\n'c'".into());
    });
    let left = attempt.run();
    let names: Vec<_> = left.log.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    let mut names: Vec<_> = names.into_iter().filter(|name| !["PWD", "OLDPWD", "_", "SHLVL"].contains(name)).collect();
    names.sort_unstable();
    assert_eq!(names, ["BUILDIT_ATTEMPT_ID", "GREETING", "HOME", "PATH"]);
    assert!(left.log.contains("GREETING=a b\n'c'\n"));
    assert!(left.log.contains(&format!("HOME={}\n", attempt.folder().home().display())));
}

#[test]
fn there_is_no_input_no_terminal_and_no_open_descriptor() {
    let commands = ["cat; readlink /proc/self/fd/0; ls /proc/self/fd | wc -l; (: </dev/tty) 2>/dev/null || echo none"];
    // Three, and the one that ls reads the folder with.
    assert_eq!(output(&commands), "/dev/null\n4\nnone\n");
}

#[test]
fn a_closed_pipe_kills_the_writer_as_anywhere() {
    assert_eq!(output(&["yes | head -1", "trap -- '' PIPE; trap - PIPE; echo ok"]), "y\nok\n");
}

#[test]
fn a_bad_variable_name_is_a_failed_setup() {
    let attempt = Attempt::of(&["true"]).with(|spec| {
        spec.environment.insert("A=B".into(), "c".into());
    });
    let message = "\"A=B\" is no name for an environment variable".to_owned();
    assert_eq!(attempt.run().report.outcome, Outcome::SetupFailed { message });
}

#[test]
fn a_command_may_be_longer_than_any_argument() {
    let long = format!("echo {} | wc -c", "x".repeat(1_000_000));
    assert!(run(&[&long]).log.ends_with("\n1000001\n"));
}
