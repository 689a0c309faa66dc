//! Regular expressions as Go's RE2 reads them, and globs as gobwas does.
//!
//! The crate that matches reads almost the same language. What differs is translated: `\d`, `\w`, `\s` and `\b` are
//! ASCII there, a `[` within a class and a `{` that repeats nothing are themselves, `\Q…\E` quotes, `\123` is octal.

use std::cell::RefCell;
use std::collections::BTreeMap;

use regex_automata::meta::Regex;
use regex_automata::util::interpolate;
use regex_automata::util::syntax;
use regorus::Value;

use super::{Fault, fault, integer, room, string, wrong};
use crate::select;

/// Longest regular expression, in bytes.
const MAX_PATTERN: usize = 16 * 1024;
/// Most memory of a compiled regular expression, in bytes.
const MAX_COMPILED: usize = 4 * 1024 * 1024;
/// Most regular expressions that are kept compiled.
const KEPT: usize = 64;

thread_local! {
    /// Compiled expressions of the evaluation on this thread.
    static COMPILED: RefCell<BTreeMap<String, Regex>> = const { RefCell::new(BTreeMap::new()) };
}

fn compiled(key: String, translate: impl FnOnce() -> Result<String, Fault>) -> Result<Regex, Fault> {
    if let Some(regex) = COMPILED.with_borrow(|known| known.get(&key).cloned()) {
        return Ok(regex);
    }
    let pattern = translate()?;
    let config = Regex::config().nfa_size_limit(Some(MAX_COMPILED)).hybrid_cache_capacity(MAX_COMPILED);
    let regex = Regex::builder()
        .configure(config)
        .syntax(syntax::Config::new().nest_limit(200))
        .build(&pattern)
        .map_err(|error| Fault(format!("error parsing regexp: {}", last_line(&error))))?;
    COMPILED.with_borrow_mut(|known| {
        if known.len() >= KEPT {
            known.clear();
        }
        known.insert(key, regex.clone());
    });
    Ok(regex)
}

/// The last cause, in one line: the first ones draw the pattern.
fn last_line(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    let text = last.to_string();
    text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

fn regex(function: &str, arguments: &[Value], number: usize) -> Result<Regex, Fault> {
    let pattern = string(function, arguments, number)?;
    if pattern.len() > MAX_PATTERN {
        return fault(format!("{function}: the pattern has more than {MAX_PATTERN} bytes"));
    }
    compiled(format!("r{pattern}"), || Ok(translated(pattern)))
        .map_err(|Fault(problem)| Fault(format!("{function}: {problem}: `{pattern}`")))
}

/// `pattern` in the words of the crate. What is an error there as well as here stays one.
fn translated(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len() + 16);
    let mut chars = pattern.chars().peekable();
    let mut class = false;
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                None => out.push('\\'),
                Some('Q') => {
                    let mut quoted = String::new();
                    while chars.peek().is_some() {
                        quoted.extend(chars.next());
                        if quoted.ends_with("\\E") {
                            quoted.truncate(quoted.len() - 2);
                            break;
                        }
                    }
                    quoted.chars().for_each(|c| literal(c, &mut out));
                }
                Some(escape) => escaped(escape, class, &mut chars, &mut out),
            },
            '[' if class => {
                // `[:alpha:]` is a class; any other bracket is itself.
                let rest: String = chars.clone().take(16).collect();
                if rest.starts_with(':') && rest.contains(":]") {
                    out.push('[')
                } else {
                    out.push_str("\\[")
                }
                if rest.starts_with(':') && rest.contains(":]") {
                    while let Some(c) = chars.next() {
                        out.push(c);
                        if c == ']' {
                            break;
                        }
                    }
                }
            }
            '[' => {
                class = true;
                out.push('[');
                if chars.next_if_eq(&'^').is_some() {
                    out.push('^');
                }
                if chars.next_if_eq(&']').is_some() {
                    out.push_str("\\]");
                }
            }
            ']' if class => {
                class = false;
                out.push(']');
            }
            // Two of these are operators on classes.
            '&' | '~' if class => literal(c, &mut out),
            '-' if class && chars.peek() == Some(&'-') => out.push_str("\\-"),
            '{' if !class => {
                let rest: String = chars.clone().take_while(|c| *c != '}').take(12).collect();
                let (low, high) = rest.split_once(',').unwrap_or((&rest, ""));
                let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
                let closed = chars.clone().nth(rest.chars().count()) == Some('}');
                if closed && !low.is_empty() && digits(low) && digits(high) {
                    out.push('{')
                } else {
                    out.push_str("\\{")
                }
            }
            c => out.push(c),
        }
    }
    out
}

