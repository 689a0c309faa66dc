//! Finds the values of known secrets in bytes and texts, in every usual encoding, and replaces them.
//!
//! How it searches: every value becomes [patterns](super::patterns) (raw, base64 at its three alignments in both
//! alphabets, hex in both cases); one automaton over the first bytes of all patterns runs over the text and over its
//! decoded [views](super::views) (JSON escapes, percent-encoding, line breaks undone), and each candidate is compared in
//! full.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt;

use aho_corasick::{AhoCorasick, AhoCorasickKind};
use serde_json::Value;

use super::patterns::{self, Pattern, base64_character};
use super::views::Views;
use super::{VariableMask, url};
use crate::attestor::Environment;

/// What stands in place of a secret that was found.
pub const PLACEHOLDER: &str = "[redacted]";
/// Shorter values are not searched for (security rule 4), in bytes.
pub const MIN_SECRET: usize = 8;
/// Shorter values are no reason to refuse a document that is kept as written (security rule 4), in bytes.
pub const MIN_DOCUMENT_SECRET: usize = 16;

/// The automaton knows this many bytes of each pattern; the rest is compared.
const ANCHOR: usize = 16;
/// Texts are searched in windows of this size, so that views of a large document stay small, in bytes.
const WINDOW: usize = 1 << 20;
/// How many times longer than a pattern its escaped form in a text can be (a doubly escaped `\u0001` takes 7 bytes).
const EXPANSION: usize = 8;
/// At a cut, this many bytes of a secret are taken for a part of it.
const MIN_PART: usize = 4;
/// At a cut, an escape may be broken: up to this many bytes of it are passed over (a doubly escaped surrogate pair).
const BROKEN_ESCAPE: usize = 14;
/// At the cut front of a text, an `@` within this many bytes may end a password whose URL began before the cut.
const MAX_CUT_USERINFO: usize = 256;

/// Variables whose values are no secrets. A value that is equal to one of them, or is a folder at or above one, is not
/// searched for, whatever the name of its variable says: PATH and PWD stay intact.
const WELL_KNOWN: [&str; 38] = [
    "CI_COMMIT_REF_NAME",
    "CI_COMMIT_SHA",
    "CI_PROJECT_DIR",
    "CI_PROJECT_PATH",
    "CI_PROJECT_URL",
    "CI_REGISTRY",
    "CI_REGISTRY_IMAGE",
    "CI_SERVER_URL",
    "COLORTERM",
    "DISPLAY",
    "EDITOR",
    "GITHUB_ACTOR",
    "GITHUB_REF",
    "GITHUB_REPOSITORY",
    "GITHUB_SERVER_URL",
    "GITHUB_SHA",
    "GITHUB_WORKSPACE",
    "HOME",
    "HOSTNAME",
    "LANG",
    "LANGUAGE",
    "LC_ALL",
    "LC_CTYPE",
    "LOGNAME",
    "OLDPWD",
    "PAGER",
    "PATH",
    "PWD",
    "SHELL",
    "TERM",
    "TMPDIR",
    "TZ",
    "USER",
    "VISUAL",
    "WORKSPACE",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
];

/// Values, in lower case, that say nothing and stand in many texts: settings, not secrets (`AUTH_MODE=disabled`).
const COMMON: [&str; 22] = [
    "******",
    "127.0.0.1",
    "[masked]",
    "[redacted]",
    "anonymous",
    "automatic",
    "database",
    "development",
    "disabled",
    "external",
    "internal",
    "keychain",
    "keyring:",
    "localhost",
    "optional",
    "password",
    "production",
    "redacted",
    "required",
    "standard",
    "undefined",
    "username",
];

/// Where a secret stands in a text, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hit {
    /// The first byte of it.
    pub start: usize,
    /// The byte after it.
    pub end: usize,
}

/// Which ends of a text were cut off somewhere else: an occurrence may be incomplete there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    /// Something stood before the text.
    pub before: bool,
    /// Something followed the text.
    pub after: bool,
}

/// Finds and replaces the secrets of one run.
#[derive(Clone, Default)]
pub struct Redactor {
    secrets: BTreeSet<Vec<u8>>,
    patterns: Vec<Pattern>,
    anchors: Option<AhoCorasick>,
    longest: usize,
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the values.
        f.debug_struct("Redactor").field("secrets", &self.secrets.len()).finish_non_exhaustive()
    }
}

