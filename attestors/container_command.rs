//! What a command line says about containers: builds, pushes, and whether the work is done by a daemon.
//!
//! The scan is tolerant: it looks through wrappers (`sudo`, `env A=b`, `timeout 10`) and into `sh -c "…"`, and takes
//! what it cannot understand for no container command. It never decides what happened, only what to look for.

use std::ffi::OsString;
use std::iter::Peekable;
use std::str::Chars;

/// Shells within shells that are looked into.
const DEPTH_LIMIT: usize = 4;
/// Longest script that is looked into, in bytes.
const SCRIPT_LIMIT: usize = 1 << 20;

/// Programs that run the rest of their words.
const WRAPPERS: &[&str] = &[
    "sudo",
    "doas",
    "env",
    "nice",
    "ionice",
    "time",
    "timeout",
    "nohup",
    "setsid",
    "stdbuf",
    "xargs",
    "exec",
    "command",
    "chronic",
    "unbuffer",
    "caffeinate",
    "strace",
    "ltrace",
    "retry",
    "systemd-run",
    "busybox",
];
/// Programs that run a script after `-c`.
const SHELLS: &[&str] = &["sh", "bash", "dash", "ash", "zsh", "ksh", "fish"];
/// Words that stand before a command in a script.
const KEYWORDS: &[&str] = &["if", "then", "else", "elif", "do", "while", "until", "!", "{", "("];

/// The programs that are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// `docker`, and `docker-buildx` or `docker-compose` as programs of their own.
    Docker,
    /// `podman`.
    Podman,
    /// `nerdctl`.
    Nerdctl,
    /// `buildah`.
    Buildah,
    /// `buildctl`, the client of a `BuildKit` daemon.
    Buildctl,
    /// `skopeo`.
    Skopeo,
}

/// What a container command does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Builds an image.
    Build,
    /// Builds what a bake file says.
    Bake,
    /// Builds what a compose file says.
    Compose,
    /// Sends an image to a registry.
    Push,
    /// Gives an image one more name.
    Tag,
    /// Writes images to an archive.
    Save,
    /// Copies an image from place to place.
    Copy,
    /// Anything else.
    Other,
}

/// A container command.
#[derive(Clone, Debug)]
pub struct Command {
    /// The program.
    pub program: Program,
    /// What it does.
    pub action: Action,
    /// Whether `buildx` was named.
    pub buildx: bool,
    /// Whether the work is done by another process that we do not see, and how the client is called.
    pub client_of_daemon: Option<&'static str>,
    /// The words after the subcommand.
    pub words: Vec<String>,
    /// Where it runs, relative to where the command line does; `None` where that cannot be told.
    pub folder: Option<String>,
}

/// How a client is called whose work is done by a daemon, for the observation level `client-only`. `None`: the command
/// does its work itself, or is not known.
pub fn talks_to_daemon(command: &[OsString]) -> Option<&'static str> {
    find(command).into_iter().find_map(|command| command.client_of_daemon)
}

/// The container commands in a command line, in their order.
pub fn find(command: &[OsString]) -> Vec<Command> {
    find_with(command, &|_| None)
}

/// The same; `$NAME` and `${NAME}` in scripts are the values that `variable` gives. What it does not know stays as it is
/// written, and so does every other expansion.
pub fn find_with(command: &[OsString], variable: Variables<'_>) -> Vec<Command> {
    let words: Vec<String> = command.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let mut found = Vec::new();
    scan(&words, variable, 0, Some(&String::new()), &mut found);
    found
}

/// The variables that a script is run with.
type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

fn base(word: &str) -> &str {
    let name = word.rsplit('/').next().unwrap_or(word);
    name.strip_suffix(".exe").unwrap_or(name)
}

/// Where a script runs after `cd`.
fn moved(folder: Option<&str>, words: &[String]) -> Option<String> {
    match words {
        [to] if !to.contains(['$', '`', '*', '?', '[', '~']) && !to.starts_with('-') => {
            let before = folder?;
            Some(if to.starts_with('/') || before.is_empty() { to.clone() } else { format!("{before}/{to}") })
        }
        _ => None,
    }
}

