//! A stream of events that does not break off: whoever asks for the next event gets the one after the last, over however many
//! connections.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    error::Error,
    events::{Event, Events},
    server::Server,
};

/// Between two tries to connect, at first and at most.
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// After so long without an answer it is given up.
const PATIENCE: Duration = Duration::from_secs(600);

/// The events of one address.
pub(super) struct Stream<'s> {
    server: &'s Server,
    path: Vec<String>,
    query: Vec<(&'static str, String)>,
    /// The id of the last event: where the next connection goes on.
    last: Option<String>,
    connection: Option<Events>,
    /// It answered once: from then on it is waited for.
    answered: bool,
    pause: Duration,
    /// Since when nobody answers.
    away_since: Option<Instant>,
}

impl<'s> Stream<'s> {
    /// The events after the one with the id `last`, or from the beginning. Nothing is asked for yet.
    pub(super) fn new(
        server: &'s Server,
        path: &[&str],
        query: Vec<(&'static str, String)>,
        last: Option<String>,
    ) -> Self {
        Self {
            server,
            path: path.iter().map(|&segment| segment.to_owned()).collect(),
            query,
            last,
            connection: None,
            answered: false,
            pause: PAUSE,
            away_since: None,
        }
    }

    /// The next event, waiting for a server that is away. What is the last one, the caller knows.
    ///
    /// # Errors
    /// What will not go by itself; at first also that nobody answers.
    pub(super) async fn next(&mut self) -> Result<Event, Error> {
        loop {
            if let Some(connection) = &mut self.connection {
                if let Some(event) = connection.next().await {
                    if event.id.is_some() {
                        self.last.clone_from(&event.id);
                    }
                    self.pause = PAUSE;
                    return Ok(event);
                }
                self.connection = None;
                self.pause().await;
            }
            match self.connect().await {
                Ok(events) => {
                    self.server.answers();
                    (self.answered, self.away_since) = (true, None);
                    self.connection = Some(events);
                }
                Err(error) if error.is_passing() && self.answered && self.has_patience() => {
                    self.server.says_nothing(&error);
                    self.pause().await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn connect(&self) -> Result<Events, Error> {
        let path: Vec<&str> = self.path.iter().map(String::as_str).collect();
        let query: Vec<(&str, &str)> = self.query.iter().map(|(name, value)| (*name, value.as_str())).collect();
        self.server.stream(&path, &query, self.last.as_deref()).await.map(Events::of)
    }

    fn has_patience(&mut self) -> bool {
        self.away_since.get_or_insert_with(Instant::now).elapsed() < PATIENCE
    }

    async fn pause(&mut self) {
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }
}
