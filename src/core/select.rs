//! Globs that choose files by path, and the pair of include and exclude lists.
//!
//! A pattern means what it means to witness and cilock: gobwas/glob compiled without separators (wire-formats
//! §4.3). `*` and `**` are the same and cross `/`, `?` is one character, `[abc]`, `[a-z]`, `[!a-z]` are one
//! character of a list or of a single range, `{a,{b,c}}` are alternatives (also empty ones), `\` takes the next
//! character literally. A leading `**/` needs a folder: `**/*.o` does not match `x.o`. The pattern is translated
//! into an anchored regular expression; globset works on bytes and reads several of these forms differently
//! (`docs/decisions/006-globs.md`).

use std::fmt;

use regex_automata::meta::Regex;
use serde::{Serialize, Serializer};

/// Longest pattern that is read, in bytes.
pub const MAX_PATTERN: usize = 16 * 1024;
/// Deepest nesting of `{…}` that is read.
pub const MAX_NESTING: usize = 64;

/// A pattern that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bad glob `{pattern}`: {reason}")]
pub struct GlobError {
    /// The pattern as given.
    pub pattern: String,
    /// What is wrong with it, a lower-case fragment.
    pub reason: String,
}

/// A compiled pattern.
#[derive(Clone)]
pub struct Glob {
    pattern: String,
    matcher: Matcher,
}

#[derive(Clone)]
enum Matcher {
    /// `*`: no need to look.
    Everything,
    /// Two texts around one run of stars. They may share characters, as in gobwas: `a/**/b` matches `a/b`.
    Ends(String, String),
    Regex(Regex),
}

impl fmt::Debug for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Glob").field(&self.pattern).finish()
    }
}

impl fmt::Display for Glob {
    /// The pattern as given.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.pattern)
    }
}

impl Serialize for Glob {
    /// The pattern as given.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.pattern)
    }
}

impl Glob {
    /// Compiles `pattern`. The empty pattern matches no path.
    pub fn new(pattern: &str) -> Result<Self, GlobError> {
        let fail = |reason: String| GlobError { pattern: pattern.to_owned(), reason };
        if pattern.len() > MAX_PATTERN {
            return Err(GlobError {
                pattern: format!("{}…", pattern.chars().take(40).collect::<String>()),
                reason: format!("{} bytes, more than the limit of {MAX_PATTERN}", pattern.len()),
            });
        }
        let matcher = if pattern == "*" || pattern == "**" {
            Matcher::Everything
        } else if let Some((start, end)) = ends(pattern) {
            Matcher::Ends(start, end)
        } else {
            let regex = translate(pattern, &[]).map_err(|reason| fail(reason.to_owned()))?;
            Matcher::Regex(Regex::new(&regex).map_err(|_| fail("too large".to_owned()))?)
        };
        Ok(Self { pattern: pattern.to_owned(), matcher })
    }

    /// Compiles a pattern of names whose parts are separated by `/`: `*` and `?` stay within one, `**` does not.
    pub fn of_names(pattern: &str) -> Result<Self, GlobError> {
        let fail = |reason: &str| GlobError { pattern: pattern.to_owned(), reason: reason.to_owned() };
        if pattern.len() > MAX_PATTERN {
            return Err(fail("longer than is read"));
        }
        let regex = translate(pattern, &['/']).map_err(fail)?;
        let regex = Regex::new(&regex).map_err(|_| fail("too large"))?;
        Ok(Self { pattern: pattern.to_owned(), matcher: Matcher::Regex(regex) })
    }

    /// The pattern as given.
    pub fn pattern(&self) -> &str {
        &self.pattern
    }

    /// Whether the whole of `path` matches.
    pub fn matches(&self, path: &str) -> bool {
        match &self.matcher {
            Matcher::Everything => true,
            Matcher::Ends(start, end) => path.starts_with(start.as_str()) && path.ends_with(end.as_str()),
            Matcher::Regex(regex) => regex.is_match(path),
        }
    }
}

/// The two texts of a pattern that is nothing but text, one run of stars, text.
fn ends(pattern: &str) -> Option<(String, String)> {
    if pattern.contains(['?', '[', '{', '\\']) {
        return None;
    }
    let (start, end) = (pattern.split('*').next()?, pattern.rsplit('*').next()?);
    let between = pattern.len().checked_sub(start.len() + end.len())?;
    (between > 0 && pattern[start.len()..start.len() + between].bytes().all(|byte| byte == b'*'))
        .then(|| (start.to_owned(), end.to_owned()))
}

