//! `sprintf`, as Go's package fmt does it for what OPA hands to it.

use std::fmt::Write as _;

use regorus::Value;

use super::{Fault, fault, room, string, wrong};

/// Largest width and precision; Go's.
const MAX_WIDTH: i64 = 1_000_000;

/// What OPA makes of a value before it is formatted.
enum Argument {
    Integer(i64),
    /// Digits with a sign.
    Large(String),
    Float(f64),
    /// Strings, and the Rego text of all else.
    Text(String),
}

impl Argument {
    fn of(value: &Value) -> Result<Self, Fault> {
        Ok(match value {
            Value::String(text) => Self::Text(text.to_string()),
            Value::Number(number) => match number.as_i64() {
                Some(integer) if number.is_integer() => Self::Integer(integer),
                _ if number.is_integer() => Self::Large(number.format_decimal()),
                _ => number.as_f64().map_or_else(|| Self::Text(value.to_string()), Self::Float),
            },
            other => {
                super::collections::written_out(other)?;
                let mut text = String::new();
                spell(other, &mut text);
                Self::Text(text)
            }
        })
    }

    /// Go's name of the type.
    const fn kind(&self) -> &'static str {
        match self {
            Self::Integer(_) => "int64",
            Self::Large(_) => "*big.Int",
            Self::Float(_) => "float64",
            Self::Text(_) => "string",
        }
    }
}

/// `sprintf(format, values)`.
pub(super) fn sprintf(arguments: &[Value]) -> Result<Value, Fault> {
    let layout = string("sprintf", arguments, 0)?;
    let Some(Value::Array(values)) = arguments.get(1) else {
        return wrong("sprintf", 1, "array", arguments.get(1).unwrap_or(&Value::Undefined));
    };
    let values = values.iter().map(Argument::of).collect::<Result<Vec<_>, _>>()?;
    let mut printer = Printer { values: &values, next: 0, reordered: false, out: String::new() };
    printer.print(layout)?;
    Ok(Value::from(printer.out))
}

/// Flags, width and precision of one verb.
#[derive(Clone, Copy, Default)]
struct Flags {
    plus: bool,
    minus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

struct Printer<'a> {
    values: &'a [Argument],
    next: usize,
    /// An explicit index was used: then values that are left over are not complained about.
    reordered: bool,
    out: String,
}

