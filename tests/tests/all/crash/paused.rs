//! A worker that was only frozen finds that the world went on, and changes nothing; nobody waited for it.

use buildit_tests::{installation::Installation, places};
use futures::StreamExt;
use rustix::process::Signal;

use super::scenario;

/// That many are frozen in one installation.
const GROUP: usize = 5;

#[tokio::test(flavor = "multi_thread")]
async fn wherever_a_worker_freezes_another_ends_its_run_and_it_changes_nothing_when_it_thaws() {
    let places: Vec<&str> = places::ALWAYS.iter().chain(&places::LOCAL).chain(&places::LAST).copied().collect();
    let groups = places.chunks(GROUP).map(freeze_at);
    futures::stream::iter(groups).buffer_unordered(2).collect::<()>().await;
}

async fn freeze_at(places: &[&str]) {
    let installation = Installation::start().await;
    let (mut zombies, mut runs) = (Vec::new(), Vec::new());
    for (n, place) in places.iter().enumerate() {
        let project = scenario::project(&installation, &format!("frozen-{n}")).await;
        let zombie = installation.worker_that_freezes_at(place);
        let run = installation.trigger(&project).await;
        zombie.frozen().await;
        zombies.push(zombie);
        runs.push((project, run));
    }
    let _successor = installation.worker();
    let mut ended = Vec::new();
    for (project, run) in &runs {
        let run = installation.ended(run).await;
        scenario::check(&installation, project, &run).await;
        ended.push(run);
    }

    for zombie in &zombies {
        zombie.signal(Signal::CONT);
    }
    for zombie in &zombies {
        installation.rejoined(zombie).await;
    }
    for ((project, id), before) in runs.iter().zip(ended) {
        let run = installation.run(id).await;
        assert_eq!(run, before, "the run is as it was");
        scenario::check(&installation, project, &run).await;
    }
}
