use std::fs::{File, Metadata};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::ops::Range;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use penstock_model::Timestamp;
use penstock_model::port::{Boxed, Condition, ETag, ObjectError, ObjectMeta, Objects, Put};
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use crate::version;

/// Names that begin so are this module's own: half-written objects and locks. They are never listed.
const OWN: &str = ".penstock-tmp";
/// Objects up to this size have a version that follows from their content alone, as on S3.
const HASHED_WHOLE: u64 = 1 << 20;
/// Writers of two keys that fall on the same lock wait for each other; many locks make that rare.
const LOCKS: u64 = 256;

/// Objects as files below a folder. Several processes may use the same folder at the same time.
///
/// A write goes into a temporary file beside its target and appears whole, by rename (or by link, where it must
/// not replace anything). Swaps, replacements and deletions of a key exclude each other by a file lock.
/// As on any file system, a key can't also be the prefix of another key up to a slash.
#[derive(Debug, Clone)]
pub struct FolderObjects {
    root: Arc<Root>,
}

#[derive(Debug)]
struct Root {
    path: PathBuf,
    name: String,
}

impl FolderObjects {
    /// The objects below this folder. It is created with the first object.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        let path = root.into();
        let name = path.to_string_lossy().into_owned();
        Self { root: Arc::new(Root { path, name }) }
    }

    /// Runs file operations on a thread where they may block.
    async fn blocking<T: Send + 'static>(
        &self,
        key: &str,
        action: &'static str,
        work: impl FnOnce(&Root, &str) -> Result<T, ObjectError> + Send + 'static,
    ) -> Result<T, ObjectError> {
        let (root, owned) = (Arc::clone(&self.root), key.to_owned());
        match tokio::task::spawn_blocking(move || work(&root, &owned)).await {
            Ok(done) => done,
            Err(stopped) => Err(ObjectError::Unavailable {
                key: key.to_owned(),
                action,
                // The error itself would quote a panic's message.
                source: Box::new(io::Error::other(if stopped.is_panic() {
                    "the file operation panicked"
                } else {
                    "the runtime is shutting down"
                })),
            }),
        }
    }
}

impl Objects for FolderObjects {
    fn get<'a>(&'a self, key: &'a str) -> Boxed<'a, Result<Option<(Bytes, ETag)>, ObjectError>> {
        Box::pin(self.blocking(key, "read", |root, key| {
            let file = root.file(key, "read")?;
            read_whole(&file).map_err(|error| unavailable(key, "read", error))
        }))
    }

    fn get_range<'a>(
        &'a self,
        key: &'a str,
        range: Range<u64>,
        version: Option<&'a ETag>,
    ) -> Boxed<'a, Result<Bytes, ObjectError>> {
        let version = version.cloned();
        Box::pin(self.blocking(key, "read", move |root, key| {
            let file = root.file(key, "read")?;
            read_range(&file, key, range, version.as_ref())
        }))
    }

    fn head<'a>(&'a self, key: &'a str) -> Boxed<'a, Result<Option<ObjectMeta>, ObjectError>> {
        Box::pin(self.blocking(key, "read", |root, key| {
            let file = root.file(key, "read")?;
            describe(&file, key).map_err(|error| unavailable(key, "read", error))
        }))
    }

    fn put<'a>(
        &'a self,
        key: &'a str,
        body: Bytes,
        condition: Condition,
    ) -> Boxed<'a, Result<Put, ObjectError>> {
        Box::pin(self.blocking(key, "written", move |root, key| {
            let file = root.file(key, "written")?;
            root.write(key, &file, &body, &condition).map_err(|error| unavailable(key, "written", error))
        }))
    }

    fn list<'a>(&'a self, prefix: &'a str) -> Boxed<'a, Result<Vec<ObjectMeta>, ObjectError>> {
        Box::pin(self.blocking(prefix, "listed", |root, prefix| {
            if let Some((folder, _)) = prefix.rsplit_once('/') {
                version::check_key(folder, "listed")?;
            }
            root.list(prefix).map_err(|error| unavailable(prefix, "listed", error))
        }))
    }

    fn folders<'a>(&'a self, prefix: &'a str) -> Boxed<'a, Result<Vec<String>, ObjectError>> {
        Box::pin(self.blocking(prefix, "listed", |root, prefix| {
            version::check_key(prefix.trim_end_matches('/'), "listed")?;
            root.folders(prefix).map_err(|error| unavailable(prefix, "listed", error))
        }))
    }

    fn delete<'a>(&'a self, key: &'a str) -> Boxed<'a, Result<(), ObjectError>> {
        Box::pin(self.blocking(key, "deleted", |root, key| {
            let file = root.file(key, "deleted")?;
            root.delete(key, &file).map_err(|error| unavailable(key, "deleted", error))
        }))
    }

    fn bucket(&self) -> &str {
        &self.root.name
    }
}