/// The anchored regular expression of `pattern`, or why it has none. `*` and `?` match none of `separators`, `**` does.
pub(crate) fn translate(pattern: &str, separators: &[char]) -> Result<String, &'static str> {
    let mut one = String::from(".");
    if !separators.is_empty() {
        one = String::from("[^");
        for separator in separators {
            literal(*separator, &mut one);
        }
        one.push(']');
    }
    let mut out = String::with_capacity(pattern.len() + 16);
    out.push_str(r"(?s)\A(?:");
    let mut nesting = 0_usize;
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '*' => {
                let several = chars.next_if_eq(&'*').is_some();
                while chars.next_if_eq(&'*').is_some() {}
                out.push_str(if several { "." } else { &one });
                out.push('*');
            }
            '?' => out.push_str(&one),
            '[' => class(&mut chars, &mut out)?,
            '{' => {
                nesting += 1;
                if nesting > MAX_NESTING {
                    return Err("braces are nested too deeply");
                }
                out.push_str("(?:");
            }
            ',' if nesting > 0 => out.push('|'),
            '}' if nesting > 0 => {
                nesting -= 1;
                out.push(')');
            }
            // A `\` at the very end stands for nothing.
            '\\' => {
                if let Some(next) = chars.next() {
                    literal(next, &mut out);
                }
            }
            _ => literal(c, &mut out),
        }
    }
    // Braces that are left open end with the pattern.
    out.extend(std::iter::repeat_n(')', nesting));
    out.push_str(r")\z");
    Ok(out)
}

/// The rest of `[…]`: an optional `!`, then either one range `a-z` or a list of characters with escapes.
fn class(chars: &mut std::iter::Peekable<std::str::Chars<'_>>, out: &mut String) -> Result<(), &'static str> {
    const OPEN: &str = "`[` without `]`";
    out.push('[');
    if chars.next_if_eq(&'!').is_some() {
        out.push('^');
    }
    let mut ahead = chars.clone();
    if let (Some(low), Some('-')) = (ahead.next(), ahead.next()) {
        let high = ahead.next().ok_or(OPEN)?;
        if ahead.next().ok_or(OPEN)? != ']' {
            return Err("a range takes one pair `[a-z]`, several stand in braces: `{[a-z],[0-9]}`");
        }
        if high < low {
            return Err("the range ends before it begins");
        }
        literal(low, out);
        out.push('-');
        literal(high, out);
        *chars = ahead;
    } else {
        let mut members = 0_usize;
        loop {
            let c = match chars.next().ok_or(OPEN)? {
                ']' => break,
                '\\' => chars.next().ok_or(OPEN)?,
                c => c,
            };
            members += 1;
            literal(c, out);
        }
        if members == 0 {
            return Err("`[]` holds no character");
        }
    }
    out.push(']');
    Ok(())
}

fn literal(c: char, out: &mut String) {
    if c.is_ascii_punctuation() && !matches!(c, '<' | '>') {
        out.push('\\');
    }
    out.push(c);
}

/// Which paths are taken: those that an include pattern and no exclude pattern matches.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Selection {
    /// Patterns of which one must match; none at all takes everything.
    include: Vec<Glob>,
    /// Patterns of which none may match; asked first.
    exclude: Vec<Glob>,
}

impl Selection {
    /// Compiles the two lists. An empty list of includes is `*`; an empty exclude pattern matches nothing.
    pub fn new<S: AsRef<str>>(include: &[S], exclude: &[S]) -> Result<Self, GlobError> {
        let compile = |list: &[S]| list.iter().map(|pattern| Glob::new(pattern.as_ref())).collect::<Result<_, _>>();
        Ok(Self { include: compile(include)?, exclude: compile(exclude)? })
    }

    /// Whether `path` is taken.
    pub fn takes(&self, path: &str) -> bool {
        !self.exclude.iter().any(|glob| glob.matches(path))
            && (self.include.is_empty() || self.include.iter().any(|glob| glob.matches(path)))
    }

