//! Checkout and inputs, from storage into the workspace without a file in between.

use std::cell::RefCell;
use std::io::{self, Read};
use std::path::Path;
use std::time::Duration;

use super::contract::Begun;
use crate::net::{Client, Failed, GivenUp, Patience, Refusals};
use crate::prepare::NotPrepared;
use crate::spec::StepUser;
use crate::unpack::{Limits, UnpackError, unpack_stream};

/// Fetches everything that `begun` names. An address that storage refuses may have expired while
/// others were fetched; then `again` asks for new ones.
pub(super) fn fetch(
    client: &Client,
    mut begun: Begun,
    again: &mut dyn FnMut(Duration) -> Result<Begun, Failed>,
    workspace: &Path,
    owner: Option<StepUser>,
    patience: &Patience,
) -> Result<(), NotPrepared> {
    let inputs = (0..begun.inputs.len()).map(Some);
    let wanted = begun.checkout.iter().map(|_| None).chain(inputs).collect::<Vec<_>>();
    for which in wanted {
        let (mut refusals, mut expired) = (Refusals::default(), false);
        let fetched = patience.insist(|limit| {
            if expired {
                begun = again(limit)?;
                expired = false;
            }
            let url = address(&begun, which)
                .ok_or_else(|| Failed::Refused { status: 404, message: "it is not named any more".to_owned() })?;
            fetch_one(client, url, workspace, owner, patience).map_err(|failed| {
                expired = matches!(failed, Failed::Refused { .. });
                refusals.forgive(failed)
            })
        });
        let broken = match fetched {
            Ok(None) => continue,
            Ok(Some(broken)) => broken.to_string(),
            Err(_) if patience.is_stopped() => return Err(NotPrepared::Stopped),
            Err(GivenUp::Refused { status, message }) => {
                format!("the storage refuses it with status {status}: {message}")
            }
            Err(GivenUp::Late(message)) => format!("it cannot be fetched: {message}"),
        };
        if patience.is_stopped() {
            return Err(NotPrepared::Stopped);
        }
        let what = match which {
            None => "The checkout".to_owned(),
            Some(index) => format!("Input {} of {}", index + 1, begun.inputs.len()),
        };
        return Err(NotPrepared::Failed(format!("{what}: {broken}")));
    }
    Ok(())
}

/// The address of the checkout, or of an input.
fn address(begun: &Begun, which: Option<usize>) -> Option<&str> {
    let download = match which {
        None => begun.checkout.as_ref(),
        Some(index) => begun.inputs.get(index),
    };
    Some(download?.url.as_str())
}

/// Fetches and unpacks one archive. `Err` is the connection's fault, `Some` the archive's.
fn fetch_one(
    client: &Client,
    url: &str,
    workspace: &Path,
    owner: Option<StepUser>,
    patience: &Patience,
) -> Result<Option<UnpackError>, Failed> {
    let (size, body) = client.get(url)?;
    let broken = RefCell::new(None);
    let body = Whole { body, left: size, broken: &broken };
    let mut stopped = || patience.is_stopped();
    let unpacked = unpack_stream(body, size.unwrap_or(0), workspace, owner, &Limits::default(), &mut stopped);
    match (unpacked, broken.into_inner()) {
        (Ok(()), _) => Ok(None),
        (Err(_), Some(broken)) => Err(Failed::Again(broken)),
        (Err(error), None) => Ok(Some(error)),
    }
}

/// A body that knows whether it broke off.
struct Whole<'b, R> {
    body: R,
    /// Bytes to come; `None` if that is not known.
    left: Option<u64>,
    broken: &'b RefCell<Option<String>>,
}

impl<R: Read> Read for Whole<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = match self.body.read(buffer) {
            Ok(0) if !buffer.is_empty() && self.left.is_some_and(|left| left > 0) => {
                Err(io::Error::from(io::ErrorKind::UnexpectedEof))
            }
            read => read,
        };
        match &read {
            Ok(count) => self.left = self.left.map(|left| left.saturating_sub(*count as u64)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => *self.broken.borrow_mut() = Some(format!("the connection broke off: {error}")),
        }
        read
    }
}
