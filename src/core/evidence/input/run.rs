//! command-run v0.1, which repeats every path, and v0.2, which counts in lists (wire-formats §3.3).

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::files::MAX_FILES;
use super::super::strict::{self, MAX_MEMBERS};
use super::{InputError, MAX_INPUT, Object, Out, json};

/// Members that the interned form only has.
const INTERNED: [&str; 7] = ["_meta", "summary", "digests", "paths", "comms", "cmdlines", "processes"];
/// Members that both have, with their zero values.
const COMMON: [(&str, &str); 4] = [("cmd", "null"), ("exitcode", "0"), ("stdout", r#""""#), ("stderr", r#""""#)];
/// Members of a process that the flat form has and the interned form counts or renames.
const OF_PROCESS: [&str; 8] =
    ["processid", "parentpid", "program", "comm", "cmdline", "programdigest", "exedigest", "openedfiles"];

/// Most elements of a list.
const MAX_LIST: usize = 1 << 20;

type List<T> = strict::List<T, MAX_LIST>;

/// A v0.2 predicate's lists.
#[derive(Deserialize)]
struct Lists<'a> {
    #[serde(borrow, default)]
    digests: List<OfList<'a>>,
    #[serde(borrow, default)]
    paths: List<&'a RawValue>,
    #[serde(borrow, default)]
    comms: List<&'a RawValue>,
    #[serde(borrow, default)]
    cmdlines: List<&'a RawValue>,
    #[serde(borrow, default)]
    processes: List<Process<'a>>,
}

#[derive(Deserialize)]
struct OfList<'a> {
    #[serde(borrow)]
    digests: &'a RawValue,
}

/// A process of v0.2. What it refers to stands in the lists; -1 is nothing.
#[derive(Deserialize)]
struct Process<'a> {
    #[serde(borrow)]
    processid: &'a RawValue,
    #[serde(borrow)]
    parentpid: &'a RawValue,
    #[serde(rename = "commId", default = "nothing")]
    comm: i64,
    #[serde(rename = "execPathId", default = "nothing")]
    program: i64,
    #[serde(rename = "cmdlineId", default = "nothing")]
    cmdline: i64,
    #[serde(rename = "programDigestId", default = "nothing")]
    program_digest: i64,
    #[serde(rename = "exeDigestId", default = "nothing")]
    exe_digest: i64,
    #[serde(rename = "openedFiles", default)]
    opened: List<File>,
    #[serde(rename = "writtenFiles", default)]
    written: List<File>,
    #[serde(rename = "unhashedOpens", default)]
    unhashed: List<File>,
}

#[derive(Deserialize)]
struct File {
    #[serde(rename = "pathId")]
    path: i64,
    #[serde(rename = "digestId", default = "nothing")]
    digest: i64,
}

const fn nothing() -> i64 {
    -1
}

/// v0.1 from v0.2. What only v0.2 records (network, file operations, syscalls) has no place in it.
pub(super) fn flat(text: &str) -> Result<Box<RawValue>, InputError> {
    if text.len() > MAX_INPUT {
        return Err(InputError::TooLong);
    }
    let lists: Lists<'_> = serde_json::from_str(text)?;
    let mut out = Out::default();
    let mut object = common(&mut out, text, &INTERNED)?;
    object.name("processes")?;
    out.push("[")?;
    for (at, process) in lists.processes.0.iter().enumerate() {
        if at > 0 {
            out.push(",")?;
        }
        lists.process(process, &mut out)?;
    }
    out.push("]}")?;
    out.finish()
}

impl Lists<'_> {
    fn process(&self, process: &Process<'_>, out: &mut Out) -> Result<(), InputError> {
        let mut object = out.object()?;
        object.member("processid", process.processid.get())?;
        object.member("parentpid", process.parentpid.get())?;
        for (name, index, member, list, of) in [
            ("program", process.program, "execPathId", "paths", &self.paths),
            ("comm", process.comm, "commId", "comms", &self.comms),
            ("cmdline", process.cmdline, "cmdlineId", "cmdlines", &self.cmdlines),
        ] {
            if let Some(value) = element(&of.0, index, member, list)? {
                object.member(name, value.get())?;
            }
        }
        for (name, index, member) in [
            ("programdigest", process.program_digest, "programDigestId"),
            ("exedigest", process.exe_digest, "exeDigestId"),
        ] {
            if let Some(digest) = element(&self.digests.0, index, member, "digests")? {
                object.member(name, digest.digests.get())?;
            }
        }
        // v0.1 has one digest for each path; of a file that is opened often, the last one, as its producer does.
        let mut files = BTreeMap::new();
        for file in [&process.unhashed, &process.opened, &process.written].into_iter().flat_map(|list| &list.0) {
            let digest = files.entry(file.path).or_insert(nothing());
            if file.digest != nothing() {
                *digest = file.digest;
            }
        }
        if !files.is_empty() {
            object.name("openedfiles")?;
            let mut opened = object.out.object()?;
            for (path, digest) in files {
                let outside = || index_error("pathId", path, "paths", &self.paths.0);
                let path = element(&self.paths.0, path, "pathId", "paths")?.ok_or_else(outside)?;
                let digest = element(&self.digests.0, digest, "digestId", "digests")?;
                opened.raw_name(path.get())?;
                opened.out.push(digest.map_or("{}", |digest| digest.digests.get()))?;
            }
            opened.end()?;
        }
        object.end()
    }
}

