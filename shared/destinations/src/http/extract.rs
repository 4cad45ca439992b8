//! Picks the values at a set of JSON pointers out of an answer in one pass, without building the rest of it.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Which values of a document are wanted: single ones, and those of every element of some lists.
#[derive(Debug, Default)]
pub(super) struct Shape {
    root: Node,
    slots: usize,
    lists: Vec<ListShape>,
}

#[derive(Debug)]
struct ListShape {
    at: Vec<String>,
    element: Node,
    slots: usize,
    /// Where the members' names end up, if an object stands there whose members are the elements.
    names: Option<usize>,
}

#[derive(Debug, Default)]
struct Node {
    slot: Option<usize>,
    list: Option<usize>,
    children: Vec<(String, Node)>,
}

/// Where a single value ends up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Among the single values.
    Single(usize),
    /// In an element of a list.
    Element { list: usize, element: usize, slot: usize },
    /// The list itself: found if it is there.
    List(usize),
}

/// What stands in an answer at a pointer.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Found<'b> {
    Null,
    Boolean(bool),
    Number(serde_json::Number),
    Text(Cow<'b, str>),
    /// A list, of which the scalars are kept.
    List(Vec<Found<'b>>),
    /// An object, which is not looked into.
    Object,
}

impl Found<'_> {
    /// A text or number as text.
    pub(super) fn text(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Text(text) => Some(Cow::Borrowed(text)),
            Self::Number(number) => Some(Cow::Owned(number.to_string())),
            Self::Null | Self::Boolean(_) | Self::List(_) | Self::Object => None,
        }
    }

    /// Whether it is null, a blank text or a list of nothing.
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Null => true,
            Self::Text(text) => text.trim().is_empty(),
            Self::List(items) => items.is_empty(),
            Self::Boolean(_) | Self::Number(_) | Self::Object => false,
        }
    }

    /// Texts and numbers as texts: of a list all, of a scalar one.
    pub(super) fn texts(&self) -> impl Iterator<Item = Cow<'_, str>> {
        let scalars = match self {
            Self::List(items) => items.as_slice(),
            Self::Null | Self::Boolean(_) | Self::Number(_) | Self::Text(_) | Self::Object => {
                std::slice::from_ref(self)
            }
        };
        scalars.iter().filter_map(Self::text)
    }
}

/// The elements of one list.
#[derive(Debug, Default)]
pub(super) struct FoundList<'b> {
    /// How many elements there are.
    pub(super) elements: usize,
    slots: usize,
    values: Vec<Option<Found<'b>>>,
}

impl<'b> FoundList<'b> {
    pub(super) fn get(&self, element: usize, slot: usize) -> Option<&Found<'b>> {
        if slot >= self.slots {
            return None;
        }
        self.values.get(element * self.slots + slot)?.as_ref()
    }
}

/// All that was wanted and is there.
#[derive(Debug)]
pub(super) struct Extracted<'b> {
    singles: Vec<Option<Found<'b>>>,
    /// By list; `None` if the list is not there.
    pub(super) lists: Vec<Option<FoundList<'b>>>,
}

impl<'b> Extracted<'b> {
    /// The value of a place.
    pub(super) fn get(&self, place: Place) -> Option<&Found<'b>> {
        match place {
            Place::Single(slot) => self.singles.get(slot)?.as_ref(),
            Place::Element { list, element, slot } => self.lists.get(list)?.as_ref()?.get(element, slot),
            Place::List(list) => self.lists.get(list)?.as_ref().map(|_| &Found::Object),
        }
    }
}

/// The parts of a pointer.
fn parts(pointer: &str) -> Vec<String> {
    pointer.split('/').skip(1).map(|part| part.replace("~1", "/").replace("~0", "~")).collect()
}

impl Node {
    fn reach(&mut self, parts: &[String]) -> &mut Self {
        let Some((first, rest)) = parts.split_first() else { return self };
        let position = match self.children.iter().position(|(name, _)| name == first) {
            Some(position) => position,
            None => {
                self.children.push((first.clone(), Self::default()));
                self.children.len() - 1
            }
        };
        #[expect(clippy::indexing_slicing, reason = "the position was found or made just before")]
        self.children[position].1.reach(rest)
    }

    fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|(child, _)| child == name).map(|(_, node)| node)
    }
}