fn unavailable(key: &str, action: &'static str, error: io::Error) -> ObjectError {
    let (key, source) = (key.to_owned(), Box::new(error));
    if source.kind() == ErrorKind::PermissionDenied {
        let help = "let this user read and write the folder".to_owned();
        return ObjectError::Denied { key, action, help, source };
    }
    ObjectError::Unavailable { key, action, source }
}

impl Root {
    /// The file of a key. The key can't lead out of the folder, nor name a temporary file.
    fn file(&self, key: &str, action: &'static str) -> Result<PathBuf, ObjectError> {
        version::check_key(key, action)?;
        if key.split('/').any(|name| name.starts_with(OWN)) {
            let error = io::Error::other(format!("names that begin with {OWN} are taken"));
            return Err(unavailable(key, action, error));
        }
        Ok(self.path.join(key))
    }

    fn write(&self, key: &str, file: &Path, body: &[u8], condition: &Condition) -> io::Result<Put> {
        let folder = file.parent().unwrap_or(&self.path);
        std::fs::create_dir_all(folder)?;
        if *condition == Condition::IfAbsent && file.is_file() {
            return Ok(Put::Refused);
        }
        let draft = Draft::write(folder, body)?;
        match condition {
            Condition::IfAbsent => match std::fs::hard_link(&draft.path, file) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::AlreadyExists && !file.is_dir() => {
                    return Ok(Put::Refused);
                }
                Err(error) => return Err(error),
            },
            Condition::Always => {
                let _lock = self.lock(key)?;
                std::fs::rename(&draft.path, file)?;
            }
            Condition::IfMatch(wanted) => {
                let _lock = self.lock(key)?;
                if etag(file)?.as_ref() != Some(wanted) {
                    return Ok(Put::Refused);
                }
                std::fs::rename(&draft.path, file)?;
            }
        }
        let written = match body.len() as u64 {
            0..=HASHED_WHOLE => version::of_content(body),
            _ => large_etag(&draft.metadata),
        };
        Ok(Put::Written(written))
    }

    fn delete(&self, key: &str, file: &Path) -> io::Result<()> {
        let _lock = self.lock(key)?;
        match std::fs::remove_file(file) {
            Err(error) if !is_absence(&error) => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Waits for the key's lock; it is given back when the file is closed, also by a process that dies.
    fn lock(&self, key: &str) -> io::Result<File> {
        let folder = self.path.join(format!("{OWN}-locks"));
        std::fs::create_dir_all(&folder)?;
        let path = folder.join(format!("{:02x}", xxh3_64(key.as_bytes()) % LOCKS));
        let file = File::options().create(true).truncate(false).write(true).open(path)?;
        file.lock()?;
        Ok(file)
    }

    fn folders(&self, prefix: &str) -> io::Result<Vec<String>> {
        let entries = match std::fs::read_dir(self.path.join(prefix)) {
            Ok(entries) => entries,
            Err(error) if is_absence(&error) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if !name.starts_with(OWN) && entry.path().is_dir() {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn list(&self, prefix: &str) -> io::Result<Vec<ObjectMeta>> {
        let folder = prefix.rsplit_once('/').map_or("", |(folder, _)| folder);
        let mut found = Vec::new();
        walk(&self.path.join(folder), folder, prefix, &mut Vec::new(), &mut found)?;
        found.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(found)
    }
}

/// A file that is written and not yet in its place. What is left of it goes when it is dropped.
struct Draft {
    path: PathBuf,
    metadata: Metadata,
}

impl Draft {
    fn write(folder: &Path, body: &[u8]) -> io::Result<Self> {
        let path = folder.join(format!("{OWN}-{:016x}", rand::random::<u64>()));
        let mut file = File::create_new(&path)?;
        let written = file
            .write_all(body)
            // The rename must not reach the disk before the content does.
            .and_then(|()| file.sync_data())
            .and_then(|()| file.metadata());
        match written {
            Ok(metadata) => Ok(Self { path, metadata }),
            Err(error) => {
                drop(std::fs::remove_file(&path));
                Err(error)
            }
        }
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Nothing is left after a rename; a leftover is not listed and harms nobody.
        drop(std::fs::remove_file(&self.path));
    }
}

/// Whether this says that there is no such file: also a parent that is a file, or a folder in its place.
fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::IsADirectory)
}

fn open(path: &Path) -> io::Result<Option<(File, Metadata)>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if is_absence(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    let metadata = file.metadata()?;
    Ok(metadata.is_file().then_some((file, metadata)))
}

fn read_whole(path: &Path) -> io::Result<Option<(Bytes, ETag)>> {
    let Some((mut file, metadata)) = open(path)? else { return Ok(None) };
    let mut body = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0));
    file.read_to_end(&mut body)?;
    let etag = match body.len() as u64 {
        0..=HASHED_WHOLE => version::of_content(&body),
        _ => large_etag(&metadata),
    };
    Ok(Some((Bytes::from(body), etag)))
}