/// The element that `index` refers to; `None` for -1.
fn element<'l, T>(
    of: &'l [T],
    index: i64,
    member: &'static str,
    list: &'static str,
) -> Result<Option<&'l T>, InputError> {
    if index == nothing() {
        return Ok(None);
    }
    let found = usize::try_from(index).ok().and_then(|at| of.get(at));
    found.map(Some).ok_or_else(|| index_error(member, index, list, of))
}

fn index_error<T>(member: &'static str, index: i64, list: &'static str, of: &[T]) -> InputError {
    InputError::Index { member, index, list, length: of.len() }
}

/// Begins the document with the members that both forms have, and those that neither knows.
fn common<'o>(out: &'o mut Out, text: &str, without: &[&str]) -> Result<Object<'o>, InputError> {
    let members = strict::object(text, MAX_MEMBERS)?;
    let mut object = out.object()?;
    for (name, zero) in COMMON {
        let written = members.iter().find(|(member, _)| member == name);
        object.member(name, written.map_or(zero, |(_, value)| value.get()))?;
    }
    let known = |name: &str| COMMON.iter().any(|(common, _)| *common == name) || without.contains(&name);
    for (name, value) in members.iter().filter(|(name, _)| !known(name)) {
        object.member(name, value.get())?;
    }
    Ok(object)
}

/// JSON texts, each once, in the order in which they came.
#[derive(Default)]
struct Interner {
    list: Vec<String>,
    numbers: BTreeMap<String, usize>,
}

impl Interner {
    /// The number of a text; -1 for none.
    fn number(&mut self, text: Option<String>) -> String {
        let Some(text) = text else { return nothing().to_string() };
        let next = self.list.len();
        let number = *self.numbers.entry(text.clone()).or_insert(next);
        if number == next {
            self.list.push(text);
        }
        number.to_string()
    }

    /// The list as JSON; `null` where nothing was traced, as cilock writes it.
    fn member(&self, name: &str, wrap: (&str, &str), object: &mut Object<'_>) -> Result<(), InputError> {
        if self.list.is_empty() {
            return object.member(name, "null");
        }
        object.name(name)?;
        for (at, text) in self.list.iter().enumerate() {
            object.out.push(if at == 0 { "[" } else { "," })?;
            object.out.push(wrap.0)?;
            object.out.push(text)?;
            object.out.push(wrap.1)?;
        }
        object.out.push("]")
    }
}

/// A digest set that is one: an empty set is none.
fn digest(value: Option<&str>) -> Option<String> {
    value.filter(|value| !matches!(*value, "null" | "{}")).map(str::to_owned)
}

/// v0.2 from v0.1.
pub(super) fn interned(text: &str) -> Result<Box<RawValue>, InputError> {
    #[derive(Deserialize)]
    struct Flat<'a> {
        #[serde(borrow, default)]
        processes: List<&'a RawValue>,
    }
    let processes = serde_json::from_str::<Flat<'_>>(text)?.processes.0;
    let (mut paths, mut comms, mut cmdlines, mut digests) =
        (Interner::default(), Interner::default(), Interner::default(), Interner::default());
    let mut list = Out::default();
    list.push("[")?;
    for (at, process) in processes.iter().enumerate() {
        if at > 0 {
            list.push(",")?;
        }
        let members = strict::object(process.get(), MAX_MEMBERS)?;
        let value = |name: &str| members.iter().find(|(member, _)| member == name).map(|(_, value)| value.get());
        // Written in one way, whatever escapes it has.
        let text = |name: &str| -> Result<Option<String>, serde_json::Error> {
            value(name).map(|value| json(&serde_json::from_str::<String>(value)?)).transpose()
        };
        let mut object = list.object()?;
        object.member("processid", value("processid").unwrap_or("0"))?;
        object.member("parentpid", value("parentpid").unwrap_or("0"))?;
        object.member("commId", &comms.number(text("comm")?))?;
        object.member("execPathId", &paths.number(text("program")?))?;
        object.member("cmdlineId", &cmdlines.number(text("cmdline")?))?;
        object.member("programDigestId", &digests.number(digest(value("programdigest"))))?;
        object.member("exeDigestId", &digests.number(digest(value("exedigest"))))?;
        if let Some(opened) = value("openedfiles").filter(|opened| *opened != "null") {
            object.name("openedFiles")?;
            object.out.push("[")?;
            for (at, (path, set)) in strict::object(opened, MAX_FILES)?.iter().enumerate() {
                object.out.push(if at == 0 { "" } else { "," })?;
                let (path, set) = (paths.number(Some(json(path)?)), digests.number(digest(Some(set.get()))));
                object.out.push(&format!(r#"{{"pathId":{path},"digestId":{set}}}"#))?;
            }
            object.out.push("]")?;
        }
        for (name, value) in members.iter().filter(|(name, _)| !OF_PROCESS.contains(&&**name)) {
            object.member(name, value.get())?;
        }
        object.end()?;
    }
    list.push("]")?;
    let counts = format!(
        r#"{{"version":"v0.2","counts":{{"processes":{},"uniquePaths":{},"uniqueDigests":{},"uniqueComms":{},"uniqueCmdlines":{}}}}}"#,
        processes.len(),
        paths.list.len(),
        digests.list.len(),
        comms.list.len(),
        cmdlines.list.len(),
    );
    let mut out = Out::default();
    let mut object = common(&mut out, text, &INTERNED)?;
    object.member("_meta", &counts)?;
    digests.member("digests", (r#"{"digests":"#, "}"), &mut object)?;
    paths.member("paths", ("", ""), &mut object)?;
    comms.member("comms", ("", ""), &mut object)?;
    cmdlines.member("cmdlines", ("", ""), &mut object)?;
    object.member("processes", &list.0)?;
    object.end()?;
    out.finish()
}
