//! Objects, the layout of keys, lease, secrets and executions.
