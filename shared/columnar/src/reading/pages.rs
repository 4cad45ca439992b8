//! Page headers, looked at before a page is unpacked: they say how large it will be, and may lie.
//!
//! The decoder sets memory aside for what a header says. A file of a few kilobytes could so ask for gigabytes, which
//! ends a process instead of a read. Source of the format: github.com/apache/parquet-format, `parquet.thrift`
//! (`PageHeader`), in Thrift's compact protocol.

use super::located::PageSize;
use crate::thrift::{Kind, Reader};
use crate::unload::footer::Pages;

/// The largest page that is unpacked. Writers make pages of about 1 MB; the largest we know of (DuckDB) are of 100 MB.
const MOST_PAGE_BYTES: u64 = 256 * 1024 * 1024;
/// The most that the pages of a row group's columns may take at the same time: one page and one dictionary a column.
const MOST_OPEN_BYTES: u64 = 1024 * 1024 * 1024;
/// Values of a page: of a repeated column a few bytes could say any number of them.
const MOST_PAGE_VALUES: u64 = 64 * 1024 * 1024;
/// Encodings, as page headers number them.
const DELTA_LENGTH_BYTE_ARRAY: u64 = 6;
const DELTA_BYTE_ARRAY: u64 = 7;

/// Checks the pages in some stretches of a file, of which each begins with a page: whole columns of a row group, or
/// single pages if they were located. A header is refused that the decoder, which cuts numbers off and goes by the numbers of
/// fields alone, could take for another one.
pub(super) fn check<'a>(stretches: impl IntoIterator<Item = &'a [u8]>, pages: Pages) -> Result<(), String> {
    let mut open = 0u64;
    for column in stretches {
        let (mut largest, mut dictionary) = (0u64, 0u64);
        for page in walk(column) {
            let (page, _) = page.ok_or("a page of it has a header that can't be read")?;
            if page.unpacked > MOST_PAGE_BYTES {
                return Err(format!("a page of it claims {} bytes", page.unpacked));
            }
            if page.values > MOST_PAGE_VALUES {
                return Err(format!("a page of it claims {} values", page.values));
            }
            let kind = if page.is_dictionary { &mut dictionary } else { &mut largest };
            *kind = page.unpacked.max(*kind);
        }
        open = open.saturating_add(largest).saturating_add(dictionary);
    }
    match pages {
        Pages::Unlocated if open > MOST_OPEN_BYTES => Err(format!("its pages claim {open} bytes at a time")),
        // Single pages are unpacked one after the other.
        Pages::Unlocated | Pages::Located => Ok(()),
    }
}

/// Whether a page of a stretch stores the lengths of its texts as differences, so that [`super::delta`] has to look into it.
pub(super) fn has_delta(stretch: &[u8]) -> bool {
    walk(stretch)
        .flatten()
        .any(|(page, _)| matches!(page.encoding, DELTA_LENGTH_BYTE_ARRAY | DELTA_BYTE_ARRAY))
}

/// The data pages of a whole column of a row group that is not repeated, and the bytes of the dictionary before them. `None` if
/// they are not what the column should consist of: then the decoder is to judge.
pub(super) fn sizes(column: &[u8], rows: u64) -> Option<(u64, Vec<PageSize>)> {
    let (mut dictionary, mut end, mut found) = (0u64, 0u64, 0u64);
    let mut pages = Vec::new();
    for page in walk(column) {
        let (page, bytes) = page?;
        let bytes = u32::try_from(bytes?).ok()?;
        end += u64::from(bytes);
        if page.is_dictionary {
            dictionary = end;
        } else {
            found = found.checked_add(page.values)?;
            pages.push(PageSize { bytes, rows: u32::try_from(page.values).ok()? });
        }
        if page.is_dictionary && !pages.is_empty() {
            return None;
        }
    }
    (end == column.len() as u64 && found == rows).then_some((dictionary, pages))
}

/// The pages one after the other, each with its bytes including the header, unless they are not all there. Ends with `None` at a
/// header that can't be read.
fn walk(mut rest: &[u8]) -> impl Iterator<Item = Option<(Page, Option<usize>)>> {
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let Some((page, after)) = header(rest) else {
            rest = &[];
            return Some(None);
        };
        let packed = usize::try_from(page.packed).unwrap_or(usize::MAX);
        let next = after.get(packed..).filter(|next| next.len() < rest.len());
        let bytes = next.map(|next| rest.len() - next.len());
        rest = next.unwrap_or_default();
        Some(Some((page, bytes)))
    })
}

