//! The job twin from the outside: a job's whole life, and everything in which it is strict.

use std::net::SocketAddr;
use std::time::Duration;

use penstock_twins::{Ended, JobState, JobTwin, JobWait, RateLimit, RowError, RunningTwin, Script, Twin};
use serde_json::{Value, json};

use crate::client::{Answer, Exchange, exchange};

const JOBS: &str = "/services/data/v67.0/jobs/ingest";

struct Client {
    addr: SocketAddr,
    token: &'static str,
}

impl Client {
    fn of(running: &RunningTwin<JobTwin>) -> Self {
        Self { addr: running.addr(), token: "00D-twin" }
    }

    async fn try_send(&self, method: &str, path: &str, kind: &str, body: &str) -> Exchange {
        let authorization = format!("Bearer {}", self.token);
        let headers = [("authorization", authorization.as_str()), ("content-type", kind)];
        exchange(self.addr, method, &format!("{JOBS}{path}"), &headers, body).await
    }

    async fn send(&self, method: &str, path: &str, kind: &str, body: &str) -> Answer {
        self.try_send(method, path, kind, body).await.answered()
    }

    async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, "application/json", "").await
    }

    async fn make(&self, job: &Value) -> String {
        let answer = self.send("POST", "", "application/json", &job.to_string()).await;
        assert_eq!(answer.status, 200, "{}", answer.json());
        answer.json()["id"].as_str().unwrap().to_owned()
    }

    async fn upload(&self, id: &str, csv: &str) -> Answer {
        self.send("PUT", &format!("/{id}/batches"), "text/csv", csv).await
    }

    async fn say(&self, id: &str, state: &str) -> Answer {
        let body = json!({"state": state}).to_string();
        self.send("PATCH", &format!("/{id}"), "application/json", &body).await
    }

    /// Makes a job of this CSV and polls until it has ended.
    async fn run(&self, job: &Value, csv: &str) -> (String, Value) {
        let id = self.make(job).await;
        assert_eq!(self.upload(&id, csv).await.status, 201);
        assert_eq!(self.say(&id, "UploadComplete").await.status, 200);
        for _ in 0..10 {
            let info = self.get(&format!("/{id}")).await.json();
            if !["UploadComplete", "InProgress"].contains(&info["state"].as_str().unwrap()) {
                return (id, info);
            }
        }
        unreachable!("the job does not end")
    }

    async fn results(&self, id: &str, which: &str) -> Vec<String> {
        let answer = self.get(&format!("/{id}/{which}")).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("text/csv")));
        String::from_utf8(answer.body).unwrap().lines().map(str::to_owned).collect()
    }
}

fn upsert() -> Value {
    json!({"object": "Contact", "operation": "upsert", "externalIdFieldName": "Ext__c", "contentType": "CSV", "lineEnding": "LF"})
}

