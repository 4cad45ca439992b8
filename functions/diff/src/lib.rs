//! The diff function.
