//! `affiant inspect`: checks and shows evidence.

use std::fmt::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};

use affiant_core::digest::sha256_hex;
use affiant_core::dsse::{Envelope, Mismatch, TIMESTAMP_LOG_ENTRY};
use affiant_core::evidence::files::{FileRef, Files};
use affiant_core::evidence::{CollectionView, EntryView, Statement, short_name};
use affiant_core::sign::PublicKey;
use affiant_core::statement::PAYLOAD_TYPE;
use affiant_core::store;
use clap::{Args, ValueEnum};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::failure::{Failure, Kind};
use super::output::{Output, one_line};
use super::{Ending, keys, places};

/// The largest envelope that is read, in bytes.
pub(crate) const MAX_ENVELOPE: usize = 1 << 30;
/// How many lines of a list are shown unless all are asked for.
const SHOWN: usize = 40;

#[derive(Args)]
#[command(
    after_help = "Examples:\n  affiant inspect --key affiant.pub build.att.json\n  affiant inspect --predicate product build.att.json\n\nWithout --key nothing is checked. The exit code is 1 where no key made a valid signature."
)]
pub(crate) struct InspectArgs {
    /// Envelopes: files, digests in the archive (`sha256:…`, 8 digits or more), or `-` for stdin
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Public key to check the signatures with (repeatable; one valid signature is enough)
    #[arg(short = 'k', long = "key", visible_alias = "publickey", value_name = "FILE")]
    key: Vec<PathBuf>,
    /// Form of what is printed
    #[arg(short, long, value_enum, default_value = "text")]
    output: Format,
    /// Print only this predicate as JSON: its type, or a short name such as `git` or `command-run`
    #[arg(long, value_name = "TYPE")]
    predicate: Option<String>,
    /// Show long lists whole
    #[arg(long)]
    all: bool,
    /// Archive to look digests up in: `dir:PATH`
    #[arg(long, value_name = "dir:PATH", env = "AFFIANT_ARCHIVE", hide_env_values = true)]
    archive: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

pub(crate) fn inspect(args: &InspectArgs, output: &Output) -> Result<Ending, Failure> {
    let keys = args.key.iter().map(|path| keys::public_key(path)).collect::<Result<Vec<_>, _>>()?;
    let mut worst = 0;
    let mut found = false;
    for file in &args.files {
        let bytes = read(file, args.archive.as_deref())?;
        let message = || format!("{} is no envelope", file.display());
        let envelope = Envelope::parse(&bytes, MAX_ENVELOPE)
            .map_err(|error| Failure::because(Kind::NoAnswer, message(), &error))?;
        let digest = sha256_hex(&bytes);
        // The payload is decoded: what follows needs the memory.
        drop(bytes);
        let state = State::of(envelope, &keys);
        if state.denied() {
            worst = 1;
        }
        let shown = Shown { file, digest, state, all: args.all };
        if let Some(wanted) = &args.predicate {
            for predicate in shown.predicates(wanted)? {
                found = true;
                output.data(format!("{}\n", predicate.get()).as_bytes())?;
            }
            if shown.state.denied() {
                output.message(&format!("error: {}: {}", file.display(), shown.state.text()));
            }
            continue;
        }
        let text = match args.output {
            Format::Json => shown.json()?,
            Format::Text => shown.text()?,
        };
        output.data(text.as_bytes())?;
    }
    if let Some(wanted) = args.predicate.as_ref().filter(|_| !found) {
        return Err(Failure::new(Kind::NotFound, format!("no predicate of type `{wanted}` in what was given")));
    }
    Ok(Ending::Code(worst))
}

/// Reads an envelope: a file, or an object of the archive by its digest.
pub(crate) fn read(file: &Path, archive: Option<&str>) -> Result<Vec<u8>, Failure> {
    if let Some(digest) = file.to_str().and_then(|text| text.strip_prefix("sha256:")).filter(|_| !file.exists()) {
        let folder = places::archive_folder(archive)?;
        let message = || format!("sha256:{digest} cannot be read from the archive {}", folder.display());
        return store::Archive::open(&folder)
            .and_then(|archive| archive.resolve(digest).and_then(|id| archive.get(&id)))
            .map_err(|error| Failure::because(Kind::NoAnswer, message(), &error));
    }
    read_file(file)
}

/// Reads a file that may be an envelope: at most [`MAX_ENVELOPE`] bytes, `-` for stdin.
pub(crate) fn read_file(file: &Path) -> Result<Vec<u8>, Failure> {
    read_file_within(file, MAX_ENVELOPE)
}

/// Whether stdin is the null device, which is also what the runtime opens in place of a closed one: what is read from it
/// is nobody's empty text.
fn is_nothing() -> bool {
    use std::os::fd::AsFd as _;
    use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
    let stdin = std::io::stdin().as_fd().try_clone_to_owned().map(std::fs::File::from);
    let (stdin, null) = (stdin.and_then(|file| file.metadata()), std::fs::metadata("/dev/null"));
    let (Ok(stdin), Ok(null)) = (stdin, null) else { return false };
    stdin.file_type().is_char_device() && stdin.rdev() == null.rdev()
}

/// The same, with another limit.
pub(crate) fn read_file_within(file: &Path, limit: usize) -> Result<Vec<u8>, Failure> {
    use std::io::Read as _;
    let message = || format!("{} cannot be read", file.display());
    let too_long = || Failure::new(Kind::NoAnswer, format!("{}: more than {limit} bytes", message()));
    if std::fs::metadata(file).is_ok_and(|data| data.is_file() && data.len() > limit as u64) {
        return Err(too_long());
    }
    let mut bytes = Vec::new();
    let result = if file == Path::new("-") {
        if is_nothing() {
            let text = "stdin cannot be read: it is closed, or /dev/null";
            return Err(Failure::new(Kind::NoAnswer, text).hint("name a file, or give it something to read"));
        }
        std::io::stdin().take(limit as u64 + 1).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(file).and_then(|file| file.take(limit as u64 + 1).read_to_end(&mut bytes))
    };
    result.map_err(|error| Failure::because(Kind::NoAnswer, message(), &error))?;
    if bytes.len() > limit {
        return Err(too_long());
    }
    Ok(bytes)
}

/// What is known of the signatures.
enum State {
    Verified(affiant_core::dsse::Verified),
    Unchecked(Envelope),
    Bad(Envelope, String),
}

impl State {
    fn of(envelope: Envelope, keys: &[PublicKey]) -> Self {
        if keys.is_empty() {
            return Self::Unchecked(envelope);
        }
        match envelope.verify(keys) {
            Ok(verified) => Self::Verified(verified),
            Err(unverified) => Self::Bad(unverified.envelope, unverified.reason.to_string()),
        }
    }

