//! What is looked at before the parser sees a module, and what the interpreter's errors say.
//!
//! The parser and the interpreter recurse: over brackets, over chains of operators (`a + b + …`), signs and references.
//! Their time and stack are theirs to use only after this has found the depth bearable.

use regorus::unstable::Span;

use super::{MAX_CHAIN, MAX_EFFORT, MAX_MODULE, MAX_NESTING, Module, RegoError};

/// Path by which the interpreter knows the module of this number: names may be equal, or hold anything.
pub(super) fn path(index: usize) -> String {
    format!("module-{index}")
}

/// Refuses a module that is too large, too deeply nested or too long-winded.
pub(super) fn check(module: &Module) -> Result<(), RegoError> {
    if module.text.len() > MAX_MODULE {
        return Err(RegoError::TooLarge { module: module.name.clone(), bytes: module.text.len() });
    }
    let mut line = 1;
    let mut levels = vec![0_usize];
    // Levels of `[` and `{`, and how often the parser reads what stands in them.
    let mut doubled = Vec::new();
    let mut effort = 0_u64;
    let mut chain = 0;
    let mut previous = Kind::Other;
    let mut new_line = true;
    let mut tokens = Tokens { rest: &module.text };
    while let Some(token) = tokens.next() {
        let too_deep = |line, what: &str, limit| {
            Err(RegoError::TooDeep { module: module.name.clone(), line, what: what.to_owned(), limit })
        };
        match token {
            Token::NewLine => {
                line += 1;
                new_line = true;
                continue;
            }
            Token::Text(lines) => line += lines,
            Token::Open => {
                let read = module.text.len() - tokens.rest.len();
                let parenthesis = module.text.as_bytes().get(read.wrapping_sub(1)) == Some(&b'(');
                let times = doubled.last().copied().unwrap_or(1_u64);
                doubled.push(if parenthesis { times } else { times * 2 });
                levels.push(0);
                if levels.len() > MAX_NESTING + 1 {
                    return too_deep(line, "brackets are nested deeper", MAX_NESTING);
                }
            }
            Token::Close if levels.len() > 1 => {
                doubled.pop();
                chain -= levels.pop().unwrap_or(0);
            }
            _ => {}
        }
        effort += doubled.last().copied().unwrap_or(1);
        if effort > MAX_EFFORT {
            let limit = usize::try_from(MAX_EFFORT).unwrap_or(usize::MAX);
            return too_deep(line, "too much stands in nested brackets: more steps to parse", limit);
        }
        let kind = token.kind();
        let level = levels.last_mut().expect("the outermost level stays");
        // A new line ends an expression, unless an operator stands before or after it.
        if kind == Kind::Separator || (new_line && kind == Kind::Other && previous == Kind::Other) {
            chain -= *level;
            *level = 0;
        }
        if kind == Kind::Operator || matches!(token, Token::Open) {
            *level += 1;
            chain += 1;
            if chain > MAX_CHAIN {
                return too_deep(line, "an expression is a longer chain of operators and references", MAX_CHAIN);
            }
        }
        previous = kind;
        new_line = false;
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Operator,
    Separator,
    Other,
}

#[derive(Clone, Copy)]
enum Token {
    NewLine,
    Open,
    Close,
    Operator,
    Separator,
    /// A word, number or string, and how many lines it goes on for.
    Text(u32),
}

impl Token {
    fn kind(self) -> Kind {
        match self {
            Self::Operator => Kind::Operator,
            Self::Separator => Kind::Separator,
            _ => Kind::Other,
        }
    }
}

/// The tokens of a module, as far as depth depends on them; comments are left out.
struct Tokens<'a> {
    rest: &'a str,
}

impl Iterator for Tokens<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        loop {
            let first = self.rest.chars().next()?;
            let rest = self.rest.get(first.len_utf8()..).unwrap_or_default();
            let (token, rest) = match first {
                '\n' => (Some(Token::NewLine), rest),
                '#' => (None, rest.find('\n').and_then(|end| rest.get(end..)).unwrap_or_default()),
                '"' | '`' => {
                    let end = end_of_string(rest, first);
                    let (text, rest) = rest.split_at_checked(end).unwrap_or((rest, ""));
                    let lines = text.bytes().filter(|byte| *byte == b'\n').count();
                    (Some(Token::Text(u32::try_from(lines).unwrap_or(u32::MAX))), rest)
                }
                '(' | '[' | '{' => (Some(Token::Open), rest),
                ')' | ']' | '}' => (Some(Token::Close), rest),
                ',' | ';' => (Some(Token::Separator), rest),
                '+' | '-' | '*' | '/' | '%' | '&' | '|' | '=' | '!' | '<' | '>' | '.' | ':' => {
                    (Some(Token::Operator), rest)
                }
                _ if first.is_alphanumeric() || first == '_' => {
                    let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
                    let word_end = first.len_utf8() + end;
                    let word = self.rest.get(..word_end).unwrap_or_default();
                    let token =
                        if matches!(word, "in" | "not" | "with" | "as") { Token::Operator } else { Token::Text(0) };
                    (Some(token), self.rest.get(word_end..).unwrap_or_default())
                }
                _ => (None, rest),
            };
            self.rest = rest;
            if token.is_some() {
                return token;
            }
        }
    }
}

