//! From a secret to the form that asks for a token. Pure.

use penstock_model::Timestamp;
use penstock_model::definition::Auth;
use penstock_model::port::Secret;
use serde::Deserialize;
use serde_json::Value;

use super::{Endpoint, jwt};

/// What the secrets of all grants may hold; what else stands in them is left alone.
#[derive(Deserialize)]
struct Held {
    client_id: String,
    client_secret: Option<String>,
    username: Option<String>,
    private_key: Option<String>,
    refresh_token: Option<String>,
}

const CLIENT: &str = "JSON with client_id and client_secret";
const ASSERTION: &str =
    "JSON with client_id, username and private_key (an RSA key of 2,048 bits or more, as PEM)";
const REFRESH: &str = "JSON with refresh_token, client_id and client_secret";

/// The form of a request for a token, as `application/x-www-form-urlencoded`.
///
/// # Errors
/// What the secret must be, if it is not.
pub(super) fn form(
    auth: &Auth,
    endpoint: &Endpoint,
    secret: &Secret,
    now: Timestamp,
) -> Result<String, &'static str> {
    let held = |wanted| serde_json::from_str::<Held>(secret.expose().trim()).map_err(|_| wanted);
    let mut pairs: Vec<(&str, String)> = Vec::new();
    let oauth = match auth {
        Auth::ClientCredentials(oauth) => {
            let held = held(CLIENT)?;
            pairs.push(("grant_type", "client_credentials".to_owned()));
            pairs.push(("client_id", held.client_id));
            pairs.push(("client_secret", held.client_secret.ok_or(CLIENT)?));
            pairs.extend(oauth.audience.clone().map(|audience| ("audience", audience)));
            oauth
        }
        Auth::JwtBearer(oauth) => {
            let held = held(ASSERTION)?;
            let (username, key) = (held.username.ok_or(ASSERTION)?, held.private_key.ok_or(ASSERTION)?);
            let audience = oauth.audience.as_deref().unwrap_or(&endpoint.audience);
            let claims = jwt::Claims { issuer: &held.client_id, subject: &username, audience };
            let assertion = jwt::sign(claims, &key, now).ok_or(ASSERTION)?;
            pairs.push(("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer".to_owned()));
            pairs.push(("assertion", assertion));
            oauth
        }
        Auth::RefreshToken(oauth) => {
            let held = held(REFRESH)?;
            pairs.push(("grant_type", "refresh_token".to_owned()));
            pairs.push(("client_id", held.client_id));
            pairs.extend(held.client_secret.map(|secret| ("client_secret", secret)));
            pairs.push(("refresh_token", held.refresh_token.ok_or(REFRESH)?));
            pairs.extend(oauth.audience.clone().map(|audience| ("audience", audience)));
            oauth
        }
        Auth::None
        | Auth::Bearer(_)
        | Auth::Basic(_)
        | Auth::Header(_)
        | Auth::Body(_)
        | Auth::Password(_) => {
            return Err("a secret for OAuth");
        }
    };
    pairs.extend(oauth.scope.clone().map(|scope| ("scope", scope)));
    Ok(encoded(&pairs))
}

/// The secret with another refresh token; `None` if it is the same.
pub(super) fn replaced(secret: &Secret, new: &str) -> Option<Secret> {
    let mut held: Value = serde_json::from_str(secret.expose().trim()).ok()?;
    let slot = held.as_object_mut()?.get_mut("refresh_token")?;
    if slot.as_str() == Some(new) {
        return None;
    }
    *slot = Value::from(new);
    Some(Secret::new(held.to_string()))
}

fn encoded(pairs: &[(&str, String)]) -> String {
    // A URL's query is spelt as a form is.
    let Ok(mut url) = reqwest::Url::parse("http://form") else { return String::new() };
    url.query_pairs_mut().extend_pairs(pairs);
    url.query().unwrap_or_default().to_owned()
}
