//! The credential: fetched once, fetched afresh once it is refused. An access token is renewed before it expires, too.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use penstock_model::definition::{Auth, SecretRef};
use penstock_model::port::{Freshness, Secret};
use penstock_model::{Failure, FailureName};
use serde::Deserialize;
use tokio::sync::Mutex;

use super::transport::{HeaderName, HeaderValue};
use crate::Parts;
use crate::oauth::{Endpoint, Token};

/// In place of a header's name, for a credential that goes into the body where that says `$secret`. No such header is ever sent.
pub(super) const IN_BODY: HeaderName = HeaderName::from_static("penstock-secret-in-body");

/// How to sign in at one account. Its Debug form shows the reference only.
#[derive(Debug)]
pub(crate) struct SignIn {
    auth: Auth,
    connector: String,
    /// Where access tokens are had, if they are how to sign in.
    endpoint: Option<Endpoint>,
    current: Mutex<Option<Credential>>,
}

/// The header with a credential, and which fetch it is of.
#[derive(Debug, Clone)]
pub(crate) struct Credential {
    pub(crate) generation: u64,
    pub(crate) header: Option<(HeaderName, HeaderValue)>,
    /// The access token, if it is one.
    pub(crate) token: Option<Token>,
    fresh: bool,
    proven: bool,
}

impl SignIn {
    pub(crate) fn new(auth: Auth, connector: String, endpoint: Option<Endpoint>) -> Self {
        Self { auth, connector, endpoint, current: Mutex::new(None) }
    }

    /// The credential to send with.
    ///
    /// # Errors
    /// [`FailureName::SecretsUnavailable`], or [`FailureName::DestinationUnauthorized`] if there is no such secret or it is
    /// not of the form that this way to sign in takes; what [`Tokens::token`](crate::oauth::Tokens::token) fails with.
    pub(crate) async fn credential(&self, parts: &Parts) -> Result<Credential, Failure> {
        let mut current = self.current.lock().await;
        let now = parts.clock.now();
        let expires = |credential: &Credential| credential.token.as_ref().and_then(|token| token.good_until);
        let generation = match &*current {
            Some(credential) if expires(credential).is_none_or(|until| now < until) => {
                return Ok(credential.clone());
            }
            Some(expired) => expired.generation + 1,
            None => 0,
        };
        let (header, token) = self.fetch(parts, Freshness::Cached, None).await?;
        let credential = Credential { generation, header, token, fresh: false, proven: false };
        *current = Some(credential.clone());
        Ok(credential)
    }

    /// The destination took a request with this credential.
    pub(crate) async fn proven(&self, generation: u64) {
        if let Some(credential) = &mut *self.current.lock().await
            && credential.generation == generation
        {
            credential.proven = true;
        }
    }

    /// The destination refused this credential: makes sure that a newer one is there.
    ///
    /// # Errors
    /// [`FailureName::DestinationUnauthorized`] if it was fetched afresh already and never taken, and what
    /// [`credential`](Self::credential) fails with.
    pub(crate) async fn refused(&self, generation: u64, parts: &Parts) -> Result<(), Failure> {
        let mut current = self.current.lock().await;
        let Some(credential) = &mut *current else { return Ok(()) };
        if credential.generation != generation {
            return Ok(());
        }
        if self.auth.secret().is_none() || (credential.fresh && !credential.proven) {
            return Err(self.unauthorized());
        }
        tracing::warn!(connector = self.connector, "the credential was refused and is fetched afresh");
        let refused = credential.token.as_ref().map(|token| token.access.clone());
        let (header, token) = self.fetch(parts, Freshness::Fresh, refused.as_ref()).await?;
        *credential = Credential { generation: generation + 1, header, token, fresh: true, proven: false };
        Ok(())
    }

    pub(crate) fn unauthorized(&self) -> Failure {
        let message = match self.auth.secret() {
            Some(reference) => format!(
                "{} refuses the credential, also after it was fetched afresh: check the secret {} and what it is allowed to do, then redrive",
                self.connector,
                reference.describe()
            ),
            None => {
                format!("{} asks for a credential: name one under auth in the connection", self.connector)
            }
        };
        Failure::new(FailureName::DestinationUnauthorized, message)
    }

