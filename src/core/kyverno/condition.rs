//! Conditions on a predicate: `{{ JMESPath }}`, an operator, a value.

use jmespath::Variable;
use serde_json::Value;

use super::is_like;
use super::policy::{AnyAll, Condition};

/// Longest expression, in bytes.
const MAX_EXPRESSION: usize = 1000;
/// Most signs of an expression that nest: its reader goes into each.
const MAX_NESTED: usize = 64;
/// Most values on one side of an operator.
const MAX_VALUES: usize = 1_000_000;
/// Most comparisons of one condition.
const MAX_COMPARISONS: usize = 50_000_000;
/// Longest number in an expression, in digits: its reader adds such to lengths.
const MAX_DIGITS: usize = 7;
/// Commas and `to_string` of an expression, each of which may give everything twice.
const MAX_DOUBLINGS: usize = 12;
/// Most values and bytes of texts that an expression finds.
const MAX_FOUND: usize = 64 << 20;
/// Names that Kyverno knows besides the members of the predicate, which hide them.
pub(super) const CONTEXT: [&str; 8] = [
    "request",
    "images",
    "image",
    "element",
    "target",
    "serviceAccountName",
    "serviceAccountNamespace",
    "elementIndex",
];

/// What became of conditions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Held {
    Yes,
    No(String),
    NotJudged(String),
}

/// Whether a predicate satisfies all of these.
pub(super) fn all(conditions: &[AnyAll], predicate: &Value) -> Held {
    if conditions.is_empty() {
        return Held::Yes;
    }
    if !predicate.is_object() {
        return Held::No("the predicate is no JSON object, and conditions are about one".to_owned());
    }
    let mut unknown = None;
    for block in conditions {
        for condition in &block.all {
            match one(condition, predicate) {
                Held::Yes => {}
                no @ Held::No(_) => return no,
                Held::NotJudged(why) => unknown = Some(why),
            }
        }
        let any: Vec<_> = block.any.iter().map(|condition| one(condition, predicate)).collect();
        if any.is_empty() || any.contains(&Held::Yes) {
            continue;
        }
        let not_judged = any.iter().find_map(|held| if let Held::NotJudged(why) = held { Some(why) } else { None });
        if let Some(why) = not_judged {
            unknown = Some(why.clone());
            continue;
        }
        let why: Vec<_> =
            any.iter().filter_map(|held| if let Held::No(why) = held { Some(&**why) } else { None }).collect();
        return Held::No(format!("none of `any` holds: {}", why.join("; ")));
    }
    unknown.map_or(Held::Yes, Held::NotJudged)
}

fn one(condition: &Condition, predicate: &Value) -> Held {
    let (key, value) = match (filled(&condition.key, predicate), filled(&condition.value, predicate)) {
        (Ok(key), Ok(value)) => (key, value),
        (Err(held), _) | (_, Err(held)) => return held,
    };
    let shown = |value: &Value| -> String {
        let text = value.to_string();
        let cut = text.floor_char_boundary(200);
        if cut < text.len() { format!("{}…", &text[..cut]) } else { text }
    };
    let says = || format!("{} {} {}", shown(&condition.key), condition.operator, shown(&condition.value));
    match holds(&condition.operator, &key, &value) {
        Some(Ok(())) => Held::Yes,
        Some(Err(which)) => {
            let which = which.map(|which| format!(": {}", shown(&which))).unwrap_or_default();
            Held::No(format!("the condition {} does not hold{which}", says()))
        }
        None => Held::NotJudged(format!("the condition {}", says())),
    }
}

/// Texts with their variables filled in.
fn filled(value: &Value, predicate: &Value) -> Result<Value, Held> {
    match value {
        Value::String(text) => filled_text(text, predicate),
        Value::Array(list) => {
            list.iter().map(|one| filled(one, predicate)).collect::<Result<Vec<_>, _>>().map(Value::Array)
        }
        other => Ok(other.clone()),
    }
}

fn filled_text(text: &str, predicate: &Value) -> Result<Value, Held> {
    let trimmed = text.trim();
    if let Some(inner) = trimmed.strip_prefix("{{").and_then(|rest| rest.strip_suffix("}}"))
        && !inner.contains("{{")
        && !inner.contains("}}")
    {
        return asked(inner.trim(), predicate);
    }
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let Some((expression, behind)) = after.split_once("}}") else { break };
        out.push_str(before);
        match asked(expression.trim(), predicate)? {
            Value::String(text) => out.push_str(&text),
            other => out.push_str(&other.to_string()),
        }
        rest = behind;
    }
    out.push_str(rest);
    Ok(Value::String(out))
}

