//! The credential: fetched once, fetched afresh once it is refused.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use penstock_model::definition::{Auth, SecretRef};
use penstock_model::port::{Freshness, Secret, SecretError, Secrets};
use penstock_model::{Failure, FailureName};
use serde::Deserialize;
use tokio::sync::Mutex;

use super::transport::{HeaderName, HeaderValue};

/// How to sign in at one account. Its Debug form shows the reference only.
#[derive(Debug)]
pub(super) struct SignIn {
    auth: Auth,
    connector: String,
    current: Mutex<Option<Credential>>,
}

/// The header with a credential, and which fetch it is of.
#[derive(Debug, Clone)]
pub(super) struct Credential {
    pub(super) generation: u64,
    pub(super) header: Option<(HeaderName, HeaderValue)>,
    fresh: bool,
    proven: bool,
}

impl SignIn {
    pub(super) fn new(auth: Auth, connector: String) -> Self {
        Self { auth, connector, current: Mutex::new(None) }
    }

    /// The credential to send with.
    ///
    /// # Errors
    /// [`FailureName::SecretsUnavailable`], or [`FailureName::DestinationUnauthorized`] if there is no such secret or it is
    /// not of the form that this way to sign in takes.
    pub(super) async fn credential(&self, secrets: &dyn Secrets) -> Result<Credential, Failure> {
        let mut current = self.current.lock().await;
        if let Some(credential) = &*current {
            return Ok(credential.clone());
        }
        let header = self.fetch(secrets, Freshness::Cached).await?;
        let credential = Credential { generation: 0, header, fresh: false, proven: false };
        *current = Some(credential.clone());
        Ok(credential)
    }

    /// The destination took a request with this credential.
    pub(super) async fn proven(&self, generation: u64) {
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
    pub(super) async fn refused(&self, generation: u64, secrets: &dyn Secrets) -> Result<(), Failure> {
        let mut current = self.current.lock().await;
        let Some(credential) = &mut *current else { return Ok(()) };
        if credential.generation != generation {
            return Ok(());
        }
        if self.auth.secret().is_none() || (credential.fresh && !credential.proven) {
            return Err(self.unauthorized());
        }
        tracing::warn!(connector = self.connector, "the credential was refused and is fetched afresh");
        let header = self.fetch(secrets, Freshness::Fresh).await?;
        *credential = Credential { generation: generation + 1, header, fresh: true, proven: false };
        Ok(())
    }

    pub(super) fn unauthorized(&self) -> Failure {
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
        secrets: &dyn Secrets,
        freshness: Freshness,
    ) -> Result<Option<(HeaderName, HeaderValue)>, Failure> {
        let Some(reference) = self.auth.secret() else { return Ok(None) };
        let secret = secrets.fetch(reference, freshness).await.map_err(|error| {
            let name = match &error {
                SecretError::Missing { .. } => FailureName::DestinationUnauthorized,
                SecretError::Unavailable { .. } => FailureName::SecretsUnavailable,
            };
            Failure::because(name, format!("no credential for {}", self.connector), error)
        })?;
        let header = header(&self.auth, &secret).ok_or_else(|| malformed(&self.auth, reference))?;
        Ok(Some(header))
    }
}

fn malformed(auth: &Auth, reference: &SecretRef) -> Failure {
    let form = match auth {
        Auth::Basic(_) => "JSON with username and password, or username:password",
        Auth::None | Auth::Bearer(_) | Auth::Header(_) | Auth::Password(_) => {
            "the token, or JSON with a member token"
        }
    };
    Failure::new(
        FailureName::DestinationUnauthorized,
        format!("the secret {} is not of the right form: it must be {form}", reference.describe()),
    )
}

#[derive(Deserialize)]
struct Token {
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
            serde_json::from_str::<Token>(text).ok().map(|it| it.token)
        } else {
            Some(text.to_owned())
        }
    };
    let (name, value) = match auth {
        Auth::Bearer(_) => {
            (reqwest::header::AUTHORIZATION, format!("Bearer {}", token().filter(|it| !it.is_empty())?))
        }
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
        Auth::None | Auth::Password(_) => return None,
    };
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
        ] {
            let header = header(auth, &Secret::new(text.into()));
            let shown = header.as_ref().map(|(name, value)| (name.as_str(), value.to_str().unwrap()));
            assert_eq!(shown, expected, "{text}");
            assert!(!format!("{header:?}").contains("abc"));
        }
    }
}
