//! Pulls images, in the background of whoever waits for the step.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bollard::{
    errors::Error as EngineError,
    models::{CreateImageInfo, ImageInspect},
    query_parameters::CreateImageOptionsBuilder,
};
use futures::StreamExt;
use tokio::{sync::watch, task::AbortHandle};

use super::{
    Error, Handle, Inner, Launch,
    engine::{reason, status},
};

/// Between two tries.
const AGAIN: Duration = Duration::from_secs(5);
/// Between two words about the progress.
const TELL: Duration = Duration::from_secs(1);

/// What is being pulled by this process, by attempt.
#[derive(Clone, Debug, Default)]
pub(super) struct Pulls(Arc<Mutex<HashMap<String, Pull>>>);

/// One attempt's.
#[derive(Clone, Debug)]
pub(super) struct Pull {
    pub(super) said: watch::Receiver<Said>,
    task: AbortHandle,
}

/// How far a pull has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// It goes on; for people.
    Working(String),
    /// The image is there, and the container was started.
    Done,
    /// The image will never come, and whoever wrote the file has to mend it.
    NoSuchImage(String),
    /// It did not come in time.
    GivenUp(String),
    /// The container cannot be made.
    NotStarted(String),
    /// The engine went away.
    Away(String),
}

/// Why an image is not there.
enum NotPulled {
    Never(String),
    NotYet(String),
    Engine(Error),
}

impl Pulls {
    /// The attempt's pull, unless its container was started.
    pub(super) fn get(&self, handle: &Handle) -> Option<Pull> {
        let pull = self.lock().get(handle.attempt_id()).cloned()?;
        let done = *pull.said.borrow() == Said::Done;
        (!done).then_some(pull)
    }

