//! Destinations: one folder each, and the one place that sends.

pub mod destination;
pub mod http;
pub mod postgres;

pub use destination::{Destination, Rest, Witness, Work};
