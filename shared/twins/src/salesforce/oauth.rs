//! The org's token endpoint: three grants, and refresh tokens that are replaced when they are used.

use axum::http::{HeaderMap, Response, StatusCode, header::CONTENT_TYPE};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use jiff::Timestamp;
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{desk::json_response, form};

/// What the org's app is known by.
pub(super) struct App {
    pub(super) client_id: String,
    pub(super) client_secret: String,
    pub(super) username: String,
    /// The public half of the key that assertions are signed with, as an RSAPublicKey (RFC 8017).
    pub(super) public_key: Option<Vec<u8>>,
    pub(super) refresh_token: String,
    /// Whether a used refresh token is replaced.
    pub(super) rotates: bool,
    /// Refresh tokens given out so far.
    pub(super) rotated: u32,
    /// What answers call the org's address, if not the one that was asked.
    pub(super) instance_url: Option<String>,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: String,
    exp: i64,
}

fn refused(error: &str, description: &str) -> Response<Bytes> {
    json_response(StatusCode::BAD_REQUEST, &json!({"error": error, "error_description": description}))
}

impl App {
    pub(super) fn new() -> Self {
        Self {
            client_id: "twin-app".to_owned(),
            client_secret: "twin-secret".to_owned(),
            username: "twin@example.com".to_owned(),
            public_key: None,
            refresh_token: "twin-refresh-0".to_owned(),
            rotates: false,
            rotated: 0,
            instance_url: None,
        }
    }

    /// Answers a request for a token; gives the access token if one is granted.
    pub(super) fn grant(
        &mut self,
        headers: &HeaderMap,
        body: &[u8],
        now: Timestamp,
        token: &str,
    ) -> Response<Bytes> {
        let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if !kind.starts_with("application/x-www-form-urlencoded") {
            return refused("invalid_request", "the body must be a form");
        }
        let form = form::fields(body);
        let given = |name: &str| form.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let mut answer = json!({
            "access_token": token, "token_type": "Bearer", "scope": "api",
            "id": "https://login.salesforce.com/id/00D000000000001EAA/005000000000001AAA",
            "issued_at": now.as_millisecond().to_string(), "signature": "c2lnbmVkIGJ5IHRoZSB0d2lu",
        });
        let is_client = given("client_id") == Some(&self.client_id)
            && given("client_secret") == Some(&self.client_secret);
        match given("grant_type") {
            Some("client_credentials") if is_client => {}
            Some("client_credentials") => return refused("invalid_client", "invalid client credentials"),
            Some("urn:ietf:params:oauth:grant-type:jwt-bearer") => {
                if let Err(why) = self.check(given("assertion").unwrap_or_default(), now) {
                    return refused("invalid_grant", why);
                }
            }
            Some("refresh_token") if !is_client => {
                return refused("invalid_client", "invalid client credentials");
            }
            Some("refresh_token") if given("refresh_token") != Some(&self.refresh_token) => {
                return refused("invalid_grant", "expired access/refresh token");
            }
            Some("refresh_token") => {
                if self.rotates {
                    self.rotated += 1;
                    self.refresh_token = format!("twin-refresh-{}", self.rotated);
                    if let Some(members) = answer.as_object_mut() {
                        members.insert("refresh_token".to_owned(), json!(self.refresh_token));
                    }
                }
            }
            Some(_) | None => return refused("unsupported_grant_type", "grant type not supported"),
        }
        let host = headers.get("host").and_then(|host| host.to_str().ok()).unwrap_or("twin");
        let address = self.instance_url.clone().unwrap_or_else(|| format!("http://{host}"));
        if let Some(members) = answer.as_object_mut() {
            members.insert("instance_url".to_owned(), Value::from(address));
        }
        json_response(StatusCode::OK, &answer)
    }

    fn check(&self, assertion: &str, now: Timestamp) -> Result<(), &'static str> {
        let (message, signature) = assertion.rsplit_once('.').ok_or("invalid assertion")?;
        let (_, claims) = message.split_once('.').ok_or("invalid assertion")?;
        let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_| "invalid assertion");
        let key = self.public_key.as_deref().ok_or("the app has no certificate")?;
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key)
            .verify(message.as_bytes(), &decode(signature)?)
            .map_err(|_| "invalid assertion")?;
        let claims: Claims = serde_json::from_slice(&decode(claims)?).map_err(|_| "invalid assertion")?;
        let left = claims.exp - now.as_second();
        if claims.iss != self.client_id || claims.sub != self.username {
            return Err("user hasn't approved this consumer");
        }
        if !matches!(claims.aud.as_str(), "https://login.salesforce.com" | "https://test.salesforce.com") {
            return Err("audience is invalid");
        }
        if !(1..=300).contains(&left) {
            return Err("assertion is expired or is good for too long");
        }
        Ok(())
    }
}

/// The RSAPublicKey at the end of a public key in PEM form; nothing if it is none of 2,048 bits.
pub(super) fn rsa_key(pem: &str) -> Option<Vec<u8>> {
    /// What comes before it: the algorithm, and the head of a bit string.
    const HEAD: usize = 24;
    let body = pem.split_once("-----BEGIN PUBLIC KEY-----")?.1.split_once("-----END")?.0;
    let der = STANDARD.decode(body.split_whitespace().collect::<String>()).ok()?;
    (der.len() == 294).then(|| der.get(HEAD..).map(<[u8]>::to_vec))?
}