/// Whether a script's commands run one after the other in one shell, so that a `cd` holds for what follows.
fn is_plain(script: &str) -> bool {
    let branches = script.split_whitespace().any(|word| {
        matches!(word, "if" | "for" | "while" | "until" | "case" | "function" | "{" | "popd" | "eval" | "exec")
    });
    !branches && !script.contains("<<") && !script.replace("&&", ";").contains(['(', ')', '|', '&', '`'])
}

fn scan(words: &[String], variable: Variables<'_>, depth: usize, folder: Option<&String>, found: &mut Vec<Command>) {
    let mut words = words;
    while let Some((first, rest)) = words.split_first() {
        let name = base(first);
        if KEYWORDS.contains(&name) || is_assignment(first) {
            words = rest;
        } else if WRAPPERS.contains(&name) {
            // Options of wrappers may take values: the first word that is known is the program.
            let next = rest.iter().position(|word| {
                let name = base(word);
                program(name).is_some() || SHELLS.contains(&name) || WRAPPERS.contains(&name)
            });
            let Some(next) = next else { return };
            words = &rest[next..];
        } else if SHELLS.contains(&name) {
            let flag =
                rest.iter().position(|word| word.starts_with('-') && !word.starts_with("--") && word.contains('c'));
            if let Some(script) = flag.and_then(|flag| rest.get(flag + 1))
                && depth < DEPTH_LIMIT
                && script.len() <= SCRIPT_LIMIT
            {
                let moves = script
                    .split(|c: char| !c.is_alphanumeric() && !"-_./".contains(c))
                    .any(|word| matches!(word, "cd" | "pushd"));
                let mut folder = if moves && !is_plain(script) { None } else { folder.cloned() };
                for command in split(script, variable) {
                    match command.split_first() {
                        Some((cd, rest)) if matches!(cd.as_str(), "cd" | "pushd") => {
                            folder = moved(folder.as_deref(), rest);
                        }
                        _ => scan(&command, variable, depth + 1, folder.as_ref(), found),
                    }
                }
            }
            return;
        } else {
            if let Some(program) = program(name) {
                found.push(Command { folder: folder.cloned(), ..Command::read(program, name, rest) });
            }
            return;
        }
    }
}

fn is_assignment(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, _)| {
        !name.is_empty()
            && !name.starts_with(|first: char| first.is_ascii_digit())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    })
}

fn program(name: &str) -> Option<Program> {
    Some(match name {
        "docker" | "docker-buildx" | "buildx" | "docker-compose" => Program::Docker,
        "podman" | "podman-remote" => Program::Podman,
        "nerdctl" => Program::Nerdctl,
        "buildah" => Program::Buildah,
        "buildctl" => Program::Buildctl,
        "skopeo" => Program::Skopeo,
        _ => return None,
    })
}

impl Command {
    fn read(program: Program, name: &str, words: &[String]) -> Self {
        // Options of the program itself that take a value as a word of its own.
        let with_value: &[&str] = match program {
            Program::Podman => {
                &["--url", "--connection", "-c", "--log-level", "--root", "--runroot", "--storage-driver"]
            }
            Program::Buildctl => &["--addr", "--tlscacert", "--tlscert", "--tlskey", "--tlsservername", "--timeout"],
            Program::Nerdctl => &["--namespace", "-n", "--address", "-a", "--host", "-H", "--snapshotter"],
            _ => &[
                "--context",
                "-c",
                "--host",
                "-H",
                "--config",
                "--log-level",
                "-l",
                "--tlscacert",
                "--tlscert",
                "--tlskey",
                "--builder",
                "--file",
                "-f",
                "--project-name",
                "-p",
                "--profile",
                "--env-file",
                "--project-directory",
            ],
        };
        let mut remote = name == "podman-remote";
        let (mut at, mut path): (usize, Vec<&str>) = (0, Vec::new());
        match name {
            "docker-buildx" | "buildx" => path.push("buildx"),
            "docker-compose" => path.push("compose"),
            _ => {}
        }
        while let Some(word) = words.get(at) {
            at += 1;
            if let Some(option) = word.strip_prefix('-') {
                remote |= matches!(option, "-remote" | "r" | "-remote=true")
                    || option.starts_with("-url")
                    || option.starts_with("-connection");
                if with_value.contains(&word.as_str()) {
                    at += 1;
                }
                continue;
            }
            path.push(word);
            let group = matches!(path.as_slice(), ["buildx" | "builder" | "image" | "compose" | "manifest"]);
            if !group {
                break;
            }
        }
        let (buildx, action) = match path.as_slice() {
            ["build" | "bud"] => (false, Action::Build),
            ["buildx" | "builder" | "image", "build" | "b"] => (path[0] == "buildx", Action::Build),
            ["buildx", "bake" | "f"] | ["bake"] => (true, Action::Bake),
            ["compose", "build" | "up" | "create"] => (false, Action::Compose),
            ["push"] | ["image" | "manifest", "push"] => (false, Action::Push),
            ["tag"] | ["image", "tag"] => (false, Action::Tag),
            ["save"] | ["image", "save"] => (false, Action::Save),
            ["copy"] if program == Program::Skopeo => (false, Action::Copy),
            _ => (false, Action::Other),
        };
        let client_of_daemon = match program {
            Program::Docker => Some(match path.first() {
                Some(&"buildx" | &"bake") => "docker buildx",
                Some(&"compose") => "docker compose",
                _ => "docker",
            }),
            Program::Podman => remote.then_some("podman --remote"),
            Program::Nerdctl => Some("nerdctl"),
            Program::Buildctl => Some("buildctl"),
            Program::Buildah | Program::Skopeo => None,
        };
        Self { program, action, buildx, client_of_daemon, words: words[at..].to_vec(), folder: None }
    }