    /// Whether every path is taken, known without looking at one.
    pub fn takes_everything(&self) -> bool {
        self.exclude.iter().all(|glob| glob.pattern.is_empty())
            && (self.include.is_empty() || self.include.iter().any(|glob| matches!(glob.matcher, Matcher::Everything)))
    }

    /// The include patterns.
    pub fn include(&self) -> &[Glob] {
        &self.include
    }

    /// The exclude patterns.
    pub fn exclude(&self) -> &[Glob] {
        &self.exclude
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What gobwas/glob 0.2.3 says of each pair of pattern and path.
    #[derive(serde::Deserialize)]
    struct Recorded {
        paths: Vec<String>,
        patterns: Vec<Row>,
    }
    #[derive(serde::Deserialize)]
    struct Row {
        pattern: String,
        error: bool,
        matches: Vec<String>,
    }

    /// Where gobwas misses what its own rules take: it counts bytes where characters of several bytes meet `?`
    /// in a row, and has no match for an empty alternative next to text or `**`.
    const GOBWAS_MISSES: [(&str, &str); 11] = [
        ("?x", "éx"),
        ("é?", "éx"),
        ("é?", "éé"),
        ("a?c", "aéc"),
        ("{日,é}?", "éx"),
        ("{日,é}?", "日本"),
        ("{日,é}?", "éé"),
        ("{}a", "a"),
        ("src/{**/,}x", "src/x"),
        ("src/{**/,}x", "src/a/x"),
        ("src/{**/,}x", "src/a/b/x"),
    ];

    #[test]
    fn globs_match_what_gobwas_matches() {
        let recorded: Recorded =
            serde_json::from_str(include_str!("../../fixtures/globs/gobwas.json")).expect("the recorded table");
        let mut differences = Vec::new();
        for row in &recorded.patterns {
            match Glob::new(&row.pattern) {
                Err(error) if !row.error => differences.push(format!("{error}, gobwas reads it")),
                Err(_) => {}
                Ok(_) if row.error => differences.push(format!("`{}`: gobwas refuses it", row.pattern)),
                Ok(glob) => {
                    for path in &recorded.paths {
                        let missed = GOBWAS_MISSES.contains(&(row.pattern.as_str(), path.as_str()));
                        let want = row.matches.contains(path) || missed;
                        if glob.matches(path) != want {
                            differences.push(format!("`{}` on `{path}`: gobwas says {want}", row.pattern));
                        }
                    }
                }
            }
        }
        assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
    }

    #[test]
    fn bad_patterns_are_named() {
        for pattern in ["[", "a[", "[]", "[!]", "[a", "[a-zA-Z]", "[z-a]", "[a-", "[a-]", "{[}", "x[a\\"] {
            let error = Glob::new(pattern).expect_err(pattern);
            assert!(error.to_string().contains(&format!("`{pattern}`")), "{error}");
        }
        let long = "a".repeat(MAX_PATTERN + 1);
        assert!(Glob::new(&long).expect_err("too long").to_string().len() < 200);
        assert!(Glob::new(&"{".repeat(MAX_NESTING + 1)).is_err());
        assert!(Glob::new(&"{".repeat(MAX_NESTING)).is_ok());
    }

    #[test]
    fn hard_patterns_end_quickly() {
        let glob = Glob::new(&"*a".repeat(400)).expect("compiles");
        assert!(!glob.matches(&"a".repeat(399)));
        assert!(glob.matches(&"a".repeat(400)));
    }

    #[test]
    fn selection_asks_exclude_first() {
        let all: [&str; 0] = [];
        let selection = Selection::new(&all, &all).expect("compiles");
        assert!(selection.takes("any/thing") && selection.takes_everything());
        let selection = Selection::new(&["*"], &[""]).expect("compiles");
        assert!(selection.takes("any/thing") && selection.takes_everything());
        let selection = Selection::new(&["*.o", "*.a"], &["tmp/*"]).expect("compiles");
        assert!(selection.takes("x/y.o") && selection.takes("y.a"));
        assert!(!selection.takes("tmp/y.o") && !selection.takes("y.c") && !selection.takes_everything());
        let nothing = Selection::new(&[""], &all).expect("compiles");
        assert!(!nothing.takes("a") && !nothing.takes_everything());
        assert!(Selection::new(&["*"], &["["]).is_err());
    }
}
