//! YAML as a tree with lines, read from the parser's events.
//!
//! An alias is the node that it stands for, so nothing is multiplied and each node has the line on which it is written.
//! Of a map given a key twice both values are seen, and of a merge (`<<`) what the map does not have itself: where a
//! pipeline's reader would take one of several values, all are looked at.

use std::cell::Cell;
use std::collections::BTreeMap;

use granit_parser::{Event, Parser, Placement, ScalarStyle};

/// Most nodes of one file.
const MAX_NODES: usize = 2_000_000;
/// Most maps that one look-up passes by `<<`.
const MAX_MERGED: usize = 64;
/// Most keys that are compared in one file.
const MAX_COMPARED: u64 = 50_000_000;
/// Longest comment that is kept, in bytes.
const MAX_COMMENT: usize = 200;

/// A place in a tree.
pub(super) type Id = u32;

/// Why a text is no tree.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub(super) struct YamlError {
    /// Line, counted from 1.
    pub(super) line: u64,
    /// As a lower-case fragment.
    pub(super) reason: String,
}

#[derive(Debug)]
enum Kind {
    /// The text, and whether it may be null: a plain scalar.
    Scalar(Box<str>, bool),
    List(Vec<Id>),
    Map(Vec<(Id, Id)>),
}

#[derive(Debug)]
struct Node {
    line: u32,
    /// Tagged `!reference` (GitLab).
    reference: bool,
    kind: Kind,
}

/// The documents of a file.
#[derive(Debug, Default)]
pub(super) struct Tree {
    nodes: Vec<Node>,
    /// The top of each document.
    pub(super) tops: Vec<Id>,
    /// Comments behind something, by line.
    comments: BTreeMap<u32, Box<str>>,
    compared: Cell<u64>,
    /// The first line at which a look-up was given up.
    given_up: Cell<Option<u64>>,
}

/// A collection that is not complete.
struct Open {
    id: Id,
    anchor: usize,
    /// The key that waits for its value.
    key: Option<Id>,
}

impl Tree {
    /// Reads a text. A byte order mark is passed over.
    pub(super) fn read(text: &str) -> Result<Self, YamlError> {
        let mut tree = Self::default();
        let mut anchors: BTreeMap<usize, Id> = BTreeMap::new();
        let mut open: Vec<Open> = Vec::new();
        for event in Parser::new_from_str(text) {
            let (event, span) = event.map_err(|error| YamlError {
                line: error.marker().line() as u64,
                reason: format!("not YAML: {}", error.info()),
            })?;
            let line = u32::try_from(span.start.line()).unwrap_or(u32::MAX);
            let wrong = |reason: &str| YamlError { line: line.into(), reason: reason.to_owned() };
            let reference = event.tag().is_some_and(|tag| tag.suffix() == "reference");
            let (kind, anchor) = match event {
                Event::Scalar(text, style, anchor, _) => {
                    (Kind::Scalar(text.into(), style == ScalarStyle::Plain), anchor)
                }
                Event::SequenceStart(_, anchor, _) => (Kind::List(Vec::new()), anchor),
                Event::MappingStart(_, anchor, _) => (Kind::Map(Vec::new()), anchor),
                Event::SequenceEnd | Event::MappingEnd => {
                    open.pop();
                    continue;
                }
                Event::Alias(anchor) => {
                    if open.iter().any(|one| one.anchor == anchor) {
                        return Err(wrong("an alias of what it stands in"));
                    }
                    let id = *anchors.get(&anchor).ok_or_else(|| wrong("an alias of nothing"))?;
                    tree.put(&mut open, id);
                    continue;
                }
                Event::UnresolvedAlias(_) => return Err(wrong("an alias of nothing")),
                Event::Comment(text, Placement::Right) => {
                    let end = text.floor_char_boundary(text.len().min(MAX_COMMENT));
                    tree.comments.insert(line, text[..end].into());
                    continue;
                }
                _ => continue,
            };
            if tree.nodes.len() >= MAX_NODES {
                return Err(wrong(&format!("more than {MAX_NODES} values")));
            }
            let id = u32::try_from(tree.nodes.len()).unwrap_or(u32::MAX);
            let is_open = !matches!(kind, Kind::Scalar(..));
            tree.nodes.push(Node { line, reference, kind });
            tree.put(&mut open, id);
            if anchor != 0 {
                anchors.insert(anchor, id);
            }
            if is_open {
                open.push(Open { id, anchor, key: None });
            }
        }
        Ok(tree)
    }

