//! Reads one piece of a split: row groups of one file.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, StringViewArray, new_null_array};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::error::ArrowError;
use parquet::DecodeResult;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, RowSelection,
};
use parquet::arrow::push_decoder::{ParquetPushDecoder, ParquetPushDecoderBuilder, RowGroupSelection};
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use penstock_model::port::Objects;
use penstock_model::unload::{Column, ColumnType, Piece, UnloadFile};

use super::conform::conform;
use super::located::{PageLocations, Unlocated};
use super::{BATCH_ROWS, Rows, SplitSource, delta, fetch, pages};
use crate::unload::footer::{self, Pages, decoded};
use crate::unload::schema::{FileColumn, file_columns, merge};
use crate::unload::{NaiveTimestamps, UnloadError};

/// Where a wanted column comes from.
enum Origin {
    /// This column of what is decoded.
    Decoded(usize),
    /// The path, which says the same for every row.
    Path(Option<String>),
}

/// A piece whose footer was fetched, ready to be decoded.
pub(super) struct OpenPiece<'a> {
    file: &'a UnloadFile,
    projection: Projection<'a>,
    metadata: Arc<ParquetMetaData>,
    /// Those of the piece.
    row_groups: Range<usize>,
    located: Pages,
    unlocated: Unlocated,
    decoder: ParquetPushDecoder,
    numbers: Numbers<'a>,
}

/// Opens a piece whose first row has the number `first` in the split.
pub(super) async fn open_piece<'a>(
    source: SplitSource<'a>,
    piece: &'a Piece,
    first: u32,
    rows: Rows<'a>,
) -> Result<OpenPiece<'a>, UnloadError> {
    let file = usize::try_from(piece.file).ok().and_then(|at| source.unload.files.get(at));
    let file = file.ok_or_else(|| {
        UnloadError::corrupt(&source.unload.prefix, "a split names a file that the unload does not have")
    })?;
    let located = match rows {
        Rows::All => Pages::Unlocated,
        Rows::Chosen { .. } => Pages::Located,
    };
    let metadata = footer::fetch(source.objects, &file.key, file.size, &file.etag, located).await?;
    if footer::row_groups(&file.key, &metadata)? != file.row_groups {
        return Err(UnloadError::corrupt(&file.key, "its row groups are not those that were pinned"));
    }
    let groups = select(file, piece, first, rows)?;
    let projection = Projection::new(file, &metadata, source.columns, source.naive)?;
    let from = piece.first_row_group as usize;
    let row_groups = from..from + piece.row_groups as usize;
    let (metadata, unlocated, numbers) = match rows {
        Rows::Chosen { numbers, pages } => {
            (pages.add_to(metadata, piece.file), Unlocated::default(), Numbers::Chosen(numbers.iter()))
        }
        Rows::All => {
            let unlocated = Unlocated::new(&metadata, piece.file, row_groups.clone());
            (metadata, unlocated, Numbers::All(first..first + piece.rows))
        }
    };
    let metadata = Arc::new(metadata);
    let decoder = projection.decoder(file, Arc::clone(&metadata), groups)?;
    Ok(OpenPiece { file, projection, metadata, row_groups, located, unlocated, decoder, numbers })
}

impl OpenPiece<'_> {
    /// Fetches and decodes its rows; gives where its pages stand, if the file does not say it and all rows are read.
    pub(super) async fn read<E: From<UnloadError>>(
        self,
        objects: &dyn Objects,
        each: &mut impl FnMut(&RecordBatch, &[u32]) -> Result<(), E>,
    ) -> Result<PageLocations, E> {
        let Self { file, projection, metadata, row_groups, located, mut unlocated, mut decoder, mut numbers } =
            self;
        let row_groups = metadata.row_groups().get(row_groups).unwrap_or_default();
        loop {
            match decoded(&file.key, || decoder.try_next_reader())? {
                DecodeResult::Finished => break,
                DecodeResult::NeedsData(ranges) => {
                    let bytes = fetch::fetch(objects, file, &ranges).await?;
                    // Each range begins with a page: it is a whole column of the row group, or a page.
                    pages::check(bytes.iter().map(AsRef::as_ref), located)
                        .map_err(|why| UnloadError::corrupt(&file.key, why))?;
                    for (range, bytes) in ranges.iter().zip(&bytes) {
                        if pages::has_delta(bytes) {
                            decoded(&file.key, || delta::check(row_groups, range.start, bytes))?;
                        }
                        unlocated.look_at(range.start, bytes);
                    }
                    decoded(&file.key, || decoder.push_ranges(ranges, bytes))?;
                }
                DecodeResult::Data(mut reader) => {
                    while let Some(batch) = next_batch(file, &mut reader)? {
                        let batch = projection.complete(file, &batch)?;
                        let numbers = numbers.take(batch.num_rows());
                        if numbers.len() != batch.num_rows() {
                            let why = "it has more rows than its footer says";
                            return Err(UnloadError::corrupt(&file.key, why).into());
                        }
                        each(&batch, &numbers)?;
                    }
                }
            }
        }
        if numbers.take(1).is_empty() {
            Ok(unlocated.located())
        } else {
            Err(UnloadError::corrupt(&file.key, "it has fewer rows than its footer says").into())
        }
    }
}

