use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use penstock_model::definition::OAuth;
use penstock_model::port::{Boxed, SecretError, Secrets};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::json;

use super::*;
use crate::ReqwestTransport;
use crate::testing::{Short, TokioClock};

const KEY: &str = include_str!("test-key.pem");

/// A token endpoint that gives its answers in order, and remembers the forms that it got.
#[derive(Clone, Default)]
struct Door {
    answers: Arc<Mutex<VecDeque<(u16, Value)>>>,
    forms: Arc<Mutex<Vec<String>>>,
}

impl Door {
    async fn open(answers: impl IntoIterator<Item = (u16, Value)>) -> (Self, Endpoint) {
        let door = Self { answers: Arc::new(Mutex::new(answers.into_iter().collect())), ..Self::default() };
        let router = Router::new().fallback(answer).with_state(door.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/services/oauth2/token", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (door, Endpoint::new(url))
    }

    fn forms(&self) -> Vec<String> {
        self.forms.lock().unwrap().clone()
    }
}

async fn answer(State(door): State<Door>, form: String) -> (StatusCode, String) {
    door.forms.lock().unwrap().push(form);
    let (status, body) = door.answers.lock().unwrap().pop_front().expect("one more answer than expected");
    (StatusCode::from_u16(status).unwrap(), body.to_string())
}

/// A secret that can be written, and what happened to it.
#[derive(Debug, Default)]
struct Drawer {
    secret: Mutex<String>,
    fetched: Mutex<Vec<Freshness>>,
    jammed: Mutex<bool>,
}

impl Drawer {
    fn with(secret: &Value) -> Arc<Self> {
        Arc::new(Self { secret: Mutex::new(secret.to_string()), ..Self::default() })
    }
}

impl Secrets for Drawer {
    fn fetch<'a>(&'a self, _: &'a SecretRef, freshness: Freshness) -> Boxed<'a, Result<Secret, SecretError>> {
        self.fetched.lock().unwrap().push(freshness);
        Box::pin(std::future::ready(Ok(Secret::new(self.secret.lock().unwrap().clone()))))
    }