    fn denied(&self) -> bool {
        matches!(self, Self::Bad(..))
    }

    fn envelope(&self) -> &Envelope {
        match self {
            Self::Verified(verified) => verified.envelope(),
            Self::Unchecked(envelope) | Self::Bad(envelope, _) => envelope,
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Verified(verified) => {
                let valid: Vec<_> =
                    verified.signatures().iter().map(|one| format!("{} ({})", one.key_id, one.scheme)).collect();
                let mut text = format!("valid: key {}", valid.join(", key "));
                for failed in verified.failed() {
                    let _ = write!(text, "; {failed}");
                }
                text
            }
            Self::Unchecked(envelope) if envelope.signatures.is_empty() => "none".to_owned(),
            Self::Unchecked(envelope) => {
                let ids: Vec<_> = envelope.signatures.iter().map(|one| one.key_id.as_str()).collect();
                format!("not checked (name a key with --key); said to be by {}", ids.join(", "))
            }
            Self::Bad(_, reason) => format!("NOT VALID: {reason}"),
        }
    }

    fn json(&self) -> Value {
        let state = |index: usize| match self {
            Self::Unchecked(_) => "unchecked",
            Self::Bad(..) => "invalid",
            Self::Verified(verified) => {
                if verified.signatures().iter().any(|one| one.index == index) {
                    "valid"
                } else if verified.failed().iter().any(|one| one.index == index && one.mismatch == Mismatch::Altered) {
                    "invalid"
                } else {
                    "other-key"
                }
            }
        };
        let signatures = &self.envelope().signatures;
        signatures
            .iter()
            .enumerate()
            .map(|(index, one)| {
                json!({
                    "keyid": one.key_id,
                    "state": state(index),
                    "certificate": one.certificate.as_ref().map(|pem| String::from_utf8_lossy(pem).into_owned()),
                    "intermediates": one.intermediates.len(),
                    "timestamps": one.timestamps.iter().filter(|stamp| stamp.kind != TIMESTAMP_LOG_ENTRY).count(),
                    "logEntries": one.timestamps.iter().filter(|stamp| stamp.kind == TIMESTAMP_LOG_ENTRY).count(),
                })
            })
            .collect()
    }
}

struct Shown<'a> {
    file: &'a Path,
    /// SHA-256 of the file.
    digest: String,
    state: State,
    all: bool,
}

