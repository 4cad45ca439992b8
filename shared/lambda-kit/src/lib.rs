//! From a Lambda invocation to a handler and back.
//!
//! The only crate that knows `lambda_runtime`. A function's `main.rs` hands its name, the way to its context and its
//! handler to [`run`]; the local engine hands the same handlers to [`invoke_in_process`]. Both go through one path:
//! the payload's contract version is checked, the payload decoded, the handler run in a span and kept from
//! unwinding, and whatever goes wrong gets a name of [`penstock_model::FailureName`].

pub mod clock;
mod contract;
mod figures;
mod guard;
mod invocation;
mod invoke;
pub mod logging;
pub mod metrics;
pub mod random;
mod runtime;
pub mod settings;

pub use contract::check_contract;
pub use invocation::{Invocation, Meter};
pub use invoke::{InvocationFailed, invoke_in_process};
pub use lambda_runtime::Error;
pub use runtime::run;
