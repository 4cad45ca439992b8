//! The push function.
