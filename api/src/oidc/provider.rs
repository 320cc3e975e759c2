//! What a provider says of itself (OpenID Connect Discovery), and a code's exchange for an ID token.

use jsonwebtoken::jwk::Jwk;
use reqwest::RequestBuilder;
use serde::Deserialize;
use serde_json::Value;
use url::{Url, form_urlencoded};

use super::{
    Error, Settings,
    http::{Http, send},
};

/// A provider.
pub(super) struct Provider {
    /// As it writes itself.
    pub(super) issuer: String,
    /// The keys that it signs with.
    pub(super) keys: Vec<Jwk>,
    authorization: Url,
    token: Url,
    /// It takes the client's secret in a form's field and not in a header.
    takes_secret_in_form: bool,
}

#[derive(Deserialize)]
struct Document {
    issuer: String,
    authorization_endpoint: Url,
    token_endpoint: Url,
    jwks_uri: Url,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Keys {
    keys: Vec<Value>,
}

#[derive(Deserialize)]
struct Tokens {
    id_token: String,
}

/// Why a code was not taken, as RFC 6749 has it.
#[derive(Deserialize)]
struct Refusal {
    error: String,
    error_description: Option<String>,
}

/// What of a sign-in goes into the address that a browser is led to.
pub(super) struct Request<'a> {
    pub(super) client_id: &'a str,
    pub(super) redirect_uri: &'a str,
    pub(super) state: &'a str,
    pub(super) nonce: &'a str,
    pub(super) challenge: &'a str,
}

impl Provider {
    /// Asks the provider who it is.
    pub(super) async fn discover(http: &Http, settings: &Settings) -> Result<Self, Error> {
        let wanted = settings.issuer.trim_end_matches('/');
        let address = format!("{wanted}/.well-known/openid-configuration");
        let address = address.parse().map_err(|_| Error::Refused(format!("{address:?} is no address")))?;
        let document: Document = http.get(&address).await?;
        if document.issuer.trim_end_matches('/') != wanted {
            let message = format!("{address} is of {:?}, and not of {:?}", document.issuer, settings.issuer);
            return Err(Error::Refused(message));
        }
        for url in [&document.authorization_endpoint, &document.token_endpoint, &document.jwks_uri] {
            if url.scheme() != "https" && !(settings.is_local() && url.scheme() == "http") {
                return Err(Error::Refused(format!("{address} names {url}, which is not https")));
            }
        }
        let keys: Keys = http.get(&document.jwks_uri).await?;
        let methods = document.token_endpoint_auth_methods_supported.unwrap_or_default();
        let takes = |method: &str| methods.iter().any(|supported| supported == method);
        Ok(Self {
            issuer: document.issuer,
            // Those of kinds that are not known here verify nothing.
            keys: keys.keys.into_iter().filter_map(|key| serde_json::from_value(key).ok()).collect(),
            authorization: document.authorization_endpoint,
            token: document.token_endpoint,
            takes_secret_in_form: takes("client_secret_post") && !takes("client_secret_basic"),
        })
    }

    /// Where a browser is led to.
    pub(super) fn address(&self, request: &Request<'_>) -> Url {
        let mut url = self.authorization.clone();
        url.query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", request.client_id)
            .append_pair("redirect_uri", request.redirect_uri)
            .append_pair("scope", "openid email profile")
            .append_pair("state", request.state)
            .append_pair("nonce", request.nonce)
            .append_pair("code_challenge", request.challenge)
            .append_pair("code_challenge_method", "S256");
        url
    }

    /// The ID token that the provider gives for a code, as it was sent.
    pub(super) async fn exchange(
        &self,
        http: &Http,
        settings: &Settings,
        code: &str,
        verifier: &str,
        redirect_uri: &str,
    ) -> Result<String, Error> {
        let answered = send(self.token_request(http, settings, code, verifier, redirect_uri)).await?;
        if answered.is_success() {
            return Ok(answered.json::<Tokens>(&self.token)?.id_token);
        }
        let refusal: Refusal = answered.json(&self.token)?;
        let description = refusal.error_description.unwrap_or_default();
        Err(Error::Refused(format!("the provider gave no token: {:?} {description:?}", refusal.error)))
    }

    fn token_request(
        &self,
        http: &Http,
        settings: &Settings,
        code: &str,
        verifier: &str,
        redirect_uri: &str,
    ) -> RequestBuilder {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "authorization_code")
            .append_pair("code", code)
            .append_pair("redirect_uri", redirect_uri)
            .append_pair("code_verifier", verifier);
        if self.takes_secret_in_form {
            form.append_pair("client_id", &settings.client_id).append_pair("client_secret", &settings.client_secret);
            return http.post(&self.token, form.finish());
        }
        // As RFC 6749, 2.3.1 has it: each is encoded like a form's value first.
        let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        http.post(&self.token, form.finish())
            .basic_auth(encoded(&settings.client_id), Some(encoded(&settings.client_secret)))
    }
}