/// Where a string ends that began before `rest`, behind its closing quote.
fn end_of_string(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (position, c) in rest.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quote == '"' => escaped = true,
            _ if c == quote => return position + c.len_utf8(),
            _ => {}
        }
    }
    rest.len()
}

/// The text of a span. The lexer's spans of strings leave out the quotes.
pub(super) fn text(span: &Span) -> &str {
    let source = span.source.contents();
    let [start, end] = [span.start, span.end].map(|place| usize::try_from(place).unwrap_or(usize::MAX));
    let quote = |place: usize| matches!(source.as_bytes().get(place), Some(b'"' | b'`'));
    let start = start.checked_sub(1).filter(|before| quote(*before)).unwrap_or(start);
    let end = if quote(end) { end + 1 } else { end };
    source.get(start..end).unwrap_or_default()
}

/// The parameters behind the name of a function, in parentheses. Those without a name get one.
pub(super) fn parentheses(name: &Span) -> String {
    let source = name.source.contents();
    let end = usize::try_from(name.end).unwrap_or(usize::MAX);
    let mut found = String::new();
    let mut depth = 0;
    let mut unnamed = 0;
    let mut tokens = Tokens { rest: source.get(end..).unwrap_or_default() };
    loop {
        let before = tokens.rest;
        let Some(token) = tokens.next() else { return found };
        let text = before.get(..before.len() - tokens.rest.len()).unwrap_or_default();
        if text.trim() == "_" {
            unnamed += 1;
            found.push_str("affiant_unnamed_");
            found.push_str(&unnamed.to_string());
        } else {
            found.push_str(text);
        }
        match token {
            Token::Open => depth += 1,
            Token::Close => depth -= 1,
            _ => {}
        }
        if depth <= 0 {
            return found;
        }
    }
}

/// A v0 module in which each body of a set rule has a head of its own: `p[x] { … } { … }`, which the parser does not
/// read, becomes `p[x] { … } p[x] { … }`, on the same lines.
pub(super) fn unchained(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut tokens = Tokens { rest: text };
    let mut level = 0_usize;
    // Where the head of the rule begins, and the head once its first body was seen.
    let mut start = 0;
    let mut head: Option<&str> = None;
    let mut last = ' ';
    loop {
        let before = text.len() - tokens.rest.len();
        let Some(token) = tokens.next() else { break };
        let end = text.len() - tokens.rest.len();
        let piece = text.get(before..end).unwrap_or_default();
        let c = piece.chars().last().unwrap_or(' ');
        if level == 0 && c == '{' && matches!(token, Token::Open) {
            match head {
                Some(head) if last == '}' => {
                    out.push(' ');
                    out.push_str(head);
                }
                _ => head = text.get(start..end.saturating_sub(1)).map(str::trim).filter(|_| last == ']'),
            }
        } else if level == 0 && last == '}' && !matches!(token, Token::NewLine) {
            (start, head) = (end - piece.trim_start().len(), None);
        } else if level == 0 && head.is_none() && matches!(token, Token::NewLine) {
            start = end;
        }
        match token {
            Token::Open => level += 1,
            Token::Close => level = level.saturating_sub(1),
            _ => {}
        }
        if !matches!(token, Token::NewLine) {
            last = c;
        }
        out.push_str(piece);
    }
    out.push_str(tokens.rest);
    out
}

/// What an error of the interpreter says, without its drawing of the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Complaint {
    /// Number of the module and line, counted from 1.
    pub(super) at: Option<(usize, u32)>,
    /// One line.
    pub(super) text: String,
}

