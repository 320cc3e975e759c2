//! The audit log: who changed what, when and from where. An entry is written in the transaction of the change it tells of.

use jiff::Timestamp;
use serde_json::{Value, json};
use sqlx::PgExecutor;
use uuid::Uuid;

use super::Scope;
use crate::ids::{ApiKeyId, AuditId, OrganizationId, ProjectId, UserId};

/// Longest `before` and `after` that are kept, in bytes of JSON.
const LONGEST: usize = 2000;

/// Who changes something.
#[derive(Clone, Debug)]
pub struct Actor {
    /// The organization that they act in, if any.
    pub organization: Option<OrganizationId>,
    /// The person, if it is one.
    pub user: Option<UserId>,
    /// The key, if it is one.
    pub key: Option<ApiKeyId>,
    /// Who that is, for people.
    pub name: String,
    /// Where the request came from.
    pub address: Option<String>,
}

impl Actor {
    /// Whoever has the database, by a command of this name.
    pub fn command(organization: OrganizationId, name: &str) -> Self {
        Self { organization: Some(organization), user: None, key: None, name: name.to_owned(), address: None }
    }
}

/// What was done.
#[derive(Clone, Debug)]
pub struct Entry {
    action: &'static str,
    subject: String,
    id: Option<Uuid>,
    project: Option<ProjectId>,
    before: Option<Value>,
    after: Option<Value>,
    installation: bool,
}

impl Entry {
    /// `action`, such as `project.updated`, was done to what is called `subject`.
    pub fn new(action: &'static str, subject: impl ToString) -> Self {
        let subject = subject.to_string();
        Self { action, subject, id: None, project: None, before: None, after: None, installation: false }
    }

    /// The id of what it was done to.
    pub fn id(self, id: impl Into<Uuid>) -> Self {
        Self { id: Some(id.into()), ..self }
    }

    /// The project that it is about.
    pub fn project(self, project: ProjectId) -> Self {
        Self { project: Some(project), ..self }
    }

    /// What changed of it, as it was.
    pub fn before(self, before: Value) -> Self {
        Self { before: Some(before), ..self }
    }

    /// What changed of it, as it is now.
    pub fn after(self, after: Value) -> Self {
        Self { after: Some(after), ..self }
    }

    /// It is about the installation, not about the organization of whoever did it.
    pub fn of_installation(self) -> Self {
        Self { installation: true, ..self }
    }
}

/// An entry, as it is read.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its id, later in order than those before it.
    pub id: AuditId,
    /// When.
    pub at: jiff_sqlx::Timestamp,
    /// What was done.
    pub action: String,
    /// Who did it.
    pub actor: String,
    /// The person, if it was one.
    pub user_id: Option<UserId>,
    /// The key, if it was one.
    pub key_id: Option<ApiKeyId>,
    /// From where.
    pub address: Option<String>,
    /// To what.
    pub subject: String,
    /// Its id.
    pub subject_id: Option<Uuid>,
    /// The project it was about.
    pub project_id: Option<ProjectId>,
    /// What changed, as it was.
    pub before: Option<Value>,
    /// What changed, as it is.
    pub after: Option<Value>,
}

/// Which entries.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// The installation's, instead of the organization's.
    pub installation: bool,
    /// Actions that begin so: `project.` or `project.updated`.
    pub action: Option<String>,
    /// By this person.
    pub user: Option<UserId>,
    /// By this key.
    pub key: Option<ApiKeyId>,
    /// About this project.
    pub project: Option<ProjectId>,
    /// About what has this id.
    pub subject: Option<Uuid>,
    /// Not earlier.
    pub since: Option<Timestamp>,
    /// Earlier.
    pub until: Option<Timestamp>,
}

/// Writes an entry.
pub async fn write(db: impl PgExecutor<'_>, actor: &Actor, entry: Entry) -> Result<(), sqlx::Error> {
    let organizations: Vec<Option<Uuid>> =
        vec![actor.organization.filter(|_| !entry.installation).map(OrganizationId::uuid)];
    insert(db, actor, entry, &organizations).await
}

