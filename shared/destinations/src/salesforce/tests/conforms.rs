//! The suite that every destination keeps to, by both APIs; and once over real sockets.

use penstock_model::port::Boxed;
use penstock_twins::{JobWait, RunningTwin, SalesforceTwin};

use super::*;
use crate::ReqwestTransport;
use crate::conformance::{Account, conforms};

struct SalesforceAccount(Org);

impl Account for SalesforceAccount {
    fn destination(&self) -> Arc<dyn Destination> {
        self.0.open()
    }

    fn clock(&self) -> Arc<dyn Clock> {
        self.0.clock.clone()
    }

    fn operation(&self, n: u32, kind: OperationKind, key: u32, text: &str) -> Operation {
        contact(n, kind, format!("c{key}"), &json!({"LastName": text}))
    }

    fn bad(&self, n: u32, key: u32) -> Operation {
        contact(n, OperationKind::Upsert, format!("c{key}"), &json!({"Email": "no address"}))
    }

    fn stored(&self, key: u32) -> Boxed<'_, Option<String>> {
        let record = self.0.twin.record("Contact", "External_Id__c", &format!("c{key}"));
        Box::pin(std::future::ready(record.and_then(|record| record.get("LastName").cloned())))
    }
}

#[tokio::test(start_paused = true)]
async fn both_apis_conform() {
    for api in ["collections", "bulk"] {
        let builder = SalesforceTwin::builder().job_times(JobWait::Polls(1), JobWait::Polls(1));
        let org = Org::new(builder, &json!({"connection": {"settings": {"api": api}}}));
        conforms(&SalesforceAccount(org)).await;
    }
}

#[tokio::test]
async fn rows_arrive_over_real_connections() {
    let running: RunningTwin<SalesforceTwin> =
        SalesforceTwin::builder().job_times(JobWait::Polls(0), JobWait::Polls(0)).start().await.unwrap();
    for api in ["collections", "bulk"] {
        let parts = Parts {
            clock: TokioClock::new(),
            random: Arc::new(Short::default()),
            secrets: Kept::new("00D-twin", "00D-twin"),
            transport: Arc::new(ReqwestTransport::new().unwrap()),
            known: Arc::default(),
        };
        let until = parts.clock.now().plus(MINUTE);
        let definition = definition(&running.address(), &json!({"connection": {"settings": {"api": api}}}));
        let memory = Memory::default();
        let work =
            Work { operations: contacts(450), cursor: None, jobs: Vec::new(), until, witness: &memory };
        let rest = open(&definition, parts, 1).unwrap().deliver(work).await;
        assert_eq!(rest.unwrap(), Rest::Nothing);
        assert_eq!(memory.outcomes().len(), 450);
        assert_eq!(running.twin.count("Contact"), 450);
    }
}
