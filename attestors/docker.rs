//! `docker`: what a container build says of the images that it made.
//!
//! Three sources, each named beside the fact: buildx metadata files and the id and digest files that a build or push
//! was asked for, among the products; and, for a plain `docker build`, `push` or `tag` or with the option `engine`,
//! the engine's own answer for the images that the command line names.
//!
//! The predicate keeps witness's `docker/v0.1` (wire-formats §3.12); what it has no place for stands in `affiant`. With
//! `-o type=docker` the digest of the metadata is that of the manifest in the archive: a later `docker load` and
//! `docker push` may give another.

mod engine;
mod evidence;
mod metadata;

use std::collections::BTreeSet;
use std::io::{BufReader, Read};

use affiant_core::attestor::{About, After, AttestAfter, AttestError, Before, Found, OptionAbout, Outcome};
use affiant_core::product::{Product, Products};
use serde::Deserialize;

use crate::container_command::{self, Action, Command, Program};
use crate::kinds::may_be_json;
use crate::oci::is_hex64;

pub use metadata::{Descriptor, Image, Material, Metadata, Provenance};

/// Largest metadata file that is read, in bytes. Real ones have reached half a megabyte (docker/buildx#2280).
const METADATA_LIMIT: u64 = 256 << 20;
/// Largest id or digest file, in bytes: `sha256:` and 64 digits, and perhaps a name before them.
const DIGEST_FILE_LIMIT: u64 = 4096;

/// Members given twice that are listed.
const TWICE_LISTED: usize = 8;

/// Options of the attestor.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// Ask the engine whatever the command is.
    engine: bool,
}

/// The attestor.
#[derive(Debug)]
pub struct Docker;

const ABOUT: About = About {
    name: "docker",
    predicate_type: "https://witness.dev/attestations/docker/v0.1",
    summary: "Says which images a container build, push or tag made, from buildx metadata, id and digest files, and the engine's answer.",
    default_when: "when the command builds, pushes or tags an image (docker, buildx, podman, nerdctl, buildah), or a product is buildx metadata",
    subjects: &[
        "imagedigest:<hex>: digest of the image's manifest or index, as a registry names it",
        "imageid:<hex>: digest of the image's configuration",
        "imagereference:<name>: SHA-256 of the text; of the whole list and of each name where several are given",
        "materialdigest:<hex>: digest of what the build took in (base images, contexts)",
        "materialuri:<uri>: SHA-256 of the text",
    ],
    options: &[OptionAbout {
        name: "engine",
        help: "Ask the container engine for the images that the command line names (default: only after a plain build, push or tag)",
    }],
    schema: include_str!("schemas/docker.json"),
};

/// What the command line asks for.
#[derive(Debug, Default)]
struct Wanted {
    /// Paths of `--metadata-file`.
    metadata: Vec<String>,
    /// Paths of `--iidfile`.
    id_files: Vec<String>,
    /// Paths of `--digestfile`.
    digest_files: Vec<String>,
    /// Images that an engine holds afterwards.
    names: Vec<String>,
    /// Whether it may be that it does not: buildx with a builder of its own keeps the result there.
    names_in_doubt: bool,
    /// The options that asked for attestations.
    attestations: BTreeSet<String>,
    /// The first container command, for messages.
    command: Option<String>,
    /// A build by buildx that was asked for no metadata file.
    without_metadata: bool,
}

impl Wanted {
    fn of(world: &Before, engine: bool) -> Self {
        let mut wanted = Self::default();
        for command in container_command::find_with(&world.command, &|name| world.env.get(name).map(str::to_owned)) {
            if is_called_for(&command) {
                wanted.command.get_or_insert_with(|| command.name());
                wanted.without_metadata |= command.buildx
                    && matches!(command.action, Action::Build | Action::Bake)
                    && command.values(&["--metadata-file"]).is_empty();
            }
            let paths = |names: &[&str]| -> Vec<String> {
                command.values(names).into_iter().filter_map(|path| relative(world, path)).collect()
            };
            wanted.metadata.extend(paths(&["--metadata-file"]));
            wanted.id_files.extend(paths(&["--iidfile"]));
            wanted.digest_files.extend(paths(&["--digestfile"]));
            wanted.attestations.extend(attestations(&command));
            wanted.names.extend(names(&command, engine));
            wanted.names_in_doubt |= command.buildx && !command.flag(&["--load"]);
        }
        wanted.names.dedup();
        wanted
    }
}

fn is_called_for(command: &Command) -> bool {
    matches!(command.action, Action::Build | Action::Bake | Action::Compose | Action::Push | Action::Tag)
}