impl Shown<'_> {
    fn failure(&self, error: &(dyn std::error::Error + 'static)) -> Failure {
        Failure::because(Kind::NoAnswer, format!("{} cannot be shown", self.file.display()), error)
    }

    /// The statement, `None` where the payload is something else (a policy).
    fn statement(&self) -> Result<Option<Statement<'_>>, Failure> {
        let envelope = self.state.envelope();
        if envelope.payload_type != PAYLOAD_TYPE {
            return Ok(None);
        }
        Statement::parse(&envelope.payload).map(Some).map_err(|error| self.failure(&error))
    }

    /// The predicates of a type: that of the statement, or of an entry of its collection.
    fn predicates(&self, wanted: &str) -> Result<Vec<&RawValue>, Failure> {
        let Some(statement) = self.statement()? else { return Ok(Vec::new()) };
        if statement.predicate_type == wanted {
            return Ok(vec![statement.predicate]);
        }
        let collection = statement.collection().transpose().map_err(|error| self.failure(&error))?;
        let entries = collection.map(|collection| collection.attestations).unwrap_or_default();
        Ok(entries
            .into_iter()
            .filter(|entry| entry.kind == wanted || entry.short_name() == wanted)
            .map(|entry| entry.attestation)
            .collect())
    }

    /// Everything in the envelope, the payload as it was written.
    fn json(&self) -> Result<String, Failure> {
        let envelope = self.state.envelope();
        let payload: &RawValue = match serde_json::from_slice(&envelope.payload) {
            Ok(payload) => payload,
            // What was tampered with may be no JSON any more; that it is not valid is the answer then.
            Err(_) if self.state.denied() => RawValue::NULL,
            Err(error) => return Err(self.failure(&error)),
        };
        let head = json!({
            "file": self.file.display().to_string(),
            "sha256": self.digest,
            "payloadType": envelope.payload_type,
            "payloadSha256": sha256_hex(&envelope.payload),
            "signatures": self.state.json(),
        });
        let mut text = head.to_string();
        text.pop();
        let _ = writeln!(text, ",\"payload\":{}}}", payload.get());
        Ok(text)
    }

    fn text(&self) -> Result<String, Failure> {
        let mut text = format!("{}\n", one_line(&self.file.display().to_string()));
        let mut line = |name: &str, value: &str| {
            let _ = writeln!(text, "  {name:<12} {}", one_line(value));
        };
        line("sha256", &self.digest);
        line("signature", &self.state.text());
        let statement = match self.statement() {
            Ok(Some(statement)) => statement,
            Ok(None) => {
                line("payload type", &self.state.envelope().payload_type);
                return Ok(text);
            }
            Err(failure) if self.state.denied() => {
                line("payload", &failure.one_line());
                return Ok(text);
            }
            Err(failure) => return Err(failure),
        };
        match statement.collection() {
            None => {
                line("predicate", &statement.predicate_type);
            }
            Some(collection) => {
                let collection = match collection {
                    Ok(collection) => collection,
                    Err(error) if self.state.denied() => {
                        line("payload", &error.to_string());
                        return Ok(text);
                    }
                    Err(error) => return Err(self.failure(&error)),
                };
                collection_text(&collection, &mut line);
                self.files(&collection, &mut text);
                if !collection.gaps.is_empty() {
                    let lines = collection.gaps.iter().map(|gap| format!("{}: {}", gap.attestor, gap.reason));
                    self.list("gaps", lines, collection.gaps.len(), &mut text);
                }
            }
        }
        let lines = statement.subject.iter().map(|subject| {
            let digests: Vec<_> = subject.digest.iter().map(|(name, value)| format!("{name}:{value}")).collect();
            format!("{}  {}", shorten(&subject.name), digests.join(" "))
        });
        self.list("subjects", lines, statement.subject.len(), &mut text);
        Ok(text)
    }

    fn list(&self, name: &str, lines: impl Iterator<Item = String>, count: usize, text: &mut String) {
        let _ = writeln!(text, "  {name} ({count})");
        let limit = if self.all { usize::MAX } else { SHOWN };
        for line in lines.take(limit) {
            let _ = writeln!(text, "    {}", one_line(&line));
        }
        more(count, limit, text);
    }

    fn files(&self, collection: &CollectionView<'_>, text: &mut String) {
        for entry in &collection.attestations {
            let files = match Files::read(entry) {
                None => continue,
                Some(Ok(files)) => files,
                Some(Err(error)) => {
                    let failure = Failure::because(Kind::NoAnswer, "UNREADABLE", &error);
                    let _ = writeln!(text, "  {:<12} {}", entry.short_name(), one_line(&failure.one_line()));
                    continue;
                }
            };
            if entry.short_name() == "product" {
                let mut tree = Tree { files: &files, lines: 0, limit: 0, text: &mut String::new() };
                tree.folder(0..files.len(), "", 0, "");
                let count = tree.lines;
                let _ = writeln!(text, "  products ({count})");
                let limit = if self.all { usize::MAX } else { SHOWN };
                Tree { files: &files, lines: 0, limit, text }.folder(0..files.len(), "", 0, "");
                more(count, limit, text);
            } else {
                let _ = writeln!(text, "  materials ({})", files.len());
            }
        }
    }
}

