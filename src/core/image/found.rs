//! What is kept about an image, found and judged: signatures and attestations in every form.
//!
//! Nothing is believed that is not signed: lists and annotations only find. What cannot be read is passed over with a
//! reason, and the rest is judged (security rule 13: the form never matters).

mod judged;

use super::attached::{self, ENVELOPE, Kind, MAX_LAYER, SIGNATURE_ARTIFACT};
use super::claim::{Claim, SIGN};
use super::manifest::{Descriptor, Kind as ManifestKind, Manifest};
use super::reference::Digest;
use super::repository::{Repository, RepositoryError};
use super::sigstore::{BUNDLE, Bundle, Content as Signed, MAX_BUNDLE, Signer};
use super::walk::{self, Referring};
use crate::dsse::Envelope;
use crate::sigstore::judge::Material;

pub use super::repository::Skipped;
pub use super::walk::MAX_FETCHED;

pub use self::judged::{
    Accepted, Check, Demand, Refused, Statement, judge_attestation, judge_signature, judge_signature_within,
};

/// Most bytes of all signatures and attestations of one image that are fetched.
pub const MAX_TOTAL: u64 = 512 * 1024 * 1024;

/// What is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sought {
    /// Signatures: payloads, and statements of the type [`SIGN`].
    Signatures,
    /// Attestations: other statements.
    Attestations,
}

/// Something signed about an image; nothing says yet that the signature holds.
#[derive(Clone, Debug)]
pub struct Found {
    /// Where it was, for the reader.
    pub place: String,
    /// What it is.
    pub content: Content,
    /// What it brings besides the signature; not proven.
    pub material: Material,
}

/// The forms of what is signed.
#[derive(Clone, Debug)]
pub enum Content {
    /// A payload and its signature.
    Simple {
        /// The bytes that were signed.
        payload: Vec<u8>,
        /// The signature.
        signature: Vec<u8>,
    },
    /// An envelope under a tag, with its bytes.
    Envelope(Envelope, Vec<u8>),
    /// A Sigstore bundle with an envelope.
    Bundle(Envelope),
}

/// Something that is kept about an image, as it is kept.
struct Kept {
    /// The repository.
    keeper: String,
    /// Where in it, for the reader.
    place: String,
    form: Form,
    bytes: Vec<u8>,
}

/// The forms of what is kept.
enum Form {
    /// A layer of a manifest that holds signatures or attestations.
    Layer(Kind, Box<Descriptor>),
    /// A Sigstore bundle.
    Bundle,
    /// An envelope that is a referrer by itself.
    Envelope,
}

/// Looks through one repository for what is kept about a manifest, one after the other.
struct Search<'a> {
    repository: &'a dyn Repository,
    of: &'a Digest,
    sought: Sought,
    total: u64,
    skipped: Vec<Skipped>,
    take: &'a mut dyn FnMut(Kept) -> Result<(), Skipped>,
}

/// Finds what is kept about a manifest in these repositories: tags (with `prefix` before them), referrers, and referrers
/// listed by tag.
pub fn each(
    repositories: &[&dyn Repository],
    prefix: &str,
    of: &Digest,
    sought: Sought,
    mut take: impl FnMut(Found),
) -> Result<Vec<Skipped>, RepositoryError> {
    each_kept(repositories, prefix, of, sought, &mut |kept| {
        if let Some(found) = kept.read(sought)? {
            take(found);
        }
        Ok(())
    })
}

/// Finds what may be evidence about a manifest, in the same places: attestations of every form, with the bytes of the
/// envelope or bundle, whoever signed them and however.
pub fn each_evidence(
    repositories: &[&dyn Repository],
    prefix: &str,
    of: &Digest,
    mut take: impl FnMut(String, Vec<u8>),
) -> Result<Vec<Skipped>, RepositoryError> {
    each_kept(repositories, prefix, of, Sought::Attestations, &mut |kept| {
        take(format!("{}, {}", kept.keeper, kept.place), kept.bytes);
        Ok(())
    })
}

fn each_kept(
    repositories: &[&dyn Repository],
    prefix: &str,
    of: &Digest,
    sought: Sought,
    take: &mut dyn FnMut(Kept) -> Result<(), Skipped>,
) -> Result<Vec<Skipped>, RepositoryError> {
    let mut skipped = Vec::new();
    for repository in repositories {
        let mut search =
            Search { repository: *repository, of, sought, total: 0, skipped: Vec::new(), take: &mut *take };
        let kind = match sought {
            Sought::Signatures => Kind::Signature,
            Sought::Attestations => Kind::Attestation,
        };
        let tag = format!("{prefix}{}", of.tag(kind.suffix()));
        if let Some(stored) = walk::tagged(*repository, &tag, &mut search.skipped)? {
            match stored.manifest() {
                Ok(manifest) => search.layers(&tag, &manifest, kind)?,
                Err(error) => search.skipped.push(Skipped::hiding(&tag, error.to_string())),
            }
        }
        skipped.append(&mut search.skipped);
        let unread = walk::referrers(*repository, of, |entry, referring| search.referrer(entry, referring))?;
        skipped.extend(unread);
        skipped.append(&mut search.skipped);
    }
    Ok(skipped)
}

