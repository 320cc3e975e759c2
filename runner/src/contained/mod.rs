//! An attempt as the first process of a container whose folder and marker are a machine's.
//!
//! The runner is the container's root, so that it may write where the step must not; the commands are run as the user
//! whom the image names. Nothing of the spec comes by way of the container's settings, which others can read: it lies in
//! the attempt's folder until the attempt has begun.

mod user;

use std::fs;

use crate::attempt::{self, AttemptError, Begun, folder_error, inherit_environment, now_ms, parse_spec};
use crate::layout::Layout;
use crate::memory;

/// Carries out an attempt as the calling process, as [`attempt::run`] does. `user` is the image's `USER`, empty where it
/// has none.
///
/// # Errors
/// When there is no report.
pub fn run(layout: &Layout, attempt_id: &str, user: &str) -> Result<(), AttemptError> {
    let started_at_ms = now_ms();
    attempt::settle();
    // Begun it has no spec any more.
    if layout.has_begun(attempt_id).map_err(folder_error("the marker cannot be looked for"))? {
        return Err(AttemptError::BegunBefore);
    }
    let file = layout.attempt(attempt_id).spec();
    let text = fs::read_to_string(&file).map_err(folder_error("the spec cannot be read"))?;
    let mut spec = parse_spec(&text, attempt_id)?;
    spec.user = user::resolve(user).map_err(AttemptError::Spec)?;
    inherit_environment(&mut spec);
    let begun = Begun::new(layout, &spec)?;
    fs::remove_file(&file).map_err(folder_error("the spec cannot be removed"))?;
    let kills_before = memory::oom_kills();
    begun.carry_out(&spec, started_at_ms, |report| {
        let kills = (kills_before, memory::oom_kills());
        report.oom_killed = matches!(kills, (Some(before), Some(after)) if after > before);
    })
}
