//! A runner's life in a pod.
//!
//! - `buildit-runner install DIR` copies the program to `DIR/buildit-runner`: the init container.
//! - `buildit-runner pod SPEC_FILE` is process 1 of the step's container. `SPEC_FILE` holds a
//!   [`PodSpec`].
//!
//! The second one's life, in this order:
//!
//! 1. **begin.** `POST {api}/api/v1/attempts/{id}/begin` with the attempt's token and a word of
//!    chance. 200: it is this runner's, and the answer ([`Begun`]) names what to unpack. 202: not
//!    its turn yet, ask again. 409, 410: it is somebody else's or over. Whatever keeps it from
//!    beginning: nothing is run, the exit code is [`EXIT_NOT_BEGUN`], and the termination message
//!    says why, in words.
//! 2. **fetch.** Checkout and inputs are streamed from storage through the unpacker into the workspace.
//! 3. **run.** The commands have the environment of the image and the attempt's over it. The
//!    masked log goes to the attempt's file and, as [`frames`], to standard output.
//! 4. **upload.** Outputs, artifacts and the log file, to addresses that the API signs; a short log to the API itself.
//! 5. **the last word.** The [`Report`](crate::Report) to the API, as the last frame on standard
//!    output, and in a short form to `/dev/termination-log`. Whoever hears one of them need not
//!    wait for the kubelet. The exit code is 0 for a success, the step's own where it ended
//!    with one, 1 else.
//!
//! SIGTERM before the attempt has begun: as if it were not its turn. Later it is a stop: TERM to the
//! commands, KILL after the grace, then steps 4 and 5, which get [`STOPPED_UPLOAD_LIMIT`] then.

mod api;
mod contract;
mod fetch;
pub mod frames;
mod install;
mod last_word;
mod life;
mod printer;
mod stop;
mod upload;

use std::io::Write;
use std::time::Duration;

pub use api::RUNNER_HEADER;
pub use contract::{
    BeginRequest, Begun, CompleteRequest, Download, EXIT_NOT_BEGUN, POD_SPEC_VERSION, PartAddress, PartRequest,
    PodSpec, UploadBegun, UploadRequest,
};
pub use frames::{Frame, FrameReader};
pub use install::install;
pub use life::live;

pub(crate) use printer::Printer;
pub(crate) use stop::Stop;

/// How long after a stop uploads are still tried. The pod's grace has to leave room for it.
pub const STOPPED_UPLOAD_LIMIT: Duration = Duration::from_secs(20);

/// For the operator, who reads the container's standard error; nothing there is a frame.
fn complain(what: &str) {
    let _ = writeln!(std::io::stderr(), "buildit-runner: {what}");
}
