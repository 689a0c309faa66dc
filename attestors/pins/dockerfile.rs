//! Dockerfiles: which images a build takes in, by line.
//!
//! Read as `BuildKit` reads them: directives at the top, a line that goes on behind the escape character, comments within
//! such a line, here-documents of `RUN`, `COPY` and `ADD`, arguments before the first `FROM`. All stages count, also
//! those that `--target` leaves out.

use std::collections::{BTreeMap, BTreeSet};

use super::collector::{At, Build, Collector, Kind};
use super::reference::{self, Said};

/// Most instructions of one file.
const MAX_INSTRUCTIONS: usize = 100_000;
/// Longest instruction that is read, in bytes.
const MAX_INSTRUCTION: usize = 1 << 20;
/// Arguments that the builder sets; their values are not known.
const PLATFORM: [&str; 8] = [
    "BUILDARCH",
    "BUILDOS",
    "BUILDPLATFORM",
    "BUILDVARIANT",
    "TARGETARCH",
    "TARGETOS",
    "TARGETPLATFORM",
    "TARGETVARIANT",
];

/// One instruction: its text without line ends, and where the lines of it begin.
struct Instruction {
    text: String,
    /// Offset in the text and line.
    lines: Vec<(usize, u64)>,
}

impl Instruction {
    fn line_at(&self, offset: usize) -> u64 {
        self.lines.iter().rev().find(|(start, _)| *start <= offset).map_or(0, |(_, line)| *line)
    }
}

/// A word and where it begins in its instruction.
#[derive(Clone, Copy)]
struct Word<'a> {
    text: &'a str,
    offset: usize,
}

/// Words that blanks separate; quotes hold together and stay.
fn words(text: &str) -> Vec<Word<'_>> {
    let (mut words, mut start, mut quote, mut escaped) = (Vec::new(), None, None, false);
    for (at, c) in text.char_indices() {
        if start.is_none() && !c.is_whitespace() {
            start = Some(at);
        }
        match (quote, c) {
            _ if escaped => escaped = false,
            (Some('\''), '\\') => {}
            (_, '\\') => escaped = true,
            (Some(open), c) if c == open => quote = None,
            (None, '"' | '\'') => quote = Some(c),
            (None, c) if c.is_whitespace() => {
                words.extend(start.take().map(|start: usize| Word { text: &text[start..at], offset: start }));
            }
            _ => {}
        }
    }
    words.extend(start.map(|start| Word { text: &text[start..], offset: start }));
    words
}

/// `# name=value` at the top of the file: name in lower case, value, line.
fn directives<'t>(lines: &[&'t str], mark: &str) -> Vec<(String, &'t str, u64)> {
    let mut found = Vec::new();
    for (number, line) in (1..).zip(lines) {
        // BuildKit lets a shebang pass before them.
        if number == 1 && line.starts_with("#!") {
            continue;
        }
        let pair = line.trim_start().strip_prefix(mark).and_then(|rest| rest.split_once('='));
        let Some((name, value)) = pair else { break };
        let name = name.trim();
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric()) || value.trim().is_empty() {
            break;
        }
        found.push((name.to_ascii_lowercase(), value.trim(), number));
    }
    found
}

/// What an argument stands for: `None` where nobody knows before the build.
type Value = Option<String>;

struct State<'a> {
    build: &'a Build,
    args: BTreeMap<String, Value>,
    stages: usize,
    names: BTreeSet<String>,
}

/// Reads a Dockerfile.
pub(super) fn read(collector: &mut Collector<'_>, build: &Build, text: &str) {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines: Vec<&str> = text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line)).collect();
    let directives = [directives(&lines, "#"), directives(&lines, "//")].concat();
    let escape = directives
        .iter()
        .find(|(name, ..)| name == "escape")
        .map_or('\\', |(_, value, _)| if *value == "`" { '`' } else { '\\' });
    let syntax = directives.iter().find(|(name, ..)| name == "syntax");
    // The argument wins over the directive.
    if let (Some((_, value, line)), false) = (syntax, build.args.contains_key("BUILDKIT_SYNTAX")) {
        // A command line may stand behind the image.
        let image = value.split_whitespace().next().unwrap_or(value);
        collector.pin(At::line(&build.name, *line), Kind::Frontend, image, None, reference::image(image));
    }
    let mut state = State { build, args: BTreeMap::new(), stages: 0, names: BTreeSet::new() };
    let mut next = 0;
    let mut count = 0;
    while next < lines.len() {
        let Some(instruction) = instruction(&lines, &mut next, escape) else { break };
        let at = At::line(&build.name, instruction.line_at(0));
        count += 1;
        if count > MAX_INSTRUCTIONS || instruction.text.len() > MAX_INSTRUCTION {
            return collector.gap(Some(&at), "limit", "here and behind the file is too long");
        }
        if let Err(name) = skip_documents(&instruction, &lines, &mut next) {
            return collector.gap(Some(&at), "syntax", format!("the here-document {name} has no end"));
        }
        one(collector, &mut state, &instruction);
    }
    if state.stages == 0 {
        collector.gap(Some(&At::line(&build.name, 1)), "syntax", "this is no Dockerfile: it has no FROM");
    }
}

