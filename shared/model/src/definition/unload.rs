use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Query;

/// The Parquet files that one warehouse query leaves in S3 (or in a folder). Defined once, shared by syncs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Unload {
    /// Its name; the file's name without `.yaml` if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Where it lies: `s3://bucket/prefix/` or a folder (relative to this file). A `*` stands for one part of the
    /// path; of all prefixes that match, the newest complete one is taken.
    pub location: String,
    /// What tells that the unload has been written to its end.
    #[serde(default)]
    pub complete: Complete,
    /// Which statement of the warehouse writes it: syncs with `start.on_unload` then start when it has finished, too. Left out,
    /// only the manifest or `_SUCCESS` tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written_by: Option<WrittenBy>,
    /// A query that the warehouse unloads when a run begins, to a prefix of its own below `location`. Left out: somebody else
    /// unloads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<Query>,
    /// The columns that identify a row.
    pub primary_key: Vec<String>,
    /// The zone of timestamps that come without one: `UTC` or an offset such as `+02:00`. Left out, they stay without a zone. To
    /// change it is like a change of the fields that such columns fill: see the sync's `on_mapping_change`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub naive_timestamps: Option<String>,
    /// Columns of JSON text that are compared by what they say: white space, the order of members and the way a number
    /// is written then count for nothing. For SUPER, VARIANT and OBJECT, which may come in another order every day. Text
    /// that is no JSON, or names a member twice, is compared as text. To change the list sends nothing by itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub json_columns: Vec<String>,
}

/// What tells that an unload is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Complete {
    /// A Redshift-style manifest (`manifest`, or a name that ends in it): names the files with their sizes and row counts, which are verified.
    RedshiftManifest,
    /// An object `_SUCCESS`, written last.
    SuccessMarker,
    /// Either of them, whichever is there.
    #[default]
    Any,
    /// Either of them if there is one, else the files as they lie there. Only for folders that get their name when all is written.
    AsListed,
}

impl Unload {
    /// Where unloads of this definition lie and what tells that one is complete: as it says, or, if runs make them by a
    /// query, in a prefix of each run's own, with Redshift's manifest.
    #[must_use]
    pub fn place(&self) -> (String, Complete) {
        match &self.query {
            None => (self.location.clone(), self.complete),
            Some(_) => (format!("{}run=*/attempt=*/", self.folder()), Complete::RedshiftManifest),
        }
    }

    /// The location with a slash at its end.
    #[must_use]
    pub fn folder(&self) -> String {
        format!("{}/", self.location.trim_end_matches('/'))
    }
}

/// A statement of a warehouse, by what its end is told with on EventBridge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WrittenBy {
    /// The statement name that was given to the Redshift Data API, together with `WithEvent`.
    RedshiftStatement(String),
    /// An Athena workgroup whose queries are unloads, and nothing else.
    AthenaWorkgroup(String),
}
