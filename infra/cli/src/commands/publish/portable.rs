//! What works on a laptop and not on AWS.

use penstock_model::definition::{Problem, SecretRef, pointer_part};

use crate::definitions::Mistake;
use crate::definitions::check::CheckedSync;

/// What of a sync and what it refers to lies on this machine only.
pub(super) fn mistakes(checked: &CheckedSync) -> Vec<Mistake> {
    let CheckedSync { unload, connection, .. } = checked;
    let mut found = Vec::new();
    if !unload.definition.location.starts_with("s3://") {
        let message = "on AWS an unload lies in S3: write s3://bucket/prefix/".to_owned();
        found.push(unload.mistake(&Problem::at("/location", message)));
    }
    let is_here_only =
        |secret: &SecretRef| matches!(secret, SecretRef::Variable { .. } | SecretRef::File { .. });
    let mut wrong = |pointer: String| {
        let message =
            "on AWS a secret is referred to by its name in Secrets Manager, without the stack's prefix"
                .to_owned();
        found.push(connection.mistake(&Problem::at(pointer, message)));
    };
    if connection.definition.auth.secret().is_some_and(is_here_only) {
        wrong("/auth".to_owned());
    }
    for (name, environment) in &connection.definition.environments {
        if environment.secret.as_ref().is_some_and(is_here_only) {
            wrong(format!("/environments/{}/secret", pointer_part(name)));
        }
    }
    found
}
