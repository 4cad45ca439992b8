//! How an org is signed in to.

use penstock_model::FailureName;
use penstock_twins::SalesforceTwin;

use super::*;
use crate::probe::{Verdict, probe};

const KEY: &str = include_str!("../../oauth/test-key.pem");
const PUBLIC: &str = include_str!("../../oauth/test-key.public.pem");

fn org(builder: SalesforceTwinBuilder, auth: &str, secret: &Value) -> Org {
    let mut org = Org::new(builder, &json!({"connection": {"auth": {auth: {"secret": "crm"}}}}));
    org.secrets = Kept::new(&secret.to_string(), &secret.to_string());
    org
}

#[tokio::test(start_paused = true)]
async fn every_grant_gets_in() {
    let client = json!({"client_id": "twin-app", "client_secret": "twin-secret"});
    let assertion = json!({"client_id": "twin-app", "username": "ann@example.com", "private_key": KEY});
    let mut refresh = client.clone();
    refresh["refresh_token"] = json!("twin-refresh-0");
    for (auth, secret) in
        [("client_credentials", client), ("jwt_bearer", assertion), ("refresh_token", refresh)]
    {
        let builder = SalesforceTwin::builder().assertions("ann@example.com", PUBLIC);
        let org = org(builder, auth, &secret);
        let memory = org.deliver(&contacts(3), true).await;
        tally_is(&memory, &[("created", 3)]);
        // A token, a description, a request.
        assert_eq!(org.twin.journal().requests(), 3, "{auth}");
        org.deliver(&contacts(3), true).await;
        assert_eq!(org.twin.journal().requests(), 4, "{auth}: the token is kept");
        org.twin.end_sessions();
        let memory = org.deliver(&contacts(3), true).await;
        tally_is(&memory, &[("updated", 3)]);
        assert_eq!(org.twin.journal().requests(), 7, "{auth}: refused, a new token, sent again");
    }
}

#[tokio::test(start_paused = true)]
async fn a_wrong_secret_is_named_and_nothing_is_sent() {
    let wrong = json!({"client_id": "twin-app", "client_secret": "other"});
    let org = org(SalesforceTwin::builder(), "client_credentials", &wrong);
    let (rest, memory) = org.push(&contacts(3), None, Vec::new(), MINUTE).await;
    let failure = rest.unwrap_err();
    assert_eq!(failure.name, FailureName::DestinationUnauthorized);
    assert!(failure.message.contains("crm (invalid_client)"), "{}", failure.message);
    assert!(memory.outcomes().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_probe_describes_the_object_and_writes_nothing() {
    let client = json!({"client_id": "twin-app", "client_secret": "twin-secret"});
    let mut org = org(SalesforceTwin::builder(), "client_credentials", &client);
    let mut shown = async |object: &str| {
        object.clone_into(&mut org.definition.sync.object);
        probe(&org.definition, true, org.parts()).await.unwrap()
    };
    let contact = shown("Contact").await;
    assert_eq!(contact.verdict, Verdict::Accepted);
    assert_eq!(contact.request, "GET http://twin/services/data/v67.0/sobjects/Contact/describe");
    assert_eq!(shown("Nothing__c").await.verdict, Verdict::Refused);
    // A token, and twice the object.
    assert_eq!(org.twin.journal().requests(), 3);
    org.twin.set_faults(script(json!([{"when": {"path_contains": "describe"}, "what": "unauthorized"}])));
    assert_eq!(probe(&org.definition, true, org.parts()).await.unwrap().verdict, Verdict::Unauthorized);
    org.twin.replace_client_secret("other");
    org.known = Arc::default();
    let failure = probe(&org.definition, true, org.parts()).await.unwrap_err();
    assert_eq!(failure.name, FailureName::DestinationUnauthorized);
}

#[tokio::test(start_paused = true)]
async fn requests_go_where_the_token_says_that_the_org_is() {
    let client = json!({"client_id": "twin-app", "client_secret": "twin-secret"});
    let mut org = org(SalesforceTwin::builder().instance_url("http://twin/"), "client_credentials", &client);
    org.definition.connection.auth = serde_json::from_value(
        json!({"client_credentials": {"secret": "crm", "token_url": "http://twin/services/oauth2/token"}}),
    )
    .unwrap();
    org.definition.address = "https://acme.my.salesforce.com".to_owned();
    let memory = org.deliver(&contacts(3), true).await;
    tally_is(&memory, &[("created", 3)]);
}
