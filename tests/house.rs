//! House rules that a compiler does not check.

use std::path::{Path, PathBuf};

/// About how many lines of non-test code a file may have.
const MAX_LINES: usize = 620;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder of the project").flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

/// All Rust files of `folders` with their text, tests at the bottom cut off.
fn code(folders: &[&str]) -> Vec<(String, String)> {
    let mut files = Vec::new();
    for folder in folders {
        sources(&root().join(folder), &mut files);
    }
    assert!(!files.is_empty(), "no sources below {folders:?}");
    files
        .into_iter()
        .filter(|path| !path.components().any(|part| matches!(part.as_os_str().to_str(), Some("tests" | "examples"))))
        .filter(|path| path.file_name().is_none_or(|name| name != "tests.rs"))
        .map(|path| {
            let text = std::fs::read_to_string(&path).expect("a source file");
            let code = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or_default().to_owned();
            (path.strip_prefix(root()).expect("below the root").display().to_string(), code)
        })
        .collect()
}

/// A line up to its comment; the slashes of a URL begin none.
fn without_comments(line: &str) -> &str {
    let comment = line.match_indices("//").find(|(at, _)| !line[..*at].ends_with(':'));
    comment.map_or(line, |(at, _)| &line[..at])
}

/// Lines of `folders` that hold one of `words`, with file and number.
fn uses(folders: &[&str], words: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for (path, code) in code(folders) {
        for (number, line) in code.lines().enumerate() {
            let line = without_comments(line);
            if words.iter().any(|word| line.contains(word)) {
                found.push(format!("{path}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    found
}

#[test]
fn files_stay_short() {
    let long: Vec<_> = code(&["src", "attestors"])
        .into_iter()
        .map(|(path, code)| (code.lines().count(), path))
        .filter(|(lines, _)| *lines > MAX_LINES)
        .collect();
    assert!(long.is_empty(), "more than {MAX_LINES} lines of non-test code: {long:?}");
}

#[test]
fn main_only_parses_runs_and_ends() {
    let lines = std::fs::read_to_string(root().join("src/main.rs")).expect("main").lines().count();
    assert!(lines <= 40, "src/main.rs has {lines} lines");
}

#[test]
fn unsafe_code_stands_in_supervise_only() {
    let found =
        uses(&["src/cli", "src/core", "src/remote", "attestors"], &["unsafe {", "unsafe fn", "allow(unsafe_code)"]);
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn core_and_attestors_have_no_terminal_clock_environment_or_network() {
    let found = uses(
        &["src/core", "attestors"],
        &[
            "println!",
            "eprintln!",
            "print!(",
            "eprint!(",
            "env::var",
            "env::vars",
            "SystemTime::now",
            "Timestamp::now",
            "process::exit",
            "HashMap",
            "HashSet",
            "Command::new",
            "TcpStream",
            "UnixStream",
            "UdpSocket",
        ],
    );
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn only_remote_opens_sockets() {
    let found = uses(&["src/cli", "src/core", "attestors"], &["TcpStream", "UnixStream", "UdpSocket", "ureq::"]);
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn nothing_is_left_over() {
    let found = uses(&["src", "attestors"], &["todo!(", "unimplemented!(", "dbg!(", "FIXME"]);
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn no_host_stands_in_a_default() {
    // Names and no places: types, examples, parts that are composed, and what a file begins with (`mime`).
    let known = [
        "witness.dev/",
        "aflock.ai/",
        "witness.testifysec.com/",
        "in-toto.io/",
        "spdx.dev/",
        "spdx.org/rdf/",
        "cyclonedx.org/",
        "slsa.dev/",
        "json-schema.org/",
        "openvex.dev/ns",
        "sigstore.dev/cosign/sign/v1",
        "cosign.sigstore.dev/attestation/",
        "git-lfs.github.com/spec/",
        ".example",
        "https://HOST",
        "https://…",
        "http://proxy:3128",
        "\"http://\"",
        "begin with http://",
        "://{",
        "http://localhost{path}",
        // Whose passwords docker keeps under this name.
        "https://index.docker.io/v1/",
        // Where an action's repository is unless the runner says otherwise: a name in provenance.
        "server.unwrap_or(\"https://github.com\")",
        // Asked where somebody wrote `public`, or calls affiant cosign.
        "PUBLIC_MIRROR: &str",
    ];
    let found: Vec<_> = uses(&["src", "attestors"], &["https://", "http://"])
        .into_iter()
        .filter(|line| !line.starts_with("src/core/mime/") && !known.iter().any(|host| line.contains(host)))
        .collect();
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn every_attestor_has_a_file_a_section_and_a_fixture() {
    let docs = std::fs::read_to_string(root().join("docs/attestors.md")).expect("docs/attestors.md");
    for attestor in affiant_attestors::BUILT_IN {
        let name = attestor.about.name;
        let file = format!("attestors/{}.rs", name.replace('-', "_"));
        assert!(root().join(&file).exists(), "{file} is missing");
        assert!(docs.contains(&format!("\n## {name}\n")), "docs/attestors.md has no section `## {name}`");
        assert!(root().join(format!("fixtures/{name}")).is_dir(), "fixtures/{name} is missing");
        serde_json::from_str::<serde_json::Value>(attestor.about.schema).expect("the schema is JSON");
    }
}
