//! Makes the container of an attempt and starts it, or finds it made.

use bollard::query_parameters::CreateContainerOptionsBuilder;

use super::{
    Container, Error, Handle, Inner, Launch, Pull, State,
    container::{OWNER, container, spec},
    engine::{reason, status},
    pull::is_image_name,
};
use crate::executor::local::blocking;

impl Inner {
    pub(super) async fn start(&self, launch: &Launch) -> Result<Handle, Error> {
        let handle = Handle::new(&launch.spec.attempt_id);
        if self.state(&handle).await? != (State::Absent { begun: false }) {
            return Ok(handle);
        }
        if !is_image_name(&launch.image) {
            return Err(Error::Denied { reason: format!("its image's name is invalid: {:?}", launch.image) });
        }
        if self.settings.pull != Pull::Always && self.make(launch).await? {
            return Ok(handle);
        }
        if self.settings.pull == Pull::Never {
            let reason = format!("its image {} is not on the engine, which is set to pull none", launch.image);
            return Err(Error::Denied { reason });
        }
        self.pull_and_start(launch);
        Ok(handle)
    }

    /// Starts the attempt; false where its image is not there.
    pub(super) async fn make(&self, launch: &Launch) -> Result<bool, Error> {
        let handle = Handle::new(&launch.spec.attempt_id);
        let (place, spec) = (self.place.clone(), spec(launch, self.durable));
        blocking(move || place.prepare(&spec)).await?;
        let Some(image) = self.image(&launch.image).await? else { return Ok(false) };
        let user = image.config.and_then(|config| config.user).unwrap_or_default();
        let runner = self.settings.runner().map_err(|error| Error::Denied { reason: error.to_string() })?;
        let body = container(&self.settings, launch, &self.place, &runner, &user);
        let client = self.engine.client().await?;
        let named = CreateContainerOptionsBuilder::default().name(handle.attempt_id()).build();
        crate::crash_point!("step: before its runner starts");
        match client.create_container(Some(named), body).await {
            Ok(_) => {}
            // It is there: made before a crash, by a call whose answer was lost, or by another worker.
            Err(error) if status(&error) == Some(409) => self.check_ours(&handle).await?,
            Err(error) if status(&error) == Some(404) => return Ok(false),
            Err(error) => match status(&error) {
                // Cleaned meanwhile, which takes the marker first.
                Some(400) if !self.place.folder(&handle)?.path().exists() => return Ok(true),
                Some(400) if reason(&error).contains("bind source path does not exist") => {
                    return Err(Error::Denied { reason: self.elsewhere(&reason(&error)) });
                }
                Some(400) => {
                    return Err(Error::Denied { reason: format!("its container cannot be made: {}", reason(&error)) });
                }
                Some(500..=599) => {
                    return Err(Error::Busy { reason: format!("its container cannot be made: {}", reason(&error)) });
                }
                _ => return Err(self.engine.failed("a container cannot be made", error)),
            },
        }
        crate::crash_point!("step: container made");
        match client.start_container(handle.attempt_id(), None).await {
            // Removed meanwhile, which takes the marker first.
            Err(error) if status(&error) == Some(404) => Ok(true),
            Err(error) => Err(self.not_started(&handle, error).await),
            Ok(()) => Ok(true),
        }
    }

    fn elsewhere(&self, said: &str) -> String {
        format!(
            "the Docker engine at {} does not see this worker's files ({said}); it has to run on the worker's own \
             machine, not on another one or in a virtual one",
            self.engine.address
        )
    }

    /// What the engine says against starting a container that it has made.
    async fn not_started(&self, handle: &Handle, error: bollard::errors::Error) -> Error {
        const NEVER: [&str; 3] = ["exec format error", "no such file or directory", "permission denied"];
        let said = reason(&error);
        match status(&error) {
            Some(400..=599) if NEVER.iter().any(|word| said.contains(word)) => {
                Error::Denied { reason: format!("its container cannot be started: {said}") }
            }
            // Somebody else may have started it meanwhile.
            Some(_) if matches!(self.engine.container(handle.attempt_id()).await, Ok(Container::Running)) => {
                Error::Busy { reason: "its container is being started".into() }
            }
            Some(_) => Error::Busy { reason: format!("its container cannot be started: {said}") },
            None => self.engine.failed("a container cannot be started", error),
        }
    }

    /// A container of that name has to be ours.
    async fn check_ours(&self, handle: &Handle) -> Result<(), Error> {
        let found = match self.engine.client().await?.inspect_container(handle.attempt_id(), None).await {
            Ok(found) => found,
            Err(error) if status(&error) == Some(404) => return Ok(()),
            Err(error) => return Err(self.engine.failed("a container cannot be looked at", error)),
        };
        let labels = found.config.and_then(|config| config.labels).unwrap_or_default();
        if labels.get(OWNER).map(String::as_str) == Some(self.place.owner()) {
            return Ok(());
        }
        let reason = format!("a container named {} is there that is not this installation's", handle.attempt_id());
        Err(Error::Denied { reason })
    }
}
