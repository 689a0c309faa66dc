//! Images that are asked about: which manifests a machine would run, who has signed them, and whether what accepted
//! evidence is about is in them (security rules 9 and 11).
//!
//! An image is reached by three digests. That of the index or manifest that was named, and that of a manifest of the
//! index, stand for their bytes. That of a config, which builders and `docker images` call the image id, stands for the
//! layers only where these are unpacked and compared, or where somebody whom the policy trusts has signed the manifest.

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;

use super::artifact::{Artifact, Made};
use super::common::OfSigners;
use super::signed::{SignatureDemand, signatures};
use super::trusted::TrustedPolicy;
use super::{ImageTrust, VerifyError};
use crate::digest::DigestSet;
use crate::evidence::input::ImageFacts;
use crate::image::compare::layers_unproven;
use crate::image::found::{self, MAX_TOTAL, Skipped};
use crate::image::platforms::{NoChoice, Runnable, choose, runnable};
use crate::image::{Digest, Kind, Platform, Repository, RepositoryError, Stored};
use crate::select::Glob;
use crate::store::SubjectDigest;
use crate::verdict::{Check, CheckKind, ImagePart};

/// An image as it was named, resolved once.
pub struct Image<'a> {
    pub(super) name: String,
    pub(super) place: String,
    repository: &'a dyn Repository,
    pub(super) keepers: Vec<&'a dyn Repository>,
    pub(super) prefix: String,
    root: Digest,
    is_index: bool,
    /// Every image of it that is judged: one where a platform was chosen.
    runnable: Vec<Runnable>,
    chosen: bool,
}

/// Where an image is.
pub struct Place<'a> {
    /// The image as it was named.
    pub name: String,
    /// `host/repository`, or how a layout is named, without tag and digest.
    pub place: String,
    /// What holds the image.
    pub repository: &'a dyn Repository,
    /// What holds signatures and evidence of it.
    pub keepers: Vec<&'a dyn Repository>,
    /// What stands before their tags.
    pub prefix: String,
}

impl<'a> Image<'a> {
    /// Looks at what the name was resolved to. `platform` chooses one image of an index: `os/architecture`, also with
    /// a variant.
    pub fn look(place: Place<'a>, stored: &Stored, platform: Option<&str>) -> Result<Self, RepositoryError> {
        let Place { name, place, repository, keepers, prefix } = place;
        let refused = |reason: String| RepositoryError::Refused {
            place: repository.name(),
            reason,
            permission: false,
            again: None,
        };
        let root = stored.digest().clone();
        let is_index = Kind::of(stored.media_type()) == Some(Kind::Index);
        let mut runnable = runnable(repository, stored)?;
        if let Some(wanted) = platform {
            if !is_index {
                return Err(refused(NoChoice::NoIndex(root).to_string()));
            }
            let platforms: Vec<_> = runnable.iter().map(|one| one.platform.as_ref()).collect();
            let number = choose(&platforms, wanted).map_err(|error| refused(error.to_string()))?;
            runnable = vec![runnable.swap_remove(number)];
        }
        if runnable.is_empty() {
            return Err(refused(format!("{root} is an index without an image that a machine could run")));
        }
        let chosen = platform.is_some();
        Ok(Self { name, place, repository, keepers, prefix, root, is_index, runnable, chosen })
    }

    /// The digest of what may be deployed: of the index or manifest that was named, or of the chosen image.
    pub fn digest(&self) -> &Digest {
        if self.chosen { &self.runnable[0].digest } else { &self.root }
    }

    /// `place@digest` of what may be deployed.
    pub fn pinned(&self) -> String {
        format!("{}@{}", self.place, self.digest())
    }

    /// What may be deployed and, where that is one image of an index, the index: a signature of it covers the image.
    pub(super) fn objects(&self) -> Vec<&Digest> {
        let mut objects = vec![self.digest()];
        if self.digest() != &self.root {
            objects.push(&self.root);
        }
        objects
    }

