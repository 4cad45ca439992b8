//! Columns of a file and of an unload: their logical types, and how Arrow is to read them.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, TimeUnit};
use parquet::arrow::parquet_to_arrow_schema;
use parquet::basic::{ConvertedType, LogicalType, Type as PhysicalType};
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use parquet::schema::types::{ColumnDescPtr, SchemaDescriptor};
use penstock_model::unload::{Column, ColumnType};

use super::footer::decoded;
use super::{UnloadError, Unusable};

/// A column of one file.
#[derive(Debug, Clone)]
pub(crate) struct FileColumn {
    /// The name as written.
    pub(crate) name: String,
    /// The logical type; `None` for a type that can't be read without loss.
    pub(crate) kind: Option<FileKind>,
    /// How Arrow is asked to read it.
    pub(crate) field: FieldRef,
    /// Its number among the file's top-level columns.
    pub(crate) root: usize,
}

impl FileColumn {
    /// INT96 as a timestamp without a zone.
    pub(crate) fn into_naive(self) -> Self {
        let micros = DataType::Timestamp(TimeUnit::Microsecond, None);
        let kind = Some(FileKind { kind: ColumnType::Naive, int96: true });
        Self { field: with_type(&self.field, micros), kind, ..self }
    }
}

/// A logical type as one file states it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileKind {
    pub(crate) kind: ColumnType,
    /// INT96 has no room for a zone: it counts as an instant, unless another file knows better.
    pub(crate) int96: bool,
}

/// The columns of a file, in its order.
pub(crate) fn file_columns(file: &str, metadata: &ParquetMetaData) -> Result<Vec<FileColumn>, UnloadError> {
    let descriptor = metadata.file_metadata().schema_descr();
    let columns = decoded(file, || columns_of(descriptor))?;
    let mut names: BTreeMap<String, &str> = BTreeMap::new();
    for column in &columns {
        if let Some(other) = names.insert(column.name.to_lowercase(), &column.name) {
            return Err(UnloadError::mismatch(format!(
                "file {file} has the columns {other} and {}, which only differ in upper and lower case",
                column.name
            )));
        }
    }
    Ok(columns)
}

fn columns_of(descriptor: &SchemaDescriptor) -> Result<Vec<FileColumn>, ParquetError> {
    // Without the footer's ARROW:schema, so that a file is read by what Parquet says, whoever wrote it.
    let schema = parquet_to_arrow_schema(descriptor, None)?;
    let mut leaves = Leaves { descriptor, next: 0 };
    schema
        .fields()
        .iter()
        .map(|field| {
            let root = descriptor.get_column_root_idx(leaves.next);
            let read = leaves.read(field)?;
            let field = with_type(field, read.data_type);
            let kind = read.kind.map(|kind| FileKind { kind, int96: read.int96 });
            Ok(FileColumn { name: field.name().clone(), kind, field, root })
        })
        .collect()
}

/// Walks the leaves of the Parquet schema in step with the Arrow fields, whose leaves have the same order.
struct Leaves<'a> {
    descriptor: &'a SchemaDescriptor,
    next: usize,
}

struct Reading {
    data_type: DataType,
    kind: Option<ColumnType>,
    int96: bool,
}

impl Leaves<'_> {
    fn leaf(&mut self) -> Result<ColumnDescPtr, ParquetError> {
        if self.next >= self.descriptor.num_columns() {
            return Err(ParquetError::General("its schema contradicts itself".to_owned()));
        }
        let leaf = self.descriptor.column(self.next);
        self.next += 1;
        Ok(leaf)
    }

    fn read(&mut self, field: &Field) -> Result<Reading, ParquetError> {
        // Parquet has no other types with children.
        if let DataType::List(element) = field.data_type() {
            return self.list(element);
        }
        if let DataType::Struct(fields) = field.data_type() {
            return self.structure(fields);
        }
        if let DataType::Map(entries, sorted) = field.data_type() {
            return self.map(entries, *sorted);
        }
        let leaf = self.leaf()?;
        let int96 = leaf.physical_type() == PhysicalType::INT96;
        let (data_type, kind) = leaf_type(field.data_type(), &leaf);
        Ok(Reading { data_type, kind, int96 })
    }

    fn list(&mut self, element: &FieldRef) -> Result<Reading, ParquetError> {
        let read = self.read(element)?;
        let data_type = DataType::List(with_type(element, read.data_type));
        let kind = read.kind.map(|kind| ColumnType::List(Box::new(kind)));
        Ok(Reading { data_type, kind, int96: false })
    }

    fn structure(&mut self, fields: &Fields) -> Result<Reading, ParquetError> {
        let mut types = Vec::with_capacity(fields.len());
        let mut kinds = Some(Vec::with_capacity(fields.len()));
        for field in fields {
            let read = self.read(field)?;
            types.push(with_type(field, read.data_type));
            kinds = kinds.zip(read.kind).map(|(mut kinds, kind)| {
                kinds.push((field.name().clone(), kind));
                kinds
            });
        }
        Ok(Reading {
            data_type: DataType::Struct(types.into()),
            kind: kinds.map(ColumnType::Struct),
            int96: false,
        })
    }

    fn map(&mut self, entries: &FieldRef, sorted: bool) -> Result<Reading, ParquetError> {
        let read = self.read(entries)?;
        let value = match read.kind {
            Some(ColumnType::Struct(fields)) => match <[_; 2]>::try_from(fields) {
                Ok([(_, ColumnType::Text), (_, value)]) => Some(value),
                Ok(_) | Err(_) => None,
            },
            Some(_) | None => None,
        };
        Ok(Reading {
            data_type: DataType::Map(with_type(entries, read.data_type), sorted),
            kind: value.map(|kind| ColumnType::Map(Box::new(kind))),
            int96: false,
        })
    }
}