impl Shape {
    /// Wants the elements of the list at this pointer; the same list for the same pointer. All lists come before all
    /// single values.
    ///
    /// # Errors
    /// One list within another, in words.
    pub(super) fn list(&mut self, pointer: &str) -> Result<usize, String> {
        let at = parts(pointer);
        if let Some(list) = self.lists.iter().position(|list| list.at == at) {
            return Ok(list);
        }
        if self.lists.iter().any(|list| list.at.starts_with(&at) || at.starts_with(&list.at)) {
            return Err(format!("the list at {pointer} is part of another list, or holds one"));
        }
        let list = self.lists.len();
        self.root.reach(&at).list = Some(list);
        self.lists.push(ListShape { at, element: Node::default(), slots: 0, names: None });
        Ok(list)
    }

    /// Takes the members of an object that stands in place of a list for its elements; gives the slot of their names.
    pub(super) fn by_member(&mut self, list: usize) -> usize {
        let Some(shape) = self.lists.get_mut(list) else { return usize::MAX };
        *shape.names.get_or_insert_with(|| {
            shape.slots += 1;
            shape.slots - 1
        })
    }

    /// Wants a value of every element of a list; gives its slot.
    pub(super) fn in_list(&mut self, list: usize, pointer: &str) -> usize {
        let Some(shape) = self.lists.get_mut(list) else { return usize::MAX };
        want(&mut shape.element, &mut shape.slots, &parts(pointer))
    }

    /// Wants a single value.
    pub(super) fn single(&mut self, pointer: &str) -> Place {
        let at = parts(pointer);
        for (list, shape) in self.lists.iter_mut().enumerate() {
            match at.strip_prefix(shape.at.as_slice()) {
                Some([]) => return Place::List(list),
                Some([element, rest @ ..]) => {
                    if let Ok(element) = element.parse() {
                        return Place::Element {
                            list,
                            element,
                            slot: want(&mut shape.element, &mut shape.slots, rest),
                        };
                    }
                    // The list may also be an object that counts as a list of one.
                    let within = at.get(shape.at.len()..).unwrap_or_default();
                    return Place::Element {
                        list,
                        element: 0,
                        slot: want(&mut shape.element, &mut shape.slots, within),
                    };
                }
                None => {}
            }
        }
        Place::Single(want(&mut self.root, &mut self.slots, &at))
    }

    /// Reads a document.
    ///
    /// # Errors
    /// It is not JSON to its end.
    pub(super) fn extract<'b>(&self, document: &'b [u8]) -> Result<Extracted<'b>, serde_json::Error> {
        let mut found =
            Extracted { singles: vec![None; self.slots], lists: self.lists.iter().map(|_| None).collect() };
        let mut deserializer = serde_json::Deserializer::from_slice(document);
        Walk { shape: self, node: &self.root, target: Target::Singles, found: &mut found }
            .deserialize(&mut deserializer)?;
        deserializer.end()?;
        Ok(found)
    }
}

fn want(node: &mut Node, slots: &mut usize, at: &[String]) -> usize {
    *node.reach(at).slot.get_or_insert_with(|| {
        *slots += 1;
        *slots - 1
    })
}

#[derive(Clone, Copy)]
enum Target {
    Singles,
    List(usize),
}

struct Walk<'s, 'f, 'b> {
    shape: &'s Shape,
    node: &'s Node,
    target: Target,
    found: &'f mut Extracted<'b>,
}

