//! Redshift's manifest of an UNLOAD.
//!
//! Source: docs.aws.amazon.com/redshift/latest/dg/r_UNLOAD.html and loading-data-files-using-manifest.html. The
//! guide's own sample of `schema` is not JSON, so only what is needed is read, and leniently.

use std::collections::BTreeSet;

use penstock_model::unload::{Column, ColumnType};
use serde::Deserialize;
use serde_json::Value;

use super::UnloadError;

/// What a manifest says.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Manifest {
    #[serde(default)]
    pub(super) entries: Vec<Entry>,
    #[serde(default)]
    pub(super) meta: Option<Meta>,
    #[serde(default)]
    schema: Option<Value>,
}

/// One file of a manifest.
#[derive(Debug, Deserialize)]
pub(super) struct Entry {
    pub(super) url: String,
    #[serde(default)]
    pub(super) meta: Option<Meta>,
}

/// Sizes, of a file or of all.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub(super) struct Meta {
    /// Bytes.
    #[serde(default)]
    pub(super) content_length: Option<u64>,
    /// Rows.
    #[serde(default)]
    pub(super) record_count: Option<u64>,
}

impl Manifest {
    /// Reads a manifest; `key` is its own, for the error.
    pub(super) fn parse(key: &str, body: &[u8]) -> Result<Self, UnloadError> {
        let manifest: Self = serde_json::from_slice(body).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            UnloadError::corrupt(key, format!("it is not a Redshift manifest (line {line}, column {column})"))
        })?;
        let mut seen = BTreeSet::new();
        for entry in &manifest.entries {
            if !seen.insert(&entry.url) {
                return Err(UnloadError::corrupt(key, format!("it names {} twice", entry.url)));
            }
        }
        Ok(manifest)
    }

    /// The columns by the manifest's own schema: all there is to go by if the result was empty.
    pub(super) fn columns(&self) -> Vec<Column> {
        let elements = self.schema.as_ref().and_then(|schema| schema.get("elements")?.as_array());
        elements.into_iter().flatten().filter_map(column).collect()
    }
}

fn column(element: &Value) -> Option<Column> {
    let name = element.get("name")?.as_str()?.to_owned();
    let kind = element.get("type")?;
    let base = kind.get("base").and_then(Value::as_str).unwrap_or_default();
    let kind = match base {
        "boolean" => ColumnType::Bool,
        "smallint" | "integer" | "bigint" => ColumnType::Int,
        "numeric" | "decimal" => match kind.get("scale").and_then(Value::as_i64) {
            None | Some(0) => ColumnType::Int,
            Some(scale) => ColumnType::Decimal { scale: i8::try_from(scale).ok()? },
        },
        "real" | "double precision" => ColumnType::Float,
        "date" => ColumnType::Date,
        "timestamp without time zone" => ColumnType::Naive,
        "timestamp with time zone" => ColumnType::Instant,
        _ => ColumnType::Text,
    };
    Some(Column { name, kind })
}

/// Whether a file's name is a manifest's: Redshift appends `manifest` to the prefix of the UNLOAD.
pub(super) fn is_manifest_name(name: &str) -> bool {
    name.ends_with("manifest") || name.ends_with("manifest.json")
}

/// Keys that an entry's url may mean, best first. `root` is the unload's root, `manifest` the manifest's key,
/// and `exists` tells whether a key was listed. A manifest that was copied along with its files names places
/// where they no longer are, so the end of the url's path is looked for beside the manifest.
pub(super) fn resolve(
    root: &str,
    manifest: &str,
    url: &str,
    exists: impl Fn(&str) -> bool,
) -> Option<String> {
    let path = if let Some(rest) = url.strip_prefix("s3://") {
        let (bucket, key) = rest.split_once('/')?;
        if root.strip_prefix("s3://") == Some(bucket) {
            return Some(key.to_owned());
        }
        key
    } else {
        let path = url.strip_prefix("file://").unwrap_or(url);
        if path.split('/').any(|part| part == "..") {
            return None;
        }
        let below = path.strip_prefix(root).and_then(|below| below.strip_prefix('/'));
        if let Some(key) = below.filter(|_| path.starts_with('/')) {
            return Some(key.to_owned());
        }
        path
    };
    let folder = manifest.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut rest = path.trim_start_matches('/');
    loop {
        let key = if folder.is_empty() { rest.to_owned() } else { format!("{folder}/{rest}") };
        if exists(&key) {
            return Some(key);
        }
        rest = rest.split_once('/')?.1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vendors_sample_is_read() {
        let body = br#"{"entries":[{"url":"s3://b/run/0000_part_00.parquet","meta":{"content_length":32295,"record_count":10}}],
            "schema":{"elements":[{"name":"customer_id","type":{"base":"bigint"}},
              {"name":"email","type":{"base":"character varying","max_length":256}},
              {"name":"balance","type":{"base":"numeric","precision":18,"scale":2}}]},
            "meta":{"content_length":32295,"record_count":10},"author":{"name":"Amazon Redshift","version":"1.0.0"}}"#;
        let manifest = Manifest::parse("manifest", body).unwrap();
        assert_eq!(manifest.entries[0].meta.unwrap().record_count, Some(10));
        let kinds: Vec<_> = manifest.columns().into_iter().map(|column| column.kind).collect();
        assert_eq!(kinds, [ColumnType::Int, ColumnType::Text, ColumnType::Decimal { scale: 2 }]);
    }

    #[test]
    fn damaged_manifests_are_refused() {
        for body in ["", "[1]", "{\"entries\":[{}]}", "{\"entries\":[{\"url\":\"a\"},{\"url\":\"a\"}]}"] {
            assert!(Manifest::parse("manifest", body.as_bytes()).is_err(), "{body}");
        }
    }

    #[test]
    fn urls_are_resolved() {
        let listed = ["day/a.parquet", "day/plan=x/a.parquet", "a.parquet"];
        let cases = [
            ("s3://b", "day/manifest", "s3://b/other/a.parquet", Some("other/a.parquet")),
            ("s3://copy", "day/manifest", "s3://b/run/plan=x/a.parquet", Some("day/plan=x/a.parquet")),
            ("/root", "day/manifest", "s3://b/run/day/a.parquet", Some("day/a.parquet")),
            ("/root", "manifest", "s3://b/run/a.parquet", Some("a.parquet")),
            ("/root", "day/manifest", "file:///root/day/a.parquet", Some("day/a.parquet")),
            ("/root", "day/manifest", "a.parquet", Some("day/a.parquet")),
            ("/root", "day/manifest", "../../etc/passwd", None),
            ("/root", "day/manifest", "s3://b/none.parquet", None),
        ];
        for (root, manifest, url, expected) in cases {
            let found = resolve(root, manifest, url, |key| listed.contains(&key));
            assert_eq!(found.as_deref(), expected, "{root} {url}");
        }
    }
}
