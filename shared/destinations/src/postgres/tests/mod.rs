//! Against a real PostgreSQL. `infra/test.sh` starts one and says where it is.

mod conformance;
mod faults;
mod operations;
mod support;
mod types;
