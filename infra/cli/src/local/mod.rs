//! The platform on a laptop: objects in a folder, executions as locked files, functions in this process.

mod executions;
mod publish;
mod run;
mod tasks;

pub use executions::LocalExecutions;
pub use publish::publish;
pub use run::{Finished, Start, run};
pub use tasks::{Functions, Platform, time_of};