impl Redactor {
    /// Takes as secrets, from 8 bytes on: the values of the variables that `mask` holds sensitive, the values in
    /// arguments of the form `NAME=value` (`--build-arg=NAME=value`) with a sensitive name in capitals, and the
    /// passwords in URLs of either.
    pub fn new(environment: &Environment, argv: &[OsString], mask: &VariableMask) -> Self {
        let harmless = Harmless::of(environment, mask);
        let mut secrets = BTreeSet::new();
        let mut take = |value: &[u8]| {
            let value = value.trim_ascii();
            if value.len() >= MIN_SECRET && !harmless.contains(value) {
                secrets.insert(value.to_vec());
            }
        };
        for (name, value) in &environment.0 {
            if mask.is_searched(name) {
                take(value.as_bytes());
            }
            for secret in url::secrets(value) {
                take(&secret);
            }
        }
        for argument in argv {
            let argument = argument.to_string_lossy();
            if let Some((name, value)) = assignment(&argument)
                && mask.is_searched(name)
            {
                take(value.as_bytes());
            }
            for secret in url::secrets(&argument) {
                take(&secret);
            }
        }
        Self::of(secrets)
    }

    /// With further secrets: the password of a key, the passwords in the URLs of git remotes. Shorter ones than 8 bytes
    /// are passed over.
    #[must_use]
    pub fn with_secrets<S: AsRef<[u8]>>(mut self, more: impl IntoIterator<Item = S>) -> Self {
        let before = self.secrets.len();
        for secret in more {
            let secret = secret.as_ref().trim_ascii();
            if secret.len() >= MIN_SECRET {
                self.secrets.insert(secret.to_vec());
            }
        }
        if self.secrets.len() == before { self } else { Self::of(self.secrets) }
    }

    /// With the passwords in the URLs that stand in `text`.
    #[must_use]
    pub fn with_url(self, text: &str) -> Self {
        self.with_secrets(url::secrets(text))
    }

    fn of(secrets: BTreeSet<Vec<u8>>) -> Self {
        let patterns = patterns::of(&secrets);
        let anchors = (!patterns.is_empty()).then(|| {
            AhoCorasick::builder()
                .kind(Some(AhoCorasickKind::ContiguousNFA))
                .build(patterns.iter().map(|pattern| &pattern.bytes[..pattern.bytes.len().min(ANCHOR)]))
                .expect("16 bytes for each pattern of an environment stay below 2^31 states")
        });
        let longest = patterns.iter().map(|pattern| pattern.bytes.len()).max().unwrap_or(0);
        Self { secrets, patterns, anchors, longest }
    }

    /// Length of the longest pattern in bytes. An occurrence can be longer where it is escaped or wrapped.
    pub fn longest(&self) -> usize {
        self.longest
    }

    /// All secrets in `bytes` and the userinfo of all URLs, in order, without overlap. A whole digest with its algorithm
    /// is none, whatever a variable holds (`CACHE_KEY` is often one).
    pub fn scan(&self, bytes: &[u8]) -> Vec<Hit> {
        let mut hits = Vec::new();
        self.search(bytes, &|_| true, &mut |hit| {
            if !is_whole_digest(bytes, hit) {
                hits.push(hit);
            }
            true
        });
        hits.extend(url::find(bytes).into_iter().map(|url::Userinfo { start, end }| Hit { start, end }));
        merged(hits)
    }

    /// Whether a document that is kept as written holds a secret of 16 bytes or more, in any encoding. Userinfo of
    /// unknown accounts is none.
    pub fn hits_document(&self, document: &[u8]) -> bool {
        self.hits(document, &|pattern| pattern.secret >= MIN_DOCUMENT_SECRET)
    }

    /// The names of the variables whose secret a document holds, as [`Self::hits_document`] finds it.
    pub fn variables_in(environment: &Environment, mask: &VariableMask, document: &[u8]) -> Vec<String> {
        let mut names = Vec::new();
        for (name, value) in &environment.0 {
            let mut one = Self::default().with_url(value);
            if mask.is_searched(name) {
                one = one.with_secrets([value]);
            }
            if one.hits_document(document) {
                names.push(name.clone());
            }
        }
        names
    }