    async fn fetch(
        &self,
        parts: &Parts,
        freshness: Freshness,
        refused: Option<&Secret>,
    ) -> Result<(Option<(HeaderName, HeaderValue)>, Option<Token>), Failure> {
        let Some(reference) = self.auth.secret() else { return Ok((None, None)) };
        if let Some(endpoint) = &self.endpoint {
            let token = parts.known.tokens.token(parts, &self.auth, endpoint, refused).await?;
            let header = bearer(token.access.expose()).ok_or_else(|| {
                let message = format!("{} gives access tokens that no header can carry", self.connector);
                Failure::new(FailureName::DestinationUnauthorized, message)
            })?;
            return Ok((Some(header), Some(token)));
        }
        let secret = parts.secrets.fetch(reference, freshness).await.map_err(|error| {
            Failure::because(error.name(), format!("no credential for {}", self.connector), error)
        })?;
        let header = header(&self.auth, &secret).ok_or_else(|| malformed(&self.auth, reference))?;
        Ok((Some(header), None))
    }
}

fn malformed(auth: &Auth, reference: &SecretRef) -> Failure {
    let form = match auth {
        Auth::Basic(_) => "JSON with username and password, or username:password",
        Auth::None
        | Auth::Bearer(_)
        | Auth::Header(_)
        | Auth::Body(_)
        | Auth::Password(_)
        | Auth::ClientCredentials(_)
        | Auth::JwtBearer(_)
        | Auth::RefreshToken(_) => "the token, or JSON with a member token",
    };
    Failure::new(
        FailureName::DestinationUnauthorized,
        format!("the secret {} is not of the right form: it must be {form}", reference.describe()),
    )
}

#[derive(Deserialize)]
struct OneToken {
    token: String,
}

#[derive(Deserialize)]
struct User {
    username: String,
    password: String,
}

/// The header that carries a secret; `None` if the secret has not the right form.
fn header(auth: &Auth, secret: &Secret) -> Option<(HeaderName, HeaderValue)> {
    let text = secret.expose().trim();
    let is_json = text.starts_with('{');
    let token = || {
        if is_json {
            serde_json::from_str::<OneToken>(text).ok().map(|it| it.token)
        } else {
            Some(text.to_owned())
        }
    };
    let (name, value) = match auth {
        Auth::Bearer(_) => return bearer(&token()?),
        Auth::Body(_) => (IN_BODY, token().filter(|it| !it.is_empty())?),
        Auth::Header(header) => (HeaderName::try_from(header.name.as_str()).ok()?, token()?),
        Auth::Basic(_) => {
            let pair = if is_json {
                let User { username, password } = serde_json::from_str(text).ok()?;
                format!("{username}:{password}")
            } else {
                text.contains(':').then(|| text.to_owned())?
            };
            (reqwest::header::AUTHORIZATION, format!("Basic {}", STANDARD.encode(pair)))
        }
        Auth::None
        | Auth::Password(_)
        | Auth::ClientCredentials(_)
        | Auth::JwtBearer(_)
        | Auth::RefreshToken(_) => return None,
    };
    sensitive(name, &value)
}

fn bearer(token: &str) -> Option<(HeaderName, HeaderValue)> {
    if token.is_empty() {
        return None;
    }
    sensitive(reqwest::header::AUTHORIZATION, &format!("Bearer {token}"))
}

fn sensitive(name: HeaderName, value: &str) -> Option<(HeaderName, HeaderValue)> {
    let mut value = HeaderValue::try_from(value).ok()?;
    value.set_sensitive(true);
    Some((name, value))
}

#[cfg(test)]
mod tests {
    use penstock_model::definition::{Credential, HeaderAuth};

    use super::*;

    #[test]
    fn secrets_become_headers() {
        let secret = || SecretRef::Named("s".into());
        let bearer = Auth::Bearer(Credential { secret: secret() });
        let basic = Auth::Basic(Credential { secret: secret() });
        let body = Auth::Body(Credential { secret: secret() });
        let named = Auth::Header(HeaderAuth { name: "Api-Key".into(), secret: secret() });
        for (auth, text, expected) in [
            (&bearer, "abc\n", Some(("authorization", "Bearer abc"))),
            (&bearer, r#"{"token": "abc"}"#, Some(("authorization", "Bearer abc"))),
            (&bearer, r#"{"user": "abc"}"#, None),
            (&bearer, "", None),
            (&bearer, "a\nb", None),
            (&basic, "ann:pw", Some(("authorization", "Basic YW5uOnB3"))),
            (&basic, r#"{"username": "ann", "password": "pw"}"#, Some(("authorization", "Basic YW5uOnB3"))),
            (&basic, "ann", None),
            (&named, "abc", Some(("api-key", "abc"))),
            (&body, r#"{"token": "abc"}"#, Some((IN_BODY.as_str(), "abc"))),
            (&body, "", None),
        ] {
            let header = header(auth, &Secret::new(text.into()));
            let shown = header.as_ref().map(|(name, value)| (name.as_str(), value.to_str().unwrap()));
            assert_eq!(shown, expected, "{text}");
            assert!(!format!("{header:?}").contains("abc"));
        }
    }
}