    /// Puts a node where the innermost open collection waits for one.
    fn put(&mut self, open: &mut [Open], id: Id) {
        let Some(innermost) = open.last_mut() else {
            self.tops.push(id);
            return;
        };
        match &mut self.nodes[innermost.id as usize].kind {
            Kind::List(list) => list.push(id),
            Kind::Map(pairs) => match innermost.key.take() {
                None => innermost.key = Some(id),
                Some(key) => pairs.push((key, id)),
            },
            Kind::Scalar(..) => {}
        }
    }

    /// The line of a node, counted from 1: of text, where it begins.
    pub(super) fn line(&self, id: Id) -> u64 {
        self.nodes[id as usize].line.into()
    }

    /// The comment behind something on this line.
    pub(super) fn comment(&self, line: u64) -> Option<&str> {
        self.comments.get(&u32::try_from(line).ok()?).map(AsRef::as_ref)
    }

    /// The text of a scalar; `None` for null and for what is none.
    pub(super) fn text(&self, id: Id) -> Option<&str> {
        match &self.nodes[id as usize].kind {
            Kind::Scalar(text, plain) => {
                let is_null = *plain && matches!(text.as_ref(), "" | "~" | "null" | "Null" | "NULL");
                (!is_null).then_some(text)
            }
            _ => None,
        }
    }

    /// Whether there is nothing: null.
    pub(super) fn is_null(&self, id: Id) -> bool {
        matches!(self.nodes[id as usize].kind, Kind::Scalar(..)) && self.text(id).is_none()
    }

    /// Whether it is tagged `!reference`.
    pub(super) fn is_reference(&self, id: Id) -> bool {
        self.nodes[id as usize].reference
    }

    /// The members of a list; none of anything else.
    pub(super) fn list(&self, id: Id) -> &[Id] {
        match &self.nodes[id as usize].kind {
            Kind::List(list) => list,
            _ => &[],
        }
    }

    /// Whether it is a list.
    pub(super) fn is_list(&self, id: Id) -> bool {
        matches!(self.nodes[id as usize].kind, Kind::List(_))
    }

    /// Keys and values of a map; none of anything else.
    pub(super) fn pairs(&self, id: Id) -> &[(Id, Id)] {
        match &self.nodes[id as usize].kind {
            Kind::Map(pairs) => pairs,
            _ => &[],
        }
    }

    /// Whether it is a map.
    pub(super) fn is_map(&self, id: Id) -> bool {
        matches!(self.nodes[id as usize].kind, Kind::Map(_))
    }

    fn is_merge(&self, key: Id) -> bool {
        matches!(&self.nodes[key as usize].kind, Kind::Scalar(text, true) if &**text == "<<")
    }

    /// The values of a key: those that the map itself has, else those of the maps that it merges.
    pub(super) fn get(&self, map: Id, key: &str) -> Vec<Id> {
        let (mut found, mut waiting, mut passed) = (Vec::new(), vec![map], 0);
        while let Some(id) = waiting.pop() {
            let pairs = self.pairs(id);
            passed += 1;
            self.compared.set(self.compared.get() + pairs.len() as u64);
            if passed > MAX_MERGED || self.compared.get() > MAX_COMPARED {
                if self.given_up.get().is_none() {
                    self.given_up.set(Some(self.line(map)));
                }
                break;
            }
            let own = pairs.iter().filter(|(name, _)| self.text(*name) == Some(key)).map(|(_, value)| *value);
            let before = found.len();
            found.extend(own);
            if found.len() == before {
                for (_, value) in pairs.iter().filter(|(name, _)| self.is_merge(*name)) {
                    let merged = self.list(*value).iter().copied().chain(self.is_map(*value).then_some(*value));
                    waiting.extend(merged.take(MAX_MERGED + 1));
                }
            }
        }
        found
    }

    /// Keys and values of a map, those that it merges as well.
    pub(super) fn entries(&self, map: Id) -> Vec<(Id, Id)> {
        let (mut found, mut waiting, mut passed) = (Vec::new(), vec![map], 0);
        while let Some(id) = waiting.pop() {
            passed += 1;
            self.compared.set(self.compared.get() + self.pairs(id).len() as u64);
            if passed > MAX_MERGED || self.compared.get() > MAX_COMPARED {
                if self.given_up.get().is_none() {
                    self.given_up.set(Some(self.line(map)));
                }
                break;
            }
            for (key, value) in self.pairs(id) {
                if self.is_merge(*key) {
                    let merged = self.list(*value).iter().copied().chain(self.is_map(*value).then_some(*value));
                    waiting.extend(merged.take(MAX_MERGED + 1));
                } else {
                    found.push((*key, *value));
                }
            }
        }
        found
    }

