//! The transform function.
