//! `DeliverWebhook`: tell one receiver of one run's end, by the Standard Webhooks convention.
//!
//! What arrives at least once carries the same id and body each time. Who does not take it is asked again for a day; then the
//! delivery is `failed`, which is the receiver's doing and no dead job.

use std::{sync::Arc, time::Instant};

use buildit_shared::{
    db::webhooks::{self, DeliveryState, Outcome, ToSend},
    ids::DeliveryId,
    jobs::DeliverWebhook,
    queue::{Claim, Ended, JobError},
    webhook,
};
use serde_json::json;
use url::Url;

use super::{
    Context,
    outgoing::{answer_to, wait_after},
};
use crate::crash_point;

pub(super) async fn run(cx: Arc<Context>, claim: Arc<Claim>, args: DeliverWebhook) -> Result<Ended, JobError> {
    let id = args.delivery_id;
    let Some(message) = webhooks::to_send(&cx.pool, id).await? else { return Ok(claim.complete_alone(&[]).await?) };
    let body = match &message.body {
        Some(body) => body.clone(),
        None => match webhooks::keep_body(&cx.pool, id, &body(&cx, &message)).await? {
            Some(body) => body,
            None => return Ok(claim.complete_alone(&[]).await?),
        },
    };
    claim.may_act().await?;
    let began = Instant::now();
    let answer =
        if message.active { send(&cx, id, &message, &body).await } else { Err("the webhook is switched off".into()) };
    crash_point!("webhook: sent, not noted");
    let outcome = Outcome { duration_ms: i32::try_from(began.elapsed().as_millis()).unwrap_or(i32::MAX), answer };
    let taken = matches!(outcome.answer, Ok((200..300, _)));
    let wait = wait_after(claim.job.attempt).filter(|_| !taken && message.active);
    if let Some(wait) = wait {
        webhooks::note_attempt(&cx.pool, id, &outcome, DeliveryState::Pending).await?;
        let said = match &outcome.answer {
            Ok((status, _)) => format!("the receiver answered {status}"),
            Err(error) => error.clone(),
        };
        return Err(JobError::Retry { message: said, after: Some(wait) });
    }
    let state = if taken { DeliveryState::Delivered } else { DeliveryState::Failed };
    let mut tx = cx.pool.begin().await?;
    webhooks::note_attempt(&mut *tx, id, &outcome, state).await?;
    Ok(claim.complete(tx, &[]).await?)
}

fn body(cx: &Context, message: &ToSend) -> String {
    let mut data = message.data.clone();
    if let Some(run) = data.get_mut("run").and_then(|run| run.as_object_mut()) {
        let id = run.get("id").and_then(|id| id.as_str()).unwrap_or_default();
        let url = format!("{}/runs/{id}", cx.public_url.as_str().trim_end_matches('/'));
        run.insert("url".into(), url.into());
    }
    json!({ "type": message.event, "timestamp": message.created_at.to_jiff(), "data": data }).to_string()
}

/// The status and the first bytes of the answer, or why there was none.
async fn send(cx: &Context, id: DeliveryId, message: &ToSend, body: &str) -> Result<(u16, String), String> {
    let vault = cx.vault.as_ref().ok_or("this worker has no key to open what webhooks sign with (`secrets_key`)")?;
    let secret = message.secret(vault).map_err(|error| format!("what it signs with cannot be opened: {error}"))?;
    let url = Url::parse(&message.url).map_err(|error| format!("{} is no address: {error}", message.url))?;
    let now = jiff::Timestamp::now().as_second();
    let signature = webhook::signature(&secret, &id.to_string(), now, body).ok_or("what it signs with is no secret")?;
    let request = cx
        .egress
        .post(&url)
        .map_err(|refused| refused.to_string())?
        .header("content-type", "application/json")
        .header("webhook-id", id.to_string())
        .header("webhook-timestamp", now.to_string())
        .header("webhook-signature", signature)
        .body(body.to_owned());
    answer_to(request).await
}
