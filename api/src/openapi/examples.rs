//! An example for each body of the document, made of its schema and of the words below. Whoever adds a property finds out by
//! the test that it wants a word.

use serde_json::{Map, Value, json};

/// The time of all examples.
const AT: &str = "2026-03-01T09:30:00Z";
const ID: &str = "019cab1e-5a00-7000-8000-000000000001";
const SHA: &str = "5f1d0c7a2b9e4d6f8a0b1c2d3e4f5a6b7c8d9e0f";
const SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Deeper than any schema goes.
const DEEPEST: usize = 12;

/// Makes examples of the schemas of one document.
pub(super) struct Examples<'a> {
    schemas: &'a Map<String, Value>,
    /// Properties without a word, as `Schema.property`.
    pub(super) missing: Vec<String>,
}

impl<'a> Examples<'a> {
    /// Of the schemas among a document's components.
    pub(super) fn new(schemas: &'a Map<String, Value>) -> Self {
        Self { schemas, missing: Vec::new() }
    }

    /// One of a schema that stands in a body.
    pub(super) fn of(&mut self, schema: &Value) -> Value {
        self.value("body", "", schema, 0)
    }

    /// One of what stands at `property` of the schema called `owner`.
    fn value(&mut self, owner: &str, property: &str, schema: &Value, depth: usize) -> Value {
        // A page has its items' schema in place.
        let owner = owner.strip_prefix("Page_").unwrap_or(owner);
        if depth > DEEPEST {
            return Value::Null;
        }
        if let Some(word) = of_schema(owner, property) {
            return word;
        }
        match schema["format"].as_str() {
            Some("uuid") => return json!(ID),
            Some("date-time") => return json!(AT),
            _ => {}
        }
        if let Some(word) = of_any(property) {
            return word;
        }
        if let Some(name) = schema["$ref"].as_str().and_then(|path| path.rsplit('/').next()) {
            if let Some(whole) = whole(name) {
                return whole;
            }
            let found = self.schemas.get(name).cloned().unwrap_or_default();
            return self.value(name, "", &found, depth + 1);
        }
        if let Some(parts) = schema["allOf"].as_array() {
            let parts: Vec<Value> = parts.iter().map(|part| self.value(owner, property, part, depth + 1)).collect();
            let fields = parts.into_iter().filter_map(|part| part.as_object().cloned()).flatten();
            return Value::Object(fields.collect());
        }
        let choices = schema["oneOf"].as_array().or_else(|| schema["anyOf"].as_array());
        if let Some(choice) = choices.and_then(|choices| choices.iter().find(|choice| choice["type"] != "null")) {
            return self.value(owner, property, choice, depth + 1);
        }
        if let Some(first) = schema["enum"].as_array().and_then(|values| values.first()) {
            return first.clone();
        }
        if let Some(properties) = schema["properties"].as_object() {
            let fields = properties.iter().map(|(name, schema)| {
                let value = self.value(owner, name, schema, depth + 1);
                (name.clone(), value)
            });
            return Value::Object(fields.collect());
        }
        if kind(schema) == "array" {
            return Value::Array(vec![self.value(owner, "", &schema["items"], depth + 1)]);
        }
        self.missing.push(format!("{owner}.{property}"));
        Value::Null
    }
}

/// The type of a schema, if it has one besides `null`.
pub(super) fn kind(schema: &Value) -> &str {
    match &schema["type"] {
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).find(|kind| *kind != "null").unwrap_or(""),
        kind => kind.as_str().unwrap_or(""),
    }
}

/// What stands for a schema as a whole: where not all of its properties go together.
fn whole(schema: &str) -> Option<Value> {
    Some(match schema {
        "SetCredential" => json!({ "kind": "token", "token": "glpat-0123456789", "username": "oauth2" }),
        "StartRun" => json!({ "ref": "main", "variables": { "profile": "release" } }),
        "RetryRun" => json!({ "from": "test" }),
        "NewPipeline" => json!({ "name": "docs", "file": "docs.yaml" }),
        "PipelineChanges" => json!({ "name": "docs", "file": "docs/pipeline.yaml" }),
        "Pipeline" => json!({ "id": ID, "project_id": ID, "name": "default", "file": ".platform.yaml", "config": null,
            "created_at": AT }),
        "Completed" => json!({}),
        "Bulk" => json!({ "action": "retry", "filter": { "state": "dead", "kind": "DeliverWebhook" } }),
        "Text" => json!({ "config": "pipeline:\n  steps: []\n", "file": ".platform.yaml" }),
        "Verdict" => {
            json!({ "valid": false, "diagnostics": [{ "rule": "empty_steps", "file": ".platform.yaml", "line": 2,
            "column": 10, "message": "a pipeline needs at least one step", "source_line": "  steps: []", "help": null }] })
        }
        _ => return None,
    })
}