    /// Whether the name of a file or a subject holds a secret that counts in names: of 16 bytes or more, or of 8 or more
    /// that are not all lower-case letters, all digits, or the like; in any encoding. A name is shown or left out, never
    /// altered, so an ordinary word in it (the password `postgres` in `postgres.tar`) must not make a product vanish:
    /// decision 8. The userinfo of a URL counts always.
    pub fn hits_name(&self, name: &[u8]) -> bool {
        !url::find(name).is_empty() || self.hits(name, &|pattern| pattern.names)
    }

    fn hits(&self, bytes: &[u8], counts: &dyn Fn(&Pattern) -> bool) -> bool {
        let mut found = false;
        self.search(bytes, counts, &mut |hit| {
            found = !is_whole_digest(bytes, hit);
            !found
        });
        found
    }

    /// `text` with every secret and the userinfo of every URL replaced by [`PLACEHOLDER`].
    pub fn redact_text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut hits = self.scan(text.as_bytes());
        if hits.is_empty() {
            return Cow::Borrowed(text);
        }
        for hit in &mut hits {
            hit.start = text.floor_char_boundary(hit.start);
            hit.end = text.ceil_char_boundary(hit.end);
        }
        let bytes = replaced(text.as_bytes(), &merged(hits));
        Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// `bytes` with every secret and the userinfo of every URL replaced by [`PLACEHOLDER`].
    pub fn redact_bytes<'a>(&self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        self.redact_cut(bytes, Cut::default())
    }

    /// As [`Self::redact_bytes`], for the kept head or tail of a longer text: at an end that was cut, a part of a secret
    /// from 4 bytes on is replaced as well. No slack is needed, but head and tail that adjoin have to be joined first.
    pub fn redact_cut<'a>(&self, bytes: &'a [u8], cut: Cut) -> Cow<'a, [u8]> {
        let mut hits = self.scan(bytes);
        if cut.after {
            self.part_at_end(bytes, &mut hits);
        }
        if cut.before {
            self.part_at_start(bytes, &mut hits);
        }
        match merged(hits) {
            hits if hits.is_empty() => Cow::Borrowed(bytes),
            hits => Cow::Owned(replaced(bytes, &hits)),
        }
    }

    /// Replaces secrets in all strings of `value`, and removes the members whose *name* has a hit. The JSON pointers of
    /// what was replaced or removed are added to `pointers`, beginning with `pointer`; secrets in them are replaced,
    /// too. Where `keep` says so of a pointer, that value is left as it is with all that is in it (digests, types).
    pub fn redact_json(
        &self,
        value: &mut Value,
        pointer: &str,
        keep: &dyn Fn(&str, &Value) -> bool,
        pointers: &mut Vec<String>,
    ) {
        let mut pointer = pointer.to_owned();
        self.walk(value, &mut pointer, keep, pointers);
    }

    fn walk(
        &self,
        value: &mut Value,
        pointer: &mut String,
        keep: &dyn Fn(&str, &Value) -> bool,
        pointers: &mut Vec<String>,
    ) {
        if keep(pointer, value) {
            return;
        }
        let length = pointer.len();
        match value {
            Value::String(text) => {
                if let Cow::Owned(redacted) = self.redact_text(text) {
                    *text = redacted;
                    pointers.push(pointer.clone());
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    pointer.push('/');
                    pointer.push_str(&index.to_string());
                    self.walk(item, pointer, keep, pointers);
                    pointer.truncate(length);
                }
            }
            Value::Object(members) => {
                let mut removed = Vec::new();
                for (name, member) in members.iter_mut() {
                    let shown = self.redact_text(name);
                    pointer.push('/');
                    pointer.push_str(&shown.replace('~', "~0").replace('/', "~1"));
                    if matches!(shown, Cow::Owned(_)) {
                        pointers.push(pointer.clone());
                        removed.push(name.clone());
                    } else {
                        self.walk(member, pointer, keep, pointers);
                    }
                    pointer.truncate(length);
                }
                for name in removed {
                    members.shift_remove(&name);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// Gives every occurrence of a secret whose pattern `counts` to `report`, until it says false.
    fn search(&self, bytes: &[u8], counts: &dyn Fn(&Pattern) -> bool, report: &mut dyn FnMut(Hit) -> bool) {
        let Some(anchors) = &self.anchors else { return };
        if bytes.len() < MIN_SECRET {
            return;
        }
        let overlap = self.edge();
        let mut start = 0;
        loop {
            let end = bytes.len().min(start + WINDOW + overlap);
            let views = Views::of(&bytes[start..end]);
            for (index, view) in views.0.iter().enumerate() {
                for found in anchors.find_overlapping_iter(&*view.bytes) {
                    let pattern = &self.patterns[found.pattern().as_usize()];
                    if !counts(pattern) || !view.bytes[found.start()..].starts_with(&pattern.bytes) {
                        continue;
                    }
                    let (from, to) = pattern.extent(&view.bytes, found.start());
                    let Some((from, to)) = views.to_source(index, from, to) else { continue };
                    // Where a line break follows, the way back leads behind it.
                    let to = from + bytes[start + from..start + to].trim_ascii_end().len().max(1);
                    if !report(Hit { start: start + from, end: start + to }) {
                        return;
                    }
                }
            }
            if end == bytes.len() {
                return;
            }
            start += WINDOW;
        }
    }

    /// How far from an end of a text an occurrence that crosses the end can begin, in bytes.
    fn edge(&self) -> usize {
        self.longest * EXPANSION + BROKEN_ESCAPE
    }

    fn part_at_end(&self, bytes: &[u8], hits: &mut Vec<Hit>) {
        let offset = bytes.len().saturating_sub(self.edge());
        let views = Views::of(&bytes[offset..]);
        let mut first = None;
        for (index, view) in views.0.iter().enumerate() {
            for junk in 0..=BROKEN_ESCAPE.min(view.bytes.len()) {
                let text = &view.bytes[..view.bytes.len() - junk];
                let part = |pattern: &Pattern| {
                    let longest = text.len().min(pattern.bytes.len() - 1);
                    (MIN_PART..=longest).rev().find(|&length| text.ends_with(&pattern.bytes[..length]))
                };
                if let Some(length) = self.patterns.iter().filter_map(part).max() {
                    let start = text.len() - length;
                    let start = if start > 0 && base64_character(text[start - 1]) { start - 1 } else { start };
                    let at = views.to_source(index, start, view.bytes.len()).map(|(start, _)| offset + start);
                    first = first.into_iter().chain(at).min();
                }
            }
        }
        let unfinished = url::unfinished(&bytes[offset.min(bytes.len().saturating_sub(MAX_CUT_USERINFO))..]);
        let unfinished = unfinished.map(|length| bytes.len() - length);
        if let Some(start) = first.into_iter().chain(unfinished).min() {
            hits.push(Hit { start, end: bytes.len() });
        }
    }

    fn part_at_start(&self, bytes: &[u8], hits: &mut Vec<Hit>) {
        let head = &bytes[..bytes.len().min(self.edge().max(MAX_CUT_USERINFO))];
        let views = Views::of(head);
        let mut last = None;
        for (index, view) in views.0.iter().enumerate() {
            for junk in 0..=BROKEN_ESCAPE.min(view.bytes.len()) {
                let text = &view.bytes[junk..];
                let part = |pattern: &Pattern| {
                    let longest = text.len().min(pattern.bytes.len() - 1);
                    let ends = |&length: &usize| text.starts_with(&pattern.bytes[pattern.bytes.len() - length..]);
                    (MIN_PART..=longest).rev().find(ends)
                };
                if let Some(length) = self.patterns.iter().filter_map(part).max() {
                    let mut end = junk + length;
                    if view.bytes.get(end).is_some_and(|&b| base64_character(b)) {
                        end += 1;
                    }
                    last = last.max(views.to_source(index, 0, end).map(|(_, end)| end));
                }
            }
        }
        if let Some(end) = last.max(url::unbegun(&head[..head.len().min(MAX_CUT_USERINFO)])) {
            hits.push(Hit { start: 0, end });
        }
    }
}

/// Values that are not searched for.
struct Harmless<'a> {
    values: BTreeSet<&'a [u8]>,
    /// Absolute paths.
    paths: Vec<&'a str>,
}

impl<'a> Harmless<'a> {
    fn of(environment: &'a Environment, mask: &VariableMask) -> Self {
        let known = WELL_KNOWN.iter().filter(|name| !mask.is_sensitive(name));
        let values: Vec<&str> = known.filter_map(|name| environment.get(name)).collect();
        let paths = values.iter().flat_map(|value| value.split(':')).filter(|path| path.starts_with('/'));
        Self { paths: paths.collect(), values: values.iter().map(|value| value.trim().as_bytes()).collect() }
    }

    fn contains(&self, value: &[u8]) -> bool {
        let is_above = |path: &&str| {
            let folder = value.strip_suffix(b"/").unwrap_or(value);
            path.as_bytes().strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
        };
        self.values.contains(value)
            || value.iter().all(|&byte| byte == value[0])
            || COMMON.iter().any(|common| value.eq_ignore_ascii_case(common.as_bytes()))
            || (value.starts_with(b"/") && self.paths.iter().any(is_above))
    }
}

/// Name and value of an argument `NAME=value`, `--flag=NAME=value`, where the name is in capitals as variables are.
fn assignment(argument: &str) -> Option<(&str, &str)> {
    let is_variable = |name: &str| {
        name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_') && !name.is_empty()
    };
    let argument = match argument.split_once('=') {
        Some((flag, rest)) if flag.starts_with('-') => rest,
        _ => argument,
    };
    argument.split_once('=').filter(|(name, _)| is_variable(name))
}

/// Whether `hit` is a digest with or without its algorithm, and the algorithm stands there.
fn is_whole_digest(bytes: &[u8], hit: Hit) -> bool {
    let end =
        bytes[hit.start..].iter().position(|&b| !(b.is_ascii_alphanumeric() || b == b':')).map(|at| hit.start + at);
    end.unwrap_or(bytes.len()) == hit.end
        && [("sha1:", 40), ("sha256:", 64), ("sha384:", 96), ("sha512:", 128)].into_iter().any(|(algorithm, digits)| {
            let Some(start) = hit.end.checked_sub(digits) else { return false };
            let Some(whole) = start.checked_sub(algorithm.len()) else { return false };
            (hit.start == start || hit.start == whole)
                && &bytes[whole..start] == algorithm.as_bytes()
                && bytes[start..hit.end].iter().all(u8::is_ascii_hexdigit)
        })
}

/// The hits sorted, overlapping and adjoining ones joined.
fn merged(mut hits: Vec<Hit>) -> Vec<Hit> {
    hits.sort_unstable();
    let mut out: Vec<Hit> = Vec::with_capacity(hits.len());
    for hit in hits {
        match out.last_mut() {
            Some(last) if hit.start <= last.end => last.end = last.end.max(hit.end),
            _ => out.push(hit),
        }
    }
    out
}

fn replaced(bytes: &[u8], hits: &[Hit]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    for hit in hits {
        out.extend_from_slice(&bytes[at..hit.start]);
        out.extend_from_slice(PLACEHOLDER.as_bytes());
        at = hit.end;
    }
    out.extend_from_slice(&bytes[at..]);
    out
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD};
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::redact::MaskOptions;
    use crate::redact::patterns::PIECE;

    const CANARY: &str = "Zx9canary4Qw7Lm2Pt8Rk";

    fn environment(pairs: &[(&str, &str)]) -> Environment {
        Environment(pairs.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect())
    }

    fn redactor(pairs: &[(&str, &str)]) -> Redactor {
        Redactor::new(&environment(pairs), &[], &VariableMask::default())
    }

    /// The spellings in which `secret` may turn up, with what stands before and after it encoded along.
    fn spellings(secret: &str, before: &str, after: &str) -> Vec<String> {
        use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE};
        let whole = format!("{before}{secret}{after}");
        let json = serde_json::to_string(secret).expect("a string is JSON");
        let json = json[1..json.len() - 1].to_owned();
        let unicode =
            |text: &str| text.encode_utf16().map(|unit| format!("\\u{unit:04X}")).collect::<Vec<_>>().concat();
        let go = json.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026").replace('/', "\\/");
        let percent = |all: bool, upper: bool| {
            let encode = |b: u8| match b {
                b if !all && (b.is_ascii_alphanumeric() || b"-._~".contains(&b)) => char::from(b).to_string(),
                b if upper => format!("%{b:02X}"),
                b => format!("%{b:02x}"),
            };
            secret.bytes().map(encode).collect::<String>()
        };
        let wrap = |text: &str, columns: usize, indent: &str| {
            let lines: Vec<_> = text.as_bytes().chunks(columns).map(String::from_utf8_lossy).collect();
            lines.join(&format!("\n{indent}"))
        };
        let base64 = BASE64_STANDARD.encode(&whole);
        let wrapped = wrap(&base64, 20, "  ");
        let mut list = vec![
            secret.to_owned(),
            base64.clone(),
            BASE64_STANDARD_NO_PAD.encode(&whole),
            BASE64_URL_SAFE.encode(&whole),
            BASE64_URL_SAFE_NO_PAD.encode(&whole),
            wrap(&base64, 76, ""),
            wrap(&base64, 64, ""),
            wrapped.replace('\n', "\r\n"),
            wrapped.replace('\n', "\\n"),
            base64.replace('+', "%2B").replace('/', "%2f").replace('=', "%3d"),
            wrapped,
            hex::encode(&whole),
            hex::encode_upper(&whole),
            wrap(&hex::encode(&whole), 60, ""),
            serde_json::to_string(&json).expect("a string is JSON"),
            json,
            go,
            unicode(secret),
        ];
        for (all, upper) in [(false, false), (false, true), (true, false), (true, true)] {
            list.push(percent(all, upper));
        }
        if secret.contains(' ') {
            list.push(percent(false, true).replace("%20", "+"));
        }
        list
    }

    #[test]
    fn a_canary_is_found_in_every_spelling() {
        let redactor = redactor(&[("DEPLOY_TOKEN", CANARY)]);
        for before in ["", "a", "ab", "abc"] {
            for spelling in spellings(CANARY, before, "\n") {
                let text = format!("one {spelling}\ttwo");
                let shown = redactor.redact_text(&text);
                assert!(shown.starts_with("one ") && shown.ends_with("two"), "{text}: {shown}");
                assert!(shown.contains(PLACEHOLDER) && shown.len() < text.len() + 8, "{text}: {shown}");
                assert!(redactor.hits_document(text.as_bytes()), "{text}");
            }
        }
        assert_eq!(redactor.redact_text(&format!("a={CANARY};")), "a=[redacted];");
    }

    #[test]
    fn short_values_are_masked_but_refuse_no_document() {
        let redactor = redactor(&[("DB_PASSWORD", "postgres"), ("X_TOKEN", "seven77")]);
        assert_eq!(redactor.redact_text("on postgres seven77"), "on [redacted] seven77");
        assert!(!redactor.hits_document(b"postgres"));
    }

    #[test]
    fn ordinary_words_and_numbers_do_not_count_in_names() {
        for (value, counts) in [
            ("postgres", false),
            ("20261121", false),
            ("PRODUCTIONS", false),
            ("kubernetesxxxxx", false),
            ("------:-:----", false),
            ("hunter2hunter2", true),
            ("Passw0rd!", true),
            ("Sesamopen", true),
            ("pass-word", true),
            ("kubernetesxxxxxx", true),
            ("2026112120261121", true),
        ] {
            let redactor = redactor(&[("DB_PASSWORD", value)]);
            for name in [format!("out/{value}.tar"), format!("x{}", hex::encode(value))] {
                assert_eq!(redactor.hits_name(name.as_bytes()), counts, "{value} in {name}");
                assert!(!redactor.scan(name.as_bytes()).is_empty(), "{value} in the text {name}");
            }
            assert!(!redactor.hits_name(b"out/other.tar"), "{value}");
        }
        assert!(redactor(&[]).hits_name(b"https://who:pw@h/x"));
    }

    #[test]
    fn path_and_settings_stay_intact() {
        let env = [
            ("PATH", "/usr/local/bin:/usr/bin"),
            ("PWD", "/builds/team/app"),
            ("GITHUB_SHA", "8ff5aabbccddeeff00112233445566778899aabb"),
            ("SIGNING_DIR", "/builds/team"),
            ("KEY_DIR", "/usr/local/bin"),
            ("CACHE_KEY", "8ff5aabbccddeeff00112233445566778899aabb"),
            ("AUTH_MODE", "Production"),
            ("TOKEN_LINE", "----------"),
            ("DOCKER_USERNAME", "jane.doe1"),
            ("REAL_TOKEN", "/builds/team/secret"),
        ];
        let redactor = redactor(&env);
        for (_, text) in &env[..9] {
            assert_eq!(redactor.redact_text(text), *text);
        }
        assert_eq!(redactor.redact_text("x /builds/team/secret"), "x [redacted]");
    }

    #[test]
    fn long_and_multi_line_values_are_found_whole_and_by_line() {
        let body: Vec<String> =
            (0..40).map(|n| format!("{}{n:04}", "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSj".repeat(2))).collect();
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", body.join("\n"));
        let redactor = redactor(&[
            ("SSH_KEY", &pem),
            ("GCP_CREDENTIALS", &format!("{{\"k\":\"{}\"}}", body[7].clone() + "\\n" + &body[8])),
        ]);
        assert_eq!(redactor.redact_text(&pem), "[redacted]\n");
        assert_eq!(redactor.redact_text(&format!("  {}\n", body[3])), "  [redacted]\n");
        assert_eq!(redactor.redact_text(&body[8]), "[redacted]");
        assert_eq!(redactor.redact_text(&pem.replace('\n', "\\n")), "[redacted]\\n");
        assert_eq!(redactor.redact_text("-----BEGIN PRIVATE KEY-----"), "-----BEGIN PRIVATE KEY-----");
        for spelling in spellings(&pem, "ab", "x") {
            let shown = redactor.redact_text(&spelling);
            assert!(shown.len() < 40, "{spelling} {shown}");
        }
        assert!(redactor.longest() <= 2 * (PIECE + MIN_DOCUMENT_SECRET));
    }

    #[test]
    fn secrets_come_from_urls_and_arguments_too() {
        let env = environment(&[("PROXY", "http://me:p%40ssw0rd!@h"), ("NOT_MINE", "visible-value")]);
        let argv = [
            "--build-arg=NPM_TOKEN=npm_12345678".into(),
            "-e".into(),
            "A_SECRET=abcdefghi".into(),
            "git+https://u:uvwxyz1234@h/x".into(),
        ];
        let redactor = Redactor::new(&env, &argv, &VariableMask::default());
        for secret in ["p%40ssw0rd!", "p@ssw0rd!", "npm_12345678", "abcdefghi", "uvwxyz1234"] {
            assert_eq!(redactor.redact_text(secret), PLACEHOLDER);
        }
        assert_eq!(redactor.redact_text("visible-value --build-arg"), "visible-value --build-arg");
        assert_eq!(redactor.redact_text("see https://who:pw@h/x"), "see https://[redacted]@h/x");
        assert_eq!(redactor.redact_text(r"see https:\/\/who:pw@h\/x"), r"see https:\/\/[redacted]@h\/x");
        let redactor = redactor.with_url("https://x:remotepw99@h").with_secrets(["keypassword"]);
        assert_eq!(redactor.redact_text("remotepw99 keypassword uvwxyz1234"), "[redacted] [redacted] [redacted]");
    }

    #[test]
    fn an_allowed_variable_is_not_searched() {
        let options = MaskOptions { allow_keys: vec!["MY_TOKEN".into()], ..MaskOptions::default() };
        let mask = VariableMask::new(&options).expect("there is no glob");
        let redactor = Redactor::new(&environment(&[("MY_TOKEN", CANARY)]), &[], &mask);
        assert_eq!(redactor.redact_text(CANARY), CANARY);
    }

    #[test]
    fn json_is_redacted_with_pointers_and_kept_where_asked() {
        let redactor = redactor(&[("DEPLOY_TOKEN", CANARY)]);
        let mut value = json!({
            "cmd": ["sh", format!("echo {CANARY}")],
            "digest": {"sha256": CANARY},
            (format!("f-{CANARY}")): {"a/b": 1},
            "a/b~": [{"x": hex::encode(CANARY)}],
            "n": 12, "none": null
        });
        let mut pointers = Vec::new();
        redactor.redact_json(&mut value, "/predicate", &|pointer, _| pointer.ends_with("/digest"), &mut pointers);
        assert_eq!(
            value,
            json!({
                "cmd": ["sh", "echo [redacted]"],
                "digest": {"sha256": CANARY},
                "a/b~": [{"x": "[redacted]"}],
                "n": 12, "none": null
            })
        );
        assert_eq!(pointers, ["/predicate/cmd/1", "/predicate/f-[redacted]", "/predicate/a~1b~0/0/x"]);
    }

    #[test]
    fn hits_across_windows_are_found() {
        let redactor = redactor(&[("DEPLOY_TOKEN", CANARY)]);
        for at in [WINDOW - 5, WINDOW + redactor.edge() - 5, 2 * WINDOW - 20] {
            let mut text = vec![b'.'; 3 * WINDOW];
            text[at..at + CANARY.len()].copy_from_slice(CANARY.as_bytes());
            assert_eq!(redactor.scan(&text), [Hit { start: at, end: at + CANARY.len() }]);
        }
    }

    #[test]
    fn cut_texts_lose_parts_of_secrets() {
        let redactor = redactor(&[("DEPLOY_TOKEN", CANARY)]);
        let cut = |text: &str, before, after| {
            String::from_utf8(redactor.redact_cut(text.as_bytes(), Cut { before, after }).into_owned()).expect("ASCII")
        };
        assert_eq!(cut("out Zx9can", false, true), "out [redacted]");
        assert_eq!(cut("out Zx9can", false, false), "out Zx9can");
        assert_eq!(cut("Lm2Pt8Rk end", true, false), "[redacted] end");
        assert_eq!(cut("Lm2Pt8Rk end", false, false), "Lm2Pt8Rk end");
        assert_eq!(cut("see https://u:geheim", false, true), "see https://[redacted]");
        assert_eq!(cut("see https://u:80", false, true), "see https://u:80");
        assert_eq!(cut("heim@host/ x", true, false), "[redacted]@host/ x");
        assert_eq!(cut("nothing here", true, true), "nothing here");
    }

    #[test]
    fn debug_output_shows_no_secret() {
        assert!(!format!("{:?}", redactor(&[("DEPLOY_TOKEN", CANARY)])).contains(CANARY));
    }

    /// Whether a run of `length` bytes of one of the spellings is left in `shown`.
    fn leaks(shown: &str, spelling: &str, length: usize) -> bool {
        spelling.as_bytes().windows(length).any(|part| shown.as_bytes().windows(length).any(|w| w == part))
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_spelling_of_any_secret_survives(
            secret in "[!-~][ -~é\u{1F600}\t\n\"\\\\/<&%+]{10,70}[a-zA-Z]",
            before in "[ -~]{0,5}", after in "[ -~]{0,5}",
            head in "[a-z ,.]{0,30}", tail in "[a-z ,.]{0,30}",
            cut in 0usize..4096,
        ) {
            let redactor = redactor(&[("DEPLOY_TOKEN", &secret)]);
            for spelling in spellings(&secret, &before, &after) {
                let text = format!("{head} {spelling} {tail}");
                let shown = redactor.redact_text(&text);
                prop_assert!(shown.contains(PLACEHOLDER), "{text:?}");
                prop_assert!(shown.starts_with(&head) && shown.ends_with(&tail), "{text:?} {shown:?}");
                // What is left: the placeholder, what was encoded along, and padding.
                prop_assert!(shown.len() <= head.len() + tail.len() + 60, "{text:?} {shown:?}");
                // Cut anywhere, no part of the secret's encoding longer than what tells nothing is left.
                let cut = text.floor_char_boundary(cut % text.len());
                let kept = [(&text[..cut], Cut { before: false, after: true }), (&text[cut..], Cut { before: true, after: false })];
                for (part, edge) in kept {
                    let shown = redactor.redact_cut(part.as_bytes(), edge);
                    let context = 4 * (before.len() + after.len()) + head.len() + tail.len() + 60;
                    prop_assert!(shown.len() <= context, "{part:?} {:?}", String::from_utf8_lossy(&shown));
                }
            }
            let text = format!("x{secret}y");
            prop_assert!(!leaks(&redactor.redact_text(&text), &secret, 8));
        }

        #[test]
        fn texts_without_secrets_are_unchanged(text in "(?s).{0,400}") {
            prop_assume!(!text.contains("://"));
            let redactor = redactor(&[("DEPLOY_TOKEN", CANARY), ("X_KEY", "another secret of mine")]);
            prop_assert_eq!(redactor.redact_text(&text), text.as_str());
            prop_assert_eq!(redactor.redact_bytes(text.as_bytes()), text.as_bytes());
        }

        #[test]
        fn nothing_panics_on_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..300), secret in "\\PC{8,20}") {
            let redactor = redactor(&[("DEPLOY_TOKEN", &secret)]);
            redactor.redact_cut(&bytes, Cut { before: true, after: true });
            redactor.redact_text(&String::from_utf8_lossy(&bytes));
        }
    }
}