fn escaped(escape: char, class: bool, chars: &mut std::iter::Peekable<std::str::Chars<'_>>, out: &mut String) {
    match (escape, class) {
        ('d', false) => out.push_str("[0-9]"),
        ('d', true) => out.push_str("0-9"),
        ('D', _) => out.push_str("[^0-9]"),
        ('w', false) => out.push_str("[0-9A-Za-z_]"),
        ('w', true) => out.push_str("0-9A-Za-z_"),
        ('W', _) => out.push_str("[^0-9A-Za-z_]"),
        ('s', false) => out.push_str(r"[\t\n\f\r ]"),
        ('s', true) => out.push_str(r"\t\n\f\r "),
        ('S', _) => out.push_str(r"[^\t\n\f\r ]"),
        ('b', false) => out.push_str(r"(?-u:\b)"),
        ('0'..='7', _) => {
            let mut code = u32::from(escape) - u32::from('0');
            for _ in 0..2 {
                let Some(digit) = chars.next_if(|c| ('0'..='7').contains(c)) else { break };
                code = code * 8 + u32::from(digit) - u32::from('0');
            }
            out.push_str(&format!("\\x{{{code:x}}}"));
        }
        _ => {
            out.push('\\');
            out.push(escape);
            // `\p{Greek}`, `\x{41}`
            if matches!(escape, 'p' | 'P' | 'x') && chars.peek() == Some(&'{') {
                for c in chars.by_ref() {
                    out.push(c);
                    if c == '}' {
                        break;
                    }
                }
            }
        }
    }
}

fn literal(c: char, out: &mut String) {
    if c.is_ascii_punctuation() && !matches!(c, '<' | '>') {
        out.push('\\');
    }
    out.push(c);
}

pub(super) fn is_match(arguments: &[Value]) -> Result<Value, Fault> {
    let regex = regex("regex.match", arguments, 0)?;
    Ok(Value::Bool(regex.is_match(string("regex.match", arguments, 1)?)))
}

pub(super) fn is_valid(arguments: &[Value]) -> Result<Value, Fault> {
    let text = matches!(arguments, [Value::String(_)]);
    Ok(Value::Bool(text && regex("regex.is_valid", arguments, 0).is_ok()))
}

/// How many matches are asked for: all of them where the number is negative.
fn wanted(function: &str, arguments: &[Value]) -> Result<usize, Fault> {
    Ok(usize::try_from(integer(function, arguments, 2)?).unwrap_or(usize::MAX))
}

pub(super) fn find(arguments: &[Value]) -> Result<Value, Fault> {
    let regex = regex("regex.find_n", arguments, 0)?;
    let text = string("regex.find_n", arguments, 1)?;
    let mut found = Vec::new();
    for part in regex.find_iter(text).take(wanted("regex.find_n", arguments)?) {
        found.push(Value::from(text.get(part.range()).unwrap_or_default()));
        room(found.len() as u64 * 64)?;
    }
    Ok(Value::from(found))
}

pub(super) fn find_all_submatches(arguments: &[Value]) -> Result<Value, Fault> {
    let function = "regex.find_all_string_submatch_n";
    let regex = regex(function, arguments, 0)?;
    let text = string(function, arguments, 1)?;
    let mut found = Vec::new();
    let mut groups = 0;
    for captures in regex.captures_iter(text).take(wanted(function, arguments)?) {
        let group = |span: Option<regex_automata::Span>| {
            Value::from(span.and_then(|span| text.get(span.range())).unwrap_or_default())
        };
        let parts: Vec<Value> = captures.iter().map(group).collect();
        groups += parts.len();
        room(groups as u64 * 64)?;
        found.push(Value::from(parts));
    }
    Ok(Value::from(found))
}

pub(super) fn replace(arguments: &[Value]) -> Result<Value, Fault> {
    let text = string("regex.replace", arguments, 0)?;
    let regex = regex("regex.replace", arguments, 1)?;
    let replacement = string("regex.replace", arguments, 2)?;
    let mut out = String::new();
    let mut end = 0;
    for captures in regex.captures_iter(text) {
        let Some(whole) = captures.get_match() else { continue };
        out.push_str(text.get(end..whole.start()).unwrap_or_default());
        interpolate::string(
            replacement,
            |group, out| {
                let span = captures.get_group(group);
                out.push_str(span.and_then(|span| text.get(span.range())).unwrap_or_default());
            },
            |name| captures.group_info().to_index(whole.pattern(), name),
            &mut out,
        );
        end = whole.end();
        room(out.len() as u64)?;
    }
    out.push_str(text.get(end..).unwrap_or_default());
    Ok(Value::from(out))
}

pub(super) fn split(arguments: &[Value]) -> Result<Value, Fault> {
    let regex = regex("regex.split", arguments, 0)?;
    let text = string("regex.split", arguments, 1)?;
    let mut parts = Vec::new();
    let (mut begin, mut end) = (0, 0);
    for found in regex.find_iter(text) {
        end = found.start();
        // Nothing at the beginning separates nothing.
        if found.end() != 0 {
            parts.push(Value::from(text.get(begin..end).unwrap_or_default()));
        }
        begin = found.end();
        room(parts.len() as u64 * 64)?;
    }
    if end != text.len() {
        parts.push(Value::from(text.get(begin..).unwrap_or_default()));
    }
    Ok(Value::from(parts))
}

