//! The container of an attempt, as it is sent to the engine.
//!
//! Its first process is the runner. What it is to do lies in the attempt's folder, never in the container's settings,
//! which everybody with access to the engine can read.

use std::{collections::HashMap, path::Path};

use bollard::models::{
    ContainerCreateBody, HealthConfig, HostConfig, HostConfigLogConfig, Mount, MountType, MountVolumeOptions,
};
use buildit_runner::AttemptSpec;
use buildit_shared::pipeline::Resources;

use super::{Settings, place::Place};
use crate::executor::Launch;

/// Label: the folder of the executor whose container it is.
pub(super) const OWNER: &str = "platform.io/folder";

const RUN: &str = "platform.io/pipeline";
const STEP: &str = "platform.io/step";
const ROOT: &str = "/buildit";
const RUNNER: &str = "/buildit-runner";
const FILES: &str = "/buildit-files";
const WORKSPACE: &str = "/workspace";

/// What the runner is told: the paths are those within the container.
pub(super) fn spec(launch: &Launch, durable: bool) -> AttemptSpec {
    let mut spec = launch.spec.clone();
    spec.workspace = WORKSPACE.into();
    spec.durable = durable;
    spec.checkout = spec.checkout.map(|_| format!("{FILES}/checkout").into());
    spec.inputs = (0..spec.inputs.len()).map(|number| format!("{FILES}/{number}").into()).collect();
    spec
}

/// The container. `user` is the image's own.
pub(super) fn container(
    settings: &Settings,
    launch: &Launch,
    place: &Place,
    runner: &Path,
    user: &str,
) -> ContainerCreateBody {
    let attempt = &launch.spec.attempt_id;
    ContainerCreateBody {
        image: Some(launch.image.clone()),
        // The runner keeps the log where the step's own user cannot change it.
        user: Some("0:0".into()),
        entrypoint: Some(vec![RUNNER.into()]),
        cmd: Some(vec!["contained".into(), ROOT.into(), attempt.clone(), user.to_owned()]),
        working_dir: Some("/".into()),
        stop_signal: Some("SIGTERM".into()),
        healthcheck: Some(HealthConfig { test: Some(vec!["NONE".into()]), ..HealthConfig::default() }),
        labels: Some(labels(settings, launch, place)),
        host_config: Some(HostConfig {
            mounts: Some(mounts(launch, place, runner)),
            network_mode: settings.network.clone(),
            security_opt: Some(vec!["no-new-privileges:true".into()]),
            pids_limit: Some(settings.pids_limit),
            // Only the runner's own complaints come this way.
            log_config: Some(HostConfigLogConfig {
                typ: Some("json-file".into()),
                config: Some(
                    [("max-size".to_owned(), "64k".to_owned()), ("max-file".to_owned(), "1".to_owned())].into(),
                ),
            }),
            ..limits(settings, launch.resources)
        }),
        ..ContainerCreateBody::default()
    }
}

fn labels(settings: &Settings, launch: &Launch, place: &Place) -> HashMap<String, String> {
    let mut labels: HashMap<_, _> = settings.labels.clone().into_iter().collect();
    labels.extend([
        (OWNER.to_owned(), place.owner().to_owned()),
        (RUN.to_owned(), launch.run_id.clone()),
        (STEP.to_owned(), launch.spec.step.clone()),
    ]);
    labels
}

fn mounts(launch: &Launch, place: &Place, runner: &Path) -> Vec<Mount> {
    let attempt = &launch.spec.attempt_id;
    let folder = format!("{ROOT}/attempts/{attempt}");
    let mut mounts = vec![
        bind(runner, RUNNER, true),
        bind(place.attempt(attempt).path(), &folder, false),
        bind(&place.mark(attempt).begun(), &format!("{ROOT}/begun"), false),
        volume(WORKSPACE),
        // What a step leaves there goes with the container, whoever owns it.
        volume(&format!("{folder}/home")),
    ];
    mounts.extend(launch.spec.checkout.iter().map(|file| bind(file, &format!("{FILES}/checkout"), true)));
    let inputs = launch.spec.inputs.iter().enumerate();
    mounts.extend(inputs.map(|(number, file)| bind(file, &format!("{FILES}/{number}"), true)));
    mounts
}

fn bind(source: &Path, target: &str, read_only: bool) -> Mount {
    Mount {
        typ: Some(MountType::BIND),
        source: Some(source.to_string_lossy().into_owned()),
        target: Some(target.to_owned()),
        read_only: Some(read_only),
        ..Mount::default()
    }
}

/// One without a name, which goes with its container.
fn volume(target: &str) -> Mount {
    Mount {
        typ: Some(MountType::VOLUME),
        target: Some(target.to_owned()),
        volume_options: Some(MountVolumeOptions { no_copy: Some(true), ..MountVolumeOptions::default() }),
        ..Mount::default()
    }
}

fn limits(settings: &Settings, asked: Resources) -> HostConfig {
    let limit = |asked: Option<u64>, default: Option<u64>, max: Option<u64>| {
        let wanted = asked.or(default).or(max)?;
        i64::try_from(max.map_or(wanted, |max| wanted.min(max))).ok()
    };
    let memory = limit(asked.memory_bytes, settings.default_memory_bytes, settings.max_memory_bytes);
    let cpu = limit(asked.cpu_millis, settings.default_cpu_millis, settings.max_cpu_millis);
    HostConfig {
        memory,
        // As much: no swap on top of it.
        memory_swap: memory,
        nano_cpus: cpu.map(|millis| millis.saturating_mul(1_000_000)),
        ..HostConfig::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_file_asks_for_is_bounded_by_the_operator() {
        let settings = Settings {
            default_memory_bytes: Some(100),
            max_memory_bytes: Some(200),
            max_cpu_millis: Some(500),
            ..Settings::default()
        };
        let asked = |memory_bytes, cpu_millis| {
            let limits = limits(&settings, Resources { memory_bytes, cpu_millis });
            assert_eq!(limits.memory, limits.memory_swap);
            (limits.memory, limits.nano_cpus)
        };
        assert_eq!(asked(None, None), (Some(100), Some(500_000_000)));
        assert_eq!(asked(Some(300), Some(250)), (Some(200), Some(250_000_000)));
        let free = super::limits(&Settings::default(), Resources::default());
        assert_eq!((free.memory, free.nano_cpus), (None, None));
    }

    #[test]
    fn nothing_that_the_step_is_to_do_is_in_the_containers_settings() {
        let mut launch = Launch::from(AttemptSpec::new("a-1", "test"));
        launch.image = "busybox".into();
        launch.spec.commands = vec!["echo hush".into()];
        launch.spec.secrets = vec!["hush-hush".into()];
        launch.spec.environment.insert("TOKEN".into(), "hush-hush".into());
        let place = Place::new("/data/containers".into());
        let body = container(&Settings::default(), &launch, &place, Path::new("/bin/runner"), "");
        let text = serde_json::to_string(&body).unwrap();
        assert!(!text.contains("hush"), "{text}");
        assert!(!text.contains("docker.sock") && !text.contains("Privileged\":true"), "{text}");
    }
}
