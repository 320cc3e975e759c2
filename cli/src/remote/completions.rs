//! `buildit completions`.

use clap::CommandFactory;

use super::{arguments::Completions, print};
use crate::{
    Arguments,
    exit::{Exit, Problem},
};

pub(crate) fn run(arguments: &Completions) -> Result<Exit, Problem> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Arguments::command(), "buildit", &mut script);
    print::bytes(&script)?;
    Ok(Exit::Success)
}