fn code(answer: &Answer) -> (u16, String) {
    (answer.status, answer.json()[0]["errorCode"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn a_job_goes_through_its_states_and_tells_of_every_row() {
    let lock = |_: &str, row: &penstock_twins::JobRecord| {
        let is_locked = row.get("LastName").is_some_and(|name| name == "Locked");
        is_locked.then(|| RowError::new("UNABLE_TO_LOCK_ROW", "unable to obtain exclusive access"))
    };
    let running = JobTwin::builder()
        .external_id("Contact", "Ext__c")
        .required("Contact", "LastName")
        .refuse_rows(lock)
        .start()
        .await
        .unwrap();
    let old = running.twin.seed("Contact", [("Ext__c", "e1"), ("LastName", "Old"), ("Phone", "1")]);
    let client = Client::of(&running);
    let id = client.make(&upsert()).await;
    let csv = "Ext__c,LastName,Phone\ne1,Ann,#N/A\ne2,\"Bo, \"\"B\"\"\",\ne3,,5\ne4,Locked,\ne5,One,\ne5,Two,\n,None,\n";
    assert_eq!(client.upload(&id, csv).await.status, 201);
    assert_eq!(client.say(&id, "UploadComplete").await.json()["state"], "UploadComplete");
    let mut states = Vec::new();
    for _ in 0..3 {
        states.push(client.get(&format!("/{id}")).await.json()["state"].as_str().unwrap().to_owned());
    }
    assert_eq!(states, ["UploadComplete", "InProgress", "JobComplete"]);
    let info = client.get(&format!("/{id}")).await.json();
    assert_eq!((&info["numberRecordsProcessed"], &info["numberRecordsFailed"]), (&json!(7), &json!(5)));
    let good = client.results(&id, "successfulResults").await;
    assert_eq!(good[0], r#""sf__Id","sf__Created","Ext__c","LastName","Phone""#);
    assert_eq!(good[1], format!(r#""{old}","false","e1","Ann","{}""#, "#N/A"));
    assert!(good[2].ends_with(r#""true","e2","Bo, ""B""","""#), "{}", good[2]);
    let bad = client.results(&id, "failedResults").await;
    for (line, expected) in bad.iter().zip([
        r#""sf__Id","sf__Error","Ext__c","LastName","Phone""#,
        r#""","REQUIRED_FIELD_MISSING:Required fields are missing: [LastName]:LastName --","e3","","5""#,
        r#""","UNABLE_TO_LOCK_ROW:unable to obtain exclusive access: --","e4","Locked","""#,
        r#""","DUPLICATE_VALUE:Duplicate external id specified: e5:Ext__c --","e5","One","""#,
        r#""","DUPLICATE_VALUE:Duplicate external id specified: e5:Ext__c --","e5","Two","""#,
        r#""","MISSING_ARGUMENT:Ext__c not specified:Ext__c --","","None","""#,
    ]) {
        assert_eq!(line, expected);
    }
    assert_eq!(client.results(&id, "unprocessedrecords").await.len(), 1, "only the columns");
    let ann = running.twin.record("Contact", "Ext__c", "e1").unwrap();
    assert_eq!((ann.get("LastName").map(String::as_str), ann.get("Phone")), (Some("Ann"), None));
    assert_eq!((running.twin.count("Contact"), running.twin.held()["Contact"]), (2, 2));
    let journal = running.twin.journal();
    assert_eq!((journal.counts("Contact").created, journal.counts("Contact").updated), (1, 1));
    assert_eq!(client.send("DELETE", &format!("/{id}"), "application/json", "").await.status, 204);
    assert_eq!(code(&client.get(&format!("/{id}")).await), (404, "NOT_FOUND".to_owned()));
}

#[tokio::test]
async fn every_operation_does_what_it_says() {
    let running = JobTwin::builder().external_id("Contact", "Ext__c").start().await.unwrap();
    let id = running.twin.seed("Contact", [("Ext__c", "e1"), ("LastName", "Ann")]);
    let client = Client::of(&running);
    let job = |operation: &str| json!({"object": "Contact", "operation": operation, "columnDelimiter": "TAB", "lineEnding": "CRLF"});
    let (insert, info) = client.run(&job("insert"), "Ext__c\tLastName\r\ne1\tBo\r\ne2\tCy\r\n").await;
    assert_eq!((&info["numberRecordsFailed"], &info["columnDelimiter"]), (&json!(1), &json!("TAB")));
    assert!(client.results(&insert, "failedResults").await[1].contains("DUPLICATE_VALUE"));
    let csv = format!("Id\tLastName\r\n{id}\tDi\r\n003none\tEd\r\n");
    let (update, _) = client.run(&job("update"), &csv).await;
    assert!(client.results(&update, "failedResults").await[1].contains("ENTITY_IS_DELETED"));
    assert_eq!(running.twin.record("Contact", "Ext__c", "e1").unwrap()["LastName"], "Di");
    let (_, info) = client.run(&job("delete"), &format!("Id\r\n{id}\r\n")).await;
    assert_eq!((&info["state"], running.twin.count("Contact")), (&json!("JobComplete"), 1));
}

#[tokio::test]
async fn an_aborted_or_failed_job_leaves_rows_unprocessed() {
    let running = JobTwin::builder().fail_job(2, 1).start().await.unwrap();
    let client = Client::of(&running);
    let csv = "Ext__c,Name\na,1\nb,2\nc,3\n";
    let id = client.make(&upsert()).await;
    client.upload(&id, csv).await;
    client.say(&id, "UploadComplete").await;
    assert_eq!(client.say(&id, "Aborted").await.json()["state"], "Aborted");
    assert_eq!(
        client.results(&id, "unprocessedrecords").await,
        ["\"Ext__c\",\"Name\"", "\"a\",\"1\"", "\"b\",\"2\"", "\"c\",\"3\""]
    );
    assert_eq!(client.results(&id, "successfulResults").await.len(), 1);
    let (id, info) = client.run(&upsert(), csv).await;
    assert_eq!(info["state"], "Failed");
    assert!(info["errorMessage"].as_str().unwrap().contains("InternalServerError"));
    assert_eq!(client.results(&id, "successfulResults").await.len(), 2);
    assert_eq!(client.results(&id, "unprocessedrecords").await.len(), 3);
    assert_eq!(running.twin.count("Contact"), 1);
    for (csv, words) in [
        ("Ext__c,Name\na\n", "number of cells"),
        ("Name\na\n", "Field name not found : Ext__c"),
        ("Ext__c,Ext__c\na,b\n", "Duplicate column"),
        ("Ext__c\r\na\r\n", "line end"),
    ] {
        let (id, info) = client.run(&upsert(), csv).await;
        assert_eq!(info["state"], "Failed", "{csv}");
        assert!(info["errorMessage"].as_str().unwrap().contains(words), "{info}");
        assert_eq!(client.results(&id, "successfulResults").await.len(), 1);
    }
    let states: Vec<JobState> = running.twin.jobs().iter().map(|job| job.state).collect();
    assert_eq!(states[..2], [JobState::Aborted, JobState::Failed]);
}

#[tokio::test]
async fn what_the_api_refuses_is_refused() {
    let running = JobTwin::builder().external_id("Contact", "Ext__c").max_bytes(20).start().await.unwrap();
    let client = Client::of(&running);
    for (job, expected) in [
        (json!({"object": "Contact", "operation": "upsert"}), "INVALIDJOB"),
        (json!({"object": "Contact", "operation": "upsert", "externalIdFieldName": "Name"}), "INVALIDJOB"),
        (json!({"object": "Contact", "operation": "insert", "externalIdFieldName": "Ext__c"}), "INVALIDJOB"),
        (json!({"object": "Contact", "operation": "query"}), "JSON_PARSER_ERROR"),
        (json!({"object": "Contact", "operation": "insert", "columnDelimiter": "DOT"}), "JSON_PARSER_ERROR"),
        (json!({"object": "Contact", "operation": "insert", "contentType": "XML"}), "INVALIDJOB"),
        (json!({"object": "", "operation": "insert"}), "INVALIDENTITY"),
        (json!({"object": "Contact", "operation": "insert", "state": "Open"}), "JSON_PARSER_ERROR"),
    ] {
        let answer = client.send("POST", "", "application/json", &job.to_string()).await;
        assert_eq!(code(&answer), (400, expected.to_owned()), "{job}");
    }
    let id = client.make(&upsert()).await;
    let at = |rest: &str| format!("/{id}{rest}");
    assert_eq!(code(&client.say(&id, "UploadComplete").await), (400, "INVALIDJOBSTATE".to_owned()));
    assert_eq!(code(&client.say(&id, "JobComplete").await), (400, "INVALIDJOB".to_owned()));
    assert_eq!(client.send("PUT", &at("/batches"), "application/json", "a").await.status, 415);
    assert_eq!(client.upload(&id, &"x".repeat(21)).await.status, 413);
    assert_eq!(code(&client.get(&at("/failedResults")).await).0, 400);
    assert_eq!(code(&client.send("DELETE", &at(""), "application/json", "").await).0, 400);
    assert_eq!(client.upload(&id, "Ext__c\na\n").await.status, 201);
    assert_eq!(
        code(&client.upload(&id, "Ext__c\nb\n").await),
        (400, "INVALIDJOBSTATE".to_owned()),
        "once only"
    );
    assert_eq!(client.say(&id, "UploadComplete").await.status, 200);
    assert_eq!(code(&client.say(&id, "UploadComplete").await).0, 400, "a repeated close is refused");
    assert_eq!(client.get("/750nothing").await.status, 404);
    assert_eq!(client.send("PUT", &at(""), "application/json", "{}").await.status, 405);
    let stranger = Client { token: "stale", ..Client::of(&running) };
    assert_eq!(code(&stranger.get("").await), (401, "INVALID_SESSION_ID".to_owned()));
    running.twin.replace_token("stale");
    assert_eq!(stranger.get("").await.status, 200);
}

#[tokio::test]
async fn a_job_whose_answer_was_lost_is_found_in_the_list() {
    let faults: Script = serde_json::from_value(json!([
        {"when": {"nth": 2}, "what": "answer_lost"},
        {"when": {"nth": 3}, "what": {"status": {"code": 503}}},
        {"when": {"nth": 4}, "what": "unauthorized"},
        {"when": {"nth": 5}, "what": {"status": {"code": 429}}},
        {"when": {"path_contains": "batches", "nth": 1}, "what": {"refuse_rows": {"every": 2, "code": "UNABLE_TO_LOCK_ROW"}}},
    ]))
    .unwrap();
    let running = JobTwin::builder().page(2).faults(faults).start().await.unwrap();
    let client = Client::of(&running);
    let first = client.make(&upsert()).await;
    assert!(matches!(
        client.try_send("POST", "", "application/json", &upsert().to_string()).await,
        Exchange::Closed
    ));
    assert_eq!(code(&client.get("").await), (503, "SERVER_UNAVAILABLE".to_owned()));
    assert_eq!(code(&client.get("").await), (401, "INVALID_SESSION_ID".to_owned()));
    assert_eq!(code(&client.get("").await), (429, "REQUEST_LIMIT_EXCEEDED".to_owned()));
    let third = client.make(&upsert()).await;
    let page = client.get("").await.json();
    assert_eq!((&page["done"], page["records"].as_array().unwrap().len()), (&json!(false), 2));
    let next = page["nextRecordsUrl"].as_str().unwrap().strip_prefix(JOBS).unwrap().to_owned();
    let rest = client.get(&next).await.json();
    let ids: Vec<&Value> = [&page, &rest]
        .into_iter()
        .flat_map(|page| page["records"].as_array().unwrap())
        .map(|job| &job["id"])
        .collect();
    assert_eq!((ids.len(), ids[0], ids[2], &rest["done"]), (3, &json!(third), &json!(first), &json!(true)));
    let lost = ids[1].as_str().unwrap().to_owned();
    assert_eq!(client.upload(&lost, "Ext__c\na\nb\nc\n").await.status, 201);
    client.say(&lost, "UploadComplete").await;
    for _ in 0..3 {
        client.get(&format!("/{lost}")).await;
    }
    let failed = client.results(&lost, "failedResults").await;
    assert_eq!(failed.len(), 3, "the script refuses the first and the third row: {failed:?}");
    assert!(failed[1].contains("UNABLE_TO_LOCK_ROW"));
    assert_eq!(client.get("?locator=1").await.status, 400);
}

#[tokio::test(start_paused = true)]
async fn a_job_can_take_its_time() {
    let wait = |seconds| JobWait::Time(Duration::from_secs(seconds));
    let twin = JobTwin::builder().queued(wait(10)).running(wait(60)).build();
    let mut headers = penstock_twins::http::HeaderMap::new();
    headers.insert("authorization", "Bearer 00D-twin".parse().unwrap());
    headers.insert("content-type", "application/json".parse().unwrap());
    let send = |method: &str, path: &str, body: &str| {
        let mut headers = headers.clone();
        if method == "PUT" {
            headers.insert("content-type", "text/csv".parse().unwrap());
        }
        let path = format!("{JOBS}{path}");
        let answer = twin.handle(&method.parse().unwrap(), &path, &headers, body.as_bytes()).outcome.unwrap();
        serde_json::from_slice::<Value>(answer.body()).unwrap_or_default()
    };
    let id = send("POST", "", &upsert().to_string())["id"].as_str().unwrap().to_owned();
    send("PUT", &format!("/{id}/batches"), "Ext__c\na\n");
    send("PATCH", &format!("/{id}"), r#"{"state": "UploadComplete"}"#);
    let mut states = Vec::new();
    for seconds in [0, 9, 1, 59, 1] {
        tokio::time::advance(Duration::from_secs(seconds)).await;
        states.push(send("GET", &format!("/{id}"), "")["state"].as_str().unwrap().to_owned());
    }
    assert_eq!(states, ["UploadComplete", "UploadComplete", "InProgress", "InProgress", "JobComplete"]);
}

#[tokio::test]
async fn limits_are_enforced_and_told() {
    let rates = vec![RateLimit::new(100, Duration::from_secs(1)), RateLimit::new(2, Duration::from_secs(60))];
    let running = JobTwin::builder().rate_limits(rates).start().await.unwrap();
    let client = Client::of(&running);
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(client.get("").await.status);
    }
    assert_eq!(statuses, [200, 200, 429]);
    let running = JobTwin::builder().daily_limit(1).start().await.unwrap();
    let client = Client::of(&running);
    assert_eq!(client.get("").await.header("sforce-limit-info"), Some("api-usage=1/1"));
    let refused = client.get("").await;
    assert_eq!(
        (code(&refused), refused.header("retry-after")),
        ((403, "REQUEST_LIMIT_EXCEEDED".to_owned()), None)
    );
    assert_eq!(running.twin.journal().requests_ended(Ended::Answered(403)), 1);
}
