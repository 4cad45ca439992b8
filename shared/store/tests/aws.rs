//! What AWS answers, as a server on loopback says it: conflicts, broken bodies, missing secrets, known executions.

#![expect(clippy::unwrap_used, reason = "a test ends where it fails")]

use std::collections::VecDeque;
use std::error::Error;
use std::sync::{Arc, Mutex};

use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region, SharedHttpClient};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::Response;
use penstock_model::definition::SecretRef;
use penstock_model::port::{
    Boxed, Condition, ETag, ExecutionStatus, Executions as _, Freshness, ObjectError, Objects as _, Put,
    Secret, Secrets as _, Warehouse as _, WarehouseError,
};
use penstock_model::warehouse::{Statement, StatementState};
use penstock_model::{FailureName, Timestamp};
use penstock_store::{AwsSecrets, RedshiftData, S3Objects, StepFunctions, storage_failure};

/// A server that gives its answers in order, and remembers what it was asked.
#[derive(Clone, Default)]
struct Aws {
    answers: Arc<Mutex<VecDeque<Response>>>,
    asked: Arc<Mutex<Vec<(String, HeaderMap, String)>>>,
}

async fn answer(
    State(aws): State<Aws>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let body = String::from_utf8_lossy(&body).into_owned();
    aws.asked.lock().unwrap().push((format!("{method} {uri}"), headers, body));
    let next = aws.answers.lock().unwrap().pop_front();
    next.unwrap_or_else(|| says(400, "UnexpectedRequest"))
}

fn respond(status: u16, headers: &[(&str, &str)], body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    for (name, value) in headers {
        let name: axum::http::HeaderName = name.parse().unwrap();
        response.headers_mut().insert(name, value.parse().unwrap());
    }
    response
}

/// An error of S3, with a message that no log may show as a body.
fn says(status: u16, code: &str) -> Response {
    respond(
        status,
        &[],
        format!("<Error><Code>{code}</Code><Message>why</Message><Row>tim@acme.com</Row></Error>"),
    )
}