/// The next instruction. Comments and empty lines are passed over, also within it.
fn instruction(lines: &[&str], next: &mut usize, escape: char) -> Option<Instruction> {
    let mut made = Instruction { text: String::new(), lines: Vec::new() };
    while *next < lines.len() {
        let line = lines[*next];
        *next += 1;
        let trimmed = line.trim_start();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        let line = if made.lines.is_empty() { trimmed } else { line };
        made.lines.push((made.text.len(), *next as u64));
        let end = line.trim_end_matches([' ', '\t']);
        match end.strip_suffix(escape) {
            Some(before) if !before.ends_with(escape) => made.text.push_str(before),
            _ => {
                made.text.push_str(line);
                return Some(made);
            }
        }
    }
    (!made.lines.is_empty()).then_some(made)
}

/// Passes over the here-documents of an instruction; the name of one that does not end otherwise.
fn skip_documents(instruction: &Instruction, lines: &[&str], next: &mut usize) -> Result<(), String> {
    let words = words(&instruction.text);
    let mut names = words.iter().map(|word| word.text.to_ascii_uppercase());
    let first = names.next().unwrap_or_default();
    let verb = if first == "ONBUILD" { names.next().unwrap_or_default() } else { first };
    if !matches!(verb.as_str(), "RUN" | "COPY" | "ADD") {
        return Ok(());
    }
    for word in words {
        let rest = word.text.trim_start_matches(|digit: char| digit.is_ascii_digit());
        let Some(rest) = rest.strip_prefix("<<") else { continue };
        let (rest, chomp) = rest.strip_prefix('-').map_or((rest, false), |rest| (rest, true));
        let name: String = rest.chars().filter(|c| !matches!(c, '"' | '\'')).collect();
        if rest.contains('<') || name.is_empty() {
            continue;
        }
        loop {
            let Some(line) = lines.get(*next) else { return Err(name) };
            *next += 1;
            let line = if chomp { line.trim_start_matches('\t') } else { line };
            if line == name {
                break;
            }
        }
    }
    Ok(())
}

fn one(collector: &mut Collector<'_>, state: &mut State<'_>, instruction: &Instruction) {
    let words = words(&instruction.text);
    let Some((first, mut rest)) = words.split_first() else { return };
    let mut verb = first.text.to_ascii_uppercase();
    // What a base asks of those who build on it happens in this build where a later stage builds on this one.
    if verb == "ONBUILD"
        && let Some((first, left)) = rest.split_first()
    {
        verb = first.text.to_ascii_uppercase();
        rest = left;
    }
    match verb.as_str() {
        "ARG" if state.stages == 0 => {
            for word in rest {
                arg(state, word.text);
            }
        }
        "FROM" => from(collector, state, instruction, first, rest),
        "COPY" | "ADD" => {
            for word in rest.iter().take_while(|word| word.text.starts_with("--")) {
                if let Some(name) = word.text.strip_prefix("--from=") {
                    taken(collector, state, instruction.line_at(word.offset), name);
                }
            }
        }
        "RUN" => {
            for word in rest.iter().take_while(|word| word.text.starts_with("--")) {
                let Some(mount) = word.text.strip_prefix("--mount=") else { continue };
                let members = unquoted(mount);
                let name = members.split(',').find_map(|member| {
                    let (key, value) = member.split_once('=')?;
                    key.trim().eq_ignore_ascii_case("from").then(|| value.trim().to_owned())
                });
                if let Some(name) = name {
                    taken(collector, state, instruction.line_at(word.offset), &name);
                }
            }
        }
        _ => {}
    }
}

/// `ARG NAME[=value]` before the first `FROM`.
fn arg(state: &mut State<'_>, text: &str) {
    let (name, default) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
    let value = match (state.build.args.get(name), default) {
        (Some(given), _) => given.clone(),
        (None, Some(default)) => expand(default, &state.args),
        (None, None) if PLATFORM.contains(&name) => None,
        (None, None) => state.args.get(name).cloned().unwrap_or(Some(String::new())),
    };
    state.args.insert(name.to_owned(), value);
}

