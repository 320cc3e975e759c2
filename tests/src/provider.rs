//! A small provider of OpenID Connect that does what a test says, also what no real one does. It signs by ES256; that others' ways are
//! understood is shown with a real one.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use axum::{
    Form, Json, Router,
    extract::{Query, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Redirect, Response},
    routing::{get, post},
};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use buildit_api::OidcSettings;
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::{net::TcpListener, task::JoinHandle};

const CLIENT: &str = "buildit";
/// Has what a form and a header would take for something else.
pub const CLIENT_SECRET: &str = "a secret:with%20+&signs";

/// A running provider.
#[derive(Debug)]
pub struct Provider {
    /// What it calls itself.
    pub issuer: String,
    shared: Arc<Shared>,
    served: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    issuer: String,
    says: Mutex<Says>,
    /// What each code was given for.
    codes: Mutex<HashMap<String, HashMap<String, String>>>,
}

/// What it says, for the test to change.
#[derive(Debug)]
pub struct Says {
    /// Put over the right claims; null leaves one out.
    pub claims: Value,
    /// The key that it signs with.
    pub signing: Key,
    /// The keys that it publishes.
    pub published: Vec<Key>,
    /// Put over the header of its tokens.
    pub header: Value,
    /// What it answers instead of letting somebody in.
    pub error: Option<&'static str>,
    /// It answers nothing but this.
    pub fails: Option<StatusCode>,
}

/// A pair of keys, of which the public one has a name.
#[derive(Clone, Debug)]
pub struct Key {
    name: &'static str,
    pair: Arc<EcdsaKeyPair>,
}

impl Key {
    /// A new pair.
    pub fn new(name: &'static str) -> Self {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).expect("a key");
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).expect("a key");
        Self { name, pair: Arc::new(pair) }
    }

    fn public(&self) -> Value {
        let (x, y) = self.pair.public_key().as_ref()[1..].split_at(32);
        let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        json!({ "kty": "EC", "crv": "P-256", "kid": self.name, "use": "sig", "alg": "ES256", "x": x, "y": y })
    }

    fn signed(&self, header: &Value, claims: &Value) -> String {
        let encoded = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", encoded(header), encoded(claims));
        let signature = self.pair.sign(&SystemRandom::new(), message.as_bytes()).expect("a signature");
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.served.abort();
    }
}

impl Provider {
    /// One that lets `ada@acme.example` in, whose address it has verified.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let issuer = format!("http://{}", listener.local_addr().expect("its address"));
        let key = Key::new("first");
        let says = Says {
            claims: json!({ "sub": "ada-1", "email": "ada@acme.example", "email_verified": true, "name": "Ada" }),
            published: vec![key.clone()],
            signing: key,
            header: json!({}),
            error: None,
            fails: None,
        };
        let shared =
            Arc::new(Shared { issuer: issuer.clone(), says: Mutex::new(says), codes: Mutex::new(HashMap::new()) });
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(configuration))
            .route("/keys", get(keys))
            .route("/authorize", get(authorize))
            .route("/token", post(token))
            .with_state(Arc::clone(&shared));
        let served = tokio::spawn(async move {
            axum::serve(listener, router).await.expect("it serves");
        });
        Self { issuer, shared, served }
    }

    /// The settings of an installation that people sign in to by it.
    pub fn settings(&self) -> OidcSettings {
        OidcSettings {
            issuer: self.issuer.clone(),
            client_id: CLIENT.into(),
            client_secret: CLIENT_SECRET.into(),
            label: "Acme".into(),
            domains: Vec::new(),
            newcomers: None,
        }
    }

    /// Changes what it says from now on.
    pub fn says(&self, change: impl FnOnce(&mut Says)) {
        change(&mut self.shared.says());
    }
}

impl Shared {
    fn says(&self) -> std::sync::MutexGuard<'_, Says> {
        self.says.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failure(&self) -> Option<Response> {
        self.says().fails.map(IntoResponse::into_response)
    }
}