/// Says how much of a list is not shown.
fn more(count: usize, limit: usize, text: &mut String) {
    if count > limit {
        let _ = writeln!(text, "    … and {} more (--all shows them)", count - limit);
    }
}

/// A subject's name without the long prefix of its type.
fn shorten(name: &str) -> String {
    let Some((kind, rest)) = name.split_once("/v0.").and_then(|(kind, rest)| Some((kind, rest.split_once('/')?.1)))
    else {
        return name.to_owned();
    };
    format!("{} {rest}", short_name(&format!("{kind}/v0")))
}

/// Who, when and what, from the entries that tell it.
fn collection_text(collection: &CollectionView<'_>, line: &mut impl FnMut(&str, &str)) {
    line("step", &collection.name);
    let entries = &collection.attestations;
    if let (Some(first), Some(last)) = (
        entries.iter().map(|entry| entry.starttime.as_str()).min(),
        entries.iter().map(|entry| entry.endtime.as_str()).max(),
    ) {
        line("when", &format!("{first} to {last}"));
    }
    for entry in entries {
        if !matches!(entry.short_name(), "command-run" | "git" | "environment") {
            continue;
        }
        let value: Value = match serde_json::from_str(entry.attestation.get()) {
            Ok(value @ Value::Object(_)) => value,
            Ok(_) => {
                line(entry.short_name(), "UNREADABLE: not an object");
                continue;
            }
            Err(error) => {
                line(entry.short_name(), &format!("UNREADABLE: {error}"));
                continue;
            }
        };
        match entry.short_name() {
            "command-run" => command_text(&value, line),
            "git" => {
                let field = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
                let dirty = value.get("status").and_then(Value::as_object).is_some_and(|status| !status.is_empty());
                line(
                    "commit",
                    &format!(
                        "{} {} by {} <{}>{}",
                        field("commithash"),
                        field("branch"),
                        field("author"),
                        field("authoremail"),
                        if dirty { ", with changes that are not committed" } else { "" }
                    ),
                );
            }
            _ => {
                let field = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
                line("where", &format!("{}@{} ({})", field("username"), field("hostname"), field("os")));
            }
        }
    }
    if !entries.iter().any(|entry| entry.short_name() == "command-run") {
        // cilock leaves the entry out when the command fails, so this does not say that none was run.
        line("command", "none is recorded");
    }
    let names: Vec<_> = entries.iter().map(EntryView::short_name).collect();
    line("attested", &names.join(", "));
}

fn command_text(value: &Value, line: &mut impl FnMut(&str, &str)) {
    let words: Vec<_> =
        value.get("cmd").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    line("command", &words.join(" "));
    // cilock leaves out an exit code of 0. What is no whole number is shown as it stands there.
    let code = value.get("exitcode").map_or_else(|| "0".to_owned(), Value::to_string);
    let kind = value.pointer("/affiant/ending/kind").and_then(Value::as_str).unwrap_or("exited");
    line("ending", &format!("{kind}, code {code}"));
    if let Some(level) = value.pointer("/affiant/observation/level").and_then(Value::as_str) {
        let reason = value.pointer("/affiant/observation/reason").and_then(Value::as_str).unwrap_or_default();
        line("observed", &format!("{level} ({reason})"));
    }
    if let Some(masked) = value.pointer("/affiant/redactions").and_then(Value::as_array) {
        line("masked", &format!("{} places", masked.len()));
    }
}

/// Writes files as the lines of a tree, without keeping it.
struct Tree<'a> {
    files: &'a Files,
    /// How many there were so far.
    lines: usize,
    /// How many are written.
    limit: usize,
    text: &'a mut String,
}

