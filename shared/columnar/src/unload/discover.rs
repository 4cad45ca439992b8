//! Finds the newest complete unload of a location, verifies it and pins it.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::stream::{self, StreamExt, TryStreamExt};
use penstock_model::Timestamp;
use penstock_model::definition::Complete;
use penstock_model::port::{ObjectMeta, Objects, OpenObjects};
use penstock_model::unload::{Column, ColumnType, PinnedUnload, UnloadFile};
use xxhash_rust::xxh3::Xxh3;

use super::UnloadError;
use super::footer::{self, Pages};
use super::location::{Location, is_hidden, is_parquet_name, partition_values};
use super::manifest::{Manifest, Meta, is_manifest_name, resolve};
use super::schema::{FileColumn, FileSchema, file_columns, merge_files};

/// Footers that are fetched at the same time.
const FOOTERS_IN_FLIGHT: usize = 64;
/// How much later than its marker a file may have been written: folders are copied in any order.
const COPY_TOLERANCE_MS: i64 = 60_000;
const MARKER: &str = "_SUCCESS";
/// Where Snowflake puts the rows whose partition expression is null.
const NULL_FOLDER: &str = "__NULL__";

/// A pinned unload and its columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discovered {
    /// The files, pinned.
    pub unload: PinnedUnload,
    /// All columns that can be used, in the order and spelling of the first file; then those of the path. Timestamps without
    /// zone are as they are: see [`super::with_zone`].
    pub columns: Vec<Column>,
    /// The columns that can't be used, which is nothing to whoever does not need them: see [`Discovered::check`].
    pub unusable: Vec<Unusable>,
}

/// A column that the files of one unload disagree on, that some lack, or whose type can't be read without loss.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unusable {
    /// Its name, lower case.
    pub column: String,
    /// Why it can't be used, with the files that differ.
    pub why: String,
}

impl Discovered {
    /// Whether all of these columns, in any case, can be used as far as they are there.
    ///
    /// # Errors
    /// [`UnloadError::SchemaMismatch`] with the first that can't, and the files that differ.
    pub fn check(&self, wanted: impl IntoIterator<Item = impl AsRef<str>>) -> Result<(), UnloadError> {
        for name in wanted {
            let lower = name.as_ref().to_lowercase();
            if let Some(found) = self.unusable.iter().find(|unusable| unusable.column == lower) {
                return Err(UnloadError::mismatch(found.why.clone()));
            }
        }
        Ok(())
    }
}

/// Finds the newest complete unload at `location` (`s3://bucket/prefix/`, an absolute folder, or one Parquet file,
/// which is complete by itself) and pins its files. `*` stands for letters within one part of the path.
///
/// Sizes and row counts are verified against the manifest, if that is what says the unload is complete.
///
/// # Errors
/// [`UnloadError::Missing`] without a complete unload that has files; `Corrupt`, `SchemaMismatch` or `Storage` if its files can't
/// be used; `Definition` if `location` is not written as it should be.
pub async fn discover(
    opener: &dyn OpenObjects,
    location: &str,
    complete: Complete,
) -> Result<Discovered, UnloadError> {
    let parsed = Location::parse(location)?;
    let (objects, parsed, candidates) = list(opener, parsed).await?;
    let mut found: Vec<Candidate> = Vec::new();
    let mut incomplete = 0;
    for (prefix, listed) in candidates {
        match signal(&prefix, &listed, complete) {
            Some(signal) => found.push(Candidate { prefix, listed, signal }),
            None => incomplete += listed.len(),
        }
    }
    let newest = found
        .into_iter()
        .max_by(|a, b| (a.completed_at(), &a.prefix).cmp(&(b.completed_at(), &b.prefix)))
        .ok_or_else(|| not_found(location, complete, incomplete))?;
    newest.pin(objects.as_ref(), &parsed.root).await
}

async fn list(
    opener: &dyn OpenObjects,
    location: Location,
) -> Result<(Arc<dyn Objects>, Location, BTreeMap<String, Vec<ObjectMeta>>), UnloadError> {
    let as_file = location.as_file();
    let first = match &as_file {
        Some(file) if file.parts.iter().any(|name| is_parquet_name(name)) => file.clone(),
        Some(_) | None => location.clone(),
    };
    let mut tried = list_at(opener, first).await;
    let nothing = tried.as_ref().map_or(true, |(_, _, candidates)| candidates.is_empty());
    if let Some(file) = as_file.filter(|_| nothing) {
        let again = list_at(opener, file).await;
        if again.as_ref().is_ok_and(|(_, _, candidates)| !candidates.is_empty()) {
            tried = again;
        }
    }
    tried
}

