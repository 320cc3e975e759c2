//! Values that whoever starts a run gives for the file's own variables (`${custom.NAME}`).
//!
//! They are text and nothing else: no reference in them is resolved, so they reach no secret, and commands get them as
//! environment variables, as they get every other value.

use std::collections::BTreeMap;

use super::{
    definition::Pipeline,
    diagnostics::nearest,
    lexer::{Quoting, Use},
    variables::{Variable, is_custom_key},
};

/// Names and values.
pub type GivenVariables = BTreeMap<String, String>;

/// How many a run can have.
const MOST: usize = 100;
/// Bytes of a name, and of a value.
const LONGEST_NAME: usize = 100;
const LONGEST_VALUE: usize = 32 << 10;
/// Bytes of all values.
const MOST_TEXT: usize = 256 << 10;

/// What is wrong with them, whatever the file says: one sentence without an end.
///
/// # Errors
/// That sentence.
pub fn check_given(given: &GivenVariables) -> Result<(), String> {
    if given.len() > MOST {
        return Err(format!("there are more than {MOST} variables"));
    }
    if given.values().map(String::len).sum::<usize>() > MOST_TEXT {
        return Err(format!("the values have more than {} KiB in all", MOST_TEXT >> 10));
    }
    for (name, value) in given {
        if name.len() > LONGEST_NAME || !is_custom_key(name) {
            let rule = "up to 100 letters, digits, `_` and `-`, with a letter or `_` first";
            return Err(format!("{name:?} is no variable's name: {rule}"));
        }
        if value.len() > LONGEST_VALUE || value.contains('\0') {
            let most = LONGEST_VALUE >> 10;
            return Err(format!("the value of `{name}` has more than {most} KiB, or a NUL character"));
        }
    }
    Ok(())
}

/// A sentence for each that the file does not have.
pub(super) fn unknown(pipeline: &Pipeline, given: &GivenVariables) -> Vec<String> {
    let known = || pipeline.variables.keys().map(String::as_str);
    let others = given.keys().filter(|name| !pipeline.variables.contains_key(*name));
    others
        .map(|name| match nearest(name, known()) {
            Some(near) => format!("The file's `variables` have no `{name}`; did you mean `{near}`?"),
            None => format!("The file's `variables` have no `{name}`."),
        })
        .collect()
}

/// Refuses a value in arithmetic, where a shell may run what it holds, unless it is a number.
pub(super) fn check_use(given: &GivenVariables, found: &Use, variable: &Variable) -> Result<(), String> {
    let Variable::Custom(name) = variable else { return Ok(()) };
    match given.get(name) {
        Some(value) if found.quoting == Quoting::Arithmetic && value.parse::<i64>().is_err() => Err(format!(
            "`custom.{name}` is used in arithmetic, so the value that the run was started with must be a whole number"
        )),
        _ => Ok(()),
    }
}
