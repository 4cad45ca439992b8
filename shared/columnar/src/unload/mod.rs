//! Unloads: where they lie, when they are complete, which files and columns they have.
//!
//! [`discover`] finds the newest complete unload of a location, verifies it and pins its files by version.

mod claims;
mod discover;
mod error;
pub(crate) mod footer;
mod location;
mod manifest;
pub(crate) mod schema;
mod zone;

pub use discover::{Discovered, Unusable, discover};
pub use error::UnloadError;
pub use zone::{NaiveTimestamps, with_zone};
