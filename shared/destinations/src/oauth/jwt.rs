//! A signed assertion: a JSON Web Token with RS256 (RFC 7519, RFC 7518 section 3.3), by the TLS library's own RSA.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use penstock_model::Timestamp;
use rustls::SignatureScheme;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;

/// An assertion is good for so long. Salesforce takes none that is for more than about five minutes.
const LIVES_S: i64 = 180;

/// What an assertion says.
pub(super) struct Claims<'a> {
    /// The app: its client id.
    pub(super) issuer: &'a str,
    /// The user on whose behalf it asks.
    pub(super) subject: &'a str,
    /// Who is asked.
    pub(super) audience: &'a str,
}

/// The signed token; `None` if the key is no RSA key in PEM form, or too short.
pub(super) fn sign(claims: Claims<'_>, private_key: &str, now: Timestamp) -> Option<String> {
    let key = PrivateKeyDer::from_pem_slice(private_key.trim().as_bytes()).ok()?;
    let key = rustls::crypto::ring::sign::any_supported_type(&key).ok()?;
    // RSASSA-PKCS1-v1_5 with SHA-256 is what RS256 means.
    let signer = key.choose_scheme(&[SignatureScheme::RSA_PKCS1_SHA256])?;
    let expires = now.0.div_euclid(1000) + LIVES_S;
    let claims = serde_json::json!({
        "iss": claims.issuer, "sub": claims.subject, "aud": claims.audience, "exp": expires,
    });
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let message = format!("{}.{}", part(r#"{"alg":"RS256","typ":"JWT"}"#), part(&claims.to_string()));
    let signature = signer.sign(message.as_bytes()).ok()?;
    Some(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
}
