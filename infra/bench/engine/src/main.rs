//! One invocation of one function against a folder: `penstock-bench-engine FUNCTION STATE`, the request on standard
//! input, the response on standard output.

#![expect(clippy::print_stdout, reason = "this is how it answers")]

mod decode;
mod deliver;

use std::io::Read as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use penstock_lambda_kit::Invocation;
use penstock_lambda_kit::clock::SystemClock;
use penstock_lambda_kit::metrics::Metrics;
use penstock_lambda_kit::random::SystemRandom;
use penstock_model::port::{
    Boxed, Clock as _, Execution, ExecutionStatus, Executions, ExecutionsUnavailable, Objects, OpenObjects,
};
use penstock_model::{Failure, FailureName};
use penstock_store::{FolderObjects, Opener};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// How long an invocation may take by its deadline; nothing here looks at it.
const DEADLINE: Duration = Duration::from_secs(600);

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(response) => {
            println!("{response}");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("{:?}: {}", failure.name, failure.full_message());
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<String, Failure> {
    let mut arguments = std::env::args().skip(1);
    let (Some(function), Some(state)) = (arguments.next(), arguments.next()) else {
        return Err(usage());
    };
    let mut request = String::new();
    std::io::stdin().read_to_string(&mut request).map_err(|_| usage())?;
    let state: Arc<dyn Objects> = Arc::new(FolderObjects::new(state));
    let unloads: Arc<dyn OpenObjects> = Arc::new(Opener::folders());
    let (clock, random) = (Arc::new(SystemClock::new()), Arc::new(SystemRandom));
    let invocation = Invocation::free("bench", clock.now().plus(DEADLINE));
    match function.as_str() {
        "plan" => {
            let executions = Arc::new(NothingElseRuns);
            let sizes = penstock_plan::Sizes::default();
            let context = penstock_plan::Context { state, unloads, executions, clock, random, sizes };
            answer(penstock_plan::handle(parse(&request)?, &invocation, &context).await)
        }
        "read" => {
            let context = penstock_read::Context { state, unloads };
            answer(penstock_read::handle(parse(&request)?, &invocation, &context).await)
        }
        "diff" => {
            let context = penstock_diff::Context { state };
            answer(penstock_diff::handle(parse(&request)?, &invocation, &context).await)
        }
        "gate" => {
            let context = penstock_gate::Context { state };
            answer(penstock_gate::handle(parse(&request)?, &invocation, &context).await)
        }
        "dead-letter" => {
            let executions = Arc::new(NothingElseRuns);
            let context = penstock_dead_letter::Context { state, executions, clock, random };
            answer(penstock_dead_letter::handle(parse(&request)?, &invocation, &context).await)
        }
        "finish" => {
            let context = penstock_finish::Context { state, clock, random, metrics: Metrics::nowhere() };
            answer(penstock_finish::handle(parse(&request)?, &invocation, &context).await)
        }
        "decode" => answer(decode::decode(parse(&request)?, state.as_ref(), unloads.as_ref()).await),
        "deliver" => answer(deliver::deliver(parse(&request)?, state.as_ref()).await),
        _ => Err(usage()),
    }
}

fn usage() -> Failure {
    Failure::new(
        FailureName::SyncInvalid,
        "usage: penstock-bench-engine plan|read|diff|gate|dead-letter|finish|decode|deliver STATE < REQUEST",
    )
}

fn parse<T: DeserializeOwned>(request: &str) -> Result<T, Failure> {
    serde_json::from_str(request)
        .map_err(|error| Failure::because(FailureName::ContractMismatch, "the request can't be read", error))
}

fn answer<T: Serialize>(response: Result<T, Failure>) -> Result<String, Failure> {
    serde_json::to_string(&response?).map_err(|error| {
        Failure::because(FailureName::InvariantBroken, "the response has no JSON form", error)
    })
}

/// Whatever held the lease has ended.
#[derive(Debug)]
struct NothingElseRuns;

impl Executions for NothingElseRuns {
    fn describe<'a>(
        &'a self,
        _execution: &'a str,
    ) -> Boxed<'a, Result<Option<Execution>, ExecutionsUnavailable>> {
        Box::pin(async { Ok(Some(Execution { status: ExecutionStatus::Ended, redriven_at: None })) })
    }

    fn start<'a>(&'a self, _name: &'a str, _input: String) -> Boxed<'a, Result<bool, ExecutionsUnavailable>> {
        Box::pin(async { Ok(false) })
    }
}
