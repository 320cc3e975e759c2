//! What a provider says of a person, once it is proven that the provider said it, to us, for this sign-in.

use jsonwebtoken::{
    Algorithm, DecodingKey, TokenData, Validation, decode, decode_header, errors::ErrorKind, jwk::PublicKeyUse,
};
use serde::Deserialize;
use serde_json::Value;

use super::{Error, crypto, provider::Provider};

/// Somebody that the provider knows.
#[derive(Debug)]
pub(super) struct Person {
    /// Who vouches for them.
    pub(super) issuer: String,
    /// What it calls them, for as long as it knows them.
    pub(super) subject: String,
    /// Their address, which the provider has verified.
    pub(super) email: Option<String>,
    /// What they are called.
    pub(super) name: Option<String>,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    /// One, or a list.
    aud: Value,
    azp: Option<String>,
    nonce: Option<String>,
    email: Option<String>,
    #[serde(default)]
    email_verified: Value,
    name: Option<String>,
    preferred_username: Option<String>,
}

/// Reads an ID token.
///
/// # Errors
/// [`Error::UnknownKey`] where the provider's keys may have changed; [`Error::Refused`] where the token proves nothing.
pub(super) fn read(token: &str, provider: &Provider, client_id: &str, nonce: &str) -> Result<Person, Error> {
    let claims = verified(token, provider, client_id)?;
    // Others may be named beside us; then it must say that it was made for us.
    let is_for_several = claims.aud.as_array().is_some_and(|all| all.len() > 1);
    let party = claims.azp.as_deref();
    if party.is_some_and(|party| party != client_id) || (is_for_several && party.is_none()) {
        return Err(Error::Refused("the ID token was made for another client".into()));
    }
    if claims.nonce.as_deref() != Some(nonce) {
        return Err(Error::Refused(
            "the ID token is of another sign-in: its nonce is not the one that was sent".into(),
        ));
    }
    if claims.sub.is_empty() || claims.sub.len() > 255 {
        return Err(Error::Refused("the ID token's subject is empty, or longer than 255 bytes".into()));
    }
    // Some write it as a text.
    let is_verified = claims.email_verified == Value::Bool(true) || claims.email_verified == "true";
    let is_address = |email: &String| {
        let email = email.as_str();
        email.len() <= 254
            && email.split_once('@').is_some_and(|(name, host)| !name.is_empty() && !host.is_empty())
            && !email.chars().any(|c| c.is_control() || c.is_whitespace())
    };
    Ok(Person {
        issuer: claims.iss,
        subject: claims.sub,
        email: claims.email.filter(|_| is_verified).filter(is_address).map(|email| email.to_lowercase()),
        name: claims.name.or(claims.preferred_username),
    })
}

/// The claims of a token that one of the provider's keys has signed, for this client, and that has not expired.
fn verified(token: &str, provider: &Provider, client_id: &str) -> Result<Claims, Error> {
    let refused = |error: &dyn std::fmt::Display| Error::Refused(format!("the ID token proves nothing: {error}"));
    let header = decode_header(token).map_err(|error| refused(&error))?;
    if !crypto::is_known(header.alg) {
        return Err(refused(&format!("it is signed by {:?}", header.alg)));
    }
    let validation = validation(header.alg, &provider.issuer, client_id);
    let keys = provider.keys.iter().filter(|key| {
        key.common.public_key_use.as_ref().is_none_or(|of| *of == PublicKeyUse::Signature)
            && (header.kid.is_none() || key.common.key_id == header.kid)
    });
    let mut outcome = Err(Error::UnknownKey);
    for key in keys {
        let Ok(key) = DecodingKey::from_jwk(key) else { continue };
        match decode::<Claims>(token, &key, &validation) {
            Ok(TokenData { claims, .. }) => return Ok(claims),
            // Where the token names no key, it may be another one's.
            Err(error) if matches!(error.kind(), ErrorKind::InvalidSignature) => outcome = Err(refused(&error)),
            Err(error) => return Err(refused(&error)),
        }
    }
    outcome
}

fn validation(algorithm: Algorithm, issuer: &str, client_id: &str) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
    validation.set_issuer(&[issuer]);
    validation.set_audience(&[client_id]);
    validation.validate_nbf = true;
    validation
}
