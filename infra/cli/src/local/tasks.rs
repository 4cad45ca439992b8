//! The functions, in this process: the same handlers, through the same decoding and naming of failures as on AWS.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use penstock_destinations::Parts;
use penstock_lambda_kit::metrics::Metrics;
use penstock_lambda_kit::{Invocation, InvocationFailed, invoke_in_process};
use penstock_model::Failure;
use penstock_model::port::{Boxed, Clock, Executions, Objects, OpenObjects, Random, Warehouse};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::engine::{ItemSource, ItemsAt, TaskError, Tasks};

/// A push on a laptop pauses after so long. A run that was killed is waited for no longer than this.
const PUSH_TIME: Duration = Duration::from_secs(15);
/// What other functions are given: their work is not cut short on a laptop.
const FUNCTION_TIME: Duration = Duration::from_secs(900);

/// How long a function is given on a laptop, by its placeholder in the state machine.
#[must_use]
pub fn time_of(function: &str) -> Duration {
    if function == "PushFunction" { PUSH_TIME } else { FUNCTION_TIME }
}

/// What a laptop gives the functions.
#[derive(Debug, Clone)]
pub struct Platform {
    /// Definitions, state and runs.
    pub state: Arc<dyn Objects>,
    /// Where unloads lie.
    pub unloads: Arc<dyn OpenObjects>,
    /// This folder's executions.
    pub executions: Arc<dyn Executions>,
    /// Who unloads by itself, where a definition has a query.
    pub warehouse: Arc<dyn Warehouse>,
    /// Clock, randomness, secrets and transport.
    pub parts: Parts,
    /// How large splits and partitions are.
    pub sizes: penstock_plan::Sizes,
}

/// The functions with their contexts.
#[derive(Debug)]
pub struct Functions {
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    state: Arc<dyn Objects>,
    plan: penstock_plan::Context,
    unload: penstock_unload::Context,
    read: penstock_read::Context,
    diff: penstock_diff::Context,
    gate: penstock_gate::Context,
    transform: penstock_transform::Context,
    push: penstock_push::Context,
    dead_letter: penstock_dead_letter::Context,
    finish: penstock_finish::Context,
}

impl Functions {
    /// The functions on this platform.
    #[must_use]
    pub fn new(platform: &Platform) -> Self {
        let Platform { state, unloads, executions, warehouse, parts, sizes } = platform.clone();
        let (clock, random) = (parts.clock.clone(), parts.random.clone());
        Self {
            plan: penstock_plan::Context {
                state: state.clone(),
                unloads: unloads.clone(),
                executions: executions.clone(),
                clock: clock.clone(),
                random: random.clone(),
                sizes,
            },
            unload: penstock_unload::Context { state: state.clone(), warehouse, clock: clock.clone() },
            read: penstock_read::Context { state: state.clone(), unloads: unloads.clone() },
            diff: penstock_diff::Context { state: state.clone() },
            gate: penstock_gate::Context { state: state.clone() },
            transform: penstock_transform::Context { state: state.clone(), unloads },
            push: penstock_push::Context {
                state: state.clone(),
                executions: executions.clone(),
                parts,
                guard: None,
            },
            dead_letter: penstock_dead_letter::Context {
                state: state.clone(),
                executions,
                clock: clock.clone(),
                random: random.clone(),
            },
            finish: penstock_finish::Context {
                state: state.clone(),
                clock: clock.clone(),
                random: random.clone(),
                metrics: Metrics::nowhere(),
            },
            clock,
            random,
            state,
        }
    }

    async fn call(&self, function: &str, payload: Value) -> Result<Value, TaskError> {
        let time = time_of(function);
        let id = format!("{:016x}", self.random.next());
        let invocation = &Invocation::free(id, self.clock.now().plus(time));
        let answer = match function {
            "PlanFunction" => invoked(payload, invocation, &self.plan, penstock_plan::handle),
            "UnloadFunction" => invoked(payload, invocation, &self.unload, penstock_unload::handle),
            "ReadFunction" => invoked(payload, invocation, &self.read, penstock_read::handle),
            "DiffFunction" => invoked(payload, invocation, &self.diff, penstock_diff::handle),
            "GateFunction" => invoked(payload, invocation, &self.gate, penstock_gate::handle),
            "TransformFunction" => invoked(payload, invocation, &self.transform, penstock_transform::handle),
            "PushFunction" => invoked(payload, invocation, &self.push, penstock_push::handle),
            "DeadLetterFunction" => {
                invoked(payload, invocation, &self.dead_letter, penstock_dead_letter::handle)
            }
            "FinishFunction" => invoked(payload, invocation, &self.finish, penstock_finish::handle),
            other => {
                let cause = format!("there is no function {other}");
                return Err(TaskError { name: "Lambda.ResourceNotFoundException".to_owned(), cause });
            }
        };
        answer.await.map_err(|error| TaskError { name: error.name, cause: error.cause })
    }
}

/// One function's answer, whatever its types.
fn invoked<'a, Request, Response, Context, Answer>(
    payload: Value,
    invocation: &'a Invocation,
    context: &'a Context,
    handle: fn(Request, &'a Invocation, &'a Context) -> Answer,
) -> Boxed<'a, Result<Value, InvocationFailed>>
where
    Request: DeserializeOwned + Send + 'a,
    Response: Serialize + Send + 'a,
    Context: Sync,
    Answer: Future<Output = Result<Response, Failure>> + Send + 'a,
{
    Box::pin(invoke_in_process(payload, invocation, context, handle))
}

impl Tasks for Functions {
    fn invoke<'a>(&'a self, function: &'a str, payload: Value) -> Boxed<'a, Result<Value, TaskError>> {
        Box::pin(self.call(function, payload))
    }
}

impl ItemSource for Functions {
    fn read<'a>(&'a self, at: &'a ItemsAt) -> Boxed<'a, Result<Vec<Value>, Box<dyn Error + Send + Sync>>> {
        Box::pin(async move {
            let items = penstock_store::json::require_json(self.state.as_ref(), &at.key).await?;
            Ok(items)
        })
    }
}
