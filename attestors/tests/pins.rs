//! Golden cases of `pins`: `fixtures/pins/<case>/` holds a repository and what was made of it.
//!
//! * `repository/` – the files, as they are
//! * `case.json` – optional: `command`, `env` (`{root}` stands for the repository), `dir` (where the command runs)
//! * `expected.txt` – one line for each reference and gap, and `expected.json`, the predicate; written anew with
//!   `AFFIANT_BLESS=1`

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use affiant_attestors::BUILT_IN;
use affiant_core::attestor::{Attestor, Before, Environment, Found, Outcome, Predicate, Prepared};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Case {
    command: Vec<String>,
    env: BTreeMap<String, String>,
    dir: String,
}

fn attestor() -> &'static Attestor {
    BUILT_IN.iter().find(|entry| entry.about.name == "pins").expect("a built-in attestor")
}

fn world(root: &Path, case: &Case) -> Before {
    let root_text = root.to_str().expect("UTF-8");
    let env = case.env.iter().map(|(name, value)| (name.clone(), value.replace("{root}", root_text))).collect();
    Before {
        step: "build".into(),
        dir: root.join(&case.dir),
        env: Arc::new(Environment(env)),
        command: case.command.iter().map(Into::into).collect(),
        ..Before::default()
    }
}

fn run(world: &Before) -> Outcome {
    match attestor().prepare(json!({}), world).expect("options").0 {
        Prepared::Before(attest) => attest(world),
        Prepared::After(_) | Prepared::Whole(_) => panic!("pins runs before the command"),
    }
}

/// The predicate; what was not read stands in the gaps of the run as well.
#[track_caller]
fn predicate(outcome: Outcome) -> Value {
    let Ok(Found::Evidence { mut pieces, shortfalls }) = outcome else { panic!("no evidence: {outcome:?}") };
    assert_eq!(pieces.len(), 1);
    let Predicate::Composed(value) = pieces.remove(0).predicate else { panic!("composed") };
    assert_eq!(shortfalls.len(), value["gaps"].as_array().map_or(0, Vec::len), "{shortfalls:?}");
    value
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

/// One line for each thing.
fn told(predicate: &Value) -> String {
    let mut out = String::new();
    for file in predicate["files"].as_array().expect("a list") {
        let _ = writeln!(out, "read {}", text(file, "path"));
    }
    for pin in predicate["pins"].as_array().expect("a list") {
        let _ = write!(out, "{}:{} {} {}", text(pin, "file"), pin["line"], text(pin, "kind"), text(pin, "reference"));
        if pin["expanded"].is_string() {
            let _ = write!(out, " = {}", text(pin, "expanded"));
        }
        let _ = match pin["pinned"].as_bool() {
            Some(true) => write!(out, " PINNED by {}", text(pin, "by")),
            _ if pin["dynamic"] == true => write!(out, " dynamic"),
            _ => write!(out, " not pinned"),
        };
        for (name, value) in pin["digest"].as_object().into_iter().flatten() {
            let _ = write!(out, " {name}:{}…", &value.as_str().expect("hex")[..6]);
        }
        for name in ["publisher", "version", "why"] {
            if pin[name].is_string() {
                let _ = write!(out, "; {name} {}", text(pin, name));
            }
        }
        out.push('\n');
    }
    for gap in predicate["gaps"].as_array().into_iter().flatten() {
        let _ =
            writeln!(out, "GAP {} {}:{} {}", text(gap, "kind"), text(gap, "file"), gap["line"], text(gap, "reason"));
    }
    out
}

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/pins").canonicalize().expect("fixtures");
    let mut cases: Vec<PathBuf> =
        std::fs::read_dir(folder).expect("fixtures").map(|entry| entry.expect("a case").path()).collect();
    cases.sort();
    assert!(cases.len() >= 4, "too few cases");
    cases
}

/// A copy of a case's repository in a folder of its own: around the fixture is a repository, too.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder").flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("copied");
        }
    }
}

