//! What credential a [`BatchTwin`](super::BatchTwin) asks for.

use axum::http::{HeaderMap, header::AUTHORIZATION};
use base64::{Engine, engine::general_purpose::STANDARD};

/// How a caller proves who it is. Has no `Debug`: it holds credentials.
#[derive(Clone, Default)]
pub enum Auth {
    /// Anyone may call.
    #[default]
    None,
    /// `Authorization: Bearer <token>`.
    Bearer(String),
    /// `Authorization: Basic <base64 of user:password>` (RFC 7617).
    Basic {
        /// The user.
        user: String,
        /// The password.
        password: String,
    },
    /// A header of its own.
    Header {
        /// The header's name.
        name: String,
        /// The value that it must have.
        value: String,
    },
    /// In the body, where a connector file says `$secret`.
    Body(String),
}

impl Auth {
    /// The credential in words, such as `Authorization: Bearer TOKEN`.
    pub fn describe(&self) -> String {
        match self {
            Self::None => "no credential".to_owned(),
            Self::Bearer(token) => format!("Authorization: Bearer {token}"),
            Self::Basic { user, password } => format!("HTTP basic, {user}:{password}"),
            Self::Header { name, value } => format!("{name}: {value}"),
            Self::Body(token) => format!("{token} in the body"),
        }
    }

    pub(crate) fn accepts(&self, headers: &HeaderMap) -> bool {
        match self {
            // What stands in the body is looked at with the body.
            Self::None | Self::Body(_) => true,
            Self::Bearer(token) => credential(headers, "bearer").is_some_and(|given| given == token),
            Self::Basic { user, password } => credential(headers, "basic")
                .and_then(|given| STANDARD.decode(given).ok())
                .is_some_and(|given| given == format!("{user}:{password}").into_bytes()),
            Self::Header { name, value } => {
                headers.get(name.as_str()).is_some_and(|given| given.as_bytes() == value.as_bytes())
            }
        }
    }
}

fn credential<'a>(headers: &'a HeaderMap, wanted: &str) -> Option<&'a str> {
    let (scheme, credential) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case(wanted).then_some(credential.trim())
}
