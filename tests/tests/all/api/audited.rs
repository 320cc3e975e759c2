//! Nothing is changed in silence: each route of the OpenAPI document that can change something is asked once so that it does,
//! and an entry of the audit log has to come of it that tells what, who and from where. A route without a row here fails.

use buildit_shared::{
    db::{identities, welcome_links},
    ids::WorkerId,
    permission::Role,
};
use buildit_tests::api::{Api, PASSWORD, answer};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use uuid::Uuid;

/// What a request leaves in the audit log.
#[derive(Clone, Copy, Debug)]
enum Leaves {
    /// An entry of the organization's.
    Entry(&'static str),
    /// An entry of the installation's.
    OfInstallation(&'static str),
    /// None, and why.
    Nothing(&'static str),
}
use Leaves::{Entry, Nothing, OfInstallation};

const CHECKED_ONLY: &str = "the text is checked and not kept";
const OF_A_RUNNER: &str = "a runner reports about its own attempt; the run's history has it";
const OF_ONE_SESSION: &str = "which organization one's own session looks at; nobody else sees a difference";

const ROUTES: &[(&str, &str, Leaves)] = &[
    ("post", "/api/v1/projects", Entry("project.created")),
    ("patch", "/api/v1/projects/{project}", Entry("project.updated")),
    ("delete", "/api/v1/projects/{project}", Entry("project.deleted")),
    ("post", "/api/v1/projects/{project}/pipelines", Entry("pipeline.created")),
    ("post", "/api/v1/pipelines/validate", Nothing(CHECKED_ONLY)),
    ("patch", "/api/v1/pipelines/{pipeline}", Entry("pipeline.updated")),
    ("delete", "/api/v1/pipelines/{pipeline}", Entry("pipeline.deleted")),
    ("post", "/api/v1/projects/{project}/runs", Entry("run.started")),
    ("post", "/api/v1/projects/{project}/deliveries", Entry("run.started")),
    ("post", "/api/v1/attempts/{attempt}/begin", Nothing(OF_A_RUNNER)),
    ("post", "/api/v1/attempts/{attempt}/objects/{name}", Nothing(OF_A_RUNNER)),
    ("post", "/api/v1/attempts/{attempt}/objects/{name}/parts", Nothing(OF_A_RUNNER)),
    ("post", "/api/v1/attempts/{attempt}/objects/{name}/complete", Nothing(OF_A_RUNNER)),
    ("post", "/api/v1/attempts/{attempt}/objects/artifacts/{name}", Nothing(OF_A_RUNNER)),
    ("post", "/api/v1/attempts/{attempt}/objects/artifacts/{name}/parts", Nothing(OF_A_RUNNER)),
    ("post", "/api/v1/attempts/{attempt}/objects/artifacts/{name}/complete", Nothing(OF_A_RUNNER)),
    ("post", "/api/v1/attempts/{attempt}/report", Nothing(OF_A_RUNNER)),
    ("post", "/api/v1/runs/{run}/cancel", Entry("run.cancelled")),
    ("post", "/api/v1/runs/{run}/retry", Entry("run.retried")),
    ("post", "/api/v1/runs/{run}/rerun", Entry("run.started")),
    ("post", "/api/v1/api-keys", Entry("api_key.created")),
    ("delete", "/api/v1/api-keys/{key}", Entry("api_key.revoked")),
    ("post", "/api/v1/session", Entry("session.opened")),
    ("patch", "/api/v1/session", Nothing(OF_ONE_SESSION)),
    ("delete", "/api/v1/session", Entry("session.ended")),
    ("post", "/api/v1/me/password", Entry("password.changed")),
    ("delete", "/api/v1/sessions/{session}", Entry("session.ended")),
    ("post", "/api/v1/welcome/{token}", Entry("password.chosen")),
    ("post", "/api/v1/me/api-keys", Entry("api_key.created")),
    ("delete", "/api/v1/me/api-keys/{key}", Entry("api_key.revoked")),
    ("put", "/api/v1/projects/{project}/forge", Entry("forge.set")),
    ("delete", "/api/v1/projects/{project}/forge", Entry("forge.removed")),
    ("post", "/api/v1/forges/{hook}", Entry("run.started")),
    ("put", "/api/v1/projects/{project}/forge/statuses", Entry("statuses.set")),
    ("delete", "/api/v1/projects/{project}/forge/statuses", Entry("statuses.removed")),
    ("put", "/api/v1/projects/{project}/credential", Entry("credential.set")),
    ("delete", "/api/v1/projects/{project}/credential", Entry("credential.deleted")),
    ("post", "/api/v1/projects/{project}/schedules", Entry("schedule.added")),
    ("patch", "/api/v1/projects/{project}/schedules/{schedule}", Entry("schedule.paused")),
    ("delete", "/api/v1/projects/{project}/schedules/{schedule}", Entry("schedule.deleted")),
    ("put", "/api/v1/secrets/{secret}", Entry("secret.created")),
    ("delete", "/api/v1/secrets/{secret}", Entry("secret.deleted")),
    ("put", "/api/v1/projects/{project}/secrets/{secret}", Entry("secret.created")),
    ("delete", "/api/v1/projects/{project}/secrets/{secret}", Entry("secret.deleted")),
    ("put", "/api/v1/projects/{project}/environments/{environment}/secrets/{secret}", Entry("secret.created")),
    ("delete", "/api/v1/projects/{project}/environments/{environment}/secrets/{secret}", Entry("secret.deleted")),
    ("delete", "/api/v1/me/identities/{identity}", Entry("identity.unlinked")),
    ("post", "/api/v1/webhooks", Entry("webhook.created")),
    ("patch", "/api/v1/webhooks/{webhook}", Entry("webhook.updated")),
    ("delete", "/api/v1/webhooks/{webhook}", Entry("webhook.deleted")),
    ("post", "/api/v1/webhooks/{webhook}/deliveries/{delivery}/repeat", Entry("webhook.repeated")),
    ("put", "/api/v1/projects/{project}/grants/{user}", Entry("grant.created")),
    ("delete", "/api/v1/projects/{project}/grants/{user}", Entry("grant.deleted")),
    ("patch", "/api/v1/members/{user}", Entry("member.updated")),
    ("delete", "/api/v1/members/{user}", Entry("member.removed")),
    ("post", "/api/v1/invitations", Entry("invitation.created")),
    ("delete", "/api/v1/invitations/{invitation}", Entry("invitation.withdrawn")),
    ("post", "/api/v1/join/{token}", Entry("member.joined")),
    ("post", "/api/v1/fleet/jobs/bulk", OfInstallation("job.discarded")),
    ("post", "/api/v1/fleet/jobs/{job}/retry", OfInstallation("job.retried")),
    ("post", "/api/v1/fleet/jobs/{job}/discard", OfInstallation("job.discarded")),
    ("post", "/api/v1/fleet/jobs/{job}/cancel", OfInstallation("job.cancelled")),
    ("post", "/api/v1/fleet/queues/{queue}/pause", OfInstallation("queue.paused")),
    ("post", "/api/v1/fleet/queues/{queue}/resume", OfInstallation("queue.resumed")),
    ("post", "/api/v1/fleet/workers/{worker}/drain", OfInstallation("worker.drained")),
    ("post", "/api/v1/fleet/workers/{worker}/resume", OfInstallation("worker.resumed")),
    ("post", "/api/projects/{project}/pipelines", Entry("run.started")),
    ("post", "/api/projects/{project}/pipelines/{run}/cancel", Entry("run.cancelled")),
    ("post", "/api/projects/{project}/pipelines/{run}/retry", Entry("run.retried")),
    ("post", "/api/projects/{project}/pipelines/{run}/rerun", Entry("run.started")),
    ("post", "/api/v1/pipelines/{pipeline}/runs", Entry("run.started")),
];

const COMMIT: &str = "1111111111111111111111111111111111111111";
const OWNER: &str = "olga@acme.example";

/// The project, the person and the things of one request; all its own, since some requests end them.
struct Scene<'a> {
    api: &'a Api,
    /// A project's name, and a part of all other names.
    name: String,
    /// Of a person who owns the organization.
    cookie: String,
}

impl Scene<'_> {
    async fn made(&self, method: Method, path: &str, body: Value) -> Value {
        let (status, made) = answer(self.api.request(method.clone(), path).json(&body)).await;
        assert!((200..300).contains(&status), "{method} {path}: {status} {made}");
        made
    }

    async fn post(&self, path: &str, body: Value) -> String {
        let made = self.made(Method::POST, path, body).await;
        made["id"].as_str().map(str::to_owned).unwrap_or_default()
    }

    async fn run(&self) -> String {
        self.post(&format!("/api/v1/projects/{}/runs", self.name), json!({})).await
    }

    async fn ended_run(&self) -> String {
        let run = self.run().await;
        self.post(&format!("/api/v1/runs/{run}/cancel"), json!({})).await;
        run
    }

    /// The one that plans a run.
    async fn job(&self) -> String {
        let run = self.run().await;
        let job: Uuid = sqlx::query_scalar("select id from jobs where run_id = $1")
            .bind(Uuid::parse_str(&run).unwrap())
            .fetch_one(&self.api.database.pool)
            .await
            .unwrap();
        job.to_string()
    }

    async fn pipeline(&self) -> String {
        let body = json!({ "name": "more", "file": "more.yaml" });
        self.post(&format!("/api/v1/projects/{}/pipelines", self.name), body).await
    }

    async fn schedule(&self) -> String {
        self.post(&format!("/api/v1/projects/{}/schedules", self.name), json!({ "cron": "0 3 * * *" })).await
    }

    async fn webhook(&self) -> String {
        self.post("/api/v1/webhooks", json!({ "url": "https://receiver.example/" })).await
    }

    async fn invitation(&self) -> Value {
        let body = json!({ "email": format!("{}@acme.example", self.name), "role": "viewer" });
        self.made(Method::POST, "/api/v1/invitations", body).await
    }

    async fn worker(&self) -> String {
        let id = WorkerId::new();
        sqlx::query(
            "insert into workers (id, host, pid, version, queues, slots) values ($1, 'a', 1, '0.1.0', '{steps}', '{4}')",
        )
        .bind(id)
        .execute(&self.api.database.pool)
        .await
        .unwrap();
        id.to_string()
    }

    fn person(&self, method: &str, path: &str) -> RequestBuilder {
        self.api.as_person(method_of(method), path, &self.cookie)
    }

    /// A request of this route that changes something, and who the log should say asked it.
    async fn request(&self, method: &str, template: &str) -> (RequestBuilder, String) {
        let (api, name) = (self.api, &self.name);
        let under = format!("/api/v1/projects/{name}");
        let mut path = template.replace("{project}", name);
        let mut fill = |field: &str, value: &str| path = path.replace(&format!("{{{field}}}"), value);
        let mut body = json!({});
        match (method, template) {
            ("post", "/api/v1/projects") => {
                body = json!({ "name": format!("{name}-more"), "repository": "https://git.example/a" });
            }
            ("patch", "/api/v1/projects/{project}") => body = json!({ "default_branch": "trunk" }),
            ("post", "/api/v1/projects/{project}/pipelines") => body = json!({ "name": "a", "file": "a.yaml" }),
            ("patch", "/api/v1/pipelines/{pipeline}") => {
                fill("pipeline", &self.pipeline().await);
                body = json!({ "name": "renamed" });
            }
            ("delete", "/api/v1/pipelines/{pipeline}") | ("post", "/api/v1/pipelines/{pipeline}/runs") => {
                fill("pipeline", &self.pipeline().await);
            }
            ("post", "/api/v1/projects/{project}/deliveries") => {
                let (delivery, zero) = (Uuid::now_v7(), "0".repeat(40));
                body = json!({ "delivery": delivery, "ref": "refs/heads/main", "before": zero, "after": COMMIT });
            }
            (_, route) if route.ends_with("{run}/cancel") => fill("run", &self.run().await),
            (_, route) if route.ends_with("{run}/retry") || route.ends_with("{run}/rerun") => {
                fill("run", &self.ended_run().await);
            }
            ("post", "/api/v1/api-keys") => body = json!({ "name": name, "permissions": ["project:read"] }),
            ("delete", "/api/v1/api-keys/{key}") => {
                let body = json!({ "name": name, "permissions": ["project:read"] });
                fill("key", &self.post("/api/v1/api-keys", body).await);
            }
            ("post", "/api/v1/session") => {
                let body = json!({ "email": OWNER, "password": PASSWORD });
                return (api.anonymous(Method::POST, &path).json(&body), OWNER.into());
            }
            ("delete", "/api/v1/session") => return (self.person(method, &path), OWNER.into()),
            ("post", "/api/v1/me/password") => {
                let email = format!("{name}@acme.example");
                let cookie = api.signed_in(&email, Role::Viewer).await;
                let body = json!({ "current": PASSWORD, "new": "another good password" });
                return (api.as_person(Method::POST, &path, &cookie).json(&body), email);
            }
            ("delete", "/api/v1/sessions/{session}") => {
                let (_, sessions) = answer(self.person("get", "/api/v1/sessions")).await;
                fill("session", sessions["items"][0]["id"].as_str().unwrap());
                return (self.person(method, &path), OWNER.into());
            }
            ("post", "/api/v1/welcome/{token}") => {
                let email = format!("{name}@acme.example");
                let user = api.account(&email, Some(Role::Viewer)).await;
                let mut connection = api.database.pool.acquire().await.unwrap();
                fill("token", &welcome_links::create(&mut connection, user).await.unwrap());
                let body = json!({ "password": PASSWORD });
                return (api.anonymous(Method::POST, &path).json(&body), email);
            }
            ("post", "/api/v1/me/api-keys") => {
                let body = json!({ "name": name, "permissions": ["project:read"] });
                return (self.person(method, &path).json(&body), OWNER.into());
            }
            ("delete", "/api/v1/me/api-keys/{key}") => {
                let body = json!({ "name": name, "permissions": ["project:read"] });
                let (_, made) = answer(self.person("post", "/api/v1/me/api-keys").json(&body)).await;
                fill("key", made["id"].as_str().unwrap());
                return (self.person(method, &path), OWNER.into());
            }
            ("delete", "/api/v1/me/identities/{identity}") => {
                let email = format!("{name}@acme.example");
                let cookie = api.signed_in(&email, Role::Viewer).await;
                let user = api.account(&email, None).await;
                identities::link(&api.database.pool, user, "https://id.example", name, &email).await.unwrap();
                let (_, linked) = answer(api.as_person(Method::GET, "/api/v1/me/identities", &cookie)).await;
                fill("identity", linked["items"][0]["id"].as_str().unwrap());
                return (api.as_person(method_of(method), &path, &cookie), email);
            }
            ("put", "/api/v1/projects/{project}/forge") => body = json!({ "forge": "gitea" }),
            ("delete", "/api/v1/projects/{project}/forge") => {
                self.made(Method::PUT, &format!("{under}/forge"), json!({ "forge": "gitea" })).await;
            }
            ("post", "/api/v1/forges/{hook}") => {
                let set = self.made(Method::PUT, &format!("{under}/forge"), json!({ "forge": "gitlab" })).await;
                let called = set["url"].as_str().unwrap().to_owned();
                let message = json!({ "object_kind": "push", "ref": "refs/heads/main", "after": COMMIT });
                let call = api.anonymous(Method::POST, &called).json(&message);
                return (call.header("x-gitlab-token", set["secret"].as_str().unwrap()), "gitlab".into());
            }
            ("put", "/api/v1/projects/{project}/forge/statuses") => body = statuses(),
            ("delete", "/api/v1/projects/{project}/forge/statuses") => {
                self.made(Method::PUT, &format!("{under}/forge/statuses"), statuses()).await;
            }
            ("put", "/api/v1/projects/{project}/credential") => body = json!({ "kind": "token", "token": "a token" }),
            ("delete", "/api/v1/projects/{project}/credential") => {
                let credential = json!({ "kind": "token", "token": "a token" });
                self.made(Method::PUT, &format!("{under}/credential"), credential).await;
            }
            ("post", "/api/v1/projects/{project}/schedules") => body = json!({ "cron": "0 3 * * *" }),
            ("patch", "/api/v1/projects/{project}/schedules/{schedule}") => {
                fill("schedule", &self.schedule().await);
                body = json!({ "paused": true });
            }
            ("delete", "/api/v1/projects/{project}/schedules/{schedule}") => fill("schedule", &self.schedule().await),
            (method, route) if route.ends_with("/secrets/{secret}") => {
                fill("environment", "production");
                fill("secret", "TOKEN");
                body = json!({ "value": "a value" });
                if method == "delete" {
                    self.made(Method::PUT, &path, body.clone()).await;
                }
            }
            ("post", "/api/v1/webhooks") => body = json!({ "url": "https://receiver.example/" }),
            (_, "/api/v1/webhooks/{webhook}") => {
                fill("webhook", &self.webhook().await);
                body = json!({ "active": false });
            }
            ("post", "/api/v1/webhooks/{webhook}/deliveries/{delivery}/repeat") => {
                let webhook = self.webhook().await;
                self.ended_run().await;
                let (_, sent) = api.get(&format!("/api/v1/webhooks/{webhook}/deliveries")).await;
                fill("webhook", &webhook);
                fill("delivery", sent["items"][0]["id"].as_str().unwrap());
            }
            (_, "/api/v1/members/{user}") => {
                let member = api.account(&format!("{name}@acme.example"), Some(Role::Viewer)).await;
                fill("user", &member.to_string());
                body = json!({ "role": "developer" });
            }
            (method, "/api/v1/projects/{project}/grants/{user}") => {
                let member = api.account(&format!("{name}@acme.example"), Some(Role::Viewer)).await;
                fill("user", &member.to_string());
                body = json!({ "role": "developer" });
                if method == "delete" {
                    self.made(Method::PUT, &path, body.clone()).await;
                }
            }
            ("post", "/api/v1/invitations") => {
                body = json!({ "email": format!("{name}@acme.example"), "role": "viewer" });
            }
            ("delete", "/api/v1/invitations/{invitation}") => {
                fill("invitation", self.invitation().await["id"].as_str().unwrap());
            }
            ("post", "/api/v1/join/{token}") => {
                let invited = self.invitation().await;
                fill("token", invited["url"].as_str().unwrap().rsplit('/').next().unwrap());
                let join = api.anonymous(Method::POST, &path).json(&json!({ "name": "Jo", "password": PASSWORD }));
                return (join, format!("{name}@acme.example"));
            }
            ("post", "/api/v1/fleet/jobs/bulk") => body = json!({ "action": "discard", "ids": [self.job().await] }),
            ("post", "/api/v1/fleet/jobs/{job}/retry") => {
                let job = self.job().await;
                self.post(&format!("/api/v1/fleet/jobs/{job}/discard"), json!({})).await;
                fill("job", &job);
            }
            ("post", "/api/v1/fleet/jobs/{job}/discard" | "/api/v1/fleet/jobs/{job}/cancel") => {
                fill("job", &self.job().await);
            }
            ("post", "/api/v1/fleet/queues/{queue}/pause") => fill("queue", name),
            ("post", "/api/v1/fleet/queues/{queue}/resume") => {
                self.post(&format!("/api/v1/fleet/queues/{name}/pause"), json!({})).await;
                fill("queue", name);
            }
            ("post", "/api/v1/fleet/workers/{worker}/drain") => fill("worker", &self.worker().await),
            ("post", "/api/v1/fleet/workers/{worker}/resume") => {
                let worker = self.worker().await;
                self.post(&format!("/api/v1/fleet/workers/{worker}/drain"), json!({})).await;
                fill("worker", &worker);
            }
            // What needs no more than a project, and no body.
            ("delete", "/api/v1/projects/{project}")
            | ("post", "/api/v1/projects/{project}/runs" | "/api/projects/{project}/pipelines") => {}
            _ => panic!("nothing says how {method} {template} changes something"),
        }
        assert!(!path.contains('{'), "nothing is known to fill {path} with");
        (api.request(method_of(method), &path).json(&body), "key all".into())
    }
}

fn statuses() -> Value {
    json!({ "forge": "gitea", "token": "a-token", "api_url": "https://git.example/api/v1", "repository": "team/web" })
}

fn method_of(name: &str) -> Method {
    Method::from_bytes(name.to_uppercase().as_bytes()).unwrap()
}

#[derive(Debug, sqlx::FromRow)]
struct Written {
    organization_id: Option<Uuid>,
    action: String,
    actor: String,
    user_id: Option<Uuid>,
    key_id: Option<Uuid>,
    address: Option<String>,
    subject: String,
}

#[tokio::test]
async fn every_route_that_changes_something_has_a_row_and_every_row_a_route() {
    let api = Api::start().await;
    let (_, document) = answer(api.anonymous(Method::GET, "/api/v1/openapi.json")).await;
    let mut documented: Vec<(String, String)> = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        let changing = item.as_object().unwrap().keys().filter(|method| *method != "get");
        documented.extend(changing.map(|method| (method.clone(), path.clone())));
    }
    let mut known: Vec<_> = ROUTES.iter().map(|(method, path, _)| ((*method).into(), (*path).into())).collect();
    documented.sort();
    known.sort();
    assert_eq!(documented, known);
}

