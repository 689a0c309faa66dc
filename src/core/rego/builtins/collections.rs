//! Functions of the interpreter that need a look at their arguments first: they can make much out of little, or differ
//! from OPA's.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use regorus::Value;

use super::{Fault, Growth, fault, integer, interpreters, kind, room, string, wrong};

/// Bytes that a value takes in a list, about.
const VALUE: u64 = 48;
/// Most nodes of a graph whose paths are listed: their number can double with each node.
const MAX_PATH_NODES: usize = 24;
/// Furthest shift to the left, in bits.
const MAX_SHIFT: i64 = 100_000;

fn many(count: usize) -> Result<(), Fault> {
    room(VALUE.saturating_mul(count as u64))
}

pub(super) fn array_concat(arguments: &[Value]) -> Result<Value, Fault> {
    let [Value::Array(first), Value::Array(second)] = arguments else {
        return interpreters("array.concat", arguments);
    };
    many(first.len().saturating_add(second.len()))?;
    interpreters("array.concat", arguments)
}

/// One level less: the elements of arrays in an array.
pub(super) fn array_flatten(arguments: &[Value]) -> Result<Value, Fault> {
    let [Value::Array(items)] = arguments else {
        return wrong("array.flatten", 0, "array", arguments.first().unwrap_or(&Value::Undefined));
    };
    let mut flat = Vec::new();
    for item in items.iter() {
        match item {
            Value::Array(inner) => {
                many(flat.len().saturating_add(inner.len()))?;
                flat.extend(inner.iter().cloned());
            }
            other => flat.push(other.clone()),
        }
    }
    Ok(Value::from(flat))
}

pub(super) fn bits_lsh(arguments: &[Value]) -> Result<Value, Fault> {
    if integer("bits.lsh", arguments, 1)? > MAX_SHIFT {
        return fault(format!("bits.lsh: more than {MAX_SHIFT} bits"));
    }
    interpreters("bits.lsh", arguments)
}

pub(super) fn concat(arguments: &[Value]) -> Result<Value, Fault> {
    let delimiter = string("concat", arguments, 0)?.len() as u64;
    let length = |value: &Value| value.as_string().map_or(0, |text| text.len() as u64).saturating_add(delimiter);
    let bytes = match arguments.get(1) {
        Some(Value::Array(items)) => items.iter().map(length).fold(0, u64::saturating_add),
        Some(Value::Set(items)) => items.iter().map(length).fold(0, u64::saturating_add),
        _ => 0,
    };
    room(bytes)?;
    interpreters("concat", arguments)
}

/// Of a string: its characters, not its UTF-16 units.
pub(super) fn count(arguments: &[Value]) -> Result<Value, Fault> {
    let count = match arguments.first() {
        Some(Value::String(text)) => text.chars().count(),
        Some(Value::Array(items)) => items.len(),
        Some(Value::Set(items)) => items.len(),
        Some(Value::Object(members)) => members.len(),
        other => {
            let found = kind(other.unwrap_or(&Value::Undefined));
            return fault(format!("count: operand 1 must be one of {{array, object, set, string}} but got {found}"));
        }
    };
    Ok(Value::from(count as u64))
}

pub(super) fn reachable_paths(arguments: &[Value]) -> Result<Value, Fault> {
    if let Some(Value::Object(graph)) = arguments.first()
        && graph.len() > MAX_PATH_NODES
    {
        return fault(format!("graph.reachable_paths: more than {MAX_PATH_NODES} nodes"));
    }
    interpreters("graph.reachable_paths", arguments)
}

pub(super) fn json_marshal(arguments: &[Value]) -> Result<Value, Fault> {
    arguments.first().map_or(Ok(()), written_out)?;
    interpreters("json.marshal", arguments).map(for_html)
}

pub(super) fn json_marshal_with_options(arguments: &[Value]) -> Result<Value, Fault> {
    arguments.first().map_or(Ok(()), written_out)?;
    interpreters("json.marshal_with_options", arguments).map(for_html)
}

/// Go writes JSON that may stand in HTML. These characters stand in strings only.
fn for_html(json: Value) -> Value {
    let Value::String(text) = &json else { return json };
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '<' | '>' | '&' | '\u{2028}' | '\u{2029}') {
            let _ = write!(out, "\\u{:04x}", u32::from(c));
        } else {
            out.push(c);
        }
    }
    Value::from(out)
}

/// Letter by letter: Go leaves `ß` as it is.
pub(super) fn upper(arguments: &[Value]) -> Result<Value, Fault> {
    letters(string("upper", arguments, 0)?, char::to_uppercase)
}

pub(super) fn lower(arguments: &[Value]) -> Result<Value, Fault> {
    letters(string("lower", arguments, 0)?, char::to_lowercase)
}

fn letters<I: Iterator<Item = char>>(text: &str, change: fn(char) -> I) -> Result<Value, Fault> {
    room(text.len() as u64)?;
    let one = |c: char| {
        let mut changed = change(c);
        changed.next().filter(|_| changed.next().is_none()).unwrap_or(c)
    };
    Ok(Value::from(text.chars().map(one).collect::<String>()))
}

/// Whether one element is true.
pub(super) fn any(arguments: &[Value]) -> Result<Value, Fault> {
    Ok(Value::Bool(elements("any", arguments)?.contains(&&Value::Bool(true))))
}