/// An error of the services that speak JSON.
fn refuses(code: &str) -> Response {
    respond(400, &[], format!(r#"{{"__type":"{code}","message":"why"}}"#))
}

impl Aws {
    async fn start(answers: impl IntoIterator<Item = Response>) -> (Self, String) {
        let aws = Self::default();
        aws.answers.lock().unwrap().extend(answers);
        let routes = Router::new().fallback(answer).with_state(aws.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        (aws, address)
    }

    fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    fn header(&self, request: usize, name: &str) -> Option<String> {
        let asked = self.asked.lock().unwrap();
        asked.get(request).unwrap().1.get(name).map(|value| value.to_str().unwrap().to_owned())
    }
}

fn http() -> SharedHttpClient {
    aws_smithy_http_client::Builder::new().build_http()
}

macro_rules! client {
    ($sdk:ident, $address:expr) => {
        $sdk::Client::from_conf(
            $sdk::Config::builder()
                .behavior_version(BehaviorVersion::latest())
                .region(Region::new("eu-west-1"))
                .credentials_provider(Credentials::new("id", "key", None, None, "test"))
                .endpoint_url($address)
                .http_client(http())
                .build(),
        )
    };
}

async fn s3(answers: impl IntoIterator<Item = Response>) -> (Aws, S3Objects) {
    let (aws, address) = Aws::start(answers).await;
    let objects = S3Objects::new(client!(aws_sdk_s3, address), "bucket");
    (aws, objects)
}

fn whole(error: &dyn Error) -> String {
    let mut text = format!("{error:?}\n{error}");
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(&format!(": {error}\n{error:?}"));
        source = error.source();
    }
    text
}

#[tokio::test]
async fn a_conflict_is_tried_again_and_a_failed_condition_is_not() {
    let written = || respond(200, &[("etag", "\"v2\"")], "");
    let (aws, objects) = s3([says(409, "ConditionalRequestConflict"), written()]).await;
    let swap = Condition::IfMatch(ETag("v1".to_owned()));
    let put = objects.put("a", "x".into(), swap.clone()).await.unwrap();
    assert_eq!(put, Put::Written(ETag("v2".to_owned())));
    assert_eq!(aws.asked(), 2);
    assert_eq!(aws.header(1, "if-match").unwrap(), "\"v1\"");

    for (answer, condition) in [
        (says(412, "PreconditionFailed"), swap.clone()),
        (says(412, "PreconditionFailed"), Condition::IfAbsent),
        (says(404, "NoSuchKey"), swap),
    ] {
        let (aws, objects) = s3([answer]).await;
        assert_eq!(objects.put("a", "x".into(), condition.clone()).await.unwrap(), Put::Refused);
        assert_eq!(aws.asked(), 1, "{condition:?}");
    }
}

#[tokio::test]
async fn a_large_object_is_written_in_parts_and_only_the_last_request_has_its_condition() {
    let begun = || {
        let id = "<InitiateMultipartUploadResult><UploadId>an-id</UploadId></InitiateMultipartUploadResult>";
        respond(200, &[], id)
    };
    let part = || respond(200, &[("etag", "\"part\"")], "");
    let completed = || {
        let etag = "<CompleteMultipartUploadResult><ETag>\"v2-3\"</ETag></CompleteMultipartUploadResult>";
        respond(200, &[], etag)
    };
    let conflict = || says(409, "ConditionalRequestConflict");
    let swap = Condition::IfMatch(ETag("v1".to_owned()));
    let answers = [begun(), part(), part(), part(), conflict(), begun(), part(), part(), part(), completed()];
    let (aws, objects) = s3(answers).await;
    let objects = objects.with_parts_of(4);
    let put = objects.put("a", "0123456789".into(), swap.clone()).await.unwrap();
    assert_eq!(put, Put::Written(ETag("v2-3".to_owned())));
    assert_eq!(aws.asked(), 10, "a conflict begins anew");
    for request in 0..10 {
        let condition = aws.header(request, "if-match");
        assert_eq!(condition.as_deref(), [4, 9].contains(&request).then_some("\"v1\""), "{request}");
    }

    let (aws, objects) = s3([begun(), part(), part(), says(412, "PreconditionFailed")]).await;
    let put = objects.with_parts_of(4).put("a", "01234567".into(), Condition::IfAbsent).await;
    assert_eq!((put.unwrap(), aws.asked()), (Put::Refused, 4));
    assert_eq!(aws.header(3, "if-none-match").unwrap(), "*");

    let (aws, objects) = s3([part()]).await;
    let whole = objects.with_parts_of(4).put("a", "0123".into(), swap).await.unwrap();
    assert_eq!((whole, aws.asked()), (Put::Written(ETag("part".to_owned())), 1));
}

#[tokio::test]
async fn a_body_that_breaks_off_is_read_again() {
    let broken = || {
        let parts = ["half of ", ""]
            .map(|part| if part.is_empty() { Err(std::io::Error::other("broken")) } else { Ok(part) });
        respond(206, &[("etag", "\"v1\"")], Body::from_stream(futures::stream::iter(parts)))
    };
    let (aws, objects) = s3([broken(), broken(), respond(206, &[("etag", "\"v1\"")], "the whole")]).await;
    let version = ETag("v1".to_owned());
    assert_eq!(objects.get_range("a", 10..19, Some(&version)).await.unwrap(), "the whole");
    assert_eq!(aws.asked(), 3);
    assert_eq!(aws.header(2, "range").unwrap(), "bytes=10-18");
    assert_eq!(aws.header(2, "if-match").unwrap(), "\"v1\"");
}

#[tokio::test]
async fn refusals_are_told_by_code_and_never_by_body() {
    let (_, objects) = s3([says(403, "AccessDenied")]).await;
    let error = objects.get("a/b").await.unwrap_err();
    let text = whole(&error);
    assert!(text.contains("object a/b may not be read: grant s3:GetObject on bucket/a/* "), "{text}");
    assert!(text.contains("AccessDenied: why"), "{text}");
    assert!(!text.contains("tim@acme.com"), "{text}");
    assert_eq!(storage_failure(error).name, FailureName::AccessDenied);

    let (_, objects) = s3([says(412, "PreconditionFailed")]).await;
    let changed = objects.get_range("a", 0..1, Some(&ETag("v1".to_owned()))).await;
    assert!(matches!(changed, Err(ObjectError::Changed { .. })));
}

#[tokio::test]
async fn a_permission_that_is_missing_is_told_with_what_to_grant_and_is_asked_for_once() {
    let empty = || respond(403, &[], "");
    let disabled = || says(400, "KMS.DisabledException");
    type Asked = for<'a> fn(&'a S3Objects) -> Boxed<'a, Result<(), ObjectError>>;
    let get: Asked = |objects| Box::pin(async { objects.get("a/b/c").await.map(drop) });
    let head: Asked = |objects| Box::pin(async { objects.head("a/b/c").await.map(drop) });
    let put: Asked =
        |objects| Box::pin(async { objects.put("a/b/c", "x".into(), Condition::IfAbsent).await.map(drop) });
    let list: Asked = |objects| Box::pin(async { objects.list("a/b/").await.map(drop) });
    let delete: Asked = |objects| Box::pin(async { objects.delete("c").await });
    let denied = |code: &str| says(403, code);
    let cases = [
        (get, denied("AccessDenied"), "s3:GetObject on bucket/a/b/* and s3:ListBucket on bucket"),
        (get, disabled(), "kms:Decrypt"),
        (head, empty(), "s3:GetObject on bucket/a/b/*"),
        (put, denied("AccessDenied"), "s3:PutObject on bucket/a/b/*"),
        (put, disabled(), "kms:GenerateDataKey and kms:Decrypt"),
        (list, denied("AccessDenied"), "s3:ListBucket on bucket"),
        (delete, denied("AccessDenied"), "s3:DeleteObject on bucket/*"),
    ];
    for (ask, answer, permission) in cases {
        let (aws, objects) = s3([answer]).await;
        let error = ask(&objects).await.unwrap_err();
        let text = whole(&error);
        assert!(text.contains(permission) && !text.contains("tim@acme.com"), "{text}");
        assert_eq!(
            (storage_failure(error).name, aws.asked()),
            (FailureName::AccessDenied, 1),
            "{permission}"
        );
    }
    // A clock that is wrong is no missing permission.
    let (_, objects) = s3([denied("RequestTimeTooSkewed")]).await;
    let error = objects.list("a/").await.unwrap_err();
    assert_eq!(storage_failure(error).name, FailureName::StorageUnavailable);

    let (_, address) =
        Aws::start(["AccessDeniedException", "DecryptionFailure", "AccessDeniedException"].map(refuses))
            .await;
    let secrets = AwsSecrets::new(client!(aws_sdk_secretsmanager, address), "penstock/");
    let crm = SecretRef::Named("crm".to_owned());
    for _ in 0..2 {
        let error = secrets.fetch(&crm, Freshness::Cached).await.unwrap_err();
        assert_eq!(error.name(), FailureName::AccessDenied);
        let text = whole(&error);
        let expected =
            "secret crm may not be read: grant secretsmanager:GetSecretValue on the secret penstock/crm";
        assert!(text.contains(expected), "{text}");
    }
    let error = secrets.store(&crm, Secret::new("new-secret".to_owned())).await.unwrap_err();
    let text = whole(&error);
    assert!(text.contains("secretsmanager:PutSecretValue") && !text.contains("new-secret"), "{text}");
}

#[tokio::test]
async fn a_secret_is_kept_until_a_fresh_one_is_asked_for() {
    let secret = |text: &str| respond(200, &[], format!(r#"{{"SecretString":"{text}"}}"#));
    let (aws, address) =
        // As `aws secretsmanager create-secret --secret-string file://token.txt` puts it there.
        Aws::start([secret("old\\n"), secret("new"), refuses("ResourceNotFoundException"), refuses("Denied")])
            .await;
    let secrets = AwsSecrets::new(client!(aws_sdk_secretsmanager, address), "penstock/dev/");
    let named = |name: &str| SecretRef::Named(name.to_owned());
    let hubspot = named("hubspot");
    for (freshness, expected, asked) in [
        (Freshness::Cached, "old", 1),
        (Freshness::Cached, "old", 1),
        (Freshness::Fresh, "new", 2),
        (Freshness::Cached, "new", 2),
    ] {
        assert_eq!(secrets.fetch(&hubspot, freshness).await.unwrap().expose(), expected);
        assert_eq!(aws.asked(), asked);
    }
    assert!(aws.asked.lock().unwrap().iter().all(|(_, _, body)| body.contains("penstock/dev/hubspot")));

    let missing = secrets.fetch(&named("none"), Freshness::Cached).await.unwrap_err().to_string();
    assert!(missing.contains("create the secret penstock/dev/none"), "{missing}");
    let denied = secrets.fetch(&named("other"), Freshness::Cached).await.unwrap_err();
    assert!(whole(&denied).contains("Denied: why"), "{denied:?}");
    for local in [SecretRef::Variable { env: "A".to_owned() }, SecretRef::File { file: "a".to_owned() }] {
        assert!(secrets.fetch(&local, Freshness::Cached).await.is_err(), "{local:?}");
    }
    assert_eq!(aws.asked(), 4);
}

#[tokio::test]
async fn a_secret_that_is_stored_is_the_one_that_is_kept() {
    let secret = |text: &str| respond(200, &[], format!(r#"{{"SecretString":"{text}"}}"#));
    let (aws, address) = Aws::start([secret("old"), respond(200, &[], "{}"), refuses("Denied")]).await;
    let secrets = AwsSecrets::new(client!(aws_sdk_secretsmanager, address), "penstock/dev/");
    let crm = SecretRef::Named("crm".to_owned());
    assert_eq!(secrets.fetch(&crm, Freshness::Cached).await.unwrap().expose(), "old");
    secrets.store(&crm, Secret::new("new".to_owned())).await.unwrap();
    assert_eq!(secrets.fetch(&crm, Freshness::Cached).await.unwrap().expose(), "new");
    let (_, _, body) = aws.asked.lock().unwrap()[1].clone();
    assert!(body.contains("penstock/dev/crm") && body.contains("new"), "{body}");
    let denied = secrets.store(&crm, Secret::new("newer".to_owned())).await.unwrap_err();
    assert!(!whole(&denied).contains("newer"), "{denied:?}");
    assert_eq!(aws.asked(), 3);
}

#[tokio::test]
async fn an_execution_runs_has_ended_or_is_not_known() {
    let execution = |status: &str, redriven: &str| {
        let name = r#""executionArn":"arn:e","stateMachineArn":"arn:m","name":"e","startDate":1700000000"#;
        respond(200, &[], format!(r#"{{{name},"status":"{status}"{redriven}}}"#))
    };
    let answers =
        ["RUNNING", "PENDING_REDRIVE", "SOMETHING_NEW", "SUCCEEDED", "FAILED", "TIMED_OUT", "ABORTED"];
    let (aws, address) = Aws::start(answers.map(|status| execution(status, ""))).await;
    let executions = StepFunctions::new(client!(aws_sdk_sfn, address), "arn:m");
    for (n, status) in answers.iter().enumerate() {
        let expected = if n < 3 { ExecutionStatus::Running } else { ExecutionStatus::Ended };
        assert_eq!(executions.describe("arn:e").await.unwrap().unwrap().status, expected, "{status}");
    }
    let more = [
        execution("RUNNING", r#","redriveDate":1700000001.5"#),
        refuses("ExecutionDoesNotExist"),
        refuses("AccessDeniedException"),
        respond(200, &[], r#"{"executionArn":"arn:e","startDate":1700000000}"#),
        refuses("ExecutionAlreadyExists"),
    ];
    aws.answers.lock().unwrap().extend(more);
    let redriven = executions.describe("arn:e").await.unwrap().unwrap();
    assert_eq!(redriven.redriven_at, Some(Timestamp(1_700_000_001_500)));
    assert_eq!(executions.describe("arn:e").await.unwrap(), None);
    let denied = executions.describe("arn:e").await.unwrap_err();
    assert_eq!(denied.name(), FailureName::AccessDenied);
    let text = whole(&denied);
    assert!(text.contains("grant states:DescribeExecution") && text.contains("AccessDeniedException: why"));
    assert!(executions.start("e", "{}".to_owned()).await.unwrap());
    assert!(!executions.start("e", "{}".to_owned()).await.unwrap());
}

fn redshift(address: &str) -> RedshiftData {
    RedshiftData::new(client!(aws_sdk_redshiftdata, address), "penstock/")
}

fn statement(query: serde_json::Value) -> Statement {
    Statement {
        query: serde_json::from_value(serde_json::json!({ "redshift": query })).unwrap(),
        prefix: "s3://acme/run=1/".to_owned(),
        name: "penstock customers r1".to_owned(),
        token: "t1".to_owned(),
    }
}

#[tokio::test]
async fn a_statement_is_submitted_under_its_token_and_where_the_query_says() {
    let (aws, address) = Aws::start([
        respond(200, &[], r#"{"Id":"s-1","Database":"d","WorkgroupName":"w"}"#),
        respond(200, &[], r#"{"Id":"s-2","Database":"d","ClusterIdentifier":"c"}"#),
    ])
    .await;
    let redshift = redshift(&address);
    let serverless = statement(serde_json::json!({ "sql": "select 'x'", "database": "d", "workgroup": "w" }));
    assert_eq!(redshift.submit(&serverless).await.unwrap(), "s-1");
    let cluster = statement(
        serde_json::json!({ "sql": "select 1;", "database": "d", "cluster": "c", "secret": "redshift" }),
    );
    assert_eq!(redshift.submit(&cluster).await.unwrap(), "s-2");
    let asked = aws.asked.lock().unwrap();
    let bodies: Vec<serde_json::Value> =
        asked.iter().map(|(_, _, body)| serde_json::from_str(body).unwrap()).collect();
    let target = asked[0].1["x-amz-target"].to_str().unwrap();
    assert_eq!(target, "RedshiftData.ExecuteStatement");
    assert_eq!(bodies[0]["Sql"], serverless_sql());
    for (body, expected) in [
        (&bodies[0], serde_json::json!({ "WorkgroupName": "w", "Database": "d", "ClientToken": "t1" })),
        (&bodies[1], serde_json::json!({ "ClusterIdentifier": "c", "SecretArn": "penstock/redshift" })),
    ] {
        for (name, value) in expected.as_object().unwrap() {
            assert_eq!(&body[name], value, "{name}");
        }
    }
    assert!(bodies[0].get("SecretArn").is_none());
}

fn serverless_sql() -> &'static str {
    "UNLOAD ('select ''x''') TO 's3://acme/run=1/' IAM_ROLE default FORMAT AS PARQUET MANIFEST VERBOSE"
}

#[tokio::test]
async fn a_statement_s_end_is_told_with_its_rows_and_without_its_words() {
    let described = |more: &str| respond(200, &[], format!(r#"{{"Id":"s-1",{more}}}"#));
    let (_, address) = Aws::start([
        described(r#""Status":"SUBMITTED""#),
        described(r#""Status":"STARTED""#),
        described(r#""Status":"FINISHED","ResultRows":0"#),
        described(r#""Status":"FINISHED","ResultRows":5"#),
        described(r#""Status":"FINISHED","ResultRows":-1"#),
        described(r#""Status":"FAILED","Error":"invalid value tim@acme.com""#),
        described(r#""Status":"ABORTED""#),
        described(r#""Status":"SOMETHING_NEW""#),
    ])
    .await;
    let redshift = redshift(&address);
    let finished = |rows| StatementState::Finished { rows };
    for expected in [
        StatementState::Running,
        StatementState::Running,
        finished(Some(0)),
        finished(Some(5)),
        finished(None),
        StatementState::Failed,
        StatementState::Stopped,
        StatementState::Running,
    ] {
        assert_eq!(redshift.look("s-1").await.unwrap(), expected);
    }
}

#[tokio::test]
async fn a_request_that_is_wrong_is_refused_and_others_may_go_better_another_time() {
    let (_, address) = Aws::start([
        refuses("ValidationException"),
        refuses("AccessDeniedException"),
        refuses("InternalServerException"),
        refuses("ActiveStatementsExceededException"),
    ])
    .await;
    let redshift = redshift(&address);
    let query = statement(serde_json::json!({ "sql": "select 1", "database": "d", "workgroup": "w" }));
    for is_refused in [true, true, false, false] {
        let error = redshift.submit(&query).await.unwrap_err();
        assert_eq!(matches!(error, WarehouseError::Refused { .. }), is_refused, "{error:?}");
    }
}
