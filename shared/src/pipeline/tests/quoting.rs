//! Commands, with variables that strangers chose, in a real shell.

use std::process::Command;

use super::*;

const HOSTILE: [&str; 8] = [
    "plain",
    "two  words\tand * ? [a]",
    "$(echo pwned) `echo pwned` ${HOME} $HOME",
    "a'b\"c\\d",
    "'; echo pwned; '",
    "\"; echo pwned; \"",
    "first\nsecond\nEOF\nthird",
    "-n # $((1+1)) \\$x \\",
];

/// Commands and what they print, with `@` where the value goes.
const COMMANDS: [(&str, &str); 44] = [
    (r"printf '<%s>' ${git.message}", "<@>"),
    (r"printf '<%s>' a${git.message}b", "<a@b>"),
    (r#"printf '<%s>' "${git.message}""#, "<@>"),
    (r#"printf '<%s>' "a ${{ git.message }} b""#, "<a @ b>"),
    (r"printf '<%s>' '${git.message}'", "<@>"),
    (r"printf '<%s>' 'a ${git.message} b'c", "<a @ bc>"),
    (r#"printf '<%s>' 'a"${git.message}"b'"#, r#"<a"@"b>"#),
    (r#"printf '<%s>' "it's ${git.message}""#, "<it's @>"),
    (r#"printf '<%s>' "a\"${git.message}\"b""#, r#"<a"@"b>"#),
    (r#"printf '<%s>' "\\${git.message}""#, r"<\@>"),
    (r#"printf '<%s>' \"${git.message}\'"#, r#"<"@'>"#),
    (r"X=${git.message}; printf '<%s>' $( printf '%s' x )", "<x>"),
    (r#"X=${git.message}; printf '<%s>' "$X""#, "<@>"),
    (r#"printf '<%s>' "$(printf '%s' ${git.message})""#, "<@>"),
    (r#"printf '<%s>' "$(printf '%s' "${git.message}")""#, "<@>"),
    (r#"printf '<%s>' "$(printf '%s' '${git.message}')""#, "<@>"),
    (r#"printf '<%s>' "$(printf '%s' "$(printf '%s' '${git.message}')")""#, "<@>"),
    (r#"printf '<%s>' "`printf '%s' ${git.message}`""#, "<@>"),
    ("printf '<%s>' \"`printf '%s' '${git.message}'`\"", "<@>"),
    ("X=`printf '%s' ${git.message}`; printf '<%s>' \"$X\"'${git.message}'", "<@@>"),
    (r#"printf '<%s>' "${NOTHING:-${git.message}}""#, "<@>"),
    (r#"printf '<%s>' ${NOTHING:-"${git.message}"}"#, "<@>"),
    (r#"printf '<%s>' ${NOTHING:-'${git.message}'}"#, "<@>"),
    (r#"printf '<%s>' ${NOTHING:-${git.message}}"#, "<@>"),
    ("printf '<%s>' $((1 + ${run.number} * (2 + ${run.number})))", "<64>"),
    ("printf '<%s>' \"$((${run.number} + 1))${git.message}\"", "<8@>"),
    ("cat <<EOF\n[${git.message}]\nEOF", "[@]\n"),
    ("cat <<EOF; printf '%s' '${git.message}'\n\"${git.message}\" it's\nEOF", "\"@\" it's\n@"),
    ("cat <<-EOF\n\t[${git.message}]\n\tEOF\nprintf '%s' ${git.message}", "[@]\n@"),
    (
        "cat <<'EOF'\n[${git.message}] $HOME `x` \\ \\\\ '\"\nEOF\nprintf '%s' '${git.message}'",
        "[@] $HOME `x` \\ \\\\ '\"\n@",
    ),
    ("cat <<\"EOF\"\n$(x) ${git.message}\nEOF", "$(x) @\n"),
    ("cat <<\\EOF\n\\$x ${git.message}\nEOF", "\\$x @\n"),
    ("cat <<A <<'B'\nx ${git.message}\nA\n$y ${git.message}\nB", "$y @\n"),
    ("cat <<EOF\n$(printf '%s' \"${git.message}\")\nEOF", "@\n"),
    ("printf '%s' \"$(cat <<'EOF'\n$x ${git.message}\nEOF\n)\"", "$x @"),
    ("# it's a comment\nprintf '<%s>' ${git.message} # \"${git.message}", "<@>"),
    ("printf '<%s>' a#'b' ${git.message}", "<a#b><@>"),
    ("printf '<%s>' '\n' '${git.message}'", "<\n><@>"),
    ("printf '<%s>' \\\n  ${git.message} \\\n# it's\nprintf '<%s>' ${git.message}", "<@><@>"),
    ("case x in x) printf '<%s>' ${git.message} ;; esac", "<@>"),
    ("printf '<%s>' \"$(case x in y) ;; x) printf '%s' ${git.message} ;; esac)${git.message}\"", "<@@>"),
    ("(printf '<%s>' ${git.message}); { printf '%s' \"(\"${git.message}; }", "<@>(@"),
    ("printf '<%s>' $(printf '%s' ')') '${git.message}'", "<)><@>"),
    ("printf '<%s>' \\${git.message}x 2>/dev/null || printf '%s' ${git.message}", ""),
];

fn runs_in(shell: &str, source: &str, message: &str) -> Option<String> {
    let mut pipeline = parsed(&one_step(""));
    pipeline.steps[0].commands = vec![source.to_owned()];
    let facts = Context { message: message.to_owned(), ..context() };
    let plan = plan(&pipeline, &facts).expect("a plan");
    let step = plan.steps[0].render(|_| None).expect("no secrets");
    let output = Command::new(shell)
        .args(["-c", &step.commands[0]])
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", "/nowhere")
        .envs(&step.environment)
        .output()
        .ok()?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{shell}: {}\n{stderr}", step.commands[0]);
    Some(String::from_utf8(output.stdout).expect("text"))
}

#[test]
fn a_variable_is_its_value_in_every_kind_of_quotes() {
    for shell in ["sh", "bash"] {
        for (source, expected) in COMMANDS.iter().filter(|(_, expected)| !expected.is_empty()) {
            for value in HOSTILE {
                let Some(printed) = runs_in(shell, source, value) else {
                    continue;
                };
                assert_eq!(printed, expected.replace('@', value), "{shell}: {source}");
            }
        }
    }
}

#[test]
fn ansi_quotes_stay_ansi_quotes() {
    for value in HOSTILE {
        let source = r"printf '<%s>' $'a\'\t${git.message}\t\'b'";
        if let Some(printed) = runs_in("bash", source, value) {
            assert_eq!(printed, format!("<a'\t{value}\t'b>"));
        }
    }
}

#[test]
fn what_a_command_becomes() {
    let rewritten: Vec<String> = COMMANDS
        .iter()
        .map(|(source, _)| {
            let mut pipeline = parsed(&one_step(""));
            pipeline.steps[0].commands = vec![(*source).to_owned()];
            let plan = plan(&pipeline, &context()).expect("a plan");
            format!("{source}\n    {}", plan.steps[0].commands[0].shell.replace('\n', "\n    "))
        })
        .collect();
    insta::assert_snapshot!(rewritten.join("\n"));
}

#[test]
fn a_value_of_the_environment_is_referred_to_by_its_own_name() {
    let source = one_step("environment: { A: one }").replace("cargo test", "'echo ${env.A} ${HOME} $A'");
    let plan = plan(&parsed(&source), &context()).expect("a plan");
    assert_eq!(plan.steps[0].commands[0].shell, "echo \"${A}\" ${HOME} $A");
}
