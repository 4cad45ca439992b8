//! Where an unload may lie: a prefix or file, or a pattern that many prefixes match.

use std::collections::BTreeMap;

use penstock_model::port::ObjectMeta;

use super::UnloadError;

/// A location, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Location {
    /// What the store is opened at: `s3://bucket`, or the folder above the first `*`.
    pub(super) root: String,
    /// The rest: parts of a path below the root, in which `*` stands for letters within one part.
    pub(super) parts: Vec<String>,
    /// Whether the location ends with `/`, so that it can only be a folder.
    pub(super) folder: bool,
}

impl Location {
    /// Takes `s3://bucket/prefix/`, an absolute folder or `file://` apart.
    pub(super) fn parse(text: &str) -> Result<Self, UnloadError> {
        let invalid = |why: &str| UnloadError::Definition {
            message: format!("the location {text} can't be used: {why}"),
        };
        let folder = text.ends_with('/');
        if let Some(rest) = text.strip_prefix("s3://") {
            let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
            if bucket.is_empty() || bucket.contains('*') {
                return Err(invalid("it names no bucket"));
            }
            let parts = parts_of(key);
            return Ok(Self { root: format!("s3://{bucket}"), folder: folder || parts.is_empty(), parts });
        }
        let path = text.strip_prefix("file://").unwrap_or(text);
        if !path.starts_with('/') {
            return Err(invalid("it is neither s3://bucket/prefix/ nor an absolute folder"));
        }
        let mut parts = parts_of(path);
        let fixed = parts.iter().position(|part| part.contains('*')).unwrap_or(parts.len());
        let below = parts.split_off(fixed);
        Ok(Self { root: format!("/{}", parts.join("/")), folder: folder || below.is_empty(), parts: below })
    }

    /// For a local location without `*`: the same one, seen from the folder above, as a file's would be.
    pub(super) fn as_file(&self) -> Option<Self> {
        if !self.parts.is_empty() || self.root.starts_with("s3://") {
            return None;
        }
        let (folder, name) = self.root.rsplit_once('/')?;
        let root = if folder.is_empty() { "/" } else { folder };
        Some(Self { root: root.to_owned(), parts: vec![name.to_owned()], folder: false })
    }

    /// The key prefix that all matches share, to list by.
    pub(super) fn listing_prefix(&self) -> String {
        let mut prefix = String::new();
        for part in &self.parts {
            if let Some((before, _)) = part.split_once('*') {
                prefix.push_str(before);
                return prefix;
            }
            prefix.push_str(part);
            prefix.push('/');
        }
        if !self.folder {
            prefix.pop();
        }
        prefix
    }

    /// The objects of each prefix that matches, by prefix. A prefix that is an object's whole key stands for that
    /// one file; one without `/` at its end is the beginning of names, as Redshift's UNLOAD takes it.
    pub(super) fn candidates(&self, listed: Vec<ObjectMeta>) -> BTreeMap<String, Vec<ObjectMeta>> {
        let mut found: BTreeMap<String, Vec<ObjectMeta>> = BTreeMap::new();
        let mut beginnings = Vec::new();
        for object in listed {
            match self.prefix_of(&object.key) {
                Some(prefix) => found.entry(prefix).or_default().push(object),
                None => beginnings.push(object),
            }
        }
        if found.is_empty() && !self.folder && !self.has_wildcard() && !beginnings.is_empty() {
            found.insert(self.parts.join("/"), beginnings);
        }
        found
    }

    fn has_wildcard(&self) -> bool {
        self.parts.iter().any(|part| part.contains('*'))
    }

    fn prefix_of(&self, key: &str) -> Option<String> {
        let mut prefix = String::new();
        let mut rest = key;
        for (at, pattern) in self.parts.iter().enumerate() {
            let last = at + 1 == self.parts.len();
            match rest.split_once('/') {
                Some((part, below)) if matches(pattern, part) => {
                    prefix.push_str(part);
                    prefix.push('/');
                    rest = below;
                }
                None if last && !self.folder && matches(pattern, rest) => {
                    let by_wildcard = pattern.contains('*') && !is_parquet_name(rest);
                    return (!by_wildcard).then(|| key.to_owned());
                }
                Some(_) | None => return None,
            }
        }
        Some(prefix)
    }
}

/// Whether a name says that it is one Parquet file.
pub(super) fn is_parquet_name(name: &str) -> bool {
    name.to_ascii_lowercase().ends_with(".parquet")
}

