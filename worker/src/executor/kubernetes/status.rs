//! What a pod's status says about its step: whether it waits, for what, and how it ended without a report.
//!
//! The step's own doing (its memory, its image's name) is told apart from the cluster's.

use buildit_runner::{Report, pod::EXIT_NOT_BEGUN};
use k8s_openapi::api::core::v1::{ContainerState, ContainerStateTerminated, ContainerStatus, Pod, PodStatus};

use super::pod::STEP;
use crate::executor::End;

/// What a pod waits for that may need help.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// No node takes it.
    Unschedulable(String),
    /// An image cannot be pulled; it may come.
    Pull(String),
    /// Its image will never come, and whoever wrote the file has to mend it.
    NoSuchImage(String),
    /// The kubelet cannot make its containers.
    Create(String),
    /// It runs, and its node does not answer.
    Node(String),
}

impl Trouble {
    /// For whoever reads the run.
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Unschedulable(text)
            | Self::Pull(text)
            | Self::NoSuchImage(text)
            | Self::Create(text)
            | Self::Node(text) => text,
        }
    }
}

/// What there is to know about a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Look {
    /// The step's container has been started.
    pub(super) started: bool,
    /// No process of it is left, the kubelet says.
    pub(super) end: Option<End>,
    /// Why it does not get on.
    pub(super) trouble: Option<Trouble>,
}

/// Reads a pod.
pub(super) fn look(pod: &Pod) -> Look {
    let Some(status) = &pod.status else {
        return Look { started: false, end: None, trouble: None };
    };
    let step = container(status.container_statuses.as_deref(), STEP);
    let state = step.and_then(|step| step.state.as_ref());
    let terminated = state.and_then(|state| state.terminated.as_ref());
    let over = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
    let end = match (terminated, over) {
        (Some(terminated), _) => Some(ended(pod, status, terminated)),
        (None, true) => Some(End::Lost { reason: never_started(status) }),
        (None, false) => None,
    };
    let running = state.is_some_and(|state| state.running.is_some());
    let trouble = if end.is_some() { None } else { trouble(status, state, running) };
    Look { started: running || terminated.is_some(), end, trouble }
}

fn container<'a>(statuses: Option<&'a [ContainerStatus]>, name: &str) -> Option<&'a ContainerStatus> {
    statuses?.iter().find(|status| status.name == name)
}

fn ended(pod: &Pod, status: &PodStatus, terminated: &ContainerStateTerminated) -> End {
    let message = terminated.message.as_deref().unwrap_or_default();
    if let Ok(report) = serde_json::from_str::<Report>(message) {
        return End::Reported(Box::new(report));
    }
    let lost = |reason: String| End::Lost { reason };
    let reason = terminated.reason.as_deref().unwrap_or_default();
    let cause = status.message.as_deref().unwrap_or(message);
    match (status.reason.as_deref(), reason, terminated.exit_code) {
        (Some("Evicted"), ..) => lost(format!("its pod was evicted: {cause}")),
        (Some("DeadlineExceeded"), ..) => lost(stopped_by(pod).unwrap_or_default()),
        (_, "OOMKilled", _) => End::Failed {
            reason: "ran out of memory; raise `resources: memory` if it needs more".into(),
            exit_code: Some(137),
        },
        (_, "StartError" | "ContainerCannotRun", _) => lost(format!("its container could not be started: {message}")),
        _ if pod.metadata.deletion_timestamp.is_some() => lost(stopped_by(pod).unwrap_or_default()),
        (Some(why), ..) => lost(format!("its pod ended ({why}): {cause}")),
        (_, _, code) if code == i32::from(EXIT_NOT_BEGUN) => {
            lost("its runner was not let begin: the attempt was over or another pod's".into())
        }
        // Seen now and then for a first process that was killed for memory.
        (_, _, 137) => End::Failed {
            reason: "killed by signal 9 (KILL); most often that means that memory ran out".into(),
            exit_code: Some(137),
        },
        (_, reason, code) => lost(format!("its runner ended with exit code {code} ({reason}) and no report")),
    }
}

/// Why a pod stops that BuildIt did not stop, as far as the cluster has said so.
pub(super) fn stopped_by(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let evicted = |message: &Option<String>| format!("its pod was evicted: {}", message.as_deref().unwrap_or_default());
    if let Some(target) = conditions.iter().find(|it| it.type_ == "DisruptionTarget" && it.status == "True") {
        return Some(evicted(&target.message));
    }
    match status.and_then(|status| status.reason.as_deref()) {
        Some("DeadlineExceeded") => Some("its pod outlived its deadline".into()),
        Some("Evicted") => Some(evicted(&status?.message)),
        _ => pod.metadata.deletion_timestamp.as_ref().map(|_| "its pod was deleted".into()),
    }
}

