//! What a footer claims, looked at before Parquet's decoder believes it.
//!
//! A few bytes of a footer can keep the decoder busy for hours, or end the process: a list of 2^31 booleans takes no byte of it,
//! memory is set aside for as many children as a group says it has, groups are gone into however deep they are nested, and
//! every column's whole path is written out. Here each field that the format knows must be of the format's kind; so
//! what is counted here and what the decoder sees is the same.
//!
//! Source: github.com/apache/parquet-format, `parquet.thrift` (`FileMetaData`).

use crate::thrift::{Kind, Reader};

/// The most nodes of a schema. The widest tables have some ten thousand columns.
const MOST_NODES: u64 = 128 * 1024;
/// The deepest that a schema may nest; each level of a list takes two.
const DEEPEST: usize = 64;
/// The most bytes that the paths of all columns may take; a name takes some beside its own.
const MOST_PATH_BYTES: u64 = 128 * 1024 * 1024;
const NAME_BYTES: u64 = 48;
/// The most structures that are kept beside the schema: columns of row groups, nearly all of them, of some 500 bytes once decoded.
const MOST_KEPT: u64 = 1024 * 1024;

/// What the format says of a field.
enum Shape {
    Value(Kind),
    Structure(Fields),
    List(&'static Shape),
    /// A list of structures of which each is kept, in more memory than it takes in the file.
    Kept(Fields),
}

/// The fields of a structure by their numbers. Others are skipped, by the decoder too.
type Fields = &'static [(i64, Shape)];

const NUMBER: Shape = Shape::Value(Kind::Number);
const BOOL: Shape = Shape::Value(Kind::Nothing);
const BLOCK: Shape = Shape::Value(Kind::Block);
const DOUBLE: Shape = Shape::Value(Kind::Double);
const EMPTY: Shape = Shape::Structure(&[]);

/// The schema's field in a footer, and those of the name and of the count of children in one of its nodes.
const SCHEMA: i64 = 2;
const NAME: i64 = 4;
const CHILDREN: i64 = 5;

const FOOTER: Fields = &[
    (1, NUMBER),
    (3, NUMBER),
    (4, Shape::Kept(ROW_GROUP)),
    (5, Shape::Kept(KEY_VALUE)),
    (6, BLOCK),
    (7, Shape::List(&Shape::Structure(&[(1, EMPTY), (2, EMPTY)]))),
    (9, BLOCK),
];
const KEY_VALUE: Fields = &[(1, BLOCK), (2, BLOCK)];
const NODE: Fields = &[
    (1, NUMBER),
    (2, NUMBER),
    (3, NUMBER),
    (NAME, BLOCK),
    (CHILDREN, NUMBER),
    (6, NUMBER),
    (7, NUMBER),
    (8, NUMBER),
    (9, NUMBER),
    (10, Shape::Structure(LOGICAL_TYPE)),
];
const LOGICAL_TYPE: Fields = &[
    (1, EMPTY),
    (2, EMPTY),
    (3, EMPTY),
    (4, EMPTY),
    (5, Shape::Structure(&[(1, NUMBER), (2, NUMBER)])),
    (6, EMPTY),
    (7, Shape::Structure(TIME)),
    (8, Shape::Structure(TIME)),
    (10, Shape::Structure(&[(1, Shape::Value(Kind::Byte)), (2, BOOL)])),
    (11, EMPTY),
    (12, EMPTY),
    (13, EMPTY),
    (14, EMPTY),
    (15, EMPTY),
    (16, Shape::Structure(&[(1, Shape::Value(Kind::Byte))])),
    (17, Shape::Structure(&[(1, BLOCK)])),
    (18, Shape::Structure(&[(1, BLOCK), (2, NUMBER)])),
    (19, EMPTY),
];
const TIME: Fields = &[(1, BOOL), (2, Shape::Structure(&[(1, EMPTY), (2, EMPTY), (3, EMPTY)]))];
const ROW_GROUP: Fields = &[
    (1, Shape::Kept(COLUMN)),
    (2, NUMBER),
    (3, NUMBER),
    (4, Shape::List(&Shape::Structure(&[(1, NUMBER), (2, BOOL), (3, BOOL)]))),
    (5, NUMBER),
    (6, NUMBER),
    (7, NUMBER),
];
const COLUMN: Fields = &[
    (1, BLOCK),
    (2, NUMBER),
    (3, Shape::Structure(COLUMN_METADATA)),
    (4, NUMBER),
    (5, NUMBER),
    (6, NUMBER),
    (7, NUMBER),
    (9, BLOCK),
];
const COLUMN_METADATA: Fields = &[
    (1, NUMBER),
    (2, Shape::List(&NUMBER)),
    (3, Shape::List(&BLOCK)),
    (4, NUMBER),
    (5, NUMBER),
    (6, NUMBER),
    (7, NUMBER),
    (8, Shape::List(&Shape::Structure(KEY_VALUE))),
    (9, NUMBER),
    (10, NUMBER),
    (11, NUMBER),
    (12, Shape::Structure(STATISTICS)),
    (13, Shape::List(&Shape::Structure(&[(1, NUMBER), (2, NUMBER), (3, NUMBER)]))),
    (14, NUMBER),
    (15, NUMBER),
    (16, Shape::Structure(&[(1, NUMBER), (2, Shape::List(&NUMBER)), (3, Shape::List(&NUMBER))])),
    (17, Shape::Structure(&[(1, Shape::Structure(BOX)), (2, Shape::List(&NUMBER))])),
];
const STATISTICS: Fields = &[
    (1, BLOCK),
    (2, BLOCK),
    (3, NUMBER),
    (4, NUMBER),
    (5, BLOCK),
    (6, BLOCK),
    (7, BOOL),
    (8, BOOL),
    (9, NUMBER),
];
const BOX: Fields =
    &[(1, DOUBLE), (2, DOUBLE), (3, DOUBLE), (4, DOUBLE), (5, DOUBLE), (6, DOUBLE), (7, DOUBLE), (8, DOUBLE)];

/// Checks the bytes of a footer.
///
/// # Errors
/// Why it is not decoded.
pub(super) fn check(footer: &[u8]) -> Result<(), String> {
    let mut claims = Claims { reader: Reader(footer), kept: 0 };
    match claims.footer() {
        Some(nodes) => tree(&nodes),
        None if claims.kept > MOST_KEPT => {
            Err(format!("its footer has more than {MOST_KEPT} columns in its row groups"))
        }
        None => Err("a field of its footer can't be read for certain".to_owned()),
    }
}

/// A footer, as far as it has been read.
struct Claims<'a> {
    reader: Reader<'a>,
    /// Structures that the decoder keeps.
    kept: u64,
}

