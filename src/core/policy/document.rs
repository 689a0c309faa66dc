//! The text of a policy as people write it: YAML or JSON, with the line of each member.
//!
//! YAML is read as JSON with comments: no merge keys, booleans are `true` and `false`, and what repeats or nests without
//! end is refused.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::options::{DuplicateKeyPolicy, MergeKeyPolicy};
use serde_saphyr::{Budget, Options, Spanned};

use super::members::{below, strict_json};
use super::{MAX_POLICY, PolicyError};

/// Deepest nesting of a source, in levels.
const MAX_DEPTH: usize = 64;
/// Most values in a source, those that aliases repeat counted each time.
const MAX_NODES: usize = 500_000;
/// Most aliases in a source.
const MAX_ALIASES: usize = 1000;
/// Most list entries that one line opens (`- - - x`).
const MAX_OPENED: usize = 256;
/// Deepest indentation, in bytes.
const MAX_INDENT: usize = 512;
/// Nested flow collections (`[[`) that the scanner follows.
const MAX_FLOW: usize = 64;

/// A policy's source that cannot be read or compiled.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Too large.
    #[error("the policy has {size} bytes, the limit is {MAX_POLICY}")]
    TooLarge {
        /// Its size in bytes.
        size: usize,
    },
    /// Not UTF-8.
    #[error("the policy is no text in UTF-8")]
    NotText,
    /// Neither YAML nor JSON.
    #[error("not YAML or JSON: {reason}")]
    Syntax {
        /// Line, counted from 1.
        line: Option<u64>,
        /// What the reader says.
        reason: String,
    },
    /// A member of the source is wrong.
    #[error("`{at}`: {reason}")]
    Member {
        /// Path of the member.
        at: String,
        /// Line, counted from 1.
        line: Option<u64>,
        /// What is wrong.
        reason: String,
    },
    /// The policy that the source makes is wrong.
    #[error("{source}")]
    Policy {
        /// Line, counted from 1.
        line: Option<u64>,
        /// What is wrong.
        source: Box<PolicyError>,
    },
}

impl SourceError {
    /// The line that is wrong, counted from 1, if one is known.
    pub fn line(&self) -> Option<u64> {
        match self {
            Self::TooLarge { .. } | Self::NotText => None,
            Self::Syntax { line, .. } | Self::Member { line, .. } | Self::Policy { line, .. } => *line,
        }
    }

    /// The path of the member that is wrong, if one is known.
    pub fn at(&self) -> Option<&str> {
        match self {
            Self::Member { at, .. } => Some(at),
            Self::Policy { source, .. } => source.at(),
            _ => None,
        }
    }
}

/// A document and where its members stand.
#[derive(Clone, Debug, Default)]
pub struct Document {
    /// The document.
    pub value: Value,
    lines: BTreeMap<String, u64>,
}

impl Document {
    /// Reads JSON when the text begins with `{`, else YAML. JSON with a member twice is refused, and so is YAML.
    pub fn parse(bytes: &[u8]) -> Result<Self, SourceError> {
        if bytes.len() > MAX_POLICY {
            return Err(SourceError::TooLarge { size: bytes.len() });
        }
        let text = std::str::from_utf8(bytes).map_err(|_| SourceError::NotText)?;
        if text.trim_start().starts_with('{') {
            let value = strict_json(bytes).map_err(|error| json_error(text, &error))?;
            // JSON is YAML, so the lines can be had there; without them the paths still say where.
            let lines = yaml(text).map(|document| document.lines).unwrap_or_default();
            return Ok(Self { value, lines });
        }
        yaml(text)
    }

    /// The line of a member, counted from 1: its own, or that of the nearest member around it.
    pub fn line(&self, at: &str) -> Option<u64> {
        let mut path = at;
        loop {
            if let Some(line) = self.lines.get(path) {
                return Some(*line);
            }
            path = &path[..path.rfind(['.', '['])?];
        }
    }

    /// What is wrong with a member.
    pub(super) fn wrong(&self, at: &str, reason: impl Into<String>) -> SourceError {
        SourceError::Member { at: at.to_owned(), line: self.line(at), reason: reason.into() }
    }

    /// What is wrong with the policy that was made of it.
    pub(super) fn policy_error(&self, source: PolicyError) -> SourceError {
        SourceError::Policy { line: source.at().and_then(|at| self.line(at)), source: Box::new(source) }
    }
}

