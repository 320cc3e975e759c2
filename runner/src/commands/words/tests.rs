use std::process::Command;

use proptest::prelude::*;

use super::*;

const VARIABLES: [(&str, &str); 4] = [("A", "one"), ("TWO", " two  words\n"), ("EMPTY", ""), ("HARD", "'$A `x` \\ \"")];

fn value(name: &str) -> Vec<u8> {
    let known = VARIABLES.iter().find(|(known, _)| *known == name);
    known.map_or_else(Vec::new, |(_, value)| value.as_bytes().to_vec())
}

fn words(command: &str) -> Vec<String> {
    let words = split(command).unwrap_or_else(|error| panic!("{command}: {error:?}"));
    expand(&words, value).into_iter().map(|word| String::from_utf8(word).unwrap()).collect()
}

/// What the shell makes of the same words.
fn words_of_shell(command: &str) -> Vec<String> {
    let show = "show() { printf '%s\\0' \"$@\"; }\nset -f\neval \"show $1\"";
    let output = Command::new("sh").args(["-c", show, "sh", command]).env_clear().envs(VARIABLES).output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let mut words: Vec<String> = text.split('\0').map(str::to_owned).collect();
    words.pop();
    // printf prints its format once even without a word.
    if words == [""] { Vec::new() } else { words }
}

#[test]
fn words_are_those_of_a_shell() {
    for command in [
        "a b\tc",
        "'a b' \"c d\" e\\ f",
        "a'b'\"c\"d",
        "--flag=$A --other=\"$A$TWO\" '$A'",
        "${A}b $A.b x$TWO-y \"$TWO\"",
        "a $EMPTY b \"$EMPTY\" c'' $NOT_SET d",
        "$EMPTY",
        "a\"${HARD}\"b $HARD '\"$A\"'",
        "\"a\\\"b\\$A\\\\c\\d\"",
        "a \\\n  b # comment 'x",
        "a#b # c | d",
        "x x=1 a=b $ $. 100% a@b {a,b} ] a\\",
        "\"$\" \"a$\"b",
        "é \"ü\"",
    ] {
        assert_eq!(words(command), words_of_shell(command), "{command}");
    }
}

#[test]
fn a_reference_that_the_plan_makes_is_one_word() {
    assert_eq!(words("p \"${TWO}\" 'a '\"${A}\"' b'"), ["p", " two  words\n", "a one b"]);
}

#[test]
fn comments_and_blank_lines_are_no_command() {
    for nothing in ["", " \n\t\n", "# a\n  # b"] {
        assert_eq!(words(nothing), [] as [String; 0]);
    }
    assert_eq!(words("\n# first\n/bin/true --x\n# last\n"), ["/bin/true", "--x"]);
}

#[test]
fn what_takes_a_shell_is_told() {
    for (command, feature) in [
        ("a | b", "the pipe `|`"),
        ("a || b", "`||`"),
        ("a && b", "`&&`"),
        ("a &", "the background `&`"),
        ("a; b", "`;`"),
        ("a >b", "the redirection `>`"),
        ("a 2>&1", "the redirection `>`"),
        ("cat <<EOF\nx\nEOF", "the redirection `<`"),
        ("(a)", "`(…)`"),
        ("f() { a; }", "`(…)`"),
        ("echo `a`", "a command in backticks"),
        ("echo \"`a`\"", "a command in backticks"),
        ("echo $(a)", "the command in `$(…)`"),
        ("echo \"$(a)\"", "the command in `$(…)`"),
        ("echo $((1+1))", "the sum `$((…))`"),
        ("echo ${A:-b}", "`${A:-b}`"),
        ("echo $1", "`$1`"),
        ("echo \"$@\"", "`$@`"),
        ("echo $'a'", "the quotes `$'…'`"),
        ("ls *.rs", "the pattern `*` (quote it if it is none)"),
        ("ls a?", "the pattern `?` (quote it if it is none)"),
        ("ls [ab]", "the pattern `[…]` (quote it if it is none)"),
        ("ls ~/x", "`~` (`$HOME` works)"),
        ("A=b c", "setting a variable (`environment` can)"),
        ("if true\nthen a\nfi", "a second command on another line"),
        ("if", "`if`"),
        ("! a", "`!`"),
        ("{ a", "`{`"),
        ("cd x", "its own command `cd`"),
        ("export A", "its own command `export`"),
        ("a\nb", "a second command on another line"),
    ] {
        assert_eq!(split(command), Err(NotSplit::Shell(feature.to_owned())), "{command}");
    }
    assert_eq!(split("echo 'a"), Err(NotSplit::Broken("a quote is not closed")));
    assert_eq!(split("echo \"a"), Err(NotSplit::Broken("a quote is not closed")));
    assert_eq!(split("echo ${A"), Err(NotSplit::Broken("a `${` is not closed")));
}

#[test]
fn what_is_quoted_takes_no_shell() {
    assert_eq!(words("'if' \"a|b\" a\\;b '*' \\~"), ["if", "a|b", "a;b", "*", "~"]);
    assert_eq!(words("[ -n a ]"), ["[", "-n", "a", "]"]);
    assert_eq!(words("env A=b"), ["env", "A=b"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever is not refused is what a shell makes of it, and nothing panics.
    #[test]
    fn no_command_means_something_else(command in "x( |\t|\n|\\\\|'|\"|\\$A|\\$\\{TWO\\}|\\$EMPTY|\\$|=|#|a|~|é|!|-){0,12}") {
        if split(&command).is_ok() && !command.trim_end().contains('\n') {
            prop_assert_eq!(words(&command), words_of_shell(&command));
        }
    }

    #[test]
    fn no_text_makes_it_panic(command in "\\PC{0,40}") {
        let _ = split(&command);
    }
}
