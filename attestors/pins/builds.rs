//! The Dockerfile of a container build that the command line asks for.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use affiant_core::attestor::Before;

use super::collector::{At, Build, Collector, Kind};
use super::files::plain;
use super::reference;
use crate::container_command::{self, Action, Command, Program};

/// Options of `docker build`, buildx, podman, nerdctl and buildah that take a value as a word of its own.
const WITH_VALUE: &[&str] = &[
    "--add-host",
    "--allow",
    "--annotation",
    "--arch",
    "--attest",
    "--authfile",
    "--blkio-weight",
    "--build-arg",
    "--build-arg-file",
    "--build-context",
    "--builder",
    "--cache-from",
    "--cache-ttl",
    "--cache-to",
    "--call",
    "--cap-add",
    "--cap-drop",
    "--cert-dir",
    "--cgroup-parent",
    "--cgroupns",
    "--compress-level",
    "--cpp-flag",
    "--cpu-period",
    "--cpu-quota",
    "--cpu-shares",
    "-c",
    "--cpuset-cpus",
    "--cpuset-mems",
    "--creds",
    "--decryption-key",
    "--device",
    "--dns",
    "--dns-option",
    "--dns-search",
    "--env",
    "--file",
    "-f",
    "--format",
    "--from",
    "--group-add",
    "--hooks-dir",
    "--iidfile",
    "--ignorefile",
    "--ipc",
    "--isolation",
    "--jobs",
    "--label",
    "-l",
    "--layer-label",
    "--logfile",
    "--manifest",
    "--memory",
    "-m",
    "--memory-swap",
    "--metadata-file",
    "--network",
    "--no-cache-filter",
    "--os",
    "--os-feature",
    "--os-version",
    "--output",
    "-o",
    "--pid",
    "--platform",
    "--policy",
    "--progress",
    "--retry",
    "--retry-delay",
    "--runtime",
    "--runtime-flag",
    "--sbom-output",
    "--secret",
    "--security-opt",
    "--shm-size",
    "--sign-by",
    "--ssh",
    "--tag",
    "-t",
    "--target",
    "--timestamp",
    "--ulimit",
    "--unsetenv",
    "--unsetlabel",
    "--userns",
    "--userns-gid-map",
    "--userns-uid-map",
    "--uts",
    "--variant",
    "--volume",
    "-v",
];

/// The container commands of the command line.
fn commands(world: &Before) -> Vec<Command> {
    container_command::find_with(&world.command, &|name| world.env.get(name).map(str::to_owned))
}

/// Whether a text is something that a shell would still change.
fn is_open(text: &str) -> bool {
    text.contains(['$', '`', '*', '?', '~'])
}

/// Where the Dockerfile of a build is.
enum Place {
    File(PathBuf),
    /// It is not there, or is no file; a reason.
    No(String),
    /// A repository or an archive elsewhere.
    Remote(String),
}

fn is_remote(context: &str) -> bool {
    context.contains("://") || context.starts_with("git@") || context.starts_with("github.com/")
}

fn place(world: &Before, command: &Command) -> Place {
    let Some(folder) = &command.folder else {
        return Place::No(
            "the script changes its folder in a way that cannot be followed; name it with `--workingdir`".to_owned(),
        );
    };
    let here = world.dir.join(folder);
    let (context, file) = if command.program == Program::Buildctl {
        let local = |wanted: &str| {
            let all = command.values(&["--local"]).into_iter();
            all.filter_map(|pair| pair.split_once('=')).find(|(name, _)| *name == wanted).map(|(_, folder)| folder)
        };
        let options = command.values(&["--opt"]);
        let named = options.iter().find_map(|pair| pair.strip_prefix("filename="));
        let Some(folder) = local("dockerfile").or_else(|| local("context")) else {
            return Place::No("`buildctl` is given no folder with a Dockerfile".to_owned());
        };
        (Some(folder), Some(format!("{folder}/{}", named.unwrap_or("Dockerfile"))))
    } else {
        // Redirections of a script stand among the words.
        let is_redirected =
            |word: &&str| word.trim_start_matches(|digit: char| digit.is_ascii_digit()).starts_with(['<', '>']);
        let operands = command.operands(WITH_VALUE).into_iter();
        let context = operands.take_while(|word| !is_redirected(word)).last();
        (context, command.values(&["--file", "-f"]).pop().map(str::to_owned))
    };
    if let Some(context) = context.filter(|context| is_remote(context)) {
        return Place::Remote(context.to_owned());
    }
    if file.as_deref() == Some("-") || (context == Some("-") && file.is_none()) {
        return Place::No("it comes from standard input".to_owned());
    }
    if let Some(file) = file {
        if is_open(&file) {
            return Place::No(format!("`{file}` is known only when the script runs"));
        }
        if is_remote(&file) {
            return Place::No(format!("`{file}` lies elsewhere"));
        }
        let file = here.join(file);
        return if file.is_file() {
            Place::File(plain(&file))
        } else {
            Place::No(format!("{} is not there", file.display()))
        };
    }
    let context = context.unwrap_or(".");
    if is_open(context) {
        return Place::No(format!("`{context}` is known only when the script runs"));
    }
    let podman = matches!(command.program, Program::Podman | Program::Buildah);
    let names: &[&str] = if podman { &["Containerfile", "Dockerfile"] } else { &["Dockerfile", "dockerfile"] };
    match names.iter().map(|name| here.join(context).join(name)).find(|file| file.is_file()) {
        Some(file) => Place::File(plain(&file)),
        None => Place::No(format!("no Dockerfile is in `{context}`")),
    }
}

