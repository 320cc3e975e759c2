//! Objects in a bucket of any S3. Only plain calls of its API: Put, Get, Head, List, Delete, Copy, multipart uploads.

mod bucket;

use std::{fmt, time::Duration};

use futures::TryStreamExt;
use http::{Method, Request, StatusCode, request};
use jiff::Timestamp;
use opendal::{
    Buffer, ErrorKind, HttpTransporter, OperationContext, Operator,
    layers::{RetryEvent, RetryLayer, TimeoutLayer},
    services,
};
use opendal_http_transport_reqwest::ReqwestTransport;
use reqsign_aws_v4::{Credential, DefaultCredentialProvider, RequestSigner};
use reqsign_core::{Context, OsEnv, ProvideCredential, ProvideCredentialChain};
use reqsign_file_read_tokio::TokioFileRead;
use url::Url;

use super::{Error, disposition};
use bucket::Bucket;

/// For requests without a body.
const SHORT: Duration = Duration::from_secs(20);
/// For one part of an object, and for each piece read.
const LONG: Duration = Duration::from_secs(120);
const CONNECT: Duration = Duration::from_secs(5);
/// S3's own limit for a signed address.
const LONGEST_LINK: Duration = Duration::from_secs(7 * 24 * 3600);

/// Where a bucket is.
#[derive(Clone, Debug)]
pub struct S3Settings {
    /// The bucket, which must exist.
    pub bucket: String,
    /// The server; Amazon's of that region without it.
    pub endpoint: Option<Url>,
    /// What requests are signed for.
    pub region: String,
    /// The key; without it the environment's own chain: `AWS_…` variables, profile, web identity, the machine's role.
    pub access_key: Option<AccessKey>,
    /// Whether the bucket is named in the path rather than in the host's name.
    pub path_style: bool,
    /// Put before all keys, without slashes around it; may be empty.
    pub prefix: String,
    /// The server as those see it who are given signed addresses; the endpoint without it.
    pub public_url: Option<Url>,
}

/// A key of S3.
#[derive(Clone)]
pub struct AccessKey {
    /// Its id.
    pub id: String,
    /// Its secret half.
    pub secret: String,
}

impl fmt::Debug for AccessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessKey").field("id", &self.id).finish_non_exhaustive()
    }
}

// Not the library's own provider of a fixed key: it prints the secret to the debug log.
impl ProvideCredential for AccessKey {
    type Credential = Credential;

    async fn provide_credential(&self, _: &Context) -> reqsign_core::Result<Option<Credential>> {
        Ok(Some(Credential {
            access_key_id: self.id.clone(),
            secret_access_key: self.secret.clone(),
            session_token: None,
            expires_in: None,
        }))
    }
}

/// What the operator cannot do: addresses for others, and uploads by them.
pub(in crate::storage) struct S3 {
    /// Names the bucket for people.
    name: String,
    /// As we reach it.
    pub(in crate::storage) own: Bucket,
    /// As those do who are given addresses.
    pub(in crate::storage) public: Bucket,
    signer: reqsign_core::Signer<Credential>,
    transport: HttpTransporter,
}

impl fmt::Debug for S3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3").field("name", &self.name).finish_non_exhaustive()
    }
}

pub(super) fn open(settings: S3Settings) -> Result<(Operator, S3), Error> {
    let endpoint = match &settings.endpoint {
        Some(endpoint) => endpoint.clone(),
        None => format!("https://s3.{}.amazonaws.com", settings.region)
            .parse()
            .map_err(|_| Error::Misconfigured(format!("{:?} is no region of S3", settings.region)))?,
    };
    let client = reqwest::Client::builder()
        .connect_timeout(CONNECT)
        .read_timeout(LONG)
        .build()
        .map_err(|error| Error::Misconfigured(format!("no connection can be made to the object store: {error}")))?;
    let transport = HttpTransporter::new(ReqwestTransport::new(client));
    let mut service = services::S3::default()
        .bucket(&settings.bucket)
        .endpoint(endpoint.as_str().trim_end_matches('/'))
        .region(&settings.region)
        .root(&settings.prefix)
        .credential_provider_chain(credentials(&settings));
    if !settings.path_style {
        service = service.enable_virtual_host_style();
    }
    let operator = Operator::new(service)?
        .with_context(OperationContext::new().with_http_transport(transport.clone()))
        // In this order, so that each try has its own time.
        .layer(TimeoutLayer::new().with_timeout(SHORT).with_io_timeout(LONG))
        .layer(
            RetryLayer::new()
                .with_max_times(3)
                .with_min_delay(Duration::from_millis(200))
                .with_jitter()
                .with_notify(note),
        );
    let context = Context::new().with_file_read(TokioFileRead).with_env(OsEnv).with_http_send(transport.clone());
    let signer = reqsign_core::Signer::new(context, credentials(&settings), RequestSigner::new("s3", &settings.region));
    let bucket = |server| Bucket::new(server, &settings.bucket, settings.path_style, &settings.prefix);
    let s3 = S3 {
        name: format!("bucket {:?} at {endpoint}", settings.bucket),
        own: bucket(&endpoint)?,
        public: bucket(settings.public_url.as_ref().unwrap_or(&endpoint))?,
        signer,
        transport,
    };
    Ok((operator, s3))
}