/// The path of a file that the command line names, relative to the working directory. `None` where a shell expands it.
fn relative(world: &Before, path: &str) -> Option<String> {
    if path.contains(['$', '`', '*', '?']) {
        return None;
    }
    let path = std::path::Path::new(path);
    let path = path.strip_prefix(&world.dir).unwrap_or(path);
    let parts: Vec<&str> = path
        .components()
        .filter(|part| !matches!(part, std::path::Component::CurDir))
        .map(|part| part.as_os_str().to_str())
        .collect::<Option<_>>()?;
    Some(parts.join("/").replace("//", "/"))
}

/// The options that ask for attestations in the image.
fn attestations(command: &Command) -> Vec<String> {
    if !matches!(command.action, Action::Build | Action::Bake) {
        return Vec::new();
    }
    let mut asked = Vec::new();
    for name in ["--provenance", "--sbom", "--attest"] {
        let off = |value: &&str| !matches!(*value, "false" | "0" | "mode=none");
        let given = command.words.iter().any(|word| word == name && name != "--attest")
            || command.values(&[name]).iter().any(|value| off(value) && !value.contains("disabled=true"));
        if given && !command.values(&[name]).iter().any(|value| !off(value)) {
            asked.push(name.to_owned());
        }
    }
    asked
}

/// The images that an engine holds after the command.
fn names(command: &Command, engine: bool) -> Vec<String> {
    const PUSH: &[&str] = &[
        "--platform",
        "--creds",
        "--cert-dir",
        "--authfile",
        "--digestfile",
        "--format",
        "-f",
        "--compression-format",
        "--compression-level",
        "--encryption-key",
        "--encrypt-layer",
        "--sign-by",
        "--sign-passphrase-file",
        "--retry",
        "--retry-delay",
    ];
    if !matches!(command.program, Program::Docker | Program::Podman | Program::Nerdctl) {
        return Vec::new();
    }
    let list: Vec<&str> = match command.action {
        Action::Build => {
            let elsewhere = !command.values(&["-o", "--output"]).is_empty() || command.flag(&["--push"]);
            let here = command.flag(&["--load"]) || !elsewhere;
            if here || engine { command.values(&["-t", "--tag"]) } else { Vec::new() }
        }
        Action::Push => command.operands(PUSH).into_iter().take(1).collect(),
        Action::Tag => command.operands(&[]).into_iter().skip(1).collect(),
        _ => Vec::new(),
    };
    list.into_iter().map(str::to_owned).collect()
}

impl AttestAfter for Docker {
    type Options = Options;
    const ABOUT: &'static About = &ABOUT;

    fn called_for(world: &Before) -> Option<String> {
        let found = container_command::find_with(&world.command, &|name| world.env.get(name).map(str::to_owned));
        let command = found.iter().find(|command| is_called_for(command))?;
        Some(format!("the command is `{}`", command.name()))
    }

    fn attest(options: Options, world: &After) -> Outcome {
        let wanted = Wanted::of(&world.before, options.engine);
        let mut facts = evidence::Facts::default();
        let mut shortfalls = Vec::new();

        let mut met = BTreeSet::new();
        for product in world.products.iter() {
            let named = is_named(&wanted.metadata, &product.path, &mut met);
            if !named && !may_be_json(product) {
                continue;
            }
            match read_metadata(&world.products, product) {
                Ok(metadata) => take_metadata(product, metadata, named, &mut facts, &mut shortfalls),
                Err(broken) => {
                    let Broken { reason, metadata } = *broken;
                    if named || metadata.is_metadata() {
                        shortfalls.push(reason);
                    }
                }
            }
        }
        for (list, id) in [(&wanted.id_files, true), (&wanted.digest_files, false)] {
            for product in world.products.iter().filter(|product| is_named(list, &product.path, &mut BTreeSet::new())) {
                match digest_file(&world.products, product) {
                    Ok(digest) if id => facts.ids.push((digest, product.path.clone())),
                    Ok(digest) => facts.digests.push((digest, product.path.clone())),
                    Err(reason) => shortfalls.push(reason),
                }
            }
        }
        if world.success {
            for path in wanted.metadata.iter().filter(|path| !met.contains(*path)) {
                shortfalls.push(format!(
                    "{path}: the metadata file that the command was asked for is not among the products"
                ));
            }
        }

        let found_before = !facts.is_empty();
        let mut why = None;
        if options.engine || !wanted.names.is_empty() {
            match &world.engine {
                None if options.engine => {
                    shortfalls.push("no container engine was found, or none may be asked here".into());
                }
                None => why = Some("no container engine was found, or none may be asked here".to_owned()),
                Some(engine) if wanted.names.is_empty() => {
                    shortfalls.push(format!("the command line names no image to ask {} for", engine.endpoint()));
                }
                Some(engine) => {
                    // After a failed command the images may rightly be missing.
                    let required = options.engine || (!found_before && world.success && !wanted.names_in_doubt);
                    let asked = engine::ask(engine.as_ref(), &wanted.names, &mut facts);
                    if required {
                        shortfalls.extend(asked);
                    } else if found_before {
                        facts.notes.extend(asked);
                    } else if !asked.is_empty() {
                        why = Some(asked.join("; "));
                    }
                }
            }
        }

        if facts.is_empty() {
            if shortfalls.is_empty() {
                let what = match facts.no_image.as_slice() {
                    [] => "no product is a buildx metadata file".to_owned(),
                    files => format!("the build made no image, by {}", files.join(", ")),
                };
                let advice = if wanted.without_metadata { "; `--metadata-file FILE` makes one" } else { "" };
                let command =
                    wanted.command.map(|command| format!(" (the command is `{command}`{advice})")).unwrap_or_default();
                let why = why.map(|why| format!(", and {why}")).unwrap_or_default();
                return Ok(Found::Nothing(format!("{what}{command}{why}")));
            }
            return Err(AttestError::new(shortfalls.join("; ")));
        }
        facts.note_missing_attestations(&wanted.attestations);
        Ok(Found::Evidence { pieces: vec![facts.evidence()], shortfalls })
    }
}

