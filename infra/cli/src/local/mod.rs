//! The platform on a laptop: objects in a folder, executions as locked files, functions in this process.

mod executions;
mod keeper;
mod publish;
mod redrive;
mod run;
mod tasks;
mod warehouse;

pub use executions::{Kept, LocalExecutions};
pub use publish::publish;
pub use redrive::{NotRedriven, Redrivable, helps, pinned_otherwise};
pub use run::{Finished, Start, failure, redrive, run};
pub use tasks::{Functions, Platform, time_of};
pub use warehouse::NoWarehouse;