/// The first build whose Dockerfile is there, by name.
pub(super) fn called_for(world: &Before) -> Option<String> {
    let builds = commands(world).into_iter().filter(|command| command.action == Action::Build);
    builds.filter(|command| !matches!(place(world, command), Place::No(_))).map(|command| command.name()).next()
}

/// Notes the Dockerfiles of all builds. Whether there was a build.
pub(super) fn collect(collector: &mut Collector<'_>, world: &Before) -> bool {
    let mut any = false;
    for command in commands(world) {
        let at = At::outside(&command.name());
        match command.action {
            Action::Build => {
                any = true;
                build(collector, world, &command, &at);
            }
            Action::Bake | Action::Compose => {
                any = true;
                let reason = "what it builds stands in files that affiant does not read";
                collector.gap(Some(&at), "unsupported", reason);
            }
            _ => {}
        }
    }
    any
}

fn build(collector: &mut Collector<'_>, world: &Before, command: &Command, at: &At) {
    let mut args: BTreeMap<String, Option<String>> = BTreeMap::new();
    let options = command.values(&["--opt"]);
    let given = if command.program == Program::Buildctl {
        options.iter().filter_map(|pair| pair.strip_prefix("build-arg:")).collect()
    } else {
        command.values(&["--build-arg"])
    };
    for pair in given {
        let (name, value) = match pair.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            // Without a value it is that of the environment.
            None => (pair, world.env.get(pair).map(str::to_owned)),
        };
        args.insert(name.to_owned(), value.filter(|value| !value.contains(['$', '`'])));
    }
    if !command.values(&["--build-arg-file"]).is_empty() {
        collector.gap(Some(at), "unsupported", "`--build-arg-file` is not read");
    }
    if let Some(image) = args.get("BUILDKIT_SYNTAX") {
        let image = image.as_deref().unwrap_or("$BUILDKIT_SYNTAX");
        collector.pin(at.clone(), Kind::Frontend, image, None, reference::image(image));
    }
    if let Some(image) = options.iter().find_map(|pair| pair.strip_prefix("source=")) {
        collector.pin(at.clone(), Kind::Frontend, image, None, reference::image(image));
    }
    for image in command.values(&["--from"]) {
        if matches!(command.program, Program::Podman | Program::Buildah) {
            collector.pin(at.clone(), Kind::Base, image, None, reference::image(image));
        }
    }
    let mut contexts = BTreeSet::new();
    for pair in command.values(&["--build-context"]) {
        let Some((name, value)) = pair.split_once('=') else { continue };
        contexts.insert(name.to_ascii_lowercase());
        if let Some(image) = value.strip_prefix("docker-image://") {
            collector.pin(at.clone(), Kind::Base, image, None, reference::image(image));
        } else if is_remote(value) && !value.starts_with("oci-layout://") {
            collector.pin(at.clone(), Kind::Context, value, None, reference::context(value));
        } else if value.contains(['$', '`']) {
            collector.pin(at.clone(), Kind::Context, value, None, reference::Said::default());
        }
    }
    match place(world, command) {
        Place::File(path) => {
            let name = collector.repository.name_of(&path);
            collector.dockerfile(Build { name, path: Some(path), args, contexts }, at.clone());
        }
        Place::No(reason) => collector.gap(Some(at), "missing", format!("the Dockerfile was not read: {reason}")),
        Place::Remote(context) => {
            collector.pin(at.clone(), Kind::Context, &context, None, reference::context(&context));
            collector.gap(Some(at), "elsewhere", format!("the Dockerfile lies in {context} and was not read"));
        }
    }
}

/// The folder of the repository that the environment names, and in which the command runs.
pub(super) fn root(world: &Before) -> Option<&Path> {
    ["GITHUB_WORKSPACE", "CI_PROJECT_DIR"]
        .iter()
        .filter_map(|name| world.env.get(name))
        .map(Path::new)
        .find(|path| path.is_absolute() && path.is_dir())
}