#[tokio::test]
async fn each_change_is_written_down_with_what_who_and_from_where() {
    let api = Api::start().await;
    api.signed_in(OWNER, Role::Owner).await;
    let owner = api.account(OWNER, None).await;
    for (index, (method, path, leaves)) in ROUTES.iter().enumerate() {
        let (action, organization) = match *leaves {
            Entry(action) => (action, Some(api.organization.uuid())),
            OfInstallation(action) => (action, None),
            Nothing(reason) => {
                assert!(!reason.is_empty());
                continue;
            }
        };
        let scene = Scene { api: &api, name: format!("web-{index}"), cookie: api.session(owner).await };
        api.project(&scene.name).await;
        let (request, who) = scene.request(method, path).await;
        let before: i64 =
            sqlx::query_scalar("select count(*) from audit_log").fetch_one(&api.database.pool).await.unwrap();
        let (status, answered) = answer(request).await;
        assert!((200..300).contains(&status), "{method} {path}: {status} {answered}");
        let written: Vec<Written> = sqlx::query_as(
            "select organization_id, action, actor, user_id, key_id, address, subject from audit_log order by id offset $1",
        )
        .bind(before)
        .fetch_all(&api.database.pool)
        .await
        .unwrap();
        assert!(written.iter().any(|entry| entry.action == action), "{method} {path} left {written:?}, not {action}");
        for entry in written {
            let said = format!("{method} {path} left {entry:?}");
            assert_eq!((&entry.actor, entry.address.as_deref()), (&who, Some("127.0.0.1")), "{said}");
            assert_eq!(entry.organization_id, organization, "{said}");
            assert!(entry.user_id.is_some() || entry.key_id.is_some() || who == "gitlab", "{said}");
            assert!(!entry.subject.is_empty(), "{said}");
        }
    }
}

#[tokio::test]
async fn what_an_account_without_an_organization_does_is_the_installations() {
    let api = Api::start().await;
    api.signed_in("ada@acme.example", Role::Viewer).await;
    sqlx::query("delete from org_memberships").execute(&api.database.pool).await.unwrap();
    sqlx::query("delete from audit_log").execute(&api.database.pool).await.unwrap();
    api.sign_in("ada@acme.example").await;
    let (_, log) = api.get("/api/v1/audit?installation=true").await;
    assert_eq!(log["items"][0]["action"], "session.opened", "{log}");
    assert_eq!(log["items"][0]["actor"], "ada@acme.example", "{log}");
}