impl<'s, 'b> Walk<'s, '_, 'b> {
    fn put(&mut self, value: Found<'b>) {
        let Some(slot) = self.node.slot else { return };
        let cell = match self.target {
            Target::Singles => self.found.singles.get_mut(slot),
            Target::List(list) => self.found.lists.get_mut(list).and_then(Option::as_mut).and_then(|list| {
                let last = list.elements.checked_sub(1)?;
                list.values.get_mut(last * list.slots + slot)
            }),
        };
        // Of a member that stands twice the first counts.
        if let Some(cell @ None) = cell {
            *cell = Some(value);
        }
    }

    fn at<'w>(&'w mut self, node: &'s Node) -> Walk<'s, 'w, 'b> {
        Walk { shape: self.shape, node, target: self.target, found: &mut *self.found }
    }

    fn open_list(&mut self, list: usize) {
        let slots = self.shape.lists.get(list).map_or(0, |shape| shape.slots);
        if let Some(cell @ None) = self.found.lists.get_mut(list) {
            *cell = Some(FoundList { elements: 0, slots, values: Vec::new() });
        }
    }

    /// Keeps the name of the member that is a list's last element.
    fn name_last(&mut self, list: usize, slot: usize, name: String) {
        let Some(Some(cells)) = self.found.lists.get_mut(list) else { return };
        let last = cells.elements.saturating_sub(1) * cells.slots + slot;
        if let Some(cell) = cells.values.get_mut(last) {
            *cell = Some(Found::Text(Cow::Owned(name)));
        }
    }

    /// A walk over the next element of a list.
    fn element<'w>(&'w mut self, list: usize) -> Option<Walk<'s, 'w, 'b>> {
        let shape = self.shape.lists.get(list)?;
        let cells = self.found.lists.get_mut(list)?.as_mut()?;
        cells.elements += 1;
        cells.values.resize(cells.elements * cells.slots, None);
        Some(Walk {
            shape: self.shape,
            node: &shape.element,
            target: Target::List(list),
            found: &mut *self.found,
        })
    }

    fn members<A: MapAccess<'b>>(&mut self, map: &mut A) -> Result<(), A::Error> {
        let node = self.node;
        while let Some(child) = map.next_key_seed(Name(node))? {
            match child {
                Some(child) => map.next_value_seed(self.at(child))?,
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

/// A member's name: the child it leads to, if any is wanted.
struct Name<'s>(&'s Node);

impl<'de, 's> DeserializeSeed<'de> for Name<'s> {
    type Value = Option<&'s Node>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'s> Visitor<'_> for Name<'s> {
    type Value = Option<&'s Node>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member's name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.child(name))
    }
}

impl<'b> DeserializeSeed<'b> for Walk<'_, '_, 'b> {
    type Value = ();

    fn deserialize<D: Deserializer<'b>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'b> Visitor<'b> for Walk<'_, '_, 'b> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(mut self) -> Result<(), E> {
        self.put(Found::Null);
        Ok(())
    }

    fn visit_bool<E: Error>(mut self, value: bool) -> Result<(), E> {
        self.put(Found::Boolean(value));
        Ok(())
    }

    fn visit_i64<E: Error>(mut self, value: i64) -> Result<(), E> {
        self.put(Found::Number(value.into()));
        Ok(())
    }

    fn visit_u64<E: Error>(mut self, value: u64) -> Result<(), E> {
        self.put(Found::Number(value.into()));
        Ok(())
    }

    fn visit_f64<E: Error>(mut self, value: f64) -> Result<(), E> {
        self.put(serde_json::Number::from_f64(value).map_or(Found::Null, Found::Number));
        Ok(())
    }

    fn visit_borrowed_str<E: Error>(mut self, value: &'b str) -> Result<(), E> {
        self.put(Found::Text(Cow::Borrowed(value)));
        Ok(())
    }

    fn visit_str<E: Error>(mut self, value: &str) -> Result<(), E> {
        if self.node.slot.is_some() {
            self.put(Found::Text(Cow::Owned(value.to_owned())));
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'b>>(mut self, mut map: A) -> Result<(), A::Error> {
        if let Some(list) = self.node.list {
            self.open_list(list);
            if let Some(names) = self.shape.lists.get(list).and_then(|shape| shape.names) {
                while let Some(name) = map.next_key::<String>()? {
                    let Some(element) = self.element(list) else { break };
                    map.next_value_seed(element)?;
                    self.name_last(list, names, name);
                }
                return Ok(());
            }
            if let Some(mut element) = self.element(list) {
                element.put(Found::Object);
                return element.members(&mut map);
            }
        }
        self.put(Found::Object);
        self.members(&mut map)
    }

    fn visit_seq<A: SeqAccess<'b>>(mut self, mut items: A) -> Result<(), A::Error> {
        if let Some(list) = self.node.list {
            self.open_list(list);
            while let Some(element) = self.element(list) {
                if items.next_element_seed(element)?.is_none() {
                    break;
                }
            }
            // The last element was opened before the list's end was seen.
            if let Some(cells) = self.found.lists.get_mut(list).and_then(Option::as_mut) {
                cells.elements = cells.elements.saturating_sub(1);
                cells.values.truncate(cells.elements * cells.slots);
            }
            return Ok(());
        }
        if self.node.children.is_empty() {
            if self.node.slot.is_some() {
                let mut scalars = Vec::new();
                while let Some(Scalar(value)) = items.next_element()? {
                    scalars.extend(value);
                }
                self.put(Found::List(scalars));
            } else {
                while items.next_element::<IgnoredAny>()?.is_some() {}
            }
            return Ok(());
        }
        let node = self.node;
        for n in 0_usize.. {
            let there = match node.child(&n.to_string()) {
                Some(child) => items.next_element_seed(self.at(child))?.is_some(),
                None => items.next_element::<IgnoredAny>()?.is_some(),
            };
            if !there {
                break;
            }
        }
        self.put(Found::Object);
        Ok(())
    }
}