/// Whether each element is true.
pub(super) fn all(arguments: &[Value]) -> Result<Value, Fault> {
    Ok(Value::Bool(elements("all", arguments)?.iter().all(|value| **value == Value::Bool(true))))
}

fn elements<'a>(function: &str, arguments: &'a [Value]) -> Result<Vec<&'a Value>, Fault> {
    match arguments.first() {
        Some(Value::Array(items)) => Ok(items.iter().collect()),
        Some(Value::Set(items)) => Ok(items.iter().collect()),
        other => wrong(function, 0, "array or set", other.unwrap_or(&Value::Undefined)),
    }
}

/// Refuses a value whose text would be too long.
pub(super) fn written_out(value: &Value) -> Result<(), Fault> {
    let mut growth = Growth::default();
    measure(value, &mut |bytes| growth.to(bytes)).map(drop)
}

/// About how long the text of a value is, in bytes: parts of a value are shared, and a text has them all. `bearable` is
/// asked on the way.
pub(in super::super) fn measure<E>(value: &Value, bearable: &mut dyn FnMut(u64) -> Result<(), E>) -> Result<u64, E> {
    let mut bytes = 0_u64;
    let mut waiting = vec![value];
    while let Some(value) = waiting.pop() {
        let own = match value {
            Value::String(text) => text.len() as u64 + 3,
            Value::Array(items) => {
                waiting.extend(items.iter());
                2
            }
            Value::Set(items) => {
                waiting.extend(items.iter());
                2
            }
            Value::Object(members) => {
                waiting.extend(members.iter_sorted().flat_map(|(key, value)| [key, value]));
                2
            }
            _ => 8,
        };
        bytes = bytes.saturating_add(own);
        bearable(bytes.saturating_add(waiting.len() as u64))?;
    }
    Ok(bytes)
}

pub(super) fn range(arguments: &[Value]) -> Result<Value, Fault> {
    steps("numbers.range", arguments, 1)?;
    interpreters("numbers.range", arguments)
}

pub(super) fn range_step(arguments: &[Value]) -> Result<Value, Fault> {
    let step = integer("numbers.range_step", arguments, 2)?;
    if step < 1 {
        return fault("numbers.range_step: step must be a positive integer");
    }
    steps("numbers.range_step", arguments, step.unsigned_abs())?;
    interpreters("numbers.range_step", arguments)
}

fn steps(function: &str, arguments: &[Value], step: u64) -> Result<(), Fault> {
    let (from, to) = (integer(function, arguments, 0)?, integer(function, arguments, 1)?);
    many(usize::try_from(from.abs_diff(to) / step).unwrap_or(usize::MAX))
}

pub(super) fn replace(arguments: &[Value]) -> Result<Value, Fault> {
    let [text, old, new] = [0, 1, 2].map(|number| string("replace", arguments, number));
    replaced(text?, old?, new?)?;
    interpreters("replace", arguments)
}

/// Refuses a replacement that would be too long.
fn replaced(text: &str, old: &str, new: &str) -> Result<(), Fault> {
    let times = text.len() as u64 / (old.len() as u64).max(1) + 1;
    let bytes = times.saturating_mul(new.len() as u64).saturating_add(text.len() as u64);
    if bytes <= super::SMALL {
        Ok(())
    } else {
        room((text.matches(old).count() as u64 + 1).saturating_mul(new.len() as u64).saturating_add(text.len() as u64))
    }
}

pub(super) fn replace_n(arguments: &[Value]) -> Result<Value, Fault> {
    let text = string("strings.replace_n", arguments, 1)?;
    if let Some(Value::Object(patterns)) = arguments.first() {
        // One replacement may make work for the next.
        let mut longest = 1;
        for (_, new) in patterns.iter_sorted() {
            longest = longest.max(new.as_string().map_or(0, |new| new.len()));
        }
        room((text.len() as u64 + 1).saturating_mul(longest as u64))?;
    }
    interpreters("strings.replace_n", arguments)
}

pub(super) fn split(arguments: &[Value]) -> Result<Value, Fault> {
    let (text, delimiter) = (string("split", arguments, 0)?, string("split", arguments, 1)?);
    if text.len() as u64 * VALUE > super::SMALL {
        many(if delimiter.is_empty() { text.len() } else { text.matches(delimiter).count() })?;
    }
    interpreters("split", arguments)
}

pub(super) fn semver_compare(arguments: &[Value]) -> Result<Value, Fault> {
    let [first, second] = [0, 1].map(|number| string("semver.compare", arguments, number));
    interpreters("semver.compare", &[version(first?), version(second?)])
}

pub(super) fn semver_is_valid(arguments: &[Value]) -> Result<Value, Fault> {
    match arguments {
        [Value::String(text)] => interpreters("semver.is_valid", &[version(text)]),
        _ => Ok(Value::Bool(false)),
    }
}

/// OPA takes a `v` before a version.
fn version(text: &str) -> Value {
    Value::from(text.strip_prefix('v').unwrap_or(text))
}

pub(super) fn set_diff(arguments: &[Value]) -> Result<Value, Fault> {
    let [Value::Set(first), Value::Set(second)] = arguments else { return fault("set_diff: operands must be sets") };
    let left: BTreeSet<Value> = first.iter().filter(|value| !second.contains(value)).cloned().collect();
    Ok(Value::from(left))
}
