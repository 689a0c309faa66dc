//! The attestations that `BuildKit` keeps in an index, which nobody has signed.
//!
//! Source: `BuildKit`'s `docs/attestations/attestation-storage.md`. Beside the manifest of a platform lies one for the
//! platform `unknown/unknown` whose annotations name the sibling by digest; its layers are in-toto statements.

use super::attached::{IN_TOTO_TYPE, MAX_LAYER};
use super::claim::{Claim, SIGN};
use super::manifest::{Descriptor, Kind};
use super::reference::{At, Digest};
use super::repository::{Repository, RepositoryError, Stored};
use crate::evidence::Statement;
use crate::statement::PAYLOAD_TYPE;

/// The annotation of an entry that says what it is to another.
const REFERENCE_TYPE: &str = "vnd.docker.reference.type";
/// The annotation of an entry that says which sibling it is about.
const REFERENCE_DIGEST: &str = "vnd.docker.reference.digest";
/// What an entry of attestations says that it is.
const ATTESTATIONS: &str = "attestation-manifest";
/// Most bytes of all statements of an index.
const MAX_TOTAL: u64 = 512 * 1024 * 1024;

/// Whether an entry of an index is one of attestations about another.
pub fn is_attestation(entry: &Descriptor) -> bool {
    entry.annotation(REFERENCE_TYPE) == Some(ATTESTATIONS)
}

/// Why the attestations of an index are not signed.
#[derive(Debug, thiserror::Error)]
pub enum BuildKitError {
    /// The place cannot be asked, or does not have it.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// It is a single image.
    #[error("{image} is a single image, and such attestations lie in an index")]
    NoIndex {
        /// Its digest.
        image: Digest,
    },
    /// There is none.
    #[error("the index {index} has no attestations (a build makes them with --provenance=true or --sbom=true)")]
    None {
        /// Its digest.
        index: Digest,
    },
    /// An entry that is not about a sibling.
    #[error("the attestations {entry}: {reason}")]
    Entry {
        /// Its digest.
        entry: Digest,
        /// What is wrong.
        reason: String,
    },
}

/// A statement that nobody has signed, about a manifest of the same index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsigned {
    /// The manifest that it is about.
    pub about: Descriptor,
    /// Its bytes, as they lie there.
    pub statement: Vec<u8>,
    /// Type of its predicate.
    pub predicate_type: String,
    /// Where it was, for the reader.
    pub place: String,
}

/// All attestations of an index, each about one of its manifests by entry and by every subject; one that is not refuses
/// all.
pub fn unsigned(repository: &dyn Repository, index: &Stored) -> Result<Vec<Unsigned>, BuildKitError> {
    let manifest =
        index.manifest().map_err(|source| RepositoryError::Manifest { digest: index.digest().to_string(), source })?;
    if manifest.kind() != Kind::Index {
        return Err(BuildKitError::NoIndex { image: index.digest().clone() });
    }
    let is_about = |entry: &Descriptor| entry.annotation(REFERENCE_TYPE).is_some();
    let mut all = Vec::new();
    let mut total = 0_u64;
    for entry in manifest.entries().iter().filter(|entry| is_attestation(entry)) {
        let wrong = |reason: String| BuildKitError::Entry { entry: entry.digest.clone(), reason };
        let said = entry.annotation(REFERENCE_DIGEST).unwrap_or_default();
        let siblings: Vec<_> =
            manifest.entries().iter().filter(|one| one.digest.as_str() == said && !is_about(one)).collect();
        let Some(sibling) = siblings.first() else {
            return Err(wrong(format!("they are about `{}`, which is no image of the index", said.escape_debug())));
        };
        let about = repository.need(&At::Digest(sibling.digest.clone()))?.descriptor();
        let (_, attestations) = repository.need_parsed(&At::Digest(entry.digest.clone()))?;
        for layer in attestations.layers().iter().filter(|layer| layer.media_type == PAYLOAD_TYPE) {
            total = total.saturating_add(layer.size);
            if layer.size > MAX_LAYER || total > MAX_TOTAL {
                return Err(wrong(format!("more than {MAX_LAYER} bytes, or {MAX_TOTAL} in all")));
            }
            let statement = repository.blob_bytes(&layer.digest, layer.size)?;
            let predicate_type = judge(&statement, &about.digest, layer)
                .map_err(|reason| wrong(format!("the statement {}: {reason}", layer.digest)))?;
            let place = format!("{} of {}", layer.digest, entry.digest);
            all.push(Unsigned { about: about.clone(), statement, predicate_type, place });
        }
    }
    if all.is_empty() { Err(BuildKitError::None { index: index.digest().clone() }) } else { Ok(all) }
}

/// The type of a statement all of whose subjects are this manifest.
fn judge(statement: &[u8], about: &Digest, layer: &Descriptor) -> Result<String, String> {
    // Read as those will who check it, and as the gate does.
    let claim = Claim::parse(statement).map_err(|error| error.to_string())?;
    let read = Statement::parse_strict(statement).map_err(|error| {
        let source = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
        format!("{error}{source}")
    })?;
    if read.subject.is_empty() {
        return Err("it has no subject: build with a name (-t)".to_owned());
    }
    if let Some(other) = read.subject.iter().find(|subject| subject.value("sha256") != Some(about.hex())) {
        return Err(format!("it is about `{}`, which is not {about}", other.name.escape_debug()));
    }
    if claim.predicate_type == SIGN {
        return Err("it would be a signature".to_owned());
    }
    match layer.annotation(IN_TOTO_TYPE) {
        Some(said) if said != claim.predicate_type => {
            Err(format!("it is called `{}`, and is `{}`", said.escape_debug(), claim.predicate_type.escape_debug()))
        }
        _ => Ok(claim.predicate_type),
    }
}