fn from(
    collector: &mut Collector<'_>,
    state: &mut State<'_>,
    instruction: &Instruction,
    first: &Word<'_>,
    rest: &[Word<'_>],
) {
    state.stages += 1;
    let mut operands = rest.iter().skip_while(|word| word.text.starts_with("--"));
    let Some(word) = operands.next() else {
        let at = At::line(&state.build.name, instruction.line_at(first.offset));
        return collector.gap(Some(&at), "syntax", "FROM without an image");
    };
    let expanded = expand(word.text, &state.args);
    let image = expanded.as_deref().unwrap_or(word.text);
    let is_stage = state.names.contains(&image.to_ascii_lowercase());
    if image != "scratch" && !is_stage && !state.build.contexts.contains(&image.to_ascii_lowercase()) {
        base(collector, state, instruction.line_at(word.offset), word.text, expanded.as_deref());
    }
    if let (Some(word), Some(name)) = (operands.next(), operands.next())
        && word.text.eq_ignore_ascii_case("as")
    {
        state.names.insert(name.text.to_ascii_lowercase());
    }
}

/// What `--from=` names: a stage, a context, or an image.
fn taken(collector: &mut Collector<'_>, state: &State<'_>, line: u64, name: &str) {
    let name = unquoted(name);
    let is_index = name.parse::<usize>().is_ok_and(|index| index < state.stages);
    let lower = name.to_ascii_lowercase();
    if name.is_empty() || is_index || state.names.contains(&lower) || state.build.contexts.contains(&lower) {
        return;
    }
    base(collector, state, line, &name, None);
}

fn base(collector: &mut Collector<'_>, state: &State<'_>, line: u64, written: &str, expanded: Option<&str>) {
    let said = match expanded {
        // The build fails.
        Some("") => Said::default(),
        Some(image) => reference::image(image),
        None => reference::image(written),
    };
    collector.pin(At::line(&state.build.name, line), Kind::Base, written, expanded, said);
}

fn unquoted(text: &str) -> String {
    text.chars().filter(|c| !matches!(c, '"' | '\'')).collect()
}

/// A word with its variables; `None` where one is not known before the build.
fn expand(text: &str, args: &BTreeMap<String, Value>) -> Value {
    expand_within(text, args, 0)
}

fn expand_within(text: &str, args: &BTreeMap<String, Value>, depth: usize) -> Value {
    /// Defaults within defaults.
    const MAX_DEPTH: usize = 8;
    if depth > MAX_DEPTH {
        return None;
    }
    let value = |name: &str| match args.get(name) {
        Some(value) => value.clone().map(Some),
        None if PLATFORM.contains(&name) => None,
        // Not declared: empty.
        None => Some(None),
    };
    let mut out = String::new();
    let mut single = false;
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '\'' => single = !single,
            '"' if !single => {}
            '\\' if !single => out.extend(chars.next().map(|(_, c)| c)),
            '$' if !single => {
                let rest = &text[at + 1..];
                if let Some(braced) = rest.strip_prefix('{') {
                    let length = closing(braced)?;
                    let inner = &braced[..length];
                    let end = inner.find(|c: char| c != '_' && !c.is_ascii_alphanumeric()).unwrap_or(inner.len());
                    let (name, operation) = inner.split_at(end);
                    let value = value(name)?;
                    let is_set = value.as_ref().is_some_and(|value| !operation.starts_with(':') || !value.is_empty());
                    let operation = operation.strip_prefix(':').unwrap_or(operation);
                    let word = match operation.chars().next() {
                        None => value.unwrap_or_default(),
                        Some('-' | '?') if is_set => value.unwrap_or_default(),
                        Some('+') if !is_set => String::new(),
                        Some('-' | '+') => expand_within(&operation[1..], args, depth + 1)?,
                        // Patterns are for the builder.
                        Some(_) => return None,
                    };
                    out.push_str(&word);
                    let end = at + 1 + 1 + length + 1;
                    while chars.next_if(|(at, _)| *at < end).is_some() {}
                } else {
                    let length = rest.find(|c: char| c != '_' && !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
                    if length == 0 {
                        out.push('$');
                        continue;
                    }
                    out.push_str(&value(&rest[..length])?.unwrap_or_default());
                    while chars.next_if(|(next, _)| *next < at + 1 + length).is_some() {}
                }
            }
            c => out.push(c),
        }
    }
    Some(out)
}

/// Where the brace ends that is open.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => return Some(at),
            '}' => depth -= 1,
            _ => {}
        }
    }
    None
}
