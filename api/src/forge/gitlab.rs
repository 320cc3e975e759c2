//! GitLab's messages.

use buildit_shared::pipeline::MrAction;
use serde::Deserialize;

use super::Event;

#[derive(Deserialize)]
struct Kind {
    #[serde(default)]
    object_kind: String,
}

#[derive(Deserialize)]
struct Push {
    #[serde(rename = "ref")]
    git_ref: String,
    after: String,
}

#[derive(Deserialize)]
struct MergeRequestEvent {
    object_attributes: MergeRequest,
}

#[derive(Deserialize)]
struct MergeRequest {
    iid: i32,
    /// Missing where nothing was done, such as in a test of the hook.
    action: Option<String>,
    /// Only where its commits changed.
    oldrev: Option<String>,
    source_branch: String,
    source_project_id: i64,
    target_project_id: i64,
    last_commit: Commit,
}

#[derive(Deserialize)]
struct Commit {
    id: String,
}

pub(super) fn event(body: &[u8]) -> Result<Event, serde_json::Error> {
    let kind: Kind = serde_json::from_slice(body)?;
    match kind.object_kind.as_str() {
        "push" | "tag_push" => {
            let push: Push = serde_json::from_slice(body)?;
            Ok(Event::Push { git_ref: push.git_ref, after: push.after })
        }
        "merge_request" => {
            let event: MergeRequestEvent = serde_json::from_slice(body)?;
            Ok(merge_request(event.object_attributes))
        }
        _ => Ok(Event::Other),
    }
}

fn merge_request(request: MergeRequest) -> Event {
    let action = match (request.action.as_deref(), &request.oldrev) {
        (Some("open"), _) => MrAction::Opened,
        (Some("update"), Some(_)) => MrAction::Synchronized,
        (Some("reopen"), _) => MrAction::Reopened,
        (Some("close"), _) => MrAction::Closed,
        (Some("merge"), _) => MrAction::Merged,
        _ => return Event::Other,
    };
    Event::MergeRequest {
        number: request.iid,
        action,
        fork: request.source_project_id != request.target_project_id,
        branch: request.source_branch,
        commit: request.last_commit.id,
        git_ref: format!("refs/merge-requests/{}/head", request.iid),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUSH: &str = r#"{"object_kind": "push", "event_name": "push", "ref": "refs/heads/master",
        "before": "95790bf891e76fee5e1747ab589903a6a1f80f22", "after": "da1560886d4f094c3e6c9ef40349f7d38b5d27d7",
        "checkout_sha": "da1560886d4f094c3e6c9ef40349f7d38b5d27d7", "project_id": 15, "total_commits_count": 4}"#;

    fn request(action: &str, more: &str, source: i64) -> String {
        format!(
            r#"{{"object_kind": "merge_request", "event_type": "merge_request", "object_attributes": {{"id": 99, "iid": 1,
                "target_branch": "master", "source_branch": "ms-viewport", "source_project_id": {source},
                "target_project_id": 14, "last_commit": {{"id": "da1560886d4f094c3e6c9ef40349f7d38b5d27d7"}}{more},
                "action": "{action}"}}}}"#
        )
    }

    #[test]
    fn a_push_names_its_ref_and_commit() {
        let commit = "da1560886d4f094c3e6c9ef40349f7d38b5d27d7".to_owned();
        let push = |git_ref: &str| Event::Push { git_ref: git_ref.into(), after: commit.clone() };
        assert_eq!(event(PUSH.as_bytes()).unwrap(), push("refs/heads/master"));
        let tag = PUSH.replace("\"push\",", "\"tag_push\",").replace("heads/master", "tags/v1.0.0");
        assert_eq!(event(tag.as_bytes()).unwrap(), push("refs/tags/v1.0.0"));
        assert_eq!(event(br#"{"object_kind": "note"}"#).unwrap(), Event::Other);
        assert!(event(br#"{"object_kind": "push"}"#).is_err());
    }

    #[test]
    fn a_merge_request_says_what_happened_and_where_it_is_from() {
        let oldrev = r#", "oldrev": "e59094b8de0f2f91abbe4760a52d9137260252d8""#;
        for (action, more, expected) in [
            ("open", "", MrAction::Opened),
            ("update", oldrev, MrAction::Synchronized),
            ("reopen", "", MrAction::Reopened),
            ("close", "", MrAction::Closed),
            ("merge", "", MrAction::Merged),
        ] {
            let read = event(request(action, more, 14).as_bytes()).unwrap();
            let Event::MergeRequest { number: 1, action: read, fork: false, git_ref, .. } = read else {
                panic!("{read:?}");
            };
            assert_eq!((read, git_ref.as_str()), (expected, "refs/merge-requests/1/head"));
        }
        assert_eq!(event(request("update", "", 14).as_bytes()).unwrap(), Event::Other, "a new title");
        assert_eq!(event(request("approved", "", 14).as_bytes()).unwrap(), Event::Other);
        let read = event(request("open", "", 15).as_bytes()).unwrap();
        assert!(matches!(read, Event::MergeRequest { fork: true, .. }), "{read:?}");
    }
}
