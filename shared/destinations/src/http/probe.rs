//! One harmless request that shows whether a credential is accepted.

use penstock_model::connector::{HttpConnector, Meaning};
use penstock_model::definition::{Problem, ResolvedSync};
use penstock_model::operation::OperationKind;
use penstock_model::outcome::Outcome;
use penstock_model::{Failure, FailureName};

use super::HttpDestination;
use super::compile::{self, compile_operation};
use super::decode::{Decoded, Verdict, decode};
use super::encode::{encode, put_credential};
use super::transport::Sent;
use crate::probe::{Probed, Verdict as Shown};
use crate::{Parts, invalid};

/// Sends a connector's probe once, with the credential of a connection. `definition` may have a sync that is only there to name
/// the object.
///
/// # Errors
/// [`FailureName::SyncInvalid`] if the connection does not fit the connector, or the connector has no probe;
/// [`FailureName::DestinationUnavailable`] if no answer came; what fetching the credential fails with.
pub(crate) async fn probe(
    definition: &ResolvedSync,
    connector: &HttpConnector,
    parts: Parts,
) -> Result<Probed, Failure> {
    let problems = |problems: &[Problem]| invalid(definition, problems);
    let mut found = Vec::new();
    let (mut texts, address) = compile::texts(definition, connector, &mut found);
    if !found.is_empty() {
        return Err(problems(&found));
    }
    let Some(probe) = &connector.probe else {
        let message =
            format!("the connector {} has no harmless request to test with (probe)", connector.name);
        return Err(problems(&[Problem::at("/connector/probe", message)]));
    };
    let limits = &definition.connection.limits;
    let operation = compile_operation(OperationKind::Update, probe, connector, limits, &address, &mut texts)
        .map_err(|message| problems(&[Problem::at("/connector/probe", message)]))?;
    let destination = HttpDestination::bare(definition, connector, parts);
    // A body is one row's: of a probe, one of which nothing is said.
    let row = super::way::nobody();
    let mut request = encode(&operation, &[&row]);
    let credential = destination.sign_in.credential(&destination.parts).await?;
    let secret = credential.header.as_ref().and_then(|(_, value)| Some(value.to_str().ok()?.to_owned()));
    put_credential(&mut request, &operation, credential.header);
    let line = format!("{} {}", request.method, request.url);
    let answer = destination.parts.transport.send(request).await.map_err(|error| {
        let reached = match error.sent {
            Sent::SurelyNot => "can't be reached",
            Sent::Maybe => "gave no whole answer",
        };
        let message = format!("{} {reached} at {}", connector.name, definition.address);
        Failure::because(FailureName::DestinationUnavailable, message, error)
    })?;
    let now = destination.parts.clock.now();
    let decoded = decode(&operation, &[&row], answer.status, &answer.headers, &answer.body, now);
    // Some APIs repeat the credential that they refuse.
    let secret = secret.as_deref().and_then(|value| value.split(' ').next_back()).unwrap_or_default();
    let refusal = operation.answer.refusal_of(answer.status, &answer.body);
    let refusal = refusal.map(|said| if secret.is_empty() { said } else { said.replace(secret, "…") });
    let verdict = match decoded {
        // Of rows, a success needs no body; of a credential, some APIs refuse it with 200 and a code.
        Decoded::Rows(verdicts) if is_accepted(&verdicts) => {
            let told = operation.answer.meaning_of(answer.status, &answer.body);
            told.map_or(Shown::Accepted, shown)
        }
        Decoded::Rows(_) | Decoded::Halve | Decoded::Refused => Shown::Refused,
        Decoded::Unauthorized => Shown::Unauthorized,
        Decoded::Throttled { .. } | Decoded::QuotaExhausted { .. } => Shown::Throttled,
        Decoded::Unavailable { .. } => Shown::Unavailable,
    };
    Ok(Probed { request: line, status: Some(answer.status), verdict, said: refusal })
}

fn is_accepted(verdicts: &[Verdict]) -> bool {
    matches!(verdicts, [Verdict::Done(Outcome::Accepted { .. })])
}

/// What a code shows of a credential.
const fn shown(meaning: Meaning) -> Shown {
    match meaning {
        Meaning::Accepted => Shown::Accepted,
        Meaning::Unauthorized => Shown::Unauthorized,
        Meaning::Throttled | Meaning::Quota => Shown::Throttled,
        Meaning::Retry => Shown::Unavailable,
        Meaning::Rejected | Meaning::Exists | Meaning::Missing | Meaning::Refused => Shown::Refused,
    }
}