/// An element of a list of scalars; nothing if it is none.
struct Scalar<'b>(Option<Found<'b>>);

impl<'de> serde::Deserialize<'de> for Scalar<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let shape = Shape { root: Node { slot: Some(0), ..Node::default() }, slots: 1, lists: Vec::new() };
        let mut found = Extracted { singles: vec![None], lists: Vec::new() };
        Walk { shape: &shape, node: &shape.root, target: Target::Singles, found: &mut found }
            .deserialize(deserializer)?;
        Ok(Self(found.singles.pop().flatten()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(found: Option<&Found<'_>>) -> Option<String> {
        found.and_then(|found| found.text().map(Cow::into_owned))
    }

    #[test]
    fn values_are_found_wherever_they_stand() {
        let mut shape = Shape::default();
        let list = shape.list("/results").unwrap();
        let (id, email) = (shape.in_list(list, "/id"), shape.in_list(list, "/properties/email"));
        let ids = shape.in_list(list, "/ids");
        let (status, second) = (shape.single("/status"), shape.single("/results/1/id"));
        let (there, nested) = (shape.single("/results"), shape.single("/a~1b/1/c"));
        let document = br#"{"x": [1, {"id": 9}], "status": "d\u00f6ne", "a/b": [{}, {"c": 7}], "results": [
            {"id": 1, "properties": {"email": "a@x", "id": 5}, "ids": ["p", 2, {}]}, 3, {"id": "two", "id": "three"}]}"#;
        let found = shape.extract(document).unwrap();
        let results = found.lists[list].as_ref().unwrap();
        assert_eq!(results.elements, 3);
        assert_eq!(text(results.get(0, id)).as_deref(), Some("1"));
        assert_eq!(text(results.get(0, email)).as_deref(), Some("a@x"));
        assert_eq!(results.get(0, ids).unwrap().texts().collect::<Vec<_>>(), ["p", "2"]);
        assert_eq!(results.get(1, id), None);
        assert_eq!(text(results.get(2, id)).as_deref(), Some("two"));
        assert_eq!(text(found.get(status)).as_deref(), Some("d\u{f6}ne"));
        assert_eq!(found.get(second), None);
        assert_eq!(found.get(there), Some(&Found::Object));
        assert_eq!(text(found.get(nested)).as_deref(), Some("7"));
    }

    #[test]
    fn an_objects_members_may_be_the_elements() {
        let mut shape = Shape::default();
        let list = shape.list("/bad").unwrap();
        let (rows, names) = (shape.in_list(list, ""), shape.by_member(list));
        let found = shape.extract(br#"{"bad": {"time": [0, 2], "id": [1]}}"#).unwrap();
        let bad = found.lists[list].as_ref().unwrap();
        let of =
            |n| (text(bad.get(n, names)).unwrap(), bad.get(n, rows).unwrap().texts().collect::<Vec<_>>());
        assert_eq!(bad.elements, 2);
        assert_eq!(of(0), ("time".to_owned(), vec!["0".into(), "2".into()]));
        assert_eq!(of(1), ("id".to_owned(), vec!["1".into()]));
    }

    #[test]
    fn an_object_is_a_list_of_one() {
        let mut shape = Shape::default();
        let list = shape.list("").unwrap();
        let id = shape.in_list(list, "/id");
        let ok = shape.single("/ok");
        let found = shape.extract(br#"{"id": 7, "ok": true}"#).unwrap();
        assert_eq!(text(found.lists[list].as_ref().unwrap().get(0, id)).as_deref(), Some("7"));
        assert_eq!(found.get(ok), Some(&Found::Boolean(true)));
    }

    #[test]
    fn what_is_not_json_to_its_end_is_an_error() {
        let mut shape = Shape::default();
        shape.list("/results").unwrap();
        for document in ["", "{", "<html>", r#"{"results": [{"id": 1}"#, "{} {}"] {
            assert!(shape.extract(document.as_bytes()).is_err(), "{document}");
        }
    }

    #[test]
    fn lists_within_lists_are_refused() {
        let mut shape = Shape::default();
        assert_eq!(shape.list("/a"), Ok(0));
        assert_eq!(shape.list("/a"), Ok(0));
        assert_eq!(shape.list("/ab"), Ok(1));
        assert!(shape.list("/a/b").is_err());
        assert!(shape.list("").is_err());
    }
}