/// What stands at a property of this schema alone.
fn of_schema(schema: &str, property: &str) -> Option<Value> {
    Some(match (schema, property) {
        ("ErrorDetails", "code") => json!("invalid_request"),
        ("ErrorDetails", "message") => json!("name: \"Web\" is no name; use lower-case letters, digits and dashes"),
        ("ErrorDetails", "details") => json!({ "field": "name" }),
        ("Artifact", "name") => json!("test-results"),
        ("Step" | "JobFailure" | "Attempt", "name") => json!("test"),
        ("Secret", "name") => json!("TOKEN"),
        ("Queue", "name") => json!("steps"),
        ("ApiKey" | "NewApiKey" | "CreateApiKey", "name") => json!("nightly report"),
        ("CreateApiKey", "expires_at") => json!("2027-03-01T00:00:00Z"),
        ("Member" | "Grant" | "User" | "Welcome" | "Accept", "name") => json!("Ada"),
        ("WaysIn", "password") => json!(true),
        ("ProviderView", "label") => json!("Acme ID"),
        ("ProviderView", "url") => json!("https://ci.example.org/login/oidc"),
        ("Identity", "issuer") => json!("https://id.example.org/realms/acme"),
        ("MyOrganization", "name") => json!("acme"),
        ("RoleView", "name") => json!("viewer"),
        ("RoleView", "permissions") => json!(["project:read", "deploy:read"]),
        ("Worker", "state") => json!("alive"),
        ("Worker", "queues") => json!({ "pipelines": 4, "steps": 8 }),
        ("Worker", "ended_at" | "drained_at" | "drained_by")
        | ("Queue", "paused_at" | "paused_by" | "paused_reason") => Value::Null,
        ("Queue", "running" | "scheduled" | "workers") => json!(2),
        ("Worker", "jobs") => json!(1),
        ("Job", "state") => json!("dead"),
        ("Job" | "JobFailure", "error") => json!("the object store does not answer"),
        ("Job", "run_at") | ("Pipeline", "config") => Value::Null,
        ("JobFailure", "kind") => json!("failed"),
        ("Skipped", "reason") => json!("there is no such job"),
        ("ForgeView" | "NewForge", "url") => json!(format!("https://ci.example.org/api/v1/forges/{ID}")),
        ("NewForge", "secret") => json!("bif_7Qm3vX9kT2sR8wY5nB4cL6dF1gH0jK3pZ7xV2aE9uM4"),
        ("Invited", "url") => json!("https://ci.example.org/join/bin_7Qm3vX9kT2sR8wY5nB4cL6dF1gH0jK3pZ7xV2aE9uM4"),
        ("Started" | "Run", "url") => json!(format!("https://ci.example.org/runs/{ID}")),
        ("Run", "reason" | "cancel_requested_at" | "diagnostics") => Value::Null,
        ("Run" | "Step" | "Attempt" | "Started", "status") => json!("success"),
        ("Step" | "Attempt", "reason") => Value::Null,
        ("CommitStatus", "status") => json!("success"),
        ("CommitStatus" | "WebhookAttempt", "error") => Value::Null,
        ("WebhookDelivery", "state") | ("Webhook", "last_delivery") => json!("delivered"),
        ("WebhookAttempt", "status") => json!(204),
        ("WebhookDeliveryWithAttempts", "body") => {
            json!("{\"type\":\"build.success\",\"timestamp\":\"2026-03-01T09:30:00Z\",\"data\":{}}")
        }
        ("Webhook" | "CreateWebhook" | "WebhookChanges", "url") => json!("https://receiver.example.org/builds"),
        ("CreateWebhook", "project") => json!("web"),
        ("NewWebhookView", "secret") => json!("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
        ("Download" | "PartAddress", "url") => json!("https://objects.example.org/checkouts/0?signature=0"),
        ("Schedule", "paused_by") => Value::Null,
        ("ArtifactFile", "path") => json!("junit.xml"),
        ("CreateApiKey", "project") => json!("web"),
        ("Delivery", "before") => json!("0000000000000000000000000000000000000000"),
        ("Delivery", "after") => json!(SHA),
        ("Delivery", "ref") => json!("refs/heads/main"),
        ("PasswordChange", "current") => json!("my first password"),
        ("Me", "organizations") => json!([{ "id": ID, "name": "acme", "role": "developer" }]),
        ("CompleteObject", "parts") => json!(["\"9b2cf535f27731c974343645a3985328\""]),
        ("PromiseObject" | "CompleteObject" | "AskForPart", "size") => json!(1024),
        ("PromiseObject", "bytes") => Value::Null,
        ("Credential", "kind") => json!("token"),
        ("Credential", "known_hosts") => Value::Null,
        ("AuditEntry", "subject") => json!("web"),
        ("AuditEntry", "action") => json!("project.updated"),
        ("AuditEntry", "before") => json!({ "default_branch": "main" }),
        ("AuditEntry", "after") => json!({ "default_branch": "trunk" }),
        ("AuditEntry", "key_id") => Value::Null,
        _ => return None,
    })
}

/// What stands at a property of this name, wherever it is.
fn of_any(property: &str) -> Option<Value> {
    Some(match property {
        "email" => json!("ada@example.org"),
        "actor" | "added_by" | "created_by" | "granted_by" | "invited_by" | "set_by" => json!("ada@example.org"),
        "active" | "current" | "exists" | "sent" | "usable" => json!(true),
        "address" => json!("203.0.113.7"),
        "allow_failure" | "cancel_requested" | "drained" | "has_account" | "more" | "paused" => json!(false),
        "answer" => json!("thank you"),
        "api_url" => json!("https://git.example.org/api/v1"),
        "args" => json!({ "v": 1 }),
        "attempt" | "number" | "generation" | "part" | "parts" | "files" | "done" => json!(1),
        "branch" | "default_branch" => json!("main"),
        "commit" | "commit_sha" => json!(SHA),
        "commit_author" => json!("Ada <ada@example.org>"),
        "commit_message" => json!("Say what is wrong with a name"),
        "content_type" => json!("application/xml"),
        "context" => json!("buildit/default"),
        "cron" => json!("0 3 * * 1-5"),
        "new" | "password" => json!("correct horse battery"),
        "deaths" | "exit_code" | "priority" | "ready" => json!(0),
        "depends_on" => json!(["build"]),
        "download_url" => json!("https://objects.example.org/artifacts/0?signature=0"),
        "duration_ms" => json!(1250),
        "ended_last_minute" | "oldest_seconds" => json!(12),
        "environment" => json!("production"),
        "event" => json!("build.success"),
        "events" => json!(["build.success", "build.failure"]),
        "file" => json!(".platform.yaml"),
        "forge" => json!("gitea"),
        "git_ref" | "ref" => json!("refs/heads/main"),
        "host" => json!("worker-1"),
        "image" => json!("rust:1.95-slim"),
        "kind" => json!("RunStep"),
        "known_hosts" => json!("git.example.org ssh-ed25519 AAAA…"),
        "log_length" | "size" => json!(1024),
        "log_ref" => json!(format!("logs/attempts/{ID}.log")),
        "log_url" => json!(format!("https://ci.example.org/api/v1/runs/{ID}/steps/test/logs")),
        "max_attempts" => json!(5),
        "organization_role" => json!("viewer"),
        "name" | "project" => json!("web"),
        "next_cursor" => json!("MDE5Y2FiMWU"),
        "notes" => json!(["nothing matched target/nextest/ of the artifact `test-results`"]),
        "organization" => json!("acme"),
        "part_size" => json!(8_388_608),
        "permissions" => json!(["project:read", "run:trigger"]),
        "pid" => json!(4711),
        "pipeline" => json!("default"),
        "prefix" => json!("bi_7Qm3vX9k"),
        "queue" => json!("steps"),
        "reason" => json!("the registry is being moved"),
        "repository" => json!("https://git.example.org/team/web.git"),
        "role" => json!("developer"),
        "runner" => json!("3f9c1b7ea2d84c60"),
        "sha256" => json!(SHA256),
        "status" => json!("success"),
        "text" => json!("no space left"),
        "timezone" => json!("Europe/Berlin"),
        "token" => json!("bi_7Qm3vX9kT2sR8wY5nB4cL6dF1gH0jK3pZ7xV2aE9uM4"),
        "trigger" => json!("push"),
        "upload" => json!("2~bXktdXBsb2Fk"),
        "user_agent" => json!("Mozilla/5.0"),
        "username" => json!("oauth2"),
        "value" => json!("hunter2-correct-horse"),
        "variables" => json!({ "profile": "release" }),
        "version" => json!("0.1.0"),
        _ => return None,
    })
}