/// A node of a schema, which comes before its children.
#[derive(Default)]
struct Node {
    name_bytes: u64,
    children: u64,
}

impl Claims<'_> {
    /// Goes through all of it, unless its schema has too many nodes. Gives those; a schema that comes twice is refused.
    fn footer(&mut self) -> Option<Vec<Node>> {
        let (mut field, mut nodes) = (0, None);
        while let Some(kind) = self.reader.field(&mut field)? {
            match (field, kind, &nodes) {
                (SCHEMA, Kind::List, None) => {
                    let found = self.nodes()?;
                    if found.len() as u64 > MOST_NODES {
                        return Some(found);
                    }
                    nodes = Some(found);
                }
                (SCHEMA, _, _) => return None,
                (_, kind, _) => self.known(FOOTER, field, kind)?,
            }
        }
        nodes
    }

    /// Goes past a field's value, which has to be of the kind that the format says.
    fn known(&mut self, fields: Fields, field: i64, kind: Kind) -> Option<()> {
        match fields.iter().find(|(number, _)| *number == field) {
            Some((_, shape)) => self.value(shape, kind),
            None => self.reader.skip(kind),
        }
    }

    fn value(&mut self, shape: &Shape, kind: Kind) -> Option<()> {
        match (shape, kind) {
            (Shape::Value(expected), kind) if *expected == kind => self.reader.skip(kind),
            (Shape::Structure(fields), Kind::Structure) => {
                let mut field = 0;
                while let Some(kind) = self.reader.field(&mut field)? {
                    self.known(fields, field, kind)?;
                }
                Some(())
            }
            (Shape::List(of), Kind::List) => {
                let (kind, count) = self.reader.list()?;
                (0..count).try_for_each(|_| self.value(of, kind))
            }
            (Shape::Kept(fields), Kind::List) => {
                let (kind, count) = self.reader.list()?;
                self.kept = self.kept.saturating_add(count);
                let room = self.kept <= MOST_KEPT;
                room.then(|| (0..count).try_for_each(|_| self.value(&Shape::Structure(fields), kind)))?
            }
            (Shape::Value(_) | Shape::Structure(_) | Shape::List(_) | Shape::Kept(_), _) => None,
        }
    }

    /// The nodes of a schema, of which one more than are allowed is read.
    fn nodes(&mut self) -> Option<Vec<Node>> {
        let (kind, count) = self.reader.list()?;
        let nodes = (0..count.min(MOST_NODES + 1)).map(|_| self.node(kind));
        nodes.collect()
    }

    fn node(&mut self, kind: Kind) -> Option<Node> {
        if kind != Kind::Structure {
            return None;
        }
        let (mut field, mut node) = (0, Node::default());
        while let Some(kind) = self.reader.field(&mut field)? {
            let before = self.reader.0.len();
            if field == CHILDREN && kind == Kind::Number {
                node.children = self.reader.size()?;
            } else {
                self.known(NODE, field, kind)?;
            }
            if field == NAME {
                node.name_bytes = (before - self.reader.0.len()) as u64;
            }
        }
        Some(node)
    }
}

/// Checks that some nodes make up a tree, and one that can be kept in memory.
fn tree(nodes: &[Node]) -> Result<(), String> {
    if nodes.len() as u64 > MOST_NODES {
        return Err(format!("its footer has more than {MOST_NODES} columns and groups"));
    }
    // Of each group that is gone into: the children that are still to come, and the bytes of its path.
    let mut groups: Vec<(u64, u64)> = Vec::new();
    let (mut paths, mut left) = (0u64, nodes.len() as u64);
    for Node { name_bytes, children } in nodes {
        left -= 1;
        while groups.last().is_some_and(|(children, _)| *children == 0) {
            groups.pop();
        }
        let above = groups.last_mut().map_or(0, |(children, path)| {
            *children -= 1;
            *path
        });
        let path = above.saturating_add(name_bytes + NAME_BYTES);
        if *children == 0 {
            paths = paths.saturating_add(path);
        } else if *children > left {
            return Err(format!("its footer has a group of {children} columns, and {left} after it"));
        } else {
            groups.push((*children, path));
        }
        if groups.len() > DEEPEST {
            return Err(format!("its footer nests columns deeper than {DEEPEST} levels"));
        }
        if paths > MOST_PATH_BYTES {
            return Err(format!("the paths of its columns take more than {MOST_PATH_BYTES} bytes"));
        }
    }
    Ok(())
}