    /// How the command is called in messages.
    pub fn name(&self) -> String {
        let program = match self.program {
            Program::Docker if self.buildx => "docker buildx",
            Program::Docker if self.action == Action::Compose => "docker compose",
            Program::Docker => "docker",
            Program::Podman => "podman",
            Program::Nerdctl => "nerdctl",
            Program::Buildah => "buildah",
            Program::Buildctl => "buildctl",
            Program::Skopeo => "skopeo",
        };
        let action = match self.action {
            Action::Build | Action::Compose => "build",
            Action::Bake => "bake",
            Action::Push => "push",
            Action::Tag => "tag",
            Action::Save => "save",
            Action::Copy => "copy",
            Action::Other => return program.to_owned(),
        };
        format!("{program} {action}")
    }

    /// The values of an option given by its names, in their order: `-t x`, `-tx`, `--tag x`, `--tag=x`.
    pub fn values(&self, names: &[&str]) -> Vec<&str> {
        let mut values = Vec::new();
        let mut words = self.words.iter();
        while let Some(word) = words.next() {
            for name in names {
                if word == name {
                    values.extend(words.next().map(String::as_str));
                    break;
                }
                let Some(rest) = word.strip_prefix(name) else { continue };
                if let Some(value) = rest.strip_prefix('=') {
                    values.push(value);
                    break;
                }
                if !name.starts_with("--") && !word.starts_with("--") {
                    values.push(rest);
                    break;
                }
            }
        }
        values
    }

    /// Whether a flag is given, and not as `=false`.
    pub fn flag(&self, names: &[&str]) -> bool {
        self.words.iter().any(|word| {
            names.iter().any(|name| {
                word == name
                    || word
                        .strip_prefix(name)
                        .and_then(|rest| rest.strip_prefix('='))
                        .is_some_and(|value| !matches!(value, "false" | "0"))
            })
        })
    }

    /// The words that are no options, given the options that take a value as a word of their own.
    pub fn operands(&self, with_value: &[&str]) -> Vec<&str> {
        let mut operands = Vec::new();
        let mut words = self.words.iter();
        while let Some(word) = words.next() {
            if word == "--" {
                operands.extend(words.map(String::as_str));
                break;
            }
            if !word.starts_with('-') || word == "-" {
                operands.push(word.as_str());
            } else if with_value.contains(&word.as_str()) {
                words.next();
            }
        }
        operands
    }
}