/// What the reader of JSON says: the line stands in its text.
fn json_error(text: &str, error: &PolicyError) -> SourceError {
    let PolicyError::Json { reason } = error else {
        return SourceError::Syntax { line: None, reason: error.to_string() };
    };
    let line = reason.rsplit_once(" at line ").and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
    let reason = match line {
        // Something that begins with a brace may be meant as YAML; then its reader says more.
        Some(_) => reason.rsplit_once(" at line ").map_or(reason.as_str(), |(reason, _)| reason),
        None => reason,
    };
    SourceError::Syntax {
        line: line.filter(|line| *line <= text.lines().count() as u64 + 1),
        reason: reason.to_owned(),
    }
}

/// Refuses what would nest deeper than the scanner's stack reaches: it recurses for each `- ` before it asks for limits.
fn shallow(text: &str) -> Result<(), SourceError> {
    for (line, content) in (1..).zip(text.lines()) {
        let bytes = content.as_bytes();
        let nests = |pair: &&[u8]| matches!(pair[0], b'-' | b'?') && pair[1].is_ascii_whitespace();
        let opened = bytes.windows(2).filter(nests).count();
        let indent = bytes.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        if opened > MAX_OPENED || indent > MAX_INDENT {
            let reason = format!("nested deeper than {MAX_DEPTH} levels");
            return Err(SourceError::Syntax { line: Some(line), reason });
        }
    }
    Ok(())
}

fn yaml(text: &str) -> Result<Document, SourceError> {
    shallow(text)?;
    let mut budget = Budget::default();
    budget.max_depth = MAX_DEPTH;
    budget.max_nodes = MAX_NODES;
    budget.max_events = 2 * MAX_NODES;
    budget.max_aliases = MAX_ALIASES;
    budget.max_documents = 1;
    budget.flow_nesting_limit = MAX_FLOW;
    let mut options = Options::default();
    options.budget = Some(budget);
    options.duplicate_keys = DuplicateKeyPolicy::Error;
    options.merge_keys = MergeKeyPolicy::Error;
    options.strict_booleans = true;
    options.with_snippet = false;
    let node: Node = serde_saphyr::from_str_with_options(text, options).map_err(|error| syntax(&error))?;
    let mut lines = BTreeMap::new();
    let value = node.into_value("", &mut lines);
    Ok(Document { value, lines })
}

fn syntax(error: &serde_saphyr::Error) -> SourceError {
    let line = error.location().map(|location| location.line()).filter(|line| *line > 0);
    let text = error.to_string();
    // The place is told by the caller; of the reader's drawing only the first line is text.
    let first = text.lines().find(|line| !line.trim().is_empty()).unwrap_or("unreadable").trim();
    let reason = first.strip_prefix("error: ").unwrap_or(first);
    let reason = match reason.split_once(" at line ") {
        Some((before, _)) if !before.is_empty() => before,
        _ => reason,
    };
    SourceError::Syntax { line, reason: reason.trim_end_matches([':', ',']).to_owned() }
}

/// A value of YAML with its line.
struct Node {
    line: u64,
    kind: Kind,
}

enum Kind {
    Scalar(Value),
    List(Vec<Node>),
    Map(Vec<(String, u64, Node)>),
}

impl Node {
    fn into_value(self, at: &str, lines: &mut BTreeMap<String, u64>) -> Value {
        match self.kind {
            Kind::Scalar(value) => value,
            Kind::List(list) => {
                let item = |(index, node): (usize, Self)| {
                    let at = format!("{at}[{index}]");
                    lines.insert(at.clone(), node.line);
                    node.into_value(&at, lines)
                };
                Value::Array(list.into_iter().enumerate().map(item).collect())
            }
            Kind::Map(members) => {
                let mut map = Map::new();
                for (name, line, node) in members {
                    let at = below(at, &name);
                    lines.insert(at.clone(), line);
                    map.insert(name, node.into_value(&at, lines));
                }
                Value::Object(map)
            }
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Kind>::deserialize(deserializer)?;
        Ok(Self { line: spanned.referenced.line(), kind: spanned.value })
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyKind)
    }
}

struct AnyKind;