/// The version of a large file: reading it for its hash would cost more than what is read of it.
fn large_etag(metadata: &Metadata) -> ETag {
    let mut identity = Vec::with_capacity(32);
    identity.extend(metadata.len().to_le_bytes());
    identity.extend(metadata.mtime().to_le_bytes());
    identity.extend(metadata.mtime_nsec().to_le_bytes());
    identity.extend(metadata.ino().to_le_bytes());
    ETag(format!("file-{:032x}", xxh3_128(&identity)))
}

fn etag_of(file: &File, metadata: &Metadata) -> io::Result<ETag> {
    if metadata.len() > HASHED_WHOLE {
        return Ok(large_etag(metadata));
    }
    let mut body = vec![0; usize::try_from(metadata.len()).unwrap_or(0)];
    file.read_exact_at(&mut body, 0)?;
    Ok(version::of_content(&body))
}

fn etag(path: &Path) -> io::Result<Option<ETag>> {
    open(path)?.map(|(file, metadata)| etag_of(&file, &metadata)).transpose()
}

fn read_range(
    path: &Path,
    key: &str,
    range: Range<u64>,
    version: Option<&ETag>,
) -> Result<Bytes, ObjectError> {
    let failed = |error| unavailable(key, "read", error);
    let opened = open(path).map_err(failed)?;
    let (file, metadata) = opened.ok_or_else(|| ObjectError::Missing { key: key.to_owned() })?;
    if let Some(version) = version
        && etag_of(&file, &metadata).map_err(failed)? != *version
    {
        return Err(ObjectError::Changed { key: key.to_owned() });
    }
    let length = range.end.min(metadata.len()).saturating_sub(range.start);
    let mut body = vec![0; usize::try_from(length).unwrap_or(0)];
    file.read_exact_at(&mut body, range.start).map_err(failed)?;
    Ok(Bytes::from(body))
}

fn describe(path: &Path, key: &str) -> io::Result<Option<ObjectMeta>> {
    let Some((file, metadata)) = open(path)? else { return Ok(None) };
    let modified = metadata.mtime().saturating_mul(1_000).saturating_add(metadata.mtime_nsec() / 1_000_000);
    Ok(Some(ObjectMeta {
        key: key.to_owned(),
        size: metadata.len(),
        etag: etag_of(&file, &metadata)?,
        modified: Timestamp(modified),
    }))
}

/// Collects the files below `folder` whose keys begin with `prefix`. Links are followed; `above` holds the
/// folders on the way down, so that a link to one of them is an error and not an endless walk.
fn walk(
    folder: &Path,
    folder_key: &str,
    prefix: &str,
    above: &mut Vec<(u64, u64)>,
    found: &mut Vec<ObjectMeta>,
) -> io::Result<()> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if is_absence(&error) => return Ok(()),
        Err(error) => return Err(error),
    };
    let metadata = std::fs::metadata(folder)?;
    let identity = (metadata.dev(), metadata.ino());
    if above.contains(&identity) {
        return Err(io::Error::other("a link leads back to a folder above it"));
    }
    above.push(identity);
    for entry in entries {
        let entry = entry?;
        let name =
            entry.file_name().into_string().map_err(|_| io::Error::other("a file's name is not UTF-8"))?;
        if name.starts_with(OWN) {
            continue;
        }
        let key = if folder_key.is_empty() { name } else { format!("{folder_key}/{name}") };
        // Other folders beside the prefix may be large.
        if !key.starts_with(prefix) && !prefix.starts_with(&key) {
            continue;
        }
        let path = entry.path();
        match std::fs::metadata(&path) {
            Ok(metadata) if metadata.is_dir() => walk(&path, &key, prefix, above, found)?,
            Ok(_) if key.starts_with(prefix) => found.extend(describe(&path, &key)?),
            Ok(_) => {}
            // Deleted since the folder was read. (A link to nowhere is an error: rows may be missing.)
            Err(error) if is_absence(&error) && !path.is_symlink() => {}
            Err(error) => return Err(error),
        }
    }
    above.pop();
    Ok(())
}