/// The numbers in the split of the rows to come.
enum Numbers<'a> {
    All(Range<u32>),
    Chosen(std::slice::Iter<'a, u32>),
}

impl Numbers<'_> {
    fn take(&mut self, count: usize) -> Vec<u32> {
        match self {
            Self::All(range) => range.by_ref().take(count).collect(),
            Self::Chosen(rows) => rows.by_ref().take(count).copied().collect(),
        }
    }
}

fn next_batch(
    file: &UnloadFile,
    reader: &mut ParquetRecordBatchReader,
) -> Result<Option<RecordBatch>, UnloadError> {
    decoded(&file.key, || {
        reader.next().transpose().map_err(|error| {
            // Any other complaint may quote a value: it goes on as one whose text is not shown.
            if let ArrowError::ParquetError(why) = error {
                ParquetError::General(why)
            } else {
                ParquetError::External(Box::new(error))
            }
        })
    })
}

/// The row groups of a piece that hold wanted rows, and which of their rows are wanted.
fn select(
    file: &UnloadFile,
    piece: &Piece,
    first: u32,
    rows: Rows<'_>,
) -> Result<Vec<RowGroupSelection>, UnloadError> {
    let out_of_step = || UnloadError::corrupt(&file.key, "a split does not fit its row groups");
    let from = usize::try_from(piece.first_row_group).map_err(|_| out_of_step())?;
    let count = usize::try_from(piece.row_groups).map_err(|_| out_of_step())?;
    let groups = file.row_groups.get(from..from.saturating_add(count)).ok_or_else(out_of_step)?;
    if groups.iter().try_fold(0u32, |sum, rows| sum.checked_add(*rows)) != Some(piece.rows) {
        return Err(out_of_step());
    }
    let mut start = first;
    let mut rest = rows;
    let mut selected = Vec::with_capacity(groups.len());
    for (at, group_rows) in (from..).zip(groups) {
        let end = start + group_rows;
        let (within, after) = rest.split_at(end);
        rest = after;
        match within {
            Rows::All => selected.push(RowGroupSelection::new(at, None)),
            Rows::Chosen { numbers, .. } => {
                if !numbers.is_empty() {
                    let ranges = ranges(numbers, start).ok_or_else(out_of_step)?;
                    let total = usize::try_from(*group_rows).map_err(|_| out_of_step())?;
                    let selection = RowSelection::from_consecutive_ranges(ranges.into_iter(), total);
                    selected.push(RowGroupSelection::new(at, Some(selection)));
                }
            }
        }
        start = end;
    }
    Ok(selected)
}

/// Rising numbers as ranges counted from `start`; none if they do not rise.
fn ranges(rows: &[u32], start: u32) -> Option<Vec<Range<usize>>> {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    for row in rows {
        let row = usize::try_from(row.checked_sub(start)?).ok()?;
        match ranges.last_mut() {
            Some(last) if last.end == row => last.end += 1,
            Some(last) if last.end > row => return None,
            Some(_) | None => ranges.push(row..row + 1),
        }
    }
    Some(ranges)
}

/// How the wanted columns come out of a file.
struct Projection<'a> {
    wanted: &'a [Column],
    origins: Vec<Origin>,
    roots: Vec<usize>,
    schema: Arc<Schema>,
    naive: NaiveTimestamps,
}

impl<'a> Projection<'a> {
    fn new(
        file: &UnloadFile,
        metadata: &ParquetMetaData,
        wanted: &'a [Column],
        naive: NaiveTimestamps,
    ) -> Result<Self, UnloadError> {
        let columns: Vec<FileColumn> = file_columns(&file.key, metadata)?
            .into_iter()
            .map(|own| if is_naive_int96(file, &own, wanted) { own.into_naive() } else { own })
            .collect();
        let schema = Schema::new(columns.iter().map(|column| Arc::clone(&column.field)).collect::<Vec<_>>());
        let own: Vec<Option<&FileColumn>> = wanted
            .iter()
            .map(|wanted| {
                let lower = wanted.name.to_lowercase();
                columns.iter().find(|column| column.name.to_lowercase() == lower)
            })
            .collect();
        let mut roots: Vec<usize> = own.iter().flatten().map(|column| column.root).collect();
        roots.sort_unstable();
        roots.dedup();
        let origins = wanted.iter().zip(own).map(|(wanted, own)| match own {
            Some(own) => {
                check_kind(file, wanted, own, naive)?;
                Ok(Origin::Decoded(roots.partition_point(|root| *root < own.root)))
            }
            None => from_path(file, wanted).map(Origin::Path),
        });
        let origins = origins.collect::<Result<_, UnloadError>>()?;
        Ok(Self { wanted, origins, roots, schema: Arc::new(schema), naive })
    }