/// What an expression finds in a predicate.
fn asked(expression: &str, predicate: &Value) -> Result<Value, Held> {
    let not_judged = |why: String| Held::NotJudged(format!("the expression `{}`: {why}", expression.escape_debug()));
    if expression.len() > MAX_EXPRESSION {
        return Err(Held::NotJudged(format!("an expression of {} bytes", expression.len())));
    }
    if expression.bytes().filter(|byte| b"([{!&".contains(byte)).count() > MAX_NESTED {
        return Err(not_judged("it nests too deep".to_owned()));
    }
    let words = Words::of(expression);
    if words.has_long_number {
        return Err(not_judged(format!("a number of more than {MAX_DIGITS} digits")));
    }
    if words.doublings > MAX_DOUBLINGS {
        return Err(not_judged("it may find its input too often".to_owned()));
    }
    // An expression may find something, or `null`, where Kyverno knows more than the predicate: nothing of it is judged.
    let is_here = |name: &str| predicate.get(name).is_some();
    if words.names.iter().any(|name| CONTEXT.contains(&name.as_str()) && !is_here(name)) {
        return Err(not_judged("it asks about the request, which is not known here".to_owned()));
    }
    let compiled = jmespath::compile(expression).map_err(|error| not_judged(first_line(&error.to_string())))?;
    let found = compiled.search(predicate).map_err(|error| not_judged(first_line(&error.to_string())))?;
    if left(&found, MAX_FOUND).is_none() {
        return Err(not_judged(format!("it finds more than {MAX_FOUND} values and bytes")));
    }
    let found = serde_json::to_value(&*found).map_err(|error| not_judged(error.to_string()))?;
    if found.is_null() {
        return Err(Held::No(format!("`{}` finds nothing in the predicate", expression.escape_debug())));
    }
    Ok(found)
}

/// What is left of a number of values and bytes; lists that are in it many times count as often. As deep as the
/// predicate and the expression, which are both limited by their readers.
fn left(found: &Variable, budget: usize) -> Option<usize> {
    match found {
        Variable::String(text) => budget.checked_sub(text.len().saturating_add(1)),
        Variable::Array(list) => list.iter().try_fold(budget.checked_sub(1)?, |budget, one| left(one, budget)),
        Variable::Object(members) => members.iter().try_fold(budget.checked_sub(1)?, |budget, (name, one)| {
            left(one, budget.checked_sub(name.len().saturating_add(1))?)
        }),
        _ => budget.checked_sub(1),
    }
}

/// What stands in an expression, outside of its literals.
#[derive(Default)]
struct Words {
    /// Names that are looked up where they stand: no members of something, and no names of members that are made.
    names: Vec<String>,
    has_long_number: bool,
    doublings: usize,
}

impl Words {
    /// Reads as the lexer of `JMESPath` does: `'…'`, `"…"` and `` `…` `` end at the next such sign behind no backslash.
    fn of(expression: &str) -> Self {
        let mut words = Self::default();
        let mut rest = expression;
        let mut is_member = false;
        while let Some(first) = rest.chars().next() {
            let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let (token, behind) = rest.split_at(match first {
                '\'' | '"' | '`' => quoted(rest, first),
                c if is_name(c) => rest.find(|c| !is_name(c)).unwrap_or(rest.len()),
                c => c.len_utf8(),
            });
            rest = behind;
            let name = match first {
                '"' => Some(serde_json::from_str(token).unwrap_or_else(|_| token.to_owned())),
                c if c.is_ascii_alphabetic() || c == '_' => Some(token.to_owned()),
                _ => None,
            };
            words.has_long_number |=
                first.is_ascii_digit() && token.find(|c: char| !c.is_ascii_digit()).unwrap_or(token.len()) > MAX_DIGITS;
            words.doublings += usize::from(matches!(token, "," | "to_string"));
            let is_made = rest.trim_start().starts_with(':');
            words.names.extend(name.filter(|_| !is_member && !is_made));
            if !first.is_whitespace() {
                is_member = first == '.';
            }
        }
        words
    }
}

/// The length of what begins with this sign and ends with the next.
fn quoted(text: &str, sign: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == sign => return at + c.len_utf8(),
            _ => {}
        }
    }
    text.len()
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

