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
//!    its turn yet, ask again. 409, 410: it is somebody else's or over; exit code 4, nothing run.
//! 2. **fetch.** Checkout and inputs are streamed from storage through the unpacker into the workspace.
//! 3. **run.** The masked log goes to the attempt's file and, as [`frames`], to standard output.
//! 4. **upload.** Outputs, artifacts and the log file, to addresses that the API signs.
//! 5. **the last word.** The [`Report`](crate::Report) to the API, as the last frame on standard
//!    output, and in a short form to `/dev/termination-log`. Whoever hears one of them need not
//!    wait for the kubelet. The exit code is 0 for a success, the step's own where it ended
//!    with one, 1 else.
//!
//! SIGTERM before the first command: exit code 4 if the attempt was not begun, else nothing is run
//! any more. Later it is a stop: TERM to the commands, KILL after the grace, then steps 4 and 5.

mod contract;
pub mod frames;

pub use contract::{BeginRequest, Begun, Download, EXIT_NOT_BEGUN, POD_SPEC_VERSION, PodSpec};
pub use frames::{Frame, FrameReader};