/// Takes an error of the interpreter apart: `--> module-0:3:5`, some lines of drawing, `error: text`.
pub(super) fn complaint(error: &str) -> Complaint {
    let at = error.lines().find_map(|line| {
        let (module, place) = line.split_once("--> module-")?.1.split_once(':')?;
        Some((module.parse().ok()?, place.split(':').next()?.parse().ok()?))
    });
    let text = error
        .lines()
        .filter_map(|line| line.strip_prefix("error: "))
        .find(|text| !text.trim().is_empty())
        .or_else(|| error.lines().find(|line| !line.trim().is_empty() && !line.starts_with("--> ")))
        .unwrap_or("unknown error");
    Complaint { at, text: text.trim().trim_end_matches('.').to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<(), RegoError> {
        check(&Module { name: "m.rego".to_owned(), text: text.to_owned() })
    }

    #[test]
    fn ordinary_rules_pass() {
        of("package a\n\ndeny[msg] {\n  input.a[\"b\"].c == {\"x\": [1, 2, {3}]} # ((((((((((((((((((((((((\n  msg := `]]]}}}`\n}\n").unwrap();
        // Many statements, one after the other, are no chain.
        let body = "  input.a.b.c == 7 + 1\n".repeat(2000);
        of(&format!("package a\ndeny[\"x\"] {{\n{body}}}\n")).unwrap();
        of(&format!("package a\nx := [{}]", "1 + a.b,\n".repeat(5000))).unwrap();
    }

    #[test]
    fn depth_is_refused_with_its_line() {
        let nested =
            |open: &str, close: &str, depth| format!("package a\nx := {}1{}", open.repeat(depth), close.repeat(depth));
        for (open, close) in [("(", ")"), ("[", "]"), ("{", "}"), ("{1: ", "}")] {
            of(&nested(open, close, MAX_NESTING)).unwrap();
            let error = of(&nested(open, close, 100_000)).unwrap_err().to_string();
            assert_eq!(error, "Rego module m.rego:2: brackets are nested deeper, at most 16 are read");
        }
        for link in ["1 + ", "- ", "a\n+ ", "a +\n", "a.", "a[b] | ", "a in ", "(1) * "] {
            let error = of(&format!("package a\nx := {}1", link.repeat(1000))).unwrap_err().to_string();
            assert!(error.contains("longer chain"), "{link}: {error}");
        }
        // Chains within chains count together.
        let inner = format!("f({})", "1 + ".repeat(30) + "1");
        assert!(of(&format!("package a\nx := {}", vec![inner; 20].join(" + "))).is_ok());
        let deep = format!("{}1{}", format!("({}", "1 + ".repeat(40)).repeat(12), ")".repeat(12));
        assert!(of(&format!("package a\nx := {deep}")).is_err());
    }

    #[test]
    fn what_the_parser_reads_again_and_again_is_limited() {
        let deep = format!("{}1{},\n", "[".repeat(14), "]".repeat(14));
        of(&format!("package a\nx := [{}]", deep.repeat(10))).unwrap();
        let error = of(&format!("package a\nx := [{}]", deep.repeat(1000))).unwrap_err().to_string();
        assert!(
            error.starts_with("Rego module m.rego:") && error.contains("too much stands in nested brackets"),
            "{error}"
        );
        // Parentheses are read once.
        of(&format!("package a\nx := [{}]", deep.repeat(1000).replace('[', "(").replace(']', ")"))).unwrap();
        // A table of ten thousand rows is nothing.
        of(&format!("package a\nx := {{{}}}", "\"a\": {\"b\": [1, 2, 3]},\n".repeat(10_000))).unwrap();
    }

    #[test]
    fn bodies_of_sets_get_heads() {
        let chained = "package a\n\np[x] {\n x := 1 # }\n} {\n x := {2}[_] }\n{ x := 3 }\nq[\"}\"] { true } q[1] { true }\nr { true } { false }\ns = {1} { true }\nt[{1}] { true } { true }";
        let apart = "package a\n\np[x] {\n x := 1 # }\n} p[x] {\n x := {2}[_] }\n p[x]{ x := 3 }\nq[\"}\"] { true } q[1] { true }\nr { true } { false }\ns = {1} { true }\nt[{1}] { true } t[{1}] { true }";
        let squeeze = |text: &str| text.split_whitespace().collect::<Vec<_>>().join("").replace(' ', "");
        assert_eq!(squeeze(&unchained(chained)), squeeze(apart));
        assert_eq!(unchained(chained).lines().count(), chained.lines().count());
    }

    #[test]
    fn errors_of_the_interpreter() {
        let error = "\n--> module-12:3:5\n  |\n3 | x { }\n  |     ^\nerror: expecting expression.";
        assert_eq!(complaint(error), Complaint { at: Some((12, 3)), text: "expecting expression".to_owned() });
        assert_eq!(
            complaint("not a valid rule path"),
            Complaint { at: None, text: "not a valid rule path".to_owned() }
        );
    }
}
