//! The pod of an attempt and its Secret, as they are sent to the cluster.
//!
//! The Secret alone holds what the step is to do, its environment and its secrets. The pod has one container, the
//! step's image with the runner as its first process.

use std::collections::BTreeMap;

use buildit_runner::pod::PodSpec as RunnerSpec;
use buildit_shared::{db::attempts_ahead::Room, pipeline::Resources};
use k8s_openapi::{
    ByteString,
    api::core::v1::{
        Container, EmptyDirVolumeSource, KeyToPath, LocalObjectReference, Pod, PodSecurityContext, PodSpec,
        ResourceRequirements, SeccompProfile, Secret, SecretProjection, SecurityContext, Volume, VolumeMount,
        VolumeProjection,
    },
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{ObjectMeta, OwnerReference},
    },
};

use super::{
    Settings,
    runner::{Parts, START},
};
use crate::executor::{Error, Launch};

/// The container that runs the step.
pub(super) const STEP: &str = "step";
/// Label: whose pods these are.
pub(super) const INSTALLATION: &str = "platform.io/installation";

const RUN: &str = "platform.io/pipeline";
const STEP_LABEL: &str = "platform.io/step";
const PARTS: &str = "/buildit-start";
const BIN: &str = "/buildit";
const ROOT: &str = "/buildit/attempt";
const WORKSPACE: &str = "/workspace";
const SPEC_FILE: &str = "spec.json";
/// What a Secret may hold, in bytes.
const SECRET_LIMIT: usize = 1 << 20;
/// Seconds that a pod may live beyond its step's own time: for its pull, its workspace and its uploads.
const DEADLINE_SPARE: i64 = 2 * 3600;
/// Seconds more for one that waits for its step's turn.
const DEADLINE_AHEAD: i64 = 24 * 3600;
/// Seconds between TERM and KILL when a node shuts down or the pod is deleted by hand.
const GRACE: i64 = 60;

/// The name of the Secret of an attempt's pod.
pub(super) fn secret_name(attempt: &str) -> String {
    format!("step-{attempt}")
}

/// The folder of the pod where the runner keeps its attempt.
pub(super) fn runner_spec(settings: &Settings, launch: &Launch, token: String) -> RunnerSpec {
    let mut attempt = launch.spec.clone();
    attempt.workspace = WORKSPACE.into();
    // The pod is one life of one attempt; its disk is gone with it.
    attempt.durable = false;
    let mut spec = RunnerSpec::new(attempt, settings.api_url.trim_end_matches('/'), token, ROOT);
    spec.ca.clone_from(&settings.ca);
    spec
}

/// The Secret, made before the pod.
pub(super) fn secret(settings: &Settings, launch: &Launch, spec: &RunnerSpec) -> Result<Secret, Error> {
    let text = serde_json::to_vec(spec).map_err(|error| Error::Denied { reason: error.to_string() })?;
    if text.len() > SECRET_LIMIT {
        return Err(Error::Denied {
            reason: format!(
                "its commands, environment and secrets take {} bytes, more than the {SECRET_LIMIT} that a Kubernetes \
                 Secret holds; move scripts into the repository",
                text.len()
            ),
        });
    }
    Ok(Secret {
        metadata: ObjectMeta {
            name: Some(secret_name(&launch.spec.attempt_id)),
            labels: Some(labels(settings, launch)),
            ..ObjectMeta::default()
        },
        immutable: Some(true),
        data: Some([(SPEC_FILE.to_owned(), ByteString(text))].into()),
        ..Secret::default()
    })
}

/// Makes the Secret go with the pod.
pub(super) fn owned_by(pod: &Pod) -> Option<serde_json::Value> {
    let owner = OwnerReference {
        api_version: "v1".into(),
        kind: "Pod".into(),
        name: pod.metadata.name.clone()?,
        uid: pod.metadata.uid.clone()?,
        ..OwnerReference::default()
    };
    Some(serde_json::json!({ "metadata": { "ownerReferences": [owner] } }))
}

