use std::collections::HashMap;
use std::fmt;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::config::http::HttpResponse;
use aws_sdk_secretsmanager::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_secretsmanager::operation::get_secret_value::GetSecretValueError;
use penstock_model::definition::SecretRef;
use penstock_model::port::{Boxed, Freshness, Secret, SecretError, Secrets};

use crate::aws_error::AwsError;

/// Secrets on a laptop: environment variables and files. Nothing is cached.
pub struct LocalSecrets {
    variables: HashMap<String, String>,
    folder: PathBuf,
}

impl fmt::Debug for LocalSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LocalSecrets({})", self.folder.display())
    }
}

impl LocalSecrets {
    /// `variables` are the environment's; `folder` is that of the definitions.
    #[must_use]
    pub fn new(variables: HashMap<String, String>, folder: impl Into<PathBuf>) -> Self {
        Self { variables, folder: folder.into() }
    }

    fn variable(&self, name: &str) -> Option<String> {
        self.variables.get(name).filter(|text| !text.is_empty()).cloned()
    }

    /// The file that holds a secret, if a file does.
    fn file_of(&self, reference: &SecretRef) -> Result<PathBuf, SecretError> {
        let read_only = |variable: &str| SecretError::ReadOnly {
            reference: reference.describe(),
            help: format!(
                "it stands in the environment variable {variable}, and the destination replaces it: keep it in a file"
            ),
        };
        match reference {
            SecretRef::Variable { env } => Err(read_only(env)),
            SecretRef::File { file } => Ok(self.folder.join(file)),
            SecretRef::Named(name) => {
                let variable = variable_of(name);
                if self.variable(&variable).is_some() {
                    return Err(read_only(&variable));
                }
                Ok(self.folder.join("secrets").join(name))
            }
        }
    }

    fn find(&self, reference: &SecretRef) -> Result<Secret, SecretError> {
        let missing = |help| SecretError::Missing { reference: reference.describe(), help };
        match reference {
            SecretRef::Variable { env } => self
                .variable(env)
                .map(Secret::new)
                .ok_or_else(|| missing(format!("the environment variable {env} is not set"))),
            SecretRef::File { file } => {
                let path = self.folder.join(file);
                read(reference, &path)?
                    .ok_or_else(|| missing(format!("the file {} is not there", path.display())))
            }
            SecretRef::Named(name) => {
                if !is_plain(name) {
                    return Err(missing(
                        "a secret's name has letters, digits, `-`, `_` and `.` only".to_owned(),
                    ));
                }
                let variable = variable_of(name);
                let path = self.folder.join("secrets").join(name);
                if let Some(text) = self.variable(&variable) {
                    return Ok(Secret::new(text));
                }
                read(reference, &path)?.ok_or_else(|| {
                    missing(format!(
                        "set the environment variable {variable}, or write the file {}",
                        path.display()
                    ))
                })
            }
        }
    }
}

/// The environment variable of a secret that is referred to by name.
fn variable_of(name: &str) -> String {
    format!("PENSTOCK_SECRET_{}", name.to_uppercase().replace('-', "_"))
}

/// A name that is one file in the folder and part of a variable's name.
fn is_plain(name: &str) -> bool {
    !name.starts_with('.')
        && !name.is_empty()
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

/// The file's text without the line end that editors add; `None` if there is no such file, or nothing in it.
fn read(reference: &SecretRef, path: &Path) -> Result<Option<Secret>, SecretError> {
    match std::fs::read_to_string(path) {
        Ok(text) => {
            let text = without_line_end(&text);
            Ok((!text.is_empty()).then(|| Secret::new(text.to_owned())))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => {
            Err(SecretError::Unavailable { reference: reference.describe(), source: Box::new(error) })
        }
    }
}

/// A text without the line end that editors add: a secret that was put into Secrets Manager from a file has it, too.
fn without_line_end(text: &str) -> &str {
    let text = text.strip_suffix('\n').unwrap_or(text);
    text.strip_suffix('\r').unwrap_or(text)
}

impl Secrets for LocalSecrets {
    fn fetch<'a>(
        &'a self,
        reference: &'a SecretRef,
        _freshness: Freshness,
    ) -> Boxed<'a, Result<Secret, SecretError>> {
        Box::pin(async move { self.find(reference) })
    }

    fn store<'a>(&'a self, reference: &'a SecretRef, secret: Secret) -> Boxed<'a, Result<(), SecretError>> {
        Box::pin(async move {
            let path = self.file_of(reference)?;
            replace(&path, &secret).map_err(|error| SecretError::Unavailable {
                reference: reference.describe(),
                source: Box::new(error),
            })
        })
    }
}