/// What a page header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Page {
    is_dictionary: bool,
    unpacked: u64,
    packed: u64,
    values: u64,
    encoding: u64,
}

/// The header at the beginning of some bytes, and what follows it.
fn header(bytes: &[u8]) -> Option<(Page, &[u8])> {
    let mut reader = Reader(bytes);
    let mut page = Page::default();
    let mut field = 0i64;
    let mut structures = 0;
    while let Some(kind) = reader.field(&mut field)? {
        match (field, kind) {
            (1, Kind::Number) => page.is_dictionary = reader.size()? == 2,
            (2, Kind::Number) => page.unpacked = reader.size()?,
            (3, Kind::Number) => page.packed = reader.size()?,
            (5 | 7, Kind::Structure) => {
                structures += 1;
                [page.values, page.encoding] = reader.sizes([1, 2])?;
            }
            (8, Kind::Structure) => {
                structures += 1;
                [page.values, page.encoding] = reader.sizes([1, 4])?;
            }
            (1 | 2 | 3 | 5 | 7 | 8, _) => return None,
            (_, kind) => reader.skip(kind)?,
        }
    }
    if structures > 1 {
        return None;
    }
    Some((page, reader.0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::varint;

    /// A data page's header with statistics and a checksum, as writers make it.
    fn data_page(unpacked: u64, packed: u64, values: u64) -> Vec<u8> {
        let mut bytes = vec![0x15, 0x00, 0x15];
        bytes.extend(varint(unpacked * 2));
        bytes.push(0x15);
        bytes.extend(varint(packed * 2));
        // A checksum, then the data page header: values, three encodings, statistics of two texts.
        bytes.extend([0x15, 0x0d, 0x1c, 0x15]);
        bytes.extend(varint(values * 2));
        bytes.extend([
            0x15, 0x00, 0x15, 0x06, 0x15, 0x06, 0x1c, 0x18, 0x01, b'z', 0x18, 0x01, b'a', 0x00, 0x00, 0x00,
        ]);
        bytes
    }

    #[test]
    fn headers_are_read_and_what_they_claim_is_bounded() {
        let mut column = data_page(100, 3, 10);
        column.extend(b"abc");
        column.extend(data_page(200, 2, 20));
        column.extend(b"de");
        let (page, _) = header(&column).unwrap();
        assert_eq!(page, Page { is_dictionary: false, unpacked: 100, packed: 3, values: 10, encoding: 0 });
        assert_eq!(check([column.as_slice()], Pages::Unlocated), Ok(()));
        let header_bytes = u32::try_from(data_page(100, 3, 10).len()).unwrap();
        let pages = [(3, 10), (2, 20)].map(|(bytes, rows)| PageSize { bytes: header_bytes + bytes, rows });
        assert_eq!(sizes(&column, 30), Some((0, pages.to_vec())));
        assert_eq!(sizes(&column, 31), None);
        assert_eq!(sizes(&column[..column.len() - 1], 30), None);

        column.extend(data_page(MOST_PAGE_BYTES + 1, 2, 20));
        assert_eq!(
            check([column.as_slice()], Pages::Unlocated).unwrap_err(),
            "a page of it claims 268435457 bytes"
        );
        assert!(
            check([data_page(1, 1, 1 << 30).as_slice()], Pages::Located)
                .unwrap_err()
                .ends_with("1073741824 values")
        );
        // The decoder would cut it off, and see a page of two bytes.
        let cut_off = data_page((1 << 32) + 2, 2, 1);
        assert!(check([cut_off.as_slice()], Pages::Located).unwrap_err().ends_with("can't be read"));
        let mut twice = data_page(1, 0, 1);
        twice.pop();
        twice.extend([0x3c, 0x15, 0x02, 0x00, 0x00]);
        assert!(check([twice.as_slice()], Pages::Located).unwrap_err().ends_with("can't be read"));
        let large = data_page(MOST_PAGE_BYTES, 1, 1);
        assert_eq!(check([large.as_slice(); 4], Pages::Unlocated), Ok(()));
        assert!(check([large.as_slice(); 5], Pages::Unlocated).unwrap_err().contains("at a time"));
        assert_eq!(check([large.as_slice(); 5], Pages::Located), Ok(()));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in any::<Vec<u8>>(), at in any::<prop::sample::Index>(), byte: u8) {
            drop(check([bytes.as_slice()], Pages::Unlocated));
            let mut page = data_page(100, 0, 10);
            page.extend(data_page(100, 0, 10));
            let at = at.index(page.len());
            page[at] = byte;
            drop(check([page.as_slice()], Pages::Unlocated));
        }
    }
}