fn note(event: RetryEvent<'_>) {
    tracing::debug!(error = %event.err, operation = %event.op, "the object store is asked again");
}

fn credentials(settings: &S3Settings) -> ProvideCredentialChain<Credential> {
    match &settings.access_key {
        Some(key) => ProvideCredentialChain::new().push(key.clone()),
        None => ProvideCredentialChain::new().push(DefaultCredentialProvider::builder().build()),
    }
}

impl S3 {
    pub(super) async fn check(&self, operator: &Operator) -> Result<(), Error> {
        let listed = async { operator.lister_with("/").limit(1).await?.try_next().await };
        let error = match listed.await {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        let name = &self.name;
        Err(match error.kind() {
            ErrorKind::ConfigInvalid => Error::Misconfigured(format!("there is no {name}; make it, or name another")),
            ErrorKind::PermissionDenied => Error::Misconfigured(format!(
                "the {name} does not let us in; it takes a key that may list, get, put and delete: {}",
                error.message()
            )),
            _ if error.is_permanent() => Error::Misconfigured(format!("the {name} cannot be used: {error}")),
            _ => Error::Unavailable(error.to_string()),
        })
    }

    pub(super) async fn link(&self, key: &str, expires: Timestamp, filename: Option<&str>) -> Result<Url, Error> {
        let shown = disposition(filename);
        let mut query = vec![("response-content-disposition", shown.as_str())];
        if filename.is_none() {
            query.push(("response-content-type", "text/plain; charset=utf-8"));
        }
        self.sign(Request::builder().method(Method::GET).uri(self.public.object(key, &query)), expires).await
    }

    /// The address of a request that anyone may send until `expires`, with the headers it has here.
    pub(in crate::storage) async fn sign(&self, request: request::Builder, expires: Timestamp) -> Result<Url, Error> {
        let life = expires.duration_since(Timestamp::now());
        let life = Duration::try_from(life).unwrap_or_default().clamp(Duration::from_secs(1), LONGEST_LINK);
        let signed = self.signed(request, (), Some(life)).await?;
        signed.uri().to_string().parse().map_err(|error| self.unsigned(&error))
    }

    /// Sends a request of our own, once.
    pub(in crate::storage) async fn send_signed(
        &self,
        request: request::Builder,
        body: Buffer,
    ) -> Result<(StatusCode, Buffer), Error> {
        let answer = self.transport.send(self.signed(request, body, None).await?).await?;
        Ok((answer.status(), answer.into_body()))
    }

    async fn signed<B>(&self, request: request::Builder, body: B, life: Option<Duration>) -> Result<Request<B>, Error> {
        let (mut parts, body) = request.body(body).map_err(|error| self.unsigned(&error))?.into_parts();
        match self.signer.sign(&mut parts, life).await {
            Ok(()) => Ok(Request::from_parts(parts, body)),
            Err(error) if error.is_retryable() => Err(Error::Unavailable(error.to_string())),
            Err(error) => Err(self.unsigned(&error)),
        }
    }

    fn unsigned(&self, error: &dyn fmt::Display) -> Error {
        Error::Misconfigured(format!("a request to the {} cannot be signed: {error}", self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> S3Settings {
        S3Settings {
            bucket: "ci".into(),
            endpoint: Some("http://minio:9000/".parse().unwrap()),
            region: "us-east-1".into(),
            access_key: Some(AccessKey { id: "me".into(), secret: "hunter2".into() }),
            path_style: true,
            prefix: "a b".into(),
            public_url: Some("https://objects.example".parse().unwrap()),
        }
    }

    #[test]
    fn a_secret_is_not_shown() {
        let shown = format!("{:?}", settings());
        assert!(shown.contains("me") && !shown.contains("hunter2"), "{shown}");
    }

    #[tokio::test]
    async fn a_link_names_the_host_that_others_see_and_says_how_long_it_lasts() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (_, s3) = open(settings()).unwrap();
        let link = s3.link("a/b.log", Timestamp::now() + jiff::SignedDuration::from_mins(5), None).await.unwrap();
        assert_eq!(link.host_str(), Some("objects.example"));
        let query: std::collections::HashMap<_, _> = link.query_pairs().into_owned().collect();
        assert_eq!(query["response-content-disposition"], "inline");
        assert!(["299", "300"].contains(&query["X-Amz-Expires"].as_str()), "{link}");
        assert!(!link.as_str().contains("hunter2"), "{link}");
    }
}
