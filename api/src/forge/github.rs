//! GitHub's messages, and those of Gitea and Forgejo, which are alike where we read them.

use buildit_shared::pipeline::MrAction;
use serde::Deserialize;

use super::Event;

#[derive(Deserialize)]
struct Push {
    #[serde(rename = "ref")]
    git_ref: String,
    after: String,
}

#[derive(Deserialize)]
struct PullRequestEvent {
    action: String,
    number: i32,
    pull_request: PullRequest,
}

#[derive(Deserialize)]
struct PullRequest {
    #[serde(default)]
    merged: bool,
    head: End,
    base: End,
}

#[derive(Deserialize)]
struct End {
    #[serde(rename = "ref")]
    branch: String,
    sha: String,
    /// Null where the repository is gone.
    repo: Option<Repository>,
}

#[derive(Deserialize)]
struct Repository {
    id: i64,
}

pub(super) fn event(name: &str, body: &[u8]) -> Result<Event, serde_json::Error> {
    match name {
        "push" => {
            let push: Push = serde_json::from_slice(body)?;
            Ok(Event::Push { git_ref: push.git_ref, after: push.after })
        }
        "pull_request" => Ok(pull_request(serde_json::from_slice(body)?)),
        _ => Ok(Event::Other),
    }
}

fn pull_request(event: PullRequestEvent) -> Event {
    let request = event.pull_request;
    let action = match event.action.as_str() {
        "opened" => MrAction::Opened,
        "synchronize" | "synchronized" => MrAction::Synchronized,
        "reopened" => MrAction::Reopened,
        "closed" if request.merged => MrAction::Merged,
        "closed" => MrAction::Closed,
        _ => return Event::Other,
    };
    let id = |end: &End| end.repo.as_ref().map(|repository| repository.id);
    Event::MergeRequest {
        number: event.number,
        action,
        fork: id(&request.head).is_none() || id(&request.head) != id(&request.base),
        branch: request.head.branch,
        commit: request.head.sha,
        git_ref: format!("refs/pull/{}/head", event.number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUSH: &str = r#"{"ref": "refs/heads/main", "before": "6113728f27ae82c7b1a177c8d03f9e96e0adf246",
        "after": "59b20b8d5c6ff8d09518454d4dd8b7b30f095ab5", "created": false, "deleted": false, "forced": false,
        "repository": {"id": 186853002, "full_name": "Codertocat/Hello-World"}, "pusher": {"name": "Codertocat"}}"#;

    fn request(action: &str, merged: bool, head: &str) -> String {
        format!(
            r#"{{"action": "{action}", "number": 2, "pull_request": {{"id": 279147437, "merged": {merged},
                "head": {{"ref": "changes", "sha": "ec26c3e57ca3a959ca5aad62de7213c562f8c821", "repo": {head}}},
                "base": {{"ref": "master", "sha": "f95f852bd8fca8fcc58a9a2d6c842781e32a215e", "repo": {{"id": 1}}}}}},
                "repository": {{"id": 1}}}}"#
        )
    }

    #[test]
    fn a_push_names_its_ref_and_commit() {
        let commit = "59b20b8d5c6ff8d09518454d4dd8b7b30f095ab5".to_owned();
        let push = Event::Push { git_ref: "refs/heads/main".into(), after: commit };
        assert_eq!(event("push", PUSH.as_bytes()).unwrap(), push);
        assert!(event("push", b"{}").is_err());
        assert_eq!(event("ping", br#"{"zen": "Keep it logically awesome."}"#).unwrap(), Event::Other);
    }

    #[test]
    fn a_pull_request_says_what_happened_and_where_it_is_from() {
        for (action, merged, expected) in [
            ("opened", false, MrAction::Opened),
            ("synchronize", false, MrAction::Synchronized),
            ("synchronized", false, MrAction::Synchronized),
            ("reopened", false, MrAction::Reopened),
            ("closed", false, MrAction::Closed),
            ("closed", true, MrAction::Merged),
        ] {
            let read = event("pull_request", request(action, merged, r#"{"id": 1}"#).as_bytes()).unwrap();
            let Event::MergeRequest { number: 2, action: read, fork: false, git_ref, .. } = read else {
                panic!("{read:?}");
            };
            assert_eq!((read, git_ref.as_str()), (expected, "refs/pull/2/head"));
        }
        for elsewhere in [r#"{"id": 3}"#, "null"] {
            let read = event("pull_request", request("opened", false, elsewhere).as_bytes()).unwrap();
            assert!(matches!(read, Event::MergeRequest { fork: true, .. }), "{read:?}");
        }
        let labeled = request("labeled", false, "null");
        assert_eq!(event("pull_request", labeled.as_bytes()).unwrap(), Event::Other);
    }
}