    fn store<'a>(&'a self, reference: &'a SecretRef, secret: Secret) -> Boxed<'a, Result<(), SecretError>> {
        let stored = if *self.jammed.lock().unwrap() {
            Err(SecretError::ReadOnly { reference: reference.describe(), help: "jammed".to_owned() })
        } else {
            secret.expose().clone_into(&mut self.secret.lock().unwrap());
            Ok(())
        };
        Box::pin(std::future::ready(stored))
    }
}

fn parts(secrets: &Arc<Drawer>) -> Parts {
    Parts {
        clock: TokioClock::new(),
        random: Arc::new(Short::default()),
        secrets: secrets.clone(),
        transport: Arc::new(ReqwestTransport::new().unwrap()),
        known: Arc::default(),
    }
}

fn oauth() -> OAuth {
    OAuth { secret: SecretRef::Named("crm".into()), token_url: None, audience: None, scope: None }
}

fn client_credentials() -> Auth {
    Auth::ClientCredentials(oauth())
}

fn token(access: &str) -> (u16, Value) {
    (200, json!({"access_token": access, "token_type": "Bearer"}))
}

async fn ask(parts: &Parts, auth: &Auth, at: &Endpoint, refused: Option<&str>) -> Result<String, Failure> {
    let refused = refused.map(|token| Secret::new(token.to_owned()));
    let token = parts.known.tokens.token(parts, auth, at, refused.as_ref()).await;
    token.map(|token| token.access.expose().to_owned())
}

#[tokio::test]
async fn a_token_is_asked_for_once_and_again_only_when_it_is_refused() {
    let (door, at) = Door::open([token("one"), token("two")]).await;
    let secrets = Drawer::with(&json!({"client_id": "i d", "client_secret": "s&t"}));
    let (parts, auth) = (parts(&secrets), client_credentials());
    assert_eq!(ask(&parts, &auth, &at, None).await.unwrap(), "one");
    assert_eq!(ask(&parts, &auth, &at, None).await.unwrap(), "one");
    assert_eq!(ask(&parts, &auth, &at, Some("one")).await.unwrap(), "two");
    // Others that had the same refused token find the new one.
    assert_eq!(ask(&parts, &auth, &at, Some("one")).await.unwrap(), "two");
    let form = "grant_type=client_credentials&client_id=i+d&client_secret=s%26t";
    assert_eq!(door.forms(), [form, form]);
    assert_eq!(*secrets.fetched.lock().unwrap(), [Freshness::Cached, Freshness::Fresh]);
}

#[tokio::test]
async fn a_token_is_renewed_before_it_expires() {
    let lived = |access: &str, lives: Value| (200, json!({"access_token": access, "expires_in": lives}));
    let (_, at) = Door::open([lived("one", json!(0)), lived("two", json!("1800"))]).await;
    let secrets = Drawer::with(&json!({"client_id": "i", "client_secret": "s"}));
    let (parts, auth) = (parts(&secrets), client_credentials());
    assert_eq!(ask(&parts, &auth, &at, None).await.unwrap(), "one");
    let two = parts.known.tokens.token(&parts, &auth, &at, None).await.unwrap();
    assert_eq!(two.access.expose(), "two");
    let left = parts.clock.now().until(two.good_until.unwrap()).as_secs();
    assert!((1_735..=1_740).contains(&left), "{left}");
    assert_eq!(ask(&parts, &auth, &at, None).await.unwrap(), "two");
}

#[tokio::test]
async fn a_replaced_refresh_token_is_stored_before_the_access_token_is_used() {
    let rotated =
        json!({"access_token": "a1", "refresh_token": "r2", "instance_url": "https://acme.example/"});
    let (door, at) = Door::open([(200, rotated), token("a2")]).await;
    let secrets = Drawer::with(&json!({"client_id": "i", "refresh_token": "r1", "note": "kept"}));
    let (parts, auth) = (parts(&secrets), Auth::RefreshToken(oauth()));
    *secrets.jammed.lock().unwrap() = true;
    for _ in 0..2 {
        let failure = ask(&parts, &auth, &at, None).await.unwrap_err();
        assert_eq!(failure.name, FailureName::SecretsUnavailable);
    }
    assert_eq!(door.forms().len(), 1, "the old refresh token is not used again");
    *secrets.jammed.lock().unwrap() = false;
    let first = parts.known.tokens.token(&parts, &auth, &at, None).await.unwrap();
    assert_eq!(first.access.expose(), "a1");
    assert_eq!(first.instance_url.as_deref(), Some("https://acme.example"));
    let stored: Value = serde_json::from_str(&secrets.secret.lock().unwrap()).unwrap();
    assert_eq!(stored, json!({"client_id": "i", "refresh_token": "r2", "note": "kept"}));
    assert_eq!(ask(&parts, &auth, &at, Some("a1")).await.unwrap(), "a2");
    assert!(door.forms()[1].ends_with("refresh_token=r2"), "{:?}", door.forms());
}

#[tokio::test]
async fn a_refused_secret_is_fetched_afresh_once_and_then_named() {
    let refused = || (400, json!({"error": "invalid_client", "error_description": "tim@acme.com"}));
    let (door, at) = Door::open([refused()]).await;
    let secrets = Drawer::with(&json!({"client_id": "i", "client_secret": "hidden"}));
    let failure = ask(&parts(&secrets), &client_credentials(), &at, None).await.unwrap_err();
    assert_eq!(failure.name, FailureName::DestinationUnauthorized);
    let text = format!("{failure:?} {failure}");
    assert!(text.contains("crm (invalid_client)"), "{text}");
    assert!(!text.contains("hidden") && !text.contains("tim"), "{text}");
    assert_eq!(door.forms().len(), 1, "the same secret is not tried twice");
    assert_eq!(*secrets.fetched.lock().unwrap(), [Freshness::Cached, Freshness::Fresh]);
}

#[tokio::test]
async fn an_endpoint_that_stumbles_is_asked_again_and_one_that_is_down_is_unavailable() {
    let down = || (503, json!("no"));
    let (door, at) = Door::open([down(), (200, json!({"hello": 1})), token("t")]).await;
    let secrets = Drawer::with(&json!({"client_id": "i", "client_secret": "s"}));
    assert_eq!(ask(&parts(&secrets), &client_credentials(), &at, None).await.unwrap(), "t");
    assert_eq!(door.forms().len(), 3);
    let (door, at) = Door::open([down(), down(), down(), down()]).await;
    let failure = ask(&parts(&secrets), &client_credentials(), &at, None).await.unwrap_err();
    assert_eq!(failure.name, FailureName::DestinationUnavailable);
    assert_eq!(door.forms().len(), 4);
}

#[tokio::test]
async fn a_secret_of_another_form_is_refused_with_the_form_that_it_must_have() {
    let (door, at) = Door::open([]).await;
    let cases = [
        (client_credentials(), json!("token"), "client_id and client_secret"),
        (client_credentials(), json!({"client_id": "i"}), "client_id and client_secret"),
        (Auth::JwtBearer(oauth()), json!({"client_id": "i", "username": "u", "private_key": "x"}), "as PEM"),
        (Auth::RefreshToken(oauth()), json!({"client_id": "i"}), "refresh_token"),
    ];
    for (auth, secret, form) in cases {
        let failure = ask(&parts(&Drawer::with(&secret)), &auth, &at, None).await.unwrap_err();
        assert_eq!(failure.name, FailureName::DestinationUnauthorized);
        assert!(failure.message.contains(form), "{}", failure.message);
    }
    assert!(door.forms().is_empty());
}

#[test]
fn an_assertion_is_signed_and_says_who_asks_whom() {
    let secret = json!({"client_id": "app", "username": "ann@acme.com", "private_key": KEY}).to_string();
    let endpoint = Endpoint { url: "https://door".into(), audience: "https://login.example".into() };
    let now = Timestamp(1_767_225_600_000);
    let form = grant::form(&Auth::JwtBearer(oauth()), &endpoint, &Secret::new(secret), now).unwrap();
    let grant = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=";
    let assertion = form.strip_prefix(grant).unwrap();
    let (message, signature) = assertion.rsplit_once('.').unwrap();
    let decode = |text: &str| base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, text);
    let (header, claims) = message.split_once('.').unwrap();
    assert_eq!(decode(header).unwrap(), br#"{"alg":"RS256","typ":"JWT"}"#);
    let claims: Value = serde_json::from_slice(&decode(claims).unwrap()).unwrap();
    let expected =
        json!({"iss": "app", "sub": "ann@acme.com", "aud": "https://login.example", "exp": 1_767_225_780});
    assert_eq!(claims, expected);
    // The TLS library's own check, against the public half of the key: the RSAPublicKey at the end of its SPKI form.
    let key = PrivateKeyDer::from_pem_slice(KEY.as_bytes()).unwrap();
    let key = rustls::crypto::ring::sign::any_supported_type(&key).unwrap();
    let spki = key.public_key().unwrap();
    let provider = rustls::crypto::ring::default_provider();
    let algorithms = provider.signature_verification_algorithms.mapping;
    let (_, checks) =
        algorithms.iter().find(|(scheme, _)| *scheme == rustls::SignatureScheme::RSA_PKCS1_SHA256).unwrap();
    let verified = checks.iter().any(|check| {
        check.verify_signature(&spki[24..], message.as_bytes(), &decode(signature).unwrap()).is_ok()
    });
    assert!(verified);
}

#[tokio::test(start_paused = true)]
async fn whoever_asks_at_the_same_time_gets_the_same_token() {
    // Answers once, slowly.
    #[derive(Debug, Default)]
    struct Slow(Mutex<u32>);
    impl crate::Transport for Slow {
        fn send(&self, _: Request) -> Boxed<'_, Result<Response, crate::http::transport::TransportError>> {
            Box::pin(async move {
                *self.0.lock().unwrap() += 1;
                tokio::time::sleep(Duration::from_secs(3)).await;
                let body = Bytes::from(r#"{"access_token": "one"}"#);
                Ok(Response { status: 200, headers: HeaderMap::new(), body })
            })
        }
    }
    let slow = Arc::new(Slow::default());
    let secrets = Drawer::with(&json!({"client_id": "i", "client_secret": "s"}));
    let parts = Parts { transport: slow.clone(), ..parts(&secrets) };
    let at = Endpoint::new("http://door".into());
    let auth = client_credentials();
    let (one, other) = tokio::join!(ask(&parts, &auth, &at, None), ask(&parts, &auth, &at, None));
    assert_eq!((one.unwrap(), other.unwrap()), ("one".to_owned(), "one".to_owned()));
    assert_eq!(*slow.0.lock().unwrap(), 1);
}