/// Whether the operator holds; `None` where it is none that is judged. With what breaks it.
fn holds(operator: &str, key: &Value, value: &Value) -> Option<Result<(), Option<Value>>> {
    let verdict = |holds: bool| Some(if holds { Ok(()) } else { Err(Some(key.clone())) });
    let operator = operator.to_ascii_lowercase();
    match operator.as_str() {
        "equal" | "equals" => return equal(key, value).and_then(verdict),
        "notequal" | "notequals" => return equal(key, value).and_then(|is| verdict(!is)),
        "greaterthan" | "greaterthanorequals" | "lessthan" | "lessthanorequals" => {
            let (key, value) = (key.as_f64()?, value.as_f64()?);
            return verdict(match operator.as_str() {
                "greaterthan" => key > value,
                "greaterthanorequals" => key >= value,
                "lessthan" => key < value,
                _ => key <= value,
            });
        }
        _ => {}
    }
    let (keys, values) = (scalars(key, false)?, scalars(value, true)?);
    if keys.len().saturating_mul(values.len()) > MAX_COMPARISONS {
        return None;
    }
    let is_in = |one: &String| values.iter().any(|value| is_like(value, one) || is_like(one, value));
    let outside = keys.iter().find(|one| !is_in(one));
    let inside = keys.iter().find(|one| is_in(one));
    let (held, broken) = match operator.as_str() {
        "anyin" => (inside.is_some(), None),
        "allin" | "in" => (outside.is_none(), outside),
        "anynotin" => (outside.is_some(), None),
        "allnotin" | "notin" => (inside.is_none(), inside),
        _ => return None,
    };
    Some(if held { Ok(()) } else { Err(broken.cloned().map(Value::String)) })
}

/// `None` where Kyverno compares them in a way that is not known here: quantities, durations.
fn equal(key: &Value, value: &Value) -> Option<bool> {
    match (key, value) {
        (Value::String(key), Value::String(value)) => {
            // Quantities and durations are compared by what they mean.
            let is_number = |text: &str| text.starts_with(|c: char| c.is_ascii_digit());
            if is_number(key) && is_number(value) && key != value { None } else { Some(is_like(value, key)) }
        }
        (Value::Bool(_) | Value::Array(_) | Value::Object(_) | Value::Null, _) => Some(key == value),
        (Value::Number(key), Value::Number(value)) => Some(key.as_f64() == value.as_f64()),
        _ => None,
    }
}