fn with_type(field: &FieldRef, data_type: DataType) -> FieldRef {
    if *field.data_type() == data_type {
        return Arc::clone(field);
    }
    Arc::new(field.as_ref().clone().with_data_type(data_type))
}

/// How a leaf is read, and its logical type.
fn leaf_type(data_type: &DataType, leaf: &ColumnDescPtr) -> (DataType, Option<ColumnType>) {
    let logical = leaf.logical_type_ref();
    let is_enum = logical == Some(&LogicalType::Enum) || leaf.converted_type() == ConvertedType::ENUM;
    let same = data_type.clone();
    match data_type {
        DataType::Null => (same, Some(ColumnType::Null)),
        DataType::Boolean => (same, Some(ColumnType::Bool)),
        DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::UInt8
        | DataType::UInt16
        | DataType::UInt32
        | DataType::UInt64 => (same, Some(ColumnType::Int)),
        DataType::Float16 | DataType::Float32 | DataType::Float64 => (same, Some(ColumnType::Float)),
        // Views take no copy of the text.
        DataType::Utf8 => (DataType::Utf8View, Some(ColumnType::Text)),
        DataType::Binary if is_enum => (DataType::Utf8View, Some(ColumnType::Text)),
        DataType::Binary => (DataType::BinaryView, Some(ColumnType::Binary)),
        DataType::FixedSizeBinary(16) if logical == Some(&LogicalType::Uuid) => {
            (same, Some(ColumnType::Uuid))
        }
        DataType::FixedSizeBinary(_) => (same, Some(ColumnType::Binary)),
        DataType::Decimal128(_, 0) | DataType::Decimal256(_, 0) => (same, Some(ColumnType::Int)),
        DataType::Decimal128(_, scale) | DataType::Decimal256(_, scale) => {
            (same, (*scale > 0).then_some(ColumnType::Decimal { scale: *scale }))
        }
        DataType::Date32 => (same, Some(ColumnType::Date)),
        DataType::Time32(_) | DataType::Time64(_) => (same, Some(ColumnType::Time)),
        // As nanoseconds, INT96 would wrap silently outside the years 1677 to 2262.
        DataType::Timestamp(..) if leaf.physical_type() == PhysicalType::INT96 => {
            let micros = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
            (micros, Some(ColumnType::Instant))
        }
        DataType::Timestamp(_, Some(_)) => (same, Some(ColumnType::Instant)),
        DataType::Timestamp(_, None) => (same, Some(ColumnType::Naive)),
        // Arrow's reader drops the months of an interval. The others never come from Parquet alone.
        DataType::Interval(_)
        | DataType::Duration(_)
        | DataType::Date64
        | DataType::LargeBinary
        | DataType::BinaryView
        | DataType::LargeUtf8
        | DataType::Utf8View
        | DataType::List(_)
        | DataType::ListView(_)
        | DataType::FixedSizeList(..)
        | DataType::LargeList(_)
        | DataType::LargeListView(_)
        | DataType::Struct(_)
        | DataType::Union(..)
        | DataType::Dictionary(..)
        | DataType::Decimal32(..)
        | DataType::Decimal64(..)
        | DataType::Map(..)
        | DataType::RunEndEncoded(..) => (same, None),
    }
}

/// The columns of one file of an unload, with the partition columns of its path.
pub(super) struct FileSchema<'a> {
    pub(super) file: &'a str,
    pub(super) columns: Vec<FileColumn>,
    pub(super) partition_values: &'a BTreeMap<String, Option<String>>,
}