impl Kept {
    /// What it says it is; nothing where it is none of what is sought.
    fn read(self, sought: Sought) -> Result<Option<Found>, Skipped> {
        let Self { place, form, bytes, .. } = self;
        let skip = |reason: String| Skipped::one(place.clone(), reason);
        let envelope = |bytes: Vec<u8>| {
            Envelope::parse(&bytes, bytes.len())
                .map(|envelope| Content::Envelope(envelope, bytes))
                .map_err(|error| skip(error.to_string()))
        };
        let (content, material) = match form {
            Form::Layer(kind, layer) => {
                let content = match kind {
                    Kind::Signature => attached::signature_of(&layer)
                        .map(|signature| Content::Simple { payload: bytes, signature })
                        .map_err(skip)?,
                    Kind::Attestation => envelope(bytes)?,
                };
                (content, attached::material_of(&layer))
            }
            Form::Envelope => (envelope(bytes)?, Material::default()),
            Form::Bundle => {
                let bundle = Bundle::parse(&bytes).map_err(|error| skip(error.to_string()))?;
                let material = material_of(&bundle);
                let Signed::Envelope(envelope) = bundle.content else {
                    return Err(skip("it signs bytes, not a statement about an image".to_owned()));
                };
                // What it is, as it says itself; judged again once its signature holds.
                let is_signature = Claim::type_of(&envelope.payload).is_ok_and(|kind| kind == SIGN);
                if is_signature != (sought == Sought::Signatures) {
                    return Ok(None);
                }
                (Content::Bundle(envelope), material)
            }
        };
        Ok(Some(Found { place, content, material }))
    }
}

impl Search<'_> {
    fn skip(&mut self, place: impl Into<String>, reason: impl Into<String>) {
        self.skipped.push(Skipped::one(place, reason));
    }

    fn give(&mut self, place: &str, form: Form, bytes: Vec<u8>) {
        let taken = (self.take)(Kept { keeper: self.repository.name(), place: place.to_owned(), form, bytes });
        self.skipped.extend(taken.err());
    }

    /// A blob; `None` where it is not there or not what its digest says.
    fn blob(&mut self, place: &str, layer: &Descriptor, limit: u64) -> Result<Option<Vec<u8>>, RepositoryError> {
        if layer.size > limit {
            self.skip(place, format!("{} bytes; {limit} are read", layer.size));
            return Ok(None);
        }
        self.total = self.total.saturating_add(layer.size);
        if self.total > MAX_TOTAL {
            return Err(RepositoryError::Large {
                what: format!("bytes of all that is kept about {}", self.of),
                found: self.total,
                limit: MAX_TOTAL,
            });
        }
        match self.repository.blob_bytes(&layer.digest, layer.size) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error @ RepositoryError::Refused { .. }) => Err(error),
            Err(error) => {
                let why = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
                self.skip(place, format!("{error}{why}"));
                Ok(None)
            }
        }
    }

    /// The layers of a manifest.
    fn layers(&mut self, place: &str, manifest: &Manifest, kind: Kind) -> Result<(), RepositoryError> {
        let layers = match attached::layers(manifest, kind) {
            Ok(layers) => layers,
            Err(reason) => {
                self.skipped.push(Skipped::hiding(place, reason));
                return Ok(());
            }
        };
        if layers.is_empty() {
            self.skip(place, format!("it has no layer of the type {}", kind.media_type()));
        }
        for (index, layer) in layers {
            let place = format!("{place}, layer {index}");
            if let Some(bytes) = self.blob(&place, layer, MAX_LAYER)? {
                self.give(&place, Form::Layer(kind, Box::new(layer.clone())), bytes);
            }
        }
        Ok(())
    }

    /// What a list says is a referrer.
    fn referrer(&mut self, entry: &Descriptor, referring: Referring) -> Result<(), RepositoryError> {
        let place = format!("referrer {}", entry.digest);
        if let Referring::Manifest(manifest) | Referring::Other(manifest) = &referring
            && manifest.kind() != ManifestKind::Image
        {
            return Ok(());
        }
        let manifest = match referring.manifest()? {
            Ok(manifest) => manifest,
            Err(reason) => {
                self.skip(place, reason);
                return Ok(());
            }
        };
        let kind = manifest.artifact_type().unwrap_or_default();
        if self.sought == Sought::Signatures && kind == SIGNATURE_ARTIFACT {
            return self.layers(&place, &manifest, Kind::Signature);
        }
        let has = |wanted: &str| {
            kind.starts_with(wanted) || manifest.layers().iter().any(|layer| layer.media_type.starts_with(wanted))
        };
        if has(BUNDLE) {
            self.document(&place, &manifest, BUNDLE, Form::Bundle)
        } else if self.sought == Sought::Attestations && has(ENVELOPE) {
            self.document(&place, &manifest, ENVELOPE, Form::Envelope)
        } else {
            Ok(())
        }
    }

    /// The one layer of a referrer that is a bundle or an envelope.
    fn document(
        &mut self,
        place: &str,
        manifest: &Manifest,
        media_type: &str,
        form: Form,
    ) -> Result<(), RepositoryError> {
        let what = if matches!(form, Form::Bundle) { "bundle" } else { "envelope" };
        let [layer] = manifest.layers() else {
            self.skip(place, format!("{what} malformed: {} layers instead of one", manifest.layers().len()));
            return Ok(());
        };
        if !layer.media_type.starts_with(media_type) {
            self.skip(place, format!("{what} malformed: the layer is of another type"));
            return Ok(());
        }
        if let Some(bytes) = self.blob(place, layer, MAX_BUNDLE as u64)? {
            self.give(place, form, bytes);
        }
        Ok(())
    }
}

/// What a bundle brings besides its signature.
pub fn material_of(bundle: &Bundle) -> Material {
    let mut certificates = match &bundle.signer {
        Signer::Key { .. } => Vec::new(),
        Signer::Certificate { chain } => chain.clone(),
    };
    let chain = certificates.split_off(certificates.len().min(1));
    Material {
        certificate: certificates.pop(),
        chain,
        entries: bundle.entries.clone(),
        timestamps: bundle.timestamps.clone(),
        ..Material::default()
    }
}
