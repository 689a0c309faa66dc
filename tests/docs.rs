//! Keeps the documentation true: generated pages equal what the program prints, links lead somewhere, command lines
//! parse, tested pages do what they show, and what is written fits the schemas.
//!
//! `AFFIANT_BLESS=1 cargo test --test docs` rewrites the generated parts.

#![allow(clippy::print_stderr)] // what is left out is said

#[path = "cli/schema.rs"]
mod schema;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use base64::Engine as _;
use schema::{fits, misfits};
use serde_json::Value;

/// First line of a page whose `console` blocks are run.
const TESTED: &str = "<!-- tested -->";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

/// `program` in `folder`, with a home beside it and nothing of our environment.
fn hermetic(program: impl AsRef<std::ffi::OsStr>, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .current_dir(folder)
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("HOME", folder.parent().expect("a folder").join("home"))
        .env("DOCKER_HOST", "unix:///nonexistent/docker.sock")
        .stdin(std::process::Stdio::null());
    command
}

fn affiant(folder: &Path, args: &[&str]) -> Output {
    hermetic(env!("CARGO_BIN_EXE_affiant"), folder).args(args).output().expect("affiant starts")
}

fn printed(args: &[&str]) -> String {
    let output = affiant(&root(), args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

fn bless() -> bool {
    std::env::var_os("AFFIANT_BLESS").is_some()
}

#[track_caller]
fn equals_file(path: &str, text: &str) {
    let file = root().join(path);
    if bless() {
        std::fs::write(&file, text).expect("can be written");
    }
    assert_eq!(read(&file), text, "{path} is out of date: AFFIANT_BLESS=1 cargo test --test docs");
}

#[test]
fn the_reference_of_the_command_line_is_what_is_printed() {
    equals_file("docs/reference/cli.md", &printed(&["docs", "cli"]));
}

#[test]
fn the_table_of_exit_codes_is_what_is_printed() {
    equals_file("docs/reference/exit-codes.md", &printed(&["docs", "exit-codes"]));
}

/// A section's generated head: its heading, its summary and its list.
fn head(section: &str) -> usize {
    let mut end = 0;
    let mut in_list = false;
    for line in section.split_inclusive('\n') {
        let item = line.starts_with("- ");
        if in_list && !item {
            break;
        }
        in_list |= item;
        end += line.len();
    }
    end
}

/// The text before the first section, and the sections by name, in order.
fn sections(page: &str) -> (&str, Vec<(&str, &str)>) {
    let starts: Vec<usize> = page.match_indices("\n## ").map(|(at, _)| at + 1).collect();
    let first = if page.starts_with("## ") { 0 } else { starts.first().copied().unwrap_or(page.len()) };
    let mut bounds: Vec<usize> = std::iter::once(first).chain(starts.into_iter().filter(|at| *at != first)).collect();
    bounds.push(page.len());
    let list = bounds
        .windows(2)
        .map(|pair| &page[pair[0]..pair[1]])
        .map(|text| (text.lines().next().unwrap_or_default().trim_start_matches("## "), text))
        .collect();
    (&page[..first], list)
}

#[test]
fn heads_of_attestors_are_what_is_printed() {
    let page = read(&root().join("docs/attestors.md"));
    let generated = printed(&["docs", "attestors"]);
    let (preface, written) = sections(&page);
    let (_, heads) = sections(&generated);
    assert!(!heads.is_empty());
    let heads: BTreeMap<&str, &str> = heads.into_iter().map(|(name, text)| (name, text.trim_end())).collect();
    let mut new = preface.to_owned();
    for (name, text) in &written {
        match heads.get(name) {
            Some(head_text) => {
                new.push_str(head_text);
                new.push('\n');
                new.push_str(&text[head(text)..]);
            }
            None => new.push_str(text),
        }
    }
    for (name, text) in heads {
        if !written.iter().any(|(known, _)| *known == name) {
            new.extend(["\n", text, "\n"]);
        }
    }
    equals_file("docs/attestors.md", &new);
}

/// README.md and all Markdown files below `docs`.
fn pages() -> Vec<(PathBuf, String)> {
    fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                collect(&path, found);
            } else if path.extension().is_some_and(|ending| ending == "md") {
                found.push(path);
            }
        }
    }
    let mut found = vec![root().join("README.md")];
    collect(&root().join("docs"), &mut found);
    found.sort();
    found.into_iter().map(|path| (path.clone(), read(&path))).collect()
}