    /// The digests under which evidence about it is looked for.
    pub(super) fn seeds(&self) -> impl Iterator<Item = SubjectDigest> + '_ {
        let of_images = self.runnable.iter().flat_map(|one| [Some(&one.digest), config_of(one)].into_iter().flatten());
        std::iter::once(&self.root)
            .chain(of_images)
            .map(|digest| SubjectDigest { algorithm: Some("sha256".to_owned()), value: digest.hex().to_owned() })
    }

    /// The evidence that is kept with it: of the index, and of each image of it. `take` gets where it is kept, and the
    /// envelope or bundle.
    pub fn evidence(&self, mut take: impl FnMut(String, Vec<u8>)) -> Result<Vec<Skipped>, RepositoryError> {
        let mut skipped = Vec::new();
        let mut seen = BTreeSet::new();
        let mut total = 0;
        for digest in std::iter::once(&self.root).chain(self.runnable.iter().map(|one| &one.digest)) {
            if seen.insert(digest) {
                let of_this = found::each_evidence(&self.keepers, &self.prefix, digest, |place, bytes| {
                    total += bytes.len() as u64;
                    take(place, bytes);
                })?;
                skipped.extend(of_this);
                // Each image of an index may have as much as is read of one.
                if total > MAX_TOTAL {
                    let what = format!("the evidence that is kept with {}", self.name);
                    return Err(RepositoryError::Large { what, found: total, limit: MAX_TOTAL });
                }
            }
        }
        Ok(skipped)
    }
}

/// For which machines an image is.
fn label(one: &Runnable) -> String {
    one.platform.as_ref().map_or_else(|| one.digest.to_string(), Platform::to_string)
}

fn config_of(one: &Runnable) -> Option<&Digest> {
    one.manifest.config.as_ref().map(|config| &config.digest)
}

fn set(digest: &Digest) -> DigestSet {
    DigestSet::sha256_hex(digest.hex().to_owned())
}

/// Whether the layers of an image are those of its config.
#[derive(Clone, Debug)]
enum Layers {
    Proven,
    Unproven(String),
    Unknown,
}

/// An image, and what was found out about it.
pub(super) struct Judged<'q> {
    image: &'q Image<'q>,
    /// The digest in the signature that was demanded and holds.
    signed: Option<Digest>,
    layers: Vec<OnceCell<Layers>>,
    /// Why an image could not be looked at: then no answer can be given.
    failed: RefCell<Option<RepositoryError>>,
    /// What evidence that has made it must have in common with who signed it.
    of_signers: Option<Arc<OfSigners>>,
    pub(super) part: ImagePart,
}

impl<'q> Judged<'q> {
    /// Judges name and signature of an image.
    pub(super) fn judge(
        image: &'q Image<'q>,
        policy: &TrustedPolicy,
        trust: &ImageTrust,
        at: Timestamp,
    ) -> Result<Self, VerifyError> {
        let mut part = ImagePart {
            name: image.name.clone(),
            reference: image.pinned(),
            resolved: image.root.to_string(),
            platforms: image.runnable.iter().map(label).filter(|_| image.is_index).collect(),
            signed: None,
            signers: Vec::new(),
            checks: Vec::new(),
        };
        let rules = policy.policy.images.as_ref();
        part.checks.extend(rules.filter(|rules| !rules.names.is_empty()).map(|rules| in_place(image, &rules.names)));
        let demands = SignatureDemand::all(policy, trust, at);
        let mut signed = None;
        let mut of_signers = None;
        if !demands.is_empty() {
            let found = signatures(image, &demands)
                .map_err(|source| VerifyError::Image { image: image.name.clone(), source })?;
            part.checks.extend(found.checks);
            part.signers = found.signers;
            part.signed = found.digest.as_ref().map(Digest::to_string);
            signed = found.digest;
            // Where nobody has signed it, it is denied already, and nothing is to be compared.
            let matches =
                rules.map(|rules| (&rules.matches, rules.threshold)).filter(|(matches, _)| !matches.is_empty());
            of_signers = matches.filter(|_| signed.is_some()).map(|(matches, threshold)| {
                Arc::new(OfSigners { matches: matches.clone(), threshold, signers: found.functionaries })
            });
        }
        let layers = image.runnable.iter().map(|_| OnceCell::new()).collect();
        Ok(Self { image, signed, layers, failed: RefCell::new(None), of_signers, part })
    }

    /// Why no answer can be given, where that turned out on the way.
    pub(super) fn error(&self) -> Option<VerifyError> {
        let source = self.failed.borrow_mut().take()?;
        Some(VerifyError::Image { image: self.image.name.clone(), source })
    }