/// Splits a shell script into simple commands: quotes, escapes, comments and operators are known, and variables by their
/// names alone.
fn split(script: &str, variable: Variables<'_>) -> Vec<Vec<String>> {
    let (mut commands, mut words, mut word) = (Vec::new(), Vec::new(), None::<String>);
    let mut chars = script.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\'' => {
                let word = word.get_or_insert_default();
                word.extend(chars.by_ref().take_while(|&c| c != '\''));
            }
            '"' => {
                let word = word.get_or_insert_default();
                while let Some(c) = chars.next() {
                    match c {
                        '"' => break,
                        '\\' => word.extend(chars.next().filter(|&c| c != '\n')),
                        '$' => word.push_str(&expanded(&mut chars, variable)),
                        c => word.push(c),
                    }
                }
            }
            '\\' => match chars.next() {
                Some('\n') | None => {}
                Some(c) => word.get_or_insert_default().push(c),
            },
            '$' => {
                let value = expanded(&mut chars, variable);
                word.get_or_insert_default().push_str(&value);
            }
            '#' if word.is_none() => while chars.next_if(|&c| c != '\n').is_some() {},
            c if c.is_whitespace() && c != '\n' => words.extend(word.take()),
            '\n' | ';' | '&' | '|' | '(' | ')' | '`' => {
                // `2>&1` and `&>` are redirections: what they cut off is no command that is known.
                words.extend(word.take());
                if !words.is_empty() {
                    commands.push(std::mem::take(&mut words));
                }
            }
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    if !words.is_empty() {
        commands.push(words);
    }
    commands
}

