//! One harmless request: what it shows of a credential, and what it never shows.

use std::sync::Arc;

use penstock_model::connector::Connector;
use penstock_model::port::Boxed;
use penstock_twins::{Auth, ConnectorTwin, HubSpotTwin, Twin};
use serde_json::{Value, json};

use super::super::transport::{HeaderMap, Request, Response, TransportError};
use super::{Bench, connector, definition, hubspot, script};
use crate::probe::{Probed, Verdict, probe};
use crate::testing::Kept;
use crate::{Transport, built_in};

/// Sends the probe of a connector with this secret.
async fn probed<T: Twin>(twin: &T, file: &str, auth: &Value, secret: &str) -> Probed {
    let bench = Bench { secrets: Kept::new(secret, secret), ..Bench::in_process(twin) };
    let file = connector(file);
    let definition = definition(&file, "http://twin", "contacts", "ref", &json!({ "auth": auth }));
    probe(&definition, false, bench.parts()).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn hubspot_lists_a_record_or_refuses_the_token() {
    let file = include_str!("../../connectors/hubspot.yaml");
    let auth = json!({"bearer": {"secret": "hubspot"}});
    for (secret, fault, verdict) in [
        ("pat-twin", json!([]), Verdict::Accepted),
        ("other", json!([]), Verdict::Unauthorized),
        ("pat-twin", json!([{"when": {}, "what": {"status": {"code": 429}}}]), Verdict::Throttled),
        ("pat-twin", json!([{"when": {}, "what": {"status": {"code": 503}}}]), Verdict::Unavailable),
    ] {
        let twin = HubSpotTwin::builder().build();
        twin.set_faults(script(fault));
        let shown = probed(&twin, file, &auth, secret).await;
        assert_eq!(shown.verdict, verdict, "{secret}");
        assert_eq!(shown.request, "GET http://twin/crm/objects/2026-09/contacts?limit=1");
        assert!(!format!("{:?}", shown.said).contains(secret), "{:?}", shown.said);
    }
    assert!(hubspot().probe.is_some());
}

#[tokio::test(start_paused = true)]
async fn amplitude_misses_the_events_and_not_the_key() {
    let file = include_str!("../../connectors/amplitude.yaml");
    let auth = json!({"body": {"secret": "amplitude"}});
    let Some(Connector::Http(described)) = built_in("amplitude") else {
        panic!("amplitude is described by a file")
    };
    let twin = ConnectorTwin::builder(*described).auth(Auth::Body("key".into())).build().unwrap();
    let shown = probed(&twin, file, &auth, "key").await;
    assert_eq!(shown.verdict, Verdict::Accepted, "{shown:?}");
    assert_eq!(twin.held().values().sum::<usize>(), 0);
}

/// An API that answers a probe as it is told to.
struct Said(u16, Value);

impl std::fmt::Debug for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Said")
    }
}

impl Transport for Said {
    fn send(&self, _: Request) -> Boxed<'_, Result<Response, TransportError>> {
        let (status, body) = (self.0, self.1.to_string().into());
        Box::pin(std::future::ready(Ok(Response { status, headers: HeaderMap::new(), body })))
    }
}

#[tokio::test(start_paused = true)]
async fn what_amplitude_says_is_understood_and_a_key_that_it_repeats_is_left_out() {
    let file = connector(include_str!("../../connectors/amplitude.yaml"));
    let auth = json!({"auth": {"body": {"secret": "amplitude"}}});
    let definition = definition(&file, "https://api2.amplitude.com", "events", "insert_id", &auth);
    for (status, body, verdict, said) in [
        (200, json!({"code": 200, "events_ingested": 0}), Verdict::Accepted, Some("200")),
        (
            400,
            json!({"code": 400, "error": "Request missing required field", "missing_field": "events"}),
            Verdict::Accepted,
            Some("events: Request missing required field"),
        ),
        (
            400,
            json!({"code": 400, "error": "Invalid API key: s3cr3t"}),
            Verdict::Unauthorized,
            Some("Invalid API key: …: Invalid API key: …"),
        ),
        (400, json!({"code": 400, "error": "?"}), Verdict::Unauthorized, Some("400: ?")),
        (
            429,
            json!({"code": 429, "error": "Too many requests"}),
            Verdict::Throttled,
            Some("429: Too many requests"),
        ),
    ] {
        let bench = Bench {
            secrets: Kept::new("s3cr3t", "s3cr3t"),
            ..Bench::with(Arc::new(Said(status, body.clone())))
        };
        let shown = probe(&definition, true, bench.parts()).await.unwrap();
        assert_eq!((shown.verdict, shown.said.as_deref()), (verdict, said), "{body}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_success_that_holds_an_error_code_is_none() {
    let auth = json!({"auth": {"bearer": {"secret": "hubspot"}}});
    let definition = definition(&hubspot(), "http://crm", "contacts", "ref", &auth);
    for (body, verdict) in [
        (json!({"results": []}), Verdict::Accepted),
        (json!({"category": "UNHEARD_OF", "message": "of no account"}), Verdict::Accepted),
        (json!({"category": "INVALID_AUTHENTICATION", "message": "no"}), Verdict::Unauthorized),
    ] {
        let bench = Bench::with(Arc::new(Said(200, body.clone())));
        let shown = probe(&definition, true, bench.parts()).await.unwrap();
        assert_eq!(shown.verdict, verdict, "{body}");
    }
}