    fn layers(&self, index: usize) -> &Layers {
        // An image that is there for several machines is looked at once.
        let digest = &self.image.runnable[index].digest;
        let index = self.image.runnable.iter().position(|one| one.digest == *digest).unwrap_or(index);
        self.layers[index].get_or_init(|| {
            match layers_unproven(self.image.repository, &self.image.runnable[index].manifest) {
                Ok(None) => Layers::Proven,
                Ok(Some(reason)) => Layers::Unproven(reason),
                Err(error) => {
                    self.failed.borrow_mut().get_or_insert(error);
                    Layers::Unknown
                }
            }
        })
    }

    /// What rules see of it beside an attestation of a run that has made what `has_made` says; nothing where none of it
    /// is about that.
    fn facts(&self, has_made: &dyn Fn(&DigestSet, Made) -> bool, attested: Option<&String>) -> Vec<ImageFacts> {
        let image = self.image;
        let object = Some(self.signed.as_ref().unwrap_or(&image.root).to_string());
        let is = |digest: &Digest, made| has_made(&set(digest), made);
        let mut found = Vec::new();
        if is(&image.root, if image.is_index { Made::Image } else { Made::Bytes }) {
            // Its digest covers all that is in it.
            return vec![self.fact(object)];
        }
        for (index, one) in image.runnable.iter().enumerate() {
            if is(&one.digest, Made::Bytes) {
                found.push(object.clone());
            } else if config_of(one).is_some_and(|config| is(config, Made::ImageId)) {
                // The same config over other layers is what a rule must see: it is not what was built.
                let is_proven = matches!(self.layers(index), Layers::Proven);
                found.push(if is_proven { object.clone() } else { attested.cloned() });
            }
        }
        found.sort();
        found.dedup();
        found.into_iter().map(|image_digest| self.fact(image_digest)).collect()
    }

    fn fact(&self, image_digest: Option<String>) -> ImageFacts {
        ImageFacts { image_digest, cosign_subject: self.signed.as_ref().map(Digest::to_string).unwrap_or_default() }
    }

    /// The index as a whole, where there is one that is judged as such.
    pub(super) fn whole(&self) -> Option<Artifact> {
        let image = self.image;
        (image.is_index && !image.chosen)
            .then(|| Artifact::index(image.name.clone(), set(&image.root)).signed_by(self.of_signers.as_ref()))
    }

    /// Each image that a machine would run, and why its config does not stand for it where accepted evidence is about
    /// that. `is_image_id` says whether any of it is about a config with these digests.
    pub(super) fn images(&self, is_image_id: &dyn Fn(&DigestSet) -> bool) -> Vec<(Artifact, Option<String>)> {
        let image = self.image;
        let one = |(index, one): (usize, &Runnable)| {
            let name = if image.is_index { format!("{} ({})", image.name, label(one)) } else { image.name.clone() };
            let config = config_of(one).map(set).filter(|config| is_image_id(config));
            let (config, why) = match config {
                Some(config) if self.signed.is_some() => (Some(config), None),
                Some(config) => match self.layers(index) {
                    Layers::Proven => (Some(config), None),
                    Layers::Unproven(reason) => {
                        (None, Some(format!("accepted evidence is about its config, but {reason}")))
                    }
                    Layers::Unknown => (None, None),
                },
                None => (None, None),
            };
            (Artifact::image(name, set(&one.digest), config).signed_by(self.of_signers.as_ref()), why)
        };
        image.runnable.iter().enumerate().map(one).collect()
    }
}

/// What rules see beside an attestation of a run that has made what `has_made` says; `attested` is the image that it is
/// about by its own words. One for each image that is about what was made: rules must not deny any.
pub(super) fn facts(
    images: &[Judged<'_>],
    has_made: &dyn Fn(&DigestSet, Made) -> bool,
    attested: Option<String>,
) -> Vec<ImageFacts> {
    let mut facts: Vec<ImageFacts> =
        images.iter().flat_map(|judged| judged.facts(has_made, attested.as_ref())).collect();
    if facts.is_empty() {
        facts.push(images.first().map_or_else(ImageFacts::default, |judged| judged.fact(attested)));
    }
    facts
}

/// Whether an image is in one of the repositories that the policy names.
fn in_place(image: &Image<'_>, names: &[Glob]) -> Check {
    if names.iter().any(|glob| glob.matches(&image.place)) {
        return Check::passed(CheckKind::Subject, format!("it is in {}", image.place));
    }
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    Check::failed(CheckKind::Subject, format!("an image in {} (images.names)", names.join(" or ")), image.place.clone())
        .at(image.name.clone())
        .fix("verify the image where the policy expects it, or add its repository to the policy")
}