    /// The line at which a look-up was given up, because maps are merged without end.
    pub(super) fn given_up(&self) -> Option<u64> {
        self.given_up.get()
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    fn tree(text: &str) -> Tree {
        Tree::read(text).expect(text)
    }

    fn lines(text: &str, key: &str) -> Vec<(u64, String)> {
        let tree = tree(text);
        let found = tree.get(tree.tops[0], key);
        found.into_iter().map(|id| (tree.line(id), tree.text(id).unwrap_or("?").to_owned())).collect()
    }

    #[test]
    fn lines_are_those_of_an_editor() {
        let one = |line, text: &str| vec![(line, text.to_owned())];
        for (text, expected) in [
            ("a: 1\nuses: x\n", one(2, "x")),
            ("a: 1\r\nuses: x\r\n", one(2, "x")),
            ("\u{feff}a: 1\n\n# c\nuses: \"x\"\n", one(4, "x")),
            ("uses:\n\n  x\n", one(3, "x")),
            ("uses: >-\n  x\n  y\n", one(2, "x y")),
            ("uses: |-\r\n\r\n  x\r\n", one(3, "\nx")),
            ("{a: {b: c},\n uses: 'x'}", one(2, "x")),
            ("a:\t1\nuses:\tx\t# c\n", one(2, "x")),
            ("? uses\n: x\n", one(2, "x")),
            ("\"us\\u0065s\": x", one(1, "x")),
            ("a: &v x\n\nuses: *v\n", one(1, "x")),
            ("uses: x\nuses: y\n", vec![(1, "x".to_owned()), (2, "y".to_owned())]),
            ("<<: {uses: x}\n", one(1, "x")),
            ("<<: {uses: x}\nuses: y\n", one(2, "y")),
            ("a: &a {uses: x}\nb: &b {uses: y}\n<<: [*b,\n *a]\n", vec![(1, "x".to_owned()), (2, "y".to_owned())]),
            ("--- # c\nuses: x\n...\n---\nuses: y\n", one(2, "x")),
        ] {
            assert_eq!(lines(text, "uses"), expected, "{text:?}");
        }
        let tree = tree("a: x@1 # v4 \nb: |\n  # none\nc: 'y' #v5\n");
        assert_eq!((tree.comment(1), tree.comment(3), tree.comment(4)), (Some(" v4 "), None, Some("v5")));
    }

    #[test]
    fn what_has_no_end_is_refused_with_its_line() {
        for (text, line) in [
            ("a: 1\nb: &x [1,\n *x]\n".to_owned(), 3),
            ("a: 1\nb: *no\n".to_owned(), 2),
            ("a: 1\n b: : x\n".to_owned(), 2),
            ("a: 1\nb: \"x\n".to_owned(), 0),
            ("- ".repeat(1_000_000), 1),
            ("[".repeat(1_000_000), 1),
            ("a: {b: ".repeat(100_000), 1),
            ("\n\n\t- a: [}\n".to_owned(), 3),
        ] {
            let error = Tree::read(&text).expect_err(&text[..text.len().min(40)]);
            assert!(error.line == line || line == 0, "{}: {error:?}", &text[..text.len().min(40)]);
        }
    }

    #[test]
    fn aliases_multiply_nothing() {
        let mut bomb = "a0: &a0 {uses: x}\n".to_owned();
        for level in 1..100 {
            let before = level - 1;
            let _ = writeln!(bomb, "a{level}: &a{level} [{}]", vec![format!("*a{before}"); 10].join(","));
        }
        assert!(tree(&bomb).nodes.len() < 1000);
        // A long chain of merges ends, and says so.
        let mut chain = "a0: &a0 {uses: x}\n".to_owned();
        for level in 1..1000 {
            let _ = writeln!(chain, "a{level}: &a{level} {{<<: *a{}}}", level - 1);
        }
        let tree = tree(&(chain + "<<: *a999\n"));
        assert!(tree.get(tree.tops[0], "uses").is_empty());
        assert_eq!(tree.given_up(), Some(1));
    }
}