async fn configuration(State(provider): State<Arc<Shared>>) -> Response {
    if let Some(failure) = provider.failure() {
        return failure;
    }
    let issuer = &provider.issuer;
    Json(json!({
        "issuer": issuer,
        "authorization_endpoint": format!("{issuer}/authorize?realm=acme"),
        "token_endpoint": format!("{issuer}/token"),
        "jwks_uri": format!("{issuer}/keys"),
        "response_types_supported": ["code"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
    }))
    .into_response()
}

async fn keys(State(provider): State<Arc<Shared>>) -> Response {
    let published: Vec<_> = provider.says().published.iter().map(Key::public).collect();
    // Some publish keys of kinds that others do not know.
    let unknown = json!({ "kty": "LATTICE", "kid": "future" });
    let keys = [vec![unknown], published].concat();
    Json(json!({ "keys": keys })).into_response()
}

/// Whoever is led here is known at once.
async fn authorize(State(provider): State<Arc<Shared>>, Query(asked): Query<HashMap<String, String>>) -> Response {
    let right = asked["realm"] == "acme"
        && asked["response_type"] == "code"
        && asked["client_id"] == CLIENT
        && asked["code_challenge_method"] == "S256"
        && asked["scope"].split(' ').any(|scope| scope == "openid");
    if !right {
        return (StatusCode::BAD_REQUEST, format!("{asked:?}")).into_response();
    }
    let (redirect, state) = (asked["redirect_uri"].clone(), asked["state"].clone());
    if let Some(error) = provider.says().error {
        return Redirect::to(&format!("{redirect}?error={error}&state={state}")).into_response();
    }
    let mut codes = provider.codes.lock().unwrap_or_else(PoisonError::into_inner);
    let code = format!("code-{}", codes.len());
    codes.insert(code.clone(), asked);
    Redirect::to(&format!("{redirect}?code={code}&state={state}")).into_response()
}

async fn token(
    State(provider): State<Arc<Shared>>,
    headers: HeaderMap,
    Form(form): Form<HashMap<String, String>>,
) -> Response {
    if let Some(failure) = provider.failure() {
        return failure;
    }
    let refused = |error: &str| (StatusCode::BAD_REQUEST, Json(json!({ "error": error }))).into_response();
    if headers.get("authorization").and_then(|header| header.to_str().ok()) != Some(&credentials()) {
        return refused("invalid_client");
    }
    let code = provider.codes.lock().unwrap_or_else(PoisonError::into_inner).remove(&form["code"]);
    let Some(asked) = code else { return refused("invalid_grant") };
    let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(&form["code_verifier"]));
    if asked["code_challenge"] != challenge || asked["redirect_uri"] != form["redirect_uri"] {
        return refused("invalid_grant");
    }
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a time").as_secs();
    let says = provider.says();
    let mut claims =
        json!({ "iss": provider.issuer, "aud": CLIENT, "exp": now + 300, "iat": now, "nonce": asked["nonce"] });
    let mut header = json!({ "alg": "ES256", "typ": "JWT", "kid": says.signing.name });
    put_over(&mut claims, &says.claims);
    put_over(&mut header, &says.header);
    let id_token = says.signing.signed(&header, &claims);
    Json(json!({ "access_token": "unused", "token_type": "Bearer", "id_token": id_token })).into_response()
}

fn put_over(right: &mut Value, over: &Value) {
    let right = right.as_object_mut().expect("an object");
    for (name, value) in over.as_object().expect("an object") {
        match value {
            Value::Null => right.remove(name),
            value => right.insert(name.clone(), value.clone()),
        };
    }
}

/// As RFC 6749 has it: encoded like a form's values first.
fn credentials() -> String {
    let encoded = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    format!("Basic {}", STANDARD.encode(format!("{}:{}", encoded(CLIENT), encoded(CLIENT_SECRET))))
}