/// The pod.
pub(super) fn pod(settings: &Settings, launch: &Launch, parts: &Parts) -> Pod {
    let attempt = &launch.spec.attempt_id;
    let timeout = i64::try_from(launch.spec.timeout_ms / 1000).unwrap_or(i64::MAX);
    let spare = DEADLINE_SPARE + if launch.ahead { DEADLINE_AHEAD } else { 0 };
    let selector = (!settings.node_selector.is_empty()).then(|| settings.node_selector.clone());
    Pod {
        metadata: ObjectMeta {
            name: Some(attempt.clone()),
            labels: Some(labels(settings, launch)),
            ..ObjectMeta::default()
        },
        spec: Some(PodSpec {
            restart_policy: Some("Never".into()),
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            service_account_name: settings.service_account.clone(),
            active_deadline_seconds: Some(timeout.saturating_add(spare)),
            termination_grace_period_seconds: Some(GRACE),
            node_selector: selector,
            tolerations: (!settings.tolerations.is_empty()).then(|| settings.tolerations.clone()),
            image_pull_secrets: (!settings.image_pull_secrets.is_empty()).then(|| {
                settings.image_pull_secrets.iter().map(|name| LocalObjectReference { name: name.clone() }).collect()
            }),
            security_context: Some(PodSecurityContext {
                seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".into(), ..SeccompProfile::default() }),
                ..PodSecurityContext::default()
            }),
            containers: vec![step(settings, launch)],
            volumes: Some(vec![
                // One for both: each is a file system that the kubelet mounts and unmounts by a program.
                Volume {
                    name: "start".into(),
                    projected: Some(parts.volume_with(spec_of(attempt))),
                    ..Volume::default()
                },
                empty_dir("buildit"),
                empty_dir("workspace"),
            ]),
            ..PodSpec::default()
        }),
        ..Pod::default()
    }
}

fn labels(settings: &Settings, launch: &Launch) -> BTreeMap<String, String> {
    let mut labels = settings.labels.clone();
    labels.extend([
        ("app.kubernetes.io/managed-by".to_owned(), "buildit".to_owned()),
        (INSTALLATION.to_owned(), settings.installation.clone()),
        (RUN.to_owned(), launch.run_id.clone()),
        (STEP_LABEL.to_owned(), launch.spec.step.clone()),
    ]);
    labels
}

fn step(settings: &Settings, launch: &Launch) -> Container {
    Container {
        name: STEP.into(),
        image: Some(launch.image.clone()),
        command: Some(vec![
            format!("{PARTS}/{START}"),
            PARTS.into(),
            format!("{BIN}/buildit-runner"),
            "pod".into(),
            format!("{PARTS}/{SPEC_FILE}"),
        ]),
        volume_mounts: Some(vec![
            VolumeMount { read_only: Some(true), ..mount("start", PARTS) },
            mount("buildit", BIN),
            mount("workspace", WORKSPACE),
        ]),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            ..SecurityContext::default()
        }),
        resources: Some(resources(settings, launch.resources)),
        ..Container::default()
    }
}

/// What the pod of a step that asks for this reserves.
pub(super) fn room(settings: &Settings, asked: Resources) -> Room {
    let (cpu, memory) = (settings.default_cpu_millis, settings.default_memory_bytes);
    let (cpu, memory) = (asked.cpu_millis.unwrap_or(cpu), asked.memory_bytes.unwrap_or(memory));
    Room {
        cpu_millis: settings.max_cpu_millis.map_or(cpu, |max| cpu.min(max)),
        memory_bytes: settings.max_memory_bytes.map_or(memory, |max| memory.min(max)),
    }
}

/// What the file asks for is reserved and is the limit; the operator's default cpu is reserved only, so that a lone
/// step may use an idle node.
fn resources(settings: &Settings, asked: Resources) -> ResourceRequirements {
    let cpu = |millis: u64| Quantity(format!("{millis}m"));
    let room = room(settings, asked);
    let memory = Quantity(room.memory_bytes.to_string());
    let mut limits = BTreeMap::from([("memory".to_owned(), memory.clone())]);
    if asked.cpu_millis.is_some() {
        limits.insert("cpu".to_owned(), cpu(room.cpu_millis));
    } else if let Some(most) = settings.max_cpu_millis {
        limits.insert("cpu".to_owned(), cpu(most));
    }
    let requests = BTreeMap::from([("cpu".to_owned(), cpu(room.cpu_millis)), ("memory".to_owned(), memory)]);
    ResourceRequirements { limits: Some(limits), requests: Some(requests), ..ResourceRequirements::default() }
}

/// Where the Secret of this attempt is in its volume.
fn spec_of(attempt: &str) -> VolumeProjection {
    VolumeProjection {
        secret: Some(SecretProjection {
            name: secret_name(attempt),
            items: Some(vec![KeyToPath {
                key: SPEC_FILE.into(),
                path: SPEC_FILE.into(),
                mode: Some(0o444),
                ..KeyToPath::default()
            }]),
            ..SecretProjection::default()
        }),
        ..VolumeProjection::default()
    }
}

fn empty_dir(name: &str) -> Volume {
    Volume { name: name.into(), empty_dir: Some(EmptyDirVolumeSource::default()), ..Volume::default() }
}

fn mount(name: &str, path: &str) -> VolumeMount {
    VolumeMount { name: name.into(), mount_path: path.into(), ..VolumeMount::default() }
}