/// Merges the columns of all files by lower-case name: spelling and order follow the first file. A column on which files
/// disagree, that some lack or that can't be read is told apart: it may be that nobody wants it.
pub(super) fn merge_files(files: &[FileSchema<'_>]) -> (Vec<Column>, Vec<Unusable>) {
    let first = files.first().map_or("", |schema| schema.file);
    let mut merged: Vec<Merged<'_>> = Vec::new();
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    for (at, schema) in files.iter().enumerate() {
        for (name, kind) in schema.all_columns() {
            let lower = name.to_lowercase();
            match places.get(&lower).and_then(|place| merged.get_mut(*place)) {
                Some(column) => column.take(kind, schema.file, at),
                None => {
                    places.insert(lower, merged.len());
                    let absent = (at > 0).then_some(first);
                    merged.push(Merged { name, kind, file: schema.file, last: at, absent, conflict: None });
                }
            }
        }
        for column in merged.iter_mut().filter(|column| column.last != at) {
            column.absent.get_or_insert(schema.file);
        }
    }
    let (mut columns, mut unusable) = (Vec::new(), Vec::new());
    for merged in merged {
        let (lower, name) = (merged.name.to_lowercase(), merged.name.to_owned());
        match merged.finish() {
            Ok(kind) => columns.push(Column { name, kind }),
            Err(why) => unusable.push(Unusable { column: lower, why }),
        }
    }
    (columns, unusable)
}

impl<'a> FileSchema<'a> {
    /// Names and types. A column of the file itself comes before one of its path.
    fn all_columns(&self) -> impl Iterator<Item = (&str, Option<FileKind>)> {
        let own = self.columns.iter().map(|column| (column.name.as_str(), column.kind.clone()));
        let is_own =
            |name: &str| self.columns.iter().any(|column| column.name.to_lowercase() == name.to_lowercase());
        let path = self
            .partition_values
            .keys()
            .filter(move |name| !is_own(name))
            .map(|name| (name.as_str(), Some(FileKind { kind: ColumnType::Text, int96: false })));
        own.chain(path)
    }
}

struct Merged<'a> {
    name: &'a str,
    /// None once a file has it in a type that can't be read without loss.
    kind: Option<FileKind>,
    /// The first file that has it.
    file: &'a str,
    /// The number of the last file that has it.
    last: usize,
    /// A file that lacks it.
    absent: Option<&'a str>,
    /// Two files that disagree on it.
    conflict: Option<String>,
}

impl Merged<'_> {
    fn take(&mut self, kind: Option<FileKind>, file: &str, at: usize) {
        self.last = at;
        let (Some(ours), Some(theirs)) = (&self.kind, &kind) else {
            self.kind = None;
            return;
        };
        match merge_kinds(ours, theirs) {
            Some(merged) => self.kind = Some(merged),
            None => {
                self.conflict.get_or_insert_with(|| {
                    format!(
                        "column {} is {} in file {} of the unload and {} in {file}",
                        self.name, ours.kind, self.file, theirs.kind
                    )
                });
            }
        }
    }

    /// Its type, or why it can't be used.
    fn finish(self) -> Result<ColumnType, String> {
        let Self { name, file, .. } = self;
        if let Some(conflict) = self.conflict {
            return Err(conflict);
        }
        let Some(kind) = self.kind else {
            return Err(format!(
                "column {name} of the unload, in file {file}, is of a type that can't be read without loss"
            ));
        };
        match self.absent {
            Some(without) => {
                Err(format!("column {name} is in file {file} of the unload, but not in {without}"))
            }
            None => Ok(kind.kind),
        }
    }
}

fn merge_kinds(ours: &FileKind, theirs: &FileKind) -> Option<FileKind> {
    let kind = match (&ours.kind, &theirs.kind) {
        // Says nothing of what INT96 is.
        (ColumnType::Null, _) => return Some(theirs.clone()),
        (_, ColumnType::Null) => return Some(ours.clone()),
        (ColumnType::Instant, ColumnType::Naive) if ours.int96 => ColumnType::Naive,
        (ColumnType::Naive, ColumnType::Instant) if theirs.int96 => ColumnType::Naive,
        (a, b) => merge(a, b)?,
    };
    Some(FileKind { kind, int96: ours.int96 && theirs.int96 })
}

/// The type that holds the values of both; none if they mean different things.
pub(crate) fn merge(a: &ColumnType, b: &ColumnType) -> Option<ColumnType> {
    match (a, b) {
        (a, b) if a == b => Some(a.clone()),
        (ColumnType::Null, other) | (other, ColumnType::Null) => Some(other.clone()),
        (ColumnType::Uuid, ColumnType::Text) | (ColumnType::Text, ColumnType::Uuid) => Some(ColumnType::Text),
        (ColumnType::List(a), ColumnType::List(b)) => Some(ColumnType::List(Box::new(merge(a, b)?))),
        (ColumnType::Map(a), ColumnType::Map(b)) => Some(ColumnType::Map(Box::new(merge(a, b)?))),
        (ColumnType::Struct(a), ColumnType::Struct(b)) if a.len() == b.len() => {
            let fields = a.iter().map(|(name, ours)| {
                let (_, theirs) = b.iter().find(|(other, _)| other.to_lowercase() == name.to_lowercase())?;
                Some((name.clone(), merge(ours, theirs)?))
            });
            Some(ColumnType::Struct(fields.collect::<Option<_>>()?))
        }
        _ => None,
    }
}