/// Whether the command line names a product; a script may have changed its folder, so the end of the path is enough.
fn is_named(list: &[String], path: &str, met: &mut BTreeSet<String>) -> bool {
    let mut named = false;
    for want in list {
        if path == want || path.strip_suffix(want.as_str()).is_some_and(|before| before.ends_with('/')) {
            met.insert(want.clone());
            named = true;
        }
    }
    named
}

/// A file that cannot be read as JSON, and what of it was read before.
struct Broken {
    reason: String,
    metadata: Metadata,
}

fn read_metadata(products: &Products, product: &Product) -> Result<Metadata, Box<Broken>> {
    let mut metadata = Metadata::default();
    let path = &product.path;
    if product.length > METADATA_LIMIT {
        let reason = format!("{path}: {} bytes, more than the limit of {METADATA_LIMIT}", product.length);
        return Err(Box::new(Broken { reason, metadata }));
    }
    let mut reader = match products.open(product) {
        Ok(reader) => reader,
        Err(error) => return Err(Box::new(Broken { reason: error.to_string(), metadata })),
    };
    let limited = (&mut reader).take(METADATA_LIMIT);
    let result = metadata.read(BufReader::with_capacity(affiant_core::digest::BUFFER, limited));
    let result = reader
        .finish()
        .map_err(|error| error.to_string())
        .and_then(|()| result.map_err(|error| format!("{path}: not the JSON of a build's metadata: {error}")));
    match result {
        Ok(()) => Ok(metadata),
        Err(reason) => Err(Box::new(Broken { reason, metadata })),
    }
}

fn take_metadata(
    product: &Product,
    metadata: Metadata,
    named: bool,
    facts: &mut evidence::Facts,
    shortfalls: &mut Vec<String>,
) {
    let path = &product.path;
    if !metadata.is_metadata() {
        if named {
            shortfalls.push(format!("{path}: has no member of a build's metadata"));
        }
        return;
    }
    if !metadata.twice.is_empty() {
        // Two readers would take two different values: none is attested.
        shortfalls.push(format!(
            "{path}: members given twice: {}",
            metadata.twice[..metadata.twice.len().min(TWICE_LISTED)].join(", ")
        ));
        return;
    }
    if metadata.cut {
        shortfalls.push(format!("{path}: too many targets; those after the first are not attested"));
    }
    let single = Some((None, metadata.single)).filter(|(_, image)| image.is_metadata());
    let targets = metadata.targets.into_iter().map(|(name, image)| (Some(name), image));
    for (target, image) in single.into_iter().chain(targets) {
        let at = target.as_ref().map(|target| format!(" (target `{target}`)")).unwrap_or_default();
        for (platform, provenance) in &image.provenance {
            if provenance.cut {
                shortfalls.push(format!("{path}{at}: provenance {platform} lists too many materials to keep them all"));
            }
        }
        match image.digest.as_deref().map(hex_of) {
            Some(Some(_)) => facts.add_image(path, target, image),
            Some(None) => shortfalls.push(format!(
                "{path}{at}: `containerimage.digest` is `{}`, which is no sha256 digest",
                image.digest.as_deref().unwrap_or_default()
            )),
            // A build with another result (`type=local`, `type=cacheonly`) has provenance and a build reference only.
            None => facts.no_image.push(format!("{path}{at}")),
        }
    }
}

/// The digest in an id or digest file.
fn digest_file(products: &Products, product: &Product) -> Result<String, String> {
    let bytes = products.read(product, DIGEST_FILE_LIMIT).map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&bytes);
    let text = text.trim();
    let digest = text.rsplit_once('@').map_or(text, |(_, digest)| digest);
    hex_of(digest).map(str::to_owned).ok_or_else(|| format!("{}: holds no sha256 digest", product.path))
}

/// The hex digits of `sha256:<hex>`.
fn hex_of(digest: &str) -> Option<&str> {
    digest.strip_prefix("sha256:").filter(|hex| is_hex64(hex))
}