impl Printer<'_> {
    fn print(&mut self, layout: &str) -> Result<(), Fault> {
        let mut rest = layout;
        while let Some((before, after)) = rest.split_once('%') {
            self.out.push_str(before);
            rest = self.directive(after)?;
            room(self.out.len() as u64)?;
        }
        self.out.push_str(rest);
        if !self.reordered && self.next < self.values.len() {
            self.out.push_str("%!(EXTRA ");
            for (number, value) in self.values.iter().enumerate().skip(self.next) {
                let comma = if number > self.next { ", " } else { "" };
                let _ = write!(self.out, "{comma}{}=", value.kind());
                self.value(value, 'v', Flags::default());
            }
            self.out.push(')');
        }
        Ok(())
    }

    /// One directive behind its `%`; gives what follows it.
    fn directive<'a>(&mut self, text: &'a str) -> Result<&'a str, Fault> {
        let mut flags = Flags::default();
        let mut rest = text;
        while let Some(flag) = rest.chars().next().filter(|c| "+-# 0".contains(*c)) {
            match flag {
                '+' => flags.plus = true,
                '-' => flags.minus = true,
                '#' => flags.sharp = true,
                ' ' => flags.space = true,
                _ => flags.zero = true,
            }
            rest = rest.get(1..).unwrap_or_default();
        }
        let mut bad_index = false;
        rest = self.index(rest, &mut bad_index);
        if let Some(after) = rest.strip_prefix('*') {
            rest = after;
            match self.values.get(self.next) {
                Some(Argument::Integer(width)) if width.abs() <= MAX_WIDTH => {
                    flags.minus |= *width < 0;
                    flags.width = usize::try_from(width.unsigned_abs()).ok();
                }
                _ => self.out.push_str("%!(BADWIDTH)"),
            }
            self.next += 1;
        } else {
            (flags.width, rest) = number(rest);
        }
        if let Some(after) = rest.strip_prefix('.') {
            rest = self.index(after, &mut bad_index);
            if let Some(after) = rest.strip_prefix('*') {
                rest = after;
                match self.values.get(self.next) {
                    Some(Argument::Integer(precision)) if (0..=MAX_WIDTH).contains(precision) => {
                        flags.precision = usize::try_from(*precision).ok();
                    }
                    Some(Argument::Integer(precision)) if *precision < 0 => {}
                    _ => self.out.push_str("%!(BADPREC)"),
                }
                self.next += 1;
            } else {
                let precision;
                (precision, rest) = number(rest);
                flags.precision = Some(precision.unwrap_or(0));
            }
        }
        rest = self.index(rest, &mut bad_index);
        if flags.width.max(flags.precision).is_some_and(|width| width as u64 > MAX_WIDTH.unsigned_abs()) {
            return fault("sprintf: the width is too large");
        }
        let Some(verb) = rest.chars().next() else {
            self.out.push_str("%!(NOVERB)");
            return Ok(rest);
        };
        let after = rest.get(verb.len_utf8()..).unwrap_or_default();
        if verb == '%' {
            self.out.push('%');
        } else if bad_index {
            let _ = write!(self.out, "%!{verb}(BADINDEX)");
        } else if let Some(value) = self.values.get(self.next) {
            self.next += 1;
            self.value(value, verb, flags);
        } else {
            let _ = write!(self.out, "%!{verb}(MISSING)");
        }
        Ok(after)
    }

    /// `[3]`: the number of the value that comes next.
    fn index<'a>(&mut self, text: &'a str, bad: &mut bool) -> &'a str {
        let Some((index, after)) = text.strip_prefix('[').and_then(|text| text.split_once(']')) else { return text };
        self.reordered = true;
        match index.parse::<usize>().ok().and_then(|index| index.checked_sub(1)) {
            Some(index) if index < self.values.len() => self.next = index,
            _ => *bad = true,
        }
        after
    }

    fn value(&mut self, value: &Argument, verb: char, flags: Flags) {
        if verb == 'T' {
            return self.pad(value.kind(), flags, false);
        }
        let done = match value {
            Argument::Integer(integer) => self.integer(&integer.to_string(), verb, flags, false),
            Argument::Large(digits) => self.integer(digits, verb, flags, true),
            Argument::Float(float) => self.float(*float, verb, flags),
            Argument::Text(text) => self.text(text, verb, flags),
        };
        if !done {
            let _ = write!(self.out, "%!{verb}({}=", value.kind());
            self.value(value, 'v', Flags::default());
            self.out.push(')');
        }
    }

    fn text(&mut self, text: &str, verb: char, flags: Flags) -> bool {
        let cut = |text: &str| match flags.precision {
            Some(precision) => text.chars().take(precision).collect(),
            None => text.to_owned(),
        };
        match verb {
            'v' if flags.sharp => self.pad(&quoted(text), flags, false),
            'v' | 's' => self.pad(&cut(text), flags, false),
            'q' => self.pad(&quoted(&cut(text)), flags, false),
            'x' => self.pad(&hex::encode(text), flags, false),
            'X' => self.pad(&hex::encode_upper(text), flags, false),
            _ => return false,
        }
        true
    }

    fn integer(&mut self, digits: &str, verb: char, flags: Flags, large: bool) -> bool {
        let (negative, digits) = match digits.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, digits),
        };
        let small = digits.parse::<u128>().ok();
        let (prefix, digits) = match (verb, small) {
            ('d' | 'v', _) => ("", digits.to_owned()),
            ('s', _) if large => ("", digits.to_owned()),
            ('b', Some(value)) => (if flags.sharp { "0b" } else { "" }, format!("{value:b}")),
            ('o', Some(value)) => (if flags.sharp { "0" } else { "" }, format!("{value:o}")),
            ('O', Some(value)) => ("0o", format!("{value:o}")),
            ('x', Some(value)) => (if flags.sharp { "0x" } else { "" }, format!("{value:x}")),
            ('X', Some(value)) => (if flags.sharp { "0X" } else { "" }, format!("{value:X}")),
            ('c' | 'q' | 'U', Some(value)) if !large => {
                let c = u32::try_from(value).ok().filter(|_| !negative).and_then(char::from_u32).unwrap_or('\u{fffd}');
                let text = match verb {
                    'c' => c.to_string(),
                    'q' => format!("'{}'", escaped(&c.to_string(), '\'')),
                    _ => format!("U+{value:04X}"),
                };
                self.pad(&text, flags, false);
                return true;
            }
            _ => return false,
        };
        let missing = flags.precision.unwrap_or(0).saturating_sub(digits.len());
        let digits = format!("{prefix}{}{digits}", "0".repeat(missing));
        self.signed(negative, &digits, Flags { zero: flags.zero && flags.precision.is_none(), ..flags });
        true
    }

    fn float(&mut self, value: f64, verb: char, flags: Flags) -> bool {
        let magnitude = value.abs();
        let text = match verb {
            'f' | 'F' => format!("{magnitude:.*}", flags.precision.unwrap_or(6)),
            'e' | 'E' => scientific(&format!("{magnitude:.*e}", flags.precision.unwrap_or(6))),
            'g' | 'G' | 'v' => general(magnitude, flags.precision),
            _ => return false,
        };
        let text = if matches!(verb, 'E' | 'G') { text.to_uppercase() } else { text };
        self.signed(value.is_sign_negative(), &text, flags);
        true
    }

    fn signed(&mut self, negative: bool, digits: &str, flags: Flags) {
        let sign = match (negative, flags.plus, flags.space) {
            (true, ..) => "-",
            (_, true, _) => "+",
            (_, _, true) => " ",
            _ => "",
        };
        if flags.zero && !flags.minus {
            let missing = flags.width.unwrap_or(0).saturating_sub(sign.len() + digits.len());
            let text = format!("{sign}{}{digits}", "0".repeat(missing));
            self.out.push_str(&text);
        } else {
            self.pad(&format!("{sign}{digits}"), flags, true);
        }
    }

    fn pad(&mut self, text: &str, flags: Flags, number: bool) {
        let missing = flags.width.unwrap_or(0).saturating_sub(text.chars().count());
        let filler = if flags.zero && !flags.minus && !number { "0" } else { " " };
        if flags.minus {
            self.out.push_str(text);
            self.out.push_str(&" ".repeat(missing));
        } else {
            self.out.push_str(&filler.repeat(missing));
            self.out.push_str(text);
        }
    }
}