fn never_started(status: &PodStatus) -> String {
    let cause = status.message.as_deref().unwrap_or_default();
    if let Some(reason) = status.reason.as_deref() {
        return format!("its pod never ran ({reason}): {cause}");
    }
    format!("its pod ended before the step began: {cause}")
}

fn trouble(status: &PodStatus, step: Option<&ContainerState>, running: bool) -> Option<Trouble> {
    let conditions = status.conditions.as_deref().unwrap_or_default();
    let is_false = |name: &str| conditions.iter().find(|it| it.type_ == name && it.status == "False");
    if running {
        return is_false("Ready").map(|_| Trouble::Node("its node does not answer".into()));
    }
    if let Some(condition) = is_false("PodScheduled") {
        let message = condition.message.as_deref().unwrap_or_default();
        return Some(Trouble::Unschedulable(format!("waits for a node: {message}")));
    }
    let waiting = |state: &ContainerState| {
        let waiting = state.waiting.as_ref()?;
        Some((waiting.reason.clone()?, waiting.message.clone().unwrap_or_default()))
    };
    step.and_then(waiting).and_then(|(reason, message)| of_waiting(&reason, message))
}

fn of_waiting(reason: &str, message: String) -> Option<Trouble> {
    match reason {
        "ContainerCreating" | "PodInitializing" => None,
        "InvalidImageName" => Some(Trouble::NoSuchImage(format!("its image's name is invalid: {message}"))),
        "ErrImagePull" | "ImagePullBackOff" | "ErrImageNeverPull" | "ImageInspectError" | "RegistryUnavailable" => {
            let text = format!("its image cannot be pulled: {message}");
            Some(if is_final(reason, &message) { Trouble::NoSuchImage(text) } else { Trouble::Pull(text) })
        }
        reason => Some(Trouble::Create(format!("its containers cannot be made ({reason}): {message}"))),
    }
}

/// Whether a registry answered that there is no such image, or not for us.
fn is_final(reason: &str, message: &str) -> bool {
    const ANSWERS: [&str; 7] = [
        "code = NotFound",
        ": not found",
        "manifest unknown",
        "pull access denied",
        "401 Unauthorized",
        "403 Forbidden",
        "no match for platform",
    ];
    reason == "ErrImageNeverPull" || ANSWERS.iter().any(|answer| message.contains(answer))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(status: Value) -> Pod {
        serde_json::from_value(json!({ "metadata": { "name": "a" }, "status": status })).unwrap()
    }

    fn step(state: Value) -> Value {
        json!([{ "name": "step", "image": "x", "imageID": "", "ready": false, "restartCount": 0, "state": state }])
    }

    #[test]
    fn memory_is_the_steps_own_affair_and_an_eviction_is_not() {
        let killed = json!({ "phase": "Failed", "containerStatuses":
            step(json!({ "terminated": { "exitCode": 0, "reason": "OOMKilled" } })) });
        assert!(matches!(look(&pod(killed)).end, Some(End::Failed { exit_code: Some(137), .. })));
        let evicted = json!({ "phase": "Failed", "reason": "Evicted", "message": "disk pressure", "containerStatuses":
            step(json!({ "terminated": { "exitCode": 137, "reason": "Error" } })) });
        assert_eq!(look(&pod(evicted)).end, Some(End::Lost { reason: "its pod was evicted: disk pressure".into() }));
    }

    #[test]
    fn a_missing_image_is_final_and_a_registry_that_is_away_is_not() {
        let waits = |message: &str| {
            let state = json!({ "waiting": { "reason": "ImagePullBackOff", "message": message } });
            look(&pod(json!({ "phase": "Pending", "containerStatuses": step(state) }))).trouble
        };
        assert!(matches!(waits("rpc error: code = NotFound desc = x"), Some(Trouble::NoSuchImage(_))));
        assert!(matches!(waits("dial tcp: connection refused"), Some(Trouble::Pull(_))));
    }

    #[test]
    fn the_schedulers_own_message_is_told() {
        let status = json!({ "phase": "Pending", "conditions": [
            { "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes: cpu" }] });
        let look = look(&pod(status));
        assert_eq!(look.trouble.unwrap().text(), "waits for a node: 0/1 nodes: cpu");
        assert!(!look.started && look.end.is_none());
    }

    #[test]
    fn a_report_in_the_termination_message_wins() {
        let report = json!({ "attempt_id": "a", "outcome": { "kind": "exited", "code": 3 }, "failed_command": 0,
            "started_at_ms": 1, "first_command_at_ms": 2, "ended_at_ms": 3, "log_len": 0, "log_sha256": "",
            "log_truncated": false, "outputs": null, "artifacts": [], "notes": [] });
        let state = json!({ "terminated": { "exitCode": 3, "reason": "Error", "message": report.to_string() } });
        let look = look(&pod(json!({ "phase": "Failed", "containerStatuses": step(state) })));
        assert!(matches!(look.end, Some(End::Reported(_))));
    }
}