/// Fenced blocks of a page: language and content.
fn blocks(page: &str) -> Vec<(String, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(String, String)> = None;
    for line in page.lines() {
        match (&mut open, line.trim_start().strip_prefix("```")) {
            (None, Some(language)) => open = Some((language.trim().to_owned(), String::new())),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some((_, content)), None) => {
                content.push_str(line);
                content.push('\n');
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a fence is not closed");
    blocks
}

/// The page without fenced blocks and code spans.
fn prose(page: &str) -> String {
    let mut text = String::new();
    let mut fenced = false;
    for line in page.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            // Every second part stands between backticks.
            text.extend(line.split('`').step_by(2));
            text.push('\n');
        }
    }
    text
}

/// The anchors of a page's headings.
fn anchors(page: &str) -> Vec<String> {
    let mut fenced = false;
    let mut list = Vec::new();
    for line in page.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced || !line.starts_with('#') {
            continue;
        }
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let slug: String = title
            .chars()
            .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
            .map(|c| if c == ' ' { '-' } else { c })
            .collect();
        list.push(slug);
    }
    list
}

#[test]
fn links_lead_to_files_and_headings() {
    let mut broken = Vec::new();
    let mut count = 0;
    for (path, page) in pages() {
        // Texts of links may hold code spans, so only fences are taken out.
        let text: String = prose(&page.replace("`](", "](").replace("[`", "["));
        for (at, _) in text.match_indices("](") {
            let target = text[at + 2..].split([')', ' ']).next().unwrap_or_default();
            if target.starts_with("http://") || target.starts_with("https://") {
                continue;
            }
            count += 1;
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let place = if file.is_empty() { path.clone() } else { path.parent().expect("a folder").join(file) };
            if !place.exists() {
                broken.push(format!("{}: {target} is not there", shown(&path)));
            } else if !anchor.is_empty() && !anchors(&read(&place)).iter().any(|known| known == anchor) {
                broken.push(format!("{}: {target} has no such heading", shown(&path)));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
    assert!(count > 20, "only {count} links were found");
}

/// The words of a shell command line, up to the first operator. Expansions stay as they are.
fn words(line: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' => words.extend(word.take()),
            '#' if word.is_none() => break,
            '|' | '>' | '<' | ';' | '&' => break,
            '\\' => word.get_or_insert_default().extend(chars.next()),
            '\'' | '"' => {
                let word = word.get_or_insert_default();
                while let Some(inner) = chars.next() {
                    match inner {
                        _ if inner == c => break,
                        '\\' if c == '"' => word.extend(chars.next()),
                        _ => word.push(inner),
                    }
                }
            }
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// The command lines of affiant in a block, continuation lines joined.
fn lines_of_affiant(block: &str) -> Vec<Vec<String>> {
    let joined = block.replace("\\\n", " ");
    joined
        .lines()
        .map(|line| line.trim_start().trim_start_matches("$ ").trim_start_matches("- "))
        .map(words)
        .map(|words| {
            let name = |word: &String| {
                word.split_once('=').is_some_and(|(name, _)| name.chars().all(|c| c.is_alphanumeric() || c == '_'))
            };
            words.into_iter().skip_while(name).collect::<Vec<_>>()
        })
        .filter(|words| words.first().is_some_and(|word| word == "affiant"))
        .collect()
}

#[test]
fn command_lines_parse() {
    let mut bad = Vec::new();
    let mut count = 0;
    for (path, page) in pages() {
        for (language, block) in blocks(&page) {
            if !matches!(language.as_str(), "" | "console" | "sh" | "yaml") {
                continue;
            }
            for words in lines_of_affiant(&block) {
                count += 1;
                let args: Vec<&str> =
                    ["docs", "parse", "--"].into_iter().chain(words.iter().map(String::as_str)).collect();
                let output = affiant(&root(), &args);
                if !output.status.success() {
                    bad.push(format!("{}: {words:?}: {}", shown(&path), String::from_utf8_lossy(&output.stderr)));
                }
            }
        }
    }
    assert!(bad.is_empty(), "{bad:#?}");
    assert!(count > 20, "only {count} command lines were found");
}

/// One command of a tested page, with what it shows.
struct Step {
    command: String,
    expected: String,
}

fn steps(page: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for (_, block) in blocks(page).into_iter().filter(|(language, _)| language == "console") {
        let mut in_command = false;
        for line in block.lines() {
            if let Some(command) = line.strip_prefix("$ ") {
                steps.push(Step { command: format!("{command}\n"), expected: String::new() });
                in_command = true;
                continue;
            }
            let step = steps.last_mut().expect("a block begins with a command");
            match line.strip_prefix("> ") {
                Some(more) if in_command => {
                    step.command.push_str(more);
                    step.command.push('\n');
                }
                _ => {
                    in_command = false;
                    step.expected.push_str(line);
                    step.expected.push('\n');
                }
            }
        }
    }
    steps
}

/// Whether a line is as shown; `…` stands for any text.
fn line_fits(pattern: &str, line: &str) -> bool {
    let mut parts = pattern.split('…');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = line.strip_prefix(first) else { return false };
    let mut last = None;
    for part in parts {
        if let Some(part) = last.replace(part) {
            match rest.find(part) {
                Some(at) => rest = &rest[at + part.len()..],
                None => return false,
            }
        }
    }
    last.map_or(rest.is_empty(), |last| rest.ends_with(last))
}

/// Whether lines are as shown; a line `…` stands for any lines.
fn lines_fit(patterns: &[&str], lines: &[&str]) -> bool {
    match patterns {
        [] => lines.is_empty(),
        ["…", rest @ ..] => (0..=lines.len()).any(|at| lines_fit(rest, &lines[at..])),
        [pattern, rest @ ..] => {
            lines.first().is_some_and(|line| line_fits(pattern, line)) && lines_fit(rest, &lines[1..])
        }
    }
}

#[test]
fn patterns_of_tested_pages() {
    assert!(line_fits("a … c", "a b c") && line_fits("…", "") && line_fits("a", "a"));
    assert!(!line_fits("a … c", "a b d") && !line_fits("a", "ab") && !line_fits("a…b…c", "abbd"));
    assert!(lines_fit(&["a", "…", "d"], &["a", "b", "c", "d"]) && lines_fit(&["…", "a"], &["a"]));
    assert!(!lines_fit(&["a", "…", "e"], &["a", "b"]) && !lines_fit(&["a"], &["a", "b"]));
}

#[test]
fn tested_pages_do_what_they_show() {
    let mut tested = 0;
    for (path, page) in pages().into_iter().filter(|(_, page)| page.starts_with(TESTED)) {
        tested += 1;
        let steps = steps(&page);
        let dir = tempfile::tempdir().expect("a temporary folder");
        let (work, bin) = (dir.path().join("work"), dir.path().join("bin"));
        for folder in [&work, &bin, &dir.path().join("home")] {
            std::fs::create_dir(folder).expect("makes a folder");
        }
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_affiant"), bin.join("affiant")).expect("links");
        // One shell for the page; the exit code of each command is kept for the next, as on a terminal.
        let mark = |at: usize| format!("@@{at}@@");
        let mut script = String::from("exec 2>&1\nstate=0\n");
        for (at, step) in steps.iter().enumerate() {
            let mark = mark(at);
            script.extend(["(exit $state)\n", &step.command, "state=$?\necho '", &mark, "'\n"]);
        }
        let output = hermetic("sh", &work)
            .env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", bin.display()))
            .args(["-c", &script])
            .output()
            .expect("a shell");
        let all = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut rest = all.as_str();
        for (at, step) in steps.iter().enumerate() {
            let end = format!("{}\n", mark(at));
            let at = rest.find(&end).unwrap_or_else(|| panic!("the shell ended early: {all}"));
            let told = &rest[..at];
            rest = &rest[at + end.len()..];
            let (patterns, lines): (Vec<_>, Vec<_>) = (step.expected.lines().collect(), told.lines().collect());
            assert!(
                lines_fit(&patterns, &lines),
                "{}: `{}`\n--- the page shows\n{}--- the program says\n{told}",
                shown(&path),
                step.command.trim_end(),
                step.expected
            );
        }
    }
    assert!(tested > 0, "no page begins with {TESTED}");
}

#[test]
fn shown_documents_can_be_read() {
    for (path, page) in pages() {
        for (language, block) in blocks(&page) {
            match language.as_str() {
                "json" => {
                    serde_json::from_str::<Value>(&block).unwrap_or_else(|e| panic!("{}: {e}: {block}", shown(&path)));
                }
                "toml" => {
                    let (_dir, work) = place();
                    std::fs::write(work.join("c.toml"), &block).expect("writes");
                    assert!(affiant(&work, &["key", "generate", "--no-password"]).status.success());
                    let output = affiant(&work, &["run", "--config", "c.toml", "--plan", "--", "true"]);
                    let said = String::from_utf8_lossy(&output.stderr).into_owned();
                    assert!(output.status.success(), "{}: {said}", shown(&path));
                }
                _ => {}
            }
        }
    }
}

#[test]
fn schemas_are_json() {
    let mut count = 0;
    for folder in ["attestors/schemas", "docs/reference"] {
        for entry in std::fs::read_dir(root().join(folder)).expect("a folder").flatten() {
            if entry.path().extension().is_some_and(|ending| ending == "json") {
                let schema: Value = serde_json::from_str(&read(&entry.path())).expect("JSON");
                assert!(schema["$schema"].is_string(), "{}", entry.path().display());
                count += 1;
            }
        }
    }
    assert!(count >= 5);
}

/// A folder with a key in `k.key`.
fn place() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let work = dir.path().join("work");
    std::fs::create_dir(&work).expect("makes a folder");
    assert!(affiant(&work, &["key", "generate", "--no-password", "-o", "k.key"]).status.success());
    (dir, work)
}

#[test]
fn reports_fit_their_schema() {
    let schema: Value =
        serde_json::from_str(&read(&root().join("docs/reference/run-report.schema.json"))).expect("JSON");
    let (_dir, work) = place();
    let cases: [(&[&str], i32, &str); 7] = [
        (&["-k", "k.key", "-o", "a.json", "--", "sh", "-c", "echo x > y"], 0, "passed"),
        (&["-k", "k.key", "--", "sh", "-c", "exit 7"], 7, "command-failed"),
        (&["-k", "k.key", "--", "sh", "-c", "exit 125"], 125, "command-failed"),
        (&["-k", "k.key", "-a", "sbom", "--", "true"], 125, "evidence-failed"),
        (&["-k", "k.key", "--timeout", "200ms", "--", "sleep", "60"], 124, "command-failed"),
        (&["-k", "missing.key", "--", "true"], 125, "refused"),
        (&["--plan", "--", "true"], 0, "planned"),
    ];
    for (args, code, kind) in cases {
        let all: Vec<&str> = ["run", "--report", "r.json"].into_iter().chain(args.iter().copied()).collect();
        let output = affiant(&work, &all);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        let report: Value = serde_json::from_str(&read(&work.join("r.json"))).expect("JSON");
        fits(&schema, &report, kind);
        assert_eq!((&report["kind"], &report["exitCode"]), (&Value::from(kind), &Value::from(code)), "{args:?}");
        std::fs::remove_file(work.join("r.json")).expect("removes");
    }
    let mut found = Vec::new();
    misfits(&schema, &schema, &serde_json::json!({ "schema": "affiant/run-report/v1" }), "", &mut found);
    assert!(!found.is_empty(), "the check itself can fail");
}

/// The samples are what the forms of a verdict print: their own test sees to that.
#[test]
fn verdicts_fit_their_schema() {
    let schema: Value = serde_json::from_str(&read(&root().join("docs/reference/verdict.schema.json"))).expect("JSON");
    for name in ["passed", "denied"] {
        let text = read(&root().join(format!("fixtures/samples/verdict/{name}.json")));
        let mut verdict: Value = serde_json::from_str(&text).expect("JSON");
        fits(&schema, &verdict, name);
        verdict["steps"][0]["other"] = Value::Null;
        let mut found = Vec::new();
        misfits(&schema, &schema, &verdict, "", &mut found);
        assert_eq!(found.len(), 1, "the check itself can fail: {found:?}");
    }
}

/// The statement in an envelope.
fn statement(path: &Path) -> Value {
    let envelope: Value = serde_json::from_str(&read(path)).expect("JSON");
    let payload = envelope["payload"].as_str().expect("a payload");
    let payload = base64::engine::general_purpose::STANDARD.decode(payload).expect("base64");
    serde_json::from_slice(&payload).expect("JSON")
}

#[test]
fn predicates_fit_their_schemas() {
    let (_dir, work) = place();
    let git = |args: &[&str]| hermetic("git", &work).args(args).output().is_ok_and(|done| done.status.success());
    let who = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"];
    if !(git(&["init", "-q"]) && git(&[&who[..], &["commit", "-q", "--allow-empty", "-m", "first"]].concat())) {
        eprintln!("LEFT OUT: git is not there");
    }
    assert!(affiant(&work, &["run", "-k", "k.key", "-o", "a.json", "--", "true"]).status.success());
    let mut count = 0;
    for attestor in affiant_attestors::BUILT_IN {
        let about = attestor.about;
        let schema: Value = serde_json::from_str(&printed(&["attestors", "schema", about.name])).expect("JSON");
        for entry in statement(&work.join("a.json"))["predicate"]["attestations"].as_array().expect("a list") {
            if entry["type"] == about.predicate_type {
                fits(&schema, &entry["attestation"], about.name);
                count += 1;
            }
        }
        let Ok(cases) = std::fs::read_dir(root().join("fixtures").join(about.name)) else { continue };
        for case in cases.flatten().map(|case| case.path().join("expected.json")).filter(|path| path.exists()) {
            let expected: Value = serde_json::from_str(&read(&case)).expect("JSON");
            for piece in expected["pieces"].as_array().into_iter().flatten() {
                let Some(predicate) = piece.get("predicate").filter(|predicate| predicate.is_object()) else {
                    continue;
                };
                fits(&schema, predicate, &shown(&case));
                count += 1;
            }
        }
    }
    assert!(count > 20, "only {count} predicates were found");
}

/// The threat model, the glossary and the decisions name tests and files that are there.
#[test]
fn named_tests_and_sources_are_there() {
    fn code(folder: &Path, text: &mut String) {
        for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                code(&path, text);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                text.push_str(&read(&path));
            }
        }
    }
    let mut all = String::new();
    for folder in ["src", "attestors", "tests"] {
        code(&root().join(folder), &mut all);
    }
    let page = read(&root().join("docs/threat-model.md"));
    let mut count = 0;
    for line in page.lines().filter(|line| line.starts_with('|')) {
        let Some(cell) = line.trim_end_matches('|').rsplit('|').next() else { continue };
        for name in cell.split('`').skip(1).step_by(2) {
            let function = name.rsplit("::").next().unwrap_or(name);
            assert!(all.contains(&format!("fn {function}(")), "the threat model names `{name}`, which is no test");
            count += 1;
        }
    }
    assert!(count > 20, "only {count} tests are named");
    for (path, page) in pages() {
        for name in page
            .split('`')
            .filter(|name| name.starts_with("src/") && Path::new(name).extension().is_some_and(|e| e == "rs"))
        {
            assert!(root().join(name).exists(), "{}: {name} is not there", shown(&path));
        }
    }
}
