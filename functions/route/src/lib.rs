//! The route function.
