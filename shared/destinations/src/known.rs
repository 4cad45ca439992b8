//! What a process has learnt of accounts and keeps from push to push.

use crate::oauth::Tokens;
use crate::salesforce::table::Tables;

/// Access tokens, and what objects look like. Holds no row.
#[derive(Debug, Default)]
pub struct Known {
    /// Access tokens.
    pub(crate) tokens: Tokens,
    /// What Salesforce's objects look like.
    pub(crate) tables: Tables,
}