/// What stands behind a `$`: the value of the variable, or the text as it is.
fn expanded(chars: &mut Peekable<Chars<'_>>, variable: Variables<'_>) -> String {
    let braced = chars.next_if_eq(&'{').is_some();
    let mut name = String::new();
    while let Some(c) = chars.next_if(|&c| c == '_' || c.is_ascii_alphanumeric()) {
        name.push(c);
    }
    let closed = braced && chars.next_if_eq(&'}').is_some();
    let is_name = !name.is_empty() && !name.starts_with(|first: char| first.is_ascii_digit()) && braced == closed;
    match variable(&name).filter(|_| is_name) {
        Some(value) => value,
        None => format!("${}{name}{}", if braced { "{" } else { "" }, if closed { "}" } else { "" }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &[&str]) -> Vec<OsString> {
        line.iter().map(OsString::from).collect()
    }

    #[test]
    fn a_script_is_followed_into_folders_where_it_is_plain() {
        for (script, expected) in [
            ("docker build .", &[Some("")][..]),
            ("cd app && docker build . && cd b/c; docker build .", &[Some("app"), Some("app/b/c")]),
            ("cd app\ncd /x\ndocker build . < in", &[Some("/x")]),
            ("docker build .; cd $X; docker build .", &[Some(""), None]),
            ("cd; docker build .", &[None]),
            ("cd -; docker build .", &[None]),
            ("cd a b; docker build .", &[None]),
            ("(cd app; true); docker build .", &[None]),
            ("cd app || true; docker build .", &[None]),
            ("for a in b c; do docker build .; cd ..; done", &[None]),
            ("if true; then cd app; fi; docker build .", &[None]),
            ("cat <<X\ncd app\nX\ndocker build .", &[None]),
            ("cd app; sh -c 'cd b; docker build .'; docker build .", &[Some("app/b"), Some("app")]),
        ] {
            let found: Vec<_> = find(&words(&["sh", "-c", script])).into_iter().map(|command| command.folder).collect();
            let expected: Vec<_> = expected.iter().map(|folder| folder.map(str::to_owned)).collect();
            assert_eq!(found, expected, "{script}");
        }
    }

    #[test]
    fn clients_of_a_daemon() {
        let table: &[(&[&str], Option<&str>)] = &[
            (&["docker", "build", "."], Some("docker")),
            (&["/usr/bin/docker", "version"], Some("docker")),
            (&["docker", "buildx", "build", "."], Some("docker buildx")),
            (&["docker", "--context", "build", "buildx", "bake"], Some("docker buildx")),
            (&["docker-buildx", "bake"], Some("docker buildx")),
            (&["docker", "compose", "-f", "a.yml", "build"], Some("docker compose")),
            (&["docker-compose", "build"], Some("docker compose")),
            (&["buildctl", "--addr", "tcp://x", "build"], Some("buildctl")),
            (&["nerdctl", "build", "."], Some("nerdctl")),
            (&["podman", "build", "."], None),
            (&["podman", "--remote", "build", "."], Some("podman --remote")),
            (&["podman-remote", "build", "."], Some("podman --remote")),
            (&["buildah", "bud", "."], None),
            (&["sudo", "-u", "ci", "docker", "push", "a"], Some("docker")),
            (&["env", "A=docker", "B=c", "make"], None),
            (&["env", "A=b", "docker", "build"], Some("docker")),
            (&["timeout", "10m", "nice", "-n", "5", "docker", "build"], Some("docker")),
            (&["sh", "-c", "cd app && docker build ."], Some("docker")),
            (&["bash", "-euxc", "set -e; if true; then DOCKER_BUILDKIT=1 docker build .; fi"], Some("docker")),
            (&["sh", "-c", "echo 'docker build'"], None),
            (&["sh", "-c", "echo hi # docker build"], None),
            (&["sh", "-c", "bash -c \"docker build .\""], Some("docker")),
            (&["sh", "build.sh"], None),
            (&["echo", "docker", "build"], None),
            (&["make"], None),
            (&[], None),
        ];
        for (line, want) in table {
            assert_eq!(talks_to_daemon(&words(line)), *want, "{line:?}");
        }
    }

    #[test]
    fn variables_of_a_script_have_their_values() {
        let values = |name: &str| match name {
            "IMAGE" => Some("app:1".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        let tags = |script: &str| -> Vec<String> {
            let found = find_with(&words(&["bash", "-c", script]), &values);
            found.iter().flat_map(|one| one.values(&["-t"])).map(str::to_owned).collect()
        };
        for (script, tag) in [
            ("docker build -t $IMAGE .", "app:1"),
            ("docker build -t \"${IMAGE}-x$EMPTY\" .", "app:1-x"),
            ("docker build -t '$IMAGE' .", "$IMAGE"),
            ("docker build -t \\$IMAGE .", "$IMAGE"),
            ("docker build -t \"\\$IMAGE\" .", "$IMAGE"),
            ("docker build -t $OTHER .", "$OTHER"),
            ("docker build -t ${IMAGE:-x} .", "${IMAGE:-x}"),
            ("docker build -t $1$ .", "$1$"),
            ("sh -c 'docker build -t $IMAGE .'", "app:1"),
        ] {
            assert_eq!(tags(script), [tag], "{script}");
        }
        // Words of a command line are not expanded by anybody.
        let plain = find_with(&words(&["docker", "build", "-t", "$IMAGE", "."]), &values);
        assert_eq!(plain[0].values(&["-t"]), ["$IMAGE"]);
    }

    #[test]
    fn actions_and_options() {
        let one = |line: &[&str]| find(&words(line)).into_iter().next().expect("a container command");
        let build =
            one(&["docker", "-H", "x", "build", "-t", "a:1", "-tb:2", "--tag=c:3", "--tag", "d:4", "--push", "."]);
        assert_eq!(build.action, Action::Build);
        assert_eq!(build.values(&["-t", "--tag"]), ["a:1", "b:2", "c:3", "d:4"]);
        assert!(build.flag(&["--push"]) && !build.flag(&["--load"]));
        let bake = one(&["docker", "buildx", "--builder", "b", "bake", "--metadata-file", "m.json", "--load=false"]);
        assert_eq!((bake.action, bake.name().as_str()), (Action::Bake, "docker buildx bake"));
        assert_eq!(bake.values(&["--metadata-file"]), ["m.json"]);
        assert!(!bake.flag(&["--load"]));
        let push = one(&["docker", "image", "push", "-q", "--platform", "linux/arm64", "r/a:1"]);
        assert_eq!((push.action, push.operands(&["--platform"])), (Action::Push, vec!["r/a:1"]));
        assert_eq!(one(&["docker", "builder", "prune"]).action, Action::Other);
        assert_eq!(one(&["skopeo", "copy", "docker://a", "oci:b"]).action, Action::Copy);
        let two = find(&words(&["sh", "-c", "docker build -t a . && docker push \\\n a"]));
        assert_eq!(two.iter().map(|command| command.action).collect::<Vec<_>>(), [Action::Build, Action::Push]);
        assert_eq!(two[1].operands(&[]), ["a"]);
    }
}