/// Text with regular expressions between delimiters.
pub(super) fn template_match(arguments: &[Value]) -> Result<Value, Fault> {
    let function = "regex.template_match";
    let [template, text, start, end] = [0, 1, 2, 3].map(|number| string(function, arguments, number));
    let (template, text, start, end) = (template?, text?, start?, end?);
    if start.chars().count() != 1 || end.chars().count() != 1 {
        return fault(format!("{function}: start and end delimiters must be exactly one character long"));
    }
    if template.len() > MAX_PATTERN {
        return fault(format!("{function}: the template has more than {MAX_PATTERN} bytes"));
    }
    let regex = compiled(format!("t{start}{end}{template}"), || {
        let unbalanced = || Fault(format!("{function}: delimiters of `{template}` do not match"));
        let mut pattern = String::from("^");
        let mut rest = template;
        while let Some((before, after)) = rest.split_once(start) {
            before.chars().for_each(|c| literal(c, &mut pattern));
            let close = closing(after, start, end).ok_or_else(unbalanced)?;
            let (inner, behind) = after.split_at(close);
            pattern.push_str(&format!("({})", translated(inner)));
            rest = behind.strip_prefix(end).unwrap_or_default();
        }
        if rest.contains(end) {
            return Err(unbalanced());
        }
        rest.chars().for_each(|c| literal(c, &mut pattern));
        pattern.push('$');
        Ok(pattern)
    })?;
    Ok(Value::Bool(regex.is_match(text)))
}

/// Where the delimiter ends that was opened before `text`.
fn closing(text: &str, start: &str, end: &str) -> Option<usize> {
    let mut depth = 1;
    for (position, _) in text.char_indices() {
        let rest = text.get(position..).unwrap_or_default();
        if rest.starts_with(end) {
            depth -= 1;
        } else if rest.starts_with(start) {
            depth += 1;
        }
        if depth == 0 {
            return Some(position);
        }
    }
    None
}

pub(super) fn glob_match(arguments: &[Value]) -> Result<Value, Fault> {
    let pattern = string("glob.match", arguments, 0)?;
    let text = string("glob.match", arguments, 2)?;
    let separators: Vec<char> = match arguments.get(1) {
        Some(Value::Null) => Vec::new(),
        Some(Value::Array(delimiters)) if delimiters.is_empty() => vec!['.'],
        Some(Value::Array(delimiters)) => {
            let one = |value: &Value| {
                let mut chars = value.as_string().ok()?.chars();
                chars.next().filter(|_| chars.next().is_none())
            };
            let all: Option<Vec<char>> = delimiters.iter().map(one).collect();
            all.ok_or_else(|| Fault("glob.match: operand 2 must be array of single-character strings".to_owned()))?
        }
        other => return wrong("glob.match", 1, "array or null", other.unwrap_or(&Value::Undefined)),
    };
    if pattern.len() > MAX_PATTERN {
        return fault(format!("glob.match: the pattern has more than {MAX_PATTERN} bytes"));
    }
    let key = format!("g{}/{pattern}", separators.iter().collect::<String>());
    let regex = compiled(key, || {
        select::translate(pattern, &separators).map_err(|reason| Fault(format!("glob.match: `{pattern}`: {reason}")))
    })?;
    Ok(Value::Bool(regex.is_match(text)))
}

pub(super) fn glob_quote_meta(arguments: &[Value]) -> Result<Value, Fault> {
    let mut out = String::new();
    for c in string("glob.quote_meta", arguments, 0)?.chars() {
        if matches!(c, '*' | '?' | '\\' | '[' | ']' | '{' | '}') {
            out.push('\\');
        }
        out.push(c);
    }
    Ok(Value::from(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_of_re2() {
        for (pattern, ours) in [
            (r"^\d+\w\s\b$", r"^[0-9]+[0-9A-Za-z_][\t\n\f\r ](?-u:\b)$"),
            (r"[\d\-[:alpha:]_]", r"[0-9\-[:alpha:]_]"),
            (r"[[a]", r"[\[a]"),
            ("[]a]", r"[\]a]"),
            ("[^]a]", r"[^\]a]"),
            ("[a&&b]", r"[a\&\&b]"),
            ("[a--z]", r"[a\--z]"),
            (r#"{"a":{1}"#, r#"\{"a":{1}"#),
            ("a{2,}b{,3}c{1,2}{", r"a{2,}b\{,3}c{1,2}\{"),
            (r"\Qa.b\E.", r"a\.b."),
            (r"\101\x41\x{42}\pL[\P{Greek}]", r"\x{41}\x41\x{42}\pL[\P{Greek}]"),
        ] {
            assert_eq!(translated(pattern), ours, "{pattern}");
            assert!(Regex::new(ours).is_ok(), "{ours}");
        }
    }
}
