//! Field names with dots, as the nested objects and arrays that they make.

use std::collections::BTreeMap;

use super::json;

/// A part of the object that is sent: compiled once, written for every row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Node {
    /// The field of this number.
    Leaf(usize),
    /// An object; its keys as JSON with their colons.
    Object(Vec<(String, Node)>),
    /// An array.
    Array(Vec<Node>),
}

/// What `Node::of` refuses, by the number of the field.
pub(super) type Conflict = (usize, String);

/// A node while names are still being added.
enum Draft {
    Leaf(usize),
    Branch(BTreeMap<String, Draft>),
}

impl Node {
    /// The object that these field names make. Parts of nothing but digits make arrays, except at the top; `\.` is a
    /// dot within a part.
    ///
    /// # Errors
    /// Every name that can't stand beside the others.
    pub(super) fn of<'a>(names: impl Iterator<Item = (usize, &'a str)>) -> Result<Self, Vec<Conflict>> {
        let mut root = BTreeMap::new();
        let mut conflicts = Vec::new();
        let mut first_fields = BTreeMap::new();
        for (field, name) in names {
            let parts = split(name);
            if parts.iter().any(String::is_empty) {
                conflicts.push((field, format!("the field name {name:?} has an empty part; write `\\.` for a dot that is no separator")));
                continue;
            }
            if let Some(top) = parts.first() {
                first_fields.entry(top.clone()).or_insert(field);
            }
            if !insert(&mut root, &parts, field) {
                conflicts.push((field, format!("{name:?} can't be both a value and an object: another field uses a part of its name as a value")));
            }
        }
        let mut branches = Vec::new();
        for (name, draft) in root {
            match draft.finish() {
                Ok(node) => branches.push((json::key_of(&name), node)),
                Err(words) => conflicts.push((
                    first_fields.get(&name).copied().unwrap_or_default(),
                    format!("below {name:?}: {words}"),
                )),
            }
        }
        if conflicts.is_empty() { Ok(Self::Object(branches)) } else { Err(conflicts) }
    }

    /// Appends the object. `leaf` appends a field's value, or nothing and false if the field is not sent; objects
    /// and arrays that nothing is sent of are left out.
    ///
    /// # Errors
    /// The first error of `leaf`.
    pub(super) fn write<E>(
        &self,
        out: &mut String,
        leaf: &mut impl FnMut(&mut String, usize) -> Result<bool, E>,
    ) -> Result<bool, E> {
        let start = out.len();
        let mut any = false;
        let close = match self {
            Self::Leaf(field) => return leaf(out, *field),
            Self::Object(branches) => {
                out.push('{');
                for (key, node) in branches {
                    any |= write_part(out, any, key, node, leaf)?;
                }
                '}'
            }
            Self::Array(nodes) => {
                out.push('[');
                for node in nodes {
                    any |= write_part(out, any, "", node, leaf)?;
                }
                ']'
            }
        };
        if any {
            out.push(close);
        } else {
            out.truncate(start);
        }
        Ok(any)
    }
}

fn write_part<E>(
    out: &mut String,
    follows: bool,
    key: &str,
    node: &Node,
    leaf: &mut impl FnMut(&mut String, usize) -> Result<bool, E>,
) -> Result<bool, E> {
    let mark = out.len();
    if follows {
        out.push(',');
    }
    out.push_str(key);
    let written = node.write(out, leaf)?;
    if !written {
        out.truncate(mark);
    }
    Ok(written)
}

fn insert(branch: &mut BTreeMap<String, Draft>, parts: &[String], field: usize) -> bool {
    match parts {
        [] => false,
        [last] => {
            let free = !branch.contains_key(last);
            if free {
                branch.insert(last.clone(), Draft::Leaf(field));
            }
            free
        }
        [first, rest @ ..] => {
            match branch.entry(first.clone()).or_insert_with(|| Draft::Branch(BTreeMap::new())) {
                Draft::Leaf(_) => false,
                Draft::Branch(branch) => insert(branch, rest, field),
            }
        }
    }
}

