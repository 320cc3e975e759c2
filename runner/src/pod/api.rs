//! What the runner asks of the API.

use std::time::{Duration, Instant};

use super::contract::{
    BeginRequest, Begun, CompleteRequest, PartAddress, PartRequest, PodSpec, UploadBegun, UploadRequest,
};
use crate::net::{Client, Failed, GivenUp, Patience, from_json};
use crate::report::Report;

/// How long the API may hold the question whether it is the attempt's turn.
const LONGEST_HOLD: Duration = Duration::from_secs(90);

/// How often the question is asked at most.
const SHORTEST_HOLD: Duration = Duration::from_millis(200);

/// The header with the runner's word of chance, in all requests but `begin`.
pub const RUNNER_HEADER: &str = "x-buildit-runner";

/// The API, as this attempt's runner sees it.
#[derive(Debug)]
pub(super) struct Api<'s> {
    pub(super) client: Client,
    spec: &'s PodSpec,
    authorization: String,
    runner: String,
}

impl<'s> Api<'s> {
    /// `runner` is the word of chance.
    pub(super) fn new(client: Client, spec: &'s PodSpec, runner: String) -> Api<'s> {
        let authorization = format!("Bearer {}", spec.token);
        Api { client, spec, authorization, runner }
    }

    /// Waits for the attempt's turn, however long that takes, and begins it.
    pub(super) fn begin(&self, patience: impl Fn() -> Patience) -> Result<Begun, GivenUp> {
        let mut complaint = String::new();
        loop {
            let asked_at = Instant::now();
            let patience = patience();
            let turn = patience
                .insist(|limit| self.try_to_begin(limit).inspect_err(|failed| complain_anew(failed, &mut complaint)))?;
            if let Some(begun) = turn {
                return Ok(begun);
            }
            // The API holds the question for long; whoever else answers at once is not asked at full speed.
            patience.rest(SHORTEST_HOLD.saturating_sub(asked_at.elapsed()));
        }
    }

    /// `None`: it is not the attempt's turn yet.
    fn try_to_begin(&self, limit: Duration) -> Result<Option<Begun>, Failed> {
        let request = BeginRequest { runner: self.runner.clone() };
        let headers = [("authorization", self.authorization.as_str())];
        let (status, body) = self.client.post(&self.url("begin"), &headers, &request, limit.min(LONGEST_HOLD))?;
        match status {
            202 => Ok(None),
            _ => from_json(&body).map(Some),
        }
    }

    /// Once more, for an attempt that this runner has begun.
    pub(super) fn begin_again(&self, limit: Duration) -> Result<Begun, Failed> {
        let begun = self.try_to_begin(limit)?;
        begun.ok_or_else(|| Failed::Again("the API says that the attempt has not begun".to_owned()))
    }

    /// Tells how the attempt ended.
    pub(super) fn report(&self, report: &Report, patience: &Patience) -> Result<(), GivenUp> {
        patience.insist(|limit| self.post("report", report, limit)).map(drop)
    }

    /// Begins to upload the object `name`.
    pub(super) fn begin_upload(
        &self,
        name: &str,
        content: &UploadRequest,
        limit: Duration,
    ) -> Result<UploadBegun, Failed> {
        from_json(&self.post(&format!("objects/{name}"), content, limit)?)
    }

    /// Where to put a part.
    pub(super) fn part_address(&self, name: &str, part: &PartRequest, limit: Duration) -> Result<String, Failed> {
        let address: PartAddress = from_json(&self.post(&format!("objects/{name}/parts"), part, limit)?)?;
        Ok(address.url)
    }

    /// Makes the object of its parts.
    pub(super) fn complete_upload(&self, name: &str, whole: &CompleteRequest, limit: Duration) -> Result<(), Failed> {
        self.post(&format!("objects/{name}/complete"), whole, limit).map(drop)
    }

    fn post(&self, path: &str, body: &impl serde::Serialize, limit: Duration) -> Result<Vec<u8>, Failed> {
        let headers = [("authorization", self.authorization.as_str()), (RUNNER_HEADER, self.runner.as_str())];
        self.client.post(&self.url(path), &headers, body, limit).map(|(_, body)| body)
    }

    fn url(&self, path: &str) -> String {
        format!("{}/api/v1/attempts/{}/{path}", self.spec.api.trim_end_matches('/'), self.spec.attempt.attempt_id)
    }
}

/// Once for each kind of trouble.
fn complain_anew(failed: &Failed, last: &mut String) {
    let complaint = format!("begin: {failed}");
    if complaint != *last {
        super::complain(&complaint);
        *last = complaint;
    }
}