/// Puts the secret beside the file first, so that at no moment there is none, or half of one.
fn replace(path: &Path, secret: &Secret) -> std::io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let beside = path.with_file_name(name);
    let mut file = std::fs::File::create(&beside)?;
    // Whoever might not read the old one may not read the new one.
    file.set_permissions(std::fs::metadata(path)?.permissions())?;
    file.write_all(secret.expose().as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    std::fs::rename(&beside, path)
}

/// Secrets in AWS Secrets Manager. What was fetched is kept as long as the process, or until a fresh one is
/// asked for.
pub struct AwsSecrets {
    client: Client,
    prefix: String,
    fetched: Mutex<HashMap<String, Secret>>,
}

impl fmt::Debug for AwsSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AwsSecrets({})", self.prefix)
    }
}

impl AwsSecrets {
    /// Secrets whose ids are `prefix` followed by the name, with nothing between: a prefix ends in its own `/`.
    #[must_use]
    pub fn new(client: Client, prefix: impl Into<String>) -> Self {
        Self { client, prefix: prefix.into(), fetched: Mutex::default() }
    }

    fn cached(&self, id: &str) -> Option<Secret> {
        self.fetched.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    async fn ask(&self, name: &str) -> Result<Secret, SecretError> {
        let id = format!("{}{name}", self.prefix);
        let missing = |help| SecretError::Missing { reference: name.to_owned(), help };
        let answer = match self.client.get_secret_value().secret_id(&id).send().await {
            Ok(answer) => answer,
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(GetSecretValueError::is_resource_not_found_exception) =>
            {
                return Err(missing(format!("create the secret {id} in Secrets Manager")));
            }
            Err(error) => return Err(refused(name, &id, Tried::Read, &error)),
        };
        let text = answer.secret_string().ok_or_else(|| missing(format!("the secret {id} holds no text")))?;
        let secret = Secret::new(without_line_end(text).to_owned());
        self.fetched.lock().unwrap_or_else(PoisonError::into_inner).insert(id, secret.clone());
        Ok(secret)
    }
}

impl Secrets for AwsSecrets {
    fn fetch<'a>(
        &'a self,
        reference: &'a SecretRef,
        freshness: Freshness,
    ) -> Boxed<'a, Result<Secret, SecretError>> {
        Box::pin(async move {
            let name = named(reference)?;
            let cached = match freshness {
                Freshness::Cached => self.cached(&format!("{}{name}", self.prefix)),
                Freshness::Fresh => None,
            };
            match cached {
                Some(secret) => Ok(secret),
                None => self.ask(name).await,
            }
        })
    }

    fn store<'a>(&'a self, reference: &'a SecretRef, secret: Secret) -> Boxed<'a, Result<(), SecretError>> {
        Box::pin(async move {
            let name = named(reference)?;
            let id = format!("{}{name}", self.prefix);
            let put = self.client.put_secret_value().secret_id(&id).secret_string(secret.expose());
            put.send().await.map_err(|error| refused(name, &id, Tried::Replaced, &error))?;
            self.fetched.lock().unwrap_or_else(PoisonError::into_inner).insert(id, secret);
            Ok(())
        })
    }
}

/// What was tried with a secret.
#[derive(Clone, Copy)]
enum Tried {
    Read,
    Replaced,
}

impl Tried {
    /// As a participle, and the permissions that it takes: for the secret, and for a key of one's own.
    const fn words(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Read => ("read", "secretsmanager:GetSecretValue", "kms:Decrypt"),
            Self::Replaced => ("replaced", "secretsmanager:PutSecretValue", "kms:GenerateDataKey"),
        }
    }
}