impl Tree<'_> {
    /// Deeper folders are shown as one name: a hostile path must not exhaust the stack.
    const DEPTH: usize = 32;

    /// The files of `range`, whose paths all begin with `prefix`: its folders by name, then its files.
    fn folder(&mut self, range: Range<usize>, prefix: &str, depth: usize, indent: &str) {
        let rest = |at: usize| &self.files.at(at).path[prefix.len()..];
        let mut folders: Vec<(&str, Range<usize>)> = Vec::new();
        let mut files: Vec<usize> = Vec::new();
        let mut at = range.start;
        while at < range.end {
            let name = rest(at).split_once('/').filter(|(_, inner)| depth < Self::DEPTH && !inner.is_empty());
            let Some((name, _)) = name else {
                files.push(at);
                at += 1;
                continue;
            };
            // What begins alike stands together, for the paths are sorted.
            let is_inside = |at: usize| rest(at).strip_prefix(name).is_some_and(|rest| rest.starts_with('/'));
            let (mut inside, mut end) = (at, range.end);
            while end - inside > 1 {
                let middle = inside + (end - inside) / 2;
                if is_inside(middle) { inside = middle } else { end = middle }
            }
            folders.push((name, at..end));
            at = end;
        }
        folders.sort_unstable_by_key(|(name, _)| *name);
        if self.files.is_tree() {
            // The order in which leaves are written.
            files.sort_by_key(|at| self.files.at(*at).digests.sha256);
        }
        let count = folders.len() + files.len();
        let marks = |at: usize| if at + 1 == count { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        let folder_count = folders.len();
        for (at, (name, range)) in folders.into_iter().enumerate() {
            let (mark, next) = marks(at);
            let prefix = &self.files.at(range.start).path[..=prefix.len() + name.len()];
            self.line(|| format!("{indent}{mark}{name}/"));
            self.folder(range, prefix, depth + 1, &format!("{indent}{next}"));
        }
        for (at, file) in files.into_iter().enumerate() {
            let (mark, _) = marks(folder_count + at);
            let FileRef { path, mime, digests } = self.files.at(file);
            self.line(|| {
                let digests = digests.digest_set().0;
                let digest = digests.iter().next().map(|(name, value)| format!("{name}:{value}")).unwrap_or_default();
                format!("{indent}{mark}{}  {}  {digest}", &path[prefix.len()..], mime.unwrap_or_default())
            });
        }
    }

    fn line(&mut self, line: impl FnOnce() -> String) {
        if self.lines < self.limit {
            let _ = writeln!(self.text, "    {}", one_line(&line()));
        }
        self.lines += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use affiant_core::evidence::files::Digests;

    fn tree(paths: &[&str]) -> Vec<String> {
        let files = Files::of(paths.iter().map(|path| (*path, Digests::of_sha256([0; 32])))).expect("files");
        let mut text = String::new();
        let mut tree = Tree { files: &files, lines: 0, limit: usize::MAX, text: &mut text };
        tree.folder(0..files.len(), "", 0, "");
        let count = tree.lines;
        let lines: Vec<_> = text.lines().map(|line| line[4..].replace(&"0".repeat(64), "0")).collect();
        assert_eq!(lines.len(), count);
        lines
    }

    #[test]
    fn files_are_shown_as_a_tree() {
        assert_eq!(
            tree(&["a/b/c", "a/d", "e"]),
            ["├─ a/", "│  ├─ b/", "│  │  └─ c    sha256:0", "│  └─ d    sha256:0", "└─ e    sha256:0"]
        );
        // By name, though `-` stands before `/`; a folder with one digest is a line; nothing is lost at a double slash.
        assert_eq!(
            tree(&["a/x", "a-b/x", "c/", "c/x", "c//", "c//y", "/z"]),
            [
                "├─ /",
                "│  └─ z    sha256:0",
                "├─ a/",
                "│  └─ x    sha256:0",
                "├─ a-b/",
                "│  └─ x    sha256:0",
                "├─ c/",
                "│  ├─ /",
                "│  │  └─ y    sha256:0",
                "│  ├─ /    sha256:0",
                "│  └─ x    sha256:0",
                "└─ c/    sha256:0",
            ]
        );
        assert_eq!(tree(&[&"x/".repeat(100_000)]).len(), 33);
    }

    #[test]
    fn subject_names_lose_their_long_prefix() {
        assert_eq!(shorten("https://witness.dev/attestations/git/v0.1/commithash:ab"), "git commithash:ab");
        assert_eq!(shorten("release=1"), "release=1");
    }
}