fn parts_of(path: &str) -> Vec<String> {
    path.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

/// Whether one part of a path matches a pattern. `*` never takes a hidden name.
fn matches(pattern: &str, part: &str) -> bool {
    let Some((before, mut rest_pattern)) = pattern.split_once('*') else { return pattern == part };
    if before.is_empty() && is_hidden(part) {
        return false;
    }
    let Some(mut rest) = part.strip_prefix(before) else { return false };
    while let Some((middle, after)) = rest_pattern.split_once('*') {
        let Some(at) = rest.find(middle) else { return false };
        rest = rest.get(at + middle.len()..).unwrap_or_default();
        rest_pattern = after;
    }
    rest.ends_with(rest_pattern)
}

/// Whether a part of a path is a marker or a hidden file by the convention of Hadoop.
pub(super) fn is_hidden(part: &str) -> bool {
    part.starts_with('_') || part.starts_with('.')
}

/// The partition columns that a path below the prefix states (`plan=pro/file`), in Hive's convention.
pub(super) fn partition_values(below: &str) -> BTreeMap<String, Option<String>> {
    let folders = below.rsplit_once('/').map_or("", |(folders, _)| folders);
    folders
        .split('/')
        .filter_map(|part| part.split_once('='))
        .map(|(name, value)| {
            let null = matches!(value, "__HIVE_DEFAULT_PARTITION__" | "__NULL__");
            (percent_decoded(name), (!null).then(|| percent_decoded(value)))
        })
        .collect()
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = match (first, tail) {
            (b'%', [high, low, ..]) => hex(*high).zip(hex(*low)).map(|(high, low)| high << 4 | low),
            _ => None,
        };
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { tail.get(2..).unwrap_or_default() } else { tail };
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_taken_apart() {
        let cases = [
            ("s3://b/run/", "s3://b", "run", true, "run/"),
            ("s3://b", "s3://b", "", true, ""),
            ("s3://b/venue_", "s3://b", "venue_", false, "venue_"),
            ("s3://b/c/dt=*/", "s3://b", "c/dt=*", true, "c/dt="),
            ("/data/unloads", "/data/unloads", "", true, ""),
            ("/data/c/dt=*/", "/data/c", "dt=*", true, "dt="),
            ("file:///data/*/x", "/data", "*/x", false, ""),
        ];
        for (text, root, parts, folder, listing) in cases {
            let location = Location::parse(text).unwrap();
            assert_eq!(location.root, root, "{text}");
            assert_eq!(location.parts.join("/"), parts, "{text}");
            assert_eq!(location.folder, folder, "{text}");
            assert_eq!(location.listing_prefix(), listing, "{text}");
        }
        for text in ["relative/folder", "s3://", "gs://bucket/x", "s3://*/x"] {
            assert!(Location::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_star_stays_within_one_part() {
        let cases = [
            ("s3://b/c/dt=*/", "c/dt=1/a.parquet", Some("c/dt=1/")),
            ("s3://b/c/dt=*/", "c/dt=1/x=2/a.parquet", Some("c/dt=1/")),
            ("s3://b/c/dt=*/", "c/other/a.parquet", None),
            ("s3://b/c/*/", "c/_temporary/a.parquet", None),
            ("s3://b/c/*/", "c/loose.parquet", None),
            ("s3://b/c/*.parquet", "c/day1.parquet", Some("c/day1.parquet")),
            ("s3://b/c/*/run/", "c/1/run/a", Some("c/1/run/")),
            ("s3://b/c", "c/a.parquet", Some("c/")),
            ("s3://b/c", "c", Some("c")),
            ("s3://b/c/", "customers/a", None),
            ("s3://b/a*b*c/", "aXXbYYc/f", Some("aXXbYYc/")),
            ("s3://b/a*b*c/", "aXXcYYb/f", None),
        ];
        for (location, key, expected) in cases {
            let found = Location::parse(location).unwrap().prefix_of(key);
            assert_eq!(found.as_deref(), expected, "{location} {key}");
        }
    }

    #[test]
    fn partition_values_are_decoded() {
        let values =
            partition_values("a%3Db=x%2Fy%20z/n=__HIVE_DEFAULT_PARTITION__/s=__NULL__/bad=100%/plain/f=1");
        let expected = [("a=b", Some("x/y z")), ("bad", Some("100%")), ("n", None), ("s", None)];
        let expected: BTreeMap<String, Option<String>> =
            expected.map(|(name, value)| (name.to_owned(), value.map(str::to_owned))).into();
        assert_eq!(values, expected);
    }
}
