//! The read function.