fn refused<E: ProvideErrorMetadata>(
    name: &str,
    id: &str,
    tried: Tried,
    error: &SdkError<E, HttpResponse>,
) -> SecretError {
    let (reference, source) = (name.to_owned(), Box::new(AwsError::of(error)));
    if !AwsError::is_denied(error) {
        return SecretError::Unavailable { reference, source };
    }
    let (action, permission, of_key) = tried.words();
    let help = format!(
        "grant {permission} on the secret {id} to the function's role, and {of_key} if it is encrypted with a key of yours"
    );
    SecretError::Denied { reference, action, help, source }
}

/// The name of a secret in Secrets Manager; other references have none.
fn named(reference: &SecretRef) -> Result<&str, SecretError> {
    match reference {
        SecretRef::Named(name) => Ok(name),
        SecretRef::Variable { .. } | SecretRef::File { .. } => Err(SecretError::Missing {
            reference: reference.describe(),
            help: "on AWS a secret is referred to by its name in Secrets Manager".to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn fetch(secrets: &LocalSecrets, reference: SecretRef) -> Result<String, String> {
        let fetched = secrets.fetch(&reference, Freshness::Cached).await;
        fetched.map(|secret| secret.expose().to_owned()).map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn looks_where_the_definition_says() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("secrets")).unwrap();
        std::fs::write(folder.path().join("secrets/hub-spot"), "from-file\r\n").unwrap();
        std::fs::write(folder.path().join("secrets/empty"), "\n").unwrap();
        std::fs::write(folder.path().join("token"), "two\nlines\n\n").unwrap();
        let variables = [("PENSTOCK_SECRET_SALES_FORCE", "from-variable"), ("TOKEN", "given"), ("EMPTY", "")];
        let variables = variables.map(|(name, text)| (name.to_owned(), text.to_owned())).into();
        let secrets = LocalSecrets::new(variables, folder.path());
        let named = |name: &str| SecretRef::Named(name.to_owned());
        let env = |env: &str| SecretRef::Variable { env: env.to_owned() };
        let file = |file: &str| SecretRef::File { file: file.to_owned() };
        let cases = [
            (named("sales-force"), Some("from-variable")),
            (named("hub-spot"), Some("from-file")),
            (named("empty"), None),
            (named("none"), None),
            (named("../token"), None),
            (env("TOKEN"), Some("given")),
            (env("EMPTY"), None),
            (file("token"), Some("two\nlines\n")),
            (file("nowhere"), None),
        ];
        for (reference, expected) in cases {
            let found = fetch(&secrets, reference.clone()).await;
            assert_eq!(found.as_deref().ok(), expected, "{reference:?}");
        }
        let help = fetch(&secrets, named("none")).await.unwrap_err();
        assert!(help.contains("PENSTOCK_SECRET_NONE") && help.contains("secrets/none"), "{help}");
        assert!(!format!("{secrets:?}").contains("from"));
    }

    #[tokio::test]
    async fn what_stands_in_a_file_is_replaced_and_what_stands_in_the_environment_is_not() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("secrets")).unwrap();
        for file in ["secrets/crm", "token"] {
            std::fs::write(folder.path().join(file), "old\n").unwrap();
        }
        let variables = [("PENSTOCK_SECRET_HELD", "x"), ("TOKEN", "x")];
        let variables = variables.map(|(name, text)| (name.to_owned(), text.to_owned())).into();
        let secrets = LocalSecrets::new(variables, folder.path());
        for reference in [SecretRef::Named("crm".to_owned()), SecretRef::File { file: "token".to_owned() }] {
            secrets.store(&reference, Secret::new("new".to_owned())).await.unwrap();
            assert_eq!(fetch(&secrets, reference).await.unwrap(), "new");
        }
        for reference in
            [SecretRef::Named("held".to_owned()), SecretRef::Variable { env: "TOKEN".to_owned() }]
        {
            let error = secrets.store(&reference, Secret::new("new".to_owned())).await.unwrap_err();
            assert!(matches!(error, SecretError::ReadOnly { .. }), "{error}");
            assert_eq!(fetch(&secrets, reference).await.unwrap(), "x");
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "nothing else is left behind");
    }
}