/// Writes an entry about an account, for each organization that its owner is a member of; for the installation, if of none.
pub async fn write_for_members(
    db: impl PgExecutor<'_>,
    actor: &Actor,
    of: &[OrganizationId],
    entry: Entry,
) -> Result<(), sqlx::Error> {
    let mut organizations: Vec<Option<Uuid>> = of.iter().map(|organization| Some(organization.uuid())).collect();
    if organizations.is_empty() {
        organizations.push(None);
    }
    insert(db, actor, entry, &organizations).await
}

async fn insert(
    db: impl PgExecutor<'_>,
    actor: &Actor,
    entry: Entry,
    organizations: &[Option<Uuid>],
) -> Result<(), sqlx::Error> {
    let ids: Vec<Uuid> = organizations.iter().map(|_| AuditId::new().uuid()).collect();
    sqlx::query!(
        r#"
        insert into audit_log (id, organization_id, action, actor, user_id, key_id, address, subject, subject_id,
                               project_id, before, after)
        select i.id, i.organization_id, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12
        from unnest($1::uuid[], $2::uuid[]) as i (id, organization_id)
        "#,
        &ids,
        organizations as &[Option<Uuid>],
        entry.action,
        actor.name,
        actor.user.map(UserId::uuid),
        actor.key.map(ApiKeyId::uuid),
        actor.address,
        entry.subject,
        entry.id,
        entry.project.map(ProjectId::uuid),
        short(entry.before),
        short(entry.after)
    )
    .execute(db)
    .await?;
    Ok(())
}

fn short(value: Option<Value>) -> Option<Value> {
    let bytes = value.as_ref()?.to_string().len();
    if bytes > LONGEST { Some(json!({ "left_out_bytes": bytes })) } else { value }
}

/// How far the clock that ids are made by can be from the database's, in milliseconds: a day.
const SKEW_MS: i64 = 86_400_000;

/// Ids are in the order of time, so that a range of time need not be looked for among all entries.
fn first_id_at(milliseconds: i64) -> Uuid {
    Uuid::from_u128(u128::from(u64::try_from(milliseconds).unwrap_or(0)) << 80)
}

/// Entries, newest first, from `before` on.
pub async fn list(
    db: impl PgExecutor<'_>,
    scope: Scope,
    filter: &Filter,
    before: Option<AuditId>,
    limit: i64,
) -> Result<Vec<Row>, sqlx::Error> {
    let organization = Some(scope.organization.uuid()).filter(|_| !filter.installation);
    sqlx::query_as!(
        Row,
        r#"
        select id as "id: AuditId", at as "at: jiff_sqlx::Timestamp", action, actor, user_id as "user_id: UserId",
               key_id as "key_id: ApiKeyId", address, subject, subject_id, project_id as "project_id: ProjectId",
               before, after
        from audit_log
        where (organization_id = $1 or ($1::uuid is null and organization_id is null))
          and ($2::uuid is null or id < $2)
          and ($3::text is null or starts_with(action, $3))
          and ($4::uuid is null or user_id = $4) and ($5::uuid is null or key_id = $5)
          and ($6::uuid is null or project_id = $6) and ($7::uuid is null or subject_id = $7)
          and ($8::timestamptz is null or at >= $8) and ($9::timestamptz is null or at < $9)
          and ($10::uuid is null or id >= $10) and ($11::uuid is null or id < $11)
        order by id desc limit $12
        "#,
        organization,
        before.map(AuditId::uuid),
        filter.action,
        filter.user.map(UserId::uuid),
        filter.key.map(ApiKeyId::uuid),
        filter.project.map(ProjectId::uuid),
        filter.subject,
        filter.since.map(jiff_sqlx::Timestamp::from) as Option<jiff_sqlx::Timestamp>,
        filter.until.map(jiff_sqlx::Timestamp::from) as Option<jiff_sqlx::Timestamp>,
        filter.since.map(|since| first_id_at(since.as_millisecond() - SKEW_MS)),
        filter.until.map(|until| first_id_at(until.as_millisecond() + SKEW_MS)),
        limit
    )
    .fetch_all(db)
    .await
}
