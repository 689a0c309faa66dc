//! The forms of a verdict, and `--report FORMAT=FILE`.
//!
//! All forms say the same. What stands in evidence is a stranger's text: each form escapes it in its own way, and all
//! of them show control characters and invisible ones instead of obeying them.

mod chain;
mod drawing;
mod html;
pub(crate) mod json;
mod junit;
mod markdown;
mod markup;
mod reasons;
#[cfg(test)]
mod tests;
pub(crate) mod text;

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use affiant_core::outfile::Outfile;
use affiant_core::verdict::{Answer, ImagePart, Verdict};

use super::failure::{Failure, Kind, nearest};
use super::surroundings;

/// Version of affiant, as reports name it.
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The variable in which GitHub's runner names the file that the page of a job shows.
const SUMMARY: &str = "GITHUB_STEP_SUMMARY";
/// The variable in which it names the file that hands values to the steps after this one.
const OUTPUTS: &str = "GITHUB_OUTPUT";

/// A form of a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Json,
    Markdown,
    Junit,
    Html,
    Text,
    Env,
}

/// The forms with their names and the usual endings of their files.
const FORMATS: &[(&str, Format, &[&str])] = &[
    ("json", Format::Json, &["json"]),
    ("markdown", Format::Markdown, &["md", "markdown"]),
    ("junit", Format::Junit, &["xml"]),
    ("html", Format::Html, &["html", "htm"]),
    ("text", Format::Text, &["txt", "text", "log"]),
    ("env", Format::Env, &["env"]),
];

impl Format {
    fn render(self, verdict: &Verdict) -> String {
        match self {
            Self::Json => json::render(verdict),
            Self::Markdown => markdown::render(verdict),
            Self::Junit => junit::render(verdict),
            Self::Html => html::render(verdict),
            Self::Text => text::render(verdict),
            Self::Env => env(verdict),
        }
    }

    fn name(self) -> &'static str {
        FORMATS.iter().find(|(_, format, _)| *format == self).map_or("", |(name, ..)| name)
    }
}

/// Where a report goes.
#[derive(Debug)]
enum Target {
    /// A file, replaced at once.
    File(Outfile),
    /// A file of a CI job, which others write to as well: appended.
    Appended(PathBuf),
}

impl Target {
    fn path(&self) -> &Path {
        match self {
            Self::File(file) => file.path(),
            Self::Appended(path) => path,
        }
    }

    /// Whether both change the same file.
    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::File(a), Self::File(b)) => a.file().is_some() && a.file() == b.file(),
            _ => self.path() == other.path(),
        }
    }
}

/// The reports that were asked for, each with a file that can be written as far as one can know before.
#[derive(Debug, Default)]
pub(crate) struct Reports(Vec<(Format, Target)>);

impl Reports {
    /// Reads the values of `--report`: `FORMAT=FILE`, or `markdown` alone for the summary of a CI job.
    pub(crate) fn parse(values: &[String]) -> Result<Self, Failure> {
        Self::parse_with(values, surroundings::variable(SUMMARY).map(PathBuf::from).as_deref())
    }

    fn parse_with(values: &[String], summary: Option<&Path>) -> Result<Self, Failure> {
        let mut reports = Self::default();
        for value in values {
            let (format, target) = parse_one(value, summary)?;
            if reports.0.iter().any(|(_, known)| known.is(&target)) {
                return Err(Failure::usage(format!("two reports would go to {}", target.path().display())));
            }
            reports.0.push((format, target));
        }
        Ok(reports)
    }

    /// The files that they go to, as they were named.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Path> {
        self.0.iter().map(|(_, target)| target.path())
    }

    /// Writes them all. One that cannot be written does not keep the others from it; the first failure is returned.
    pub(crate) fn write(&self, verdict: &Verdict) -> Result<(), Failure> {
        let mut first = Ok(());
        for (format, target) in &self.0 {
            let content = format.render(verdict);
            let done = match target {
                Target::File(file) => file.write(content.as_bytes()).map_err(|error| {
                    Failure::because(Kind::NoAnswer, format!("the {} report cannot be written", format.name()), &error)
                }),
                Target::Appended(path) => append(path, &content, *format == Format::Markdown).map_err(|error| {
                    let message = format!("the {} report cannot be added to {}", format.name(), path.display());
                    Failure::because(Kind::NoAnswer, message, &error)
                }),
            };
            first = first.and(done);
        }
        first
    }
}

fn parse_one(value: &str, summary: Option<&Path>) -> Result<(Format, Target), Failure> {
    let (name, file) = match value.split_once('=') {
        Some((name, file)) => (name, Some(file)),
        None => (value, None),
    };
    let Some(&(name, format, _)) = FORMATS.iter().find(|(known, ..)| *known == name) else {
        return Err(unknown(name, file));
    };
    let is_summary = |file: &str| file == format!("${SUMMARY}") || file == format!("${{{SUMMARY}}}");
    if format == Format::Env {
        let runners = surroundings::variable(OUTPUTS).map(PathBuf::from);
        return match file.map(PathBuf::from).or(runners) {
            Some(file) if !file.as_os_str().is_empty() && file.as_os_str() != "-" => {
                Ok((format, Target::Appended(file)))
            }
            _ => Err(Failure::usage(format!("--report {name}: no file is named"))
                .hint(format!("--report {name}=FILE; on GitHub the runner names one in {OUTPUTS}"))),
        };
    }
    let unset = || format!("the variable {SUMMARY} is not set here: name a file, `--report {name}=FILE`");
    match file {
        None if format == Format::Markdown => match summary {
            Some(path) => Ok((format, Target::Appended(path.to_owned()))),
            None => Err(Failure::usage(format!("--report {name}: no file is named")).hint(unset())),
        },
        None => Err(Failure::usage(format!("--report {name}: no file is named")).hint(format!("--report {name}=FILE"))),
        // What a shell makes of a variable that is not set.
        Some("") => {
            Err(Failure::usage(format!("--report {name}=: no file is named")).hint(format!("--report {name}=FILE")))
        }
        Some("-") => Err(Failure::usage(format!("--report {name}=-: stdout is for the verdict itself"))
            .hint(format!("--report {name}=FILE, or `-o json` for JSON on stdout"))),
        Some(file) => {
            let path = match summary {
                Some(path) if is_summary(file) => path,
                None if is_summary(file) => {
                    return Err(Failure::usage(format!("--report {name}=${SUMMARY}: no file is named")).hint(unset()));
                }
                _ => Path::new(file),
            };
            if summary == Some(path) {
                return if format == Format::Markdown {
                    Ok((format, Target::Appended(path.to_owned())))
                } else {
                    Err(Failure::usage(format!("--report {name}: the summary of a job takes markdown only"))
                        .hint("--report markdown"))
                };
            }
            Outfile::probe(path).map(|file| (format, Target::File(file))).map_err(|error| {
                Failure::because(Kind::NoAnswer, format!("the {name} report cannot be written"), &error)
            })
        }
    }
}

