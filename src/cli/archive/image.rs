//! `affiant archive find --image`: the evidence about an image, as files that `verify --attestations` takes.
//!
//! The image is resolved once. Its manifest, the entries of its index and the configs are looked up, and then what the
//! evidence refers back to, as `bundle create` does: a gate that is handed these files can follow a chain.

use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use affiant_core::bundle::MAX_ENVELOPES;
use affiant_core::image::platforms::members_there;
use affiant_core::image::{Descriptor, Digest, Platform, RepositoryError};
use affiant_core::outfile::Outfile;
use affiant_core::store::{Found, ObjectId, SubjectDigest};
use affiant_core::verify::Source;
use serde_json::json;

use super::{FindArgs, Format, Place};
use crate::cli::Ending;
use crate::cli::bundle::walk;
use crate::cli::failure::{Failure, Kind};
use crate::cli::image::{TargetArgs, no_answer};
use crate::cli::output::{Output, one_line};
use crate::cli::places;

/// Rounds of back-references, as many as `bundle create` goes.
const MAX_ROUNDS: usize = 5;

/// The digests by which evidence about an image may name it.
fn digests(targets: &TargetArgs, name: &str, output: &Output) -> Result<Vec<SubjectDigest>, Failure> {
    let image = targets.source(name)?;
    let failed = |error: RepositoryError| no_answer(name, &error);
    let root = image.repository.manifest(&image.at).map_err(failed)?;
    let root = root.ok_or_else(|| {
        Failure::new(Kind::NoAnswer, format!("{name} is not there"))
            .hint("is the name right, and was the image pushed?")
    })?;
    // What an index says of a build is no image.
    let key = |entry: &Descriptor| {
        let is_known = !entry.platform.as_ref().is_some_and(Platform::is_unknown);
        is_known.then(|| entry.digest.clone())
    };
    let mut absent = Vec::new();
    let there = members_there(&*image.repository, &root, key, |entry| {
        output.message(&format!("note: {} of the index is not there, and not asked for its config", entry.digest));
        absent.push(entry.digest);
        Ok(())
    });
    let digests = there.map_err(failed)?.into_iter().flat_map(|one| {
        let config = one.manifest.config.map(|config| config.digest);
        std::iter::once(one.stored.digest().clone()).chain(config)
    });
    let order: Vec<Digest> = digests.chain(absent).collect();
    let seed = |digest: Digest| SubjectDigest { algorithm: Some("sha256".to_owned()), value: digest.hex().to_owned() };
    Ok(order.into_iter().map(seed).collect())
}

/// Prints the files of the evidence about an image; 3 where there is none.
pub(super) fn find(args: &FindArgs, name: &str, place: &Place, output: &Output) -> Result<Ending, Failure> {
    let seeds = digests(&args.targets, name, output)?;
    let source: &dyn Source = match place {
        Place::Folder(archive) => archive,
        Place::Server(server) => &**server,
    };
    let found = walk(&[source], seeds, MAX_ENVELOPES, MAX_ROUNDS)?;
    files(args, found.into_iter().map(|(name, bytes)| (name.clone(), Ok(bytes))), place, output)
}

/// Prints where envelopes lie: in the archive's folder, or in the one into which they are copied. They are read one after
/// the other until there are enough; one that cannot be read is passed over with a message.
pub(super) fn files(
    args: &FindArgs,
    envelopes: impl Iterator<Item = (String, Result<Vec<u8>, String>)>,
    place: &Place,
    output: &Output,
) -> Result<Ending, Failure> {
    let mut listed = Vec::new();
    let mut into = None;
    let mut passed_over = 0;
    let is_enough = |count: usize| args.shown.limit.is_some_and(|limit| count >= limit);
    let mut envelopes = envelopes;
    while !is_enough(listed.len()) {
        let Some((name, read)) = envelopes.next() else { break };
        let read = read.and_then(|bytes| {
            let found = Found::read(&bytes);
            found.map(|found| (found, bytes)).map_err(|reason| format!("no evidence: {reason}"))
        });
        let (found, bytes) = match read {
            Ok(read) => read,
            Err(reason) => {
                output.message(&one_line(&format!("passed over: {name} of {}: {reason}", place.name())));
                passed_over += 1;
                continue;
            }
        };
        let is_wanted =
            |wanted: &Option<String>, has: Option<&str>| wanted.as_deref().is_none_or(|one| has == Some(one));
        let fits = is_wanted(&args.step, found.step())
            && is_wanted(&args.predicate_type, found.predicate_type())
            && args.attestation_type.as_deref().is_none_or(|wanted| found.has_type(wanted));
        if !fits {
            continue;
        }
        let id = ObjectId::of(&bytes);
        let path = if let (Place::Folder(archive), None) = (place, &args.into) {
            archive.path(&id)
        } else {
            if into.is_none() {
                into = Some(folder(args.into.as_deref())?);
            }
            let path = into.clone().unwrap_or_default().join(format!("{}.json", id.hex()));
            write(&path, &bytes)?;
            path
        };
        listed.push((path, id, found.step().map(str::to_owned), found.predicate_type().map(str::to_owned)));
    }
    if let Some((path, ..)) = listed.iter().find(|(path, ..)| path.to_string_lossy().contains([',', '\n'])) {
        output.message(&format!(
            "warning: {} cannot stand in a list with commas; copy the files elsewhere with `--into DIR`",
            path.display()
        ));
    }
    if matches!(args.shown.output, Format::Json) {
        let list: Vec<_> = listed
            .iter()
            .map(|(path, id, step, kind)| {
                json!({ "path": path.display().to_string(), "digest": id, "step": step, "predicateType": kind })
            })
            .collect();
        output.data(format!("{:#}\n", json!(list)).as_bytes())?;
    } else {
        let text: String = listed.iter().map(|(path, ..)| one_line(&path.display().to_string()) + "\n").collect();
        output.data(text.as_bytes())?;
    }
    if listed.is_empty() && passed_over > 0 {
        return Err(Failure::new(Kind::NoAnswer, format!("none of the {passed_over} envelopes can be read")));
    }
    if listed.is_empty() {
        output.message("nothing found");
        return Ok(Ending::Code(3));
    }
    Ok(Ending::Code(0))
}

/// The folder for copies; by default one in the user's cache.
fn folder(named: Option<&Path>) -> Result<PathBuf, Failure> {
    let folder = named.map(Path::to_owned).or_else(places::fetched).ok_or_else(|| {
        Failure::new(Kind::NoAnswer, "there is no folder for the evidence: neither HOME nor AFFIANT_HOME is set")
            .hint("name it with `--into DIR`")
    })?;
    let cannot = |error: &std::io::Error| {
        Failure::because(Kind::NoAnswer, format!("the folder {} cannot be used", folder.display()), error)
    };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(|error| cannot(&error))?;
    Ok(folder)
}

/// Writes a copy that only its owner can read, unless it is there already.
fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    if std::fs::read(path).is_ok_and(|there| there == bytes) {
        return Ok(());
    }
    let message = || format!("{} cannot be written", path.display());
    Outfile::probe(path)
        .and_then(|file| file.write(bytes))
        .map_err(|error| Failure::because(Kind::NoAnswer, message(), &error))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
        .map_err(|error| Failure::because(Kind::NoAnswer, message(), &error))
}