/// A number at the beginning of a text, and what follows.
fn number(text: &str) -> (Option<usize>, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    if digits.is_empty() { (None, rest) } else { (Some(digits.parse().unwrap_or(usize::MAX)), rest) }
}

/// `1.5e3` as Go writes it: `1.5e+03`.
fn scientific(text: &str) -> String {
    let Some((digits, exponent)) = text.split_once('e') else { return text.to_owned() };
    let (sign, exponent) = match exponent.strip_prefix('-') {
        Some(exponent) => ('-', exponent),
        None => ('+', exponent),
    };
    format!("{digits}e{sign}{exponent:0>2}")
}

/// Go's `%g`: as few digits as the number needs, or so many significant ones.
fn general(value: f64, precision: Option<usize>) -> String {
    let text = match precision {
        Some(precision) => format!("{value:.*e}", precision.max(1) - 1),
        None => format!("{value:e}"),
    };
    let Some((digits, exponent)) = text.split_once('e') else { return text };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let digits = if digits.contains('.') { digits.trim_end_matches('0').trim_end_matches('.') } else { digits };
    let count = i32::try_from(digits.bytes().filter(u8::is_ascii_digit).count()).unwrap_or(i32::MAX);
    let most = precision.map_or(6, |precision| i32::try_from(precision.max(1)).unwrap_or(i32::MAX));
    if exponent < -4 || exponent >= most {
        return scientific(&format!("{digits}e{exponent}"));
    }
    let decimals = usize::try_from((count - 1 - exponent).max(0)).unwrap_or(0);
    format!("{value:.decimals$}")
}

/// A value as Rego text, as OPA prints it: with a space behind commas and colons.
fn spell(value: &Value, out: &mut String) {
    let mut list = |open: &str, items: &mut dyn Iterator<Item = &Value>, close: &str| {
        out.push_str(open);
        for (number, item) in items.enumerate() {
            if number > 0 {
                out.push_str(", ");
            }
            spell(item, out);
        }
        out.push_str(close);
    };
    match value {
        Value::Array(items) => list("[", &mut items.iter(), "]"),
        Value::Set(items) if items.is_empty() => out.push_str("set()"),
        Value::Set(items) => list("{", &mut items.iter(), "}"),
        Value::Object(members) => {
            out.push('{');
            for (number, (key, value)) in members.iter_sorted().enumerate() {
                if number > 0 {
                    out.push_str(", ");
                }
                spell(key, out);
                out.push_str(": ");
                spell(value, out);
            }
            out.push('}');
        }
        Value::String(text) => out.push_str(&quoted(text)),
        other => out.push_str(&other.to_string()),
    }
}

/// In double quotes, as Go's strconv.Quote.
fn quoted(text: &str) -> String {
    format!("\"{}\"", escaped(text, '"'))
}

fn escaped(text: &str, quote: char) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x0b' => out.push_str("\\v"),
            '\\' => out.push_str("\\\\"),
            c if c == quote => {
                out.push('\\');
                out.push(c);
            }
            c if c.is_ascii_control() => {
                let _ = write!(out, "\\x{:02x}", u32::from(c));
            }
            // What Rust would not print as it is, Go would not either.
            c if !c.is_ascii() && c.escape_debug().count() > 1 => {
                let code = u32::from(c);
                let _ = if code > 0xffff { write!(out, "\\U{code:08x}") } else { write!(out, "\\u{code:04x}") };
            }
            c => out.push(c),
        }
    }
    out
}