fn unknown(name: &str, file: Option<&str>) -> Failure {
    let names: Vec<_> = FORMATS.iter().map(|(name, ..)| *name).collect();
    let failure = Failure::usage(format!("--report: `{name}` is no form of a report (known: {})", names.join(", ")));
    let ending = Path::new(name).extension().and_then(|ending| ending.to_str());
    let by_ending = FORMATS
        .iter()
        .find(|(.., endings)| ending.is_some_and(|ending| endings.contains(&ending)))
        .map(|(name, ..)| name);
    match (by_ending, nearest(&name.to_lowercase(), names), file) {
        (Some(format), _, None) => failure.hint(format!("--report {format}={name}")),
        (_, Some(format), file) => failure.hint(format!("--report {format}={}", file.unwrap_or("FILE"))),
        _ => failure.hint("--report FORMAT=FILE"),
    }
}

/// A stranger's text, in Markdown and in XML.
pub(crate) use markdown::code;
pub(crate) use markup::{Text, lines};

/// Adds to a file that others write to as well; on a new line, and with an empty one between where that is `wanted`.
pub(crate) fn append(path: &Path, content: &str, wanted: bool) -> std::io::Result<()> {
    // A FIFO would wait for a reader.
    if std::fs::metadata(path).is_ok_and(|data| !data.is_file()) {
        return Err(std::io::Error::other("not a regular file"));
    }
    let mut file = OpenOptions::new().append(true).read(true).create(true).open(path)?;
    let length = file.metadata()?.len();
    let mut last = [b'\n'];
    if length > 0 {
        file.read_exact_at(&mut last, length - 1)?;
    }
    // In one piece, and not on the line that another ended without a break.
    let unbroken = if last == *b"\n" { "" } else { "\n" };
    let gap = if wanted && length > 0 { "\n" } else { "" };
    file.write_all(format!("{unbroken}{gap}{content}").as_bytes())
}

/// `NAME=VALUE` lines for the jobs after this one, as a shell, GitHub's runner and GitLab's dotenv reports take them.
fn env(verdict: &Verdict) -> String {
    let mut lines = vec![format!("verdict={}", word(verdict.answer).replace(' ', "-"))];
    for (number, image) in verdict.images.iter().enumerate() {
        let name = if number == 0 { "image".to_owned() } else { format!("image_{}", number + 1) };
        // What an earlier answer added to the same file must not be deployed after a denial. A break would begin a line of
        // its own, and with it another variable.
        let may_be_named = verdict.answer == Answer::Passed && !image.reference.contains(|c: char| c.is_control());
        lines.push(format!("{name}={}", if may_be_named { &image.reference } else { "" }));
    }
    lines.join("\n") + "\n"
}

/// The answer in a word.
fn word(answer: Answer) -> &'static str {
    match answer {
        Answer::Passed => "passed",
        Answer::Denied => "denied",
        Answer::NoEvidence => "no evidence",
    }
}

/// The named artifacts in few words, empty where none was named.
fn artifacts(verdict: &Verdict) -> String {
    let mut names = verdict.artifacts.iter().map(|artifact| artifact.name.as_str());
    match (names.next(), names.next(), names.count()) {
        (None, ..) => String::new(),
        (Some(one), None, _) => one.to_owned(),
        (Some(one), Some(other), 0) => format!("{one} and {other}"),
        (Some(one), Some(_), more) => format!("{one} and {} more", more + 1),
    }
}

/// What an image was resolved to, and who has signed it.
fn image_phrase(image: &ImagePart) -> String {
    let mut text = image.reference.clone();
    if !image.platforms.is_empty() {
        text = format!("{text}, for {}", reasons::listed(&image.platforms, 8));
    }
    if !image.signers.is_empty() {
        text = format!("{text}, signed by {}", reasons::listed(&image.signers, 4));
    }
    text
}

/// What a reader must know of the mode: that a denial does not stop anything.
fn mode_note(verdict: &Verdict) -> Option<String> {
    let mode = verdict.trust.iter().find(|input| input.what == "mode").map(|input| input.value.as_str())?;
    (verdict.answer != Answer::Passed && matches!(mode, "warn" | "audit"))
        .then(|| format!("mode {mode}: this answer stops nothing, the exit code is 0"))
}

/// `1 candidate`, `2 candidates`.
fn counted(count: usize, one: &str) -> String {
    format!("{count} {one}{}", if count == 1 { "" } else { "s" })
}