async fn list_at(
    opener: &dyn OpenObjects,
    location: Location,
) -> Result<(Arc<dyn Objects>, Location, BTreeMap<String, Vec<ObjectMeta>>), UnloadError> {
    let objects = opener.open(&location.root).map_err(UnloadError::Storage)?;
    let listed = objects.list(&location.listing_prefix()).await.map_err(UnloadError::Storage)?;
    let candidates = location.candidates(listed);
    Ok((objects, location, candidates))
}

fn not_found(location: &str, complete: Complete, incomplete: usize) -> UnloadError {
    let wanted = match complete {
        Complete::RedshiftManifest => "a Redshift manifest (an object whose name ends in \"manifest\")",
        Complete::SuccessMarker => "the marker _SUCCESS",
        Complete::Any | Complete::AsListed => {
            "a Redshift manifest (an object whose name ends in \"manifest\") or the marker _SUCCESS"
        }
    };
    UnloadError::missing(if incomplete == 0 {
        format!("there is no unload at {location}: nothing was found there")
    } else {
        format!(
            "there is no complete unload at {location}: {incomplete} objects were found, but not {wanted}, which is \
             written last"
        )
    })
}

/// What tells that a prefix is complete.
enum Signal {
    Manifest(ObjectMeta),
    Marker(ObjectMeta),
    OneFile(ObjectMeta),
    /// Nothing but the user's word; its newest file.
    Listing(ObjectMeta),
}

fn signal(prefix: &str, listed: &[ObjectMeta], complete: Complete) -> Option<Signal> {
    if let [only] = listed
        && only.key == prefix
    {
        return Some(Signal::OneFile(only.clone()));
    }
    let named = |wanted: fn(&str) -> bool| {
        listed
            .iter()
            .filter(|object| {
                object.key.strip_prefix(prefix).is_some_and(|name| !name.contains('/') && wanted(name))
            })
            .max_by_key(|object| object.modified)
            .cloned()
    };
    let manifest = || named(is_manifest_name).map(Signal::Manifest);
    let marker = || named(|name| name == MARKER).map(Signal::Marker);
    let listing = || {
        let files = listed.iter().filter(|object| is_data(prefix, object));
        files.max_by_key(|object| object.modified).cloned().map(Signal::Listing)
    };
    match complete {
        Complete::RedshiftManifest => manifest(),
        Complete::SuccessMarker => marker(),
        Complete::Any => manifest().or_else(marker),
        Complete::AsListed => manifest().or_else(marker).or_else(listing),
    }
}

struct Candidate {
    prefix: String,
    listed: Vec<ObjectMeta>,
    signal: Signal,
}

/// A file to pin, and what the manifest says of it.
struct Wanted {
    object: ObjectMeta,
    meta: Meta,
    partition_values: BTreeMap<String, Option<String>>,
}

struct Footer {
    row_groups: Vec<u32>,
    row_group_bytes: Vec<u64>,
    columns: Vec<FileColumn>,
}

impl Candidate {
    fn completed_at(&self) -> Timestamp {
        match &self.signal {
            Signal::Manifest(object)
            | Signal::Marker(object)
            | Signal::OneFile(object)
            | Signal::Listing(object) => object.modified,
        }
    }

