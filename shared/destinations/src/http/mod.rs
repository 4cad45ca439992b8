//! HTTP destinations.