#[test]
fn cases_are_as_recorded() {
    let bless = std::env::var_os("AFFIANT_BLESS").is_some();
    let mut wrong = String::new();
    for folder in cases() {
        let case: Case = match std::fs::read(folder.join("case.json")) {
            Ok(bytes) => serde_json::from_slice(&bytes).expect("case.json"),
            Err(_) => Case::default(),
        };
        let place = tempfile::tempdir().expect("a folder");
        let root = place.path().canonicalize().expect("a folder").join("repository");
        copy(&folder.join("repository"), &root);
        let world = world(&root, &case);
        let found = predicate(run(&world));
        assert_eq!(found, predicate(run(&world)), "{}: two runs differ", folder.display());
        let text = told(&found);
        let value = serde_json::to_string_pretty(&json!({"pieces": [{"predicate": found}]})).expect("JSON") + "\n";
        for (name, text) in [("expected.txt", text), ("expected.json", value)] {
            let text = text.replace(root.to_str().expect("UTF-8"), "{root}");
            let expected = folder.join(name);
            if bless {
                std::fs::write(&expected, &text).expect("writes");
            }
            if std::fs::read_to_string(&expected).unwrap_or_default() != text {
                let _ = writeln!(wrong, "{}: differs from {name}; it is now:\n{text}", folder.display());
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// A repository in a temporary folder, with a job of GitHub that runs `.github/workflows/w.yml`.
struct Job {
    place: tempfile::TempDir,
}

impl Job {
    fn new(workflow: &str) -> Self {
        let job = Self { place: tempfile::tempdir().expect("a folder") };
        job.write(".github/workflows/w.yml", workflow);
        job
    }

    fn root(&self) -> PathBuf {
        self.place.path().canonicalize().expect("a folder").join("repository")
    }

    fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.place.path().join("repository").join(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
        std::fs::write(path, content).expect("written");
    }

    fn case(env: &[(&str, &str)], command: &[&str]) -> Case {
        let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Case {
            env: env.iter().map(pair).collect(),
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            ..Case::default()
        }
    }

    fn github(&self) -> String {
        let env = [
            ("GITHUB_ACTIONS", "true"),
            ("GITHUB_REPOSITORY", "o/r"),
            ("GITHUB_WORKFLOW_REF", "o/r/.github/workflows/w.yml@main"),
            ("GITHUB_WORKSPACE", "{root}"),
        ];
        told(&predicate(run(&world(&self.root(), &Self::case(&env, &["true"])))))
    }

    fn gitlab(&self, path: &str) -> String {
        let env = [("GITLAB_CI", "true"), ("CI_CONFIG_PATH", path), ("CI_PROJECT_DIR", "{root}")];
        told(&predicate(run(&world(&self.root(), &Self::case(&env, &["true"])))))
    }
}

#[track_caller]
fn has(told: &str, lines: &[&str]) {
    for line in lines {
        assert!(told.lines().any(|one| one.contains(line)), "`{line}` is not in:\n{}", &told[..told.len().min(4000)]);
    }
}

#[test]
fn very_many_jobs_are_read_within_limits() {
    let mut text = "jobs:\n".to_owned();
    for number in 0..100_000 {
        let _ = write!(text, "  job{number}:\n    steps:\n      - uses: actions/checkout@v4\n");
    }
    let told = Job::new(&text).github();
    assert_eq!(told.lines().filter(|line| line.ends_with("version v4")).count(), 10_000);
    // Behind the first ten thousand: job 10000, whose step stands on line 2 + 3 * 10000 + 2.
    has(&told, &["GAP limit .github/workflows/w.yml:30004 here and behind are more than 10000 references"]);
    // Repeated by an alias they cost nothing, and are told once.
    let mut text = "jobs:\n  a: &a\n    steps: &s\n      - &u {uses: actions/checkout@v4}\n".to_owned();
    for number in 0..50_000 {
        let _ = write!(text, "  j{number}: *a\n  k{number}: {{<<: *a}}\n  l{number}: {{steps: [*u, *u]}}\n");
    }
    let told = Job::new(&text).github();
    assert_eq!(
        told,
        "read .github/workflows/w.yml\n.github/workflows/w.yml:4 action actions/checkout@v4 not pinned; publisher actions; version v4\n"
    );
}

#[test]
fn what_multiplies_or_loops_ends() {
    let mut bomb = "a0: &a0 [{uses: x/y@v1}]\n".to_owned();
    for level in 1..200 {
        let _ = writeln!(bomb, "a{level}: &a{level} [{}]", vec![format!("*a{}", level - 1); 10].join(","));
    }
    let told = Job::new(&(bomb.clone() + "jobs: {a: {steps: *a199}}\n")).github();
    has(&told, &["GAP syntax", "a step that is no map"]);
    let job = Job::new("jobs: {}\n");
    job.write("bomb.yml", bomb + "include: *a199\nb: {image: x:1}\n");
    has(&job.gitlab("bomb.yml"), &["GAP syntax bomb.yml:1 an include that is not understood"]);
    // Actions and includes that name each other.
    let told = {
        let job = Job::new("jobs: {a: {steps: [{uses: ./a}]}}\n");
        job.write("a/action.yml", "runs: {steps: [{uses: ./b}]}\n");
        job.write("b/action.yml", "runs: {steps: [{uses: ./a}, {uses: ./b/../b}]}\n");
        job.github()
    };
    assert_eq!(told.lines().filter(|line| line.starts_with("read")).count(), 3, "{told}");
    job.write("one.yml", "include: [two.yml, one.yml]\n");
    job.write("two.yml", "include: /one.yml\nimage: &i !reference [image]\n");
    let told = job.gitlab("one.yml");
    assert_eq!(told.lines().filter(|line| line.starts_with("read")).count(), 2, "{told}");
    // Keys given twice, on the way of a reference.
    let mut twice = "a0: &a0 {image: x:1}\n".to_owned();
    let mut path = String::new();
    for level in 1..100 {
        let _ = writeln!(twice, "a{level}: &a{level} {{a: *a{before}, a: *a{before}}}", before = level - 1);
        path += "a, ";
    }
    job.write("twice.yml", format!("{twice}image: !reference [a99, {path}image]\n"));
    has(&job.gitlab("twice.yml"), &["twice.yml:1 image x:1 not pinned"]);
    // More files than are read.
    let mut many = String::from("include:\n");
    for number in 0..1100 {
        job.write(&format!("many/{number}.yml"), "a: {image: x:1}\n");
        let _ = writeln!(many, "  - many/{number}.yml");
    }
    job.write("all.yml", many);
    has(&job.gitlab("all.yml"), &["GAP unreadable all.yml:", "more than 1000 files"]);
    for (text, line) in [("- ".repeat(500_000), 1), ("jobs: ".to_owned() + &"[".repeat(500_000), 1)] {
        has(&Job::new(&text).github(), &[&format!("GAP syntax .github/workflows/w.yml:{line} not YAML")]);
    }
}

#[test]
fn nothing_outside_the_repository_is_read() {
    let job = Job::new("jobs: {a: {steps: [{uses: ./link}, {uses: ./file}, {uses: ./pipe}, {uses: ./large}]}}\n");
    std::fs::create_dir_all(job.place.path().join("outside")).expect("a folder");
    std::fs::write(job.place.path().join("outside/action.yml"), "runs: {steps: [{uses: secret/secret@v1}]}\n")
        .expect("written");
    std::os::unix::fs::symlink("../outside", job.root().join("link")).expect("a link");
    job.write("file/other", "");
    std::os::unix::fs::symlink("../../outside/action.yml", job.root().join("file/action.yml")).expect("a link");
    job.write("large/action.yml", "");
    std::fs::OpenOptions::new()
        .write(true)
        .open(job.root().join("large/action.yml"))
        .and_then(|file| file.set_len(100 << 20))
        .expect("made large");
    std::fs::create_dir_all(job.root().join("pipe")).expect("a folder");
    nix::unistd::mkfifo(&job.root().join("pipe/action.yml"), nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    let told = job.github();
    assert!(!told.contains("secret"), "{told}");
    has(
        &told,
        &[
            "GAP unreadable .github/workflows/w.yml:1 link/action.yml, which is named here, was not read: it leads out",
            "file/action.yml, which is named here, was not read",
            "large/action.yml, which is named here, was not read: it has more than 16777216 bytes",
            "the action pipe/action.yml is not there",
        ],
    );
}

#[test]
fn another_checkout_is_not_of_this_commit() {
    let job = Job::new("jobs: {a: {steps: [{uses: ./mine}, {uses: ./other/action}]}}\n");
    job.write(".git/HEAD", "");
    job.write("mine/action.yml", "runs: {using: node20}\n");
    job.write("other/.git/HEAD", "");
    job.write("other/action/action.yml", "runs: {using: node20}\n");
    has(&job.github(), &["./mine PINNED", "./other/action not pinned; why it lies in another checkout"]);
}

#[test]
fn the_running_workflow_is_found_by_its_name() {
    let job = Job::new("name: one\njobs: {a: {steps: [{uses: a/a@v1}]}}\n");
    job.write(".github/workflows/x.yaml", "name: two\njobs: {a: {steps: [{uses: b/b@v1}]}}\n");
    job.write(".github/workflows/y.yml", "jobs: {a: {steps: [{uses: c/c@v1}]}}\n");
    job.write(".github/workflows/z.yml", "name: two\njobs: {a: {steps: [{uses: d/d@v1}]}}\n");
    for (name, files) in [
        ("one", &["w.yml"][..]),
        // Two of one name: both may be it.
        ("two", &["x.yaml", "z.yml"]),
        (".github/workflows/y.yml", &["y.yml"]),
        ("y.yml", &["y.yml"]),
        ("three", &[]),
    ] {
        let case = Job::case(&[("GITHUB_ACTIONS", "true"), ("GITHUB_WORKFLOW", name)], &[]);
        let told = told(&predicate(run(&world(&job.root(), &case))));
        let read: Vec<_> = told.lines().filter_map(|line| line.strip_prefix("read .github/workflows/")).collect();
        assert_eq!(read, files, "{name}: {told}");
        assert_eq!(told.contains("GAP missing"), files.is_empty(), "{told}");
    }
    // The workflow of another repository.
    let env = [
        ("GITHUB_ACTIONS", "true"),
        ("GITHUB_REPOSITORY", "o/r"),
        ("GITHUB_WORKFLOW_REF", "o/x/.github/workflows/w.yml@main"),
    ];
    let told = told(&predicate(run(&world(&job.root(), &Job::case(&env, &[])))));
    has(&told, &["GAP missing (GITHUB_WORKFLOW_REF):null the workflow that runs is that of another repository"]);
}

#[test]
fn outside_of_everything_there_is_nothing() {
    let job = Job::new("jobs: {}\n");
    let world = world(&job.root(), &Job::case(&[], &["make"]));
    assert!(matches!(run(&world), Ok(Found::Nothing(_))));
    assert_eq!((attestor().called_for)(&world), None);
}

/// Cuts, doubles and changes parts of real files: nothing panics, and what is no longer whole is told or read.
#[test]
fn damaged_files_are_read_or_told() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/pins");
    let files = [
        ("github/repository/.github/workflows/build.yml", ".github/workflows/w.yml"),
        ("gitlab/repository/.gitlab-ci.yml", ".gitlab-ci.yml"),
        ("dockerfile/repository/Dockerfile", "Dockerfile"),
    ];
    let job = Job::new("jobs: {}\n");
    let env = [
        ("GITHUB_ACTIONS", "true"),
        ("GITHUB_WORKFLOW", "w.yml"),
        ("GITLAB_CI", "true"),
        ("GITHUB_WORKSPACE", "{root}"),
    ];
    let mut seed: u64 = 0x5eed;
    let mut next = |below: usize| {
        // The generator of Knuth's MMIX.
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(seed >> 33).expect("31 bits") % below.max(1)
    };
    for (from, to) in files {
        let whole = std::fs::read(folder.join(from)).expect("a fixture");
        for _ in 0..150 {
            let mut bytes = whole.clone();
            for _ in 0..=next(4) {
                let (at, length) = (next(bytes.len()), next(40));
                let end = (at + length).min(bytes.len());
                match next(5) {
                    0 => bytes.truncate(at),
                    1 => drop(bytes.drain(at..end)),
                    2 => {
                        let part = bytes[at..end].to_vec();
                        let to = next(bytes.len());
                        bytes.splice(to..to, part);
                    }
                    _ if bytes.is_empty() => {}
                    3 => bytes[at] = b"{}[]&*!|>'\"%@`#:-?,\n\t\\$<= \xff\0"[next(27)],
                    _ => bytes.insert(at, b"{}[]&*!|>'\"%@`#:-?,\n\t\\$<= \xc3\r"[next(27)]),
                }
            }
            job.write(to, &bytes);
            let case = Job::case(&env, &["docker", "build", "."]);
            let found = predicate(run(&world(&job.root(), &case)));
            let count = |name: &str| found[name].as_array().map_or(0, Vec::len);
            assert!(count("files") + count("gaps") >= 2, "{found}");
        }
        job.write(to, &whole);
    }
}