impl<'de> Visitor<'de> for AnyKind {
    type Value = Kind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, number, list or map")
    }

    fn visit_unit<E>(self) -> Result<Kind, E> {
        Ok(Kind::Scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Kind, E> {
        Ok(Kind::Scalar(Value::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Kind, E> {
        Ok(Kind::Scalar(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Kind, E> {
        Ok(Kind::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Kind, E> {
        Ok(Kind::Scalar(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Kind, E> {
        let number = Number::from_f64(value).ok_or_else(|| E::custom("a number that JSON does not have"))?;
        Ok(Kind::Scalar(Value::Number(number)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Kind, E> {
        Ok(Kind::Scalar(value.into()))
    }

    fn visit_string<E>(self, value: String) -> Result<Kind, E> {
        Ok(Kind::Scalar(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Kind, A::Error> {
        let mut list = Vec::new();
        while let Some(element) = elements.next_element()? {
            list.push(element);
        }
        Ok(Kind::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Kind, A::Error> {
        let mut map: Vec<(String, u64, Node)> = Vec::new();
        while let Some(name) = members.next_key::<Spanned<String>>()? {
            if map.len() == super::MAX_ENTRIES {
                return Err(A::Error::custom(format_args!("a map has more than {} entries", super::MAX_ENTRIES)));
            }
            let node = members.next_value()?;
            map.push((name.value, name.referenced.line(), node));
        }
        Ok(Kind::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_have_lines() {
        let text = "# a policy\nexpires: 90d\nsteps:\n  build:\n    attestations:\n      - type: a\n        rego: |\n          package a\n          x\n      - b\n    exitcode: 0\n";
        let document = Document::parse(text.as_bytes()).expect("reads");
        assert_eq!(document.value["steps"]["build"]["attestations"][0]["rego"], "package a\nx\n");
        assert_eq!(document.value["steps"]["build"]["exitcode"], 0);
        for (at, line) in [
            ("expires", 2),
            ("steps", 3),
            ("steps.build", 4),
            ("steps.build.attestations[0].rego", 7),
            ("steps.build.attestations[0].regopolicies[0].module", 6),
            ("steps.build.attestations[1]", 10),
            ("steps.build.exitcode", 11),
        ] {
            assert_eq!(document.line(at), Some(line), "{at}");
        }
        assert_eq!(document.line("nothing"), None);
        let json = Document::parse(b"{\n \"steps\": {\n  \"a\": {\"x\": 1}}}").expect("reads");
        assert_eq!((json.line("steps.a.x"), &json.value["steps"]["a"]["x"]), (Some(3), &Value::from(1)));
    }

    #[test]
    fn what_cannot_be_relied_on_is_refused_with_its_line() {
        let refused = |text: &str| {
            let error = Document::parse(text.as_bytes()).expect_err(&text.chars().take(60).collect::<String>());
            (error.line(), error.to_string())
        };
        let (line, text) = refused("a: 1\nb: 2\na: 3\n");
        assert_eq!(line, Some(3), "{text}");
        assert!(text.contains("duplicate"), "{text}");
        assert_eq!(refused("{\"a\": 1,\n\"a\": 2}").0, Some(2));
        assert_eq!(refused("a: [1, 2\nb: 3\n").0.map(|line| line <= 3), Some(true));
        assert!(refused("a: b: c").0.is_some());
        // A bomb of anchors: nine levels of nine.
        let levels = (1..10).map(|level| {
            let before = vec![format!("*a{}", level - 1); 9].join(", ");
            format!("a{level}: &a{level} [{before}]\n")
        });
        let bomb = format!("a0: &a0 [x, x, x, x, x, x, x, x, x]\n{}", levels.collect::<String>());
        assert!(refused(&bomb).0.is_some());
        for (open, close) in [("[", "]"), ("{a: ", "}"), ("- ", ""), ("? ", ""), ("a: ", ""), ("!x ", ""), ("&x ", "")]
        {
            refused(&format!("x:\n  {}1{}", open.repeat(100_000), close.repeat(100_000)));
        }
        let mut deep = String::new();
        for level in 0..1000 {
            deep.push_str(&" ".repeat(level));
            deep.push_str("a:\n");
        }
        refused(&deep);
        refused(&format!("{}1{}", "{\"a\":".repeat(100_000), "}".repeat(100_000)));
        refused("a: &x {b: 1}\nc:\n  <<: *x\n");
        refused("a: 1\n---\nb: 2\n");
    }

    #[test]
    fn scalars_are_those_of_json() {
        let document =
            Document::parse(b"a: yes\nb: true\nc: 2026-01-01\nd: ~\ne: 0x10\nf: 'x'\ng: 1.5\n").expect("reads");
        let expected =
            serde_json::json!({"a": "yes", "b": true, "c": "2026-01-01", "d": null, "e": 16, "f": "x", "g": 1.5});
        assert_eq!(document.value, expected);
    }
}