    fn below<'a>(&self, key: &'a str) -> &'a str {
        below(&self.prefix, key)
    }

    fn place(&self, root: &str) -> String {
        format!("{}/{}", root.trim_end_matches('/'), self.prefix)
    }

    async fn pin(self, objects: &dyn Objects, root: &str) -> Result<Discovered, UnloadError> {
        let place = self.place(root);
        if self
            .listed
            .iter()
            .any(|object| self.below(&object.key).split('/').any(|part| part == "_delta_log"))
        {
            return Err(UnloadError::missing(format!(
                "{place} is a Delta table, whose files hold deleted rows too: unload it by a query"
            )));
        }
        let mut totals = Meta::default();
        let mut stated = Vec::new();
        let mut wanted = match &self.signal {
            Signal::OneFile(object) => vec![self.wanted(object.clone(), Meta::default())],
            Signal::Marker(last) | Signal::Listing(last) => self.data_files(last)?,
            Signal::Manifest(object) => {
                let manifest = read_manifest(objects, object).await?;
                totals = manifest.meta.unwrap_or_default();
                stated = manifest.columns();
                self.named_files(objects, root, object, &manifest).await?
            }
        };
        if wanted.is_empty() && stated.is_empty() {
            return Err(UnloadError::missing(format!("the unload at {place} is complete but has no files")));
        }
        wanted.sort_by(|a, b| a.object.key.cmp(&b.object.key));
        fill_null_folders(&mut wanted);
        let footers = footers(objects, &wanted).await?;
        verify(&self.signal, &wanted, &footers, totals)?;
        let (columns, unusable) =
            if wanted.is_empty() { (stated, Vec::new()) } else { merge(&wanted, &footers) };
        let completed_at = self.completed_at();
        let files: Vec<UnloadFile> =
            wanted.into_iter().zip(footers).map(|(wanted, footer)| file(wanted, footer, &columns)).collect();
        let unload = PinnedUnload {
            root: root.to_owned(),
            prefix: place,
            identity: identity(&files),
            completed_at,
            files,
        };
        Ok(Discovered { unload, columns, unusable })
    }

    fn wanted(&self, object: ObjectMeta, meta: Meta) -> Wanted {
        let partition_values = partition_values(self.below(&object.key));
        Wanted { object, meta, partition_values }
    }

    /// Every data file under the prefix.
    fn data_files(&self, marker: &ObjectMeta) -> Result<Vec<Wanted>, UnloadError> {
        let mut files = Vec::new();
        for object in &self.listed {
            if !is_data(&self.prefix, object) {
                continue;
            }
            refuse_later(object, marker)?;
            files.push(self.wanted(object.clone(), Meta::default()));
        }
        Ok(files)
    }

    /// The files that a manifest names, hidden or not.
    async fn named_files(
        &self,
        objects: &dyn Objects,
        root: &str,
        manifest: &ObjectMeta,
        named: &Manifest,
    ) -> Result<Vec<Wanted>, UnloadError> {
        let listed: BTreeMap<&str, &ObjectMeta> =
            self.listed.iter().map(|object| (object.key.as_str(), object)).collect();
        let mut files: BTreeMap<String, Wanted> = BTreeMap::new();
        for entry in &named.entries {
            let gone = || {
                UnloadError::corrupt(&entry.url, format!("{} names it, but it is not there", manifest.key))
            };
            let key =
                resolve(root, &manifest.key, &entry.url, |key| listed.contains_key(key)).ok_or_else(gone)?;
            let object = match listed.get(key.as_str()) {
                Some(object) => (*object).clone(),
                None => objects.head(&key).await.map_err(UnloadError::Storage)?.ok_or_else(gone)?,
            };
            let meta = entry.meta.unwrap_or_default();
            if meta.content_length.is_none() {
                refuse_later(&object, manifest)?;
            }
            if files.insert(key, self.wanted(object, meta)).is_some() {
                return Err(UnloadError::corrupt(&entry.url, format!("{} names it twice", manifest.key)));
            }
        }
        Ok(files.into_values().collect())
    }
}

/// Whether an object is neither hidden nor empty nor a manifest nor a folder's own.
fn is_data(prefix: &str, object: &ObjectMeta) -> bool {
    let below = below(prefix, &object.key);
    let hidden = below.split('/').any(|part| is_hidden(part) && part != NULL_FOLDER);
    let manifest = !below.contains('/') && is_manifest_name(below);
    !(hidden || manifest || object.size == 0 || below.is_empty() || below.ends_with('/'))
}

fn below<'a>(prefix: &str, key: &'a str) -> &'a str {
    key.strip_prefix(prefix).unwrap_or(key).trim_start_matches('/')
}

/// A file written after the marker belongs to an unload that is not finished.
fn refuse_later(object: &ObjectMeta, signal: &ObjectMeta) -> Result<(), UnloadError> {
    if object.modified.0 <= signal.modified.0.saturating_add(COPY_TOLERANCE_MS) {
        return Ok(());
    }
    Err(UnloadError::missing(format!(
        "the unload is being written again: {} is newer than {}, which is written last",
        object.key, signal.key
    )))
}

async fn read_manifest(objects: &dyn Objects, object: &ObjectMeta) -> Result<Manifest, UnloadError> {
    let found = objects.get(&object.key).await.map_err(UnloadError::Storage)?;
    let (body, _) =
        found.ok_or_else(|| UnloadError::corrupt(&object.key, "it is gone since it was listed"))?;
    Manifest::parse(&object.key, &body)
}

