//! From a Lambda invocation to a handler and back.