    fn decoder(
        &self,
        file: &UnloadFile,
        metadata: Arc<ParquetMetaData>,
        groups: Vec<RowGroupSelection>,
    ) -> Result<ParquetPushDecoder, UnloadError> {
        decoded(&file.key, || {
            let roots = self.roots.iter().copied();
            let mask = ProjectionMask::roots(metadata.file_metadata().schema_descr(), roots);
            let options = ArrowReaderOptions::new().with_schema(Arc::clone(&self.schema));
            let metadata = ArrowReaderMetadata::try_new(metadata, options)?;
            ParquetPushDecoderBuilder::new_with_metadata(metadata)
                .with_projection(mask)
                .with_batch_size(BATCH_ROWS)
                .with_row_group_selections(groups)
                .build()
        })
    }

    /// The wanted columns of a decoded batch, in the wanted order and in their logical types.
    fn complete(&self, file: &UnloadFile, batch: &RecordBatch) -> Result<RecordBatch, UnloadError> {
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(self.wanted.len());
        for (wanted, origin) in self.wanted.iter().zip(&self.origins) {
            arrays.push(match origin {
                Origin::Path(value) => constant(value.as_deref(), batch.num_rows()),
                Origin::Decoded(at) => {
                    let array = batch.columns().get(*at).ok_or_else(|| missing(file, wanted))?;
                    conform(array, &wanted.kind, self.naive.offset_s()).map_err(|_| {
                        let why = format!("column {} has timestamps out of range", wanted.name);
                        UnloadError::corrupt(&file.key, why)
                    })?
                }
            });
        }
        let fields: Vec<Field> = self
            .wanted
            .iter()
            .zip(&arrays)
            .map(|(wanted, array)| Field::new(&wanted.name, array.data_type().clone(), true))
            .collect();
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options)
            .map_err(|_| UnloadError::corrupt(&file.key, "its columns are not of one length"))
    }
}

/// Whether a column is INT96, but no instant. A wanted one without zone tells so, too: what earlier versions pinned says no more.
fn is_naive_int96(file: &UnloadFile, own: &FileColumn, wanted: &[Column]) -> bool {
    let lower = own.name.to_lowercase();
    let is_naive = |wanted: &Column| wanted.kind == ColumnType::Naive && wanted.name.to_lowercase() == lower;
    own.kind.as_ref().is_some_and(|kind| kind.int96)
        && (file.naive_int96.contains(&lower) || wanted.iter().any(is_naive))
}

/// A file may hold a column in any way that fits the type that was pinned.
fn check_kind(
    file: &UnloadFile,
    wanted: &Column,
    own: &FileColumn,
    naive: NaiveTimestamps,
) -> Result<(), UnloadError> {
    let fits = own.kind.as_ref().is_some_and(|own| {
        merge(&naive.apply(own.kind.clone()), &wanted.kind).is_some_and(|kind| kind == wanted.kind)
    });
    if fits {
        return Ok(());
    }
    let (column, key, kind) = (&wanted.name, &file.key, &wanted.kind);
    Err(UnloadError::mismatch(format!("column {column} of file {key} is not {kind}, as it was when pinned")))
}

fn from_path(file: &UnloadFile, wanted: &Column) -> Result<Option<String>, UnloadError> {
    let lower = wanted.name.to_lowercase();
    let found = file.partition_values.iter().find(|(name, _)| name.to_lowercase() == lower);
    found.map(|(_, value)| value.clone()).ok_or_else(|| missing(file, wanted))
}

fn missing(file: &UnloadFile, wanted: &Column) -> UnloadError {
    UnloadError::mismatch(format!("file {} of the unload has no column {}", file.key, wanted.name))
}

fn constant(value: Option<&str>, rows: usize) -> ArrayRef {
    match value {
        None => new_null_array(&DataType::Utf8View, rows),
        Some(value) => Arc::new(StringViewArray::from_iter_values(std::iter::repeat_n(value, rows))),
    }
}