/// The values of a list, or the one value, as texts. A text that is a list in JSON is one where `may_be_json`.
fn scalars(value: &Value, may_be_json: bool) -> Option<Vec<String>> {
    let text = |one: &Value| match one {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        _ => None,
    };
    match value {
        Value::Array(list) if list.len() <= MAX_VALUES => list.iter().map(text).collect(),
        Value::String(one) if may_be_json && one.trim_start().starts_with('[') => {
            let list: Vec<String> = serde_json::from_str(one).ok()?;
            Some(list)
        }
        one => text(one).map(|one| vec![one]),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn held(key: Value, operator: &str, value: Value, predicate: &Value) -> Held {
        let block = AnyAll { any: Vec::new(), all: vec![Condition { key, operator: operator.to_owned(), value }] };
        all(&[block], predicate)
    }

    #[test]
    fn conditions_are_asked_of_the_predicate() {
        let predicate = json!({ "components": [{"name": "zlib"}, {"name": "openssl"}], "n": 3, "ok": true,
            "builder": {"id": "https://ci.example/1"}, "empty": [] });
        let names = json!("{{ components[].name }}");
        for (key, operator, value, is) in [
            (names.clone(), "AllNotIn", json!(["banned-package"]), true),
            (names.clone(), "AllNotIn", json!(["zlib"]), false),
            (names.clone(), "AllNotIn", json!(["z*"]), false),
            (names.clone(), "AllNotIn", json!("[\"zlib\"]"), false),
            (names.clone(), "AnyIn", json!(["zlib"]), true),
            (names.clone(), "AllIn", json!(["zlib"]), false),
            (names.clone(), "AnyNotIn", json!(["zlib"]), true),
            (json!("{{ empty }}"), "AllNotIn", json!(["zlib"]), true),
            (json!("{{ n }}"), "GreaterThan", json!(2), true),
            (json!("{{ n }}"), "LessThan", json!(2), false),
            (json!("{{ ok }}"), "Equals", json!(true), true),
            (json!("{{ builder.id }}"), "Equals", json!("https://ci.example/*"), true),
            (json!("{{ builder.id }}"), "NotEquals", json!("https://ci.example/*"), false),
            (json!("{{ length(components) }}"), "Equals", json!(2), true),
            (json!("x-{{ n }}"), "Equals", json!("x-3"), true),
        ] {
            let found = held(key.clone(), operator, value.clone(), &predicate);
            assert_eq!(found == Held::Yes, is, "{key} {operator} {value}: {found:?}");
            assert!(!matches!(found, Held::NotJudged(_)), "{key} {operator} {value}: {found:?}");
        }
        // What is not there is an error there, and so a no.
        assert!(
            matches!(held(json!("{{ none[].name }}"), "AllNotIn", json!(["a"]), &predicate), Held::No(why) if why.contains("finds nothing"))
        );
        assert!(matches!(held(names.clone(), "AllNotIn", json!(["a"]), &json!("text")), Held::No(_)));
        for (key, operator, value) in [
            (json!("{{ request.object.metadata.name }}"), "Equals", json!("a")),
            (json!("{{ time_now_utc() }}"), "Equals", json!("a")),
            (json!("{{ n"), "DurationGreaterThan", json!("1h")),
            (json!("{{ ]] }}"), "Equals", json!("a")),
            (json!(format!("{{{{ {} }}}}", "(".repeat(900))), "Equals", json!("a")),
            (json!("{{ components }}"), "AllIn", json!(["a"])),
        ] {
            let found = held(key.clone(), operator, value, &predicate);
            assert!(matches!(found, Held::NotJudged(_)), "{key}: {found:?}");
        }
    }

    #[test]
    fn what_only_the_cluster_knows_is_not_judged() {
        let predicate = json!({ "image": "a", "builder": {"image": "x", "request": "y"}, "n": 3 });
        let equals = |expression: &str, value: Value| {
            held(json!(format!("{{{{ {expression} }}}}")), "Equals", value, &predicate)
        };
        for (expression, value) in [
            ("request.operation || 'BACKGROUND'", json!("BACKGROUND")),
            ("request.x == 'a'", json!(false)),
            ("\"request\".x == 'a'", json!(false)),
            ("length(images || `[]`)", json!(0)),
            ("[n, element]", json!([3, null])),
        ] {
            let found = equals(expression, value);
            assert!(matches!(&found, Held::NotJudged(why) if why.contains("the request")), "{expression}: {found:?}");
        }
        for (expression, value) in [
            ("image", json!("a")),
            ("builder.image", json!("x")),
            ("builder . request", json!("y")),
            ("builder.\"request\"", json!("y")),
            ("n == `3` && 'it\\'s request'", json!("it's request")),
            ("{request: n}", json!({"request": 3})),
        ] {
            assert_eq!(equals(expression, value), Held::Yes, "{expression}");
        }
    }

    #[test]
    fn what_would_take_all_memory_is_not_judged() {
        let predicate = json!({ "a": [1, 2, 3], "12345678901": 1, "text": "x".repeat(1000) });
        for expression in [
            "a[::2147483647]",
            "a[1::12345678]",
            "a[-12345678:]",
            &["[@,@]"; 60].join("|"),
            &["[@,@][]"; 30].join("|"),
            &format!("{}a{}", "to_string([".repeat(30), "])".repeat(30)),
        ] {
            let found = held(json!(format!("{{{{ {expression} }}}}")), "Equals", json!("a"), &predicate);
            assert!(matches!(found, Held::NotJudged(_)), "{expression}: {found:?}");
        }
        let list = Variable::from_json(&json!(["abc", {"de": [1]}]).to_string()).expect("JSON");
        assert_eq!((left(&list, 11), left(&list, 10)), (Some(0), None));
        for expression in ["\"12345678901\"", "a['12345678901' == 'x'] || `1`", "a[:9999999] | [0]"] {
            let found = held(json!(format!("{{{{ {expression} }}}}")), "Equals", json!(1), &predicate);
            assert!(!matches!(&found, Held::NotJudged(why) if why.contains("digits")), "{expression}: {found:?}");
        }
    }

    #[test]
    fn one_of_any_is_enough() {
        let of = |value: &str| Condition { key: json!("{{ a }}"), operator: "Equals".into(), value: json!(value) };
        let block = |any| [AnyAll { any, all: Vec::new() }];
        let predicate = json!({ "a": "1" });
        assert_eq!(all(&block(vec![of("x"), of("1")]), &predicate), Held::Yes);
        assert!(matches!(all(&block(vec![of("x"), of("y")]), &predicate), Held::No(_)));
        assert_eq!(all(&[], &json!(null)), Held::Yes);
    }
}