    /// Forgets the attempt's pull, and ends it if it is still at work.
    pub(super) fn end(&self, handle: &Handle) {
        if let Some(pull) = self.lock().remove(handle.attempt_id()) {
            pull.task.abort();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Pull>> {
        // A panic elsewhere leaves the map as good as it was.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// The image, if the engine has it.
    pub(super) async fn image(&self, name: &str) -> Result<Option<ImageInspect>, Error> {
        match self.engine.client().await?.inspect_image(name).await {
            Ok(image) => Ok(Some(image)),
            Err(error) if status(&error) == Some(404) => Ok(None),
            Err(error) => Err(self.engine.failed("an image cannot be looked at", error)),
        }
    }

    /// Pulls the image and starts the attempt, unless that is under way.
    pub(super) fn pull_and_start(&self, launch: &Launch) {
        let id = &launch.spec.attempt_id;
        let mut pulls = self.pulls.lock();
        if pulls.get(id).is_some_and(|pull| !pull.task.is_finished()) {
            return;
        }
        let (say, said) = watch::channel(Said::Working(format!("pulls its image {}", launch.image)));
        let (inner, of) = (self.clone(), launch.clone());
        let task = tokio::spawn(async move {
            let end = inner.pull_until_started(&of, &say).await;
            say.send_replace(end);
        });
        pulls.insert(id.clone(), Pull { said, task: task.abort_handle() });
    }

    async fn pull_until_started(&self, launch: &Launch, say: &watch::Sender<Said>) -> Said {
        let begun = Instant::now();
        let limit = self.settings.pull_limit();
        loop {
            match self.pull(&launch.image, say).await {
                Ok(()) => break,
                Err(NotPulled::Never(why)) => return Said::NoSuchImage(why),
                Err(NotPulled::NotYet(why)) if begun.elapsed() + AGAIN > limit => {
                    return Said::GivenUp(format!("{why}; given up after {} s", begun.elapsed().as_secs()));
                }
                Err(NotPulled::NotYet(why)) => drop(say.send_replace(Said::Working(why))),
                Err(NotPulled::Engine(error)) => return Said::Away(error.to_string()),
            }
            tokio::time::sleep(AGAIN).await;
        }
        match self.make(launch).await {
            Ok(true) => Said::Done,
            Ok(false) => Said::GivenUp(format!("its image {} was removed as soon as it was pulled", launch.image)),
            Err(Error::Away { what, reason }) => Said::Away(format!("{what}: {reason}")),
            Err(error) => Said::NotStarted(error.to_string()),
        }
    }

    async fn pull(&self, image: &str, say: &watch::Sender<Said>) -> Result<(), NotPulled> {
        let client = self.engine.client().await.map_err(NotPulled::Engine)?;
        let options = CreateImageOptionsBuilder::default().from_image(&with_tag(image)).build();
        let mut steps = client.create_image(Some(options), None, self.settings.credentials(image));
        let mut progress = Progress::default();
        let mut told = Instant::now();
        while let Some(step) = steps.next().await {
            match step {
                Ok(step) => progress.add(step),
                Err(error) => return Err(self.not_pulled(image, error)),
            }
            if told.elapsed() >= TELL {
                told = Instant::now();
                say.send_replace(Said::Working(progress.text(image)));
            }
        }
        Ok(())
    }

    fn not_pulled(&self, image: &str, error: EngineError) -> NotPulled {
        let answered = matches!(error, EngineError::DockerStreamError { .. }) || status(&error).is_some();
        if !answered {
            return NotPulled::Engine(self.engine.failed("an image cannot be pulled", error));
        }
        let said = reason(&error);
        match Answer::of(&said) {
            Answer::Missing => NotPulled::Never(format!("its image {image} was not found: {said}")),
            Answer::Denied => NotPulled::Never(format!("its image {image} may not be pulled from here: {said}")),
            Answer::Passing => NotPulled::NotYet(format!("its image {image} cannot be pulled: {said}")),
        }
    }
}

/// What a registry's answer, as the engine words it, comes to.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Missing,
    Denied,
    Passing,
}

impl Answer {
    fn of(said: &str) -> Self {
        const MISSING: [&str; 4] =
            ["manifest unknown", "not found: manifest", "no matching manifest", "repository name not known"];
        const DENIED: [&str; 5] = ["denied", "unauthorized", "401 Unauthorized", "403 Forbidden", "no basic auth"];
        let has = |words: &[&str]| words.iter().any(|word| said.contains(word));
        match (has(&DENIED), has(&MISSING) || said.ends_with(": not found")) {
            (true, _) => Answer::Denied,
            (false, true) => Answer::Missing,
            (false, false) => Answer::Passing,
        }
    }
}

/// A name that says which one of its images, since without it an engine would pull all.
fn with_tag(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    match last.contains([':', '@']) {
        true => image.to_owned(),
        false => format!("{image}:latest"),
    }
}

/// Whether `image` can name one. What cannot must not become part of an address.
pub(super) fn is_image_name(image: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/:@".contains(&byte);
    image.len() <= 512
        && image.bytes().all(known)
        && image.split('/').all(|part| !part.is_empty() && !part.starts_with('.'))
}

/// The bytes of each layer.
#[derive(Default)]
struct Progress(HashMap<String, (i64, i64)>);

impl Progress {
    fn add(&mut self, step: CreateImageInfo) {
        let Some(id) = step.id else { return };
        let downloads = step.status.as_deref() == Some("Downloading");
        let layer = self.0.entry(id).or_default();
        match step.progress_detail.and_then(|detail| Some((detail.current?, detail.total?))) {
            Some(bytes) if downloads => *layer = bytes,
            _ if !downloads => layer.0 = layer.1,
            _ => {}
        }
    }

    fn text(&self, image: &str) -> String {
        let sum = |of: fn(&(i64, i64)) -> i64| self.0.values().map(of).sum::<i64>() / 1_000_000;
        match sum(|layer| layer.1) {
            0 => format!("pulls its image {image}"),
            total => format!("pulls its image {image}: {} of {total} MB", sum(|layer| layer.0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registrys_no_is_told_from_one_that_does_not_answer() {
        for (said, answer) in [
            ("manifest for a:1 not found: manifest unknown: manifest unknown", Answer::Missing),
            ("pull access denied for a, repository does not exist or may require 'docker login'", Answer::Denied),
            ("Get https://r/v2/: unauthorized: authentication required", Answer::Denied),
            ("no matching manifest for linux/arm64 in the manifest list entries", Answer::Missing),
            ("Get https://r/v2/: dial tcp: lookup r: no such host", Answer::Passing),
            ("Get http://r/v2/: dial tcp 10.0.0.1:5000: connect: connection refused", Answer::Passing),
            ("toomanyrequests: You have reached your pull rate limit", Answer::Passing),
        ] {
            assert_eq!(Answer::of(said), answer, "{said}");
        }
    }

    #[test]
    fn one_image_is_pulled_not_all_of_a_name() {
        assert_eq!(with_tag("localhost:5000/a"), "localhost:5000/a:latest");
        assert_eq!(with_tag("a:1"), "a:1");
        assert_eq!(with_tag("b/a@sha256:00"), "b/a@sha256:00");
    }

    #[test]
    fn what_cannot_name_an_image_is_told() {
        for name in ["busybox", "r.example:5000/a/b_c:1.0", "a@sha256:0123"] {
            assert!(is_image_name(name), "{name}");
        }
        for name in ["", "../containers", "a/../b", "a b", "a?b", "a//b", "/a", "a%2fb"] {
            assert!(!is_image_name(name), "{name}");
        }
    }
}