/// Files in Snowflake's folder of null partitions have every partition column, as null.
fn fill_null_folders(wanted: &mut [Wanted]) {
    let names: Vec<String> = wanted.iter().flat_map(|file| file.partition_values.keys().cloned()).collect();
    for file in wanted.iter_mut() {
        if file.object.key.split('/').any(|part| part == NULL_FOLDER) {
            for name in &names {
                file.partition_values.entry(name.clone()).or_insert(None);
            }
        }
    }
}

async fn footers(objects: &dyn Objects, wanted: &[Wanted]) -> Result<Vec<Footer>, UnloadError> {
    let reads: Vec<_> = wanted.iter().map(|wanted| footer_of(objects, wanted)).collect();
    stream::iter(reads).buffered(FOOTERS_IN_FLIGHT).try_collect().await
}

async fn footer_of(objects: &dyn Objects, wanted: &Wanted) -> Result<Footer, UnloadError> {
    let ObjectMeta { key, size, etag, .. } = &wanted.object;
    if let Some(stated) = wanted.meta.content_length.filter(|stated| stated != size) {
        return Err(UnloadError::corrupt(key, format!("it has {size} bytes, its manifest says {stated}")));
    }
    let metadata = footer::fetch(objects, key, *size, etag, Pages::Unlocated).await?;
    let row_groups = footer::row_groups(key, &metadata)?;
    let rows = total(&row_groups);
    if let Some(stated) = wanted.meta.record_count.filter(|stated| *stated != rows) {
        return Err(UnloadError::corrupt(key, format!("it has {rows} rows, its manifest says {stated}")));
    }
    let row_group_bytes = footer::row_group_bytes(&metadata);
    Ok(Footer { row_groups, row_group_bytes, columns: file_columns(key, &metadata)? })
}

fn total(row_groups: &[u32]) -> u64 {
    row_groups.iter().map(|rows| u64::from(*rows)).sum()
}

fn verify(signal: &Signal, wanted: &[Wanted], footers: &[Footer], totals: Meta) -> Result<(), UnloadError> {
    let Signal::Manifest(manifest) = signal else { return Ok(()) };
    let bytes: u64 = wanted.iter().map(|wanted| wanted.object.size).sum();
    let rows: u64 = footers.iter().map(|footer| total(&footer.row_groups)).sum();
    for (stated, actual, unit) in
        [(totals.content_length, bytes, "bytes"), (totals.record_count, rows, "rows")]
    {
        if let Some(stated) = stated.filter(|stated| *stated != actual) {
            let why = format!("it says that there are {stated} {unit} in all, but its files have {actual}");
            return Err(UnloadError::corrupt(&manifest.key, why));
        }
    }
    Ok(())
}

fn merge(wanted: &[Wanted], footers: &[Footer]) -> (Vec<Column>, Vec<Unusable>) {
    let schemas: Vec<FileSchema<'_>> = wanted
        .iter()
        .zip(footers)
        .map(|(wanted, footer)| FileSchema {
            file: &wanted.object.key,
            columns: footer.columns.clone(),
            partition_values: &wanted.partition_values,
        })
        .collect();
    merge_files(&schemas)
}

/// The file, with what it has otherwise than the unload's columns have it.
fn file(wanted: Wanted, footer: Footer, columns: &[Column]) -> UnloadFile {
    let ObjectMeta { key, size, etag, .. } = wanted.object;
    let is_naive = |lower: &String| {
        columns.iter().any(|column| column.kind == ColumnType::Naive && column.name.to_lowercase() == *lower)
    };
    let int96 = footer.columns.iter().filter(|own| own.kind.as_ref().is_some_and(|kind| kind.int96));
    let naive_int96 = int96.map(|own| own.name.to_lowercase()).filter(is_naive).collect();
    UnloadFile {
        key,
        size,
        etag,
        rows: total(&footer.row_groups),
        row_groups: footer.row_groups,
        row_group_bytes: footer.row_group_bytes,
        naive_int96,
        partition_values: wanted.partition_values,
    }
}

fn identity(files: &[UnloadFile]) -> String {
    let mut hash = Xxh3::new();
    for file in files {
        for part in [file.key.as_bytes(), &file.size.to_le_bytes(), file.etag.0.as_bytes()] {
            hash.update(&(part.len() as u64).to_le_bytes());
            hash.update(part);
        }
    }
    format!("{:032x}", hash.digest128())
}

#[cfg(test)]
mod differing;
#[cfg(test)]
mod tests;