impl Draft {
    fn finish(self) -> Result<Node, String> {
        let branches = match self {
            Self::Leaf(field) => return Ok(Node::Leaf(field)),
            Self::Branch(branches) => branches,
        };
        let numbers = branches.keys().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())).count();
        if numbers == 0 {
            let finished =
                branches.into_iter().map(|(name, draft)| Ok((json::key_of(&name), draft.finish()?)));
            return Ok(Node::Object(finished.collect::<Result<_, String>>()?));
        }
        if numbers < branches.len() {
            return Err("numbers and names can't stand side by side".to_owned());
        }
        let mut places = BTreeMap::new();
        for (name, draft) in branches {
            places
                .insert(name.parse::<usize>().map_err(|_| format!("{name} is no place in an array"))?, draft);
        }
        if !places.keys().copied().eq(0..numbers) {
            return Err("the places of an array start at 0 and leave none out".to_owned());
        }
        Ok(Node::Array(places.into_values().map(Self::finish).collect::<Result<_, _>>()?))
    }
}

fn split(name: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut characters = name.chars();
    while let Some(character) = characters.next() {
        let literal = match character {
            '.' => {
                parts.push(String::new());
                continue;
            }
            '\\' => match characters.next() {
                Some(escaped @ ('.' | '\\')) => vec![escaped],
                Some(other) => vec!['\\', other],
                None => vec!['\\'],
            },
            other => vec![other],
        };
        if let Some(part) = parts.last_mut() {
            part.extend(literal);
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(names: &[&str], sent: &[usize]) -> String {
        let node = Node::of(names.iter().copied().enumerate()).unwrap();
        let mut out = String::new();
        let mut leaf = |out: &mut String, field: usize| {
            let send = sent.contains(&field);
            if send {
                out.push_str(&field.to_string());
            }
            Ok::<_, ()>(send)
        };
        node.write(&mut out, &mut leaf).unwrap();
        out
    }

    #[test]
    fn dots_make_objects_and_numbers_make_arrays() {
        let names = [
            "a",
            "address.city",
            "address.zip",
            "emails.0.type",
            "emails.0.value",
            "emails.1.value",
            r"odd\.name",
        ];
        let all: Vec<usize> = (0..names.len()).collect();
        assert_eq!(
            written(&names, &all),
            r#"{"a":0,"address":{"city":1,"zip":2},"emails":[{"type":3,"value":4},{"value":5}],"odd.name":6}"#
        );
        assert_eq!(written(&names, &[2]), r#"{"address":{"zip":2}}"#);
        assert_eq!(written(&names, &[0, 5]), r#"{"a":0,"emails":[{"value":5}]}"#);
        assert_eq!(written(&names, &[]), "");
        assert_eq!(written(&["0"], &[0]), r#"{"0":0}"#);
        let many: Vec<String> = (0..11).map(|n| format!("x.{n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let all: Vec<usize> = (0..11).collect();
        assert_eq!(written(&many, &all), r#"{"x":[0,1,2,3,4,5,6,7,8,9,10]}"#);
    }

    #[test]
    fn names_that_can_not_stand_together() {
        let cases: [(&[&str], &[usize]); 8] = [
            (&["a", "a.b"], &[1]),
            (&["a.b", "a"], &[1]),
            (&["a.b.c", "a.b"], &[1]),
            (&["a.0", "a.b"], &[0]),
            (&["a.0", "a.2"], &[0]),
            (&["a..b"], &[0]),
            (&[""], &[0]),
            (&["a.", "b", "b.c"], &[0, 2]),
        ];
        for (names, expected) in cases {
            let conflicts = Node::of(names.iter().copied().enumerate()).unwrap_err();
            let fields: Vec<usize> = conflicts.iter().map(|(field, _)| *field).collect();
            assert_eq!(fields, expected, "{names:?}");
        }
    }
}
