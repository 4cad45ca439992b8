//! The token endpoint: for a refresh token an access token that lives half an hour (HubSpot developer docs, "OAuth": token
//! endpoint, form body, `expires_in`).

use std::time::Duration;

use axum::http::{Response, StatusCode, header::CONTENT_TYPE};
use bytes::Bytes;
use serde_json::json;

use crate::{
    desk::{Request, json_response},
    form,
};

/// How long an access token lives.
const LIVES: Duration = Duration::from_secs(1_800);

/// The app that an account has installed.
pub(super) struct App {
    pub(super) client_id: String,
    pub(super) client_secret: String,
    pub(super) refresh_token: String,
    /// Whether a used refresh token is replaced.
    pub(super) rotates: bool,
    /// Refresh tokens given out so far, and access tokens.
    rotated: u32,
    given: u32,
    /// Access tokens, and until when they are good.
    sessions: Vec<(String, Duration)>,
}

fn refused(error: &str, status: &str, message: &str) -> Response<Bytes> {
    let body = json!({"error": error, "error_description": message, "status": status, "message": message});
    json_response(StatusCode::BAD_REQUEST, &body)
}

impl App {
    pub(super) fn new() -> Self {
        Self {
            client_id: "twin-app".to_owned(),
            client_secret: "twin-secret".to_owned(),
            refresh_token: "twin-refresh-0".to_owned(),
            rotates: false,
            rotated: 0,
            given: 0,
            sessions: Vec::new(),
        }
    }

    /// Whether an access token is good at this moment.
    pub(super) fn knows(&self, token: &str, now: Duration) -> bool {
        self.sessions.iter().any(|(session, until)| session == token && now < *until)
    }

    /// Ends every session.
    pub(super) fn end_sessions(&mut self) {
        self.sessions.clear();
    }

    /// Answers a request for an access token.
    pub(super) fn grant(&mut self, request: &Request<'_>) -> Response<Bytes> {
        let kind = request.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if !kind.starts_with("application/x-www-form-urlencoded") {
            return refused("invalid_request", "BAD_REQUEST", "the body must be a form");
        }
        let form = form::fields(request.body);
        let given = |name: &str| form.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        if given("grant_type") != Some("refresh_token") {
            return refused("unsupported_grant_type", "BAD_GRANT_TYPE", "unknown grant type");
        }
        if given("client_id") != Some(&self.client_id) || given("client_secret") != Some(&self.client_secret)
        {
            return refused("invalid_client", "BAD_CLIENT_SECRET", "missing or invalid client secret");
        }
        if given("refresh_token") != Some(&self.refresh_token) {
            return refused("invalid_grant", "BAD_REFRESH_TOKEN", "missing or invalid refresh token");
        }
        if self.rotates {
            self.rotated += 1;
            self.refresh_token = format!("twin-refresh-{}", self.rotated);
        }
        self.given += 1;
        let access = format!("twin-access-{}", self.given);
        self.sessions.push((access.clone(), request.now.since_start.saturating_add(LIVES)));
        let answer = json!({
            "token_type": "bearer", "access_token": access, "refresh_token": self.refresh_token,
            "expires_in": LIVES.as_secs(), "hub_id": 1_234_567, "scopes": ["oauth", "crm.objects.contacts.write"],
        });
        json_response(StatusCode::OK, &answer)
    }
}
