//! Thrift's compact protocol, as far as it takes to look at what a file claims before Parquet's decoder believes it. What the decoder could
//! take for something else is refused: it cuts numbers off, and goes by the numbers of fields whatever kind they are of.
//!
//! Source: github.com/apache/thrift, `doc/specs/thrift-compact-protocol.md`.

/// Structures within structures of what is skipped; page headers have two.
const DEEPEST: usize = 8;

/// Kinds of Thrift's compact protocol, as far as reading goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A boolean, whose value lies in its kind.
    Nothing,
    Byte,
    Number,
    Double,
    Block,
    List,
    Map,
    Structure,
}

impl Kind {
    const fn of(code: u8) -> Option<Self> {
        Some(match code {
            1 | 2 => Self::Nothing,
            3 => Self::Byte,
            4..=6 => Self::Number,
            7 => Self::Double,
            8 => Self::Block,
            9 | 10 => Self::List,
            11 => Self::Map,
            12 => Self::Structure,
            _ => return None,
        })
    }
}

/// Reads numbers off some bytes.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl Reader<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    pub(crate) fn jump(&mut self, len: u64) -> Option<()> {
        self.0 = self.0.get(usize::try_from(len).ok()?..)?;
        Some(())
    }

    pub(crate) fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn number(&mut self) -> Option<i64> {
        let raw = self.varint()?;
        Some((raw >> 1).cast_signed() ^ -((raw & 1).cast_signed()))
    }

    /// A size in 32 bits; a negative one is none.
    pub(crate) fn size(&mut self) -> Option<u64> {
        let size = i32::try_from(self.number()?).ok()?;
        u64::try_from(size).ok()
    }

    /// The next field's number and kind; `Some(None)` at the end of the structure.
    pub(crate) fn field(&mut self, field: &mut i64) -> Option<Option<Kind>> {
        let head = self.byte()?;
        if head == 0 {
            return Some(None);
        }
        let step = i64::from(head >> 4);
        let next = if step == 0 { self.number()? } else { field.checked_add(step)? };
        *field = i16::try_from(next).ok()?.into();
        Kind::of(head & 0x0f).map(Some)
    }

    /// The numbers in these fields of a structure, which is skipped.
    pub(crate) fn sizes<const N: usize>(&mut self, fields: [i64; N]) -> Option<[u64; N]> {
        let mut found = [0; N];
        let mut field = 0;
        while let Some(kind) = self.field(&mut field)? {
            let wanted = fields.iter().zip(&mut found).find(|(wanted, _)| **wanted == field);
            match (wanted, kind) {
                (Some((_, size)), Kind::Number) => *size = self.size()?,
                (Some(_), _) => return None,
                (_, kind) => self.skip(kind)?,
            }
        }
        Some(found)
    }

    /// The kind of a list's items, and how many there are: no more than there are bytes.
    pub(crate) fn list(&mut self) -> Option<(Kind, u64)> {
        let head = self.byte()?;
        if head == 0 {
            // Some writers give an empty list no kind.
            return Some((Kind::Byte, 0));
        }
        let kind = Kind::of(head & 0x0f)?;
        let count = if head >> 4 == 15 { self.varint()? } else { u64::from(head >> 4) };
        self.has_room(&[kind], count).then_some((kind, count))
    }

    /// Whether so many items of these kinds can be there. No item is without a byte, and nothing of Parquet's is a collection of booleans,
    /// which the decoder takes to have none.
    fn has_room(&self, kinds: &[Kind], count: u64) -> bool {
        count <= self.0.len() as u64 && (count == 0 || !kinds.contains(&Kind::Nothing))
    }

    /// Goes past a value.
    pub(crate) fn skip(&mut self, kind: Kind) -> Option<()> {
        self.skip_within(kind, 0)
    }

    fn skip_within(&mut self, kind: Kind, depth: usize) -> Option<()> {
        if depth > DEEPEST {
            return None;
        }
        match kind {
            Kind::Nothing => Some(()),
            Kind::Byte => self.jump(1),
            Kind::Number => self.varint().map(drop),
            Kind::Double => self.jump(8),
            Kind::Block => {
                let len = self.varint()?;
                self.jump(len)
            }
            Kind::List => {
                let (kind, count) = self.list()?;
                self.items(&[kind], count, depth)
            }
            Kind::Map => {
                let count = self.varint()?;
                if count == 0 {
                    return Some(());
                }
                let kinds = self.byte()?;
                let kinds = [Kind::of(kinds >> 4)?, Kind::of(kinds & 0x0f)?];
                if !self.has_room(&kinds, count) {
                    return None;
                }
                self.items(&kinds, count, depth)
            }
            Kind::Structure => {
                let mut field = 0;
                while let Some(kind) = self.field(&mut field)? {
                    self.skip_within(kind, depth + 1)?;
                }
                Some(())
            }
        }
    }

    fn items(&mut self, kinds: &[Kind], count: u64, depth: usize) -> Option<()> {
        for _ in 0..count {
            for kind in kinds {
                self.skip_within(*kind, depth + 1)?;
            }
        }
        Some(())
    }
}
